"""Shared by servers: tensors that they hold beside a checkpoint's, and how PyTorch's allocator rounds them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from hfmem.engines.segments import reserved, unused
from hfmem.estimator.scenario import Scenario
from hfmem.estimator.weights.kept import Kept
from hfmem.estimator.weights.loaded import code_bytes, group_bytes
from hfmem.mapper.caches import KV, Cache, Combined, Indexed, Latent, Shared
from hfmem.mapper.interpret import Model
from hfmem.mapper.values import Architecture, Layer, TensorGroup

__all__ = ["latent_of", "lost", "projections", "rotary_table", "segmented", "unfilled"]


def rotary_table(architecture: Architecture, groups: Iterable[TensorGroup], rows: int | None = None) -> tuple[int, int]:
    """Rows and columns of the cos/sin table that all layers share; zeros without rotary positions. The rows are those
    of the architecture, or `rows` of an engine with longer tables."""
    # a vocabulary may have as many tokens as there are positions, so that its rows tell nothing
    learned = any(group.positional for group in groups)
    size = max((_rotary_width(layer.cache) for layer in set(architecture.layers or ())), default=0)
    rows = rows or architecture.rotary_rows
    return (0, 0) if learned or not size or not rows else (rows, size)


def _rotary_width(cache: Cache) -> int:
    if isinstance(cache, KV):
        return cache.key_dim
    if isinstance(cache, Latent):
        return cache.rope_dim
    if isinstance(cache, Indexed):
        return _rotary_width(cache.attention)
    if isinstance(cache, Combined):
        return max(map(_rotary_width, cache.caches), default=0)
    return 0


def unfilled(model: Model, scenario: Scenario, kept: Kept) -> tuple[int, int]:
    """Elements of keys' and values' matrices that a server has and a checkpoint lacks, and their bytes: its projection
    of queries, keys and values is one matrix in each layer, also where values are the keys (which are loaded twice) and
    where a layer reads another's cache (which stay as they are made)."""
    if model.parameters is None or model.architecture.hidden_size is None:
        return 0, 0
    groups = [g for g in model.parameters.groups if g.loaded and g.linear and g.component == "attention"]
    keys, values = ([g for g in groups if g.projects == what] for what in ("keys", "values"))
    sources = [layer.cache.source for layer in model.architecture.layers or () if isinstance(layer.cache, Shared)]
    elements = sum(source.heads * (source.key_dim + source.value_dim) for source in sources)
    elements *= model.architecture.hidden_size
    known = sum(group.parameters for group in keys)
    if sum(group.count for group in values) < sum(group.count for group in keys):
        elements += max(0, known - sum(group.parameters for group in values))
    stored = sum(group_bytes(group, scenario, kept) or 0 for group in keys)
    return (elements, elements * stored // known) if known else (0, 0)


def projections(layers: Iterable[Layer]) -> int:
    """Elements of MLA's up projections."""
    latents = [latent_of(layer.cache) for layer in layers]
    return sum(
        latent.heads * (latent.key_dim - latent.rope_dim + latent.value_dim) * latent.rank
        for latent in latents
        if latent is not None
    )


def latent_of(cache: Cache) -> Latent | None:
    """The latent of a layer that keeps one."""
    if isinstance(cache, Indexed):
        return latent_of(cache.attention)
    return cache if isinstance(cache, Latent) else None


def lost(groups: Iterable[TensorGroup], scenario: Scenario, kept: Kept) -> int:
    """Bytes that the allocator loses to rounding: a tensor of 10 MiB or more gets its own segment, a multiple of 2 MiB;
    an unused rest below 1 MiB is not split off."""
    return sum(count * unused(nbytes) for nbytes, count in _tensors(groups, scenario, kept))


def _tensors(groups: Iterable[TensorGroup], scenario: Scenario, kept: Kept) -> list[tuple[int, int]]:
    """(bytes, count) of tensors as servers allocate them: projections with the same input are fused. Experts are left
    out, as their kernels repack them; scales are tensors of their own."""
    fused: dict[tuple[str, str, int], list[int]] = {}
    alone = []
    for group in groups:
        nbytes = code_bytes(group, scenario, kept)
        if nbytes is None or not group.count or group.scale or group.component == "experts":
            continue
        if group.packed_as is None:
            alone.append((nbytes // group.count, group.count))
        else:
            fused.setdefault((group.component, group.packed_as, group.count), []).append(nbytes // group.count)
    return alone + [(sum(parts), count) for (_, _, count), parts in fused.items()]


_MOST: Final = 200_000  # tensors whose places are told one by one; models have some thousands


def segmented(groups: Iterable[TensorGroup], scenario: Scenario, kept: Kept, others: Iterable[int] = ()) -> int:
    """Bytes of the segments in which a rank's tensors lie, beyond the tensors' own: layer after layer, as they are
    made; all experts of a layer are one tensor of each kind. `others` are tensors that are made after loading."""
    found = _made(groups, scenario, kept)
    if sum(count for _, count in found) > _MOST:
        return 0
    # tensors of each kind are spread evenly over the layers
    places = [((number + 0.5) / count, kind) for kind, (_, count) in enumerate(found) for number in range(count)]
    sizes = [found[kind][0] for _, kind in sorted(places)]
    return reserved([*sizes, *others]) - sum(sizes) - sum(others)


def _made(groups: Iterable[TensorGroup], scenario: Scenario, kept: Kept) -> list[tuple[int, int]]:
    """(bytes, count) of tensors as they are made, in order."""
    groups = list(groups)
    layers = max((group.count for group in groups if group.component != "experts"), default=1)
    found: dict[tuple[object, ...], tuple[int, int]] = {}
    for number, group in enumerate(groups):
        nbytes = code_bytes(group, scenario, kept)
        if not nbytes or not group.count:
            continue
        count = group.count
        if group.component == "experts":
            name: tuple[object, ...] = ("experts", "inward" if group.inward else "outward", group.scale, group.bias)
            count = min(count, layers)
        elif group.packed_as is not None:
            name = (group.component, group.packed_as, group.scale, group.bias, count)
        else:
            name = (number,)
        already, times = found.get(name, (0, count))
        found[name] = (already + nbytes, max(times, count))
    return [(nbytes // count, count) for nbytes, count in found.values()]
