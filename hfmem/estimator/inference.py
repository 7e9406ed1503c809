"""The estimate of running a model: weights, cache, activations, overhead."""

from __future__ import annotations

from hfmem.estimator import textbook
from hfmem.estimator.activations import activation_terms
from hfmem.estimator.caches import cache_size
from hfmem.estimator.overheads import overhead_terms
from hfmem.estimator.values import Estimate, Group, Scenario
from hfmem.estimator.weights import experts_left_alone, weight_terms
from hfmem.mapper.interpret import Model
from hfmem.units import format_bytes

__all__ = ["estimate"]


def estimate(model: Model, scenario: Scenario) -> Estimate:
    """The estimate of a scenario: by the textbook where it is asked, else as the implementation behaves."""
    if scenario.method == "textbook":
        return textbook.estimate(model, scenario)
    if scenario.training is not None:
        from hfmem.estimator.training import estimate as estimate_training  # its tables are for training only

        return estimate_training(model, scenario)
    return _inference(model, scenario)


def _inference(model: Model, scenario: Scenario) -> Estimate:
    unknown: list[tuple[Group, str]] = []
    terms, missing = weight_terms(model, scenario)
    unknown += missing
    cache = cache_size(model.architecture, scenario)
    if isinstance(cache, str):
        unknown.append(("kv_cache", cache))
    else:
        terms += cache.terms
    activations, missing = activation_terms(model, scenario)
    unknown += missing
    return Estimate(
        terms=(*terms, *activations, *overhead_terms(scenario.runtime)),
        unknown=tuple(unknown),
        kv_cache_per_token=None if isinstance(cache, str) else cache.per_token,
        kv_cache_fixed=None if isinstance(cache, str) else cache.fixed,
        notes=_notes(model, scenario),
    )


def _notes(model: Model, scenario: Scenario) -> tuple[str, ...]:
    longest = model.architecture.max_positions
    notes = []
    alone = experts_left_alone(model, scenario)
    if alone is not None:
        notes.append(
            "bitsandbytes replaces linear modules only, and transformers 5 fuses experts into plain parameters: as it "
            f"is today, {scenario.dtype} leaves them, and the weights are {format_bytes(alone)}."
        )
    if longest is not None and scenario.seq > longest:
        notes.append(f"{scenario.seq:,} tokens are more than the {longest:,} the model is made for.")
    return tuple(notes)
