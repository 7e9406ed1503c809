"""Shared parts of recurrent layers: kinds of layers, their states, and the weights of their mixers.

The states of `LinearAttentionLayer` (cache_utils.py) have a fixed size: a convolution state in the model's dtype, and
a recurrent state in the dtype that the mixer computes it in.
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
from hfmem.mapper.mixers import DeltaRule, Mixer, StateSpace
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

# Layer types of older files (`_LEGACY_LAYER_TYPE_REMAP` in configuration_utils.py).
_OLDER: Final = {"attention": "full_attention", "mamba": "linear_attention"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Keeps:
    """The cache of layers of one kind, their query heads, and the sizes of a mixer with a state."""

    cache: Cache
    heads: int = 0
    mixer: Mixer | None = None


def kinds_of(facts: Facts, default: Sequence[str], known: Sequence[str], *keys: str) -> tuple[str, ...]:
    """The kind of each layer: the file's list at `keys` (default `layer_types`), else `default`.

    Raises:
        InvalidConfigError: a kind that is not in `known`.
    """
    listed = facts.items(*(keys or ("layer_types",)))
    kinds = tuple(_OLDER.get(str(kind), str(kind)) for kind in (default if listed is None else listed))
    for kind in kinds:
        if kind not in known:
            raise InvalidConfigError("", f"layer_types has {kind!r}, which is not a layer type of {facts.model_type}")
    return kinds


def layers_with(
    facts: Facts, kinds: Sequence[str], keeps: Mapping[str, Keeps], ffn: Ffn | Sequence[Ffn | None] | None
) -> tuple[Layer, ...]:
    """All layers, with the cache of their kind; layers without a cache get the kind `none`.

    Raises:
        InvalidConfigError: the list of kinds has another length than the list of feed-forward networks.
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
            mixer=keeps[kind].mixer,
        )
        for kind, ffn_ in zip(kinds, ffns, strict=True)
    )


def kept_kv(s: Sizes, window: int | None = None) -> Keeps:
    """The KV cache of attention layers."""
    return Keeps(cache=KV(heads=s.kv_heads, key_dim=s.head_dim, value_dim=s.head_dim, window=window), heads=s.heads)


def attention_of(s: Sizes, kinds: Sequence[str], *kind: str) -> Sizes:
    """The sizes, with the number of layers restricted to certain kinds (default `full_attention`)."""
    wanted = kind or ("full_attention",)
    return replace(s, layers=sum(found in wanted for found in kinds))


def unattended(facts: Facts, hidden: int, *, head_dim: int = 0) -> Sizes:
    """The sizes of a model without attention layers."""
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
    """The blueprint without attention heads, for models without attention layers."""
    architecture = replace(blueprint.architecture, attention_heads=None, kv_heads=None, head_dim=None)
    return replace(blueprint, architecture=architecture)


def automatic(facts: Facts, key: str, otherwise: int) -> int:
    """An integer, or `otherwise` where the config has "auto" or nothing."""
    with suppress(InvalidConfigError):
        if facts.text(key) in (None, "auto"):
            return otherwise
    return facts.integer(key)


@dataclass(frozen=True, slots=True, kw_only=True)
class Mamba:
    """Mamba's mixer (arXiv 2312.00752; modeling_mamba.py).

    Attributes:
        hidden, inner: hidden size, and width of the mixer.
        state: state size: recurrent elements per channel.
        kernel: kernel size of the convolution.
        rank: rank of the time step's (dt) projection.
        bias, conv_bias: biases of the input and output projections, and of the convolution.
        heads: groups of channels with their own `x_proj` and `dt_proj` (Zamba).
        norms: whether dt, B and C have RMSNorms (Jamba).
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
        """The state of a layer."""
        return State(
            conv=self.inner * self.kernel,
            recurrent=self.inner * self.state,
            recurrent_dtype=_FLOAT32,
            channels=self.inner,
        )

    def weights(self, count: int) -> list[TensorGroup]:
        """All weights of `count` mixers, with `x_proj` and `dt_proj` per head."""
        channels, heads = self.inner // self.heads, self.heads * count
        groups = [
            *linear("state", "in_proj", 2 * self.inner, self.hidden, count=count, bias=self.bias),  # x and gate
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
    """The mixer, for configs with its sizes at keys `mamba_…`."""
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
        hidden, inner: hidden size, and width of all heads together.
        heads: heads of the recurrence.
        groups: groups of heads that share B and C.
        state: state size: recurrent elements per channel.
        kernel: kernel size of the convolution.
        in_bias, out_bias, conv_bias: biases of the projections and of the convolution.
        normed: whether the gated output has an RMSNorm.
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
        return self.inner + 2 * self.groups * self.state  # x, and B and C of each group

    @property
    def mixer(self) -> StateSpace:
        """Its sizes."""
        return StateSpace(
            heads=self.heads,
            head_dim=self.inner // self.heads,
            groups=self.groups,
            state=self.state,
            kernel=self.kernel,
            bias=self.conv_bias,
            projected_bias=self.in_bias,
        )

    @property
    def cache(self) -> State:
        """The state of a layer."""
        # heads × head_dim may be less than `inner`, if heads do not divide it
        head_dim = self.inner // self.heads
        return State(
            conv=self._convolved * self.kernel,
            recurrent=self.heads * head_dim * self.state,
            recurrent_dtype=_FLOAT32,
        )

    def weights(self, count: int) -> list[TensorGroup]:
        """All weights of `count` mixers."""
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
        hidden: hidden size.
        key_heads, value_heads, key_dim, value_dim: heads and head sizes of keys and values.
        kernel: kernel size of the convolution of queries, keys and values.
    """

    hidden: int
    key_heads: int
    value_heads: int
    key_dim: int
    value_dim: int
    kernel: int

    @property
    def keys(self) -> int:
        """Width of all key heads together."""
        return self.key_heads * self.key_dim

    @property
    def values(self) -> int:
        """Width of all value heads together."""
        return self.value_heads * self.value_dim

    @property
    def _convolved(self) -> int:
        return 2 * self.keys + self.values  # queries have the width of keys

    @property
    def mixer(self) -> DeltaRule:
        """Its sizes."""
        return DeltaRule(
            key_heads=self.key_heads,
            value_heads=self.value_heads,
            key_dim=self.key_dim,
            value_dim=self.value_dim,
            kernel=self.kernel,
        )

    @property
    def cache(self) -> State:
        """The state of a layer."""
        return State(
            conv=self._convolved * self.kernel,
            recurrent=self.value_heads * self.key_dim * self.value_dim,
            recurrent_dtype=_FLOAT32,
        )

    def weights(self, projections: Mapping[str, int], count: int, *, out: str = "out_proj") -> list[TensorGroup]:
        """All weights of `count` layers; `projections` are the input projections, by name, with their output sizes."""
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
    """A depthwise convolution."""
    groups = weight("state", "conv1d", channels, 1, kernel, count=count)
    return groups + weight("state", "conv1d.bias", channels, count=count) if bias else groups
