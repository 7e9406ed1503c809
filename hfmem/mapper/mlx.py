"""What `mlx_lm.convert -q` makes of a checkpoint of transformers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final

from hfmem.mapper.interpret import Model, interpret
from hfmem.refusals.options import UnknownWordError

__all__ = ["MODES", "converted"]

_SOURCE: Final = "mlx-lm 0.32.2, mlx_lm/convert.py and mlx_lm/utils.py (quantize_model)"

MODES: Final[Mapping[str, Mapping[str, Any]]] = {
    "int8": {"bits": 8, "group_size": 64},
    "int4": {"bits": 4, "group_size": 64},
    "mxfp4": {"bits": 4, "group_size": 32, "mode": "mxfp4"},
    "nvfp4": {"bits": 4, "group_size": 16, "mode": "nvfp4"},
}
"""Words of `--dtype` that it quantises to, with what its config.json has then (`mlx_lm.convert --help`)."""


def converted(model: Model, word: str) -> Model:
    """The model that it makes, whose tensors follow from the config.

    Raises:
        UnknownWordError: it quantises to no such format.
    """
    settings = MODES.get(word)
    if settings is None:
        raise UnknownWordError("--dtype", word, ("float32", "bfloat16", "float16", *MODES))
    source = model.checkpoint
    config = {**(source.config or {}), "quantization": dict(settings)}
    found = interpret(replace(source, config=config, tensors=(), totals={}, weight_files=(), notes=()))
    note = f"This model is still to be made: {_command(source.ref.model_id, settings)}"
    return replace(
        found,
        checkpoint=replace(source, config=config),  # these files are downloaded
        certainty="derived",
        source=_SOURCE,
        resized=_SOURCE,
        notes=(note, *model.notes),
        made=True,
    )


def _command(model_id: str, settings: Mapping[str, Any]) -> str:
    mode = f" --q-mode {settings['mode']}" if "mode" in settings else ""
    return f"mlx_lm.convert --hf-path {model_id} -q --q-bits {settings['bits']}{mode}."
