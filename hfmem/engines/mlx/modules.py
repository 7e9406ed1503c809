"""How mlx-lm's modules build a pass over the layers: one row per module, with what differs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, Literal

from hfmem.engines.mlx.caches import LayerCache, States
from hfmem.engines.mlx.graph import Node
from hfmem.engines.mlx.operations import Heads, Operations
from hfmem.engines.mlx.states import Delta, Place, Scan, delta_rule, state_space

__all__ = ["Attention", "Block", "Mixture", "Network", "Norms", "Shape", "forward"]

Norms = Literal["before", "around", "after"]
"""Where the norms of a block are: before attention and feed-forward network; before and after each; after each."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Attention:
    """Attention of a block.

    Attributes:
        heads, kv_heads: query heads, and heads of keys and values.
        key_dim, value_dim: their head dimensions.
        window: tokens that it reads; None for all.
        fused: whether one matrix makes queries, keys and values.
        bias, out_bias: whether the input and output projections have biases.
        queries: the norm of queries and keys: per head before or after they are transposed, over all heads, or none.
        gated: whether the query projection makes a gate for the output, too.
        partial: whether only a part of each head has rotary positions.
    """

    heads: int
    kv_heads: int
    key_dim: int
    value_dim: int
    window: int | None = None
    fused: bool = False
    bias: bool = False
    out_bias: bool = False
    queries: Literal["none", "heads", "transposed", "whole"] = "none"
    gated: bool = False
    partial: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Network:
    """A dense feed-forward network.

    Attributes:
        wide: intermediate size.
        gated: whether it has a gate.
        fused: whether one matrix makes gate and up projection.
        bias: whether the projections have biases.
        steps: kernels of its activation function; the last takes in the up projection, if it is gated.
    """

    wide: int
    gated: bool = True
    fused: bool = False
    bias: bool = False
    steps: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Mixture:
    """A mixture of experts (`SwitchGLU`).

    Attributes:
        count, chosen: experts, and experts per token.
        wide: intermediate size of an expert.
        shared: the network that all tokens use; None for none.
        shared_gate: whether its output is multiplied by a gate.
    """

    count: int
    chosen: int
    wide: int
    shared: Network | None = None
    shared_gate: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """One layer.

    Attributes:
        mixer: its attention, or a mixer with a state.
        network: its feed-forward network.
        norms: where its norms are.
        multiplied: whether what is added to the residual stream is multiplied by a factor.
    """

    mixer: Attention | Delta | Scan
    network: Network | Mixture
    norms: Norms = "before"
    multiplied: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """A whole model.

    Attributes:
        hidden, vocab: hidden size, and rows of the output embedding.
        blocks: the layers.
        scaled: whether embeddings are multiplied by a factor.
    """

    hidden: int
    vocab: int
    blocks: tuple[Block, ...]
    scaled: bool = False


Release = Callable[[Sequence[Node]], None]


def forward(shape: Shape, caches: Sequence[LayerCache | States], ops: Operations, release: Release) -> Node:
    """One pass over all layers: the log-probabilities after the last token. Caches are updated; arrays that they let go
    of are passed to `release`."""
    one = _Pass(shape.hidden, ops, release)
    x = one.embedded(shape)
    for block, cache in zip(shape.blocks, caches, strict=True):
        x = one.block(block, x, cache)
    logits = ops.linear(ops.norm(x, shape.hidden), shape.hidden, shape.vocab)
    last = ops.part(logits, ops.batch * shape.vocab)
    total = ops.array((last,), ops.batch)
    return ops.array((last, ops.view(total)), ops.batch * shape.vocab)


class _Pass:
    """One pass over the layers of a model."""

    def __init__(self, hidden: int, ops: Operations, release: Release) -> None:
        self._hidden = hidden
        self._ops = ops
        self._release = release
        self._masks: dict[tuple[int, int], Node] = {}

    def embedded(self, shape: Shape) -> Node:
        """The embeddings of the tokens, of packed rows that are unpacked."""
        ops = self._ops
        size = ops.rows * shape.hidden
        table = ops.matrix(shape.vocab * shape.hidden)
        if len(table) == 1:
            x = ops.array((table[0], ops.weight(ops.rows)), size)
        else:
            x = ops.array([self._rows(part, shape) for part in table], size)
        return ops.elementwise(x, ops.weight(1)) if shape.scaled else x

    def _rows(self, part: Node, shape: Shape) -> Node:
        """The rows of the tokens in a part of a packed table."""
        ops = self._ops
        return ops.array((part, ops.weight(ops.rows)), ops.rows * part.elements // shape.vocab, item=part.item)

    def block(self, block: Block, x: Node, cache: LayerCache | States) -> Node:
        """A layer."""
        hidden, ops = self._hidden, self._ops
        before, after = block.norms != "after", block.norms != "before"
        y = self._mixed(block.mixer, ops.norm(x, hidden) if before else x, cache)
        y = ops.elementwise(y) if block.multiplied else y
        h = ops.add(x, ops.norm(y, hidden) if after else y)
        y = self._network(block.network, ops.norm(h, hidden) if before else h)
        y = ops.elementwise(y) if block.multiplied else y
        return ops.add(h, ops.norm(y, hidden) if after else y)

    def _mixed(self, mixer: Attention | Delta | Scan, x: Node, cache: LayerCache | States) -> Node:
        if isinstance(mixer, Attention):
            return self._attention(mixer, x, cache)
        if not isinstance(cache, States):
            raise TypeError("a mixer with a state has another cache")
        place = Place(hidden=self._hidden, cache=cache, ops=self._ops, release=self._release)
        return delta_rule(mixer, x, place) if isinstance(mixer, Delta) else state_space(mixer, x, place)

    def _attention(self, a: Attention, x: Node, cache: LayerCache | States) -> Node:
        ops = self._ops
        if isinstance(cache, States):
            raise TypeError("attention has another cache")
        queries, keys, values = self._projected(a, x)
        gate = None
        if a.gated:  # queries and gates of a head lie side by side
            whole, size = queries, queries.elements // 2
            queries, gate = ops.part(whole, size), ops.array((ops.view(whole),), size)
            queries, keys = ops.norm(queries, a.key_dim, strided=True), ops.norm(keys, a.key_dim)
        if a.queries == "whole":
            queries, keys = ops.norm(queries, a.heads * a.key_dim), ops.norm(keys, a.kv_heads * a.key_dim)
        queries, keys, values = ops.view(queries), ops.view(keys), ops.view(values)
        if a.queries == "heads":
            queries, keys = ops.norm(queries, a.key_dim), ops.norm(keys, a.key_dim)
        queries, keys, values = ops.view(queries), ops.view(keys), ops.view(values)
        if a.queries == "transposed":
            queries, keys = (ops.norm(part, a.key_dim, strided=ops.tokens > 1) for part in (queries, keys))
        queries = ops.rope(queries, a.heads, a.key_dim, partial=a.partial)
        keys = ops.rope(keys, a.kv_heads, a.key_dim, partial=a.partial)
        read, before = cache.update(keys, values, ops)
        self._release(before)
        masked = ops.tokens > 1 and a.window is not None and read.context > a.window
        found = ops.attention(
            Heads(queries=queries, keys=read.keys, values=read.values, context=read.context),
            heads=a.heads,
            dims=(a.key_dim, a.value_dim),
            mask=self._mask(a.window or 0, read.context) if masked else None,
        )
        if gate is not None:
            found = ops.add(found, ops.elementwise(gate))
        return ops.linear(found, a.heads * a.value_dim, self._hidden, bias=a.out_bias)

    def _projected(self, a: Attention, x: Node) -> list[Node]:
        """Queries, keys and values."""
        ops = self._ops
        widths = ((1 + a.gated) * a.heads * a.key_dim, a.kv_heads * a.key_dim, a.kv_heads * a.value_dim)
        if not a.fused:
            return [ops.linear(x, self._hidden, width, bias=a.bias) for width in widths]
        whole = ops.linear(x, self._hidden, sum(widths), bias=a.bias)
        return [ops.part(whole, ops.rows * width) for width in widths]

    def _mask(self, window: int, context: int) -> Node:
        """The mask of a window that cuts tokens off, built once a pass (`create_causal_mask`)."""
        key = (window, context)
        if key not in self._masks:
            ops = self._ops
            size = ops.tokens * context
            rows, columns = (ops.array((ops.weight(1),), length, item=4) for length in (ops.tokens, context))
            earlier = ops.array((ops.view(rows), ops.view(columns)), size, item=1)
            moved = ops.array((columns, ops.weight(1)), context, item=4)
            later = ops.array((ops.view(rows), ops.view(moved)), size, item=1)
            self._masks[key] = ops.array((earlier, later), size, item=1, donors=(0, 1))
        return self._masks[key]

    def _network(self, network: Network | Mixture, x: Node) -> Node:
        return self._dense(network, x) if isinstance(network, Network) else self._mixture(network, x)

    def _dense(self, n: Network, x: Node) -> Node:
        ops, hidden = self._ops, self._hidden
        if n.fused:
            whole = ops.linear(x, hidden, 2 * n.wide, bias=n.bias)
            half = ops.rows * n.wide
            y = ops.array((ops.part(whole, half), ops.part(whole, half)), half)
        elif n.gated:
            gate, up = (ops.linear(x, hidden, n.wide, bias=n.bias) for _ in range(2))
            for _ in range(n.steps - 1):
                gate = ops.elementwise(gate)
            y = ops.elementwise(gate, up)
        else:
            y = ops.linear(x, hidden, n.wide, bias=n.bias)
            for _ in range(n.steps):
                y = ops.elementwise(y)
        return ops.linear(y, n.wide, hidden, bias=n.bias)

    def _mixture(self, m: Mixture, x: Node) -> Node:
        ops, rows = self._ops, self._ops.rows * m.chosen
        scores = ops.linear(x, self._hidden, m.count)
        scores = ops.array((scores,), scores.elements, donors=(0,))
        chosen = ops.part(ops.array((scores,), scores.elements, item=4), rows)
        weights = ops.array((scores, chosen), rows)
        weights = ops.array((weights, ops.array((weights,), ops.rows)), rows, donors=(0,))
        y = self._experts(m, x, chosen)
        y = ops.array((y, ops.view(weights)), y.elements, donors=(0,))
        y = ops.array((y,), ops.rows * self._hidden)
        if m.shared is None:
            return y
        other = self._dense(m.shared, x)
        if m.shared_gate:
            gate = ops.elementwise(ops.linear(x, self._hidden, 1))
            other = ops.array((gate, other), other.elements, donors=(1,))
        return ops.add(y, other)

    def _experts(self, m: Mixture, x: Node, chosen: Node) -> Node:
        """`SwitchGLU`: from 64 choices on, the tokens are sorted by expert."""
        ops, hidden = self._ops, self._hidden
        rows = chosen.elements
        x, index, back = ops.view(x), chosen, None
        if rows >= _SORTED:
            flat = ops.array((chosen,), rows, item=4)
            order = ops.array((flat,), rows, item=4, kernels=_SORTS)
            back = ops.array((order,), rows, item=4, kernels=_SORTS)
            x = ops.array((x, ops.array((order, ops.weight(1)), rows, item=4)), rows * hidden)
            index = ops.array((flat, order), rows, item=4)
        size = m.count * hidden * m.wide
        up, gate = (ops.array((x, *ops.matrix(size), index), rows * m.wide) for _ in range(2))
        y = ops.array((ops.elementwise(gate, up), *ops.matrix(size), index), rows * hidden)
        return ops.view(y if back is None else ops.array((y, back), rows * hidden))


_SORTED: Final = 64
_SORTS: Final = 8
"""Kernels of an `argsort` of some thousand numbers on Metal: blocks are sorted, then merged."""
