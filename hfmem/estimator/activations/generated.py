"""Activations of `generate` in transformers with beams, or with another cache than the one that grows by each token.

Beams: the scores of a step stay while the next one runs (`logits` and `log_probs` of `_beam_search`, both float32), and
after each step the cache is put in another order, tensor by tensor (`index_select` in `reorder_cache`).

Caches: what other layers hold while one layer runs depends on the cache. A layer's working set is the measured one: it
includes its own keys and values, before and after the pass.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from math import ceil
from typing import Final

from hfmem.dtypes import find_dtype
from hfmem.estimator.activations.measured import Measured, measured
from hfmem.estimator.activations.pieces import Run, highest_of_later, how_of, later_runs
from hfmem.estimator.activations.prefill import activation_terms
from hfmem.estimator.cache.generation import (
    SOURCE,
    as_run,
    generated_cache,
    generation_of,
    largest_share,
    moved,
    packed_bytes,
    packed_tokens,
)
from hfmem.estimator.cache.sizes import layer_bytes, prompt_bytes
from hfmem.estimator.scenario import PackedCache, Scenario
from hfmem.estimator.values import Group, Term, total_of
from hfmem.mapper.interpret import Model
from hfmem.unknown import Unknown

__all__ = ["generated_terms"]

_QUANTISING: Final = {"quanto": 3, "hqq": 38, "fp8": 9}
"""Bytes per element of the keys that quantising or unpacking takes at most, besides what is measured of the layer: seen
once on the layers of optimum-quanto 0.2.7, hqq 0.2.8 and transformers 5.24.0, run on the CPU."""

_Found = tuple[list[Term], list[tuple[Group, str]]]


def generated_terms(model: Model, scenario: Scenario) -> _Found:
    """The terms above weights and cache, and what is unknown."""
    generation, run = generation_of(scenario), as_run(scenario)
    if generation.cache == "dynamic" or model.architecture.own_cache:
        terms, unknown = activation_terms(model, run)
        above = terms[0].nbytes if terms else 0
        decoding = highest_of_later(model, run, only="decode")
        later = 0 if decoding is None or isinstance(decoding, Unknown) else decoding.nbytes
    else:
        terms, unknown, above, later = _other(model, scenario, run)
    if unknown or generation.beams == 1:
        return terms, unknown
    beams = _beams(model, run, later)
    return ([beams] if beams.nbytes > above else terms), []


def _beams(model: Model, run: Scenario, decoding: int) -> Term:
    """The peak of beam search outside of the prefill: a step beside the scores of the one before, the scores, or the
    new order of the cache."""
    dtype = find_dtype(run.compute_dtype or "")
    size = dtype.nbytes(1) if dtype is not None else 4
    entries = run.batch * (model.architecture.vocab_size or 0)
    # keys and values are put in order one after the other; of a quantised cache only the few tokens that wait are
    each = (layer_bytes(layer, run) * largest_share(layer) for layer in set(model.architecture.layers or ()))
    largest = 0 if generation_of(run).packed is not None else ceil(max(each, default=0))
    ways = (
        (decoding + 2 * 4 * entries, f"a step of {decoding:,} B beside two float32 scores per vocabulary entry"),
        ((3 * 4 + size) * entries, "logits and three float32 scores per vocabulary entry"),
        (
            2 * 4 * entries + largest,
            f"two float32 scores per vocabulary entry, and a tensor of {largest:,} B of the cache in the new order",
        ),
    )
    nbytes, how = max(ways)
    return Term(
        name="beam search",
        group="activations",
        nbytes=nbytes,
        how=f"{how}; {run.batch:,} sequences × {model.architecture.vocab_size or 0:,} entries",
        source=f"{SOURCE}: _beam_search and reorder_cache",
        certainty="derived",
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Caches:
    """Bytes that each layer of the model holds on the accelerator while another layer runs: before its own pass, and
    after it.

    Attributes:
        before, after: in the order of the layers.
        fetched: the largest layer that is fetched while another one runs.
        more: of each layer, what quantising takes while it runs.
    """

    before: Sequence[int]
    after: Sequence[int]
    fetched: int = 0
    more: Sequence[int] = ()


def _other(model: Model, scenario: Scenario, run: Scenario) -> tuple[list[Term], list[tuple[Group, str]], int, int]:
    """The terms with a cache that does not grow by each token; and bytes of the peak and of the peak of decoding."""
    cache = generated_cache(model.architecture, scenario)
    if isinstance(cache, Unknown):
        return [], [("activations", cache.reason)], 0, 0
    held = total_of(cache.terms)
    best = later = 0
    term: Term | None = None
    for one in _passes(run):
        found = _measured(model, run, one)
        if isinstance(found, Unknown):
            return [], [("activations", found.reason)], 0, 0
        peak, number = _highest(found, _caches(model, run, one))
        above = max(0, peak - held)
        later = max(later, above) if one.method == "decode" else later
        if term is None or above > best:
            best, term = above, _term(found, one, number, above)
    return ([] if term is None else [term]), [], best, later


def _passes(run: Scenario) -> Iterator[Run]:
    """The first pass, and those after it that can have the peak; with a quantised cache also the last one in which
    waiting tokens were quantised, and the one before."""
    first = min(filter(None, (run.prefill_chunk, run.prompt, run.seq)))
    yield Run(method="prefill", past=0, tokens=first, piece=first)
    yield from later_runs(run)
    packed, prompt = generation_of(run).packed, min(run.prompt or run.seq, run.seq)
    if packed is None or not packed.residual:
        return
    flushed = packed_tokens(packed, run)[0]
    for last in (flushed, flushed - 1):
        if last > prompt:
            yield Run(method="decode", past=last - 1, tokens=1, piece=1)


def _measured(model: Model, run: Scenario, one: Run) -> Measured | Unknown:
    """The coefficients of a pass. A static cache is attended to as a whole, whatever of it is filled."""
    alone = replace(run, seq=one.tokens)
    if not generation_of(run).static:
        return measured(model, alone, one.method, past=one.past)
    method = "decode" if one.method == "decode" else "chunk"
    return measured(model, alone, method, past=max(1, run.seq - one.tokens))


def _caches(model: Model, run: Scenario, one: Run) -> _Caches:
    """What each layer holds while the pass runs."""
    generation, structure = generation_of(run), model.structure
    first, then = replace(run, seq=max(1, one.past)), replace(run, seq=one.past + one.tokens)
    whole = run if generation.static else None
    before = [layer_bytes(layer, whole or first) if one.past else 0 for layer in structure.layers]
    after = [layer_bytes(layer, whole or then) for layer in structure.layers]
    if generation.packed is not None:
        return _packed(model, run, one, generation.packed)
    if not generation.offloaded:
        return _Caches(before=[before[n] for n in structure.order], after=[after[n] for n in structure.order])
    away = [moved(layer, generation) for layer in structure.layers]
    fetched = max((size for size, goes in zip(before, away, strict=True) if goes), default=0)
    return _Caches(
        before=[0 if away[n] else before[n] for n in structure.order],
        after=[0 if away[n] else after[n] for n in structure.order],
        fetched=fetched,
    )


def _packed(model: Model, run: Scenario, one: Run, packed: PackedCache) -> _Caches:
    """What each layer of a quantised cache holds, and what quantising takes."""
    structure = model.structure

    def sizes(tokens: int) -> list[int]:
        if not tokens:
            return [0] * len(structure.layers)
        then = packed_tokens(packed, replace(run, seq=tokens))
        return [sum(packed_bytes(packed, layer, run, then)) for layer in structure.layers]

    before, after = sizes(one.past), sizes(one.past + one.tokens)
    dtype = find_dtype(run.kv_dtype or "")
    each = dtype.nbytes(1) if dtype is not None else 4
    then = replace(run, seq=one.past + one.tokens)
    keys = [prompt_bytes(layer, then) // each // 2 for layer in structure.layers]
    more = [_QUANTISING[packed.backend] * keys[n] + before[n] + after[n] for n in range(len(keys))]
    return _Caches(
        before=[before[n] for n in structure.order],
        after=[after[n] for n in structure.order],
        more=[more[n] for n in structure.order],
    )


def _highest(found: Measured, caches: _Caches) -> tuple[int, int]:
    """The peak of a pass above the weights, and the number of the part with it."""
    structure = found.applied.structure
    parts = found.applied.unbounded if found.past else found.applied.reduced
    working = [
        max((found.value(m.activations, number) for m in part.moments), default=0) for number, part in enumerate(parts)
    ]
    there, carried = sum(caches.before), found.value(parts[-1].kept, found.entry)
    best, at = there + caches.fetched + working[found.entry], found.entry
    for place, number in enumerate(structure.order):
        there -= caches.before[place]
        more = caches.more[place] if caches.more else 0
        nbytes = there + caches.fetched + carried + working[number] + more
        best, at = (nbytes, number) if nbytes >= best else (best, at)
        there += caches.after[place]
        carried += found.value(parts[number].kept, number)
    nbytes = there + caches.fetched + carried + working[found.head]
    return (nbytes, found.head) if nbytes >= best else (best, at)


def _term(found: Measured, one: Run, number: int, nbytes: int) -> Term:
    how = how_of(found, number, one)
    how = how if one.past else how.replace(f"a piece of {one.tokens:,} tokens on a cache of 0", "the first pass")
    place = "before the layers" if number == found.entry else "the head" if number == found.head else "a layer"
    return Term(
        name=f"{'decode' if one.method == 'decode' else 'prefill'}: {place}",
        group="activations",
        nbytes=nbytes,
        how=f"{how}; the cache at that moment is the one of --cache-implementation",
        source=found.applied.source,
        certainty=found.applied.certainty,
    )
