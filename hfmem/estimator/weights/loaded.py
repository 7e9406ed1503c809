"""What the weights take after loading: floating tensors in the run dtype, packed and quantised ones as stored."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from hfmem.dtypes import Dtype, find_dtype, stored_dtype
from hfmem.estimator.values import Group, Scenario, Term
from hfmem.estimator.weights.quantisers import Quantiser, find_quantiser
from hfmem.mapper.interpret import Model
from hfmem.mapper.values import Component, TensorGroup, component_order

__all__ = ["experts_left_alone", "group_bytes", "weight_terms"]

_Unknown = list[tuple[Group, str]]


def weight_terms(model: Model, scenario: Scenario) -> tuple[list[Term], _Unknown]:
    """One term a component and way of storing; what is unknown is named."""
    if model.parameters is None:
        return _from_files(model)
    groups = [group for group in model.parameters.groups if group.loaded]
    quantiser = find_quantiser(scenario.dtype or "")
    terms = []
    missing = False
    for component, storage, parts in _by_storage(groups, scenario, quantiser):
        sizes = [_nbytes(group, scenario, quantiser) for group in parts]
        missing = missing or None in sizes
        if any(size is not None for size in sizes):
            terms.append(_term(model, component, storage, parts, sum(size or 0 for size in sizes)))
    unknown: _Unknown = []
    if missing:
        unknown.append(("weights", "the run dtype is not known: neither config.json nor a header tells; give --dtype"))
    if model.checkpoint.missing:
        unknown.append(("weights", f"{model.checkpoint.missing} weight files are not there"))
    if model.lacks:
        unknown.append(("weights", model.lacks))
    return terms, unknown


def experts_left_alone(model: Model, scenario: Scenario) -> int | None:
    """Bytes of the weights if the asked quantiser leaves the experts as they are, as bitsandbytes does today; None
    where that makes no difference."""
    quantiser = find_quantiser(scenario.dtype or "")
    groups = [group for group in model.parameters.groups if group.loaded] if model.parameters else []
    touched = [group for group in groups if group.component == "experts" and _is_quantised(group, quantiser)]
    if quantiser is None or not quantiser.leaves_experts or not touched:
        return None
    alone = {id(group) for group in touched}
    sizes = [_nbytes(group, scenario, None if id(group) in alone else quantiser) for group in groups]
    return None if None in sizes else sum(size for size in sizes if size is not None)


def group_bytes(group: TensorGroup, scenario: Scenario) -> int | None:
    """Bytes of a group in memory under a scenario; None where the dtype is not known."""
    return _nbytes(group, scenario, find_quantiser(scenario.dtype or ""))


def _from_files(model: Model) -> tuple[list[Term], _Unknown]:
    """The size of the weight files, where nothing tells what is in them."""
    if not model.file_bytes:
        why = model.lacks or "neither the files nor the configuration tell how large the model is"
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
    return [term], []


@dataclass(frozen=True, slots=True, kw_only=True)
class _Storage:
    """How tensors are kept in memory.

    Attributes:
        kind: replaced by a quantiser, cast to the run dtype, or as the files have them.
        name: of the quantiser; "" for the others.
        cost: of an element, in words.
    """

    kind: Literal["quantised", "cast", "stored"]
    name: str = ""
    cost: str


def _by_storage(
    groups: Iterable[TensorGroup], scenario: Scenario, quantiser: Quantiser | None
) -> Iterable[tuple[Component, _Storage, list[TensorGroup]]]:
    found: dict[tuple[Component, _Storage], list[TensorGroup]] = {}
    for group in groups:
        found.setdefault((group.component, _storage(group, scenario, quantiser)), []).append(group)
    for component, storage in sorted(found, key=lambda key: component_order(key[0])):
        yield component, storage, found[component, storage]


def _storage(group: TensorGroup, scenario: Scenario, quantiser: Quantiser | None) -> _Storage:
    if _is_quantised(group, quantiser) and quantiser is not None:
        return _Storage(kind="quantised", name=quantiser.name, cost=f"{quantiser.name}: {quantiser.describe()}")
    if _is_cast(group):
        dtype = _run_dtype(scenario)
        return _Storage(
            kind="cast", cost=f"{float(dtype.bytes_each):g} B ({dtype.name})" if dtype else "an unknown dtype"
        )
    return _Storage(kind="stored", cost=f"as stored ({group.dtype})")


def _nbytes(group: TensorGroup, scenario: Scenario, quantiser: Quantiser | None) -> int | None:
    """Bytes in memory; None where the dtype is not known."""
    if _is_quantised(group, quantiser) and quantiser is not None:
        return quantiser.nbytes(group.shape, group.count)
    if _is_cast(group):
        dtype = _run_dtype(scenario)
        return dtype.nbytes(group.elements) if dtype else None
    return group.stored_bytes


def _is_cast(group: TensorGroup) -> bool:
    """Whether loading casts it to the run dtype: floating tensors of 16 bits and more that are no scales."""
    if group.scale or group.as_stored:
        return False
    if group.dtype is None:
        return True
    dtype = stored_dtype(group.dtype)
    return dtype is not None and dtype.is_wide_float


def _is_quantised(group: TensorGroup, quantiser: Quantiser | None) -> bool:
    """Whether the asked quantiser replaces it: a linear layer's matrix that is stored in floating point."""
    return quantiser is not None and group.linear and _is_cast(group)


def _run_dtype(scenario: Scenario) -> Dtype | None:
    return find_dtype(scenario.compute_dtype) if scenario.compute_dtype else None


def _term(model: Model, component: Component, storage: _Storage, parts: list[TensorGroup], nbytes: int) -> Term:
    elements = sum(part.elements for part in parts)
    label = f" ({storage.name})" if storage.name else ""
    scales = all(part.scale for part in parts)
    return Term(
        name=f"{component} scales" if scales else component + label,
        group="weights",
        nbytes=nbytes,
        how=f"{elements:,} elements {storage.cost}" if storage.kind == "stored" else f"{elements:,} × {storage.cost}",
        source=model.source,
        certainty="derived" if storage.kind == "quantised" else model.certainty,
    )
