"""The lines of `data/catalog.jsonl`: one of provenance, then one per model, sorted by id."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

from hfmem.fetcher.catalog import Provenance
from hfmem.fetcher.patterns import Row
from hfmem.fetcher.values import Names

__all__ = ["CATALOG", "Entry", "read", "write"]

CATALOG: Final = Path(__file__).parent.parent.parent / "data" / "catalog.jsonl"
SCHEMA: Final = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One model of the catalog.

    Attributes:
        model: its id on the Hub.
        aliases: older ids that the Hub redirects to it.
        commit: the Hub commit of the config and tensors, if known.
        names: whether the tensor names are recorded from an index, derived from the class, or those of the class.
        source: the source of the config, and how the tensor table was made.
        config: the relevant keys of config.json.
        tensors: tensor rows in the compact form of `hfmem.fetcher.patterns`.
        processing: settings of the processor's files, by name.
        published: element counts published elsewhere, and named differences from the rows.
    """

    model: str
    names: Names
    source: Provenance
    config: dict[str, Any]
    tensors: tuple[Row, ...]
    aliases: tuple[str, ...] = ()
    commit: str | None = None
    processing: dict[str, Any] = field(default_factory=dict)
    published: dict[str, Any] = field(default_factory=dict)

    def line(self) -> str:
        """The entry as a line, with `model` first, so that a reader can find it without parsing all lines."""
        values: dict[str, Any] = {"model": self.model}
        if self.aliases:
            values["aliases"] = list(self.aliases)
        if self.commit:
            values["commit"] = self.commit
        values |= {
            "names": self.names,
            "source": {name: value for name, value in asdict(self.source).items() if value},
            "config": self.config,
            "tensors": [[name, dtype, list(shape)] for name, dtype, shape in self.tensors],
        }
        if self.processing:
            values["processing"] = self.processing
        if self.published:
            values["published"] = self.published
        return json.dumps(values, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def read(path: Path = CATALOG) -> dict[str, Entry]:
    """The catalog by model id; empty if the file does not exist yet."""
    if not path.exists():
        return {}
    lines = path.read_text(encoding="utf-8").splitlines()[1:]
    return {entry.model: entry for entry in map(_parse, lines)}


def _parse(line: str) -> Entry:
    values = json.loads(line)
    values["tensors"] = tuple((name, dtype, tuple(shape)) for name, dtype, shape in values["tensors"])
    values["aliases"] = tuple(values.get("aliases", ()))
    values["source"] = Provenance(**values["source"])
    return Entry(**values)


def write(entries: Iterable[Entry], versions: dict[str, str], path: Path = CATALOG) -> None:
    """Write the catalog; `versions` are those of the libraries that the tables were made with."""
    provenance = {"schema": SCHEMA, **versions, "tool": "python -m hfmem.probe.catalog"}
    lines = [json.dumps(provenance, separators=(",", ":"))]
    lines += [entry.line() for entry in sorted(entries, key=lambda entry: entry.model)]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
