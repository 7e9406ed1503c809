"""Remarks on a model's weights: where files and config disagree, or are corrupt or unsupported."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from hfmem.dtypes import stored_dtype
from hfmem.errors import cut
from hfmem.fetcher.tensors import rows_of, size_mismatches, table_bytes
from hfmem.fetcher.values import Checkpoint
from hfmem.mapper.caches import KV, Cache, Combined, Indexed
from hfmem.mapper.declared import Stored
from hfmem.mapper.holdings import is_gguf
from hfmem.mapper.packing import quantisation_of
from hfmem.mapper.values import Architecture, ParameterTable
from hfmem.options.otherwise import Detail

__all__ = ["broken_files", "odd_heads", "of_headers", "unread_quantisation", "unseen_quantisation"]


def of_headers(checkpoint: Checkpoint, table: ParameterTable, described: ParameterTable | None) -> list[str]:
    """Remarks on parameters read from headers: tensors that are not loaded, and disagreements."""
    broken = broken_files(checkpoint)
    return [*_unloaded(table), *_disagreement(table, described), *broken, *_unknown_dtypes(checkpoint)]


def broken_files(checkpoint: Checkpoint) -> list[str]:
    """Sentences for files that contradict themselves, each other, or their index."""
    return [*_faults(checkpoint), *_doubts(checkpoint), *_odd_sizes(checkpoint)]


def unread_quantisation(stored: Stored, described: ParameterTable) -> list[str]:
    """A sentence on unsupported parts of a quantisation config whose layout is known."""
    if not stored.unread or stored.table is described:
        return []
    first = ", ".join(f"'{cut(words)}'" for words in stored.unread[:_NAMED])
    more = f" and {len(stored.unread) - _NAMED} more" if len(stored.unread) > _NAMED else ""
    return [
        f"Part of config.json's quantization_config is not supported and is ignored: {first}{more}. With the headers "
        "of the weight files, the result would be exact."
    ]


_NAMED: Final = 4


def _faults(checkpoint: Checkpoint) -> list[str]:
    """A sentence on inconsistent files."""
    faults = checkpoint.faults
    if not faults:
        return []
    more = f", and {len(faults) - 1} more" if len(faults) > 1 else ""
    return [
        f"The weight files are truncated or corrupt, and loaders refuse them ({faults[0]}{more}); the figures are "
        "those of their headers."
    ]


def _doubts(checkpoint: Checkpoint) -> list[str]:
    """A sentence on files that contradict each other or their index."""
    doubts = checkpoint.doubts
    return [f"The weight files do not agree with each other: {'; '.join(doubts)}."] if doubts else []


def _odd_sizes(checkpoint: Checkpoint) -> list[str]:
    """A sentence on tensors whose bytes do not match shape × dtype."""
    # sizes in the catalog and of GGUF tensors are computed from shape and dtype, so they always match
    known = checkpoint.source == "catalog" or is_gguf(checkpoint)
    odd = () if known else size_mismatches(checkpoint.tensors)
    if not odd:
        return []
    stored, expected = sum(t.nbytes for t in odd), sum(table_bytes(t.dtype, t.shape) for t in odd)
    return [
        f"{len(odd)} tensors ('{odd[0].name}', …) have {stored:,} bytes where shape × dtype is {expected:,}; packed "
        "dtypes count with their stored bytes, others with shape × dtype."
    ]


def _unknown_dtypes(checkpoint: Checkpoint) -> list[str]:
    """A sentence on unknown dtypes."""
    if checkpoint.source == "catalog":
        return []
    unknown = sorted(
        {row.tensor.dtype for row in rows_of(checkpoint.tensors) if stored_dtype(row.tensor.dtype) is None}
    )
    return [f"Unknown dtypes, counted by their stored bytes: {', '.join(unknown[:8])}."] if unknown else []


def _unloaded(table: ParameterTable) -> list[str]:
    """Sentences on tensors in the files that are not loaded."""
    notes: list[str] = []
    mtp = sum(group.parameters for group in table.groups if group.component == "mtp")
    if mtp:
        notes.append(
            Detail(
                f"{mtp:,} of the parameters are multi-token prediction (MTP) layers, which transformers does not load; "
                "the weights do not include them."
            )
        )
    rest = [group for group in table.groups if not group.loaded and group.component != "mtp"]
    if rest:
        names = sorted({group.role for group in rest})
        elements, nbytes = sum(g.elements for g in rest), sum(g.stored_bytes or 0 for g in rest)
        notes.append(
            Detail(
                f"Not parameters, and not loaded: {sum(g.count for g in rest)} stored tensors "
                f"({', '.join(names[:4])}), {elements:,} elements, {nbytes:,} bytes."
            )
        )
    return notes


_LITTLE: Final = 0.001  # of the parameters: less is no reason to doubt either


def _disagreement(table: ParameterTable, described: ParameterTable | None) -> list[str]:
    """A sentence if parameter counts of files and config differ, with the differences by component."""
    if described is None:
        return []
    stored = {name: count for name, count in table.by_component.items() if name != "mtp"}
    expected = described.by_component
    if sum(stored.values()) == sum(expected.values()):
        return []
    parts = [
        f"{component} {stored.get(component, 0) - expected.get(component, 0):+,}"
        for component in dict.fromkeys((*stored, *expected))
        if stored.get(component, 0) != expected.get(component, 0)
    ]
    found, said = sum(stored.values()), sum(expected.values())
    sentence = f"The files have {found:,} parameters, but the config describes {said:,}: {', '.join(parts)}."
    return [Detail(sentence) if abs(found - said) < _LITTLE * found else sentence]


def odd_heads(architecture: Architecture) -> list[str]:
    """A sentence on layers whose query heads are not a multiple of their KV heads, as grouped-query attention requires
    (`repeat_kv` in transformers 5.24, `num_key_value_groups`)."""
    found = {
        (layer.heads, cache.heads)
        for layer in set(architecture.layers or ())
        for cache in _keys_and_values(layer.cache)
        if layer.heads and (not cache.heads or layer.heads % cache.heads)
    }
    pairs = ", ".join(f"{heads} query heads and {kv_heads} KV heads" for heads, kv_heads in sorted(found))
    return [f"Attention cannot run with {pairs}: the KV heads must divide the query heads."] if found else []


def _keys_and_values(cache: Cache) -> Iterator[KV]:
    if isinstance(cache, KV):
        yield cache
    elif isinstance(cache, Indexed):
        yield from _keys_and_values(cache.attention)
    elif isinstance(cache, Combined):
        for part in cache.caches:
            yield from _keys_and_values(part)


def unseen_quantisation(
    checkpoint: Checkpoint, config: Mapping[str, Any], parameters: ParameterTable | None
) -> list[str]:
    """A sentence on a quantisation config without files, whose layout is unknown."""
    found = quantisation_of(config)
    if checkpoint.tensors or parameters is None or not found:
        return []
    if any(group.stored_bytes is not None for group in parameters.groups):
        return []
    words = (found.get("quant_method"), found.get("quant_algo"))
    method = next((word for word in words if isinstance(word, str) and word), "some format")
    return [
        f"According to config.json the weights are quantised ({method}), but without the files they are counted "
        "unquantised; --dtype fp8, int4, … sets a format."
    ]
