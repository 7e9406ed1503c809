"""The combined estimate of several models in one process, such as the components of a pipeline.

Resident memory (weights, caches) adds up. The models run one after another, so activations and temporaries count once:
those of the model that needs most. The process has one CUDA context, however many models it holds.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import replace
from typing import Final

from hfmem.estimator.values import Estimate, Group, Rank, Term, total_of

__all__ = ["combined"]

_PASSING: Final[tuple[Group, ...]] = ("activations", "temporary")


def combined(estimates: Mapping[str, Estimate], loaded: Collection[str] | None = None) -> Estimate:
    """One estimate for several models in one process, by role; a single model's estimate is returned unchanged.

    Args:
        estimates: of each model alone, under the same parallel plan. A model without ranks is on the first GPU.
        loaded: the roles that are in memory; None for all.

    Raises:
        ValueError: no model is loaded, or an estimate has training phases, which cannot be added up.
    """
    loaded_models = {role: estimate for role, estimate in estimates.items() if loaded is None or role in loaded}
    if not loaded_models:
        raise ValueError("no model is loaded")
    if len(estimates) == 1:
        return next(iter(loaded_models.values()))
    # each model has its own peak phase, and the phases of different models do not coincide
    if any(estimate.phases for estimate in loaded_models.values()):
        raise ValueError("the phases of training several models do not add up")
    ranks = _ranks(loaded_models)
    terms = _together({role: estimate.terms for role, estimate in loaded_models.items()})
    return Estimate(
        terms=max(ranks, key=lambda rank: rank.total).terms if ranks else terms,
        unknown=tuple((group, f"{role}: {why}") for role, one in loaded_models.items() for group, why in one.unknown),
        kv_cache_per_token=_sum(estimate.kv_cache_per_token for estimate in loaded_models.values()),
        kv_cache_fixed=_sum(estimate.kv_cache_fixed for estimate in loaded_models.values()),
        notes=tuple(f"{role}: {note}" for role, one in loaded_models.items() for note in one.notes),
        ranks=ranks,
        spared=sum(estimate.spared for estimate in loaded_models.values()),
        refused="; ".join(f"{role}: {one.refused}" for role, one in loaded_models.items() if one.refused),
        formats=tuple(f"{role}: {note}" for role, one in loaded_models.items() for note in one.formats),
    )


def _together(terms: Mapping[str, Iterable[Term]]) -> tuple[Term, ...]:
    """The terms of one GPU: resident terms of all models, activations and temporaries of the model that has most of
    them, and overheads once per process."""
    staying: list[Term] = []
    passing: dict[Group, list[list[Term]]] = {group: [] for group in _PASSING}
    process: dict[str, Term] = {}
    for role, of_role in terms.items():
        named: dict[Group, list[Term]] = {group: [] for group in _PASSING}
        for term in of_role:
            if term.group == "overhead":
                # one process has one context: where models state different sizes, the largest covers them all
                process[term.name] = max(process.get(term.name, term), term, key=lambda one: one.nbytes)
            else:
                named.get(term.group, staying).append(replace(term, name=f"{role}: {term.name}"))
        for group in _PASSING:
            passing[group].append(named[group])
    largest = [term for group in _PASSING for term in max(passing[group], key=total_of)]
    return (*staying, *largest, *process.values())


def _ranks(loaded_models: Mapping[str, Estimate]) -> tuple[Rank, ...]:
    """One row per distinct set of terms, with the ranks that share it; () where all models are on one GPU."""
    on: dict[int, dict[str, tuple[Term, ...]]] = {}
    for role, estimate in loaded_models.items():
        for rank in estimate.ranks or (Rank(ranks=(0,), terms=estimate.terms),):
            for number in rank.ranks:
                on.setdefault(number, {})[role] = rank.terms
    if len(on) == 1:  # the estimate itself is that of the only GPU
        return ()
    rows: dict[tuple[Term, ...], list[int]] = {}
    for number in sorted(on):
        rows.setdefault(_together(on[number]), []).append(number)
    return tuple(Rank(ranks=tuple(numbers), terms=terms) for terms, numbers in rows.items())


def _sum(values: Iterable[int | None]) -> int | None:
    """The sum; None where a value is unknown."""
    total = 0
    for value in values:
        if value is None:
            return None
        total += value
    return total
