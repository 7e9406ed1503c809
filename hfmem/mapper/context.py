"""The maximum context of a config: its length keys, and the RoPE scalings that extend them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

__all__ = ["Context", "Stretch", "context_of"]

_KEYS: Final = (
    "max_position_embeddings",
    "n_positions",
    "max_seq_len",
    "seq_length",
    "model_max_length",
    "max_target_positions",
    "max_sequence_length",
    "max_seq_length",
    "seq_len",
)
_ALLOWED: Final = "model_max_length"
_PARTS: Final = ("text_config", "llm_config", "language_config", "decoder", "thinker_config")
_LONGEST: Final = 2**40  # tokens; beyond every model


@dataclass(frozen=True, slots=True, kw_only=True)
class Stretch:
    """A scaling of rotary positions.

    Attributes:
        kind: transformers' `rope_type`.
        factor: scaling factor; 1 if the config has none.
        original: `original_max_position_embeddings`; None if the config has none.
    """

    kind: str
    factor: float
    original: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Context:
    """The maximum context of a config.

    Attributes:
        key: the key that sets it: `model_max_length` if present, else the key with the smallest length.
        length: tokens, before any RoPE scaling.
        allowed: a longer length that the config allows (`model_max_length`); None if it has none.
        stretches: the RoPE scalings, one per table; () where the length is the extended one already.
    """

    key: str
    length: int
    allowed: int | None
    stretches: tuple[Stretch, ...]


def context_of(config: Mapping[str, Any], positions: int | None) -> Context | None:
    """The maximum context, as engines derive it (vLLM 0.33.0, `model_arch_config_convertor.py`). `positions` is the
    value of `max_position_embeddings` with the class's default. None where no length is known."""
    text = _text(config)
    lengths = {key: size for key in _KEYS if (size := _whole(text.get(key))) is not None}
    if positions is not None and not {"max_position_embeddings", "n_positions"} & lengths.keys():
        lengths["max_position_embeddings"] = positions
    if not lengths:
        return None
    # the smallest of several lengths is safe, but an explicit maximum takes precedence
    key = _ALLOWED if _ALLOWED in lengths else min(lengths, key=lambda name: lengths[name])
    stretched = "gemma3" in str(config.get("model_type"))  # vLLM exempts Gemma 3, whose length is extended already
    return Context(
        key=key,
        length=lengths[key],
        allowed=_whole(config.get(_ALLOWED)),
        stretches=() if stretched else tuple(_stretches(text)),
    )


def _text(config: Mapping[str, Any]) -> Mapping[str, Any]:
    """The nested config of the language model."""
    for key in _PARTS:
        part = config.get(key)
        if isinstance(part, Mapping):
            return _text(part)
    return config


def _stretches(text: Mapping[str, Any]) -> Iterator[Stretch]:
    for key in ("rope_parameters", "rope_scaling"):
        found = text.get(key)
        if not isinstance(found, Mapping):
            continue
        for table in [part for part in found.values() if isinstance(part, Mapping)] or [found]:
            kind, factor = table.get("rope_type") or table.get("type") or "default", table.get("factor")
            number = float(factor) if isinstance(factor, int | float) and 0 < factor < _LONGEST else 1.0
            yield Stretch(
                kind=kind if isinstance(kind, str) else "default",
                factor=number,
                original=_whole(table.get("original_max_position_embeddings")),
            )
        return


def _whole(value: object) -> int | None:
    """The value if it is a plausible length, else None."""
    if isinstance(value, bool) or not isinstance(value, int) or not 0 < value < _LONGEST:
        return None
    return value
