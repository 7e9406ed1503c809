"""Pipeline stages: the layers of each, and its ranks."""

from __future__ import annotations

from dataclasses import dataclass

from hfmem.estimator.parallel import Parallel
from hfmem.estimator.split.rules import SplitRules

__all__ = ["Stage", "stages"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """A pipeline stage; all of its ranks hold shards of the same size.

    Attributes:
        index, of: its number, from 0, and the number of stages.
        start, end: its layers, `end` exclusive.
        ranks: its rank numbers.
    """

    index: int
    of: int
    start: int
    end: int
    ranks: tuple[int, ...]

    @property
    def first(self) -> bool:
        """Whether it is the first stage, with the embedding."""
        return self.index == 0

    @property
    def last(self) -> bool:
        """Whether it is the last stage, with the head."""
        return self.index == self.of - 1

    @property
    def depth(self) -> int:
        """The number of its layers."""
        return self.end - self.start


def stages(layers: int, plan: Parallel, rules: SplitRules) -> tuple[Stage, ...]:
    """The stages of a model with this many layers."""
    ends = _ends(layers, plan.pp, rules)
    starts = (0, *ends)
    return tuple(
        Stage(index=index, of=plan.pp, start=starts[index], end=end, ranks=_ranks(index, plan, rules))
        for index, end in enumerate(ends)
    )


def _ends(layers: int, pp: int, rules: SplitRules) -> tuple[int, ...]:
    if rules.remainder == "floor":
        return tuple(layers * (index + 1) // pp for index in range(pp))
    each, left = divmod(layers, pp)
    if rules.remainder == "first":
        return tuple(each * (index + 1) + min(left, index + 1) for index in range(pp))
    # one extra layer each for the `left` stages just before the last one
    return tuple(each * (index + 1) + min(left, max(0, index + 2 + left - pp)) for index in range(pp))


def _ranks(index: int, plan: Parallel, rules: SplitRules) -> tuple[int, ...]:
    alike = plan.gpus // plan.pp  # ranks per stage
    if rules.numbering == "stages":
        return tuple(range(index * alike, (index + 1) * alike))
    replicas = alike // plan.tp
    return tuple(
        (replica * plan.pp + index) * plan.tp + shard for replica in range(replicas) for shard in range(plan.tp)
    )
