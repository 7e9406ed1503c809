"""Files of rows that are written as they come: JSON lines, CSV and Parquet.

A row is one line, written at once, so a process that is killed leaves whole rows and at most the beginning of one.
Parquet has its index at the end, so rows are first lines of JSON in a file beside it (`.NAME.rows`), from which it is
written when the run ends, is interrupted, or goes on and then ends.
"""

from __future__ import annotations

import csv
import io
import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import IO, Any, Final, Protocol

from hfmem.report.escapes import csv_cell, line
from hfmem.report.flat import Kind
from hfmem.scan.locks import locked

__all__ = ["RowFile", "Rows", "begun", "opened"]

_GROUP: Final = 65_536  # rows of a group in Parquet

Row = dict[str, Any]


class RowFile:
    """A file of rows, each of which is a line.

    Args:
        path: the file; what is there is kept, without a last line that is not whole.
        kinds: the columns.
    """

    def __init__(self, path: Path, kinds: Mapping[str, Kind]) -> None:
        self.path, self.kinds = path, kinds
        self._file: IO[bytes] = path.open("a+b")  # what is written goes to the end
        try:
            locked(self._file.fileno())
            self._whole()
        except BaseException:
            self._file.close()
            raise

    def rows(self) -> Iterator[tuple[int, Row]]:
        """Each row with the place where it begins. Values may be text (CSV).

        Raises:
            ValueError: a line is no row.
        """
        self._file.seek(0)
        place = 0
        for text in self._file:
            if place or not self._heading():
                yield place, self._read(text)
            place += len(text)

    def append(self, rows: Sequence[Row], part: int = 0) -> None:  # noqa: ARG002 - a line is its own part
        """Write rows at the end, at once.

        Raises:
            OSError: they cannot be written.
        """
        self._file.write(b"".join(map(self._written, rows)))
        self._file.flush()

    def settle(self, places: Iterable[int]) -> None:
        """Keep the rows that begin at these places, in this order, and no others."""
        beside = self.path.with_name(f".{self.path.name}.new")
        beside.unlink(missing_ok=True)
        file = beside.open("a+b")
        locked(file.fileno())
        file.write(self._heading())
        for place in places:
            self._file.seek(place)
            file.write(self._file.readline())
        file.flush()
        beside.replace(self.path)
        self._file.close()
        self._file = file

    def close(self) -> None:
        """Close it."""
        self._file.close()

    def _whole(self) -> None:
        """Cut what was not written whole, and write the heading of an empty file."""
        end = self._file.seek(0, os.SEEK_END)
        while end:
            begin = max(0, end - 2**16)
            self._file.seek(begin)
            found = self._file.read(end - begin).rfind(b"\n")
            if found >= 0:
                end = begin + found + 1
                break
            end = begin
        self._file.truncate(end)
        self._file.seek(0)
        heading = self._heading()
        if not end:
            self._file.write(heading)
            self._file.flush()
        elif heading and self._file.readline() != heading:
            raise ValueError("it has other columns")

    def _heading(self) -> bytes:
        return b""

    def _written(self, row: Row) -> bytes:
        return json.dumps(row, ensure_ascii=False, separators=(",", ":")).encode() + b"\n"

    def _read(self, text: bytes) -> Row:
        found = json.loads(text)
        if not isinstance(found, dict):
            raise TypeError("a line is no row")
        return found


class _Csv(RowFile):
    def _heading(self) -> bytes:
        return self._cells(self.kinds)

    def _written(self, row: Row) -> bytes:
        values = (row[name] for name in self.kinds)
        return self._cells(line(value) if isinstance(value, str) else value for value in values)

    @staticmethod
    def _cells(values: Iterable[Any]) -> bytes:
        text = io.StringIO()
        csv.writer(text, lineterminator="\n").writerow([csv_cell(value) for value in values])
        return text.getvalue().encode("utf-8", "backslashreplace")

    def _read(self, text: bytes) -> Row:
        cells = next(csv.reader([text.decode()]))
        bare = (cell[1:] if cell.startswith("'") else cell for cell in cells)
        found: Row = dict(zip(self.kinds, bare, strict=True))
        return found


class _Parquet(RowFile):
    """Lines of JSON beside the file, from which it is written in the end."""

    def __init__(self, path: Path, kinds: Mapping[str, Kind]) -> None:
        from pyarrow import parquet  # of the extra [scale]

        self._arrow, self._named = parquet, path
        rows = path.with_name(f".{path.name}.rows")
        if path.exists() and not rows.exists():
            beside = path.with_name(f".{path.name}.new")
            with parquet.ParquetFile(path) as found, beside.open("wb") as file:
                for batch in found.iter_batches(_GROUP):
                    file.writelines(self._written(row) for row in batch.to_pylist())
            beside.replace(rows)
        super().__init__(rows, kinds)

    def close(self) -> None:
        """Write the table, and remove the lines that it was written from."""
        import pyarrow

        from hfmem.scan.batches import schema_of

        beside = self._named.with_name(f".{self._named.name}.new")
        schema = schema_of(self.kinds)
        rows = (row for _, row in self.rows())
        with self._arrow.ParquetWriter(beside, schema) as writer:
            while group := list(islice(rows, _GROUP)):
                writer.write_table(pyarrow.Table.from_pylist(group, schema=schema))
        beside.replace(self._named)
        super().close()
        self.path.unlink()


class Rows(Protocol):
    """What rows are written to."""

    def rows(self) -> Iterator[tuple[int, Row]]:
        """Each row with its place."""

    def append(self, rows: Sequence[Row], part: int) -> None:
        """Write the rows of a part of the run."""

    def settle(self, places: Iterable[int]) -> None:
        """Keep the rows at these places, in this order as far as it has one, and no others."""

    def close(self) -> None:
        """Finish it."""


def opened(path: Path, kinds: Mapping[str, Kind], *, parts: bool = False) -> Rows:
    """The file, or the folder of parts, new or with what it has.

    Raises:
        BlockingIOError: another run writes to it.
        OSError: it cannot be written.
        ValueError: it is no such file, or has other columns.
    """
    if parts:
        from hfmem.scan.parts import PartFiles

        return PartFiles(path, kinds)
    kind = {".csv": _Csv, ".parquet": _Parquet}.get(path.suffix.lower(), RowFile)
    return kind(path, kinds)


def begun(path: Path) -> bool:
    """Whether an earlier run has written rows."""
    if path.is_dir():
        return any(path.iterdir())
    return path.exists() or path.with_name(f".{path.name}.rows").exists()
