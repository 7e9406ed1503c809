"""Networks for images of timm, by the config.json that timm writes.

It has no `model_type`, but the name of an architecture, and under `pretrained_cfg` what the weights were trained with.
transformers runs the same classes (`TimmWrapperModel`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from hfmem.mapper.inputs import Network


__all__ = ["MODEL_TYPE", "network_of"]

MODEL_TYPE: Final = "timm_wrapper"
"""transformers' name of the type."""

_LONGEST: Final = 80  # characters of a name
_LARGEST: Final = 65_536  # pixels of a side, channels
_USUAL: Final = (3, 224, 224)  # of timm itself, where a config says nothing (`timm.data.config.resolve_data_config`)
_HARMLESS: Final = ("img_size", "dynamic_img_size", "num_classes", "in_chans", "global_pool", "pretrained_strict")


def network_of(config: Mapping[str, Any]) -> Network | None:
    """The network that a config describes; None for other configs."""
    name, own = config.get("architecture"), config.get("model_type")
    if not isinstance(name, str) or not name or own not in (None, "", MODEL_TYPE):
        return None
    trained = config.get("pretrained_cfg")
    trained = trained if isinstance(trained, Mapping) else config
    if own is None and not {"num_classes", "pretrained_cfg", "num_features"} & config.keys():
        return None
    arguments = config.get("model_args")
    arguments = arguments if isinstance(arguments, Mapping) else {}
    size = _size(trained.get("input_size"))
    built = _sides(arguments.get("img_size"))
    channels, height, width = size or _USUAL
    height, width = built or (height, width)
    from hfmem.mapper.inputs import Network  # for networks of timm only

    return Network(
        name=name.partition(".")[0][:_LONGEST],
        channels=_side(arguments.get("in_chans")) or channels,
        height=height,
        width=width,
        usual=size is None and built is None,
        fixed=trained.get("fixed_input_size") is True,
        dynamic=arguments.get("dynamic_img_size") is True,
        changed=tuple(str(key)[:_LONGEST] for key in arguments if key not in _HARMLESS),
    )


def _size(value: Any) -> tuple[int, int, int] | None:
    """Channels, height and width."""
    if not isinstance(value, list | tuple) or len(value) != len(_USUAL):
        return None
    channels, height, width = map(_side, value)
    return (channels, height, width) if channels and height and width else None


def _sides(value: Any) -> tuple[int, int] | None:
    """Height and width; one number stands for both."""
    pair = value if isinstance(value, list | tuple) else [value, value]
    height, width = map(_side, pair) if len(pair) == 2 else (None, None)
    return (height, width) if height and width else None


def _side(value: Any) -> int | None:
    whole = isinstance(value, int) and not isinstance(value, bool)
    return value if whole and 1 <= value <= _LARGEST else None
