"""Mixers with a state of a fixed size, as mlx-lm computes them: the gated delta rule, and Mamba-2.

Sources: mlx-lm 0.32.2, mlx_lm/models/{qwen3_next,qwen3_5,gated_delta,granitemoehybrid,ssm}.py.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from hfmem.engines.mlx.caches import States
from hfmem.engines.mlx.graph import Node, together
from hfmem.engines.mlx.operations import Operations
from hfmem.mapper.mixers import DeltaRule, StateSpace

__all__ = ["Delta", "Place", "Scan", "delta_rule", "state_space"]

_FLOAT32: Final = 4
_CHUNK: Final = 256  # `step` of `ssm_attn`
_LOOPED: Final = 64
"""Tokens of the delta rule's loop on a processor that are laid out; what one leaves for the next does not grow."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Delta:
    """A gated delta net.

    Attributes:
        sizes: its sizes.
        fused: whether one matrix makes queries, keys, values and gates, which are then copied apart.
    """

    sizes: DeltaRule
    fused: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Scan:
    """A Mamba-2 mixer, with its sizes."""

    sizes: StateSpace


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where a mixer is run.

    Attributes:
        hidden: hidden size of the model.
        cache: the layer's states.
        ops: builds its arrays.
        release: is told which arrays the cache lets go of.
    """

    hidden: int
    cache: States
    ops: Operations
    release: Callable[[Sequence[Node]], None]


def delta_rule(mixer: Delta, x: Node, place: Place) -> Node:
    """A gated delta net over the normed input `x`."""
    s, hidden, cache, ops = mixer.sizes, place.hidden, place.cache, place.ops
    mixed, z, b, a = _mixed(mixer, x, hidden, ops)
    convolved = _convolved(mixed, s, place)
    queries, keys, values = (ops.part(convolved, ops.rows * width) for width in (s.keys, s.keys, s.values))
    queries, keys = (
        ops.array((ops.weight(1), ops.norm(part, s.key_dim, strided=ops.rows > 1, weighted=False)), part.elements)
        for part in (queries, keys)
    )
    for part in (queries, keys):
        part.donors = (1,)
    beta = ops.array((b,), b.elements, donors=(0,))
    decay = ops.array((ops.weight(s.value_heads), a, ops.weight(s.value_heads)), a.elements, item=_FLOAT32)
    state = cache.state
    if state is None:
        state = ops.array((ops.weight(1),), ops.batch * s.recurrent, item=_FLOAT32)
    if ops.fused and s.key_dim % 32 == 0:
        copied = ops.rows * s.values * ops.item if ops.rows > 1 else 0  # values are a slice
        size, recurrent = ops.rows * s.values, ops.batch * s.recurrent
        y = ops.array((queries, keys, values, decay, beta, state), size, kernels=2 if copied else 1)
        y.scratch = copied
        new = together(y, recurrent, _FLOAT32)
    else:
        y, new = _stepwise(s, (queries, keys, values, decay, beta), state, ops)
    place.release(cache.take_state(new))
    y = ops.elementwise(z, ops.norm(y, s.value_dim))
    return ops.linear(y, s.values, hidden)


def _mixed(mixer: Delta, x: Node, hidden: int, ops: Operations) -> tuple[Node, Node, Node, Node]:
    """What the convolution takes in, the gate, and beta and the decay of each head before their functions."""
    s = mixer.sizes
    if not mixer.fused:
        qkv, z = ops.linear(x, hidden, s.convolved), ops.linear(x, hidden, s.values)
        b, a = (ops.linear(x, hidden, s.value_heads) for _ in range(2))
        return qkv, ops.view(z), b, a
    whole = ops.linear(x, hidden, s.convolved + s.values)
    pair = ops.linear(x, hidden, 2 * s.value_heads)
    widths = (s.keys, s.keys, s.values, s.values)
    q, k, v, z = (ops.array((ops.view(whole),), ops.rows * width) for width in widths)
    b, a = (ops.array((ops.view(pair),), ops.rows * s.value_heads) for _ in range(2))
    return ops.array((q, k, v), ops.rows * s.convolved, kernels=3), z, b, a


def _convolved(x: Node, s: DeltaRule | StateSpace, place: Place) -> Node:
    """The convolution with its activation. The cache keeps the last inputs: a delta net's as a copy, a state space's as
    a slice, by which all of the inputs stay."""
    cache, ops = place.cache, place.ops
    kept = ops.batch * (s.kernel - 1) * s.convolved
    before = cache.conv
    if before is None:
        before = ops.array((ops.weight(1),), kept)
    padded = ops.array((before, x), kept + ops.rows * s.convolved, kernels=2)
    last = ops.part(padded, kept)
    place.release(cache.take_conv(last if isinstance(s, StateSpace) else ops.array((last,), kept)))
    y = ops.convolution(padded, s.kernel, s.convolved)
    if isinstance(s, StateSpace) and s.bias:
        y = ops.array((y, ops.weight(s.convolved)), y.elements, donors=(0,))
    return ops.elementwise(y)


def _stepwise(s: DeltaRule, parts: Sequence[Node], state: Node, ops: Operations) -> tuple[Node, Node]:
    """The delta rule token by token, without a kernel (`gated_delta_ops`)."""
    queries, keys, values, decay, beta = parts
    f, batch = _FLOAT32, ops.batch
    if s.value_heads > s.key_heads:
        queries, keys = (ops.array((part,), ops.rows * s.value_heads * s.key_dim) for part in (queries, keys))
    recurrent, heads = batch * s.recurrent, batch * s.values
    count = min(ops.tokens, _LOOPED)
    rest = ops.array((ops.weight(1),), heads * (ops.tokens - count)) if ops.tokens > count else None
    ys = [rest] if rest is not None else []
    for _ in range(count):
        q, k, v, g, b = (ops.view(part) for part in (queries, keys, values, decay, beta))
        decayed = ops.array((state, ops.view(g)), recurrent, item=f, donors=(0,))
        k = ops.view(k)
        product = ops.array((decayed, k), recurrent, item=f)
        read = ops.view(ops.array((product,), heads, item=f))
        change = ops.array((v, read, ops.view(b)), heads, item=f, donors=(1,))
        state = ops.array((decayed, k, ops.view(change), ops.view(q)), recurrent, item=f, donors=(0,))
        product = together(state, recurrent, f)
        y = ops.view(ops.array((product,), heads, item=f))
        ys.append(ops.view(y if ops.item == f else ops.array((y,), heads)))
    return ops.array(ys, ops.rows * s.values, kernels=len(ys)), state


def state_space(mixer: Scan, x: Node, place: Place) -> Node:
    """A Mamba-2 mixer over the normed input `x`."""
    s, hidden, cache, ops = mixer.sizes, place.hidden, place.cache, place.ops
    whole = ops.linear(x, hidden, s.inner + s.convolved + s.heads, bias=s.projected_bias)
    gate, taken, steps = (ops.part(whole, ops.rows * width) for width in (s.inner, s.convolved, s.heads))
    y = _convolved(taken, s, place)
    inputs = [ops.part(y, ops.rows * width) for width in (s.inner, s.groups * s.state, s.groups * s.state)]
    steps = ops.array((steps, ops.weight(s.heads)), ops.rows * s.heads, item=_FLOAT32)
    if ops.fused and ops.tokens == 1 and cache.state is not None:
        y = ops.array((*inputs, steps, cache.state), ops.rows * s.inner)
        state = together(y, ops.batch * s.recurrent, _FLOAT32)
    else:
        y, state = _chunked(s, inputs, steps, cache.state, ops)
    place.release(cache.take_state(state))
    y = ops.array((gate, ops.view(y)), ops.rows * s.inner, donors=(1,))
    return ops.linear(ops.norm(y, s.inner), s.inner, hidden, bias=s.projected_bias)


def _chunked(
    s: StateSpace, inputs: Sequence[Node], steps: Node, state: Node | None, ops: Operations
) -> tuple[Node, Node]:
    """The recurrence as attention within chunks of 256 tokens (`ssm_attn`)."""
    f = _FLOAT32
    x = inputs[0]
    decays = ops.array((steps, ops.weight(s.heads)), steps.elements, item=f)
    scaled = ops.array((ops.view(steps), x), x.elements, item=f)
    ys = []
    whole, rest = divmod(ops.tokens, _CHUNK)
    for tokens in [_CHUNK] * whole + ([rest] if rest else []):
        y, state = _one_chunk(s, tokens, (scaled, decays, *inputs[1:]), state, ops)
        ys.append(y)
    if state is None:
        raise ValueError("no tokens")
    y = ys[0] if len(ys) == 1 else ops.array(ys, x.elements, kernels=len(ys))
    direct = ops.array((x, ops.weight(s.heads)), x.elements)
    return ops.add(y, direct), state


def _one_chunk(
    s: StateSpace, tokens: int, parts: Sequence[Node], state: Node | None, ops: Operations
) -> tuple[Node, Node]:
    f, batch = _FLOAT32, ops.batch
    scaled, decays, b, c = (ops.part(part, part.elements * tokens // ops.tokens) for part in parts)
    square = batch * s.heads * tokens * tokens
    scores = ops.array((ops.view(c), ops.view(b)), batch * s.groups * tokens * tokens)
    if s.heads > s.groups:
        scores = ops.array((scores,), square)
    decay = ops.array((ops.view(decays),), square, item=f)
    decay = ops.array((ops.triangle(tokens), decay, ops.weight(1)), square, item=f, donors=(1,))
    for _ in range(2):  # cumulative sum, exponential
        decay = ops.array((decay,), square, item=f, donors=(0,))
    attended = ops.array((scores, decay), square, item=f, donors=(0,))
    attended = ops.array((ops.triangle(tokens), attended, ops.weight(1)), square, item=f, donors=(1,))
    size = batch * tokens * s.inner
    y = ops.view(ops.array((attended, ops.view(scaled)), size, item=f))
    last = ops.view(decay)
    spread = ops.array((b,), batch * s.heads * tokens * s.state) if s.heads > s.groups else b
    left = ops.view(ops.array((scaled, last), size, item=f))
    new = ops.array((left, _wide(ops.view(spread), spread.elements, ops)), batch * s.recurrent, item=f)
    if state is not None:
        sums = ops.array((decays,), batch * tokens * s.heads, item=f)
        sums = ops.array((sums,), sums.elements, item=f, donors=(0,))
        carried = ops.array((ops.view(sums), state), batch * s.recurrent, item=f)
        new = ops.array((new, carried), batch * s.recurrent, item=f, donors=(0, 1))
        wide = _wide(ops.view(c), c.elements, ops)
        before = ops.view(ops.array((ops.view(state), ops.view(wide)), size, item=f))
        before = ops.array((ops.view(sums), before), size, item=f, donors=(1,))
        y = ops.array((y, before), size, item=f, donors=(1,))
    return (y if ops.item == f else ops.array((y,), size)), new


def _wide(x: Node, elements: int, ops: Operations) -> Node:
    """An array in float32."""
    return x if ops.item == _FLOAT32 else ops.array((x,), elements, item=_FLOAT32)
