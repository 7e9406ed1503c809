"""A folder of Parquet files, one for each part of a list, as a cluster writes it."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from hfmem.report.flat import Kind
from hfmem.scan.locks import locked

__all__ = ["PartFiles"]

_ROWS: Final = 2**32  # more than a part has: a place is its part times this, and the row in it
_TOLD: Final = ("line", "asked", "error", "commit", "options")


class PartFiles:
    """A folder of Parquet files. Each is written under another name at first, so that a run that is killed leaves only
    whole ones.

    Args:
        path: the folder.
        kinds: the columns.

    Raises:
        BlockingIOError: another run writes to it.
        OSError: it cannot be written.
        ValueError: it has files of other columns.
    """

    def __init__(self, path: Path, kinds: Mapping[str, Kind]) -> None:
        import pyarrow  # of the extra [scale]
        from pyarrow import parquet

        from hfmem.scan.batches import schema_of

        self._arrow, self._parquet, self._path, self._schema = pyarrow, parquet, path, schema_of(kinds)
        path.mkdir(exist_ok=True)
        self._held = os.open(path, os.O_RDONLY)
        try:
            locked(self._held)
            self._numbers = self._found()
        except BaseException:
            self.close()
            raise
        self._first = self._numbers[-1] + 1 if self._numbers else 0

    def _found(self) -> list[int]:
        """The numbers of the parts that are there."""
        path = self._path
        for unfinished in path.glob(".part-*"):
            unfinished.unlink()
        numbers = sorted(int(file.stem.removeprefix("part-")) for file in path.glob("part-*.parquet"))
        for number in numbers:
            if self._schema != self._parquet.read_schema(self._file(number)):
                raise ValueError("it has other columns")
        return numbers

    def rows(self) -> Iterator[tuple[int, dict[str, Any]]]:
        """Each row with its place, the older parts first; only the columns that tell what it is of."""
        for number in self._numbers:
            table = self._parquet.read_table(self._file(number), columns=[*_TOLD], partitioning=None)
            for place, row in enumerate(table.to_pylist()):
                yield number * _ROWS + place, row

    def append(self, rows: Sequence[Mapping[str, Any]], part: int) -> None:
        """Write the rows of a part."""
        number = self._first + part
        self._write(number, self._arrow.Table.from_pylist(list(rows), schema=self._schema))
        self._numbers.append(number)

    def settle(self, places: Iterable[int]) -> None:
        """Keep the rows at these places, and no others."""
        kept: dict[int, list[int]] = {}
        for place in places:
            kept.setdefault(place // _ROWS, []).append(place % _ROWS)
        for number in self._numbers:
            if number not in kept:
                self._file(number).unlink()
            elif len(kept[number]) < self._parquet.read_metadata(self._file(number)).num_rows:
                table = self._parquet.read_table(self._file(number), partitioning=None)
                self._write(number, table.take(sorted(kept[number])))
        self._numbers = sorted(kept)

    def close(self) -> None:
        """Let go of it: every part is written when it comes."""
        os.close(self._held)

    def _write(self, number: int, table: Any) -> None:
        beside = self._path / f".{self._file(number).name}"
        self._parquet.write_table(table, beside)
        beside.replace(self._file(number))

    def _file(self, number: int) -> Path:
        return self._path / f"part-{number:06}.parquet"
