"""A model's layers under measured coefficients: which apply, and their values at the model's sizes."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Final

from hfmem.estimator.activations.coefficients import (
    Coefficients,
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
from hfmem.estimator.values import Scenario
from hfmem.mapper.interpret import Model
from hfmem.mapper.structure import Structure, alike, nearest
from hfmem.mapper.values import Certainty
from hfmem.unknown import Unknown

__all__ = ["Applied", "Measured", "measured"]

_WITH_CACHE: Final = ("prefill", "chunk", "decode")
"""Methods that fill a cache."""

_PIECES: Final = ("chunk", "decode")
"""Methods that go on from a cache."""

_PRECISIONS: Final = {"bfloat16": "bf16", "float16": "bf16", "float32": "fp32"}


@dataclass(frozen=True, kw_only=True)
class Applied:
    """Coefficients that apply to a model, with its sizes; whatever the batch and the length.

    Attributes:
        structure: of the model.
        coefficients: those of its type, or of its nearest relative.
        certainty: `measured` for the type itself in the asked mode, else `typical`.
        why: what stands in for what, where it is `typical`.
    """

    structure: Structure
    coefficients: Coefficients
    certainty: Certainty
    why: str

    @property
    def source(self) -> str:
        """Where the coefficients are from."""
        found = self.coefficients
        where = f"hfmem.probe on {found.name} ({found.mode}), {versions()}"
        return f"{where}; {self.why}" if self.why else where

    @cached_property
    def kinds(self) -> tuple[str, ...]:
        """For each of the structure's layers, the measured kind of layer that it is, or is most like."""
        found = self.coefficients
        return tuple(nearest(name, found.layers, within=found.within) for name in self.structure.signatures)

    @cached_property
    def parts(self) -> tuple[Part, ...]:
        """The coefficients of each of the structure's layers, then of the head, then of what comes before them."""
        found = self.coefficients
        entry = Part(kept=found.before, moments=found.entry)
        return (*(found.layers[kind] for kind in self.kinds), found.head, entry)

    @cached_property
    def sizes(self) -> tuple[Mapping[str, int], ...]:
        """The named sizes of each of the parts. Where keys and values have as many heads as queries, attention reads
        the cache itself; in training what it reads is kept once, copied or not."""
        if self.coefficients.mode.split("/")[-1] not in _WITH_CACHE:
            return self.structure.sizes
        return tuple(_uncopied(sizes) for sizes in self.structure.sizes)

    @cached_property
    def reduced(self) -> tuple[Part, ...]:
        """The same at the sizes of the model."""
        return tuple(_reduced(part, sizes) for part, sizes in zip(self.parts, self.sizes, strict=True))

    @cached_property
    def unbounded(self) -> tuple[Part, ...]:
        """The same with windows left open, which may be longer than the tokens that there are."""
        sizes = [{name: value for name, value in own.items() if name != "window"} for own in self.sizes]
        return tuple(_reduced(part, own) for part, own in zip(self.parts, sizes, strict=True))

    @cached_property
    def before(self) -> Polynomial:
        """Bytes kept beyond the layers and the head, at the sizes of the first layer."""
        return self.reduced[-1].kept

    @cached_property
    def recomputed(self) -> Polynomial:
        """`before` with gradient checkpointing: an encoder's layers keep their inputs then, as all others do."""
        found = find(self.coefficients.name, f"{self.coefficients.mode}+gc")
        return self.before if found is None else found.before.reduced(self.structure.sizes[-1])

    def linears(self, number: int) -> tuple[LinearUse, ...]:
        """The linear modules of one of the structure's layers."""
        return self.coefficients.linears.get(self.kinds[number], ())

    def knows(self, name: str) -> bool:
        """Whether any coefficient is of a size or a number of tokens."""
        return any(name in _names(part) for part in self.parts)

    def is_complete(self) -> bool:
        """Whether the model has every size that the coefficients are written in."""
        found = self.structure
        tokens = found.tokens(1, 1, 0 if found.architecture.source is None else 1, 1)
        return all(
            _names(part) <= {*counts, *sizes}
            for part, counts, sizes in zip(self.parts, tokens, found.sizes, strict=True)
        )


@dataclass(frozen=True, kw_only=True)
class Measured:
    """Coefficients that apply to a model, for one batch and length, and a number of an encoder's tokens; `past` tokens
    are there before those of the length.

    Parts go by their number: those of the structure's layers, then the head, then what comes before them.
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
        """The number of what comes before the layers."""
        return self.head + 1

    @cached_property
    def tokens(self) -> tuple[Mapping[str, int], ...]:
        """Sequences, tokens and what follows from them, for each part."""
        return self.applied.structure.tokens(self.batch, self.seq, self.source, self.past)

    def value(self, polynomial: Polynomial, number: int) -> int:
        """Bytes of a polynomial of a part."""
        return polynomial.at(self.tokens[number])

    def before(self) -> int:
        """Bytes kept beyond the layers and the head."""
        return self.value(self.applied.before, self.entry)

    def highest(self, number: int) -> int:
        """Which moment of a part is its highest."""
        moments = self.applied.reduced[number].moments
        return max(
            range(len(moments)),
            key=lambda index: self.value(moments[index].activations + moments[index].gradients, number),
            default=-1,
        )

    def alpha_beta(self, polynomial: Polynomial, number: int) -> tuple[float, float]:
        """Bytes as the article's alpha (a token and hidden unit) and beta (a head and pair of tokens)."""
        found = self.applied.structure
        sizes = {**self.tokens[number], **found.sizes[number]}
        quadratic = polynomial.quadratic().at(sizes)
        linear = polynomial.at(sizes) - quadratic
        heads = sizes.get("heads") or found.architecture.attention_heads or 1
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
        past: tokens that are there before those of the length; of `chunk` and `decode`.
    """
    architecture = model.architecture
    if not architecture.layers or architecture.hidden_size is None:
        return Unknown(architecture.unknown or "the layers of the architecture are not known")
    precision = precision or _PRECISIONS.get(scenario.compute_dtype or "")
    if precision is None:
        return Unknown("the dtype that is computed in is not known: use --dtype")
    structure = model.structure
    # Flash kernels mask windows by themselves; a model without any window has none that is shorter
    within = scenario.attention == "flash" or all(past + scenario.seq < window for window in structure.windows)
    applied = _apply(structure, (scenario.attention, precision, method), within)
    if isinstance(applied, Unknown):
        return applied
    source = scenario.source_seq or 0
    return Measured(applied=applied, batch=scenario.batch, seq=scenario.seq, source=source, past=past)


@lru_cache(maxsize=64)  # searches for what fits ask for one model again and again
def _apply(structure: Structure, asked: tuple[str, str, str], within: bool) -> Applied | Unknown:
    own = structure.own
    for label in (*own, *structure.relatives):
        name, untold = _structured(label, structure.switched, structure.telling)
        for mode in _modes(*asked, implementations(name)):
            found = find(name, mode.name, within=within)
            if found is None:
                continue
            found = mode.changed(found)
            piece = " in pieces" if asked[2] in _PIECES else ""
            reasons = [f"{own[-1] if own else 'the type'} was not measured{piece}"] if label not in own else []
            reasons += [mode.why] if mode.why else []
            reasons += [*(f"measured with the class's own {key}" for key in untold), *_unfamiliar(found, structure)]
            applied = Applied(
                structure=structure,
                coefficients=found,
                certainty="typical" if reasons else "measured",
                why="; ".join(reasons),
            )
            if applied.is_complete():
                return applied
    return Unknown(f"nothing like '{own[-1] if own else '?'}' was measured")


def _structured(label: str, switched: Sequence[str], telling: Collection[str]) -> tuple[str, tuple[str, ...]]:
    """The row of a type for what a model has switched, and the keys among that which the row does not tell of."""
    label, there = runs_as(label), structures(label)
    keys = [key for key in switched if key in there or key in telling]
    for known in (keys, *([key] for key in keys)):
        if "+".join(known) in there:
            return f"{label} {'+'.join(known)}", tuple(key for key in keys if key not in known)
    return label, tuple(keys)


def _uncopied(sizes: Mapping[str, int]) -> Mapping[str, int]:
    """The sizes where keys and values are copied only if several query heads share them."""
    if sizes.get("kv_heads") != sizes.get("heads"):
        return sizes
    return {**sizes, **{name: 0 for name in _COPIES if name in sizes}}


_COPIES: Final = ("grouped_heads", "repeated_heads")


def _reduced(part: Part, sizes: Mapping[str, int]) -> Part:
    return Part(
        kept=part.kept.reduced(sizes),
        moments=tuple(
            Moment(activations=moment.activations.reduced(sizes), gradients=moment.gradients.reduced(sizes))
            for moment in part.moments
        ),
        input=part.input.reduced(sizes) if part.input is not None else None,
        input_kept=part.input_kept,
    )


def _names(part: Part) -> frozenset[str]:
    moments = (moment.activations.names | moment.gradients.names for moment in part.moments)
    return part.kept.names.union(*moments, part.input.names if part.input is not None else ())


@dataclass(frozen=True, slots=True, kw_only=True)
class _Mode:
    """A mode that can be looked up.

    Attributes:
        name: as rows call it.
        why: what it stands in for; "" where it is the asked one.
        fused: whether what grows with tokens × tokens is left out.
        times: what its bytes are multiplied by.
    """

    name: str
    why: str = ""
    fused: bool = False
    times: int = 1

    def changed(self, found: Coefficients) -> Coefficients:
        """The coefficients as they stand in."""
        if self.fused:
            found = found.with_each(lambda polynomial: polynomial - polynomial.quadratic())
        return found.with_each(lambda polynomial: polynomial * self.times) if self.times > 1 else found


def _modes(attention: str, precision: str, method: str, known: frozenset[str]) -> tuple[_Mode, ...]:
    """The asked mode, then what can stand in for it, with the reason. A class that has one implementation only runs
    that; where it has both, the other one is no stand-in: one keeps tokens × tokens, the other does not."""
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
        # of pieces float32 was not measured at all, and nothing of it is more than twice as large
        times = 2 if piece and precision == "fp32" else 1
        found.append(_Mode(name=f"{word}/bf16/{method}", why=other, fused=fused, times=times))
    return tuple(found)


def _instead(attention: str, word: str, *, piece: bool) -> str:
    """Why an implementation that stands in for flash attention is not the same; "" where it is."""
    if attention != "flash" or word == attention:
        return ""
    if word == "eager":
        return "what eager attention takes, without its tokens × tokens, for flash attention"
    return "sdpa, which has a mask then, for flash attention" if piece else ""


def _unfamiliar(coefficients: Coefficients, structure: Structure) -> list[str]:
    """Sentences for kinds of layers that were not measured, and for sizes that were and are others here."""
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
