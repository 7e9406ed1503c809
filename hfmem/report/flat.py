"""One flat row a model, failures among them: the columns of data frames."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

from hfmem.advice.values import Fit
from hfmem.errors import HfmemError
from hfmem.estimator.values import GROUPS, Group
from hfmem.report.errors import Problem, explain, sizeless
from hfmem.report.fit import machine_name
from hfmem.report.values import Report

__all__ = ["Flat", "Kind", "flat"]

Kind = Literal["text", "integer", "truth"]
"""Of the values in a column; each may be None, where something is unknown or the model failed."""

_Cell = tuple[Kind, Callable[[Report], Any]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Flat:
    """Rows with the same columns.

    Attributes:
        kinds: the kind of each column, in order.
        rows: a row for each model, in order; every row has every column.
    """

    kinds: dict[str, Kind]
    rows: list[dict[str, Any]]

    def column(self, name: str) -> list[Any]:
        """The values of a column."""
        return [row[name] for row in self.rows]


def _group(group: Group) -> _Cell:
    return "integer", lambda report: report.estimate.group(group)


_CELLS: Final[dict[str, _Cell]] = {
    "revision": ("text", lambda report: report.checkpoint.ref.revision),
    "source": ("text", lambda report: report.checkpoint.source),
    "mode": ("text", lambda report: report.scenario.mode),
    "runtime": ("text", lambda report: report.scenario.runtime),
    "dtype": ("text", lambda report: report.scenario.dtype),
    "kv_dtype": ("text", lambda report: report.scenario.kv_dtype),
    "batch": ("integer", lambda report: report.scenario.batch),
    "seq": ("integer", lambda report: report.scenario.seq),
    "parameters": ("integer", lambda report: report.parameters.total if report.parameters else None),
    "active_parameters": ("integer", lambda report: report.parameters.active if report.parameters else None),
    **{group: _group(group) for group in GROUPS},
    "total": ("integer", lambda report: report.estimate.known_total),
    "total_low": ("integer", lambda report: None if report.estimate.known_total is None else report.estimate.low),
    "total_is_lower_bound": ("truth", lambda report: report.estimate.is_lower_bound),
    "kv_cache_per_token": ("integer", lambda report: report.estimate.kv_cache_per_token),
    "download": ("integer", lambda report: report.download.nbytes),
}

_ON: Final[dict[str, tuple[Kind, Callable[[Fit], Any]]]] = {
    "fits": ("truth", lambda fit: fit.fits),
    "verdict": ("text", lambda fit: fit.verdict),
    "headroom": ("integer", lambda fit: fit.headroom),
    "max_batch": ("integer", lambda fit: fit.max_batch),
    "max_seq": ("integer", lambda fit: fit.max_seq),
}
"""Columns for each accelerator."""


def flat(answers: Iterable[Report | Problem | HfmemError], machines: Iterable[str] = ()) -> Flat:
    """The rows of some answers; sizes are bytes. Accelerators that are named have columns without an answer too."""
    shown: Sequence[Report | Problem] = [
        explain(answer) if isinstance(answer, HfmemError) else answer for answer in answers
    ]
    names = dict.fromkeys(machines)
    names |= dict.fromkeys(machine_name(fit) for each in shown if isinstance(each, Report) for fit in each.fits)
    kinds: dict[str, Kind] = {"model": "text", **{name: kind for name, (kind, _) in _CELLS.items()}}
    kinds |= {f"{what}: {name}": kind for name in names for what, (kind, _) in _ON.items()}
    kinds |= {"error": "text", "message": "text"}
    empty = dict.fromkeys(kinds)
    return Flat(kinds=kinds, rows=[{**empty, **_row(each)} for each in shown])


def _row(answer: Report | Problem) -> dict[str, Any]:
    """The cells that are known."""
    if isinstance(answer, Problem):
        return {"model": answer.label or answer.asked or answer.model, **_failure(answer)}
    row = {"model": answer.name, **{name: value(answer) for name, (_, value) in _CELLS.items()}}
    for fit in answer.fits:
        row |= {f"{what}: {machine_name(fit)}": value(fit) for what, (_, value) in _ON.items()}
    for problem in sizeless([answer]):
        row |= _failure(problem)
    return row


def _failure(problem: Problem) -> dict[str, str]:
    return {"error": problem.code, "message": f"{problem.message} {problem.hint}"}
