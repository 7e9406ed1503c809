"""What is to be said of a model's weights: where files and configuration disagree, are broken, or not understood."""

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

__all__ = ["broken_files", "odd_heads", "of_headers", "unread_quantisation", "unseen_quantisation"]


def of_headers(checkpoint: Checkpoint, table: ParameterTable, described: ParameterTable | None) -> list[str]:
    """Of parameters that were read from headers: what is not loaded, and what does not agree."""
    broken = broken_files(checkpoint)
    return [*_unloaded(table), *_disagreement(table, described), *broken, *_unknown_dtypes(checkpoint)]


def broken_files(checkpoint: Checkpoint) -> list[str]:
    """Sentences for files that contradict themselves, each other, or their index."""
    return [*_faults(checkpoint), *_doubts(checkpoint), *_odd_sizes(checkpoint)]


def unread_quantisation(stored: Stored, described: ParameterTable) -> list[str]:
    """A sentence for what of a quantisation is not understood, although its layout is."""
    if not stored.unread or stored.table is described:
        return []
    first = ", ".join(f"'{cut(words)}'" for words in stored.unread[:_NAMED])
    more = f" and {len(stored.unread) - _NAMED} more" if len(stored.unread) > _NAMED else ""
    return [
        f"Part of config.json's quantization_config is not supported and is ignored: {first}{more}. The "
        "headers of the weight files would tell what is packed."
    ]


_NAMED: Final = 4


def _faults(checkpoint: Checkpoint) -> list[str]:
    """A sentence for files that contradict themselves."""
    faults = checkpoint.faults
    if not faults:
        return []
    more = f", and {len(faults) - 1} more" if len(faults) > 1 else ""
    return [
        f"The weight files are cut or broken, and loaders refuse them ({faults[0]}{more}): what their headers say "
        "is counted."
    ]


def _doubts(checkpoint: Checkpoint) -> list[str]:
    """A sentence for files that contradict each other or their index."""
    doubts = checkpoint.doubts
    return [f"The weight files do not agree with each other: {'; '.join(doubts)}."] if doubts else []


def _odd_sizes(checkpoint: Checkpoint) -> list[str]:
    """A sentence for tensors whose bytes are not what shape and dtype say."""
    known = checkpoint.source == "catalog" or is_gguf(checkpoint)  # sizes that follow from shape and dtype
    odd = () if known else size_mismatches(checkpoint.tensors)
    if not odd:
        return []
    stored, expected = sum(t.nbytes for t in odd), sum(table_bytes(t.dtype, t.shape) for t in odd)
    return [
        f"{len(odd)} tensors ('{odd[0].name}', …) hold {stored:,} bytes where shape × dtype is {expected:,}; the "
        "stored bytes are counted for packed dtypes, shape × dtype for the others."
    ]


def _unknown_dtypes(checkpoint: Checkpoint) -> list[str]:
    """A sentence for dtypes that are not known."""
    if checkpoint.source == "catalog":
        return []
    unknown = sorted(
        {row.tensor.dtype for row in rows_of(checkpoint.tensors) if stored_dtype(row.tensor.dtype) is None}
    )
    return [f"Unknown dtypes, counted by their stored bytes: {', '.join(unknown[:8])}."] if unknown else []


def _unloaded(table: ParameterTable) -> list[str]:
    """A sentence for what the files hold and a run does not load."""
    notes = []
    mtp = sum(group.parameters for group in table.groups if group.component == "mtp")
    if mtp:
        notes.append(
            f"{mtp:,} of the parameters are extra prediction layers (mtp), which transformers does not load; the "
            f"weights are without them."
        )
    rest = [group for group in table.groups if not group.loaded and group.component != "mtp"]
    if rest:
        names = sorted({group.role for group in rest})
        elements, nbytes = sum(g.elements for g in rest), sum(g.stored_bytes or 0 for g in rest)
        notes.append(
            f"Not parameters, and not loaded: {sum(g.count for g in rest)} stored tensors ({', '.join(names[:4])}), "
            f"{elements:,} elements, {nbytes:,} bytes."
        )
    return notes


def _disagreement(table: ParameterTable, described: ParameterTable | None) -> list[str]:
    """A sentence where the files and the configuration count differently, naming the components that do."""
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
    return [
        f"The files hold {sum(stored.values()):,} parameters, the configuration describes {sum(expected.values()):,}: "
        f"{', '.join(parts)}."
    ]


def odd_heads(architecture: Architecture) -> list[str]:
    """A sentence for layers whose query heads cannot be shared out among their key/value heads: attention repeats those
    a whole number of times (`repeat_kv` of transformers 5.24, `num_key_value_groups`)."""
    found = {
        (layer.heads, cache.heads)
        for layer in set(architecture.layers or ())
        for cache in _keys_and_values(layer.cache)
        if layer.heads and (not cache.heads or layer.heads % cache.heads)
    }
    told = ", ".join(f"{heads} attention heads with {kept} key/value heads" for heads, kept in sorted(found))
    return [f"Attention cannot run with {told}, which do not divide them: correct the configuration."] if found else []


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
    """What a configuration says of weights that are not there to be read."""
    found = quantisation_of(config)
    if checkpoint.tensors or parameters is None or not found:
        return []
    if any(group.stored_bytes is not None for group in parameters.groups):
        return []
    words = (found.get("quant_method"), found.get("quant_algo"))
    method = next((word for word in words if isinstance(word, str) and word), "some format")
    return [
        f"config.json says that the weights are quantised ({method}); without their files they are counted as they "
        "were before: --dtype fp8, int4, … sets a format."
    ]
