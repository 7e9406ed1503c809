"""The peak of a real step, measured without weights."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from hfmem.estimator.values import Group

__all__ = ["Trace"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Trace:
    """The peak of a step in bytes, traced on the real implementation without a GPU: the CUDA context, workspaces and
    the allocator's rounding are not included.

    Attributes:
        phase: the phase with the peak: `layers` or `head`; in training `logits`, `backward` or `optimizer`.
        groups: bytes alive at the peak, by memory group.
        phases: the peak of each phase.
        layers: the number of layers run, over all runs together.
        seconds: how long the trace took.
        source: versions of the software that was run.
        subject: what was run, as it stands before `without weights` in a sentence.
        estimate: the estimate of what was traced, by group, if it is not the report's own estimate.
    """

    phase: str
    groups: Mapping[Group, int] = field(hash=False)
    phases: Mapping[str, int] = field(hash=False)
    layers: int
    seconds: float
    source: str
    subject: str = "the model class"
    estimate: Mapping[Group, int] | None = field(default=None, hash=False)

    @property
    def peak(self) -> int:
        """Bytes at the peak."""
        return sum(self.groups.values())
