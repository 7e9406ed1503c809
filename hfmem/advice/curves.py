"""Memory over context and over batch: the curves of plots, from the same function that reports print."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from math import ceil
from typing import Final, Literal

from hfmem.advice.fit import Case, machines
from hfmem.engines.inference import Prepared
from hfmem.errors import InvalidScenarioError
from hfmem.estimator.scenario import Scenario
from hfmem.estimator.values import GROUPS, Group
from hfmem.hardware.values import Accelerator, Machine
from hfmem.mapper.interpret import Model
from hfmem.scenario.options import Options
from hfmem.scenario.resolve import resolve
from hfmem.scenario.runtime import for_model

__all__ = ["Curve", "Line", "Over", "Point", "curve"]

Over = Literal["seq", "batch"]

_POINTS: Final = 16
_LONGEST: Final = 2**20  # tokens that are drawn
_MOST_BATCH: Final = 4096  # sequences that are drawn
_FEW: Final = 16  # sequences that are drawn at least
_BEYOND: Final = 1.25  # how far beyond the end of an accelerator's memory a curve is drawn


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """The memory of the most loaded accelerator at one context or batch, by group."""

    at: int
    groups: tuple[tuple[Group, int], ...]

    @property
    def total(self) -> int:
        """Bytes of all groups."""
        return sum(nbytes for _, nbytes in self.groups)


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """What an accelerator has: its usable bytes."""

    accelerator: Accelerator
    usable: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Curve:
    """Memory over one size of the run.

    Attributes:
        over: tokens per sequence, or sequences.
        points: in the order of `at`; unknown parts are left out.
        lines: the accelerators that were named.
        at: what was asked for.
        partly: whether a part is unknown, so that the curve is a lower bound.
    """

    over: Over
    points: tuple[Point, ...]
    lines: tuple[Line, ...] = ()
    at: int
    partly: bool = False


def curve(model: Model, options: Options, over: Over, lines: Iterable[Line] = ()) -> Curve | None:
    """The curve of a model's memory on the first accelerator that was named, or on none.

    Args:
        model: the model.
        options: the scenario; the size that the curve is over is the one that is marked.
        over: the size.
        lines: the accelerators to draw, with what is usable of each.

    Returns:
        None where the memory cannot be told at two sizes, or the model has no such size: pipelines and networks for
        images have no context.

    Raises:
        InvalidScenarioError: the engine would refuse the split.
    """
    if over == "seq" and model.lengthless:
        return None
    drawn = tuple(lines)
    asked = _Asked.of(model, for_model(options, model))
    at = asked.size(over)
    end = _end(asked, over, max((line.usable for line in drawn), default=0))
    points = [point for each in _places(end, at) if (point := asked.point(over, each)) is not None]
    if len(points) < 2:
        return None
    return Curve(over=over, points=tuple(points), lines=drawn, at=at, partly=asked.partly)


_NOWHERE: Final = Machine(
    accelerator=Accelerator(
        name="", vendor="", generation="", kind="discrete", memory=0, basis="absent", source="no accelerator is named"
    )
)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Asked:
    """A scenario, to be estimated at other sizes."""

    case: Case
    partly: bool

    @classmethod
    def of(cls, model: Model, options: Options) -> _Asked:
        """The scenario on the first accelerator that is named, as reports have it."""
        named = machines(options) if options.gpu else ()
        machine = next((each for each in named if each.there), None)
        scenario = resolve(options, model, machine)
        prepared = Prepared(model=model) if scenario.train else Prepared.of(model, scenario)
        case = Case(model=model, options=options, machine=machine or _NOWHERE, scenario=scenario, prepared=prepared)
        return cls(case=case, partly=case.estimate(scenario).is_lower_bound)

    def size(self, over: Over) -> int:
        """What was asked for."""
        return self.case.scenario.seq if over == "seq" else self.case.scenario.batch

    def point(self, over: Over, at: int) -> Point | None:
        """The memory at another size; None where that cannot be asked for."""
        asked = self.case.scenario
        batch, seq = (asked.batch, at) if over == "seq" else (at, asked.seq)
        try:
            estimate = self.case.estimate(self._scenario(batch, seq))
        except InvalidScenarioError:
            return None
        groups = ((group, estimate.group(group) or 0) for group in GROUPS)
        return Point(at=at, groups=tuple((group, nbytes) for group, nbytes in groups if nbytes))

    def _scenario(self, batch: int, seq: int) -> Scenario:
        model, options = self.case.model, self.case.options
        if self.case.machine is not _NOWHERE or model.architecture.source is None:
            return self.case.at(batch, seq)
        prompt = None if options.prompt is None else min(options.prompt, seq)
        return resolve(replace(options, batch=batch, seq=seq, prompt=prompt), model)


def _end(asked: _Asked, over: Over, most: int) -> int:
    """The largest size to draw: the model's own maximum, or where `most` bytes are left well behind."""
    at = asked.size(over)
    limit = min(asked.case.model.architecture.max_positions or 4 * at, _LONGEST) if over == "seq" else _MOST_BATCH
    limit = max(limit, at)
    if not most:
        return limit if over == "seq" else min(limit, max(4 * at, _FEW))
    end = at
    while end < limit:
        end = min(limit, 2 * end)
        point = asked.point(over, end)
        if point is None or point.total > _BEYOND * most:
            break
    return end


def _places(end: int, at: int) -> list[int]:
    """Sizes up to `end`, evenly spaced, with `at` among them."""
    step = max(1, ceil(end / _POINTS))
    return sorted({1, *range(step, end, step), at, end})
