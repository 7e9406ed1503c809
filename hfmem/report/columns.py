"""The columns of comparisons: one row per column, for tables, Markdown, CSV and `--sort`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from hfmem.estimator.values import Group
from hfmem.report.escapes import line
from hfmem.report.values import Report
from hfmem.units import format_bytes, format_count

__all__ = ["COLUMNS", "SORT_KEYS", "Column", "sorted_reports"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """A figure of a report.

    Attributes:
        key: its name in CSV and for `--sort`.
        title: its heading in tables.
        value: the figure: bytes, a count, or a word; None where unknown.
        kind: how tables show it.
        rank: priority on narrow terminals (0 is kept longest).
    """

    key: str
    title: str
    value: Callable[[Report], int | str | None]
    kind: str
    rank: int

    def text(self, report: Report, unit: str) -> str:
        """The figure in tables; "?" if unknown."""
        value = self.value(report)
        if value is None:
            return "?"
        if isinstance(value, str):
            return line(value)
        shown = format_count(value) if self.kind == "count" else format_bytes(value, unit, label=False)
        return f"≥ {shown}" if self.key == "total" and report.estimate.is_lower_bound else shown


def _group(group: Group) -> Callable[[Report], int | None]:
    return lambda report: report.estimate.group(group)


def _seq(report: Report) -> str:
    """Tokens of a sequence; pipelines and networks for images have none."""
    return "" if report.model.lengthless else f"{report.scenario.seq}"


COLUMNS: Final[tuple[Column, ...]] = (
    Column(key="model", title="model", value=lambda report: report.name, kind="word", rank=0),
    Column(
        key="parameters",
        title="parameters",
        value=lambda report: report.parameters.total if report.parameters else None,
        kind="count",
        rank=4,
    ),
    Column(key="dtype", title="dtype", value=lambda report: report.scenario.dtype, kind="word", rank=6),
    Column(key="seq", title="seq", value=_seq, kind="word", rank=8),
    Column(key="weights", title="weights", value=_group("weights"), kind="bytes", rank=2),
    Column(key="kv_cache", title="KV cache", value=_group("kv_cache"), kind="bytes", rank=3),
    Column(key="activations", title="activations", value=_group("activations"), kind="bytes", rank=7),
    Column(key="overhead", title="overhead", value=_group("overhead"), kind="bytes", rank=9),
    Column(key="gradients", title="gradients", value=_group("gradients"), kind="bytes", rank=10),
    Column(key="optimizer", title="optimizer", value=_group("optimizer"), kind="bytes", rank=11),
    Column(key="master_weights", title="master weights", value=_group("master_weights"), kind="bytes", rank=12),
    Column(key="temporary", title="temporary", value=_group("temporary"), kind="bytes", rank=13),
    Column(key="total", title="total", value=lambda report: report.estimate.known_total, kind="bytes", rank=1),
    Column(key="download", title="download", value=lambda report: report.download.nbytes, kind="bytes", rank=5),
)

SORT_KEYS: Final = tuple(column.key for column in COLUMNS)


def sorted_reports(reports: list[Report], key: str) -> list[Report]:
    """The reports in ascending order of a column; unknown figures last."""
    column = next(column for column in COLUMNS if column.key == key)

    def order(report: Report) -> tuple[bool, int | str]:
        value = int(report.scenario.seq) if key == "seq" else column.value(report)
        return value is None, value if value is not None else 0

    return sorted(reports, key=order)
