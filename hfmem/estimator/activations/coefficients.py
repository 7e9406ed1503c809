"""Activation coefficients measured on the real implementations (`hfmem.probe`): bytes that each part of a model saves
for its backward pass and allocates temporarily.

`data/activations.jsonl` contains the model types, each followed by one line per set of modes with equal coefficients
(`of`), and then the parts that these lines refer to (`part`), each once; both are in order, so that a line is found by
halving. If a config key makes a class run differently, the combination is a row of its own, named by the type and the
key (`falcon new_decoder_architecture`). Only the lines needed are parsed. A mode is an attention implementation
(`sdpa`, `eager`, `flash`), a precision and a method (`sdpa/bf16/full`); `within` has the coefficients for sliding
windows longer than the sequence. The names of rows are labels of `hfmem.mapper.structure`.
"""

from __future__ import annotations

import json
from bisect import bisect_left
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from mmap import mmap
from typing import Any, Final, NamedTuple

from hfmem.data import view
from hfmem.estimator.activations.polynomials import Polynomial

__all__ = [
    "Coefficients",
    "EncoderLayer",
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


class Moment(NamedTuple):
    """Live bytes at one moment of a part: activations with temporaries, and gradients of the part's own parameters."""

    activations: Polynomial
    gradients: Polynomial


class LinearUse(NamedTuple):
    """A linear module of a layer, as used in a forward pass.

    Attributes:
        name: its name within the layer.
        inputs, outputs: its input and output features.
        source: number of its input tensor; modules that read the same tensor have the same number.
        kept: whether the layer saves that tensor for backward even when its weights are frozen.
    """

    name: str
    inputs: Polynomial
    outputs: Polynomial
    source: int
    kept: bool

    @property
    def module(self) -> str:
        """The last component of its name, which LoRA targets are compared with."""
        return self.name.rpartition(".")[2]


class Part(NamedTuple):
    """One layer, or the LM head.

    Attributes:
        kept: bytes that it saves for its backward pass.
        moments: its candidates for the peak, beyond what earlier parts have saved: moments of its backward pass in
            training, of its forward pass in a prefill.
        input: the input of a layer, which is all that it saves with gradient checkpointing.
        input_kept: whether `kept` includes the input.
        forward: in training, moments of the forward pass that may be higher than those of the backward pass where
            gradient checkpointing repeats it.
        first: in training, moments of the first forward pass with gradient checkpointing that may be higher than those
            of the repeated one: what the layer before has returned beside hidden states is still there.
    """

    kept: Polynomial
    moments: tuple[Moment, ...]
    input: Polynomial | None = None
    input_kept: bool = False
    forward: tuple[Moment, ...] = ()
    first: tuple[Moment, ...] = ()


class EncoderLayer(NamedTuple):
    """One layer of the encoder beside a decoder, in training. Its backward pass comes when the decoder's is done: what
    is alive then is counted with its moments, but for the encoder's layers before it.

    Attributes:
        layers: how many there are.
        kept: bytes that it saves for its backward pass; `before` has those of all of them.
        moments: candidates for the peak of its backward pass, without `kept`, but with the rest that is alive.
        reached: with a frozen base, what is alive where its backward pass has reached the input of its last linear
            module, without the gradient of that, counted likewise.
        gradients: bytes of the gradients of all its parameters.
        ahead: bytes of `before` that are saved ahead of the encoder's first layer, which needs a gradient of its input.
    """

    layers: Polynomial
    kept: Polynomial
    moments: tuple[Moment, ...]
    reached: Polynomial
    gradients: Polynomial
    ahead: Polynomial


class Coefficients(NamedTuple):
    """The coefficients of a type in one mode.

    Attributes:
        name, mode: the row and mode that they come from.
        before: bytes saved outside the layers and the head (masks, positions, embedding).
        head: the LM head with the loss; its moments include what it saves.
        layers: the part of each kind of layer, by signature (`hfmem.mapper.sizes.signature`).
        linears: the linear modules of each kind of layer, by signature; at `encoder`, those of a layer of its encoder.
        fixed: sizes that the probe could not vary; the coefficients are only valid for these values.
        within: whether sliding windows were longer than the sequence, so that they have no effect.
        entry: moments of a prefill before its layers that may be the peak.
        encoder: a layer of its encoder, in training; None without one.
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
    encoder: EncoderLayer | None = None

    def with_each(self, change: Callable[[Polynomial], Polynomial]) -> Coefficients:
        """A copy with `change` applied to every polynomial of bytes."""

        def moments(old: Sequence[Moment]) -> tuple[Moment, ...]:
            return tuple(Moment(activations=change(m.activations), gradients=change(m.gradients)) for m in old)

        def part(old: Part) -> Part:
            input_ = None if old.input is None else change(old.input)
            own, again, first = moments(old.moments), moments(old.forward), moments(old.first)
            return old._replace(kept=change(old.kept), moments=own, forward=again, first=first, input=input_)

        heard = self.encoder
        if heard is not None:
            own = {key: change(getattr(heard, key)) for key in ("kept", "reached", "ahead")}
            heard = heard._replace(moments=moments(heard.moments), **own)
        return self._replace(
            encoder=heard,
            before=change(self.before),
            head=part(self.head),
            layers={name: part(layer) for name, layer in self.layers.items()},
            entry=moments(self.entry),
        )


@cache
def find(label: str, mode: str, *, within: bool = False) -> Coefficients | None:
    """The coefficients of a label; None if it was not measured in that mode."""
    row = _row(label)
    if row is None:
        return None
    if within and mode in row["within"]:
        return _coefficients(row, mode, row["blocks"][row["within"][mode]])._replace(within=True)
    number = row["modes"].get(mode)
    return None if number is None else _coefficients(row, mode, row["blocks"][number])


def implementations(label: str) -> frozenset[str]:
    """The attention implementations that a type was measured with, which are all that its class supports."""
    row = _row(label)
    return frozenset(mode.partition("/")[0] for mode in row["modes"]) if row else frozenset()


@cache
def runs_as(label: str) -> str:
    """The type whose coefficients apply: for a multimodal model that of its text model, otherwise the type itself."""
    line = _line(label)
    return runs_as(line["same_as"]) if line is not None and "same_as" in line else label


@cache
def structures(label: str) -> frozenset[str]:
    """Sets of config keys, each joined by `+`, for whose non-default values a type was measured separately."""
    table, kind, found = _table(), runs_as(label), []
    at = _place(False, f"{kind} ")
    while at < len(table):
        _, is_of, _, name, _ = table[at : at + _LONGEST].split(b'"', 4)
        if not name.startswith(_plain(f"{kind} ")):
            break
        if is_of == b"type":
            found.append(name.decode().removeprefix(f"{kind} "))
        at = _end(at) + 1
    return frozenset(found)


def from_row(row: Mapping[str, Any], mode: str) -> Coefficients:
    """The coefficients of a row of the table in one of its modes."""
    return _coefficients(row, mode, row["blocks"][row["modes"][mode]])


@cache
def versions() -> str:
    """The library versions that the coefficients were measured with."""
    head = _line_at(0)
    return f"transformers {head['transformers']}, PyTorch {head['torch']}"


@cache
def _table() -> mmap:
    return view("activations.jsonl")


_LONGEST: Final = 256  # bytes of a line up to the end of its name


def _place(part: bool, name: str) -> int:
    """Where a line is: of a type or a part, or where it would be."""
    table, wanted = _table(), (part, _plain(name))

    def key(at: int) -> tuple[bool, bytes]:
        start = table.rfind(b"\n", 0, at) + 1
        _, kind, _, found, _ = table[start : start + _LONGEST].split(b'"', 4)
        return kind == b"part", found

    return bisect_left(range(_end(0) + 1, len(table)), wanted, key=key) + _end(0) + 1


def _plain(name: str) -> bytes:
    """A name as it stands in the table, with escapes for what is not ASCII."""
    return json.dumps(name)[1:-1].encode()


def _end(start: int) -> int:
    """Where the line ends that has this byte."""
    return _table().find(b"\n", start)


def _line_at(start: int) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(_table()[start : _end(start)])
    return found


@cache
def _line(label: str) -> dict[str, Any] | None:
    start = _place(False, label)
    return _line_at(start) if _begins(start, f'{{"type": {json.dumps(label)}, ') else None


def _begins(start: int, words: str) -> bool:
    return _table()[start : start + len(words)] == words.encode()


@cache
def _row(label: str) -> dict[str, Any] | None:
    line = _line(label)
    if line is None:
        return None
    if "same_as" in line:  # a multimodal model that runs like its text model
        return _row(line["same_as"])
    blocks = _blocks(label)
    regimes = {
        regime: {mode: number for number, block in enumerate(blocks) for mode in block.get(regime, ())}
        for regime in ("modes", "within")
    }
    return {**line, **regimes, "blocks": blocks}


def _blocks(label: str) -> list[dict[str, Any]]:
    """The lines of coefficients that follow the first line of a type."""
    at, found = _end(_place(False, label)) + 1, []
    while _begins(at, f'{{"of": {json.dumps(label)}, '):
        found.append(_line_at(at))
        at = _end(at) + 1
    return found


@cache
def _part(name: str) -> Mapping[str, Any]:
    return _line_at(_place(True, name))


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
        encoder=_encoder(block["encoder"]) if "encoder" in block else None,
    )


def _encoder(part: str | Mapping[str, Any]) -> EncoderLayer:
    """A layer of an encoder, given by its name in the file or inline."""
    record = _part(part) if isinstance(part, str) else part
    return EncoderLayer(
        layers=Polynomial.parse(record["layers"]),
        kept=Polynomial.parse(record["kept"]),
        moments=_moments(record["moments"]),
        reached=Polynomial.parse(record["reached"]),
        gradients=Polynomial.parse(record["gradients"]),
        ahead=Polynomial.parse(record["ahead"]),
    )


def _read(part: str | Mapping[str, Any]) -> Part:
    """A part, given by its name in the file or inline."""
    record = _part(part) if isinstance(part, str) else part
    forward = record.get("forward", ())
    return Part(
        kept=Polynomial.parse(record["kept"]),
        moments=_moments(record["moments"]),
        input=Polynomial.parse(record["input"]) if "input" in record else None,
        input_kept=record.get("input_kept", False),
        forward=_moments(_part(forward)["moments"] if isinstance(forward, str) else forward),
        first=_moments(record.get("first", ())),
    )


def _moments(texts: Sequence[Sequence[str]]) -> tuple[Moment, ...]:
    """Moments from pairs of activations and gradients; the gradients are omitted if there are none."""
    return tuple(
        Moment(activations=Polynomial.parse(pair[0]), gradients=Polynomial.parse(pair[1] if len(pair) > 1 else ""))
        for pair in texts
    )


def _linears(items: str | Sequence[Sequence[Any]]) -> tuple[LinearUse, ...]:
    """Linear modules, given by their name in the file or inline."""
    return tuple(_linear(item) for item in (_part(items)["linears"] if isinstance(items, str) else items))


def _linear(item: Sequence[Any]) -> LinearUse:
    name, inputs, outputs, source, kept = item
    sizes = {"inputs": Polynomial.parse(inputs), "outputs": Polynomial.parse(outputs)}
    return LinearUse(name=name, **sizes, source=source, kept=kept)
