"""Statistics of PyTorch's caching allocator: `torch.cuda.memory_stats()` as JSON or as Python prints it, and the pickle
that `torch.cuda.memory._dump_snapshot` writes, of which nothing is run.

Source: PyTorch 2.13 `torch/cuda/memory.py` (names of statistics, layout of a snapshot: `segments` with their
`total_size`, `allocated_size` and `blocks`, and `device_traces` with the actions `alloc` and `free_completed`).
"""

from __future__ import annotations

import ast
import json
from collections.abc import Iterator, Mapping
from typing import Any, Final

from hfmem.against.values import Log, Reading
from hfmem.fetcher.formats.pickled.opcodes import Items, PickleError, load

__all__ = ["may_be_statistics", "statistics"]

_PEAKS: Final = {"allocated_bytes.all.peak": "allocated", "reserved_bytes.all.peak": "reserved"}
_PICKLE: Final = b"\x80"
_LARGEST: Final = 2**50  # bytes; more is no size


def may_be_statistics(head: bytes) -> bool:
    """Whether a file that begins so may be one of statistics."""
    return head.startswith(_PICKLE) or head.lstrip().startswith((b"{", b"OrderedDict("))


def statistics(name: str, content: bytes) -> Log | None:
    """What a file of statistics says; None where it is none."""
    if content.startswith(_PICKLE):
        return _snapshot(name, content)
    if not content.lstrip().startswith((b"{", b"OrderedDict(")):
        return None
    found = _mapping(content.decode("utf-8", errors="replace").strip())
    if found is None:
        return None
    readings = [
        Reading(what="allocated" if what == "allocated" else "reserved", value=float(found[key]))
        for key, what in _PEAKS.items()
        if isinstance(found.get(key), int | float) and 0 <= found[key] < _LARGEST
    ]
    return Log(name=name, software="torch", readings=tuple(readings)) if readings else None


def _mapping(text: str) -> Mapping[str, Any] | None:
    """A dictionary in JSON or as Python prints it; None where it is none."""
    if text.startswith("OrderedDict("):
        text = text.removeprefix("OrderedDict(").removesuffix(")")
    for read in (json.loads, ast.literal_eval):
        try:
            found = read(text)
        except (ValueError, SyntaxError, MemoryError, RecursionError, TypeError):
            continue
        if isinstance(found, list) and all(isinstance(pair, tuple) and len(pair) == 2 for pair in found):
            found = dict(found)
        return found if isinstance(found, Mapping) else None
    return None


def _snapshot(name: str, content: bytes) -> Log | None:
    """A snapshot: what is held now, and the peak of the history that it has."""
    try:
        whole, _ = load(content)
    except PickleError:
        return None
    segments = list(_listed(_field(whole, "segments")))
    held: dict[int, int] = {}
    reserved: dict[int, int] = {}
    for segment in segments:
        device = _number(_field(segment, "device"))
        held[device] = held.get(device, 0) + _number(_field(segment, "allocated_size"))
        reserved[device] = reserved.get(device, 0) + _number(_field(segment, "total_size"))
    if not any(reserved.values()):
        return None
    device = max(reserved, key=lambda number: reserved[number])
    traces = list(_listed(_field(whole, "device_traces")))
    events = list(_listed(traces[device])) if device < len(traces) else []
    peak = _peak(held.get(device, 0), events)
    readings = (
        Reading(what="allocated", value=float(peak)),
        Reading(what="reserved", value=float(reserved[device])),
    )
    return Log(name=name, software="torch", readings=readings, facts=() if events else ("current_only",))


def _peak(now: int, events: list[Any]) -> int:
    """The highest sum of allocations, from the last one backwards."""
    most = now
    for event in reversed(events):
        action, size = _field(event, "action"), _number(_field(event, "size"))
        if action == "alloc":
            now -= size
        elif action in ("free_completed", "free"):
            now += size if action == "free_completed" else 0
        most = max(most, now)
    return most


def _field(value: Any, name: str) -> Any:
    """A value of a dictionary in a pickle; None where there is none."""
    if isinstance(value, Items) and value.mapping:
        return next((each for key, each in value.pairs if key == name), None)
    return None


def _listed(value: Any) -> Iterator[Any]:
    if isinstance(value, Items) and not value.mapping:
        yield from (each for _, each in value.pairs)


def _number(value: Any) -> int:
    plain = isinstance(value, int) and not isinstance(value, bool) and 0 <= value < _LARGEST
    return value if plain else 0
