"""The parameters in a checkpoint's files, as groups of equal tensors."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any, Final

from hfmem.dtypes import stored_dtype
from hfmem.fetcher.patterns import count_names, first_name, has_whole_parts
from hfmem.fetcher.tensors import Tensors
from hfmem.fetcher.values import TensorInfo
from hfmem.mapper.names import divided_at, layer_index, meaning, without_numbers
from hfmem.mapper.packing import Packing, packing
from hfmem.mapper.values import Architecture, Component, ParameterTable, TensorGroup

__all__ = ["from_tensors", "from_totals"]


def from_tensors(
    tensors: Iterable[TensorInfo], architecture: Architecture, config: Mapping[str, Any]
) -> ParameterTable:
    """The parameter table of a checkpoint's tensors.

    Layers beyond the architecture's layer count are next-token prediction layers (`mtp`), which are not loaded; neither
    are a stored copy of a tied head, and buffers.
    """
    # only a known depth counts: with a guessed one, layers that run could be dropped as MTP layers
    depth = len(architecture.layers) if architecture.layers else None
    sorts = list(_alike(tensors, depth))
    reader = _Reader(architecture, packing(config, (sort[0] for sort in sorts)))
    counted: dict[_Key, list[int]] = {}
    for tensor, beyond, count, nbytes in sorts:
        key, parameters = reader.read(tensor, beyond)
        sums = counted.setdefault(key, [0, 0, 0])
        sums[0] += count
        sums[1] += nbytes
        sums[2] += parameters * count
    return ParameterTable(groups=tuple(reader.group(key, *sums) for key, sums in counted.items()))


def _alike(tensors: Iterable[TensorInfo], depth: int | None) -> Iterator[tuple[TensorInfo, bool, int, int]]:
    """Tensors grouped by everything except the numbers in their names: (one tensor, whether they are in layers beyond
    `depth`, count, bytes). Large MoE models have a hundred thousand tensors in some hundred groups.
    """
    sorts: dict[tuple[str, str, tuple[int, ...], bool], list[Any]] = {}
    for tensor, beyond, count in _divided(tensors, depth):
        sort = sorts.setdefault((without_numbers(tensor.name), tensor.dtype, tensor.shape, beyond), [tensor, 0, 0])
        sort[1] += count
        sort[2] += count * tensor.nbytes
    for (_, _, _, beyond), (tensor, count, nbytes) in sorts.items():
        yield tensor, beyond, count, nbytes


def _divided(tensors: Iterable[TensorInfo], depth: int | None) -> Iterator[tuple[TensorInfo, bool, int]]:
    """The first tensor of those that stand together, whether they are in layers beyond `depth`, and how many they are.
    Rows of a table are not spelt out for it."""
    if not isinstance(tensors, Tensors):
        for tensor in tensors:
            index = None if depth is None else layer_index(tensor.name)
            yield tensor, depth is not None and index is not None and index >= depth, 1
        return
    for row in tensors.rows:
        if row.count == 1 or not has_whole_parts(row.pattern):
            yield from _divided(row, depth)
            continue
        for beyond, pattern in zip((False, True), divided_at(depth, row.pattern), strict=True):
            if pattern:
                yield replace(row.tensor, name=first_name(pattern)), beyond, count_names(pattern)


def from_totals(totals: Mapping[str, int]) -> ParameterTable:
    """The table if only element counts by dtype are known. Elements of packed dtypes are not unfolded."""
    groups = []
    for name, count in totals.items():
        dtype = stored_dtype(name)
        groups.append(
            TensorGroup(
                component="other",
                role="all",
                shape=(count,),
                count=1,
                dtype=name,
                stored_bytes=None if dtype is None else dtype.nbytes(count),
                parameters=count,
                active=count,
            )
        )
    return ParameterTable(groups=tuple(groups))


# Dtypes of indices, masks and counters; learned parameters never have them.
_COUNTERS: Final = frozenset({"I64", "U64", "BOOL"})

_Key = tuple[Component, str, tuple[int, ...], str, bool, bool, bool]


class _Reader:
    """Classifies the tensors of one checkpoint, and counts their parameters."""

    def __init__(self, architecture: Architecture, packed: Packing) -> None:
        self._tied = architecture.tied_embeddings is True
        self._vocabulary = architecture.vocab_size
        self._packed = packed
        experts, per_token = architecture.experts, architecture.experts_per_token
        # as a pair of integers, so that active parameters are exact
        self._share = (min(per_token, experts), experts) if experts and per_token else (1, 1)

    def read(self, tensor: TensorInfo, beyond: bool) -> tuple[_Key, int]:
        """A tensor's group and logical parameters; if `beyond` the architecture's layers, its component is `mtp`."""
        found = meaning(tensor.name, len(tensor.shape))
        # towers and encoders have their own layer numbers, which may exceed the decoder's depth
        tower = found.component in ("vision", "audio", "projector") or "encoder" in tensor.name
        component: Component = "mtp" if beyond and not tower else found.component
        scale = self._packed.is_scale(tensor.name)
        duplicate = (
            self._tied
            and component == "lm_head"
            and tensor.shape[:1] == (self._vocabulary,)
            and found.role == "lm_head"
        )
        # a duplicate is in the file, but the class ties it to the embedding on load
        loaded = not found.buffer and component != "mtp" and not duplicate
        parameters = 0
        if not (scale or found.buffer or found.statistic or duplicate or tensor.dtype in _COUNTERS):
            parameters = self._packed.parameters(tensor)
        key = (component, found.role, tensor.shape, tensor.dtype, loaded, found.matrix and not scale, scale)
        return key, parameters

    def group(self, key: _Key, count: int, nbytes: int, parameters: int) -> TensorGroup:
        """The group for a key, with its sums."""
        component, role, shape, dtype, loaded, linear, scale = key
        used, of = self._share if component == "experts" else (1, 1)  # a token activates only some of the experts
        return TensorGroup(
            component=component,
            role=role,
            shape=shape,
            count=count,
            dtype=dtype,
            stored_bytes=nbytes,
            parameters=parameters,
            active=parameters * used // of if loaded else 0,
            loaded=loaded,
            linear=linear,
            scale=scale,
        )
