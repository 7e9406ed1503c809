"""Writes recorded graphs as lines: a part of a graph (what one layer runs) is written once, whatever has it."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Mapping, Sequence
from itertools import pairwise
from typing import Any, Final

from hfmem.probe.llamacpp.plans import Plan
from hfmem.probe.llamacpp.recording import Recorded
from hfmem.probe.llamacpp.symbols import Formula

__all__ = ["Store", "text_of"]

_BLOCK: Final = re.compile(r"^blk\.(\d+)\.(.+)$")


def text_of(formula: Formula) -> str:
    """A formula as it is written: `4*embedding_length*n_tokens`, parts joined by `+`."""
    parts = ("*".join([*([str(factor)] if factor != 1 or not names else []), *names]) for factor, names in formula)
    return "+".join(parts) or "0"


class Store:
    """Lines of parts and of graphs."""

    def __init__(self) -> None:
        self._parts: dict[str, int] = {}
        self.graphs: list[dict[str, Any]] = []

    def add(
        self, plan: Plan, recorded: Mapping[str, Recorded], names: Sequence[Sequence[str]], kinds: Sequence[str]
    ) -> None:
        """A structure of an architecture, with the names of each layer's tensors, and its kind."""
        settings: dict[str, Any] = {}
        told: dict[str, str] = {}
        for word, graph in recorded.items():
            row = {
                "inputs": [
                    f"{step.name} {text_of(size or ())}"
                    for step, size in zip(graph.steps.inputs, graph.inputs, strict=True)
                ],
                "parts": [self._part(lines) for lines in _parts(graph)],
            }
            written = json.dumps(row)
            if written in told:
                settings[word] = told[written]
            else:
                told[written] = word
                settings[word] = row
        self.graphs.append(
            {
                "architecture": plan.architecture,
                "variant": plan.variant,
                **({"holds": dict(plan.holds)} if plan.holds else {}),
                "kinds": list(kinds),
                "layers": _alike(names),
                "settings": settings,
            }
        )

    def read(self, text: str, *, without: Collection[str]) -> None:
        """What was written before, but of some architectures."""
        parts: dict[int, list[str]] = {}
        for row in map(json.loads, text.splitlines()):
            if "part" in row:
                parts[row["part"]] = row["steps"]
            elif row.get("architecture") not in (None, *without):
                for graph in row["settings"].values():
                    if isinstance(graph, dict):
                        graph["parts"] = [self._part(parts[number]) for number in graph["parts"]]
                self.graphs.append(row)

    def _part(self, lines: Sequence[str]) -> int:
        return self._parts.setdefault("\n".join(lines), len(self._parts))

    def lines(self) -> list[str]:
        """All lines: parts, then graphs."""
        parts = [
            json.dumps({"part": number, "steps": part.split("\n")}, separators=(",", ":"))
            for part, number in self._parts.items()
        ]
        return [*parts, *(json.dumps(graph, separators=(",", ":")) for graph in self.graphs)]


def _alike(names: Sequence[Sequence[str]]) -> list[Any]:
    """The tensors of each layer; a number: as the layer of that number."""
    found: list[Any] = []
    for each in names:
        ordered = sorted(each)
        found.append(found.index(ordered) if ordered in found else ordered)
    return found


def _parts(graph: Recorded) -> list[list[str]]:
    """The steps before the first layer, and those of each layer; the last has what comes after it."""
    begins: dict[int, int] = {}
    for number, step in enumerate(graph.steps.steps):
        for weight in step.weights:
            if match := _BLOCK.match(weight):
                begins.setdefault(int(match[1]), number)
    cuts = sorted(set(begins.values()))
    edges = [0, *(cut for cut in cuts if cut), len(graph.steps.steps)]
    layer_at = {cut: layer for layer, cut in begins.items()}
    found: list[list[str]] = []
    for start, end in pairwise(edges):
        layer = layer_at.get(start, -1)
        found.append([_line(graph, number, layer, cuts[0] if cuts else 0) for number in range(start, end)])
    return found


def _line(graph: Recorded, number: int, layer: int, head: int) -> str:
    step, size = graph.steps.steps[number], graph.sizes[number]
    replaced = set(step.replaces)
    far = head if layer > 0 else 0  # what all layers read of the steps before them is counted from the beginning
    reads = ",".join(_read(read, number, far) + ("!" if read in replaced else "") for read in step.reads)
    weights = ",".join(_weight(weight, layer) for weight in step.weights)
    if step.cache is not None:
        mark = _cache(step.cache, layer)
        weights = f"{weights},{mark}" if weights else mark
    end = "=" if step.output else ""
    return f"{step.op} {'-' if size is None else text_of(size)} {reads or '-'} {weights or '-'}{end}"


def _cache(owner: int, layer: int) -> str:
    """The mark of a step with a cache; of another layer's than its part's, with how far behind that one is."""
    return "cache" if owner == layer else f"cache{owner - layer:+d}"


def _read(read: int, number: int, far: int) -> str:
    if read < 0:
        return f"i{-1 - read}"
    return f"h{read}" if read < far else str(number - read)


def _weight(name: str, layer: int) -> str:
    match = _BLOCK.match(name)
    return match[2] if match and int(match[1]) == layer else name
