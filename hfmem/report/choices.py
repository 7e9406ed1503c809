"""The quantisations of a repository in reports: a table, and `choices` in JSON."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from tabulate import tabulate

from hfmem.advice.values import Candidate
from hfmem.report.escapes import line, markdown_cell
from hfmem.report.fit import fit_dict, machine_name
from hfmem.report.width import fold, left_out, narrowed, shortened, widest
from hfmem.units import format_bytes

if TYPE_CHECKING:
    from hfmem.advice.values import Fit

__all__ = ["Column", "choice_dicts", "choice_lines", "choice_markdown", "columns_of", "placed", "table_of"]

_MARK: Final = "*"
_WIDEST: Final = 100
_LONGEST: Final = 24  # characters of a quantisation's name, which may be a file's
_SHORTEST: Final = 16  # characters of a file's name


def placed(fit: Fit) -> str:
    """The cell of an accelerator: whether the whole model fits, or which part of it."""
    some = fit.offload
    if fit.fits or fit.verdict in ("refused", "unknown"):
        return {"fits": "whole", "tight": "whole, tight", "unknown": "?"}.get(fit.verdict, fit.verdict)
    if some is None:
        return "no"
    if not some.held:
        return "no, RAM too small"
    if some.experts_on_host:
        return f"experts of {some.experts_on_host} layers in RAM"
    return f"{some.layers} of {some.of} layers"


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """A column with its heading, its cells, and its rank: narrow terminals drop the highest first."""

    title: str
    text: Callable[[Candidate], str]
    rank: int
    word: bool = False


def choice_lines(rows: Sequence[Candidate], unit: str, width: int | None) -> Iterator[str]:
    """The table; columns that do not fit are dropped, and listed below it."""
    columns = columns_of(rows, unit)
    longest = max(len(row.file) for row in rows)
    for length in range(longest, min(longest, _SHORTEST) - 1, -1):
        shown = [*columns, _file(length)]
        if width is None or widest(table_of(rows, shown, "simple")) <= width:
            break
    text, out = narrowed(shown, lambda some: table_of(rows, some, "simple"), width, lambda column: column.rank, kept=2)
    yield from text.splitlines()
    if out:
        names = [column.title.replace("\n", " ") for column in shown if column in out]
        yield from fold(left_out(names, "json"), width or _WIDEST).splitlines()


def choice_markdown(rows: Sequence[Candidate], unit: str) -> str:
    """The table in GitHub's Markdown."""
    columns = [*columns_of(rows, unit), _file(max(len(row.file) for row in rows))]
    return table_of(rows, columns, "github")


def columns_of(rows: Sequence[Candidate], unit: str) -> list[Column]:
    """All columns except the file name: the mark of the chosen one, its name, then figures."""
    found = [
        Column(title="", text=lambda row: _MARK if row.chosen else "", rank=0, word=True),
        Column(title="quant", text=lambda row: shortened(line(row.word), _LONGEST), rank=0, word=True),
        Column(title="bits", text=_bits, rank=5),
        Column(title=f"download\n({unit})", text=lambda row: _size(row, unit), rank=3),
    ]
    if any(row.estimate is not None for row in rows):  # none in training
        found.append(Column(title=f"total\n({unit})", text=lambda row: _total(row, unit), rank=1))
    names = list(dict.fromkeys(machine_name(fit) for row in rows for fit in row.fits))
    for rank, name in enumerate(names, 2):
        found.append(Column(title=name, text=_on(name), rank=rank, word=True))
    if any(row.max_seq is not None for row in rows):
        first = f"on {names[0]}" if len(names) > 1 else "up to"
        found.append(Column(title=f"context\n{first}", text=_context, rank=4))
    return found


def _file(length: int) -> Column:
    return Column(title="file", text=lambda row: shortened(line(row.file), length), rank=6, word=True)


def _bits(row: Candidate) -> str:
    return "?" if row.bits_per_weight is None else f"{row.bits_per_weight:.2f}"


def _size(row: Candidate, unit: str) -> str:
    return "?" if row.nbytes is None else format_bytes(row.nbytes, unit, label=False)


def _total(row: Candidate, unit: str) -> str:
    if row.estimate is None or row.estimate.known_total is None:
        return "?"
    sign = "≥ " if row.estimate.is_lower_bound else "~" if row.derived else ""
    return sign + format_bytes(row.estimate.total, unit, label=False)


def _on(name: str) -> Callable[[Candidate], str]:
    """The cells of one accelerator."""
    return lambda row: next((placed(fit) for fit in row.fits if machine_name(fit) == name), "?")


def _context(row: Candidate) -> str:
    return "?" if row.max_seq is None else f"{row.max_seq:,}" if row.max_seq else "none"


def table_of(rows: Sequence[Candidate], columns: Sequence[Column], style: str) -> str:
    """The table in a style of tabulate."""
    titles = [column.title for column in columns]
    cells = [[column.text(row) for column in columns] for row in rows]
    if style == "github":
        titles = [markdown_cell(title.replace("\n", " ")) for title in titles]
        cells = [[markdown_cell(cell) for cell in row] for row in cells]
    alignment = ["left" if column.word else "right" for column in columns]
    text = tabulate(cells, headers=titles, tablefmt=style, disable_numparse=True, colalign=alignment)
    return "\n".join(row.rstrip() for row in text.splitlines())


def choice_dicts(rows: Sequence[Candidate], model: str) -> list[dict[str, Any]] | None:
    """`choices` in JSON; null if there is nothing to choose from."""
    return [_dict(row, model) for row in rows] or None


def _dict(row: Candidate, model: str) -> dict[str, Any]:
    estimate = row.estimate
    certainty = "unknown" if estimate is None else "derived" if row.derived else "exact"
    name = row.model or model
    return {
        "model": name,
        "asked": f"{name}:{row.word}" if row.word else name,
        "relation": row.relation or None,
        "form": row.form or None,
        "runtime": row.runtime or None,
        "file": row.file,
        "quant": row.quant or None,
        "bits_per_weight": None if row.bits_per_weight is None else round(row.bits_per_weight, 4),
        "bytes": row.nbytes,
        "total": estimate.known_total if estimate else None,
        "total_is_lower_bound": estimate.is_lower_bound if estimate else True,
        "certainty": certainty,
        "fits": [fit_dict(fit) for fit in row.fits],
        "max_seq": row.max_seq,
        "n_gpu_layers": row.n_gpu_layers,
        "chosen": row.chosen,
        "unknown": row.unknown or None,
    }
