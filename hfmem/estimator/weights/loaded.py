"""The weights after loading: floating-point tensors are cast to the run dtype or quantised, packed ones kept or
unpacked."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal, NamedTuple

from hfmem.dtypes import Dtype, find_dtype, stored_dtype
from hfmem.estimator.scenario import Scenario
from hfmem.estimator.values import Group, Term, total_of
from hfmem.estimator.weights.kept import PLAIN, Kept, as_plain
from hfmem.mapper.interpret import Model
from hfmem.mapper.values import Component, TensorGroup, component_order

__all__ = ["code_bytes", "group_bytes", "weight_terms", "weights_of"]

_Unknown = list[tuple[Group, str]]


def weight_terms(model: Model, scenario: Scenario, kept: Kept = PLAIN) -> tuple[list[Term], _Unknown]:
    """One term per component and storage format, and the unknown parts."""
    if model.parameters is None:
        return _from_files(model)
    groups = [group for group in model.parameters.groups if group.loaded and not kept.drops(group)]
    terms = []
    missing = False
    for component, storage, parts in _by_storage(groups, scenario, kept):
        sizes = [group_bytes(group, scenario, kept) for group in parts]
        missing = missing or None in sizes
        if any(size is not None for size in sizes):
            terms.append(_term(model, component, storage, parts, sum(size or 0 for size in sizes)))
    unknown: _Unknown = []
    if missing:
        unknown.append(("weights", "the run dtype is unknown: neither config.json nor a header has it; use --dtype"))
    if model.checkpoint.missing:
        unknown.append(("weights", model.checkpoint.absence))
    if model.lacks:
        unknown.append(("weights", model.lacks))
    return terms, unknown


def weights_of(model: Model, scenario: Scenario, kept: Kept) -> int:
    """Bytes of the known weights, held as `kept` says."""
    terms, _ = weight_terms(model, scenario, kept)
    return total_of(terms)


def group_bytes(group: TensorGroup, scenario: Scenario, kept: Kept = PLAIN) -> int | None:
    """Bytes of a group in memory; None where the dtype is unknown."""
    if kept.drops(group):
        return 0
    unpacks = kept.unpacks(group)
    if not unpacks and not _is_cast(group):
        return group.stored_bytes
    plain = as_plain(group) if unpacks else group
    quantiser = kept.quantiser(plain)
    if quantiser is not None:
        return quantiser.nbytes(plain.shape, plain.count)
    dtype = _run_dtype(scenario)
    if _is_wide(group, dtype, kept):
        dtype = find_dtype("float32")
    return dtype.nbytes(group.parameters if unpacks else group.elements) if dtype else None


def _is_wide(group: TensorGroup, dtype: Dtype | None, kept: Kept) -> bool:
    """Whether transformers keeps a group in float32 in a run in some dtype."""
    return kept.library and dtype is not None and dtype.name in group.full_in


def code_bytes(group: TensorGroup, scenario: Scenario, kept: Kept = PLAIN) -> int | None:
    """Bytes of a group in memory, without the scales of a quantisation while loading, which are tensors of their own;
    None where the dtype is unknown."""
    unpacks = kept.unpacks(group)
    if not kept.drops(group) and (unpacks or _is_cast(group)):
        plain = as_plain(group) if unpacks else group
        quantiser = kept.quantiser(plain)
        if quantiser is not None:
            return quantiser.codes(plain.shape, plain.count)
    return group_bytes(group, scenario, kept)


def _from_files(model: Model) -> tuple[list[Term], _Unknown]:
    """The size of the weight files, where their contents are unknown."""
    if not model.file_bytes:
        why = model.lacks or "neither the files nor the configuration determine the size of the model"
        return [], [("weights", why)]
    how = f"{len(model.checkpoint.weight_files)} files, {model.file_bytes:,} bytes"
    term = Term(
        name="weight files",
        group="weights",
        nbytes=model.file_bytes,
        how=how,
        source="sizes in the repository's listing",
        certainty="typical",
    )
    return [term], [("weights", model.lacks)] if model.lacks else []


class _Storage(NamedTuple):
    """How tensors are held in memory.

    Attributes:
        kind: quantised, cast to the run dtype, unpacked to it, or as stored in the files.
        name: the quantiser's name; "" for other kinds.
        cost: bytes or bits per element, in words.
        source: the source line that decides; "" for kinds that follow from the files.
    """

    kind: Literal["quantised", "cast", "unpacked", "stored"]
    cost: str
    name: str = ""
    source: str = ""


def _by_storage(
    groups: Iterable[TensorGroup], scenario: Scenario, kept: Kept
) -> Iterable[tuple[Component, _Storage, list[TensorGroup]]]:
    found: dict[tuple[Component, _Storage], list[TensorGroup]] = {}
    for group in groups:
        found.setdefault((group.component, _storage(group, scenario, kept)), []).append(group)
    for component, storage in sorted(found, key=lambda key: component_order(key[0])):
        yield component, storage, found[component, storage]


def _storage(group: TensorGroup, scenario: Scenario, kept: Kept) -> _Storage:
    dtype = _run_dtype(scenario)
    each = f"{dtype.mean_bytes:g} B ({dtype.name})" if dtype else "an unknown dtype"
    unpacks = kept.unpacks(group)
    if not unpacks and not _is_cast(group):
        return _Storage(kind="stored", cost=f"as stored ({group.dtype})")
    quantiser = kept.quantiser(as_plain(group) if unpacks else group)
    if quantiser is not None and kept.recipe is not None:
        cost = f"{quantiser.name}: {quantiser.describe()}"
        source = f"{kept.recipe.name}: {kept.recipe.source}; {quantiser.source}"
        return _Storage(kind="quantised", name=quantiser.name, cost=cost, source=source)
    if unpacks:
        return _Storage(kind="unpacked", cost=f"{each}, unpacked from {group.dtype}", source=kept.stored.source)
    if _is_wide(group, dtype, kept):
        source = "transformers 5.24, _keep_in_fp32_modules of the class"
        return _Storage(kind="cast", name="float32", cost="4 B (float32)", source=source)
    return _Storage(kind="cast", cost=each)


def _is_cast(group: TensorGroup) -> bool:
    """Whether loading casts a group to the run dtype: floating-point tensors of 16 or more bits other than scales,
    unless `group.kept` exempts them."""
    if group.scale or group.kept:
        return False
    if group.dtype is None:
        return True
    dtype = stored_dtype(group.dtype)
    return dtype is not None and dtype.is_wide_float


def _run_dtype(scenario: Scenario) -> Dtype | None:
    return find_dtype(scenario.compute_dtype) if scenario.compute_dtype else None


def _term(model: Model, component: Component, storage: _Storage, parts: list[TensorGroup], nbytes: int) -> Term:
    unpacked = storage.kind == "unpacked"
    folded = storage.kind in ("unpacked", "quantised")
    elements = sum((part.parameters or part.elements) if folded else part.elements for part in parts)
    label = f" ({storage.name})" if storage.name else ""
    scales = all(part.scale for part in parts)
    return Term(
        name=f"{component} scales" if scales else component + label + (" (unpacked)" if unpacked else ""),
        group="weights",
        nbytes=nbytes,
        how=f"{elements:,} elements {storage.cost}" if storage.kind == "stored" else f"{elements:,} × {storage.cost}",
        source="; ".join(filter(None, (model.source, storage.source))),
        certainty="derived" if storage.kind in ("quantised", "unpacked") else model.certainty,
    )
