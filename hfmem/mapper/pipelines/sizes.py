"""What the config of a component says about the sizes of its calls."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from hfmem.mapper.pipelines.values import Component

__all__ = [
    "embeds_guidance",
    "flag",
    "list_length",
    "merged_patch",
    "number",
    "own_frames",
    "patch",
    "patches",
    "sizes",
    "unlike",
]


def _config_of(component: Component) -> Mapping[str, Any]:
    """The config; of a model that has a part for text, that part's keys as well."""
    inner = component.config.get("text_config")
    return {**component.config, **inner} if isinstance(inner, dict) else component.config


def number(component: Component, key: str, default: float | None = None) -> float | None:
    """A number of the config, the first if it is a list; `default` where it has none."""
    value = component.config.get(key)
    if isinstance(value, list | tuple) and value:
        value = value[0]
    return default if isinstance(value, bool) or not isinstance(value, int | float) else value


def flag(component: Component, key: str, *, default: bool = False) -> bool:
    """A switch of the config."""
    value = component.config.get(key)
    return value if isinstance(value, bool) else default


def list_length(component: Component, key: str) -> int | None:
    """How long a list of the config is; None where it has none."""
    value = component.config.get(key)
    return len(value) if isinstance(value, list | tuple) else None


def sizes(component: Component, row: Mapping[str, Any], kind: str = "sizes") -> dict[str, float]:
    """The numbers named in a row's `kind` ("key" or "key.position"), from the config where it has them."""
    config, found = {**row.get("absent", {}), **_config_of(component)}, dict(row.get(kind, {}))
    for name in tuple(found):
        key, dot, position = name.partition(".")
        value = config.get(key)
        if dot and isinstance(value, list | tuple):
            value = value[int(position)] if int(position) < len(value) else None
        elif dot and isinstance(value, int):
            pass  # one number for all
        if isinstance(value, int | float) and not isinstance(value, bool):
            found[name] = value
    return found


_OF_PIPELINES = frozenset({"force_upcast", "invert_scale_latents", "sample_size"})
"""Keys that only the pipeline reads: the class's own calls take the same with and without."""


def _differences(component: Component, row: Mapping[str, Any]) -> tuple[str, ...]:
    """The keys that say something else than a row's structure: flags, words, lists of words, lengths of other lists."""
    config, found = {**row.get("absent", {}), **_config_of(component)}, []
    for key, expected in row["structure"].items():
        if key not in config or key in _OF_PIPELINES:
            continue
        value = config[key]
        if isinstance(value, list | tuple):
            words = bool(value) and isinstance(value[0], str)
            value = list(value) if words else len(value)
        if isinstance(expected, list) and isinstance(value, str):
            value = [value] * len(expected)
        alike = type(value) is type(expected)
        other = isinstance(expected, int) and not alike and isinstance(value, str)
        if other or (alike and value != expected):
            found.append(key)
    return tuple(found)


def _depths(component: Component, expected: Mapping[str, Any]) -> tuple[str, ...]:
    """The numbers of layers that differ from the expected ones."""
    config = _config_of(component)

    def plain(value: Any) -> Any:
        return list(value) if isinstance(value, Sequence) and not isinstance(value, str) else value

    return tuple(key for key, value in expected.items() if key in config and plain(config[key]) != plain(value))


def unlike(component: Component, row: Mapping[str, Any]) -> tuple[str, ...]:
    """The keys of the config that differ from a measured one: its structure, numbers of layers that matter, and sizes
    that were not varied."""
    fixed = row.get("fixed", {})
    have = sizes(component, row, "fixed")
    return (
        *_differences(component, row),
        *_depths(component, row.get("depths", {})),
        *dict.fromkeys(key.partition(".")[0] for key, value in fixed.items() if have[key] != value),
    )


def embeds_guidance(component: Component) -> bool:
    """Whether guidance is an input of the network, which then runs once."""
    return flag(component, "guidance_embeds")


def own_frames(component: Component) -> int | None:
    """Frames that the class makes by its config; None where its config has none."""
    found = number(component, "num_frames")
    return None if found is None else int(found)


_LAID = 4  # latents of 2 x 2 that a pipeline lays into channels before its network


_PATCH: Final = 2  # of classes whose pipelines ask for it, where the config has none


def patch(denoiser: Component | None) -> int:
    """Latents along a side of a token."""
    return int((number(denoiser, "patch_size") if denoiser is not None else None) or _PATCH)


_TOWER: Final = (("patch_size", 14), ("spatial_merge_size", 2))


def merged_patch(encoder: Component) -> int:
    """Pixels along a side of what is one token of an image for the tower of a text encoder (Qwen2.5-VL by default)."""
    found = encoder.config.get("vision_config")
    tower = found if isinstance(found, Mapping) else {}
    side = 1
    for key, usual in _TOWER:
        value = tower.get(key)
        side *= value if isinstance(value, int) and 0 < value < _LARGEST else usual
    return side


_LARGEST: Final = 1024  # pixels of a patch: a bound beyond any meaningful value


def patches(denoiser: Component, vae: Component | None) -> tuple[int, int, int]:
    """Frames, height and width of latents that are a token: patches of the class, or of the pipeline that lays them
    into channels before."""
    size = denoiser.config.get("patch_size")
    along = int(number(denoiser, "patch_size_t", 1) or 1)
    if isinstance(size, list | tuple) and len(size) == 3 and all(isinstance(x, int) and x > 0 for x in size):
        return int(size[0]), int(size[1]), int(size[2])
    edge = int(number(denoiser, "patch_size", 1) or 1)
    channels = None if vae is None else number(vae, "latent_channels", number(vae, "z_dim"))
    given = number(denoiser, "in_channels", 0) or 0
    if edge == 1 and channels is not None and given >= _LAID * channels:
        edge = 2
    return along, edge, edge
