"""Allocated and reserved GPU memory, and host memory, of a training run."""

from __future__ import annotations

from hfmem.estimator.training.gpu import Gpu
from hfmem.estimator.training.states import Held, gradient_bytes
from hfmem.estimator.values import Phase, Term, TrainingFacts, total_of

__all__ = ["facts_of"]

_RATIOS = {"fused": 114, "one": 149, "sharded": 154}  # per cent
_RATIO_SOURCE = (
    "at least what is allocated and the context; at most, nvidia-smi peak over torch peak of 244 A100 runs "
    "(github.com/foundation-model-stack/fms-acceleration, scripts/benchmarks/refs), the largest median of a group: "
    "1.14 with fused losses, 1.49 on one GPU, 1.54 sharded; single runs reach 1.64 and 1.94"
)


def facts_of(gpu: Gpu, stays: Held, phases: tuple[Phase, ...]) -> TrainingFacts:
    """The figures of the most loaded GPU."""
    training = gpu.training
    peak = max(phases, key=lambda phase: phase.total)
    allocated = _allocated(peak.terms)
    gradients = gradient_bytes(gpu, gpu.pieces)
    kind = "one"
    if training.zero:
        kind = "sharded"
    elif training.fused_head:
        kind = "fused"
    most = allocated * _RATIOS[kind] // 100
    outside = total_of(term for term in peak.terms if not term.allocated)
    return TrainingFacts(
        trainable=sum(piece.elements for piece in gpu.pieces),
        allocated=allocated,
        steady=_allocated(stays.terms) + (gradients if training.stack.persistent_gradients else 0),
        gradients=gradients,
        # with a small peak, the context alone may exceed what the ratio adds
        reserved=(allocated + outside, max(allocated + outside, most)),
        reserved_source=_RATIO_SOURCE,
        host=total_of(stays.host),
    )


def _allocated(terms: tuple[Term, ...]) -> int:
    return total_of(term for term in terms if term.allocated)
