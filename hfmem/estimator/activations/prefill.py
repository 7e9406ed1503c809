"""Activations of inference: the peak of the prefill, measured on the real class, and of the passes that follow it where
the prompt is run in chunks or tokens are generated (`pieces`).

The prompt runs through the layers one by one. Each layer adds its KV cache and needs a working set on top of resident
memory, so the peak is the largest over the layers and the head. Only the part above weights and the final KV cache is
counted here.
"""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

from hfmem.dtypes import find_dtype
from hfmem.estimator.activations.measured import Measured, measured
from hfmem.estimator.activations.pieces import Highest, highest_of_later
from hfmem.estimator.article import ALPHA_BETA
from hfmem.estimator.cache.sizes import layer_bytes, prompt_bytes
from hfmem.estimator.scenario import Scenario
from hfmem.estimator.values import Group, Term
from hfmem.mapper.interpret import Model
from hfmem.mapper.values import ParameterTable
from hfmem.unknown import Unknown

__all__ = ["activation_terms", "final_cache"]


class _Peak(NamedTuple):
    """The peak of a prefill.

    Attributes:
        nbytes: bytes above weights and the final cache.
        number: the number of the part with the peak.
        carried: bytes kept, besides the cache, by earlier layers and by what precedes the layers.
        missing: bytes of cache that this and later layers have not allocated yet; this layer's own is counted in its
            working set.
        beyond: bytes of keys and values outside the sliding windows of earlier layers, which are not freed yet.
    """

    nbytes: int
    number: int
    carried: int = 0
    missing: int = 0
    beyond: int = 0


def activation_terms(model: Model, scenario: Scenario) -> tuple[list[Term], list[tuple[Group, str]]]:
    """The terms, and what is unknown."""
    if model.architecture.layers == () and model.parameters is not None:
        return [_lookup(model.parameters, scenario)], []
    # the first pass covers the first chunk, or the prompt, or all tokens: whichever is shortest
    first = min(filter(None, (scenario.prefill_chunk, scenario.prompt, scenario.seq)))
    alone = replace(scenario, seq=first)
    found = measured(model, alone, "prefill")
    if isinstance(found, Unknown):
        return [], [("activations", found.reason)]
    later = highest_of_later(model, scenario)
    if isinstance(later, Unknown):
        return [], [("activations", later.reason)]
    peak = _peak(found, alone)
    # terms count against the final cache, part of which is still free during the first pass
    unfilled = final_cache(model, scenario) - final_cache(model, alone)
    if later is not None and later.nbytes >= peak.nbytes - unfilled:
        return [_later_term(later)], []
    how = _how(found, peak, scenario)
    return [
        Term(
            name=f"prefill: {_place(found, peak.number)}",
            group="activations",
            nbytes=max(0, peak.nbytes - unfilled),
            how=f"{how}; - {unfilled:,} B of cache of the tokens after these" if unfilled else how,
            source=found.applied.source,
            certainty=found.applied.certainty,
        )
    ], []


def _lookup(parameters: ParameterTable, scenario: Scenario) -> Term:
    """The rows of a table of static embeddings for all tokens, whose mean is the result. `EmbeddingBag` sums them
    without gathering them first: this is the most that an implementation takes."""
    width = max((group.shape[-1] for group in parameters.groups if len(group.shape) == 2), default=0)
    dtype = find_dtype(scenario.compute_dtype or "") or find_dtype("float32")
    each = dtype.nbytes(width) if dtype is not None else 0
    return Term(
        name="prefill: rows of the tokens",
        group="activations",
        nbytes=scenario.batch * scenario.seq * each,
        how=f"batch {scenario.batch:,} × {scenario.seq:,} tokens × {each:,} B of a row: no layer runs",
        source="model2vec's StaticModel and sentence-transformers' StaticEmbedding: a lookup and a mean",
        certainty="derived",
    )


def _later_term(later: Highest) -> Term:
    applied = later.found.applied
    return Term(
        name=f"{'decode' if later.found.seq == 1 else 'prefill in pieces'}: {_place(later.found, later.number)}",
        group="activations",
        nbytes=later.nbytes,
        how=later.how,
        source=applied.source,
        certainty=applied.certainty,
    )


def final_cache(model: Model, scenario: Scenario) -> int:
    """Bytes of the cache of all layers."""
    structure = model.structure
    each = [layer_bytes(layer, scenario) for layer in structure.layers]
    return sum(each[number] for number in structure.order)


def _peak(found: Measured, scenario: Scenario) -> _Peak:
    applied, structure = found.applied, found.applied.structure
    caches = [layer_bytes(layer, scenario) for layer in structure.layers] + [0]
    whole = [prompt_bytes(layer, scenario) for layer in structure.layers] + [0]
    kept = [found.value(part.kept, number) for number, part in enumerate(applied.reduced)]
    working = [
        max((found.value(moment.activations, number) for moment in part.moments), default=0)
        for number, part in enumerate(applied.reduced)
    ]
    missing, carried, beyond = sum(caches[number] for number in structure.order), found.before(), 0
    peak = _Peak(nbytes=max(0, working[found.entry] - missing), number=found.entry, missing=missing)
    for number in (*structure.order, found.head):
        nbytes = carried + working[number] + beyond - missing
        if nbytes >= peak.nbytes:
            peak = _Peak(nbytes=nbytes, number=number, carried=carried, missing=missing, beyond=beyond)
        missing -= caches[number]
        beyond += whole[number] - caches[number]
        carried += kept[number]
    return peak


def _place(found: Measured, number: int) -> str:
    if number == found.entry:
        return "before the layers"
    return (
        "the head"
        if number == found.head
        else f"a layer of {found.applied.structure.layers[number].kind.replace('_', ' ')}"
    )


def _how(found: Measured, peak: _Peak, scenario: Scenario) -> str:
    index = found.highest(peak.number)
    if index < 0:
        return "nothing besides weights and cache"
    polynomial = found.applied.parts[peak.number].moments[index].activations
    sizes = {**found.tokens[peak.number], **found.applied.sizes[peak.number]}
    named = ", ".join(f"{name} {sizes[name]:,}" for name in sorted(polynomial.names, key=lambda n: (n not in "bs", n)))
    how = f"{polynomial.describe()} bytes with {named}"
    if peak.carried:
        how += f"; + {peak.carried:,} B kept from earlier layers"
    if peak.beyond:
        how += f"; + {peak.beyond:,} B of keys and values outside the sliding windows, kept until the next token"
    if peak.missing:
        how += f"; - {peak.missing:,} B of cache that this and later layers have not allocated yet"
    alpha, beta = found.alpha_beta(polynomial, peak.number)
    book = ALPHA_BETA[scenario.attention]
    return f"{how}. That is alpha {alpha:.1f} and beta {beta:.1f}; the article has {book[0]} and {book[1]}"
