"""The graphs of llama.cpp's architectures, recorded from the library, with sizes as formulas of a file's values.

`hfmem/data/llamacpp_graphs.jsonl` is written by `python -m hfmem.probe.llamacpp`. A line is a part of a graph (what
one layer runs), or an architecture's structure: its layers' tensors and, for each setting, inputs and parts. A step is
`OPERATION SIZE READS WEIGHTS`: the size a sum of products; reads are counted backwards from the step, `i0` is the first
input, `!` marks memory that the result may take; `cache` marks those that read or write it (`cache+1` that of the next
layer, whose state is loaded early), `=` those kept to the end.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from functools import cache
from typing import Any, Final, NamedTuple

from hfmem.data import text as data_text

__all__ = ["HEAD", "Graph", "Layer", "Part", "RecordedStep", "Structure", "nearest", "size_of", "structures"]


class Layer(NamedTuple):
    """What tells layers apart: their kind, as the mapper has it, and the names of their tensors."""

    kind: str
    names: frozenset[str]

    def distance(self, other: Layer) -> int:
        """How much they differ."""
        return len(self.names ^ other.names) + (20 if self.kind != other.kind else 0)


HEAD: Final = 1 << 20
"""Added to the number of a step before the layers, where a layer reads it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordedStep:
    """A step as it is recorded.

    Attributes:
        operation: llama.cpp's name for it.
        size: the formula of its bytes; "-" where it allocates nothing.
        reads: how many steps back, an input as -1 and below, or `HEAD` and a step before the layers.
        replaces: those of `reads` whose memory it may take.
        weights: names of tensors, of its own layer without their number.
        cached: whether it reads or writes the cache.
        ahead: of which layer, counted from its own: 1 for the next.
        output: whether it is kept to the end.
    """

    operation: str
    size: str
    reads: tuple[int, ...]
    replaces: tuple[int, ...]
    weights: tuple[str, ...]
    cached: bool
    output: bool
    ahead: int = 0


Part = tuple[RecordedStep, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Graph:
    """One setting's graph: names and formulas of its inputs, and its parts: what comes before the layers, then the
    layers."""

    names: tuple[str, ...]
    inputs: tuple[str, ...]
    parts: tuple[Part, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Structure:
    """A structure that an architecture's files have.

    Attributes:
        variant: its name.
        holds: values of keys that a file has to have besides, where the same tensors make different graphs.
        layers: the tensors of each recorded layer.
        graphs: by setting.
    """

    variant: str
    layers: tuple[Layer, ...]
    graphs: Mapping[str, Graph]
    holds: Mapping[str, int] = field(default_factory=dict)

    def held(self, values: Mapping[str, object]) -> bool:
        """Whether a file with these values of keys has what it holds."""
        return all(values.get(key) == value for key, value in self.holds.items())

    def graph(self, flash: bool, keys: bool, values: bool) -> Graph | None:
        """The graph with flash attention or without, and with turned keys and values or not; None where llama.cpp does
        not run it so."""
        plain = "flash" if flash else "eager"
        words = [plain, *(["keys"] if keys else []), *(["values"] if values else [])]
        return self.graphs.get("+".join(words), self.graphs.get(plain))


@cache
def structures(architecture: str) -> tuple[Structure, ...]:
    """The recorded structures of an architecture; none for one that is not recorded."""
    lines, parts = _lines()
    return tuple(_structure(json.loads(line), parts) for line in lines.get(architecture, ()))


@cache
def _lines() -> tuple[Mapping[str, Sequence[str]], Mapping[int, str]]:
    """The lines of each architecture and of each part, not parsed yet."""
    graphs: dict[str, list[str]] = {}
    parts: dict[int, str] = {}
    for line in data_text("llamacpp_graphs.jsonl").splitlines():
        if line.startswith('{"part":'):
            parts[int(line[8 : line.index(",")])] = line
        elif line.startswith('{"architecture":'):
            graphs.setdefault(line.split('"', 4)[3], []).append(line)
    return graphs, parts


def _structure(row: Mapping[str, Any], parts: Mapping[int, str]) -> Structure:
    names: list[frozenset[str]] = []
    for each in row["layers"]:
        names.append(names[each] if isinstance(each, int) else frozenset(each))
    layers = [Layer(kind=kind, names=own) for kind, own in zip(row["kinds"], names, strict=False)]
    graphs: dict[str, Graph] = {}
    for word, graph in row["settings"].items():
        if isinstance(graph, str):
            graphs[word] = graphs[graph]
            continue
        graphs[word] = Graph(
            names=tuple(text.split(" ", 1)[0] for text in graph["inputs"]),
            inputs=tuple(text.split(" ", 1)[1] for text in graph["inputs"]),
            parts=tuple(_part(number, parts[number]) for number in graph["parts"]),
        )
    return Structure(variant=row["variant"], layers=tuple(layers), graphs=graphs, holds=row.get("holds", {}))


_PARSED: Final[dict[int, Part]] = {}


def _part(number: int, line: str) -> Part:
    if number not in _PARSED:
        _PARSED[number] = tuple(_step(text) for text in json.loads(line)["steps"])
    return _PARSED[number]


_CACHE: Final = re.compile(r"cache(?:[+-]\d+)?")


def _step(text: str) -> RecordedStep:
    operation, size, reads, weights = text.split(" ")
    output = weights.endswith("=")
    names = weights.removesuffix("=").split(",")
    found: list[int] = []
    replaced: list[int] = []
    for each in () if reads == "-" else reads.split(","):
        word = each.removesuffix("!")
        back = _back(word)
        found.append(back)
        if each.endswith("!"):
            replaced.append(back)
    marks = [name for name in names if _CACHE.fullmatch(name)]
    return RecordedStep(
        operation=operation,
        size=size,
        reads=tuple(found),
        replaces=tuple(replaced),
        weights=tuple(name for name in names if name != "-" and name not in marks),
        cached=bool(marks),
        output=output,
        ahead=int(marks[0].removeprefix("cache") or 0) if marks else 0,
    )


def _back(word: str) -> int:
    if word.startswith("i"):
        return -1 - int(word[1:])
    return HEAD + int(word[1:]) if word.startswith("h") else int(word)


@cache
def _products(formula: str) -> tuple[tuple[Fraction, tuple[str, ...]], ...]:
    found: list[tuple[Fraction, tuple[str, ...]]] = []
    for product in formula.split("+"):
        factor, names = Fraction(1), []
        for word in product.split("*"):
            if word[0].isdigit() or word[0] == "-":
                factor *= Fraction(word)
            else:
                names.append(word)
        found.append((factor, tuple(names)))
    return tuple(found)


def size_of(formula: str, values: Mapping[str, int]) -> int:
    """What a formula gives, rounded up.

    Raises:
        KeyError: with the name of a value that is missing.
    """
    total = Fraction(0)
    for factor, names in _products(formula):
        product = 1
        for name in names:
            product *= values[name]
        total += factor * product
    return -(-total.numerator // total.denominator)


def nearest(found: Iterable[Structure], layers: Sequence[Layer], values: Mapping[str, object]) -> Structure | None:
    """The structure whose layers are most like those of a file, the last above all: what follows the layers is its.

    Args:
        found: those of the architecture; what one holds, the file must.
        layers: of the file.
        values: of its keys.
    """
    distinct = set(layers)

    def distance(structure: Structure) -> int:
        own = set(structure.layers)
        return (
            sum(min(one.distance(other) for other in own) for one in distinct)
            + sum(min(one.distance(other) for other in distinct) for one in own)
            + structure.layers[-1].distance(layers[-1])
        )

    candidates = [structure for structure in found if structure.layers and structure.held(values)]
    most = max((len(structure.holds) for structure in candidates), default=0)
    candidates = [structure for structure in candidates if len(structure.holds) == most]
    return min(candidates, key=distance) if candidates and distinct else None
