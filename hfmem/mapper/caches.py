"""Kinds of caches: what one layer stores for the tokens it has processed, one frozen dataclass per kind.

A cache consists of parts, as they may differ in dtype: keys and values have the KV cache's dtype, the states of
state-space and linear-attention layers have their own. To add a kind: a class with `parts`, and its row in
`tests/mapper/test_caches.py`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple, Protocol

__all__ = [
    "COMPUTE",
    "KV",
    "KV_DTYPE",
    "Cache",
    "Combined",
    "Compressed",
    "CrossKV",
    "Hidden",
    "Indexed",
    "Latent",
    "Nothing",
    "Part",
    "Seen",
    "Shared",
    "State",
]

KV_DTYPE = "kv"
"""The KV cache's dtype, as chosen by `--kv-dtype`."""

COMPUTE = "compute"
"""The dtype that the model computes in."""


class Seen(NamedTuple):
    """The tokens of one sequence that the layers have processed: `tokens` of the decoder, `source` of the encoder."""

    tokens: int
    source: int = 0


class Part(NamedTuple):
    """A part of a layer's cache.

    Attributes:
        name: its name ("recurrent state"); "" for keys and values.
        elements: number of elements for one sequence.
        how: the arithmetic of `elements`.
        dtype: `KV_DTYPE`, `COMPUTE`, or the name of a fixed dtype.
    """

    elements: int
    how: str
    name: str = ""
    dtype: str = KV_DTYPE


class Cache(Protocol):
    """The cache of one layer, for one sequence."""

    def parts(self, seen: Seen) -> tuple[Part, ...]:
        """The parts of the cache after the given number of tokens."""


@dataclass(frozen=True, slots=True, kw_only=True)
class KV:
    """Keys and values of full, sliding-window or chunked attention.

    Attributes:
        heads: KV heads (1 for multi-query attention).
        key_dim: head_dim of keys.
        value_dim: head_dim of values; 0 where keys and values are the same tensor.
        window: maximum number of cached tokens; None for no limit.
        prompt: tokens that the model itself prepends, and caches.
    """

    heads: int
    key_dim: int
    value_dim: int
    window: int | None = None
    prompt: int = 0

    def parts(self, seen: Seen) -> tuple[Part, ...]:
        tokens = seen.tokens + self.prompt
        kept = tokens if self.window is None else min(tokens, self.window)
        return (Part(elements=kept * self.heads * (self.key_dim + self.value_dim), how=self._how(kept)),)

    def _how(self, kept: int) -> str:
        if self.key_dim == self.value_dim:
            return f"2 × {kept} tokens × {self.heads} heads × {self.key_dim}"
        return f"{kept} tokens × {self.heads} heads × ({self.key_dim} + {self.value_dim})"


@dataclass(frozen=True, slots=True, kw_only=True)
class Latent:
    """Multi-head latent attention (arXiv 2405.04434): a latent and a rope part per token, from which keys and values of
    all heads are computed. Some implementations cache the latter.

    Attributes:
        rank: elements of the latent (`kv_lora_rank`).
        rope_dim: elements of the rope part, which all heads share.
        heads, key_dim, value_dim: sizes of the expanded keys (rope part included) and values.
        expanded: whether the implementation caches expanded keys and values in place of the latent.
        window: maximum number of cached tokens; None for no limit.
    """

    rank: int
    rope_dim: int
    heads: int
    key_dim: int
    value_dim: int
    expanded: bool = False
    window: int | None = None

    def parts(self, seen: Seen) -> tuple[Part, ...]:
        if self.expanded:
            return KV(heads=self.heads, key_dim=self.key_dim, value_dim=self.value_dim, window=self.window).parts(seen)
        kept = seen.tokens if self.window is None else min(seen.tokens, self.window)
        how = f"{kept} tokens × (latent {self.rank} + rotary {self.rope_dim})"
        return (Part(elements=kept * (self.rank + self.rope_dim), how=how),)


@dataclass(frozen=True, slots=True, kw_only=True)
class Indexed:
    """Sparse attention over tokens that an indexer selects; the indexer caches one key per token.

    Attributes:
        attention: the cache of the attention itself.
        index_dim: elements of an indexer key.
        index_dtype: dtype of indexer keys.
        position_dims: position ids per token, in the layer that caches them for all layers (Qwen4-Exp); else 0.
    """

    attention: Cache
    index_dim: int
    index_dtype: str = KV_DTYPE
    position_dims: int = 0

    def parts(self, seen: Seen) -> tuple[Part, ...]:
        keys = Part(
            name="indexer keys",
            elements=seen.tokens * self.index_dim,
            how=f"{seen.tokens} tokens × {self.index_dim}",
            dtype=self.index_dtype,
        )
        positions = Part(
            name="indexer positions",
            elements=seen.tokens * self.position_dims,
            how=f"{seen.tokens} tokens × {self.position_dims}",
            dtype="int64",
        )
        return (*self.attention.parts(seen), keys, *((positions,) if self.position_dims else ()))


@dataclass(frozen=True, slots=True, kw_only=True)
class Compressed:
    """Compressed entries, one per `rate` tokens, and a buffer of tokens without an entry (DeepSeek-V4's report, 2.3).

    The buffer holds a token's projection and gate, from which the entry is computed. With overlapping windows both have
    twice the size, and half of the last full window is kept for the next entry, with its gates in float32, as their
    bias is (`position_bias` in modeling_deepseek_v4.py).

    Attributes:
        dim: elements of one entry.
        rate: tokens per entry.
        overlapping: whether an entry also covers the previous window.
        name: name of the entries in reports.
    """

    dim: int
    rate: int
    overlapping: bool = False
    name: str = "compressed entries"

    def parts(self, seen: Seen) -> tuple[Part, ...]:
        entries, waiting = divmod(seen.tokens, self.rate)
        width = 2 * self.dim if self.overlapping else self.dim
        kept = waiting * 2 * width  # projection and gate of each token
        how = f"{waiting} tokens × 2 × {width}"
        last = self.rate * self.dim if self.overlapping and entries else 0
        if last:
            kept += last
            how += f" + {self.rate} tokens × {self.dim}"
        found = (
            Part(name=self.name, elements=entries * self.dim, how=f"{entries} × {self.dim}"),
            Part(name=f"{self.name}, not yet full", elements=kept, how=how, dtype=COMPUTE),
            Part(name=f"{self.name}, gates", elements=last, how=f"{self.rate} tokens × {self.dim}", dtype="float32"),
        )
        return tuple(part for part in found if part.elements)


@dataclass(frozen=True, slots=True, kw_only=True)
class State:
    """The state of a state-space, linear-attention, recurrent or convolution layer, of a fixed size.

    Attributes:
        conv: elements of the convolution state.
        recurrent: elements of the recurrent state.
        conv_dtype, recurrent_dtype: their dtypes.
        channels: width of the mixer, where the config sets it independently; 0 where it follows from other sizes.
    """

    conv: int = 0
    recurrent: int = 0
    conv_dtype: str = COMPUTE
    recurrent_dtype: str = COMPUTE
    channels: int = 0

    def parts(self, seen: Seen) -> tuple[Part, ...]:  # noqa: ARG002 - the protocol's signature
        found = (
            Part(name="convolution state", elements=self.conv, how=f"{self.conv:,}", dtype=self.conv_dtype),
            Part(
                name="recurrent state", elements=self.recurrent, how=f"{self.recurrent:,}", dtype=self.recurrent_dtype
            ),
        )
        return tuple(part for part in found if part.elements)


@dataclass(frozen=True, slots=True, kw_only=True)
class CrossKV:
    """The KV cache of cross-attention, over the tokens of an encoder or image.

    Attributes:
        heads, key_dim, value_dim: as in `KV`.
        tokens: number of source tokens if the architecture fixes it; None if it is given by `--source-seq`.
    """

    heads: int
    key_dim: int
    value_dim: int
    tokens: int | None = None

    def parts(self, seen: Seen) -> tuple[Part, ...]:
        count = seen.source if self.tokens is None else self.tokens
        (kept,) = KV(heads=self.heads, key_dim=self.key_dim, value_dim=self.value_dim).parts(Seen(tokens=count))
        return (Part(name="cross attention", elements=kept.elements, how=kept.how.replace("tokens", "source tokens")),)


@dataclass(frozen=True, slots=True, kw_only=True)
class Hidden:
    """Input hidden states of a layer, from which keys and values are recomputed for each token (XLNet, Reformer).

    Attributes:
        width: elements per token.
        window: maximum number of cached tokens; None for no limit.
        buckets: hash bucket ids per token (LSH attention); 0 for none.
        hashed_beyond: longest sequence without buckets.
    """

    width: int
    window: int | None = None
    buckets: int = 0
    hashed_beyond: int = 0

    def parts(self, seen: Seen) -> tuple[Part, ...]:
        kept = seen.tokens if self.window is None else min(seen.tokens, self.window)
        hashed = seen.tokens if seen.tokens > self.hashed_beyond else 0
        states = Part(
            name="hidden states",
            elements=kept * self.width,
            how=f"{kept} tokens × {self.width}",
            dtype=COMPUTE,
        )
        buckets = Part(
            name="hash buckets",
            elements=hashed * self.buckets,
            how=f"{hashed} tokens × {self.buckets}",
            dtype="int64",
        )
        return (states, buckets) if buckets.elements else (states,)


@dataclass(frozen=True, slots=True, kw_only=True)
class Combined:
    """Several caches in one layer: self- and cross-attention, or attention and a recurrent state."""

    caches: tuple[Cache, ...]

    def parts(self, seen: Seen) -> tuple[Part, ...]:
        return tuple(part for cache in self.caches for part in cache.parts(seen))


@dataclass(frozen=True, slots=True, kw_only=True)
class Shared:
    """A layer that uses another layer's KV cache, and has none of its own.

    Attributes:
        source: the other layer's cache.
    """

    source: KV

    def parts(self, seen: Seen) -> tuple[Part, ...]:  # noqa: ARG002 - the protocol's signature
        return ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Nothing:
    """No cache: a layer of an encoder, or a feed-forward layer of a hybrid."""

    def parts(self, seen: Seen) -> tuple[Part, ...]:  # noqa: ARG002 - the protocol's signature
        return ()
