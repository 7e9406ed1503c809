"""Kimi Linear and Ling hybrids: Kimi Delta Attention (arXiv 2510.26692), with MLA in some layers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

from hfmem.errors import InvalidConfigError
from hfmem.mapper.blueprint import Blueprint, embedding, linear, norm, weight
from hfmem.mapper.caches import Latent, State
from hfmem.mapper.facts import Facts
from hfmem.mapper.families._decoder import Sizes, decoder, sizes
from hfmem.mapper.families._mixture import Mixture, mixture, product
from hfmem.mapper.families._states import Keeps, attention_of, kinds_of, layers_with
from hfmem.mapper.values import TensorGroup

__all__ = ["Delta", "delta_attention", "delta_of", "read"]

_KINDS: Final = ("linear_attention", "full_attention")


@dataclass(frozen=True, slots=True, kw_only=True)
class Delta:
    """Kimi Delta Attention.

    Attributes:
        heads, head_dim: heads, and the size of their keys and values.
        kernel: kernel size of the convolutions.
        low_rank: whether forget gate and output gate are low-rank, with rank `head_dim`.
    """

    heads: int
    head_dim: int
    kernel: int
    low_rank: bool

    @property
    def width(self) -> int:
        """Width of all key heads together, and of all value heads."""
        return self.heads * self.head_dim

    @property
    def cache(self) -> State:
        """The state of a layer."""
        return State(
            conv=3 * self.width * self.kernel,
            recurrent=self.heads * self.head_dim * self.head_dim,
            recurrent_dtype="float32",
        )


def read(facts: Facts) -> Blueprint:
    """Layers and weights (modeling_kimi_linear.py, modeling_bailing_hybrid.py)."""
    head_dim = facts.integer("qk_nope_head_dim") + facts.integer("qk_rope_head_dim")
    s = replace(sizes(facts, head_dim=head_dim), tied=False)  # the classes ignore `tie_word_embeddings`
    kinds = kinds_of(facts, _default(facts, s.layers), _KINDS)
    delta = delta_of(facts, s.heads)
    ffns, networks = mixture(facts, _MIXED, s.hidden, s.layers)
    weights = [
        *embedding(s.vocab, s.hidden),
        *_attention(facts, attention_of(s, kinds)),
        *delta_attention(delta, s.hidden, kinds.count("linear_attention")),
        *networks,
        *norm(s.hidden, count=2 * s.layers + 1),
    ]
    keeps = {
        "full_attention": Keeps(cache=_latent(facts, s), heads=s.heads),
        "linear_attention": Keeps(cache=delta.cache),
    }
    found = decoder(facts, s, weights, layers_with(facts, kinds, keeps, ffns))
    return replace(
        found, architecture=replace(found.architecture, state_dtype="float32")
    )  # serving engines keep KDA states in float32


def _default(facts: Facts, layers: int) -> Sequence[str]:
    """The kinds of layers without `layer_types`. The layer numbers in Kimi's `linear_attn_config` start at one."""
    if facts.model_type == "bailing_hybrid":
        group = facts.integer("layer_group_size")
        return [_KINDS[(index + 1) % group == 0] for index in range(layers)]
    listed = facts.part("linear_attn_config")
    full = None if listed is None else listed.items("full_attn_layers")
    if listed is None or full is None or listed.items("kda_layers") is None:
        return [_KINDS[index > 0 and index % 4 == 0] for index in range(layers)]
    return [_KINDS[index + 1 in full] for index in range(layers)]


def delta_of(facts: Facts, heads: int) -> Delta:
    """The sizes of delta attention: in Kimi's nested config, while Ling uses those of its attention by default."""
    if facts.model_type == "bailing_hybrid":
        head_dim = facts.integer("linear_head_dim", default=facts.integer("head_dim"))
        return Delta(heads=heads, head_dim=head_dim, kernel=facts.integer("short_conv_kernel_size"), low_rank=False)
    listed = facts.part("linear_attn_config") or Facts({})
    return Delta(
        heads=_of(listed, "num_heads", facts, "linear_num_heads"),
        head_dim=_of(listed, "head_dim", facts, "linear_head_dim"),
        kernel=_of(listed, "short_conv_kernel_size", facts, "linear_conv_kernel_dim"),
        low_rank=True,
    )


def _of(nested: Facts, key: str, facts: Facts, otherwise: str) -> int:
    value = nested.optional_integer(key)
    return facts.integer(otherwise) if value is None else value


def _latent(facts: Facts, s: Sizes) -> Latent:
    return Latent(
        rank=facts.integer("kv_lora_rank"),
        rope_dim=facts.integer("qk_rope_head_dim"),
        heads=s.heads,
        key_dim=s.head_dim,
        value_dim=facts.integer("v_head_dim"),
    )


def _attention(facts: Facts, s: Sizes) -> list[TensorGroup]:
    """Latent attention; Ling also has a gate per head."""
    latent, bias = _latent(facts, s), facts.flag("attention_bias")
    expanded = s.heads * (facts.integer("qk_nope_head_dim") + latent.value_dim)
    groups = [
        *_queries(facts, s, bias=bias),
        *linear("attention", "kv_a_proj_with_mqa", latent.rank + latent.rope_dim, s.hidden, count=s.layers, bias=bias),
        *norm(latent.rank, count=s.layers, role="kv_a_layernorm"),
        *linear("attention", "kv_b_proj", expanded, latent.rank, count=s.layers),
        *linear("attention", "o_proj", s.hidden, s.heads * latent.value_dim, count=s.layers, bias=bias),
    ]
    if facts.model_type == "bailing_hybrid":
        groups += linear("attention", "g_proj", s.heads, s.hidden, count=s.layers)
    return groups


def _queries(facts: Facts, s: Sizes, *, bias: bool) -> list[TensorGroup]:
    rank = facts.optional_integer("q_lora_rank")
    if rank is None:
        return linear("attention", "q_proj", s.query, s.hidden, count=s.layers)
    return [
        *linear("attention", "q_a_proj", rank, s.hidden, count=s.layers, bias=bias),
        *norm(rank, count=s.layers, role="q_a_layernorm"),
        *linear("attention", "q_b_proj", s.query, rank, count=s.layers),
    ]


def delta_attention(delta: Delta, hidden: int, count: int) -> list[TensorGroup]:
    """All weights of `count` layers of delta attention."""
    inner = {"f_b_proj": "f_a_proj", "g_b_proj": "g_a_proj"} if delta.low_rank else {"f_proj": "", "g_proj": ""}
    gates = [group for role, before in inner.items() for group in _gate(delta, hidden, role, before, count)]
    return [
        *linear("state", "q_proj", delta.width, hidden, count=count),
        *linear("state", "k_proj", delta.width, hidden, count=count),
        *linear("state", "v_proj", delta.width, hidden, count=count),
        *linear("state", "b_proj", delta.heads, hidden, count=count),
        *gates,
        *weight("state", "conv1d", 3 * delta.width, 1, delta.kernel, count=count),
        *weight("state", "dt_bias", delta.width, count=count),
        *weight("state", "A_log", delta.heads, count=count),
        *norm(delta.head_dim, count=count, role="o_norm"),
        *linear("state", "o_proj", hidden, delta.width, count=count),
    ]


def _gate(delta: Delta, hidden: int, role: str, before: str, count: int) -> list[TensorGroup]:
    if not before:
        return linear("state", role, delta.width, hidden, count=count)
    return [
        *linear("state", before, delta.head_dim, hidden, count=count),
        *linear("state", role, delta.width, delta.head_dim, count=count),
    ]


def _sparse(facts: Facts, layers: int) -> Sequence[bool]:
    """Layers that are `sparse` in `mlp_layer_types`, else all after the first `first_k_dense_replace` (default 1)."""
    listed = facts.items("mlp_layer_types")
    if listed is None:
        first = facts.integer("first_k_dense_replace", default=1)
        return [index >= first for index in range(layers)]
    if len(listed) != layers:
        raise InvalidConfigError("", f"mlp_layer_types has {len(listed)} entries for {layers} layers")
    return [kind == "sparse" for kind in listed]


_MIXED: Final = Mixture(
    intermediate="moe_intermediate_size",
    count="num_local_experts",
    sparse=_sparse,
    shared=product("moe_intermediate_size", "n_shared_experts"),
)
