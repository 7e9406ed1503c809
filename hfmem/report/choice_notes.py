"""What is to be known of a report on one of several quantisations, in sentences."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import PurePath

from hfmem.advice.values import Candidate
from hfmem.errors import shortened
from hfmem.fetcher.values import Checkpoint
from hfmem.options.otherwise import Otherwise

__all__ = ["choice_notes"]


def choice_notes(rows: Sequence[Candidate], checkpoint: Checkpoint) -> tuple[str, ...]:
    """Which quantisation the report is about and how another is named; how the others are known; which are not."""
    chosen = next(row for row in rows if row.chosen)
    other = _next(rows, chosen)
    local, model = checkpoint.source == "local", checkpoint.ref.model_id
    how = f"{PurePath(model, other.file)} or --quant {other.word}" if local else f"{model}:{other.word}"
    whole = chosen.first is not None and chosen.first.verdict == "fits"
    why = f"the largest that fits whole on {chosen.first.gpu.name}" if whole and chosen.first else "the default"
    notes: list[str] = [
        Otherwise(f"Of {len(rows)} quantisations this is {chosen.file}, {why}. Name another, as in {how}.")
    ]
    if any(row.derived for row in rows):
        notes.append(
            "Totals with ~ are derived: weights from the size of the file, the rest from the one header that was read, "
            "of which it is the same. Naming a quantisation reads its own."
        )
    unknown = [f"{row.file}: {row.unknown}" for row in rows if row.unknown]
    notes += [f"Not known of {'; '.join(unknown)}."] if unknown else []
    return tuple(map(_kept, notes))


def _next(rows: Sequence[Candidate], chosen: Candidate) -> Candidate:
    """One to show how others are named: the next smaller, else the next larger, of those that are known."""
    at = rows.index(chosen)
    others = [*reversed(rows[:at]), *rows[at + 1 :]]
    return next((row for row in others if row.estimate is not None), others[0])


def _kept(note: str) -> str:
    """A note of usual length; the mark on it stays."""
    short = shortened(note)
    return Otherwise(short) if isinstance(note, Otherwise) else short
