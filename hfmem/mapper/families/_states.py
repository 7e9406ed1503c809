"""Parts that layers with a state share: which layer is of which kind, what each keeps, and the weights of mixers.

The states of `LinearAttentionLayer` (cache_utils.py) do not grow: the convolution's window, in the dtype of the model,
and the recurrent state, in the dtype that the mixer computes it in.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Final

from hfmem.errors import InvalidConfigError
from hfmem.mapper.blueprint import Blueprint, linear, norm, weight
from hfmem.mapper.caches import KV, Cache, Nothing, State
from hfmem.mapper.facts import Facts
from hfmem.mapper.families._decoder import Sizes, layer_count
from hfmem.mapper.values import Ffn, Layer, TensorGroup

__all__ = [
    "DeltaNet",
    "Keeps",
    "Mamba",
    "Mamba2",
    "attention_of",
    "automatic",
    "kept_kv",
    "kinds_of",
    "layers_with",
    "mamba_of",
    "unattended",
    "without_attention",
]

_FLOAT32: Final = "float32"

# Words of older files (`_LEGACY_LAYER_TYPE_REMAP` of configuration_utils.py).
_OLDER: Final = {"attention": "full_attention", "mamba": "linear_attention"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Keeps:
    """What a layer of one kind keeps, and its query heads."""

    cache: Cache
    heads: int = 0


def kinds_of(facts: Facts, default: Sequence[str], known: Sequence[str], *keys: str) -> tuple[str, ...]:
    """The kind of each layer: the list at `keys` (`layer_types`) where the file has one, else `default`.

    Raises:
        InvalidConfigError: a kind that the type does not know.
    """
    listed = facts.items(*(keys or ("layer_types",)))
    kinds = tuple(_OLDER.get(str(kind), str(kind)) for kind in (default if listed is None else listed))
    for kind in kinds:
        if kind not in known:
            raise InvalidConfigError("", f"layer_types has {kind!r}, which {facts.model_type} does not know")
    return kinds


def layers_with(
    facts: Facts, kinds: Sequence[str], keeps: Mapping[str, Keeps], ffn: Ffn | Sequence[Ffn | None] | None
) -> tuple[Layer, ...]:
    """One layer each, with what its kind keeps; a layer whose kind keeps nothing is of the kind `none`.

    Raises:
        InvalidConfigError: the list of kinds is not that of as many layers as there are feed-forward networks.
    """
    ffns = list(ffn) if isinstance(ffn, Sequence) else [ffn] * len(kinds)
    if len(ffns) != len(kinds):
        raise InvalidConfigError("", f"layer_types has {len(kinds)} entries for {layer_count(facts)} layers")
    return tuple(
        Layer(
            kind="none" if isinstance(keeps[kind].cache, Nothing) else kind,
            cache=keeps[kind].cache,
            heads=keeps[kind].heads,
            ffn=ffn_,
        )
        for kind, ffn_ in zip(kinds, ffns, strict=True)
    )


def kept_kv(s: Sizes, window: int | None = None) -> Keeps:
    """What attention keeps."""
    return Keeps(cache=KV(heads=s.kv_heads, key_dim=s.head_dim, value_dim=s.head_dim, window=window), heads=s.heads)


def attention_of(s: Sizes, kinds: Sequence[str], *kind: str) -> Sizes:
    """The sizes, with as many layers as are of a kind (`full_attention` where none is named)."""
    wanted = kind or ("full_attention",)
    return replace(s, layers=sum(found in wanted for found in kinds))


def unattended(facts: Facts, hidden: int, *, head_dim: int = 0) -> Sizes:
    """The sizes of a model without attention."""
    return Sizes(
        hidden=hidden,
        layers=layer_count(facts),
        heads=0,
        kv_heads=0,
        head_dim=head_dim,
        vocab=facts.integer("vocab_size"),
        tied=facts.flag("tie_word_embeddings"),
    )


def without_attention(blueprint: Blueprint) -> Blueprint:
    """The blueprint of a model that has no attention heads to tell of."""
    architecture = replace(blueprint.architecture, attention_heads=None, kv_heads=None, head_dim=None)
    return replace(blueprint, architecture=architecture)


def automatic(facts: Facts, key: str, otherwise: int) -> int:
    """A whole number, or `otherwise` where the file says "auto" or nothing."""
    with suppress(InvalidConfigError):
        if facts.text(key) in (None, "auto"):
            return otherwise
    return facts.integer(key)


@dataclass(frozen=True, slots=True, kw_only=True)
class Mamba:
    """Mamba's mixer (arXiv 2312.00752; modeling_mamba.py).

    Attributes:
        hidden, inner: width of the residual stream, and of the mixer.
        state: recurrent elements per channel.
        kernel: positions that the convolution sees.
        rank: of the time step's projection.
        bias, conv_bias: biases of the projections in and out, and of the convolution.
        heads: parts that the channels fall into, each with its own small projections (Zamba).
        norms: the time step, B and C are normalised with weights (Jamba).
    """

    hidden: int
    inner: int
    state: int
    kernel: int
    rank: int
    bias: bool = False
    conv_bias: bool = True
    heads: int = 1
    norms: bool = False

    @property
    def cache(self) -> State:
        """What a layer keeps."""
        return State(
            conv=self.inner * self.kernel,
            recurrent=self.inner * self.state,
            recurrent_dtype=_FLOAT32,
            channels=self.inner,
        )

    def weights(self, count: int) -> list[TensorGroup]:
        """Every weight of `count` mixers; the small projections as each head has them."""
        channels, heads = self.inner // self.heads, self.heads * count
        groups = [
            *linear("state", "in_proj", 2 * self.inner, self.hidden, count=count, bias=self.bias),
            *_convolution(self.inner, self.kernel, count, bias=self.conv_bias),
            *linear("state", "x_proj", self.rank + 2 * self.state, channels, count=heads),
            *linear("state", "dt_proj", channels, self.rank, count=heads, bias=True),
            *weight("state", "A_log", channels, self.state, count=heads),
            *weight("state", "D", channels, count=heads),
            *linear("state", "out_proj", self.hidden, self.inner, count=count, bias=self.bias),
        ]
        if self.norms:
            groups += [*norm(self.rank, count=count), *norm(self.state, count=2 * count)]
        return groups


def mamba_of(facts: Facts, hidden: int) -> Mamba:
    """The mixer of files that name its sizes `mamba_…`."""
    return Mamba(
        hidden=hidden,
        inner=facts.integer("mamba_expand") * hidden,
        state=facts.integer("mamba_d_state"),
        kernel=facts.integer("mamba_d_conv"),
        rank=automatic(facts, "mamba_dt_rank", math.ceil(hidden / 16)),
        bias=facts.flag("mamba_proj_bias"),
        conv_bias=facts.flag("mamba_conv_bias"),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Mamba2:
    """Mamba-2's mixer (arXiv 2405.21060; modeling_mamba2.py).

    Attributes:
        hidden, inner: width of the residual stream, and of all heads.
        heads: of the recurrence.
        groups: that share B and C.
        state: recurrent elements per channel.
        kernel: positions that the convolution sees.
        in_bias, out_bias, conv_bias: biases of the projections and of the convolution.
        normed: the gated output is normalised with weights.
    """

    hidden: int
    inner: int
    heads: int
    groups: int
    state: int
    kernel: int
    in_bias: bool = False
    out_bias: bool = False
    conv_bias: bool = True
    normed: bool = True

    @property
    def _convolved(self) -> int:
        return self.inner + 2 * self.groups * self.state

    @property
    def cache(self) -> State:
        """What a layer keeps."""
        head_dim = self.inner // self.heads
        return State(
            conv=self._convolved * self.kernel,
            recurrent=self.heads * head_dim * self.state,
            recurrent_dtype=_FLOAT32,
        )

    def weights(self, count: int) -> list[TensorGroup]:
        """Every weight of `count` mixers."""
        inputs = self.inner + self._convolved + self.heads
        groups = [
            *linear("state", "in_proj", inputs, self.hidden, count=count, bias=self.in_bias),
            *_convolution(self._convolved, self.kernel, count, bias=self.conv_bias),
            *weight("state", "dt_bias", self.heads, count=count),
            *weight("state", "A_log", self.heads, count=count),
            *weight("state", "D", self.heads, count=count),
            *linear("state", "out_proj", self.hidden, self.inner, count=count, bias=self.out_bias),
        ]
        return groups + norm(self.inner, count=count) if self.normed else groups


@dataclass(frozen=True, slots=True, kw_only=True)
class DeltaNet:
    """Linear attention by the gated delta rule (arXiv 2412.06464; modeling_qwen3_next.py).

    Attributes:
        hidden: width of the residual stream.
        key_heads, value_heads, key_dim, value_dim: heads and their sizes.
        kernel: positions that the convolution of queries, keys and values sees.
    """

    hidden: int
    key_heads: int
    value_heads: int
    key_dim: int
    value_dim: int
    kernel: int

    @property
    def keys(self) -> int:
        """Width of all keys."""
        return self.key_heads * self.key_dim

    @property
    def values(self) -> int:
        """Width of all values."""
        return self.value_heads * self.value_dim

    @property
    def _convolved(self) -> int:
        return 2 * self.keys + self.values

    @property
    def cache(self) -> State:
        """What a layer keeps."""
        return State(
            conv=self._convolved * self.kernel,
            recurrent=self.value_heads * self.key_dim * self.value_dim,
            recurrent_dtype=_FLOAT32,
        )

    def weights(self, projections: Mapping[str, int], count: int, *, out: str = "out_proj") -> list[TensorGroup]:
        """Every weight of `count` layers; `projections` names those that lead in, with their outputs."""
        groups = [
            group
            for role, outputs in projections.items()
            for group in linear("state", role, outputs, self.hidden, count=count)
        ]
        return [
            *groups,
            *_convolution(self._convolved, self.kernel, count, bias=False),
            *weight("state", "dt_bias", self.value_heads, count=count),
            *weight("state", "A_log", self.value_heads, count=count),
            *norm(self.value_dim, count=count),
            *linear("state", out, self.hidden, self.values, count=count),
        ]


def _convolution(channels: int, kernel: int, count: int, *, bias: bool) -> list[TensorGroup]:
    """One filter a channel."""
    groups = weight("state", "conv1d", channels, 1, kernel, count=count)
    return groups + weight("state", "conv1d.bias", channels, count=count) if bias else groups
