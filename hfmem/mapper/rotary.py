"""The size of the cos/sin tables that engines precompute for rotary positions."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

__all__ = ["rotary_rows"]

_LONGEST: Final = 2**40  # rows; a bound for absurd factors of a config
_MULTIMODAL: Final = 4  # vLLM's MRotaryEmbedding has four times the rows, as positions of videos can be larger


def rotary_rows(
    config: Mapping[str, Any], positions: int | None, *, longer: bool = False, kinds: Sequence[str] = ()
) -> int | None:
    """Rows of all tables together, each weighted with the fraction of head_dim that it rotates; None without positions.
    With `longer`, tables for positions of images and videos are four times as long, as in vLLM. `kinds` are those of
    layers to which the class gives positions of their own where the file does not say so (`rope_local_base_freq`).

    Linear and dynamic scaling multiply the rows by their factor; YaRN has its original length times the factor;
    LongRoPE has two tables; sliding-window layers may have their own, and one for narrower heads (Gemma 4) counts as
    that share of the widest (vLLM 0.19.0, `model_executor/layers/rotary_embedding`).
    """
    if positions is None:
        return None
    text = next((part for key in ("text_config", "llm_config") if isinstance(part := config.get(key), Mapping)), config)
    factor = _MULTIMODAL if longer else 1
    return min(
        _LONGEST, round(sum(width * _rows(table, text, positions, factor) for table, width in _tables(text, kinds)))
    )


def _tables(text: Mapping[str, Any], kinds: Sequence[str]) -> Iterable[tuple[Mapping[str, Any], float]]:
    """The RoPE parameters of each table, and its width as a share of the widest."""
    for key in ("rope_parameters", "rope_scaling"):
        found = text.get(key)
        if not isinstance(found, Mapping):
            continue
        nested = [(part, _width(text, str(kind))) for kind, part in found.items() if isinstance(part, Mapping)]
        yield from nested or [(found, 1.0)]
        if not nested:
            yield from _others(text, kinds)
        return
    yield {}, 1.0
    yield from _others(text, kinds)


def _others(text: Mapping[str, Any], kinds: Sequence[str]) -> Iterable[tuple[Mapping[str, Any], float]]:
    """The tables beside that of full attention."""
    own = tuple(kind for kind in kinds if kind != "full_attention")
    if text.get("rope_local_base_freq"):
        own = own or ("sliding_attention",)
    return [({}, _width(text, kind)) for kind in own]


def _width(text: Mapping[str, Any], kind: str) -> float:
    """The head_dim of a kind of layers, as a share of the largest one."""
    own = _number(text.get("head_dim"), 1.0)
    whole = _number(text.get("global_head_dim"), own)
    return (whole if kind == "full_attention" else own) / max(own, whole)


def _rows(table: Mapping[str, Any], text: Mapping[str, Any], positions: int, longer: int) -> float:
    kind = table.get("rope_type") or table.get("type") or "default"
    factor = _number(table.get("factor"), 1.0)
    original = _number(table.get("original_max_position_embeddings"), 0.0)
    if kind == "proportional":
        return positions  # has a full-size table, in which unrotated dimensions have frequency 0
    share = _number(table.get("partial_rotary_factor", text.get("partial_rotary_factor", text.get("rotary_pct"))), 1.0)
    if kind in ("linear", "dynamic"):
        rows = positions * factor
    elif kind in ("yarn", "deepseek_yarn") and original:
        rows = original * factor
    elif kind == "longrope":
        rows = positions + original
    else:
        rows = positions * (longer if table.get("mrope_section") else 1)
    return rows * min(1.0, share)


def _number(value: object, default: float) -> float:
    """A plausible number from the config, else the default."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < _LONGEST:
        return default
    return float(value)
