"""Measured coefficients for a model: which row applies, and its values at the model's sizes."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Final, NamedTuple

from hfmem.estimator.activations.coefficients import (
    Coefficients,
    EncoderLayer,
    LinearUse,
    Moment,
    Part,
    find,
    implementations,
    runs_as,
    structures,
    versions,
)
from hfmem.estimator.activations.polynomials import Polynomial
from hfmem.estimator.scenario import Scenario
from hfmem.mapper.interpret import Model
from hfmem.mapper.structure import Structure, alike, nearest
from hfmem.mapper.values import Certainty
from hfmem.unknown import Unknown

__all__ = ["Applied", "Measured", "measured"]

_WITH_CACHE: Final = ("prefill", "chunk", "decode")
"""Methods that fill a KV cache."""

_PIECES: Final = ("chunk", "decode")
"""Methods that continue from a KV cache."""

_PRECISIONS: Final = {"bfloat16": "bf16", "float16": "bf16", "float32": "fp32"}


@dataclass(frozen=True, kw_only=True)
class Applied:
    """Coefficients that apply to a model, with its sizes, for any batch and length.

    Attributes:
        structure: of the model.
        coefficients: those of its type, or of the nearest related type.
        again: the same with gradient checkpointing, where it was measured apart: beside an encoder.
        certainty: `measured` for the type itself in the requested mode, otherwise `typical`.
        why: if `typical`, what was used in place of what.
    """

    structure: Structure
    coefficients: Coefficients
    certainty: Certainty
    why: str
    again: Coefficients | None = None

    @property
    def source(self) -> str:
        """The source of the coefficients, for reports."""
        where = f"hfmem.probe on {self.coefficients.name} ({self.coefficients.mode}), {versions()}"
        return f"{where}; {self.why}" if self.why else where

    @cached_property
    def kinds(self) -> tuple[str, ...]:
        """For each layer of the structure, the measured kind of layer that is the same or most similar."""
        row = self.coefficients
        return tuple(nearest(name, row.layers, within=row.within) for name in self.structure.signatures)

    @cached_property
    def parts(self) -> tuple[Part, ...]:
        """The coefficients of each layer of the structure, then of the head, then of the embedding and masks."""
        row = self.coefficients
        entry = Part(kept=row.before, moments=row.entry)
        return (*(row.layers[kind] for kind in self.kinds), row.head, entry)

    @cached_property
    def sizes(self) -> tuple[Mapping[str, int], ...]:
        """The named sizes of each part. With as many KV heads as query heads, inference attends to the cache itself
        without a repeated copy; in training the tensor is saved once, whether copied or not."""
        if self.coefficients.mode.split("/")[-1] not in _WITH_CACHE:
            return self.structure.sizes
        return tuple(_uncopied(sizes) for sizes in self.structure.sizes)

    @cached_property
    def reduced(self) -> tuple[Part, ...]:
        """`parts` with the sizes of the model inserted; tokens remain variables."""
        return tuple(_reduced(part, sizes) for part, sizes in zip(self.parts, self.sizes, strict=True))

    def headed(self, outputs: int) -> Part:
        """What follows the layers where a class has so many outputs in place of logits over the vocabulary. An encoder
        passes the hidden state of one token on, a decoder those of all tokens through its last norm."""
        if all(layer.kind == "none" for layer in self.structure.layers):
            return Part(kept=Polynomial({}), moments=())
        head = len(self.structure.layers)
        return _reduced(self.parts[head], {**self.sizes[head], "vocab": outputs})

    @cached_property
    def unbounded(self) -> tuple[Part, ...]:
        """As `reduced`, but with windows as variables, since they may be longer than the sequence."""
        sizes = [{name: value for name, value in own.items() if name != "window"} for own in self.sizes]
        return tuple(_reduced(part, own) for part, own in zip(self.parts, sizes, strict=True))

    @cached_property
    def before(self) -> Polynomial:
        """Bytes saved outside the layers and the head, at the sizes of the first layer."""
        return self.reduced[-1].kept

    @cached_property
    def recomputed(self) -> Polynomial:
        """`before` with gradient checkpointing, which includes encoder layers: they save only their inputs too."""
        return self.before if self.again is None else self.again.before.reduced(self.structure.sizes[-1])

    def encoder(self, *, recomputed: bool) -> EncoderLayer | None:
        """A layer of the encoder beside the decoder, at its sizes."""
        row, sizes = self.again if recomputed else self.coefficients, self.structure.sizes[-1]
        layer = None if row is None else row.encoder
        if layer is None:
            return None
        return EncoderLayer(
            layers=layer.layers.reduced(sizes),
            kept=layer.kept.reduced(sizes),
            moments=_at_sizes(layer.moments, sizes),
            reached=layer.reached.reduced(sizes),
            gradients=layer.gradients.reduced(sizes),
            ahead=layer.ahead.reduced(sizes),
        )

    def linears(self, number: int) -> tuple[LinearUse, ...]:
        """The linear modules of a layer of the structure."""
        return self.coefficients.linears.get(self.kinds[number], ())

    def knows(self, name: str) -> bool:
        """Whether any coefficient depends on this size or number of tokens."""
        return any(name in _names(part) for part in self.parts)

    def is_complete(self) -> bool:
        """Whether the model has every size that the coefficients depend on."""
        own = self.structure
        tokens = own.tokens(1, 1, 0 if own.architecture.source is None else 1, 1)
        return all(
            _names(part) <= {*counts, *sizes} for part, counts, sizes in zip(self.parts, tokens, own.sizes, strict=True)
        )


@dataclass(frozen=True, kw_only=True)
class Measured:
    """Coefficients that apply to a model, for a batch of `seq` new tokens after `past` cached ones, and `source` tokens
    of an encoder.

    Parts are numbered: the layers of the structure, then the head, then what precedes the layers.
    """

    applied: Applied
    batch: int
    seq: int
    source: int = 0
    past: int = 0

    @property
    def head(self) -> int:
        """The number of the head."""
        return len(self.applied.structure.layers)

    @property
    def entry(self) -> int:
        """The number of the part that precedes the layers."""
        return self.head + 1

    @cached_property
    def tokens(self) -> tuple[Mapping[str, int], ...]:
        """Sequences, tokens and the numbers derived from them, for each part."""
        return self.applied.structure.tokens(self.batch, self.seq, self.source, self.past)

    def value(self, polynomial: Polynomial, number: int) -> int:
        """The bytes that a polynomial of a part amounts to."""
        return polynomial.at(self.tokens[number])

    def before(self) -> int:
        """Bytes saved outside the layers and the head."""
        return self.value(self.applied.before, self.entry)

    def highest(self, number: int) -> int:
        """Index of the highest moment of a part; -1 if it has none."""
        moments = self.applied.reduced[number].moments
        return max(
            range(len(moments)),
            key=lambda index: self.value(moments[index].activations + moments[index].gradients, number),
            default=-1,
        )

    def alpha_beta(self, polynomial: Polynomial, number: int) -> tuple[float, float]:
        """Bytes as the article's alpha (per token and hidden unit) and beta (per head and pair of tokens)."""
        own = self.applied.structure
        sizes = {**self.tokens[number], **own.sizes[number]}
        quadratic = polynomial.quadratic().at(sizes)
        linear = polynomial.at(sizes) - quadratic
        heads = sizes.get("heads") or own.architecture.attention_heads or 1
        tokens = self.batch * self.seq
        return linear / (tokens * sizes["hidden"]), quadratic / (tokens * heads * self.seq)


def measured(
    model: Model, scenario: Scenario, method: str, precision: str | None = None, past: int = 0
) -> Measured | Unknown:
    """The coefficients for a model in a mode, or why there are none.

    Args:
        model: the model.
        scenario: batch, length, attention and compute dtype.
        method: `full`, `frozen`, `prefill`, `forward`, `chunk` or `decode`.
        precision: `bf16`, `fp32` or `autocast`; None for that of the compute dtype.
        past: cached tokens before the new ones, for `chunk` and `decode`.
    """
    architecture = model.architecture
    if not architecture.layers or architecture.hidden_size is None:
        return Unknown(architecture.unknown or "the layers of the architecture are not known")
    precision = precision or _PRECISIONS.get(scenario.compute_dtype or "")
    if precision is None:
        return Unknown("the compute dtype is not known: use --dtype")
    structure = model.structure
    # Flash kernels apply windows without a mask tensor, so a short window costs them no more than a long one
    within = scenario.attention == "flash" or all(past + scenario.seq < window for window in structure.windows)
    source = scenario.source_seq or 0
    applied = _apply(structure, (scenario.attention, precision, method), within and structure.hears_whole(source))
    if isinstance(applied, Unknown):
        return applied
    return Measured(applied=applied, batch=scenario.batch, seq=scenario.seq, source=source, past=past)


@lru_cache(maxsize=64)  # the search for what fits calls this for the same model many times
def _apply(structure: Structure, asked: tuple[str, str, str], within: bool) -> Applied | Unknown:
    own = structure.own
    for label in (*own, *structure.relatives):
        name, defaulted = _structured(label, structure.switched, structure.telling)
        for mode in _modes(*asked, implementations(name)):
            row = find(name, mode.name, within=within)
            if row is None:
                continue
            again = find(name, f"{mode.name}+gc", within=within)
            row = mode.changed(row)
            piece = " in chunks" if asked[2] in _PIECES else ""
            reasons = [f"{own[-1] if own else 'the type'} was not measured{piece}"] if label not in own else []
            reasons += [mode.why] if mode.why else []
            reasons += [*(f"measured with the default {key}" for key in defaulted), *_unfamiliar(row, structure)]
            applied = Applied(
                structure=structure,
                coefficients=row,
                certainty="typical" if reasons else "measured",
                why="; ".join(reasons),
                again=None if again is None else mode.changed(again),
            )
            if applied.is_complete():
                return applied
    return Unknown(f"neither '{own[-1] if own else '?'}' nor a similar type was measured")


def _structured(label: str, switched: Sequence[str], telling: Collection[str]) -> tuple[str, tuple[str, ...]]:
    """The name of the row for a type with the model's non-default keys, and those keys that the row does not cover."""
    label, there = runs_as(label), structures(label)
    keys = [key for key in switched if key in there or key in telling]
    for known in (keys, *([key] for key in keys)):
        if "+".join(known) in there:
            return f"{label} {'+'.join(known)}", tuple(key for key in keys if key not in known)
    return label, tuple(keys)


def _uncopied(sizes: Mapping[str, int]) -> Mapping[str, int]:
    """The sizes for keys and values that are copied only if several query heads share them."""
    if sizes.get("kv_heads") != sizes.get("heads"):
        return sizes
    return {**sizes, **{name: 0 for name in _COPIES if name in sizes}}


_COPIES: Final = ("grouped_heads", "repeated_heads")


def _reduced(part: Part, sizes: Mapping[str, int]) -> Part:
    return Part(
        kept=part.kept.reduced(sizes),
        moments=_at_sizes(part.moments, sizes),
        input=part.input.reduced(sizes) if part.input is not None else None,
        input_kept=part.input_kept,
        forward=_at_sizes(part.forward, sizes),
        first=_at_sizes(part.first, sizes),
    )


def _at_sizes(moments: Sequence[Moment], sizes: Mapping[str, int]) -> tuple[Moment, ...]:
    return tuple(
        Moment(activations=moment.activations.reduced(sizes), gradients=moment.gradients.reduced(sizes))
        for moment in moments
    )


def _names(part: Part) -> frozenset[str]:
    every = (*part.moments, *part.forward, *part.first)
    moments = (moment.activations.names | moment.gradients.names for moment in every)
    return part.kept.names.union(*moments, part.input.names if part.input is not None else ())


class _Mode(NamedTuple):
    """A mode to look up.

    Attributes:
        name: its name in the rows.
        why: how it differs from the requested one; "" if it is that one.
        fused: whether to drop the terms in tokens × tokens.
        times: factor for its bytes.
    """

    name: str
    why: str = ""
    fused: bool = False
    times: int = 1

    def changed(self, row: Coefficients) -> Coefficients:
        """The coefficients, adjusted to the requested mode."""
        if self.fused:
            row = row.with_each(lambda polynomial: polynomial - polynomial.quadratic())
        return row.with_each(lambda polynomial: polynomial * self.times) if self.times > 1 else row


def _modes(attention: str, precision: str, method: str, known: frozenset[str]) -> tuple[_Mode, ...]:
    """The requested mode, then its replacements, with the reason. A class with a single attention implementation always
    runs that one. If it has both, one does not replace the other: eager saves tokens × tokens, SDPA does not."""
    piece = method in _PIECES
    words: tuple[str, ...] = (attention,)
    if attention == "flash":
        words = (attention, "sdpa" if "sdpa" in known else "eager")
    elif attention not in known and known:
        words = (min(known - {"flash"}, default=attention),)
    found = []
    for word in words:
        why = _instead(attention, word, piece=piece)
        fused = attention == "flash" and word == "eager"
        other = "; ".join(filter(None, (why, f"{precision} was not measured")))
        found.append(_Mode(name=f"{word}/{precision}/{method}", why=why, fused=fused))
        # chunks were not measured in float32; no tensor is more than twice as large there as in bf16
        times = 2 if piece and precision == "fp32" else 1
        found.append(_Mode(name=f"{word}/bf16/{method}", why=other, fused=fused, times=times))
    return tuple(found)


def _instead(attention: str, word: str, *, piece: bool) -> str:
    """How the implementation used in place of flash attention differs; "" if it does not."""
    if attention != "flash" or word == attention:
        return ""
    if word == "eager":
        return "eager attention without its tokens × tokens in place of flash attention"
    return "SDPA, which then has a mask, in place of flash attention" if piece else ""


def _unfamiliar(coefficients: Coefficients, structure: Structure) -> list[str]:
    """Reasons: kinds of layers that were not measured, and sizes that differ from the only measured value."""
    reasons = [
        f"no layer '{name}' was measured"
        for name in sorted(set(structure.signatures))
        if alike(name, coefficients.layers, within=coefficients.within) is None
    ]
    if coefficients.fixed:
        sizes = structure.sizes[-1]
        other = [name for name, value in coefficients.fixed.items() if sizes.get(name, value) != value]
        reasons += [f"measured with {name} {coefficients.fixed[name]} only" for name in other]
    return reasons
