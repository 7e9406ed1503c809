"""Public reports of vLLM servers that state their settings: `fixtures/measured/reports.jsonl`, and estimates of them.

    python -m tests.measured.reports --write    # fixtures/measured/reports.md

A reading is right within 5 % or 0.5 GiB; a refusal, if the engine refuses for the reported reason.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any, Final

from hfmem import Report, estimate, inspect
from hfmem.estimator.serving import Serving
from hfmem.estimator.values import total_of
from hfmem.units import GIB
from tests.measured.inference import FIXTURES

Row = dict[str, Any]

_NEAR: Final = 0.05
_NEAR_GIB: Final = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class Reported:
    """A reading and its estimate, in the reading's unit."""

    row: Row
    estimated: float | str

    @property
    def error(self) -> float:
        """The difference as a share of the reading; 0 or 1 for a refusal."""
        measured = self.row["measured"]
        if isinstance(measured, str) or isinstance(self.estimated, str):
            return float(str(measured) not in str(self.estimated))
        return abs(self.estimated - measured) / measured

    @property
    def right(self) -> bool:
        measured = self.row["measured"]
        if self.error <= _NEAR:
            return True
        in_gib = self.row["reading"] in _IN_GIB
        return in_gib and abs(float(self.estimated) - measured) <= _NEAR_GIB

    @property
    def outcome(self) -> str:
        return "right" if self.right else "explained" if self.row.get("explained") else "off"


@cache
def rows() -> tuple[Row, ...]:
    """Every reading."""
    return tuple(json.loads(line) for line in (FIXTURES / "reports.jsonl").read_text(encoding="utf-8").splitlines())


def _served(report: Report) -> Serving:
    assert report.estimate.serving is not None
    return report.estimate.serving


def _weights(report: Report, row: Row) -> float:
    """Of one rank. Where `--dtype` may stand for several recipes, the estimate is that of the largest one."""
    total = report.estimate.group("weights")
    if "recipe" not in row:
        return total / GIB
    sizes = {
        found[1]: float(found[2])
        for note in report.estimate.formats
        if (found := re.search(r" with ([^:]+?) leaves unquantised: .*?, ([\d.]+) GiB", note))
    }
    return total / GIB - (max(sizes.values()) - sizes[row["recipe"]]) / row["asked"].get("tp", 1)


def _libraries(report: Report, row: Row) -> float:
    """Weights, and what is allocated outside of PyTorch beside the context."""
    kinds = ("libraries", "communication")
    return _weights(report, row) + total_of(t for t in report.estimate.terms if t.kind in kinds) / GIB


def _used(report: Report, row: Row) -> float:
    """What the driver shows: the budget is filled by the pool."""
    gpu = report.scenario.gpu
    assert gpu is not None
    terms = report.estimate.terms
    outside = total_of(t for t in terms if t.group == "overhead" and t.kind != "libraries")
    inside = _weights(report, row) + report.estimate.group("activations") / GIB
    inside += total_of(t for t in terms if t.kind == "libraries") / GIB
    return inside + outside / GIB + (_served(report).kv_pool or 0) / GIB


_IN_GIB: Final[dict[str, Callable[[Report, Row], float]]] = {
    "weights": _weights,
    "weights and libraries": _libraries,
    "gpu": _used,
    "kv_pool": lambda report, _: (_served(report).kv_pool or 0) / GIB,
}
_READ: Final[dict[str, Callable[[Report, Row], float | str]]] = _IN_GIB | {
    "kv_tokens": lambda report, _: _served(report).kv_tokens or 0,
    "blocks_per_request": lambda report, _: _served(report).blocks_per_request or 0,
    "bytes_per_token": lambda report, _: report.estimate.group("kv_cache") / report.scenario.seq,
    "refusal": lambda report, _: _served(report).refused,
}


_model = cache(lambda name: inspect(name, offline=True))


@cache
def comparisons() -> tuple[Reported, ...]:
    """Every reading with its estimate."""
    return tuple(map(_compared, rows()))


def _compared(row: Row) -> Reported:
    """The estimate for a reading."""
    report = estimate(_model(row["model"]), runtime="vllm", **row["asked"])
    return Reported(row=row, estimated=_READ[row["reading"]](report, row))


def document() -> str:
    """The table of all readings."""
    found = comparisons()
    counts = {word: sum(each.outcome == word for each in found) for word in ("right", "explained", "off")}
    lines = [
        "# Reports of vLLM servers, and the estimates of them",
        "",
        "Made by `python -m tests.measured.reports --write`. Rows, settings and options are in `reports.jsonl`. GiB, "
        "on one rank; right is within 5 % or 0.5 GiB.",
        "",
        f"{counts['right']} right, {counts['explained']} explained, {counts['off']} off.",
        "",
        "| report | software | reading | measured | estimated | error | |",
        "|---|---|---|---|---|---|---|",
    ]
    lines += [_line(each) for each in found]
    return "\n".join(lines) + "\n"


def _line(found: Reported) -> str:
    row = found.row
    measured, estimated = row["measured"], found.estimated
    shown = [
        x if isinstance(x, str) else f"{x:,.2f}" if row["reading"] in _IN_GIB else f"{x:,.0f}"
        for x in (measured, estimated)
    ]
    error = "" if isinstance(measured, str) else f"{found.error:.1%}"
    words = found.outcome + "".join(f": {row[key]}" for key in ("explained", "remark", "recipe") if key in row)
    cells = (f"[{row['model']}]({row['url']})", row["software"], row["reading"], *shown, error, words)
    return f"| {' | '.join(cells)} |"


if __name__ == "__main__":
    if "--write" in sys.argv:
        (FIXTURES / "reports.md").write_text(document(), encoding="utf-8")
    print(document())
