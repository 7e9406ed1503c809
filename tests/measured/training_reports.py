"""Public reports of training runs, beside ours: `fixtures/training/reports.jsonl`.

    python -m tests.measured.training    # prints them after the table of measured peaks

`asked` is what the report states, in our options. What PyTorch allocated is right within 5 %; what it reserved, or the
driver showed, inside a range of at most 30 %, and half a GiB where the figure is one of whole GiB. A report that leaves
out what decides its memory says so (`unstated`) and is shown, but not counted; `explained` has the source of a
difference that is not ours to mend.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Final

from hfmem import Report, estimate, inspect
from hfmem.estimator.values import total_of

__all__ = ["Reported", "document", "found", "rows"]

FIXTURES: Final = Path(__file__).parents[2] / "fixtures" / "training"
GIB: Final = 2**30
_NEAR: Final = 0.05
_WIDEST: Final = 0.3

Row = Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Reported:
    """A report, the ends of what we say in GiB, and what PyTorch does not count: context and buffers of communication.

    Both ends are the same for what PyTorch allocates.
    """

    row: Row
    low: float
    high: float
    outside: float

    @property
    def measured(self) -> float:
        """GiB; with what PyTorch's counter of reserved memory leaves out, which the range includes."""
        return float(self.row["measured_gib"]) + (self.outside if self.row["reading"] == "reserved" else 0.0)

    @property
    def right(self) -> bool:
        """Whether what we say is what was measured."""
        middle = (self.low + self.high) / 2
        if self.row["reading"] == "allocated":
            return abs(middle / self.measured - 1) <= _NEAR
        rounded = 0.5 if float(self.row["measured_gib"]).is_integer() else 0.0
        near = self.low - rounded <= self.measured <= self.high + rounded
        return near and self.high - self.low <= (_WIDEST + 0.001) * middle

    @property
    def outcome(self) -> str:
        """`right`, `unstated`, `explained` or `off`."""
        if "unstated" in self.row:
            return "unstated"
        return "right" if self.right else "explained" if "explained" in self.row else "off"


@cache
def rows() -> tuple[Row, ...]:
    """Every report."""
    return tuple(json.loads(line) for line in (FIXTURES / "reports.jsonl").read_text(encoding="utf-8").splitlines())


_model = cache(lambda name: inspect(name, offline=True))


@cache
def found() -> tuple[Reported, ...]:
    """Every report with what we say."""
    return tuple(map(_said, rows()))


def _said(row: Row) -> Reported:
    report: Report = estimate(_model(row["model"]), **row["asked"])
    facts = report.estimate.training
    assert facts is not None
    outside = total_of(term for term in report.estimate.terms if term.kind in ("context", "communication"))
    low, high = (facts.allocated,) * 2 if row["reading"] == "allocated" else facts.reserved
    return Reported(row=row, low=low / GIB, high=high / GIB, outside=outside / GIB)


def document() -> str:
    """Every report in a line, and how many are right."""
    lines = []
    for each in found():
        row = each.row
        said = f"{each.low:.2f}" if each.low == each.high else f"{each.low:.2f} to {each.high:.2f}"
        words = "".join(f"; {row[key]}" for key in ("unstated", "explained", "remark") if key in row)
        lines.append(
            f"{row['model']:<34} {row['reading']:<9} {each.measured:8.2f} {said:>18} GiB  {each.outcome}: "
            f"{row['software']}, {row['settings']}{words}"
        )
    counts = Counter(each.outcome for each in found())
    stated = sum(count for outcome, count in counts.items() if outcome != "unstated")
    lines.append(
        f"reports: {counts['right']} of {stated} that state their settings right, {counts['explained']} explained, "
        f"{counts['off']} off; {counts['unstated']} more do not state them"
    )
    return "\n".join(lines)
