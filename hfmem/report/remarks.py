"""What of the remarks is told beside an output that has no place for remarks."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

from hfmem.options.otherwise import Otherwise
from hfmem.report.formats import FORMATS
from hfmem.report.values import Report

__all__ = ["untold"]

_NAMED: Final = 3  # models of a remark


def untold(reports: Sequence[Report], output: str, *, several: bool) -> Iterator[str]:
    """Remarks that an answer is of something else than was asked, each sentence once, with the models that it is about;
    nothing where the output has them itself."""
    kind = FORMATS[output]
    if kind.notes and (kind.json or not several):
        return
    about: dict[str, list[str]] = {}
    for report in reports:
        for note in report.notes:
            if isinstance(note, Otherwise):
                about.setdefault(note, []).append(report.checkpoint.ref.model_id)
    for sentence, models in about.items():
        more = f" and {len(models) - _NAMED} more" if len(models) > _NAMED else ""
        yield sentence if len(models) == len(reports) else f"{', '.join(models[:_NAMED])}{more}: {sentence}"
