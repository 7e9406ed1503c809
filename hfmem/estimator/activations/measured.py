"""A model's layers under measured coefficients: which apply, and their values at the model's sizes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
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
from hfmem.mapper.caches import Combined, Latent
from hfmem.mapper.interpret import Model
from hfmem.mapper.sizes import (
    configured_sizes,
    decides,
    model_sizes,
    model_types,
    signature,
    switched_structure,
    token_sizes,
)
from hfmem.mapper.values import Architecture, Certainty, Dense, Experts, Layer

__all__ = ["Applied", "Measured", "measured"]

_PRECISIONS: Final = {"bfloat16": "bf16", "float16": "bf16", "float32": "fp32"}


@dataclass(frozen=True, kw_only=True)
class Applied:
    """Coefficients that apply to a model, with its sizes; whatever the batch and the length.

    Attributes:
        model: the model.
        coefficients: those of its type, or of its nearest relative.
        certainty: `measured` for the type itself in the asked mode, else `typical`.
        why: what stands in for what, where it is `typical`.
    """

    model: Model
    coefficients: Coefficients
    certainty: Certainty
    why: str

    @property
    def source(self) -> str:
        """Where the coefficients are from."""
        found = self.coefficients
        where = f"hfmem.probe on {found.model_type} ({found.mode}), {versions()}"
        return f"{where}; {self.why}" if self.why else where

    @cached_property
    def layers(self) -> tuple[Layer, ...]:
        """The model's layers, each kind once."""
        return tuple(dict.fromkeys(self.model.architecture.layers or ()))

    @cached_property
    def order(self) -> tuple[int, ...]:
        """For each layer of the model, which of `layers` it is."""
        numbers = {layer: number for number, layer in enumerate(self.layers)}
        return tuple(numbers[layer] for layer in self.model.architecture.layers or ())

    @cached_property
    def sizes(self) -> tuple[Mapping[str, int], ...]:
        """The named sizes of each of `layers`, then of the head, then of what comes before them."""
        config, architecture = self.model.checkpoint.config or {}, self.model.architecture
        firsts = [self.order.index(number) for number in range(len(self.layers))]
        return tuple(model_sizes(config, architecture, index) for index in (*firsts, len(self.order), 0))

    @cached_property
    def parts(self) -> tuple[Part, ...]:
        """The coefficients of each of `layers`, then of the head, then of what comes before them."""
        found = self.coefficients
        entry = Part(kept=found.before, moments=found.entry)
        return (*(found.layers[_kind(found, layer)] for layer in self.layers), found.head, entry)

    @cached_property
    def reduced(self) -> tuple[Part, ...]:
        """The same at the sizes of the model."""
        return tuple(_reduced(part, sizes) for part, sizes in zip(self.parts, self.sizes, strict=True))

    @cached_property
    def before(self) -> Polynomial:
        """Bytes kept beyond the layers and the head, at the sizes of the first layer."""
        return self.reduced[-1].kept

    @cached_property
    def recomputed(self) -> Polynomial:
        """`before` with gradient checkpointing: an encoder's layers keep their inputs then, as all others do."""
        found = find(self.coefficients.model_type, f"{self.coefficients.mode}+gc")
        return self.before if found is None else found.before.reduced(self.sizes[-1])

    def linears(self, number: int) -> tuple[LinearUse, ...]:
        """The linear modules of one of `layers`."""
        found = self.coefficients
        return found.linears.get(_kind(found, self.layers[number]), ())

    def knows(self, name: str) -> bool:
        """Whether any coefficient is of a size or a number of tokens."""
        return any(name in _names(part) for part in self.parts)

    def is_complete(self) -> bool:
        """Whether the model has every size that the coefficients are written in."""
        source = 0 if self.model.architecture.source is None else 1
        return all(
            _names(part) <= {*token_sizes(1, 1, sizes, source), *sizes}
            for part, sizes in zip(self.parts, self.sizes, strict=True)
        )


@dataclass(frozen=True, kw_only=True)
class Measured:
    """Coefficients that apply to a model, for one batch and length, and a number of an encoder's tokens.

    Parts go by their number: those of `applied.layers`, then the head, then what comes before them.
    """

    applied: Applied
    batch: int
    seq: int
    source: int = 0

    @property
    def head(self) -> int:
        """The number of the head."""
        return len(self.applied.layers)

    @property
    def entry(self) -> int:
        """The number of what comes before the layers."""
        return self.head + 1

    @cached_property
    def tokens(self) -> tuple[Mapping[str, int], ...]:
        """Sequences, tokens and what follows from them, for each part."""
        return tuple(token_sizes(self.batch, self.seq, sizes, self.source) for sizes in self.applied.sizes)

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
        sizes = {**self.tokens[number], **self.applied.sizes[number]}
        quadratic = polynomial.quadratic().at(sizes)
        linear = polynomial.at(sizes) - quadratic
        heads = sizes.get("heads") or self.applied.model.architecture.attention_heads or 1
        tokens = self.batch * self.seq
        return linear / (tokens * sizes["hidden"]), quadratic / (tokens * heads * self.seq)


def measured(model: Model, scenario: Scenario, method: str, precision: str | None = None) -> Measured | str:
    """The coefficients for a model in a mode, or why there are none.

    Args:
        model: the model.
        scenario: batch, length, attention and compute dtype.
        method: `full`, `frozen`, `prefill` or `forward`.
        precision: `bf16`, `fp32` or `autocast`; None for that of the compute dtype.
    """
    architecture = model.architecture
    if not architecture.layers or architecture.hidden_size is None:
        return architecture.unknown or "the layers of the architecture are not known"
    precision = precision or _PRECISIONS.get(scenario.compute_dtype or "")
    if precision is None:
        return "the dtype that is computed in is not known: give --dtype"
    attention = "eager" if scenario.attention == "eager" else "sdpa"
    known = _Known(model)
    # Flash kernels mask windows by themselves; a model without any window has none that is shorter
    within = scenario.attention == "flash" or all(scenario.seq < window for window in _windows(known))
    applied = _apply(known, (attention, precision, method), within)
    if isinstance(applied, str):
        return applied
    return Measured(applied=applied, batch=scenario.batch, seq=scenario.seq, source=scenario.source_seq or 0)


class _Known:
    """A model as a key: the same object is the same model."""

    def __init__(self, model: Model) -> None:
        self.model = model

    def __hash__(self) -> int:
        return id(self.model)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Known) and other.model is self.model


@lru_cache(maxsize=64)  # searches for what fits ask for one model again and again
def _apply(known: _Known, asked: tuple[str, str, str], within: bool) -> Applied | str:
    model = known.model
    own = model_types(model.checkpoint.config or {})
    own = (*(f"{model_type}:{name}" for model_type in own for name in model.architecture.architectures[:1]), *own)
    switched = switched_structure(model.checkpoint.config or {})
    for model_type in (*own, *_relatives(model.architecture)):
        name, untold = _structured(model_type, switched)
        for mode, why in _modes(*asked, implementations(name)):
            found = find(name, mode, within=within)
            if found is None:
                continue
            reasons = [f"{own[-1] if own else 'the type'} was not measured"] if model_type not in own else []
            reasons += [why] if why else []
            reasons += [*(f"measured with the class's own {key}" for key in untold), *_unfamiliar(found, model)]
            applied = Applied(
                model=model,
                coefficients=found,
                certainty="typical" if reasons else "measured",
                why="; ".join(reasons),
            )
            if applied.is_complete():
                return applied
    return f"nothing like '{own[-1] if own else '?'}' was measured"


def _structured(model_type: str, switched: Sequence[str]) -> tuple[str, tuple[str, ...]]:
    """The row of a type for the keys that a file has switched, and the ones among them that it does not tell of."""
    model_type, there = runs_as(model_type), structures(model_type)
    telling = [key for key in switched if key in there or decides(key)]
    for known in (telling, *([key] for key in telling)):
        if "+".join(known) in there:
            return f"{model_type} {'+'.join(known)}", tuple(key for key in telling if key not in known)
    return model_type, tuple(telling)


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


def _modes(attention: str, precision: str, method: str, known: frozenset[str]) -> tuple[tuple[str, str], ...]:
    """The asked mode, then what can stand in for it, with the reason. A class that has one implementation only runs
    that; where it has both, the other one is no stand-in: one keeps tokens × tokens, the other does not."""
    if attention not in known and known:
        (attention,) = known
    return (
        (f"{attention}/{precision}/{method}", ""),
        (f"{attention}/bf16/{method}", f"{precision} was not measured"),
    )


def _relatives(architecture: Architecture) -> tuple[str, ...]:
    """Types that stand in for one that was not measured: of the same kinds of attention and feed-forward networks."""
    layers = architecture.layers or ()
    caches = [
        part
        for layer in layers
        for part in (layer.cache.caches if isinstance(layer.cache, Combined) else [layer.cache])
    ]
    latent = any(isinstance(cache, Latent) for cache in caches)
    mixture = any(isinstance(layer.ffn, Experts) for layer in layers)
    gated = any(isinstance(layer.ffn, Dense) and layer.ffn.gated for layer in layers)
    if latent:
        return ("deepseek_v3", "llama")
    if mixture:
        return ("qwen2_moe", "mixtral", "llama")
    return ("llama",) if gated else ("gpt_neox", "llama")


# What bounds attention beside windows: tokens that an indexer picks, chunks.
_WINDOWS: Final = ("index_topk", "indexer_budget", "attention_chunk_size")


@lru_cache(maxsize=64)
def _windows(known: _Known) -> tuple[int, ...]:
    """Every window of a model. Attention needs no mask where all are longer than the tokens
    (`_ignore_causal_mask_sdpa` of masking_utils.py)."""
    model = known.model
    sizes = configured_sizes(model.checkpoint.config or {})
    own = [getattr(layer.cache, "window", None) for layer in model.architecture.layers or ()]
    return tuple({*(window for window in own if window), *(sizes[name] for name in _WINDOWS if name in sizes)})


def _kind(coefficients: Coefficients, layer: Layer) -> str:
    """The signature of a layer, or of the measured one most like it."""
    name = signature(layer)
    if same := _same(coefficients, name):
        return same
    kind, _, ffn = name.partition(", ")
    close = [key for key in coefficients.layers if key.endswith(f", {ffn}")]
    close += [key for key in coefficients.layers if key.startswith(f"{kind}, ")]
    return next(iter(close or coefficients.layers))


_UNMASKED: Final = ("full_attention", "sliding_attention", "chunked_attention")
_SHARED: Final = "shared "


def _same(coefficients: Coefficients, name: str) -> str:
    """The measured kind of layer that is the same: of the same signature, or with a window longer than the tokens
    where this one has none, or the other way round; "" for none."""
    if name in coefficients.layers:
        return name
    kind, _, ffn = name.partition(", ")
    plain = kind.removeprefix(_SHARED)
    if not coefficients.within or plain not in _UNMASKED:
        return ""
    others = [f"{kind.removesuffix(plain)}{other}, {ffn}" for other in _UNMASKED]
    return next((other for other in others if other in coefficients.layers), "")


def _unfamiliar(coefficients: Coefficients, model: Model) -> list[str]:
    """Sentences for kinds of layers that were not measured, and for sizes that were and are others here."""
    kinds = {signature(layer) for layer in model.architecture.layers or ()}
    reasons = [f"no layer '{name}' was measured" for name in sorted(kinds) if not _same(coefficients, name)]
    if coefficients.fixed:
        sizes = model_sizes(model.checkpoint.config or {}, model.architecture, 0)
        other = [name for name, value in coefficients.fixed.items() if sizes.get(name, value) != value]
        reasons += [f"measured with {name} {coefficients.fixed[name]} only" for name in other]
    return reasons
