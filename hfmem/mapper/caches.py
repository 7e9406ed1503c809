"""Cache kinds: what one layer keeps of the tokens it has seen. One frozen value a kind.

A kind answers with parts, because what a layer keeps may differ in dtype: keys and values have the cache's dtype, the
states of state-space and linear layers one of their own. To add a kind: a class with `parts`, and its row in
`tests/mapper/test_caches.py`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

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
"""The dtype of the cache, as `--kv-dtype` chooses it."""

COMPUTE = "compute"
"""The dtype that the model computes in."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """How much one sequence has fed into the layers: `tokens` of the decoder, `source` of an encoder beside it."""

    tokens: int
    source: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """Something that a layer keeps.

    Attributes:
        name: what it is, where it is not the keys and values ("recurrent state"); "" for those.
        elements: how many, for one sequence.
        how: the arithmetic of `elements`, as a person would write it.
        dtype: `KV_DTYPE`, `COMPUTE`, or the name of a dtype that is fixed.
    """

    elements: int
    how: str
    name: str = ""
    dtype: str = KV_DTYPE


class Cache(Protocol):
    """What one layer keeps of the tokens it has seen, for one sequence."""

    def parts(self, seen: Seen) -> tuple[Part, ...]:
        """What is kept after so many tokens."""


@dataclass(frozen=True, slots=True, kw_only=True)
class KV:
    """Keys and values of full, sliding-window or chunked attention.

    Attributes:
        heads: key/value heads (1 for multi-query attention).
        key_dim: elements of one key.
        value_dim: elements of one value; 0 where the values are the keys.
        window: tokens kept at most; None keeps all.
        prompt: tokens that the model itself puts before the text, and keeps with it.
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
    """Multi-head latent attention (arXiv 2405.04434): a latent and a rotary part a token, from which runtimes make the
    keys and values of all heads, or keep those instead.

    Attributes:
        rank: elements of the latent (`kv_lora_rank`).
        rope_dim: elements of the rotary part, shared by all heads.
        heads, key_dim, value_dim: the keys and values made from it, rotary part included.
        expanded: whether the implementation keeps those instead of the latent.
        window: tokens kept at most; None keeps all.
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
    """Attention over the tokens that an indexer picks, which keeps a key of its own a token.

    Attributes:
        attention: what the attention itself keeps.
        index_dim: elements of the indexer's key.
        index_dtype: their dtype.
        position_dims: numbers per token that tell its position, where this layer keeps them for all (Qwen4-Exp).
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
    """Entries that stand for `rate` tokens each, and the tokens that wait for their entry (DeepSeek-V4's report, 2.3).

    A waiting token is kept as what the entry is made of: its projection and its gate. Where windows overlap, both are
    twice as wide, and half of the last full window is kept for the next, its gates with their biases in float32
    (`position_bias` of modeling_deepseek_v4.py).

    Attributes:
        dim: elements of one entry.
        rate: tokens to an entry.
        overlapping: whether an entry is made of its own window and the one before.
        name: what the entries are, for reports.
    """

    dim: int
    rate: int
    overlapping: bool = False
    name: str = "compressed entries"

    def parts(self, seen: Seen) -> tuple[Part, ...]:
        entries, waiting = divmod(seen.tokens, self.rate)
        width = 2 * self.dim if self.overlapping else self.dim
        kept = waiting * 2 * width
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
    """The state of a state-space, linear-attention, recurrent or convolution layer; it does not grow with the length.

    Attributes:
        conv: elements of the convolution's window.
        recurrent: elements of the recurrent state.
        conv_dtype, recurrent_dtype: their dtypes.
        channels: width of the mixer, where a file may give one that no other size tells; 0 where it follows from them.
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
    """Keys and values of an encoder's tokens (or an image's), which every decoder token attends to.

    Attributes:
        heads, key_dim, value_dim: as in `KV`.
        tokens: how many there are, where the architecture fixes it; None where the scenario tells (`--source-seq`).
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
    """The states that lead into a layer, from which it makes keys and values anew for each token (XLNet, Reformer).

    Attributes:
        width: elements per token.
        window: tokens kept at most; None keeps all.
        buckets: numbers of hash buckets a token, where the layer sorts its tokens into them.
        hashed_beyond: tokens up to which there are no buckets yet.
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
    """A layer that keeps several things: self- and cross-attention, or attention beside a state."""

    caches: tuple[Cache, ...]

    def parts(self, seen: Seen) -> tuple[Part, ...]:
        return tuple(part for cache in self.caches for part in cache.parts(seen))


@dataclass(frozen=True, slots=True, kw_only=True)
class Shared:
    """A layer that reads another's keys and values, and keeps none.

    Attributes:
        source: what that other layer keeps.
    """

    source: KV

    def parts(self, seen: Seen) -> tuple[Part, ...]:  # noqa: ARG002 - the protocol's signature
        return ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Nothing:
    """A layer that keeps nothing: an encoder's, or a feed-forward layer of a hybrid."""

    def parts(self, seen: Seen) -> tuple[Part, ...]:  # noqa: ARG002 - the protocol's signature
        return ()
