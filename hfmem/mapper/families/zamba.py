"""Zamba and Zamba-2: Mamba layers, some of them preceded by a transformer block with shared weights.

The block's input is the hidden states concatenated with the embeddings, so its attention input is twice the hidden
size. Its weights are stored once (Zamba-2: `num_mem_blocks` times, used in turn), but each layer that uses it has its
own KV cache. The class shares by weight tying: without `tie_word_embeddings`, each use has its own copy.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from hfmem.errors import InvalidConfigError
from hfmem.mapper.blueprint import Blueprint, embedding, linear, norm
from hfmem.mapper.caches import Combined
from hfmem.mapper.facts import Facts
from hfmem.mapper.families._decoder import Sizes, decoder, feed_forward, layer_count
from hfmem.mapper.families._dialect import GATED
from hfmem.mapper.families._states import Keeps, Mamba, Mamba2, kept_kv, kinds_of, layers_with, mamba_of
from hfmem.mapper.values import Dense, TensorGroup

__all__ = ["read"]

_KINDS = ("linear_attention", "hybrid")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Shared:
    """The shared block.

    Attributes:
        intermediate: intermediate size.
        width: input size of attention.
        mlp, bias: names and biases of the feed-forward projections.
        count: stored copies.
        adapters: weights of low-rank adapters, which each use has of its own.
    """

    intermediate: int
    width: int
    mlp: tuple[str, ...] = GATED
    bias: bool = False
    count: int = 1
    adapters: tuple[TensorGroup, ...] = ()


def read(facts: Facts) -> Blueprint:
    """Layers and weights (modeling_zamba.py, modeling_zamba2.py)."""
    first = facts.model_type == "zamba"
    default = _first_kinds(facts) if first else _second_kinds()
    kinds = kinds_of(facts, default, _KINDS, "layers_block_type", "layer_types")
    if len(kinds) != layer_count(facts):
        raise InvalidConfigError("", f"layer_types has {len(kinds)} entries for {layer_count(facts)} layers")
    s = _sizes(facts, len(kinds), fixed=not first)
    mixer = _first(facts, s.hidden) if first else _second(facts, s.hidden)
    hybrids = kinds.count("hybrid")
    shared = _once(facts, s, hybrids) if first else _in_turn(facts, s, hybrids)
    weights = [
        *embedding(s.vocab, s.hidden),
        *mixer.weights(s.layers),
        *linear("state", "linear", s.hidden, s.hidden, count=hybrids),
        *_block(s, shared),
        *shared.adapters,
        *norm(s.hidden, count=s.layers + 1),
    ]
    attention = kept_kv(s)
    keeps = {
        "linear_attention": Keeps(cache=mixer.cache),
        "hybrid": Keeps(cache=Combined(caches=(mixer.cache, attention.cache)), heads=s.heads),
    }
    ffns = [Dense(intermediate=shared.intermediate, gated=True) if kind == "hybrid" else None for kind in kinds]
    return decoder(facts, s, weights, layers_with(facts, kinds, keeps, ffns))


def _sizes(facts: Facts, layers: int, *, fixed: bool) -> Sizes:
    """The sizes; head_dim is 2 × hidden size / heads, unless the config has `attention_head_dim` (ignored by
    Zamba-2)."""
    hidden, heads = facts.integer("hidden_size"), facts.integer("num_attention_heads")
    given = None if fixed else facts.optional_integer("attention_head_dim")
    return Sizes(
        hidden=hidden,
        layers=layers,
        heads=heads,
        kv_heads=facts.integer("num_key_value_heads", default=heads),
        head_dim=given or 2 * hidden // heads,  # attention reads the hidden states and the embeddings, concatenated
        vocab=facts.integer("vocab_size"),
        tied=facts.flag("tie_word_embeddings"),
    )


def _first_kinds(facts: Facts) -> Sequence[str]:
    """The third layer uses the block, then one per period (configuration_zamba.py)."""
    period, offset = facts.integer("attn_layer_period"), facts.integer("attn_layer_offset")
    later = ["hybrid" if i % period == offset else "linear_attention" for i in range(layer_count(facts) - 3)]
    return ["linear_attention", "linear_attention", "hybrid", *later]


def _second_kinds() -> Sequence[str]:
    """The class's default list, always of 54 layers (configuration_zamba2.py)."""
    hybrids = (6, 12, 18, 24, 30, 36, 42, 47, 51)
    return ["hybrid" if index in hybrids else "linear_attention" for index in range(54)]


def _first(facts: Facts, hidden: int) -> Mamba:
    return replace(mamba_of(facts, hidden), heads=facts.integer("n_mamba_heads"))


def _second(facts: Facts, hidden: int) -> Mamba2:
    """Zamba-2's mixer. Files older than the class have other keys, and `mamba_headdim` in place of the heads."""
    bias = facts.flag("add_bias_linear")
    inner = facts.integer("mamba_expand", "expansion_factor") * hidden
    head_dim = None if facts.has("n_mamba_heads") else facts.optional_integer("mamba_headdim")
    return Mamba2(
        hidden=hidden,
        inner=inner,
        heads=facts.integer("n_mamba_heads") if head_dim is None else inner // head_dim,
        groups=facts.integer("mamba_ngroups"),
        state=facts.integer("mamba_d_state", "state_size"),
        kernel=facts.integer("mamba_d_conv", "conv_dimension"),
        in_bias=bias,
        out_bias=bias,
    )


def _once(facts: Facts, s: Sizes, uses: int) -> _Shared:
    return _Shared(
        intermediate=facts.integer("intermediate_size"),
        width=facts.optional_integer("attention_hidden_size") or 2 * s.hidden,
        count=min(1, uses) if s.tied else uses,  # untied files have a copy of the block per use
    )


def _in_turn(facts: Facts, s: Sizes, uses: int) -> _Shared:
    """Shared blocks used in turn, each with low-rank adapters for all of its uses."""
    intermediate, width = facts.optional_integer("intermediate_size", "ffn_hidden_size"), 2 * s.hidden
    intermediate = intermediate or 4 * s.hidden
    rank, blocks = facts.integer("adapter_rank", "lora_rank"), facts.integer("num_mem_blocks")
    count = min(blocks, uses) if s.tied else uses
    # block i is used at i, i + blocks, …, and each of its copies has adapters for all of these uses
    held = sum(len(range(block % blocks, uses, blocks)) for block in range(count))
    adapters = [
        *linear("mlp", "adapter_down", rank, s.hidden, count=held),
        *linear("mlp", "adapter_up", 2 * intermediate, rank, count=held),
    ]
    if facts.flag("use_shared_attention_adapter"):
        adapters += linear("attention", "adapter_down", rank, width, count=3 * held)
        adapters += linear("attention", "adapter_up", width, rank, count=3 * held)
    return _Shared(
        intermediate=intermediate,
        width=width,
        mlp=("gate_up_proj", "down_proj"),
        bias=facts.flag("add_bias_linear"),
        count=count,
        adapters=tuple(adapters),
    )


def _block(s: Sizes, shared: _Shared) -> list[TensorGroup]:
    return [
        *linear("attention", "q_proj", s.query, shared.width, count=shared.count),
        *linear("attention", "k_proj", s.kv, shared.width, count=shared.count),
        *linear("attention", "v_proj", s.kv, shared.width, count=shared.count),
        *linear("attention", "o_proj", s.hidden, s.query, count=shared.count),
        *feed_forward((s.hidden, shared.intermediate), shared.mlp, count=shared.count, bias=shared.bias),
        *norm(shared.width, count=shared.count),
        *norm(s.hidden, count=shared.count),
    ]
