"""A run of `mlx_lm.generate`: the prompt in steps, then token by token, and the memory at its peak.

Source: `generate_step` of mlx-lm 0.32.2 (mlx_lm/generate.py). All of the prompt but its last token is run in steps, of
which only the caches are evaluated; then tokens are run one at a time, the next while the last is still computed.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import pairwise
from typing import Final

from hfmem.engines.mlx.caches import STEP, Growing, Rotating, rounded
from hfmem.engines.mlx.graph import Node
from hfmem.engines.mlx.modules import Attention, Shape, forward
from hfmem.engines.mlx.operations import Operations, Packed
from hfmem.engines.mlx.tasks import Backend, Evaluator

__all__ = ["Peak", "Run", "kept", "peak"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """What is run.

    Attributes:
        batch: sequences.
        prompt: tokens of the prompt.
        seq: tokens at the end, generated ones included.
        step: tokens of the prompt at once.
        item: bytes per element of activations and cache.
        packed: how matrices are quantised; None for plain ones.
    """

    batch: int
    prompt: int
    seq: int
    step: int
    item: int
    packed: Packed | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Peak:
    """The most that caches and activations take together.

    Attributes:
        nbytes: their bytes.
        phase: when: `prefill` or `decode`.
        tokens: tokens that the pass runs at once.
        before: tokens in the cache before it.
    """

    nbytes: int
    phase: str
    tokens: int
    before: int


@dataclass(frozen=True, slots=True, kw_only=True)
class _Passes:
    """Passes that follow one another without a wait, from `before` tokens on; `room` tokens fit in a full cache."""

    phase: str
    before: int
    room: int
    tokens: tuple[int, ...]


def kept(attention: Attention, run: Run) -> int:
    """Tokens for which the cache of a layer has room at the end of a run."""
    tokens, room = _prefilled(run)
    window = attention.window
    if window is None:
        return room if run.seq <= room else room + rounded(run.seq - room)
    if tokens > window:
        return window
    least = max(tokens, 0)
    return min(window, least + rounded(max(0, run.seq - least)))


def _steps(run: Run) -> list[int]:
    """Tokens of each step of the prompt."""
    whole, rest = divmod(run.prompt - 1, run.step)
    return [run.step] * whole + ([rest] if rest else [])


def _prefilled(run: Run) -> tuple[int, int]:
    """Tokens in the cache after the steps of the prompt, and tokens for which it then has room."""
    tokens = room = 0
    for step in _steps(run):
        room = _grown(tokens, room, step)
        tokens += step
    return tokens, room


def _grown(tokens: int, room: int, added: int) -> int:
    """Room of a growing cache after a pass (`KVCache.update_and_fetch`)."""
    if room and tokens + added <= room:
        return room
    return (tokens if tokens % STEP else room) + rounded(added)


def _passes(run: Run) -> Iterator[_Passes]:
    """The passes that can be at the peak: the last full and the last step of the prompt, as caches before a step only
    grows; the first single tokens, and the last time that caches grow."""
    steps = _steps(run)
    tokens = room = 0
    last = [number for number, (one, after) in enumerate(pairwise([*steps, 0])) if after < one]
    for number, step in enumerate(steps):
        if number in last:
            yield _Passes(phase="prefill", before=tokens, room=room, tokens=(step,))
        room = _grown(tokens, room, step)
        tokens += step
    yield _Passes(phase="decode", before=tokens, room=room, tokens=(1,) * min(2, run.seq - tokens))
    if run.seq > room > 0:
        grows = room + (run.seq - 1 - room) // STEP * STEP
        start = max(tokens, grows)
        yield _Passes(phase="decode", before=start, room=grows, tokens=(1,) * min(2, run.seq - start))


@lru_cache(maxsize=256)
def peak(shape: Shape, run: Run, backend: Backend) -> Peak:
    """The peak of a run, without weights."""
    found: list[Peak] = []
    for passes in _passes(run):
        if passes.phase == "decode" and found and _at_most(shape, run) < max(one.nbytes for one in found):
            continue
        nbytes = _peak_of(shape, run, passes, backend)
        found.append(Peak(nbytes=nbytes, phase=passes.phase, tokens=passes.tokens[0], before=passes.before))
    return max(found, key=lambda one: one.nbytes)


_ONE_TOKEN: Final = 64
"""More arrays of a row than a layer makes of one token."""


def _at_most(shape: Shape, run: Run) -> int:
    """More than single tokens can take: all caches twice, all arrays of the layers, and the head's."""
    caches = sum(kept(block.attention, run) * _width(block.attention) for block in shape.blocks)
    rows = len(shape.blocks) * _ONE_TOKEN * shape.hidden + 8 * shape.vocab
    return run.batch * run.item * (2 * caches + rows)


def _width(attention: Attention) -> int:
    return attention.kv_heads * (attention.key_dim + attention.value_dim)


_FEWEST: Final = 8  # layers to simulate first
_SETTLED: Final = 3  # layers that must be run after the main thread has begun to wait


def _peak_of(shape: Shape, run: Run, passes: _Passes, backend: Backend) -> int:
    """The peak of some passes. What is in flight reaches back a few layers only, and caches only grow: where all
    layers before have grown caches already, the last few have the peak. They are as many as it takes until the main
    thread has waited for a while."""
    count = _FEWEST
    while count < len(shape.blocks):
        skipped, last = shape.blocks[:-count], shape.blocks[-count:]
        if {block.attention for block in skipped} <= {block.attention for block in last}:
            evaluator, sizes = _simulated(replace(shape, blocks=last), run, passes, backend)
            if evaluator.waited * count >= _SETTLED * evaluator.made * len(passes.tokens):
                return evaluator.peak + sum(sizes[block.attention] for block in skipped)
        count *= 2
    return _simulated(shape, run, passes, backend)[0].peak


def _simulated(shape: Shape, run: Run, passes: _Passes, backend: Backend) -> tuple[Evaluator, Mapping[Attention, int]]:
    """The memory over some passes, and bytes of each sort of cache after them."""
    evaluator = Evaluator(backend)
    caches = [_cache(block.attention, run, passes) for block in shape.blocks]
    for cache in caches:
        for array in cache.existing():
            evaluator.hold(array)

    def release(arrays: Sequence[Node]) -> None:
        for array in arrays:
            evaluator.drop(array)

    for number, tokens in enumerate(passes.tokens):
        operations = Operations(fused=backend.fused, batch=run.batch, tokens=tokens, item=run.item, packed=run.packed)
        logits = forward(shape, caches, operations, release)
        if passes.phase == "prefill":
            evaluator.evaluate([array for cache in caches for array in cache.existing()])
            continue
        logits.held = True
        evaluator.evaluate([logits], wait=number > 0)
        evaluator.drop(logits)
    pairs = zip(shape.blocks, caches, strict=True)
    return evaluator, {block.attention: sum(array.nbytes for array in cache.existing()) for block, cache in pairs}


def _cache(attention: Attention, run: Run, passes: _Passes) -> Growing | Rotating:
    """The cache of a layer before some passes."""
    widths = (attention.kv_heads * attention.key_dim, attention.kv_heads * attention.value_dim)
    if attention.window is None:
        grown = Growing(widths=widths, batch=run.batch, item=run.item)
        grown.start(passes.room, passes.before)
        return grown
    turned = Rotating(widths=widths, batch=run.batch, item=run.item, window=attention.window)
    turned.start(_turned(attention.window, run, passes), passes.before)
    return turned


def _turned(window: int, run: Run, passes: _Passes) -> int:
    """Room of a rotating cache before some passes: right after a step of the prompt it has all of its tokens, and from
    the first single token on those of the window."""
    before = passes.before
    steps = _steps(run)
    if before > sum(steps):  # single tokens were run
        return min(window, sum(steps) + rounded(before - sum(steps))) if sum(steps) < window else window
    seen = 0
    for step in steps:
        if seen + step >= before:
            return min(seen, window - 1) + step if seen else min(before, step)
        seen += step
    return 0
