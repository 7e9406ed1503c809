"""The rows of `data/activations.jsonl`: all modes of a type, and reasons for missing ones."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

from hfmem.estimator.activations.coefficients import (
    Coefficients,
    EncoderLayer,
    LinearUse,
    Moment,
    Part,
    find,
    from_row,
)
from hfmem.estimator.activations.polynomials import Polynomial
from hfmem.mapper.attention import implementations
from hfmem.mapper.sizes import model_types
from hfmem.probe import tiny
from hfmem.probe.activations.derive import MOST_OFF, Solution, solve
from hfmem.probe.activations.probes import Probe, ProbeError, deviation, probes
from hfmem.probe.activations.step import Mode
from hfmem.probe.activations.structures import plain, without_class
from hfmem.probe.activations.variants import Variant, fixed_sizes, has_windows, variants
from hfmem.unknown import Unknown

__all__ = ["FLASH", "MODES", "PIECES", "RECOMPUTED", "derive", "merged", "modes_of"]

Row = dict[str, Any]

MODES: Final[tuple[Mode, ...]] = (
    Mode(),
    Mode(attention="eager"),
    Mode(method="prefill"),
    Mode(method="frozen"),
    Mode(attention="eager", method="prefill"),
    Mode(attention="eager", method="frozen"),
    Mode(precision="autocast"),
    Mode(precision="fp32"),
    Mode(precision="fp32", method="prefill"),
    Mode(precision="autocast", method="frozen"),
    Mode(precision="fp32", method="frozen"),
    Mode(method="forward"),
    Mode(attention="eager", precision="autocast"),
    Mode(attention="eager", precision="fp32"),
    Mode(attention="eager", precision="fp32", method="prefill"),
)
"""The measured modes, the most common first. Gradient checkpointing follows from them: a layer saves its input, and its
backward pass has the moments of its forward pass, then the same as without, in addition to that input (the oracle tests
measure this)."""

PIECES: Final[tuple[Mode, ...]] = tuple(
    Mode(attention=attention, method=method)
    for attention in ("sdpa", "eager", "flash")
    for method in ("chunk", "decode")
)
"""Modes of a prompt in chunks, and of the tokens after it. float32 is not measured: it at most doubles each tensor."""

FLASH: Final[tuple[Mode, ...]] = (
    Mode(attention="flash", method="prefill"),
    Mode(attention="flash"),
    Mode(attention="flash", method="frozen"),
    Mode(attention="flash", precision="autocast"),
    Mode(attention="flash", precision="autocast", method="frozen"),
)
"""Modes of classes that support flash attention but not SDPA; in other classes, it saves the same as SDPA.
FlashAttention does not support float32."""

RECOMPUTED: Final = tuple(replace(mode, checkpointing=True) for mode in MODES if mode.trains)
"""Additional modes of encoder-decoders, as the coefficients of decoder layers do not cover what an encoder saves."""

_ALIKE: Final = (MODES[0], MODES[2], MODES[1], MODES[4])
"""Modes in which a type is compared with its text model; the first two available are used."""

_MOST_SECONDS: Final = 50
_DRAWS: Final = 3
_HOPELESS: Final = 3  # failed modes at the start after which the rest are skipped


def derive(model_type: str, modes: Sequence[Mode] = ()) -> Row:
    """The row of a type: coefficients by mode (all modes by default), reasons for missing ones, and statistics."""
    started = time.process_time()
    whole = not modes
    modes = modes or modes_of(model_type)
    if whole and (other := _text_type(model_type)) and (alias := _alias(model_type, other)):
        return alias | {"seconds": round(time.process_time() - started, 1)}
    until = started + _MOST_SECONDS
    _, name = tiny.types()[plain(model_type)]
    table = _Table()
    row: Row = {"type": model_type, "class": name, "modes": {}, "within": {}, "missing": {}, "fixed": {}}
    for regime in ("modes", "within"):
        asked = modes if regime == "modes" else [mode for mode in modes if mode.attention == _fused(row)]
        if not asked:
            break
        try:
            drawn, built, first = _drawn(without_class(model_type), name, asked[0], within=regime == "within")
        except Exception as error:  # any exception of the class
            row["missing"][regime] = _sentence(error)
            break
        row["fixed"] |= fixed_sizes(drawn)
        if whole and regime == "modes" and built[0].source:
            asked = modes = (*modes, *RECOMPUTED)
        for mode, found in _solved(built, asked, first, until):
            _record(row, table, regime, mode, found)
        if not has_windows(drawn):
            break
    return row | {"blocks": table.blocks, "seconds": round(time.process_time() - started, 1)}


def _fused(row: Row) -> str:
    """The attention whose cost windows change: fused kernels; of a class without them, what it has."""
    return "sdpa" if any(mode.startswith("sdpa") for mode in row["modes"]) else "eager"


def _record(row: Row, table: _Table, regime: str, mode: Mode, found: Solution | Unknown) -> None:
    """Add the solution of a mode to a row, or the reason why there is none."""
    if isinstance(found, Solution):
        row[regime][str(mode)] = table.block(found, linears=mode.method == "frozen")
        row["residual"] = max(row.get("residual", 0.0), found.residual)
    elif regime == "modes":
        row["missing"][str(mode)] = found.reason


def modes_of(model_type: str) -> tuple[Mode, ...]:
    """The modes of a type: those of all types, flash attention if its class does not support SDPA, and chunks."""
    has = implementations([plain(without_class(model_type))])
    pieces = tuple(mode for mode in PIECES if has.flash or mode.attention != "flash")
    return (*MODES, *(FLASH if has.flash and not has.sdpa else ()), *pieces)


def _drawn(
    model_type: str, name: str, mode: Mode, *, within: bool
) -> tuple[list[Variant], list[Probe], Solution | Unknown]:
    """Variants, their probes, and the solution of the first mode. If the probes held back do not match, some sizes were
    confused by coincidence, and the variants are drawn again."""
    for attempt in range(_DRAWS):
        drawn = variants(model_type, name, within=within, attempt=attempt)
        built = probes(drawn)
        found = _attempt(built, mode)
        if not (isinstance(found, Unknown) and "held back" in found.reason):
            break
    return drawn, built, found


def _text_type(model_type: str) -> str | None:
    """The type whose coefficients may apply to a type: that of its text model, if measured separately; for a row with
    switched keys, the plain type."""
    if plain(model_type) != model_type:
        return plain(model_type)
    try:
        base = tiny.shrunk(model_type.partition(":")[0], tiny.types()[model_type][1])
    except Exception:  # any exception of the class
        return None
    found = model_types(base)[-1]
    return found if found != model_type and found in tiny.types() else None


def _alias(model_type: str, text: str) -> Row | None:
    """A row that refers to the text model's, for a type that runs exactly like it; None if it does not."""
    _, name = tiny.types()[plain(model_type)]
    try:
        known = _told(text)
        drawn = variants(without_class(model_type), name, few=True)
        built = probes(drawn)
        off = max(_beyond(probe, text, mode, found) for mode, found in known for probe in built)
    except Exception:  # any exception of the class; solving for the type separately will report it
        return None
    if off > MOST_OFF:
        return None
    row: Row = {"type": model_type, "class": name, "same_as": text, "within": {}, "missing": {}, "fixed": {}}
    row["modes"] = {str(mode): 0 for mode in MODES if find(text, str(mode))} or {str(mode): 0 for mode, _ in known}
    return row | {"residual": off}


def _beyond(probe: Probe, text: str, mode: Mode, known: Coefficients) -> float:
    """The error of a text model's coefficients for a multimodal model. If it is large, the error for the text model
    itself at the same sizes is subtracted: storages of a few bytes have no coefficients, but count in so small a
    model."""
    off = deviation(probe, mode, known)
    if off <= MOST_OFF:
        return off
    config, batch, tokens = probe.variant
    path = tiny.text_path(tiny.build(config))
    if not path:
        return off
    part = config
    for key in path:
        part = part[key]
    own = {**part, "model_type": text, "architectures": [tiny.types()[text][1]], "pad_token_id": 0}
    return abs(off - deviation(Probe((own, batch, tokens)), mode, known))


def _told(text: str) -> list[tuple[Mode, Coefficients]]:
    """The coefficients of a text model in the modes used for comparison."""
    stored = [(mode, found) for mode in _ALIKE if (found := find(text, str(mode)))]
    if stored:
        return stored[:2]
    row = derive(text, _ALIKE)
    return [(mode, from_row(row, str(mode))) for mode in _ALIKE if str(mode) in row["modes"]][:2]


def merged(old: Row, new: Row) -> Row:
    """A row with the modes of `new`, and those of `old` that `new` lacks."""
    table = _Table()
    found = dict(new)
    for regime in ("modes", "within"):
        found[regime] = {
            mode: table.adopt(row, number)
            for row in (old, new)
            for mode, number in row[regime].items()
            if row is new or mode not in new[regime]
        }
    return found | {"blocks": table.blocks}


def _solved(
    built: Sequence[Probe], modes: Sequence[Mode], first: Solution | Unknown, until: float
) -> Iterator[tuple[Mode, Solution | Unknown]]:
    """The solution of each mode, given that of the first, except modes that would probably exceed the time."""
    failed, longest = 0, 0.0
    for mode in modes:
        if failed == _HOPELESS:
            yield mode, Unknown("the modes before it failed")
            continue
        started = time.process_time()
        if started + longest > until:
            yield mode, Unknown(f"not measured within {_MOST_SECONDS} s")
            continue
        found = first if mode is modes[0] else _attempt(built, mode)
        longest = max(longest, time.process_time() - started)
        if not isinstance(found, Unknown):
            failed = -len(modes)
        elif "does not support an attention implementation" not in found.reason:
            failed += 1
        yield mode, found


def _attempt(built: Sequence[Probe], mode: Mode) -> Solution | Unknown:
    try:
        return solve(built, mode)
    except ProbeError as error:
        return Unknown(str(error))
    except Exception as error:  # any exception of the class
        return Unknown(_sentence(error))


def _sentence(error: Exception) -> str:
    words = " ".join(str(error).split())
    return f"{type(error).__name__}: {words}"[:300]


@dataclass(slots=True)
class _Table:
    """Blocks of coefficients without duplicates."""

    blocks: list[Row] = field(default_factory=list)

    def block(self, solution: Solution, *, linears: bool) -> int:
        found: Row = {
            "before": str(solution.before),
            "head": _part(solution.head),
            "layers": {name: _part(part) | _input(solution.inputs[name]) for name, part in solution.layers.items()},
        }
        if solution.encoder is not None:
            found["encoder"] = _encoder(solution.encoder)
        if solution.entry:
            found["entry"] = _moments(solution.entry)
        if linears:
            found["linears"] = {kind: _linears(items) for kind, items in solution.linears.items()}
        return self.number(found)

    def adopt(self, row: Row, number: int) -> int:
        """Add a block of another row; its number here."""
        return self.number(row["blocks"][number])

    def number(self, block: Row) -> int:
        """The number of a block, added if necessary."""
        if block not in self.blocks:
            self.blocks.append(block)
        return self.blocks.index(block)


def _linears(items: Sequence[LinearUse]) -> list[list[Any]]:
    return [[item.name, str(item.inputs), str(item.outputs), item.source, item.kept] for item in items]


def _part(part: Part) -> Row:
    found: Row = {"kept": str(part.kept), "moments": _moments(part.moments)}
    found |= {"forward": _moments(part.forward)} if part.forward else {}
    return found | ({"first": _moments(part.first)} if part.first else {})


def _encoder(layer: EncoderLayer) -> Row:
    found: Row = {"layers": str(layer.layers), "kept": str(layer.kept), "moments": _moments(layer.moments)}
    return found | {"reached": str(layer.reached), "gradients": str(layer.gradients), "ahead": str(layer.ahead)}


def _moments(moments: Sequence[Moment]) -> list[list[str]]:
    return [[str(m.activations), *([str(m.gradients)] if m.gradients.terms else [])] for m in moments]


def _input(found: tuple[Polynomial, bool]) -> Row:
    return {"input": str(found[0]), "input_kept": found[1]}
