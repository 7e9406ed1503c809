"""What a training run shows besides its phases: allocated and reserved memory, the host's, and ways to need less."""

from __future__ import annotations

from hfmem.estimator.slices import Slice
from hfmem.estimator.states import Held, gradient_bytes
from hfmem.estimator.trained import Piece
from hfmem.estimator.values import NOT_ALLOCATED, Phase, Scenario, Term, TrainingFacts, total_of
from hfmem.mapper.interpret import Model

__all__ = ["facts_of"]

_RATIOS = {"fused": (101, 114), "one": (112, 149), "sharded": (121, 154)}
_RATIO_SOURCE = (
    "nvidia-smi peak over torch peak of 244 A100 runs (github.com/foundation-model-stack/fms-acceleration, "
    "scripts/benchmarks/refs): medians of its groups; near a full card the allocator gives its cache back first"
)


def facts_of(  # noqa: PLR0913, PLR0917 - the parts of one answer
    model: Model,
    scenario: Scenario,
    pieces: tuple[Piece, ...],
    part: Slice,
    stays: Held,
    phases: tuple[Phase, ...],
    *,
    advise: bool,
) -> TrainingFacts:
    """The facts of the most loaded GPU."""
    from hfmem.estimator.training_advice import savings  # it estimates in turn

    training = scenario.training
    peak = max(phases, key=lambda phase: phase.total)
    allocated = _allocated(peak.terms)
    gradients = gradient_bytes(model, training, part, pieces) if training is not None else 0
    kind = "one"
    if training is not None and training.zero:
        kind = "sharded"
    elif training is not None and (training.fused_loss or training.stack.fused_loss):
        kind = "fused"
    low, high = _RATIOS[kind]
    outside = total_of(term for term in peak.terms if term.name in NOT_ALLOCATED)
    return TrainingFacts(
        trainable=sum(piece.elements for piece in pieces),
        allocated=allocated,
        steady=_allocated(stays.terms) + (gradients if training and training.stack.persistent_gradients else 0),
        gradients=gradients,
        reserved=(max(allocated + outside, allocated * low // 100), max(allocated + outside, allocated * high // 100)),
        reserved_source=_RATIO_SOURCE,
        host=stays.host,
        savings=savings(model, scenario, peak.total) if advise else (),
    )


def _allocated(terms: tuple[Term, ...]) -> int:
    return total_of(term for term in terms if term.name not in NOT_ALLOCATED)
