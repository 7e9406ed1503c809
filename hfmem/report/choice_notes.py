"""Notes of a report on one of several quantisations."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import PurePath
from typing import TYPE_CHECKING

from hfmem.errors import shortened
from hfmem.fetcher.values import Checkpoint
from hfmem.options.otherwise import Otherwise

if TYPE_CHECKING:
    from hfmem.advice.values import Candidate

__all__ = ["choice_notes"]


def choice_notes(rows: Sequence[Candidate], checkpoint: Checkpoint, *, read: bool = True) -> tuple[str, ...]:
    """Which quantisation the report is about, how to select another, how totals were derived, which are unknown.

    Args:
        rows: the quantisations.
        checkpoint: of the chosen one.
        read: whether a header was read, from which the others are derived.
    """
    chosen = next(row for row in rows if row.chosen)
    other = _next(rows, chosen)
    local, model = checkpoint.source == "local" and read, checkpoint.ref.model_id
    how = f"{PurePath(model, other.file)} or --quant {other.word}" if local else f"{model}:{other.word}"
    whole = chosen.first is not None and chosen.first.verdict == "fits"
    why = f"the largest that fits whole on {chosen.first.gpu.name}" if whole and chosen.first else "the default"
    notes: list[str] = [
        Otherwise(f"Of {len(rows)} quantisations, this is {chosen.file}, {why}. To select another: {how}.")
    ]
    if read and any(row.derived for row in rows):
        notes.append(
            "Totals with ~ are derived from the file size and the one header that was read; selecting a quantisation "
            "reads its own header."
        )
    unknown = [f"{row.file}: {row.unknown}" for row in rows if row.unknown]
    notes += [f"Unknown totals: {'; '.join(unknown)}."] if unknown else []
    return tuple(map(_kept, notes))


def _next(rows: Sequence[Candidate], chosen: Candidate) -> Candidate:
    """An example of another quantisation: the next smaller one with a total, else the next larger."""
    at = rows.index(chosen)
    others = [*reversed(rows[:at]), *rows[at + 1 :]]
    return next((row for row in others if row.estimate is not None), others[0])


def _kept(note: str) -> str:
    """A note with long names shortened, and its mark kept."""
    short = shortened(note)
    return Otherwise(short) if isinstance(note, Otherwise) else short
