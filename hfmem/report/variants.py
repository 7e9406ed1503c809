"""The forms of a base model: a table, Markdown, CSV, and `variants` of JSON."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final

from hfmem.advice.values import Candidate, Variants
from hfmem.report.choices import Column, choice_dicts, columns_of, table_of
from hfmem.report.escapes import csv_cell, line
from hfmem.report.fit import machine_name
from hfmem.report.values import Report
from hfmem.report.width import fold, left_out, narrowed, shortened, widest

__all__ = ["to_variants", "unlisted", "variants_csv", "variants_dict"]

_WIDEST: Final = 100
_SHORTEST: Final = 20  # characters of a repository's name
_REASONS: Final = 8  # sentences below a table; JSON and CSV have all
_COLUMNS: Final = (
    "relation",
    "model",
    "file",
    "form",
    "runtime",
    "bits_per_weight",
    "bytes",
    "total",
    "total_is_lower_bound",
    "certainty",
    "max_seq",
    "unknown",
)
_PLURALS: Final = {
    "quantized": "quantised repositories",
    "adapter": "adapters",
    "finetune": "finetunes",
    "merge": "merges",
}


def to_variants(reports: Sequence[Report], unit: str, width: int | None, *, style: str = "simple") -> str:
    """A table for each base model: itself, then its forms."""
    return "\n\n".join("\n".join(_lines(report, unit, width, style)) for report in reports)


def _lines(report: Report, unit: str, width: int | None, style: str) -> Iterator[str]:
    found = report.variants
    if found is None:
        return
    tokens = "" if report.model.pipeline is not None else f" × {report.scenario.seq:,} tokens"
    forms = len(found.rows) - 1
    what = f"{line(report.name)}: {forms:,} {'form' if forms == 1 else 'forms'}, batch {report.scenario.batch}{tokens}"
    yield fold(what, width or _WIDEST)
    yield ""
    yield from _table(found.rows, unit, width, style).splitlines()
    reasons = [f"- {line(_name(row))}: {line(row.unknown)}" for row in found.rows if row.unknown]
    if reasons:
        yield ""
    for reason in reasons[:_REASONS]:
        yield fold(reason, width or _WIDEST)
    if len(reasons) > _REASONS:
        yield f"and {len(reasons) - _REASONS:,} more reasons: --format json or csv has them"


def _name(row: Candidate) -> str:
    return f"{row.model}:{row.file}" if row.file and row.estimate is None else row.model


def _table(rows: Sequence[Candidate], unit: str, width: int | None, style: str) -> str:
    figures = [column for column in columns_of(rows, unit) if column.title not in ("", "quant")]
    longest = max(len(line(row.model)) for row in rows)
    shown: list[Column] = []
    for length in range(longest, min(longest, _SHORTEST) - 1, -1):
        shown = [_model(length), _FORM, *figures, _RELATION]
        if width is None or style != "simple" or widest(table_of(rows, shown, style)) <= width:
            break
    if width is None or style != "simple":
        return table_of(rows, shown, style)
    text, out = narrowed(shown, lambda some: table_of(rows, some, style), width, lambda column: column.rank, kept=2)
    told = [left_out([column.title.replace("\n", " ") for column in shown if column in out], "csv")] if out else []
    return "\n".join([text, *(fold(each, width) for each in told)])


def _model(length: int) -> Column:
    return Column(title="model", text=_shortened(length), rank=0, word=True)


def _shortened(length: int) -> Callable[[Candidate], str]:
    return lambda row: shortened(line(row.model), length)


_FORM: Final = Column(
    title="form", text=lambda row: line(row.form) or ("failed" if row.estimate is None else "?"), rank=0, word=True
)
_RELATION: Final = Column(title="relation", text=lambda row: row.relation, rank=6, word=True)


def unlisted(report: Report) -> Iterator[str]:
    """Sentences on what a list of forms lacks."""
    found = report.variants
    if found is None:
        return
    if found.reason:
        yield (
            f"The forms of {report.name} are those in the bundled catalog ({found.reason}): there may be more. It does "
            "not know which GGUF files a repository has: they are those that llama.cpp's tools make."
        )
    if found.more:
        kinds = [_PLURALS.get(relation, relation) for relation in found.more]
        words = " and ".join([", ".join(kinds[:-1]), kinds[-1]] if len(kinds) > 1 else kinds)
        where = "on the Hub" if found.source == "hub" else "in the catalog"
        yield (
            f"There are more {words} of {report.name} {where} than the {found.most:,} repositories that are listed: "
            "--most-variants N lists more."
        )


def variants_dict(found: Variants) -> dict[str, Any]:
    """`variants` of JSON: how complete `choices` is."""
    return {"source": found.source, "reason": found.reason or None, "most": found.most, "more": list(found.more)}


def variants_csv(reports: Sequence[Report]) -> str:
    """A line for each form of each model, with the verdict on each given accelerator."""
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    every = [(report, row) for report in reports if report.variants for row in report.variants.rows]
    machines = list(dict.fromkeys(machine_name(fit) for _, row in every for fit in row.fits))
    named = [f"{what}: {name}" for name in machines for what in ("verdict", "headroom", "max_seq")]
    writer.writerow(["base", *_COLUMNS, *map(csv_cell, named)])
    for report, row in every:
        (found,) = choice_dicts([row], report.name) or [{}]
        cells = [report.name, *(found[name] for name in _COLUMNS)]
        for name in machines:
            fit = next((fit for fit in row.fits if machine_name(fit) == name), None)
            cells += ["", "", ""] if fit is None else [fit.verdict, fit.headroom, fit.max_seq]
        writer.writerow(map(csv_cell, cells))
    return stream.getvalue().rstrip("\n")
