"""Solves for the coefficients of a type from timelines at several sizes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Final

from hfmem.estimator.activations.coefficients import EncoderLayer, LinearUse, Moment, Part
from hfmem.estimator.activations.polynomials import Polynomial
from hfmem.mapper.sizes import signature
from hfmem.probe.activations.algebra import Solver, TensorRecord
from hfmem.probe.activations.moments import beyond, highest
from hfmem.probe.activations.probes import Probe, ProbeError
from hfmem.probe.activations.ragged import Roles, landmarks, linear
from hfmem.probe.activations.reading import Reading
from hfmem.probe.activations.step import Mode, Timeline
from hfmem.probe.activations.tracer import Segment

__all__ = ["HELD_BACK", "MOST_OFF", "Solution", "solve"]

HELD_BACK: Final = 2
"""Number of probes at the end that are not used in the fit, but to verify it."""

FEWEST: Final = 5
"""Minimum number of probes, including those held back."""

MOST_OFF: Final = 0.001
"""Relative error at the probes held back, above which a fit is rejected."""

_TINY: Final = 4096  # bytes; a storage up to this size counts as constant: counters, positions, a table of chunks

Selection = tuple[frozenset[int], ...]
"""A set of storages, by number, at each probe."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Solution:
    """The coefficients of one mode.

    Attributes:
        before, entry, head, layers, encoder: as in `hfmem.estimator.activations.coefficients.Coefficients`.
        linears: linear modules of each kind of layer, by signature; only for a frozen base. Those of a layer of an
            encoder are at `encoder`.
        inputs: the input of each kind of layer, by signature, and whether the layer saves it without gradient
            checkpointing.
        residual: the largest relative error at the probes held back.
    """

    before: Polynomial
    entry: tuple[Moment, ...]
    head: Part
    layers: Mapping[str, Part]
    linears: Mapping[str, tuple[LinearUse, ...]]
    inputs: Mapping[str, tuple[Polynomial, bool]]
    residual: float
    encoder: EncoderLayer | None = None


def solve(probes: Sequence[Probe], mode: Mode) -> Solution:
    """The coefficients of a mode.

    Raises:
        ProbeError: there is no solution.
    """
    readings = [Reading(probe.run(mode), mode) for probe in probes]
    return _Solver(probes=probes, readings=readings).solution()


@dataclass(kw_only=True)
class _Solver:
    """Solves for one mode.

    Attributes:
        probes, readings: the probes, and the evaluated timeline of each.
        aligned: whether all probes ran the same sequence of operations, so that storages correspond by number.
            Otherwise (with a loop over tokens) storages of one shape from one source line form a group (`ragged`).
    """

    probes: Sequence[Probe]
    readings: Sequence[Reading]
    aligned: bool = True
    _solvers: dict[int, Solver] = field(default_factory=dict)
    _totals: dict[tuple[int, Selection], Polynomial] = field(default_factory=dict)
    _slack: dict[tuple[int, Selection], int] = field(
        default_factory=dict
    )  # bytes of a total that exist at some probes only

    def __post_init__(self) -> None:
        self._align()
        depth, calls = len(self.probes[0].layers), self.readings[0].timeline.depth
        if calls != depth:
            raise ProbeError(f"{calls} calls of {depth} layers")

    def _align(self) -> None:
        """Drop probes that ran other operations than most, as a few sizes take another path (ALiBi with a number of
        heads that is a power of two)."""
        ops = [tuple(a.op for a in reading.timeline.allocations) for reading in self.readings]
        common = max(ops, key=ops.count)
        alike = [index for index, seen in enumerate(ops) if seen == common]
        self.aligned = len(alike) >= FEWEST
        if self.aligned:
            self.probes = [self.probes[index] for index in alike]
            self.readings = [self.readings[index] for index in alike]

    @property
    def first(self) -> Timeline:
        return self.readings[0].timeline

    @property
    def single(self) -> bool:
        """Whether the step runs a single token."""
        return self.readings[0].mode.method == "decode"

    @cached_property
    def signatures(self) -> list[str]:
        return [signature(layer) for layer in self.probes[0].architecture.layers or ()]

    @cached_property
    def representatives(self) -> dict[str, int]:
        """The last layer with each signature."""
        return {name: index for index, name in enumerate(self.signatures)}

    @cached_property
    def keepers(self) -> dict[str, int]:
        """For each signature the layer whose saved bytes represent all. In a prefill, if possible not the last layer of
        the model, since its output counts with the head."""
        last = len(self.signatures) - 1
        if self.readings[0].mode.trains:
            return self.representatives
        return self.representatives | {name: index for index, name in enumerate(self.signatures) if index < last}

    def solution(self) -> Solution:
        kept = {name: self.total(self.kept(("forward", index)), index) for name, index in self.keepers.items()}
        end, phase = len(self.signatures), self.readings[0].layer_phase
        before = self.before(kept)
        inputs = {name: self.input(index) for name, index in self.representatives.items()}
        layers = {
            name: Part(kept=kept[name], moments=self.moments((phase, index), index))
            for name, index in self.representatives.items()
        }
        if self.readings[0].mode.trains:
            layers = {
                name: self.ahead(part, *inputs[name], self.representatives[name]) for name, part in layers.items()
            }
        found = Solution(
            before=before,
            entry=self.entry(before, layers.values()),
            head=Part(kept=self.total(self.kept(("head", 0)), end), moments=self.moments(("head", 0), end)),
            layers=layers,
            linears=self.all_linears(),
            inputs=inputs,
            encoder=self.encoder(),
            residual=self.residual(),
        )
        if found.residual > MOST_OFF:
            raise ProbeError(f"the error at the probes held back is {found.residual:.2%}")
        return found

    def all_linears(self) -> dict[str, tuple[LinearUse, ...]]:
        """The linear modules of each kind of layer."""
        found = {name: self.linears(index) for name, index in self.representatives.items()}
        if _OF_ENCODER in self.first.linears:
            found["encoder"] = self.linears(_OF_ENCODER)
        return found

    def encoder(self) -> EncoderLayer | None:
        """A layer of the encoder, the last one; None without one, or where it cannot be told."""
        if not self.readings[0].mode.trains or not self.first.encoder:
            return None
        segment: Segment = ("decoded", 0)
        kept = self.total(self.kept(("encoder", 0)), 0)
        try:
            moments = self.moments(segment, 0)
        except ProbeError:
            return None
        reached = tuple(self._reached(reading, segment) for reading in self.readings)
        made = tuple(
            frozenset(
                number
                for number in reading.timeline.gradients
                if reading.timeline.allocations[number].segment == segment
            )
            for reading in self.readings
        )
        layers = linear(tuple(len(probe.encoder) for probe in self.probes[:-HELD_BACK]), self.solver(0).sizes)
        return EncoderLayer(
            layers=layers or Polynomial.constant(len(self.probes[0].encoder)),
            kept=kept,
            moments=tuple(
                Moment(activations=moment.activations - kept, gradients=moment.gradients) for moment in moments
            ),
            reached=self.total(reached, 0) - kept if any(reached) else Polynomial({}),
            gradients=self.total(made, 0),
            ahead=self.total(tuple(self._ahead(reading) for reading in self.readings), 0),
        )

    @staticmethod
    def _reached(reading: Reading, segment: Segment) -> frozenset[int]:
        """What is alive where the gradient of the input of the layer's last linear module is there, without it."""
        if reading.timeline.reached is None:
            return frozenset()
        position, gradient = reading.timeline.reached
        return reading.alive(segment, frozenset({position}))[position] - {gradient} - reading.timeline.gradients

    @staticmethod
    def _ahead(reading: Reading) -> frozenset[int]:
        """What is saved before the first layer of the encoder begins, without its input."""
        allocations, own = reading.timeline.allocations, reading.kept_in(("before", 0))
        first = min(number for number, one in enumerate(allocations) if one.segment[0] == "encoder")
        return frozenset(number for number in own if number < first) - {*reading.timeline.encoder.values()}

    def residual(self) -> float:
        """The largest relative error of saved bytes, and of each moment, at the probes held back."""
        worst = 0.0
        for (index, selection), polynomial in self._totals.items():
            for probe in range(len(self.probes) - HELD_BACK, len(self.probes)):
                measured = self.readings[probe].bytes(selection[probe])
                predicted = polynomial.at(self.probes[probe].sizes(index, self.readings[probe].mode))
                off = max(0, abs(predicted - measured) - self._slack.get((index, selection), 0))
                worst = max(worst, off / max(measured, 1))
        return worst

    def kept(self, segment: Segment) -> Selection:
        """The storages that a part saves, at each probe."""
        if self.aligned:
            return (self.readings[0].kept_in(segment),) * len(self.readings)
        return tuple(reading.kept_in(segment) for reading in self.readings)

    def before(self, kept: Mapping[str, Polynomial]) -> Polynomial:
        """Bytes saved outside the layers and the head; if the first layer saves more or less than others of its kind,
        including the difference.

        Raises:
            ProbeError: a later layer differs from others of its kind.
        """
        found, last = self.total(self.kept(("before", 0)), 0), len(self.signatures) - 1
        for index, name in enumerate(self.signatures):
            here, there = self.kept(("forward", index)), self.kept(("forward", self.keepers[name]))
            if self.bytes(here) == self.bytes(there) or (index == last and not self.readings[0].mode.trains):
                continue
            if index:
                raise ProbeError(f"layers {index} and {self.keepers[name]} ({name}) save different amounts")
            found = found + self.total(here, index) - kept[name]
        return found

    def entry(self, before: Polynomial, layers: Iterable[Part]) -> tuple[Moment, ...]:
        """Moments of a prefill before its layers, if they can be higher than those of the layers."""
        if self.readings[0].mode.trains:
            return ()
        try:
            own = self.moments(("before", 0), 0)
        except ProbeError:
            return ()
        rest = [
            Moment(activations=moment.activations + before, gradients=Polynomial({}))
            for part in layers
            for moment in part.moments
        ]
        return tuple(moment for moment in highest([*rest, *own], single=self.single) if moment in own)

    def ahead(self, part: Part, given: Polynomial, saved: bool, index: int) -> Part:
        """A layer with the moments of its forward passes in training, those that matter."""
        part = part._replace(forward=self.forward(part, given, saved, index))
        return part._replace(first=self.opening(part, given, index))

    def forward(self, part: Part, given: Polynomial, saved: bool, index: int) -> tuple[Moment, ...]:
        """Moments of a layer's forward pass in training, if they can be higher than those of its backward pass where
        gradient checkpointing repeats the forward pass, which has the gradient of the output beside it."""
        try:
            own = self.moments(("forward", index), index)
        except ProbeError:
            return ()
        none = Polynomial({})
        beside = none if saved else given
        back = [Moment(activations=each.activations + beside, gradients=each.gradients) for each in part.moments]
        again = {Moment(activations=each.activations + given, gradients=none): each for each in own}
        return tuple(again[moment] for moment in beyond(list(again), back))

    def opening(self, part: Part, given: Polynomial, index: int) -> tuple[Moment, ...]:
        """Moments of a layer's first forward pass with gradient checkpointing, if they can be higher than the one that
        is repeated: where the layer before has returned more than hidden states, that stays while this one runs
        (`outputs = layer(...)` in a loop)."""
        if not self.readings[0].timeline.returned.get(index - 1):
            return ()
        try:
            own = self.checkpointed.moments(("forward", index), index)
        except ProbeError:
            return ()
        others = [*part.moments, *part.forward]
        again = [Moment(activations=each.activations + given, gradients=each.gradients) for each in others]
        return beyond(own, again)

    @cached_property
    def checkpointed(self) -> _Solver:
        """The same with gradient checkpointing."""
        mode = replace(self.readings[0].mode, checkpointing=True)
        return _Solver(probes=self.probes, readings=[Reading(probe.run(mode), mode) for probe in self.probes])

    def input(self, index: int) -> tuple[Polynomial, bool]:
        """The input of a layer, and whether it is saved."""
        numbers = [reading.timeline.inputs[index] for reading in self.readings]
        kept = numbers[0] in self.readings[0].kept_in(("forward", index))
        return self.total(tuple(frozenset({number}) for number in numbers), index), kept

    def linears(self, index: int) -> tuple[LinearUse, ...]:
        """The linear modules of a layer."""
        index, own = max(index, 0), index
        uses = [reading.timeline.linears.get(own, []) for reading in self.readings[:-HELD_BACK]]
        sources: dict[int | None, int] = {}
        found = []
        for rows in zip(*uses, strict=True):
            first = rows[0]
            inputs = self.solver(index).dimension(tuple(row.inputs for row in rows))
            outputs = self.solver(index).dimension(tuple(row.outputs for row in rows))
            if inputs is None or outputs is None:
                raise ProbeError(f"no polynomial for the sizes of {first.name}")
            found.append(
                LinearUse(
                    name=first.name,
                    inputs=inputs,
                    outputs=outputs,
                    source=sources.setdefault(first.source, len(sources)),
                    kept=first.source in self.readings[0].kept,
                )
            )
        return tuple(found)

    def moments(self, segment: Segment, index: int) -> tuple[Moment, ...]:
        """The highest moments of a part, without what earlier parts have saved."""
        if self.aligned:
            selections = [(peak,) * len(self.readings) for peak in self.readings[0].peaks(segment)]
            return highest([self._moment(selection, index) for selection in selections], single=self.single)
        found: dict[Selection, Moment] = {}
        reason = "nothing is freed"
        for selection in landmarks(self.readings, segment):
            try:
                found[selection] = self._moment(selection, index)
            except ProbeError as error:  # an iteration that does not correspond at all probes
                reason = str(error)
        self._check_peaks(list(found), segment, reason)
        return highest(list(found.values()), single=self.single)

    def _check_peaks(self, selections: Sequence[Selection], segment: Segment, reason: str) -> None:
        """Check that the moments include the highest one at each probe."""
        reached = [self.bytes(selection) for selection in selections]
        for probe, reading in enumerate(self.readings):
            most = reading.bytes(reading.peak(segment))
            here = max((row[probe] for row in reached), default=0)
            if here < most * (1 - MOST_OFF):
                raise ProbeError(f"no solution for the peak of {segment} ({here} of {most} bytes): {reason}")

    def _moment(self, selection: Selection, index: int) -> Moment:
        gradients = tuple(
            numbers & reading.timeline.gradients for numbers, reading in zip(selection, self.readings, strict=True)
        )
        rest = tuple(numbers - own for numbers, own in zip(selection, gradients, strict=True))
        return Moment(activations=self.total(rest, index), gradients=self.total(gradients, index))

    def total(self, selection: Selection, index: int) -> Polynomial:
        """The bytes of some storages as a polynomial in the sizes of a layer."""
        key = (index, selection)
        if key not in self._totals:
            self._totals[key] = self._matched(selection[0], index) if self.aligned else self._by_roles(selection, index)
        return self._totals[key]

    def _matched(self, numbers: frozenset[int], index: int) -> Polynomial:
        found = Polynomial({})
        for record, times in Counter(self._one_by_one(numbers)).items():
            found = found + self.polynomial(record, index) * times
        return found

    def polynomial(self, record: TensorRecord, index: int) -> Polynomial:
        found = self.solver(index).tensor(record)
        if found is None and max(record.nbytes) <= _TINY:
            return Polynomial.constant(max(record.nbytes))
        if found is None:
            raise ProbeError(f"no polynomial for {record.nbytes} bytes of shapes {record.shapes}")
        return found

    def solver(self, index: int) -> Solver:
        if index not in self._solvers:
            rows = [probe.sizes(index, self.readings[0].mode) for probe in self.probes]
            names = [*_CANONICAL, *(name for name in rows[0] if name not in _CANONICAL)]
            shared = [name for name in names if all(name in row for row in rows)]
            fitted = rows[:-HELD_BACK]
            # eager attention also copies a single KV head, which fused kernels expand as a view
            copied = "grouped_heads" if self.readings[0].mode.attention == "eager" else "repeated_heads"
            sizes = {name: tuple(row[name] for row in fitted) for name in shared}
            self._solvers[index] = Solver(sizes, copied=copied)
        return self._solvers[index]

    def _one_by_one(self, numbers: frozenset[int]) -> list[TensorRecord]:
        rows = [reading.timeline.allocations for reading in self.readings[:-HELD_BACK]]
        return [
            TensorRecord(
                nbytes=tuple(row[number].nbytes for row in rows),
                shapes=tuple(row[number].shape for row in rows),
                itemsize=rows[0][number].itemsize,
            )
            for number in numbers
        ]

    @cached_property
    def roles(self) -> Roles:
        return Roles(self.readings[:-HELD_BACK])

    def _by_roles(self, selection: Selection, index: int) -> Polynomial:
        """The bytes of some storages, if the number of loop iterations depends on the sizes."""
        found = Polynomial({})
        for role, count in self.roles.counts(selection).items():
            record = self.roles.record(role, count)
            most = max(number * nbytes for number, nbytes in zip(count, record.nbytes, strict=True))
            if (
                role[1] is not None and 0 in count and most <= _TINY
            ):  # exists at some sizes only, like the slopes of ALiBi
                found = found + Polynomial.constant(most)
                self._slack[index, selection] = self._slack.get((index, selection), 0) + most
                continue
            one = self.polynomial(record, index)
            times = Polynomial.constant(1) if role[1] is None else linear(count, self.solver(index).sizes)
            if times is None:
                raise ProbeError(f"{role[0][2] or role[0][1]} runs {count} times")
            found = found + one * times
        return found

    def bytes(self, selection: Selection) -> tuple[int, ...]:
        """Bytes of some storages at each probe."""
        return tuple(reading.bytes(numbers) for reading, numbers in zip(self.readings, selection, strict=True))


_OF_ENCODER: Final = -2
"""The number of an encoder's last layer in `Timeline.linears`."""

_CANONICAL: Final = (
    "b",
    "s",
    "source",
    "past",
    "seen",
    "hidden",
    "heads",
    "kv_heads",
    "key_dim",
    "value_dim",
    "intermediate",
    "per_token",
    "expert_intermediate",
    "experts",
    "shared",
    "rank",
    "rope_dim",
    "index_dim",
    "channels",
    "window",
    "vocab",
)
