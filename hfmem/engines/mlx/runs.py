"""A run of `mlx_lm.generate`: the prompt in steps, then token by token, and the memory at its peak.

Source: `generate_step` of mlx-lm 0.32.2 (mlx_lm/generate.py). All of the prompt but its last token is run in steps, of
which only the caches are evaluated; then tokens are run one at a time, the next while the last is still computed.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from typing import Final

from hfmem.engines.mlx.caches import STEP, Growing, Rotating, States, rounded
from hfmem.engines.mlx.graph import Node, leaf
from hfmem.engines.mlx.modules import Attention, Shape, forward
from hfmem.engines.mlx.operations import Operations, Packed
from hfmem.engines.mlx.states import Delta, Scan
from hfmem.engines.mlx.tasks import Backend, Evaluator

Mixing = Attention | Delta | Scan
_STATE: Final = 4  # bytes of an element of a recurrent state

__all__ = ["Peak", "Run", "cached", "kept", "peak"]


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
        logits: whether the last step of the prompt has all tokens that are left, with logits of each (mlx-lm before
            0.27).
    """

    batch: int
    prompt: int
    seq: int
    step: int
    item: int
    packed: Packed | None = None
    logits: bool = False


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


def cached(mixer: Mixing, run: Run) -> int:
    """Bytes of the cache of a layer at the end of a run."""
    if isinstance(mixer, Attention):
        return run.batch * kept(mixer, run) * _width(mixer) * run.item
    s = mixer.sizes
    return run.batch * ((s.kernel - 1) * s.convolved * run.item + s.recurrent * _STATE)


def _steps(run: Run) -> list[int]:
    """Tokens of each step of the prompt."""
    if run.logits:
        return [run.step] * ((run.prompt - 1) // run.step)
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


def _passes(run: Run, *, scans: bool) -> Iterator[_Passes]:
    """The passes that can be at the peak: the last full and the last step of the prompt, as what is cached before it
    only grows; the last time that caches grow, and the first single tokens, if caches grow no more or with state spaces
    (`scans`), which still hold the inputs of the last step then."""
    steps = _steps(run)
    tokens = room = 0
    last = [number for number, (one, after) in enumerate(pairwise([*steps, 0])) if after < one]
    for number, step in enumerate(steps):
        if number in last:
            yield _Passes(phase="prefill", before=tokens, room=room, tokens=(step,))
        room = _grown(tokens, room, step)
        tokens += step
    if run.logits:
        left = run.prompt - tokens
        yield _Passes(phase="decode", before=tokens, room=room, tokens=(left,))
        room = _grown(tokens, room, left)
        tokens += left
        if run.seq <= tokens:
            return
    grows = room + (run.seq - 1 - room) // STEP * STEP
    if run.seq > room > 0:
        start = max(tokens, grows)
        yield _Passes(phase="decode", before=start, room=grows, tokens=(1,) * min(2, run.seq - start))
        if grows > room and not scans:  # then caches are larger than at the first token
            return
    yield _Passes(phase="decode", before=tokens, room=room, tokens=(1,) * min(2, run.seq - tokens))


@lru_cache(maxsize=256)
def peak(shape: Shape, run: Run, backend: Backend) -> Peak:
    """The peak of a run, without weights."""
    found: list[Peak] = []
    scans = any(isinstance(block.mixer, Scan) for block in shape.blocks)
    for passes in _passes(run, scans=scans):
        if passes.phase == "decode" and found and _at_most(shape, run) < max(one.nbytes for one in found):
            continue
        nbytes = _simulated(shape, run, passes, backend).peak
        found.append(Peak(nbytes=nbytes, phase=passes.phase, tokens=passes.tokens[0], before=passes.before))
    return max(found, key=lambda one: one.nbytes)


_ONE_TOKEN: Final = 64
"""More arrays of a row than a layer makes of one token."""


def _at_most(shape: Shape, run: Run) -> int:
    """More than single tokens can take: all caches twice, all arrays of the layers, and the head's."""
    caches = sum(cached(block.mixer, run) for block in shape.blocks)
    rows = len(shape.blocks) * _ONE_TOKEN * shape.hidden + 8 * shape.vocab
    first = sum(_conv_rows(block.mixer, run) for block in shape.blocks)
    return 2 * caches + run.batch * run.item * (rows + first)


def _conv_rows(mixer: Mixing, run: Run) -> int:
    """Elements that the last step of the prompt left in front of a state space's convolution."""
    return max([0, *_steps(run)[-1:]]) * mixer.sizes.convolved if isinstance(mixer, Scan) else 0


def _width(attention: Attention) -> int:
    return attention.kv_heads * (attention.key_dim + attention.value_dim)


def _simulated(shape: Shape, run: Run, passes: _Passes, backend: Backend) -> Evaluator:
    """The memory over some passes."""
    evaluator = Evaluator(backend)
    caches = [_cache(block.mixer, run, passes) for block in shape.blocks]
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
    return evaluator


def _cache(attention: Mixing, run: Run, passes: _Passes) -> Growing | Rotating | States:
    """The cache of a layer before some passes."""
    if not isinstance(attention, Attention):
        return _states(attention, run, passes)
    widths = (attention.kv_heads * attention.key_dim, attention.kv_heads * attention.value_dim)
    if attention.window is None:
        grown = Growing(widths=widths, batch=run.batch, item=run.item)
        grown.start(passes.room, passes.before)
        return grown
    turned = Rotating(widths=widths, batch=run.batch, item=run.item, window=attention.window)
    turned.start(_turned(attention.window, run, passes), passes.before)
    return turned


def _states(mixer: Delta | Scan, run: Run, passes: _Passes) -> States:
    """The states of a layer before some passes. A state space keeps the last inputs of its convolution as a slice, and
    with it all inputs of the pass before."""
    if not passes.before:
        return States()
    s, rows = mixer.sizes, mixer.sizes.kernel - 1
    if isinstance(mixer, Scan):
        seen, steps = 0, _steps(run)
        for step in steps:
            seen += step
            if seen == passes.before:
                rows += step
        rows += 1 if passes.before > seen else 0
    conv = leaf(run.batch * rows * s.convolved, run.item)
    return States(conv=conv, state=leaf(run.batch * s.recurrent, _STATE))


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
