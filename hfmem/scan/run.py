"""A list of models whose rows are written to a file as they come, and which goes on where it stopped."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from huggingface_hub import constants

from hfmem.answers import accompanied
from hfmem.fetcher.budget import Budget
from hfmem.fetcher.values import Access, ModelRef
from hfmem.refusals.lists import OutFileError
from hfmem.scan.files import Rows, begun, opened
from hfmem.scan.reading import Here, Part, Reader, Task
from hfmem.scan.rows import PASSING, Layout, placed
from hfmem.scenario.options import Options

__all__ = ["Counts", "ListAsked", "scan"]

Shown = Callable[["Counts"], None]
_Waiting = dict[ModelRef, list[tuple[int, str]]]


@dataclass(slots=True, kw_only=True)
class Counts:
    """How far a run is.

    Attributes:
        total: rows of the list.
        done: rows that are in the file.
        kept: those of them from an earlier run.
        failed: those without an answer.
        passing: whether some of them may have one later.
        unfit: whether a model does not fit on every accelerator, or nobody knows.
        changed: rows that another commit has replaced.
        asked: models that this run has read, of those that it has to.
        models: models that this run has to read.
        waits: seconds until the next window of each quota that is used up.
        seconds: seconds of waiting that the rest of the run will take, by the quotas.
        interrupted: whether the user ended it.
    """

    total: int
    done: int = 0
    kept: int = 0
    failed: int = 0
    passing: bool = False
    unfit: bool = False
    changed: int = 0
    asked: int = 0
    models: int = 0
    waits: Mapping[str, float] = field(default_factory=dict)
    seconds: float = 0.0
    interrupted: bool = False


class ListAsked(Protocol):
    """The options of a list that is written to a file."""

    @property
    def out(self) -> Path | None:
        """The file, by its ending Parquet, CSV or JSON lines."""

    @property
    def jobs(self) -> int:
        """Models that are read at once."""

    @property
    def resume(self) -> bool:
        """Whether to go on where an earlier run stopped."""

    @property
    def executor(self) -> str:
        """Who reads: `local` for threads of this process, `ray` for the workers of a cluster."""


def scan(
    refs: Sequence[ModelRef], options: Options, access: Access, asked: ListAsked, shown: Shown | None = None
) -> Counts:
    """Write a row for each model of the list to a file, as it comes.

    A run that goes on asks for nothing that is in the file, except failures of the moment. If nothing is missing, each
    model's commit is asked for, and the rows of those that have changed are replaced. In the end the rows are in the
    order of the list. A model that is in it several times is read once, and has a row for each place.

    Args:
        refs: the list.
        options: the scenario.
        access: how to access models.
        asked: the file, and how it is to be written.
        shown: called often with how far it is.

    Raises:
        OutFileError: the file is there and is not to be gone on with, cannot be written, or is that of another run.
        ClusterError: the cluster cannot be reached or started.
        HfmemError: a model that runs beside the others cannot be read.
    """
    path = asked.out
    if path is None:
        raise ValueError("no file is asked for")
    parts = asked.executor == "ray"
    if begun(path) and path.is_dir() != parts:
        raise OutFileError(path, "file" if parts else "parts")
    if begun(path) and not asked.resume:
        raise OutFileError(path, "there")
    options = accompanied(options, access)
    layout = Layout.of(options)
    file = _opened(path, layout, parts=parts)
    task = Task(options=options, access=_bare(access), jobs=asked.jobs, layout=layout)
    run = _Run(refs=refs, task=task, file=file, shown=shown)
    try:
        run.take_up(path)
        run.go(asked.executor)
    finally:
        file.close()
    return run.counts


def _opened(path: Path, layout: Layout, *, parts: bool) -> Rows:
    try:
        return opened(path, layout.kinds, parts=parts)
    except BlockingIOError:
        raise OutFileError(path, "busy") from None
    except OSError as error:
        raise OutFileError(path, "unreadable", why=error.strerror or type(error).__name__) from None
    except (ValueError, TypeError):
        raise OutFileError(path, "columns") from None


def _bare(access: Access) -> Access:
    """The access alone, without what else a command line has."""
    if not access.mine:
        return access
    return Access(token=access.token, offline=access.offline, use_cache=access.use_cache, file=access.file)


def _reader(executor: str, task: Task) -> Reader:
    kept = Path(constants.HF_HOME) / "hfmem" / "quotas" / _named(constants.ENDPOINT)
    place = kept if task.access.use_cache else None
    if executor == "ray":
        from hfmem.scan.cluster import Cluster

        return Cluster(task, place)
    return Here(task, Budget(place))


@dataclass(slots=True, kw_only=True)
class _Run:
    """A run, from what the file has to what it is to have.

    Attributes:
        have: the places of the list with a row of an earlier run.
        before: the commit of each, if there is one of every place, and each is asked for again.
    """

    refs: Sequence[ModelRef]
    task: Task
    file: Rows
    shown: Shown | None
    counts: Counts = field(init=False)
    before: dict[int, str | None] = field(default_factory=dict)
    have: set[int] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.counts = Counts(total=len(self.refs))

    def take_up(self, path: Path) -> None:
        """Read what the file has, and leave out what is to be asked again."""
        kept: dict[int, tuple[int, str | None, bool]] = {}
        failed = 0
        for place, row in self._found(path):
            number = int(row["line"])
            asked = self.refs[number - 1].asked if 0 < number <= len(self.refs) else None
            if row["asked"] != asked or row["options"] != self.task.layout.options:
                raise OutFileError(path, "options" if row["asked"] == asked else "list")
            kept[number] = (place, row["commit"] or None, bool(row["error"]))
            if row["error"] in PASSING:
                failed += 1
                del kept[number]
        if failed:
            self.file.settle(place for place, _, _ in kept.values())
        self.counts.kept = self.counts.done = len(kept)
        self.counts.failed = sum(wrong for _, _, wrong in kept.values())
        self.have = set(kept)
        if kept and len(kept) == len(self.refs):
            self.before = {number: commit for number, (_, commit, _) in kept.items()}

    def _found(self, path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
        try:
            yield from self.file.rows()
        except (ValueError, TypeError, LookupError):
            raise OutFileError(path, "columns") from None

    def go(self, executor: str) -> None:
        """Read and estimate what is missing."""
        waiting: _Waiting = {}
        for number, ref in enumerate(self.refs, 1):
            if self.before or number not in self.have:
                waiting.setdefault(ref, []).append((number, ref.asked))
        self.counts.models = len(waiting)
        reader = _reader(executor, self.task) if waiting else None
        try:
            for part in reader.parts(waiting) if reader else ():
                self._write(part, waiting)
                self._tell(reader)
        except KeyboardInterrupt:
            self.counts.interrupted = True
        finally:
            if reader:
                reader.close()
        self._in_order()

    def _tell(self, reader: Reader | None) -> None:
        counts = self.counts
        if reader is not None and counts.asked:
            counts.waits = reader.waits()
            counts.seconds = reader.seconds_for((counts.models - counts.asked) / counts.asked)
        if self.shown is not None:
            self.shown(counts)

    def _write(self, part: Part, waiting: _Waiting) -> None:
        """Write the rows of a part, without those that are there."""
        found = []
        for read in part.models:
            rows, failed = placed(read.row, waiting[read.ref]), bool(read.row["error"])
            self.counts.asked += 1
            self.counts.unfit |= not read.fits
            if self.before:
                rows = [row for row in rows if not failed and row["commit"] != self.before[row["line"]]]
                self.counts.changed += len(rows)
            else:
                self.counts.done += len(rows)
                self.counts.failed += failed * len(rows)
            found += rows
        if found:
            self.file.append(found, part.number)

    def _in_order(self) -> None:
        """Put the rows in the order of the list; of several of a place, the last counts."""
        places: dict[int, int] = {}
        failed: set[int] = set()
        order: list[int] = []
        for place, row in self.file.rows():
            number = int(row["line"])
            order.append(number)
            places[number] = place
            (failed.add if row["error"] else failed.discard)(number)
            self.counts.passing |= row["error"] in PASSING
        self.counts.failed = len(failed)
        if order != sorted(places):
            self.file.settle(places[number] for number in sorted(places))


def _named(endpoint: str) -> str:
    """The name of the file with the quotas of a Hub."""
    return "".join(c if c.isalnum() or c in ".-" else "_" for c in endpoint.partition("://")[2]) + ".json"
