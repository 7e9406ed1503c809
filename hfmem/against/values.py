"""What a log says, and how an estimate compares with it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, Literal, get_args

from hfmem.engines.logs import Cause, What

__all__ = ["CAUSES", "Against", "Difference", "Fact", "Log", "Reading", "Row"]

CAUSES: Final[tuple[What, ...]] = get_args(Cause)
"""Of which the others are sums: if one of these is off, it explains them."""

_PARTS: Final[dict[What, tuple[What, ...]]] = {
    "consumed": ("weights",),
    "peak": ("activations",),
    "torch_peak": ("weights", "activations"),
}
"""Sums that servers print, and what they are of: without a reading of these, the sum is as good as a cause."""

Fact = Literal[
    "several_starts",
    "ranks",
    "negative",
    "hybrid",
    "whole_machine",
    "adapters",
    "drafts",
    "current_only",
    "out_of_memory",
]
"""What keeps readings from meaning what they seem to: the log has several starts, of which the last counts; ranks that
differ; a difference below zero, which other programs make; a pool that is not of one kind of layer; a GPU that shares
the machine's memory; adapters or drafts that are counted with the model; statistics without a peak; a run that failed
with what it had, and needed more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """A figure of a log: bytes, or a number of tokens or requests.

    Attributes:
        what: what it measures.
        value: bytes, tokens or requests.
        line: the number of the line, from 1; 0 where the file has no lines.
        least: whether a run that failed had so much, and needed more.
    """

    what: What
    value: float
    line: int = 0
    least: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Log:
    """What a file says.

    Attributes:
        name: of the file, without its folder.
        software: what printed it: the name of an engine, `torch`, `trainer` or `nvidia-smi`.
        version: its release; "" where the file does not say.
        model: the model as the file names it; "" where it does not.
        settings: options of hfmem, with the values that the file states.
        readings: what it measures.
        facts: what to know about the readings.
        broken: options of hfmem whose values in the file are none that they can have.
    """

    name: str
    software: str
    version: str = ""
    model: str = ""
    settings: Mapping[str, object] = field(default_factory=dict, hash=False)
    readings: tuple[Reading, ...] = ()
    facts: tuple[Fact, ...] = ()
    broken: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """A setting that the log states and that was asked otherwise.

    Attributes:
        option: its name, as the command line has it.
        stated: the log's value.
        asked: what was asked.
    """

    option: str
    stated: object
    asked: object


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """A reading and its estimate.

    Attributes:
        reading: the reading.
        estimated: bytes, tokens or requests; None where the estimate has nothing like it.
        off: whether they are further apart than such figures usually are.
    """

    reading: Reading
    estimated: float | None
    off: bool

    @property
    def difference(self) -> float | None:
        """Estimate less reading."""
        return None if self.estimated is None else self.estimated - self.reading.value


@dataclass(frozen=True, slots=True, kw_only=True)
class Against:
    """An estimate held against a log.

    Attributes:
        log: what the log says.
        rows: one per reading.
        differences: settings that were asked otherwise.
        taken: settings that were taken from the log, as options with their values.
        contribution: the row that could be contributed as a measurement.
    """

    log: Log
    rows: tuple[Row, ...]
    differences: tuple[Difference, ...] = ()
    taken: tuple[str, ...] = ()
    contribution: Mapping[str, object] = field(default_factory=dict, hash=False)

    @property
    def off(self) -> What | None:
        """The term that is off: of those that are no sums of others the one with the largest difference, else the sum;
        None where all agree."""
        apart = [row for row in self.rows if row.off]
        known = {row.reading.what for row in self.rows}
        sums = [row for row in apart if row.reading.what in _PARTS]
        causes = [row for row in apart if row.reading.what in CAUSES]
        causes += [row for row in sums if not known >= {*_PARTS[row.reading.what]}]
        found = max(causes or sums or apart, key=_share, default=None)
        return None if found is None else found.reading.what


def _share(row: Row) -> float:
    """How far a row is off: in bytes, where it measures bytes."""
    if row.difference is None:
        return 0
    if row.reading.what in ("per_token", "tokens", "blocks", "concurrency"):  # of another unit: as a share
        return abs(row.difference) / max(1.0, row.reading.value) * 2**30
    return abs(row.difference)
