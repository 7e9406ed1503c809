"""A model's layers under measured coefficients: which apply, and their values at the model's sizes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Final

from hfmem.estimator.coefficients import Coefficients, Moment, Part, find, versions
from hfmem.estimator.polynomials import Polynomial
from hfmem.estimator.values import Scenario
from hfmem.mapper.caches import Combined, Latent
from hfmem.mapper.interpret import Model
from hfmem.mapper.sizes import model_sizes, model_types, signature, token_sizes
from hfmem.mapper.values import Architecture, Certainty, Dense, Experts, Layer

__all__ = ["Measured", "measured"]

_PRECISIONS: Final = {"bfloat16": "bf16", "float16": "bf16", "float32": "fp32"}

# Windows of a model, by the size that bounds them.
_WINDOWS: Final = ("window", "attention_chunk_size", "index_topk")


@dataclass(frozen=True, kw_only=True)
class Measured:
    """Coefficients that apply to a model, with its sizes.

    Attributes:
        model: the model.
        coefficients: those of its type, or of its nearest relative.
        batch, seq: sequences and their tokens.
        certainty: `measured` for the type itself in the asked mode, else `typical`.
        why: what stands in for what, where it is `typical`.
    """

    model: Model
    coefficients: Coefficients
    batch: int
    seq: int
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
        """The model's layers."""
        return self.model.architecture.layers or ()

    @cached_property
    def _sizes(self) -> dict[Layer | None, Mapping[str, int]]:
        config = self.model.checkpoint.config or {}
        indices: dict[Layer | None, int] = {None: len(self.layers)}
        for index, layer in enumerate(self.layers):
            indices.setdefault(layer, index)
        found = {layer: model_sizes(config, self.model.architecture, index) for layer, index in indices.items()}
        return {layer: {**token_sizes(self.batch, self.seq, sizes), **sizes} for layer, sizes in found.items()}

    def sizes(self, layer: Layer | None) -> Mapping[str, int]:
        """The named sizes for a layer; None for the head, and for what is before the layers."""
        return self._sizes[layer]

    def part(self, layer: Layer | None) -> Part:
        """The coefficients of a layer; None for the head."""
        if layer is None:
            return self.coefficients.head
        return _part(self.coefficients, layer)

    def value(self, polynomial: Polynomial, layer: Layer | None) -> int:
        """Bytes at the sizes of a layer."""
        return polynomial.at(self.sizes(layer))

    def before(self) -> int:
        """Bytes kept beyond the layers and the head."""
        return self.value(self.coefficients.before, self.layers[0] if self.layers else None)

    def highest(self, layer: Layer | None) -> Moment:
        """The highest moment of a part."""
        moments = self.part(layer).moments or (Moment(activations=Polynomial({}), gradients=Polynomial({})),)
        return max(moments, key=lambda m: self.value(m.activations, layer) + self.value(m.gradients, layer))

    def alpha_beta(self, polynomial: Polynomial, layer: Layer | None) -> tuple[float, float]:
        """Bytes as the article's alpha (a token and hidden unit) and beta (a head and pair of tokens)."""
        sizes = self.sizes(layer)
        quadratic = polynomial.quadratic().at(sizes)
        linear = polynomial.at(sizes) - quadratic
        heads = sizes.get("heads") or self.model.architecture.attention_heads or 1
        return (
            linear / (self.batch * self.seq * sizes["hidden"]),
            quadratic / (self.batch * heads * self.seq**2),
        )


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
    own = model_types(model.checkpoint.config or {})
    for model_type in (*own, *_relatives(architecture)):
        for mode, why in _modes(attention, precision, method):
            found = find(model_type, mode, within=_is_within(architecture, scenario.seq))
            if found is None:
                continue
            reasons = [why] if why else []
            if model_type not in own:
                reasons.insert(0, f"{own[0] if own else 'the type'} was not measured")
            reasons += _unfamiliar(found, model)
            candidate = Measured(
                model=model,
                coefficients=found,
                batch=scenario.batch,
                seq=scenario.seq,
                certainty="typical" if reasons else "measured",
                why="; ".join(reasons),
            )
            if _complete(candidate):
                return candidate
    return f"nothing like '{own[0] if own else '?'}' was measured"


def _modes(attention: str, precision: str, method: str) -> list[tuple[str, str]]:
    """The asked mode, then what can stand in for it, with the reason."""
    other = "eager" if attention == "sdpa" else "sdpa"
    return [
        (f"{attention}/{precision}/{method}", ""),
        # a class without the implementation runs the other one
        (f"{other}/{precision}/{method}", "" if attention == "sdpa" else f"{attention} attention was not measured"),
        (f"{attention}/bf16/{method}", f"{precision} was not measured"),
        (f"{other}/bf16/{method}", f"{precision} was not measured"),
    ]


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


def _is_within(architecture: Architecture, seq: int) -> bool:
    """Whether every window is longer than the tokens."""
    windows = [getattr(layer.cache, "window", None) for layer in architecture.layers or ()]
    found = [window for window in windows if window is not None]
    return bool(found) and seq <= min(found)


def _part(coefficients: Coefficients, layer: Layer) -> Part:
    """A layer's part; of the layer most like it, where its kind was not measured."""
    name = signature(layer)
    if name in coefficients.layers:
        return coefficients.layers[name]
    kind, _, ffn = name.partition(", ")
    close = [key for key in coefficients.layers if key.endswith(f", {ffn}")]
    close += [key for key in coefficients.layers if key.startswith(f"{kind}, ")]
    return coefficients.layers[next(iter(close or coefficients.layers))]


def _unfamiliar(coefficients: Coefficients, model: Model) -> list[str]:
    """Sentences for kinds of layers that were not measured, and for sizes that were and are others here."""
    kinds = {signature(layer) for layer in model.architecture.layers or ()} - set(coefficients.layers)
    reasons = [f"no layer '{name}' was measured" for name in sorted(kinds)]
    if coefficients.fixed:
        sizes = model_sizes(model.checkpoint.config or {}, model.architecture, 0)
        other = [name for name, value in coefficients.fixed.items() if sizes.get(name, value) != value]
        reasons += [f"measured with {name} {coefficients.fixed[name]} only" for name in other]
    return reasons


def _complete(candidate: Measured) -> bool:
    """Whether the model has every size that the coefficients are written in."""
    for layer in dict.fromkeys((*candidate.layers, None)):
        part = candidate.part(layer)
        needed = part.kept.names.union(*(m.activations.names | m.gradients.names for m in part.moments))
        if layer is None:
            needed |= candidate.coefficients.before.names
        if not needed <= candidate.sizes(layer).keys():
            return False
    return True
