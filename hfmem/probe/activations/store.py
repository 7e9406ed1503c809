"""Reads and writes the whole file of measured coefficients, in lines that give readable diffs.

The types come first, each with the facts for all its modes, followed by one line per set of modes with equal
coefficients. Then come the parts that these lines refer to (layers, heads, lists of linear modules), named by a digest
of their contents, so that equal parts of several types are stored once and a diff shows only the changed ones.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

__all__ = ["read", "write"]

Row = dict[str, Any]

_REGIMES = ("modes", "within")
_FORWARD = "forward"
_PARTS = ("head", "encoder")


def read(path: Path) -> dict[str, Row]:
    """All rows of a file by type, with references to parts resolved."""
    rows: dict[str, Row] = {}
    parts: dict[str, Row] = {}
    for line in path.read_text(encoding="ascii").splitlines()[1:] if path.exists() else ():
        found: Row = json.loads(line)
        if "type" in found:
            rows[found["type"]] = found if "same_as" in found else {**found, "blocks": [], "modes": {}, "within": {}}
        elif "of" in found:
            _put(rows[found.pop("of")], found)
        else:
            parts[found.pop("part")] = found
    for part in parts.values():
        if isinstance(part.get(_FORWARD), str):
            part[_FORWARD] = parts[part[_FORWARD]]["moments"]
    for row in rows.values():
        for block in row.get("blocks", ()):
            block |= {key: parts[block[key]] for key in _PARTS if key in block}
            block["layers"] = {name: parts[part] for name, part in block["layers"].items()}
            if "linears" in block:
                block["linears"] = {name: parts[part]["linears"] for name, part in block["linears"].items()}
    return rows


def _put(row: Row, block: Row) -> None:
    for regime in _REGIMES:
        row[regime] |= dict.fromkeys(block.pop(regime, ()), len(row["blocks"]))
    row["blocks"].append(block)


def write(path: Path, head: Mapping[str, str], rows: Mapping[str, Row]) -> None:
    """Write all rows, after a line of provenance (`head`)."""
    parts: dict[str, Row] = {}
    lines = [line for name in sorted(rows) for line in _lines(rows[name], parts)]
    lines += [_line({"part": name, **parts[name]}) for name in sorted(parts)]
    path.write_text("\n".join([_line(head), *lines]) + "\n", encoding="ascii")


def _lines(row: Row, parts: dict[str, Row]) -> Iterator[str]:
    """The line of a type, then one for each of its blocks."""
    name = row["type"]
    if "same_as" in row:
        yield _line({"type": name, "same_as": row["same_as"]})
        return
    yield _line({"type": name, "fixed": row["fixed"]})
    for number, block in enumerate(row["blocks"]):
        regimes = {regime: [mode for mode, at in row[regime].items() if at == number] for regime in _REGIMES}
        named: Row = {key: _named(block[key], parts) for key in _PARTS if key in block}
        named["layers"] = {kind: _named(part, parts) for kind, part in block["layers"].items()}
        if "linears" in block:
            linears = block["linears"].items()
            named["linears"] = {kind: _named({"linears": items}, parts) for kind, items in linears}
        yield _line({"of": name, **regimes, **block, **named})


def _named(part: Row, parts: dict[str, Row]) -> str:
    """The name of a part: a digest of its contents. The moments of a forward pass are a part of their own."""
    if _FORWARD in part:
        part = {**part, _FORWARD: _named({"moments": part[_FORWARD]}, parts)}
    name = hashlib.blake2s(_line(part).encode(), digest_size=5).hexdigest()
    if parts.setdefault(name, part) != part:
        raise ValueError(f"two parts have the digest {name}")
    return name


def _line(found: Mapping[str, Any]) -> str:
    return json.dumps(found)
