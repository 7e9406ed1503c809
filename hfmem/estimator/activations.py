"""What inference holds besides weights and cache: the highest moment of a prefill, as it was measured on the class.

The prompt runs through the layers one by one. Each adds its cache, and on top of what is there needs its own working
set, so the peak is the highest of them and of the head; what of it is above weights and the whole cache is told here.
"""

from __future__ import annotations

from dataclasses import dataclass

from hfmem.estimator.caches import layer_bytes, prompt_bytes
from hfmem.estimator.coefficients import Moment
from hfmem.estimator.measured import Measured, measured
from hfmem.estimator.textbook import ALPHA_BETA
from hfmem.estimator.values import Group, Scenario, Term
from hfmem.mapper.interpret import Model
from hfmem.mapper.values import Layer

__all__ = ["activation_terms"]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Peak:
    """The highest moment of a prefill.

    Attributes:
        nbytes: above weights and cache.
        layer: the layer it is in; None for the head.
        carried: bytes that earlier layers, and what is before them, keep beside the cache.
        missing: bytes of the cache that later layers have not made yet.
        beyond: bytes of the prompt's keys and values that windows of this and earlier layers no longer need.
    """

    nbytes: int
    layer: Layer | None
    carried: int
    missing: int
    beyond: int


def activation_terms(model: Model, scenario: Scenario) -> tuple[list[Term], list[tuple[Group, str]]]:
    """The terms, and what is unknown."""
    found = measured(model, scenario, "prefill")
    if isinstance(found, str):
        return [], [("activations", found)]
    peak = _peak(found, scenario)
    return [
        Term(
            name=f"prefill: {_place(peak.layer)}",
            group="activations",
            nbytes=peak.nbytes,
            how=_how(found, peak, scenario),
            source=found.source,
            certainty=found.certainty,
        )
    ], []


def _peak(found: Measured, scenario: Scenario) -> _Peak:
    caches = {layer: layer_bytes(layer, scenario) for layer in dict.fromkeys(found.layers)}
    working = {layer: found.value(found.highest(layer).activations, layer) for layer in (*caches, None)}
    kept = {layer: found.value(found.part(layer).kept, layer) for layer in caches}
    whole = {layer: prompt_bytes(layer, scenario) - nbytes for layer, nbytes in caches.items()}
    missing = sum(caches[layer] for layer in found.layers)
    carried, beyond = found.before(), 0
    peak = _Peak(nbytes=0, layer=None, carried=0, missing=0, beyond=0)
    for layer in (*found.layers, None):
        if layer is not None:
            missing -= caches[layer]
            beyond += whole[layer]
        nbytes = carried + working[layer] + beyond - missing
        if nbytes >= peak.nbytes:
            peak = _Peak(nbytes=nbytes, layer=layer, carried=carried, missing=missing, beyond=beyond)
        if layer is not None:
            carried += kept[layer]
    return peak


def _place(layer: Layer | None) -> str:
    return "the head" if layer is None else f"a layer of {layer.kind.replace('_', ' ')}"


def _how(found: Measured, peak: _Peak, scenario: Scenario) -> str:
    moment: Moment = found.highest(peak.layer)
    sizes = found.sizes(peak.layer)
    named = ", ".join(
        f"{name} {sizes[name]:,}" for name in sorted(moment.activations.names, key=lambda n: (n not in "bs", n))
    )
    how = f"{moment.activations.describe()} bytes with {named}"
    if peak.carried:
        how += f"; + {peak.carried:,} B kept of what was before"
    if peak.beyond:
        how += f"; + {peak.beyond:,} B of keys and values beyond the windows, which stay until the next token"
    if peak.missing:
        how += f"; - {peak.missing:,} B of cache that later layers have not made yet"
    alpha, beta = found.alpha_beta(moment.activations, peak.layer)
    book = ALPHA_BETA[scenario.attention]
    return f"{how}. That is alpha {alpha:.1f} and beta {beta:.1f}; the article has {book[0]} and {book[1]}"
