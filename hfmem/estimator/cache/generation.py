"""The cache of `generate` in transformers: several sequences per prompt, and caches that do not grow by each token.

Source: transformers 5.24.0, `cache_utils.py` (DynamicCache, StaticCache, QuantizedCache, `Cache.update`, `offload` and
`prefetch`) and `generation/utils.py` (`_prepare_cache_for_generation`, `_expand_inputs_for_generation`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import ceil
from typing import Final

from hfmem.dtypes import find_dtype
from hfmem.estimator.cache.sizes import CacheSize, cache_size, layer_bytes
from hfmem.estimator.scenario import Generation, PackedCache, Scenario
from hfmem.estimator.values import Term, total_of
from hfmem.mapper.caches import KV, Combined, Compressed, CrossKV, Latent, Shared, State
from hfmem.mapper.interpret import Model
from hfmem.mapper.values import Architecture, Layer
from hfmem.unknown import Unknown

__all__ = [
    "SOURCE",
    "as_run",
    "generated_cache",
    "generation_of",
    "indivisible",
    "largest_share",
    "moved",
    "one_kind",
    "packed_bytes",
    "packed_tokens",
    "preallocates",
]

SOURCE: Final = "transformers 5.24.0, cache_utils.py and generation/utils.py"

_PLAIN: Final = Generation()

_PER_WORD: Final = 10  # HQQ packs ten 3-bit values into 32 bits


def generation_of(scenario: Scenario) -> Generation:
    """How the scenario generates."""
    return scenario.generation or _PLAIN


def as_run(scenario: Scenario) -> Scenario:
    """The scenario with all sequences that run at once as its batch: prompts are repeated before the prefill."""
    return replace(scenario, batch=scenario.batch * generation_of(scenario).copies)


def one_kind(architecture: Architecture) -> bool:
    """Whether all layers have full attention of the decoder's own tokens, as a quantised cache needs."""
    layers = architecture.layers or ()
    return all(layer.kind == "full_attention" and isinstance(layer.cache, KV | Latent) for layer in layers)


def preallocates(architecture: Architecture) -> bool:
    """Whether there is a static cache for all layers: compressed entries have none."""
    return not any(
        isinstance(part, Compressed)
        for layer in architecture.layers or ()
        for part in (layer.cache.caches if isinstance(layer.cache, Combined) else (layer.cache,))
    )


def moved(layer: Layer, generation: Generation) -> bool:
    """Whether an offloaded cache moves this layer to the host: states stay, and so do windows allocated from the start
    (`offload_only_non_sliding` of StaticCache)."""
    if isinstance(layer.cache, State | Shared) or not layer.elements(1, source=1):
        return False
    window = getattr(layer.cache, "window", None)
    return not (generation.static and window)


def packed_tokens(packed: PackedCache, scenario: Scenario) -> tuple[int, int]:
    """Tokens of a sequence that are quantised, and those that are not yet (`QuantizedLayer.update`): the first pass is
    quantised at once, then tokens wait until `residual` of them are together."""
    prompt = min(scenario.prompt or scenario.seq, scenario.seq)
    first = min(scenario.prefill_chunk or prompt, prompt)
    if not packed.residual:
        return scenario.seq, 0
    waiting = _waiting(prompt - first, first, packed.residual)
    left = scenario.seq - prompt
    beyond = packed.residual - waiting
    waiting = waiting + left if left < beyond else (left - beyond) % packed.residual
    return scenario.seq - waiting, waiting


def _waiting(rest: int, piece: int, residual: int) -> int:
    """Tokens that wait after the chunks of a prompt that follow the first one, of which `at_once` are quantised
    together."""
    whole, last = divmod(rest, piece)
    at_once = ceil(residual / piece)
    waiting = whole % at_once * piece + last
    return 0 if last and waiting >= residual else waiting


def _widths(layer: Layer) -> tuple[int, int]:
    """Elements of keys and of values per token."""
    cache = layer.cache
    if isinstance(cache, Latent):
        return (
            (cache.heads * cache.key_dim, cache.heads * cache.value_dim)
            if cache.expanded
            else (cache.rank, cache.rope_dim)
        )
    return (cache.heads * cache.key_dim, cache.heads * cache.value_dim) if isinstance(cache, KV) else (0, 0)


def largest_share(layer: Layer) -> float:
    """The share of the larger of keys and values in a layer's cache; 1 for other caches."""
    widths = _widths(layer)
    return max(widths) / sum(widths) if sum(widths) else 1.0


def indivisible(model: Model, scenario: Scenario) -> str:
    """Why keys or values cannot be cut into groups; "" if they can. quanto cuts those of one sequence (`group` of its
    grouped.py), HQQ those of all (`Quantizer.quantize`)."""
    packed, run = generation_of(scenario).packed, as_run(scenario)
    if packed is None or not packed.group:
        return ""
    sequences = run.batch if packed.backend == "hqq" else 1
    widths = {width for layer in dict.fromkeys(model.architecture.layers or ()) for width in _widths(layer)}
    for tokens in _quantised_at(packed, run):
        for width in sorted(widths):
            if sequences * width * tokens % packed.group:
                number = f"{sequences * tokens:,} tokens × {width:,} elements of a quantised cache"
                return f"{number} are not a multiple of its group size of {packed.group}"
    return ""


def _quantised_at(packed: PackedCache, run: Scenario) -> tuple[int, ...]:
    """Numbers of tokens that are quantised: at first, after the prompt, when waiting tokens are for the first time, and
    at the end. Between these two, each time `residual` more are."""
    prompt = min(run.prompt or run.seq, run.seq)
    after, waiting = packed_tokens(packed, replace(run, seq=prompt, prompt=prompt))
    then = prompt + packed.residual - waiting
    found = (min(run.prefill_chunk or prompt, prompt), after, *((then,) if then <= run.seq else ()))
    return (*found, packed_tokens(packed, run)[0])


def packed_bytes(
    packed: PackedCache, layer: Layer, scenario: Scenario, tokens: tuple[int, int]
) -> tuple[int, int, int]:
    """Bytes of one layer for the whole batch: quantised elements, their scales and zero points, and what waits.

    Args:
        packed: how it is stored.
        layer: the layer.
        scenario: batch and dtypes.
        tokens: tokens that are quantised, and that wait.
    """
    plain = find_dtype(scenario.kv_dtype or "")
    size = plain.nbytes(1) if plain is not None else 0
    data = scales = 0
    for width in _widths(layer):
        elements = scenario.batch * tokens[0] * width
        if not elements:
            continue
        if packed.group:
            groups = elements // packed.group
            data += _stored(packed, groups)
            scales += 2 * groups * size
        else:
            data += elements
            scales += 4
    return data, scales, scenario.batch * tokens[1] * sum(_widths(layer)) * size


def _stored(packed: PackedCache, groups: int) -> int:
    """Bytes of quantised groups. HQQ packs along a group, quanto over groups."""
    if packed.bits == 3:
        return 4 * ceil(packed.group / _PER_WORD) * groups
    each = 8 // packed.bits
    return ceil(packed.group / each) * groups if packed.backend == "hqq" else packed.group * ceil(groups / each)


def generated_cache(architecture: Architecture, scenario: Scenario) -> CacheSize | Unknown:
    """The cache on the accelerator, and what of it the host holds."""
    generation, run = generation_of(scenario), as_run(scenario)
    found = cache_size(architecture, run)
    if isinstance(found, Unknown):
        return found
    terms = tuple(replace(term, how=_how(term.how, scenario)) for term in found.terms)
    copies = generation.copies
    found = replace(found, terms=terms, per_token=found.per_token * copies, fixed=found.fixed * copies)
    if architecture.own_cache:
        return found
    if generation.packed is not None:
        return _packed(architecture, run, generation.packed, copies)
    return _offloaded(architecture, run, found) if generation.offloaded else found


def _how(how: str, scenario: Scenario) -> str:
    """The arithmetic, with the sequences of a prompt."""
    generation = generation_of(scenario)
    if generation.copies > 1:
        what = "beams" if generation.beams > 1 else "answers"
        how += f" ({scenario.batch:,} × {generation.copies:,} {what})"
    return f"{how}, allocated from the start" if generation.static else how


@dataclass(frozen=True, slots=True, kw_only=True)
class _Part:
    """A part of a quantised cache."""

    name: str
    nbytes: int
    how: str


def _packed(architecture: Architecture, run: Scenario, packed: PackedCache, copies: int) -> CacheSize:
    """A quantised cache. A further token is counted as it is once it is quantised."""
    tokens = packed_tokens(packed, run)
    sums = [0, 0, 0]
    growth = 0.0
    for layer, count in Counter(architecture.layers or ()).items():
        sizes = packed_bytes(packed, layer, run, tokens)
        sums = [total + count * size for total, size in zip(sums, sizes, strict=True)]
        million = packed_bytes(packed, layer, replace(run, batch=copies), (10**6, 0))
        growth += count * (million[0] + (million[1] if packed.group else 0)) / 10**6
    bits = "8-bit floating point" if packed.backend == "fp8" else f"{packed.bits} bits"
    group = f"one of each per {packed.group} elements" if packed.group else "one per tensor"
    each = f"{run.batch:,} sequences"
    parts = (
        _Part(name="quantised keys and values", nbytes=sums[0], how=f"{each} × {tokens[0]:,} tokens at {bits}"),
        _Part(
            name="scales and zero points", nbytes=sums[1], how=f"{group}, in {run.kv_dtype}" if packed.group else group
        ),
        _Part(name="tokens not yet quantised", nbytes=sums[2], how=f"{each} × {tokens[1]:,} tokens in {run.kv_dtype}"),
    )
    terms = tuple(
        Term(
            name=part.name,
            group="kv_cache",
            nbytes=part.nbytes,
            how=f"{len(architecture.layers or ())} layers: {part.how}",
            source=f"{SOURCE}: QuantizedCache with {packed.backend}",
            certainty="derived",
        )
        for part in parts
        if part.nbytes
    )
    return CacheSize(terms=terms, per_token=ceil(growth), fixed=0)


def _offloaded(architecture: Architecture, run: Scenario, found: CacheSize) -> CacheSize | Unknown:
    """A cache in the host's memory: the accelerator holds the layer that runs, the next one, which is fetched
    meanwhile, and layers that are never moved."""
    generation = generation_of(run)
    layers = architecture.layers or ()
    if any(_crosses(layer) for layer in layers):
        return Unknown(
            "cross-attention would read its keys and values in host memory, where an offloaded cache left them"
        )
    each = [layer_bytes(layer, run) for layer in layers]
    away = [moved(layer, generation) for layer in layers]
    stay = sum(size for size, goes in zip(each, away, strict=True) if not goes)
    there = _two(each, away)
    whole = total_of(found.terms)
    how = "the layer that runs and the next one, which is fetched meanwhile"
    terms = [_term("two layers of the offloaded cache", there, how)]
    if stay:
        terms.append(_term("layers that are not offloaded", stay, "states, and windows allocated from the start"))
    host = _term("offloaded cache", whole - stay, f"{sum(away)} of {len(layers)} layers, for {run.batch:,} sequences")
    per_token = 0 if not any(away) else ceil(found.per_token * 2 / max(1, sum(away)))
    return CacheSize(terms=tuple(terms), per_token=per_token, fixed=stay // max(1, run.batch), host=(host,))


def _crosses(layer: Layer) -> bool:
    parts = layer.cache.caches if isinstance(layer.cache, Combined) else (layer.cache,)
    return any(isinstance(part, CrossKV) for part in parts)


def _two(each: Sequence[int], away: Sequence[bool]) -> int:
    """The most that two layers take that follow each other; the first follows the last."""
    sizes = [size for size, goes in zip(each, away, strict=True) if goes]
    if len(sizes) < 2:
        return sum(sizes)
    return max(size + sizes[(number + 1) % len(sizes)] for number, size in enumerate(sizes))


def _term(name: str, nbytes: int, how: str) -> Term:
    return Term(
        name=name,
        group="kv_cache",
        nbytes=nbytes,
        how=how,
        source=f"{SOURCE}: Cache.update, prefetch and offload",
        certainty="derived",
    )
