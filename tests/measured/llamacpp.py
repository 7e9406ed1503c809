"""Estimates of llama.cpp against what it printed on real machines: `python -m tests.measured.llamacpp` prints the
table; `--write` puts it into `docs/llamacpp.md`.

`fixtures/measured/llamacpp.jsonl` has the readings of each log with its address; `llamacpp_models.jsonl` the files they
are about. A log that is not compared says why (`skipped`), and so does a reading of it (`apart`); one that is off says
what is known of it (`off`).
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Final

from hfmem.engines.llamacpp.allocator import HOST
from hfmem.engines.llamacpp.memory import Memory, memory_of
from hfmem.engines.llamacpp.options import ALL_LAYERS
from hfmem.engines.llamacpp.placement import Placement
from hfmem.engines.llamacpp.releases import release_of
from hfmem.engines.llamacpp.settings import LlamaSettings
from hfmem.estimator.scenario import Scenario
from hfmem.fetcher.values import Checkpoint
from hfmem.hardware.table import find
from hfmem.mapper.gguf.layout import Blocks, layout_of
from hfmem.mapper.interpret import Model, interpret
from hfmem.units import MIB
from tests.mapper.gguf_models import MODELS, checkpoint

__all__ = ["FIXTURES", "PAGE", "Reading", "model_of", "page", "put", "readings", "rows", "scenario", "shares", "table"]

ROOT: Final = Path(__file__).parents[2]
FIXTURES: Final = ROOT / "fixtures" / "measured"
PAGE: Final = ROOT / "docs" / "llamacpp.md"
WITHIN: Final = {"model": 0.001, "kv": 0.0, "states": 0.0, "compute": 0.1, "output": 0.0}
"""How far an estimate of each kind may be off, as a share; beside what a log rounds."""

_ROUNDED: Final = 0.0051
_CARD: Final = {"CUDA": "H100", "Metal": "M2"}
_NAMES: Final = {
    "model": ("model buffer",),
    "kv": ("KV cache",),
    "states": ("states",),
    "compute": ("compute buffer",),
    "output": ("output buffer",),
}
_END: Final = "<!-- end -->"
Row = dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """A buffer of a log and the estimate of it, in MiB; None where there is no estimate."""

    row: Row
    kind: str
    place: str
    measured: float
    estimated: float | None

    @property
    def error(self) -> float | None:
        """The difference as a share of the reading."""
        return None if self.estimated is None else abs(self.estimated - self.measured) / self.measured

    @property
    def close(self) -> bool:
        """Whether it is as close as it has to be."""
        if self.estimated is None:
            return False
        return abs(self.estimated - self.measured) <= self.measured * WITHIN[self.kind] + _ROUNDED

    @property
    def stated(self) -> bool:
        """Whether the log states the settings that decide it."""
        asked = {"compute": ("n_ctx", "n_ubatch", "flash_attn"), "kv": ("n_ctx",)}.get(self.kind, ())
        return all(name in self.row for name in asked)

    @property
    def reason(self) -> str:
        """Why it is off; "" where nothing is known."""
        if self.estimated is None and self.kind == "compute":
            memory, _ = _estimated(self.row["id"])
            return "; ".join(reason for _, reason in memory.unknown)
        return str(self.row.get("off", {}).get(f"{self.kind} {self.place}", ""))


@cache
def rows() -> tuple[Row, ...]:
    """Every log."""
    return tuple(json.loads(line) for line in (FIXTURES / "llamacpp.jsonl").read_text(encoding="utf-8").splitlines())


@cache
def _files() -> dict[str, Row]:
    lines = (FIXTURES / "llamacpp_models.jsonl").read_text(encoding="utf-8").splitlines()[1:]
    return {row["file"]: row for row in map(json.loads, lines)}


@cache
def model_of(file: str) -> tuple[Checkpoint, Model]:
    """A file of the fixtures, and what it is."""
    row = _files().get(file) or MODELS[file]
    found = checkpoint(row["kv"], ((name, dtype, tuple(shape)) for name, dtype, shape in row["tensors"]), file=file)
    return found, interpret(found)


def _settings(row: Row) -> LlamaSettings:
    release = release_of(row["release"])
    sequences, ubatch = row.get("n_seq_max", 1), row.get("n_ubatch", 512)
    offloaded, layers = map(int, row.get("offloaded", "1/1" if _devices(row)[0] else "0/1").split("/"))
    kind = row.get("cache_type", "f16")
    return LlamaSettings(
        n_ctx=row.get("n_ctx", 4096),
        n_batch=row.get("n_batch", 2048),
        n_ubatch=ubatch,
        n_seq_max=sequences,
        n_outputs=ubatch if release.all_outputs else sequences,
        flash=row.get("flash_attn", True),
        type_k=kind,
        type_v=kind,
        unified=row.get("kv_unified", False),
        n_gpu_layers=ALL_LAYERS if offloaded == layers else offloaded,
        tensor_split=tuple(row.get("tensor_split", ())),
        embeddings=row.get("embeddings", False),
        release=release,
        pins=True,
    )


def _devices(row: Row) -> tuple[int, str]:
    """How many accelerators a log has, and of which kind."""
    places = {place for found in row.get("measured_mib", {}).values() for place in found}
    cards = {place for place in places if place.startswith("CUDA") and place[4:].isdigit()}
    if cards:
        return len(cards), "CUDA"
    return (1, "Metal") if any(place.startswith("Metal") for place in places) else (0, "")


def scenario(kind: str) -> Scenario:
    """On an accelerator of a kind; "" for none."""
    card = find(_CARD[kind]).accelerator if kind else None
    return Scenario(
        mode="inference",
        batch=1,
        seq=4096,
        dtype=None,
        compute_dtype=None,
        kv_dtype=None,
        runtime="llamacpp",
        attention="sdpa",
        method="exact",
        gpu=card,
    )


@cache
def _estimated(identity: str) -> tuple[Memory, Blocks]:
    row = next(row for row in rows() if row["id"] == identity)
    found, model = model_of(row["file"])
    blocks = layout_of(found, model.architecture)
    assert blocks is not None
    count, kind = _devices(row)
    return memory_of(blocks, model.architecture, _settings(row), scenario(kind), count), blocks


def _number(place: str) -> int:
    """The device of a buffer's name."""
    if place.startswith("Metal"):
        return 0
    return int(place[4:]) if place.startswith("CUDA") and place[4:].isdigit() else HOST


def _span(blocks: Blocks, placement: Placement, place: int) -> float:
    """A buffer that is mapped: the span of the file from its first tensor to its last, others between them or not."""
    last = max(number for number, tensor in enumerate(blocks.tensors) if tensor.layer is not None)
    order = sorted(
        enumerate(blocks.tensors),
        key=lambda each: (each[1].layer is None and each[0] > last, each[1].layer is not None, each[1].layer or 0),
    )
    at, first, end = 0, None, 0
    tied = blocks.tied if place != HOST and placement.layers[-1] == place else None
    for _, tensor in order:
        if placement.of(tensor) == place or tensor is tied:
            first = at if first is None else first
            end = at + tensor.nbytes
        at += tensor.nbytes
    return (end - (first or 0)) / MIB


def _of(row: Row, kind: str, place: str) -> float | None:
    memory, blocks = _estimated(row["id"])
    number = _number(place)
    if kind == "model" and place.endswith("_Mapped"):
        return _span(blocks, memory.placement, number)
    found = [term.nbytes for term in memory.terms.get(number, ()) if term.name in _NAMES[kind]]
    return sum(found) / MIB if found else None


def _measured(row: Row) -> Iterator[tuple[str, str, float]]:
    for kind, places in row.get("measured_mib", {}).items():
        for place, size in _joined(places).items():
            yield kind, place, size


def _joined(places: Mapping[str, float]) -> Mapping[str, float]:
    """What is laid out anew for the processor stands in a buffer beside the rest: the two are the file's tensors."""
    if "CPU_REPACK" not in places:
        return places
    rest = {place: size for place, size in places.items() if place not in ("CPU", "CPU_REPACK")}
    return {"CPU": places["CPU"] + places["CPU_REPACK"], **rest}


@cache
def readings() -> tuple[Reading, ...]:
    """Every reading that is compared."""
    return tuple(
        Reading(row=row, kind=kind, place=place, measured=size, estimated=_of(row, kind, place))
        for row in rows()
        if "skipped" not in row and "file" in row
        for kind, place, size in _measured(row)
        if f"{kind} {place}" not in row.get("apart", {}) and kind not in row.get("apart", {})
    )


def shares() -> dict[str, tuple[int, int]]:
    """Of each kind, how many readings whose log states the settings are close, and how many there are."""
    found: dict[str, tuple[int, int]] = {}
    for reading in readings():
        close, every = found.get(reading.kind, (0, 0))
        if reading.stated:
            found[reading.kind] = (close + reading.close, every + 1)
    return found


def _size(size: float | None) -> str:
    return "–" if size is None else f"{size:.2f}"


_KINDS: Final = ("model", "kv", "compute", "output")


def _cells(found: list[Reading]) -> str:
    """Of each kind the reading, and the estimate of it; what a state takes stands with the cache."""
    cells = []
    for kind in _KINDS:
        mine = [each for each in found if each.kind == kind or (kind == "kv" and each.kind == "states")]
        cells.append("<br>".join(f"{_size(each.measured)} / {_size(each.estimated)}" for each in mine))
    return " | ".join(cells)


def _asked(row: Row) -> str:
    """The settings of a log."""
    words = [f"-c {row['n_ctx']}"] if "n_ctx" in row else []
    words += [f"-np {row['n_seq_max']}"] if row.get("n_seq_max", 1) > 1 else []
    words += [f"-ub {row['n_ubatch']}"] if row.get("n_ubatch", 512) != 512 else []
    words += [f"-ngl {row['offloaded']}"] if "offloaded" in row else []
    if "flash_attn" in row:
        words.append("-fa on" if row["flash_attn"] else "-fa off")
    words += [f"-ctk {kind} -ctv {kind}"] if (kind := row.get("cache_type")) else []
    words += [f"-ts {','.join(map(str, row['tensor_split']))}"] if "tensor_split" in row else []
    note = f"; {row['note']}" if "note" in row else ""
    return " ".join(words) + note


def listing() -> str:
    """Every buffer: reading / estimate, by log and place."""
    lines = ["| log | file, software, rules | settings | place | model | KV, states | compute | output |"]
    lines.append("|---|---|---|---|---|---|---|---|")
    for row in rows():
        mine = [reading for reading in readings() if reading.row is row]
        for first, place in enumerate(dict.fromkeys(_place(reading.place) for reading in mine)):
            head = f"[{row['id'][-3:]}]({row['source_url']}) | {row['file'].removesuffix('.gguf')}, {row['software']}, "
            head += f"{row['release']} | {_asked(row)}"
            here = [reading for reading in mine if _place(reading.place) == place]
            lines.append(f"| {head if not first else ' | | '} | {place} | {_cells(here)} |")
    return "\n".join(lines)


def _place(name: str) -> str:
    """A device, or the host with everything that lies there."""
    return "host" if _number(name) == HOST else name.removesuffix("_Mapped")


def summary() -> str:
    """How many readings of each kind are close."""
    asked = {"model": "0.1 %", "kv": "equal", "states": "equal", "compute": "10 %", "output": "equal"}
    lines = ["| buffer | readings | within | are so |", "|---|---|---|---|"]
    lines += [f"| {kind} | {every} | {asked[kind]} | {close} |" for kind, (close, every) in shares().items()]
    return "\n".join(lines)


def off() -> str:
    """Readings that are off or are not compared, and logs that are not, each with its reason."""
    lines = ["| log | buffer | why |", "|---|---|---|"]
    for row in rows():
        name = f"[{row['id'][-3:]}]({row['source_url']})"
        if "skipped" in row:
            lines.append(f"| {name} | all | not compared: {row['skipped']} |")
        lines += [f"| {name} | {what} | not compared: {why} |" for what, why in row.get("apart", {}).items()]
        for reading in (each for each in readings() if each.row is row and not each.close):
            lines.append(f"| {name} | {reading.kind}, {reading.place} | {reading.reason} |")
    return "\n".join(lines)


def table() -> str:
    """What the page has between its marks."""
    return f"{summary()}\n\n{off()}\n\n{listing()}"


def put(text: str, command: str, found: str) -> str:
    """A page with a table between the marks of the command that makes it."""
    begin = f"<!-- python -m tests.measured.{command} -->"
    before, rest = text.split(begin)
    return f"{before}{begin}\n{found}\n{_END}{rest.split(_END, 1)[1]}"


def page() -> str:
    """The page with the table as it is now."""
    return put(PAGE.read_text(encoding="utf-8"), "llamacpp", table())


if __name__ == "__main__":
    if "--write" in sys.argv:
        PAGE.write_text(page(), encoding="utf-8")
    print(table())
