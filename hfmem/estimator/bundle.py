"""The estimate of several models that run as one, from the estimates of each.

What lies in memory all the time adds up: weights and caches. The models run one after another, so that of what lives
only while one runs (activations) the largest counts. A process has one context, however many models it holds.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import replace
from typing import Final

from hfmem.estimator.values import Estimate, Group, Rank, Term, total_of

__all__ = ["combined"]

_PASSING: Final[tuple[Group, ...]] = ("activations", "temporary")


def combined(estimates: Mapping[str, Estimate], loaded: Collection[str] | None = None) -> Estimate:
    """One estimate of several models in one process, by role; a single one is itself.

    Args:
        estimates: of each model alone, under the same plan of GPUs. One without ranks lies on the first GPU.
        loaded: the roles that are in memory; None for all.

    Raises:
        ValueError: none is loaded, or phases of training, which do not add up.
    """
    held = {role: estimate for role, estimate in estimates.items() if loaded is None or role in loaded}
    if not held:
        raise ValueError("no model is loaded")
    if len(estimates) == 1:
        return next(iter(held.values()))
    if any(estimate.phases for estimate in held.values()):
        raise ValueError("the phases of training several models do not add up")
    ranks = _ranks(held)
    terms = _together({role: estimate.terms for role, estimate in held.items()})
    return Estimate(
        terms=max(ranks, key=lambda rank: rank.total).terms if ranks else terms,
        unknown=tuple((group, f"{role}: {why}") for role, one in held.items() for group, why in one.unknown),
        kv_cache_per_token=_sum(estimate.kv_cache_per_token for estimate in held.values()),
        kv_cache_fixed=_sum(estimate.kv_cache_fixed for estimate in held.values()),
        notes=tuple(f"{role}: {note}" for role, one in held.items() for note in one.notes),
        ranks=ranks,
        spared=sum(estimate.spared for estimate in held.values()),
        refused="; ".join(f"{role}: {one.refused}" for role, one in held.items() if one.refused),
        formats=tuple(f"{role}: {note}" for role, one in held.items() for note in one.formats),
    )


def _together(terms: Mapping[str, Iterable[Term]]) -> tuple[Term, ...]:
    """The terms of one GPU: those that stay, of all models; those that pass, of the model that has most of them; those
    of the process once."""
    staying: list[Term] = []
    passing: dict[Group, list[list[Term]]] = {group: [] for group in _PASSING}
    process: dict[str, Term] = {}
    for role, of_role in terms.items():
        named: dict[Group, list[Term]] = {group: [] for group in _PASSING}
        for term in of_role:
            if term.group == "overhead":
                process[term.name] = max(process.get(term.name, term), term, key=lambda one: one.nbytes)
            else:
                named.get(term.group, staying).append(replace(term, name=f"{role}: {term.name}"))
        for group in _PASSING:
            passing[group].append(named[group])
    largest = [term for group in _PASSING for term in max(passing[group], key=total_of)]
    return (*staying, *largest, *process.values())


def _ranks(held: Mapping[str, Estimate]) -> tuple[Rank, ...]:
    """One row per distinct content, as for each model alone; nothing where all models are on one GPU."""
    on: dict[int, dict[str, tuple[Term, ...]]] = {}
    for role, estimate in held.items():
        for rank in estimate.ranks or (Rank(ranks=(0,), terms=estimate.terms),):
            for number in rank.ranks:
                on.setdefault(number, {})[role] = rank.terms
    if len(on) == 1:
        return ()
    rows: dict[tuple[Term, ...], list[int]] = {}
    for number in sorted(on):
        rows.setdefault(_together(on[number]), []).append(number)
    return tuple(Rank(ranks=tuple(numbers), terms=terms) for terms, numbers in rows.items())


def _sum(values: Iterable[int | None]) -> int | None:
    """The sum; None where one is not known."""
    total = 0
    for value in values:
        if value is None:
            return None
        total += value
    return total
