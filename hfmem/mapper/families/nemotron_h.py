"""Nemotron-H and Nemotron 3: each layer is either Mamba-2, attention, a dense feed-forward network, or experts.

Experts may work in a smaller latent space, with a projection into it and one back (modeling_nemotron_h.py).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from hfmem.errors import InvalidConfigError
from hfmem.mapper.blueprint import Blueprint, embedding, experts, linear, norm, router
from hfmem.mapper.caches import Nothing
from hfmem.mapper.facts import Facts
from hfmem.mapper.families._decoder import Sizes, decoder, feed_forward, separate_attention
from hfmem.mapper.families._states import Keeps, Mamba2, attention_of, kept_kv, kinds_of, layers_with
from hfmem.mapper.values import Dense, Experts, Ffn, TensorGroup

__all__ = ["read"]

_PATTERN: Final = {"M": "linear_attention", "E": "moe", "*": "full_attention", "-": "mlp"}
_KINDS: Final = tuple(_PATTERN.values())
_PLAIN: Final = ("up_proj", "down_proj")


def read(facts: Facts) -> Blueprint:
    """Layers and weights."""
    kinds = _kinds(facts)
    s = _sizes(facts, len(kinds))
    mixer = _mixer(facts, s.hidden)
    networks, sparse = kinds.count("mlp"), kinds.count("moe")
    ffns: dict[str, Ffn] = {}
    weights = [
        *embedding(s.vocab, s.hidden, role="embeddings"),
        *separate_attention(attention_of(s, kinds), bias=False, out_bias=False),
        *mixer.weights(kinds.count("linear_attention")),
        *norm(s.hidden, count=s.layers + 1),  # one per layer, as attention and networks are separate layers here
    ]
    if networks:
        units, bias = facts.integer("intermediate_size"), facts.flag("mlp_bias")
        weights += feed_forward((s.hidden, units), _PLAIN, count=networks, bias=bias)
        ffns["mlp"] = Dense(intermediate=units, gated=False)
    if sparse:
        weights += _experts(facts, s.hidden, sparse)
        ffns["moe"] = _mixture(facts)
    nothing = Keeps(cache=Nothing())
    keeps = {
        "full_attention": kept_kv(s),
        "linear_attention": Keeps(cache=mixer.cache),
        "moe": nothing,
        "mlp": nothing,
    }
    return decoder(facts, s, weights, layers_with(facts, kinds, keeps, [ffns.get(kind) for kind in kinds]))


def _kinds(facts: Facts) -> Sequence[str]:
    """The kinds of layers from a list or from a pattern with one letter per layer, whose length is the layer count."""
    pattern = facts.text("hybrid_override_pattern")
    if pattern is None:
        default: Sequence[str] = ("linear_attention", "moe", "full_attention", "mlp")
    elif set(pattern) <= set(_PATTERN):
        default = [_PATTERN[letter] for letter in pattern]
    else:
        raise InvalidConfigError("", f"hybrid_override_pattern is {pattern!r}, expected letters of {''.join(_PATTERN)}")
    return kinds_of(facts, default, _KINDS, "layers_block_type", "layer_types")


def _sizes(facts: Facts, layers: int) -> Sizes:
    heads = facts.integer("num_attention_heads")
    hidden = facts.integer("hidden_size")
    return Sizes(
        hidden=hidden,
        layers=layers,
        heads=heads,
        kv_heads=facts.integer("num_key_value_heads", default=heads),
        head_dim=facts.integer("head_dim", default=hidden // heads),
        vocab=facts.integer("vocab_size"),
        tied=False,  # the class ignores `tie_word_embeddings`
    )


def _mixer(facts: Facts, hidden: int) -> Mamba2:
    heads, bias = facts.integer("mamba_num_heads"), facts.flag("use_bias")
    return Mamba2(
        hidden=hidden,
        inner=heads * facts.integer("mamba_head_dim"),
        heads=heads,
        groups=facts.integer("mamba_n_groups", "n_groups"),
        state=facts.integer("ssm_state_size"),
        kernel=facts.integer("mamba_d_conv", "conv_kernel"),
        in_bias=bias,
        out_bias=bias,
        conv_bias=facts.flag("mamba_conv_bias", "use_conv_bias"),
    )


def _mixture(facts: Facts) -> Experts:
    return Experts(
        count=facts.integer("n_routed_experts"),
        per_token=facts.integer("num_experts_per_tok"),
        intermediate=facts.integer("moe_intermediate_size"),
        shared=facts.integer("moe_shared_expert_intermediate_size"),
    )


def _experts(facts: Facts, hidden: int, layers: int) -> list[TensorGroup]:
    """Experts without a gate projection, in the latent space if there is one. Router and shared experts use the full
    hidden size."""
    mixed, bias = _mixture(facts), facts.flag("mlp_bias")
    latent = facts.optional_integer("moe_latent_size")
    width = hidden if latent is None else latent
    groups = [
        *router(mixed.count, hidden, count=layers),
        *experts("up_proj", mixed.count, mixed.per_token, mixed.intermediate, width, layers=layers),
        *experts("down_proj", mixed.count, mixed.per_token, width, mixed.intermediate, layers=layers),
        *feed_forward((hidden, mixed.shared), _PLAIN, count=layers, bias=bias, component="shared_experts"),
    ]
    if latent is not None:
        groups += linear("experts", "fc1_latent_proj", latent, hidden, count=layers, bias=bias)
        groups += linear("experts", "fc2_latent_proj", hidden, latent, count=layers, bias=bias)
    return groups
