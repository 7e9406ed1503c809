"""Several reports beside each other, as a fragment of HTML."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from hfmem.estimator.values import GROUPS
from hfmem.report.errors import Problem, sizeless
from hfmem.report.fit import fit_cell, machine_name
from hfmem.report.html.bars import bar, legend, parts
from hfmem.report.html.fragments import wrapped
from hfmem.report.html.tags import element, table, text
from hfmem.report.sentences import memory_words
from hfmem.report.values import Report
from hfmem.units import format_count

__all__ = ["comparison"]


def comparison(
    reports: Sequence[Report], problems: Sequence[Problem] = (), unit: str = "GiB", *, style: bool = True
) -> str:
    """A row for each model, with a bar on one scale and a cell for each accelerator; failures below.

    Args:
        reports: the reports.
        problems: what failed.
        unit: `GiB` or `GB`.
        style: whether it carries its style sheet.
    """
    known = [report for report in reports if report.estimate.known_total is not None]
    whole = max((report.estimate.total for report in known), default=1)
    machines = list(dict.fromkeys(machine_name(fit) for report in known for fit in report.fits))
    head = ["model", "parameters", "total", "", *(f"{name}, free ({unit})" for name in machines)]
    rows = ([*_row(report, unit, whole), *_cells(report, machines, unit)] for report in known)
    shown = [group for group in GROUPS if any(report.estimate.group(group) for report in known)]
    listed = [table(map(text, head), rows, right=(1, 2, *range(4, 4 + len(machines)))), legend(shown)] if known else []
    return wrapped(*listed, *_failures([*problems, *sizeless(reports)]), style=style)


def _row(report: Report, unit: str, whole: int) -> list[str]:
    count = format_count(report.parameters.total) if report.parameters else "?"
    drawn = element("div", bar(parts(report.estimate), unit, whole=whole), style="min-width:9em")
    name = element("div", text(report.name), style="min-width:13em;overflow-wrap:anywhere")
    return [name, text(count), text(memory_words(report, unit)), drawn]


def _cells(report: Report, machines: Sequence[str], unit: str) -> Iterator[str]:
    by_name = {machine_name(fit): fit for fit in report.fits}
    return (text(fit_cell(by_name.get(name), unit)) for name in machines)


def _failures(problems: Sequence[Problem]) -> Iterator[str]:
    """What failed, each with what to do."""
    if problems:
        rows = (
            element("li", element("b", text(problem.name)), ": ", text(f"{problem.message} {problem.hint}"))
            for problem in problems
        )
        yield element("h3", "Failed")
        yield element("ul", *rows)
