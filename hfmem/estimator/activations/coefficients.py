"""Coefficients measured on the real implementations (`hfmem.probe`): what a part of a model keeps and allocates.

`data/activations.jsonl` has the types, each with a line for every set of modes that keep the same (`of`), then the
parts that these name (`part`), each once. A structure that makes the class run otherwise is a type of its own, under
the type and the keys that are switched (`falcon new_decoder_architecture`). Only what is asked for is read.
A mode is an attention implementation (`sdpa`, `eager`, `flash`), a precision and a method (`sdpa/bf16/full`);
`within` are the same where windows are longer than the tokens. What rows are called by, types and keys, are labels
(`hfmem.mapper.structure`).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from importlib.resources import files
from typing import Any

from hfmem.estimator.activations.polynomials import Polynomial

__all__ = [
    "Coefficients",
    "LinearUse",
    "Moment",
    "Part",
    "find",
    "from_row",
    "implementations",
    "runs_as",
    "structures",
    "versions",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Moment:
    """Bytes alive at one moment of a part: activations and temporaries, and gradients of the part's own parameters."""

    activations: Polynomial
    gradients: Polynomial


@dataclass(frozen=True, slots=True, kw_only=True)
class LinearUse:
    """A linear module of a layer, as a forward pass uses it.

    Attributes:
        name: its name within the layer.
        inputs, outputs: its sizes.
        source: a number that modules reading the same tensor share.
        kept: whether the layer keeps that tensor when its weights are frozen.
    """

    name: str
    inputs: Polynomial
    outputs: Polynomial
    source: int
    kept: bool

    @property
    def module(self) -> str:
        """The label by which it is compared with adapters: the last word of its name."""
        return self.name.rpartition(".")[2]


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """One layer, or the head.

    Attributes:
        kept: what it keeps until its backward pass.
        moments: its highest moments beyond what earlier parts keep: of its backward pass in training, of its forward
            pass in a prefill.
        input: what leads into a layer: all that it keeps with gradient checkpointing.
        input_kept: whether `kept` holds that too.
    """

    kept: Polynomial
    moments: tuple[Moment, ...]
    input: Polynomial | None = None
    input_kept: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Coefficients:
    """The coefficients of a type in one mode.

    Attributes:
        name, mode: the row and the mode of it that they are from.
        before: bytes kept beyond the layers and the head (masks, positions, embedding).
        head: the head and the loss: what they keep, and their highest moments, which include it.
        layers: a layer's part, by its signature (`hfmem.mapper.sizes.signature`).
        linears: linear modules of a layer, by its signature.
        fixed: sizes that the probe could not change; the coefficients hold for these values.
        within: whether windows were longer than the tokens, so that a layer with one is as one without.
        entry: the highest moments of a prefill before its layers, where they can be higher than those of the layers.
    """

    name: str
    mode: str
    before: Polynomial
    head: Part
    layers: Mapping[str, Part]
    linears: Mapping[str, tuple[LinearUse, ...]]
    fixed: Mapping[str, int]
    within: bool = False
    entry: tuple[Moment, ...] = ()

    def with_each(self, change: Callable[[Polynomial], Polynomial]) -> Coefficients:
        """The same with every polynomial of bytes changed."""

        def moments(found: Sequence[Moment]) -> tuple[Moment, ...]:
            return tuple(Moment(activations=change(m.activations), gradients=change(m.gradients)) for m in found)

        def part(found: Part) -> Part:
            held = None if found.input is None else change(found.input)
            return replace(found, kept=change(found.kept), moments=moments(found.moments), input=held)

        return replace(
            self,
            before=change(self.before),
            head=part(self.head),
            layers={name: part(found) for name, found in self.layers.items()},
            entry=moments(self.entry),
        )


def find(label: str, mode: str, *, within: bool = False) -> Coefficients | None:
    """The coefficients of a label; None where it was not measured in that mode."""
    row = _row(label)
    if row is None:
        return None
    if within and mode in row["within"]:
        return replace(_coefficients(row, mode, row["blocks"][row["within"][mode]]), within=True)
    number = row["modes"].get(mode)
    return None if number is None else _coefficients(row, mode, row["blocks"][number])


def implementations(label: str) -> frozenset[str]:
    """The attention implementations that a type was measured with: those that its class has."""
    row = _row(label)
    return frozenset(mode.partition("/")[0] for mode in row["modes"]) if row else frozenset()


def runs_as(label: str) -> str:
    """The type that a type runs as: a whole as its text model, else itself."""
    line = _line(label)
    return runs_as(line["same_as"]) if line is not None and "same_as" in line else label


@cache
def structures(label: str) -> frozenset[str]:
    """The keys, joined by `+`, that a type was measured with when they are not as the class has them."""
    text, begin, found = _text(), _first(f"{runs_as(label)} ")[:-3], []
    at = text.find(begin)
    while at >= 0:
        start = at + len(begin)
        found.append(text[start : text.index(b'"', start)].decode())
        at = text.find(begin, start)
    return frozenset(found)


def from_row(row: Mapping[str, Any], mode: str) -> Coefficients:
    """The coefficients of a row of the table in one of its modes."""
    return _coefficients(row, mode, row["blocks"][row["modes"][mode]])


@cache
def versions() -> str:
    """What the coefficients were measured with."""
    head = _line_at(0)
    return f"transformers {head['transformers']}, PyTorch {head['torch']}"


@cache
def _text() -> bytes:
    return files("hfmem.data").joinpath("activations.jsonl").read_bytes()


def _line_at(start: int) -> dict[str, Any]:
    text = _text()
    found: dict[str, Any] = json.loads(text[start : text.index(b"\n", start)])
    return found


def _line(label: str) -> dict[str, Any] | None:
    start = _text().find(_first(label))
    return None if start < 0 else _line_at(start + 1)


@cache
def _row(label: str) -> dict[str, Any] | None:
    line = _line(label)
    if line is None:
        return None
    if "same_as" in line:  # a whole that runs as its text model does
        return _row(line["same_as"])
    blocks = _blocks(label)
    regimes = {
        regime: {mode: number for number, block in enumerate(blocks) for mode in block.get(regime, ())}
        for regime in ("modes", "within")
    }
    return {**line, **regimes, "blocks": blocks}


def _blocks(label: str) -> list[dict[str, Any]]:
    """The lines of a type that follow its first."""
    text, head = _text(), f'{{"of": {json.dumps(label)}, '.encode()
    at = text.index(b"\n", text.index(_first(label)) + 1) + 1
    found = []
    while text.startswith(head, at):
        found.append(_line_at(at))
        at = text.index(b"\n", at) + 1
    return found


def _part(name: str) -> Mapping[str, Any]:
    return _line_at(_text().index(f'\n{{"part": "{name}", '.encode()) + 1)


def _first(label: str) -> bytes:
    """What the first line of a type begins with, and the end of the line before it."""
    return f'\n{{"type": {json.dumps(label)}, '.encode()


def _coefficients(row: Mapping[str, Any], mode: str, block: Mapping[str, Any]) -> Coefficients:
    return Coefficients(
        name=row["type"],
        mode=mode,
        before=Polynomial.parse(block["before"]),
        head=_read(block["head"]),
        layers={name: _read(part) for name, part in block["layers"].items()},
        linears={kind: _linears(items) for kind, items in block.get("linears", {}).items()},
        fixed=row["fixed"],
        entry=_moments(block.get("entry", ())),
    )


def _read(part: str | Mapping[str, Any]) -> Part:
    """A part, by its name in the file or as it is."""
    record = _part(part) if isinstance(part, str) else part
    return Part(
        kept=Polynomial.parse(record["kept"]),
        moments=_moments(record["moments"]),
        input=Polynomial.parse(record["input"]) if "input" in record else None,
        input_kept=record.get("input_kept", False),
    )


def _moments(texts: Sequence[Sequence[str]]) -> tuple[Moment, ...]:
    """Moments of activations, and of gradients where there are any."""
    return tuple(
        Moment(activations=Polynomial.parse(found[0]), gradients=Polynomial.parse(found[1] if len(found) > 1 else ""))
        for found in texts
    )


def _linears(items: str | Sequence[Sequence[Any]]) -> tuple[LinearUse, ...]:
    """Linear modules, by their name in the file or as they are."""
    return tuple(_linear(item) for item in (_part(items)["linears"] if isinstance(items, str) else items))


def _linear(item: Sequence[Any]) -> LinearUse:
    name, inputs, outputs, source, kept = item
    sizes = {"inputs": Polynomial.parse(inputs), "outputs": Polynomial.parse(outputs)}
    return LinearUse(name=name, **sizes, source=source, kept=kept)
