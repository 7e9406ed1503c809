"""Activations of inference where the prompt is prefilled in chunks, or tokens are generated after it.

A chunk runs on the KV cache of the chunks before it. Each layer concatenates old and new keys and values into a new
tensor (`torch.cat` in `DynamicLayer.update`), so while a layer runs, old and new cache of that layer coexist; earlier
layers hold the new cache, later ones still the old. Generated tokens run one by one. The result is the peak over all
these passes, above weights and the final cache. It follows transformers' `generate(prefill_chunk_size=...)`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Literal, NamedTuple

from hfmem.estimator.activations.measured import Measured, measured
from hfmem.estimator.activations.polynomials import Polynomial
from hfmem.estimator.cache.sizes import layer_bytes, prompt_bytes
from hfmem.estimator.scenario import Scenario
from hfmem.mapper.interpret import Model
from hfmem.mapper.values import Layer
from hfmem.unknown import Unknown

__all__ = ["Highest", "Run", "highest_in", "highest_of_later", "how_of", "later_runs"]


class Run(NamedTuple):
    """One forward pass, on an existing cache but for `prefill`.

    Attributes:
        method: the measured mode.
        past, tokens: tokens in the cache, and tokens of this pass.
        piece: tokens of the previous pass.
    """

    method: Literal["prefill", "chunk", "decode"]
    past: int
    tokens: int
    piece: int


class Highest(NamedTuple):
    """The peak.

    Attributes:
        nbytes: bytes above weights and the final cache.
        found, number: the coefficients, and the number of the part with the peak.
        how: the arithmetic.
    """

    nbytes: int
    found: Measured
    number: int
    how: str


def highest_of_later(model: Model, scenario: Scenario, *, only: str = "") -> Highest | Unknown | None:
    """The peak of all passes after the first chunk, or of those of one mode (`only`); None where there is no such pass;
    Unknown with the reason."""
    best: Highest | None = None
    for run in later_runs(scenario):
        if only not in ("", run.method):
            continue
        found = measured(model, replace(scenario, seq=run.tokens), run.method, past=run.past)
        if isinstance(found, Unknown):
            return found
        here = highest_in(found, scenario, run)
        if best is None or here.nbytes > best.nbytes:
            best = here
    return best


def later_runs(scenario: Scenario) -> Iterator[Run]:
    """The passes that can have the peak: the last full chunk, the remainder of the prompt, the last generated token.
    Earlier chunks of the same size run on a shorter cache and need less."""
    prompt = min(scenario.prompt or scenario.seq, scenario.seq)
    piece = min(scenario.prefill_chunk or prompt, prompt)
    rest = prompt % piece
    if prompt - rest > piece:
        yield Run(method="chunk", past=prompt - rest - piece, tokens=piece, piece=piece)
    if rest and prompt > rest:
        yield Run(method="chunk", past=prompt - rest, tokens=rest, piece=piece)
    if scenario.seq > prompt:
        last = scenario.seq - 1
        yield Run(method="decode", past=last, tokens=1, piece=1 if last > prompt else rest or piece)


def highest_in(found: Measured, scenario: Scenario, run: Run) -> Highest:
    """The peak of one pass on an existing cache."""
    structure, parts = found.applied.structure, found.applied.unbounded
    each = [layer_bytes(layer, scenario) for layer in structure.layers]
    whole = sum(each[number] for number in structure.order)
    old = [_held(layer, scenario, run.past, run.piece) for layer in structure.layers]
    new = [_held(layer, scenario, run.past + run.tokens, run.tokens) for layer in structure.layers]
    working = [
        max((found.value(m.activations, number) for m in part.moments), default=0) for number, part in enumerate(parts)
    ]
    there, carried = sum(old[number] for number in structure.order), found.value(parts[-1].kept, found.entry)
    best, at = there + working[found.entry], found.entry
    for number in structure.order:
        there -= old[number]  # the measured working set of a layer includes its own cache, old and new
        nbytes = there + carried + working[number]
        best, at = (nbytes, number) if nbytes >= best else (best, at)
        there += new[number]
        carried += found.value(parts[number].kept, number)
    nbytes = there + carried + working[found.head]
    best, at = (nbytes, found.head) if nbytes >= best else (best, at)
    return Highest(nbytes=max(0, best - whole), found=found, number=at, how=how_of(found, at, run))


def _held(layer: Layer, scenario: Scenario, tokens: int, piece: int) -> int:
    """Bytes of a layer's cache after `tokens` tokens, the last `piece` of them in one pass. With a sliding window, all
    keys and values of that pass stay until the next one, because the window is a view of them."""
    window = getattr(layer.cache, "window", None)
    kept = tokens if window is None else min(tokens, window - 1 + piece)
    return prompt_bytes(layer, replace(scenario, seq=kept))


def how_of(found: Measured, number: int, run: Run) -> str:
    """The arithmetic of a pass on an existing cache."""
    parts, tokens = found.applied.parts, found.tokens[number]
    moments = found.applied.unbounded[number].moments
    index = max(range(len(moments)), key=lambda i: found.value(moments[i].activations, number), default=-1)
    polynomial = parts[number].moments[index].activations if index >= 0 else Polynomial({})
    sizes = {**found.applied.sizes[number], **tokens}
    named = ", ".join(f"{name} {sizes[name]:,}" for name in sorted(polynomial.names, key=lambda n: (n not in "bs", n)))
    what = "one token" if run.method == "decode" else f"a piece of {run.tokens:,} tokens"
    return (
        f"{what} on a cache of {run.past:,}: {polynomial.describe()} bytes with {named}; + activations kept by earlier "
        "layers and the cache at that moment, - the final cache"
    )
