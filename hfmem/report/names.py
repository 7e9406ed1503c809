"""Names of models in a list: their ids; rows with the same id are distinguished by the requested revision and files."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from hfmem.report.errors import Problem
    from hfmem.report.values import Report

__all__ = ["told_apart"]


def told_apart(reports: Sequence[Report], problems: Sequence[Problem]) -> tuple[list[Report], list[Problem]]:
    """The reports and problems with names that distinguish the rows of one model, if the requests differ."""
    asked: dict[str, set[str]] = defaultdict(set)
    for report in reports:
        asked[report.checkpoint.ref.model_id].add(report.checkpoint.ref.named)
    for problem in problems:
        asked[problem.model].add(problem.asked or problem.model)
    alike = {model for model, names in asked.items() if len(names) > 1}
    return (
        [
            replace(report, label=report.checkpoint.ref.named) if report.checkpoint.ref.model_id in alike else report
            for report in reports
        ],
        [replace(problem, label=problem.asked) if problem.model in alike else problem for problem in problems],
    )
