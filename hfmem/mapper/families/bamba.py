"""Bamba, Falcon-H1 and Granite 4 hybrids: Mamba-2 and attention in different layers, or (Falcon-H1) both in each."""

from __future__ import annotations

from collections.abc import Sequence

from hfmem.mapper.blueprint import Blueprint, embedding, norm
from hfmem.mapper.caches import Combined
from hfmem.mapper.facts import Facts
from hfmem.mapper.families._decoder import Sizes, decoder, feed_forward, separate_attention, sizes
from hfmem.mapper.families._dialect import GATED
from hfmem.mapper.families._mixture import Mixture, mixture
from hfmem.mapper.families._states import Keeps, Mamba2, attention_of, kept_kv, kinds_of, layers_with
from hfmem.mapper.values import Dense, Ffn, TensorGroup

__all__ = ["read"]

_KINDS = ("linear_attention", "full_attention")


def read(facts: Facts) -> Blueprint:
    """Layers and weights (modeling_bamba.py, modeling_falcon_h1.py, modeling_granitemoehybrid.py)."""
    s = sizes(facts)
    kinds = _kinds(facts, s.layers)
    mixer = _mixer(facts, s.hidden)
    ffns, networks = _networks(facts, s)
    bias = facts.flag("attention_bias")
    weights = [
        *embedding(s.vocab, s.hidden),
        *separate_attention(attention_of(s, kinds, "full_attention", "hybrid"), bias=bias, out_bias=bias),
        *mixer.weights(s.layers - kinds.count("full_attention")),
        *networks,
        *norm(s.hidden, count=2 * s.layers + 1),
    ]
    attention = kept_kv(s)
    keeps = {
        "full_attention": attention,
        "linear_attention": Keeps(cache=mixer.cache, mixer=mixer.mixer),
        "hybrid": Keeps(cache=Combined(caches=(attention.cache, mixer.cache)), heads=s.heads),
    }
    return decoder(facts, s, weights, layers_with(facts, kinds, keeps, ffns))


def _kinds(facts: Facts, layers: int) -> Sequence[str]:
    if facts.model_type == "falcon_h1":
        return ("hybrid",) * layers
    if facts.model_type == "bamba":
        attention = facts.items("attn_layer_indices") or ()
        return ["full_attention" if index in attention else "linear_attention" for index in range(layers)]
    return kinds_of(facts, ("linear_attention",) * layers, _KINDS, "layer_types", "layers_block_type")


def _mixer(facts: Facts, hidden: int) -> Mamba2:
    """The mixer. Falcon-H1 may set its width, has a separate flag for the output bias, and one for the norm."""
    falcon = facts.model_type == "falcon_h1"
    bias = facts.flag("mamba_proj_bias")
    given = facts.optional_integer("mamba_d_ssm") if falcon else None
    return Mamba2(
        hidden=hidden,
        inner=facts.integer("mamba_expand") * hidden if given is None else given,
        heads=facts.integer("mamba_n_heads"),
        groups=facts.integer("mamba_n_groups"),
        state=facts.integer("mamba_d_state"),
        kernel=facts.integer("mamba_d_conv"),
        in_bias=bias,
        out_bias=facts.flag("projectors_bias") if falcon else bias,
        conv_bias=facts.flag("mamba_conv_bias"),
        normed=facts.flag("mamba_rms_norm") if falcon else True,
    )


def _networks(facts: Facts, s: Sizes) -> tuple[Sequence[Ffn], list[TensorGroup]]:
    """Dense networks. Granite has experts and a shared network, or only the latter."""
    if facts.model_type != "granitemoehybrid":
        units, bias = facts.integer("intermediate_size"), facts.flag("mlp_bias")
    elif facts.integer("num_local_experts"):
        mixed = Mixture(shared=lambda facts: facts.integer("shared_intermediate_size"))
        return mixture(facts, mixed, s.hidden, s.layers)
    else:
        units, bias = facts.integer("shared_intermediate_size"), False
    network = Dense(intermediate=units, gated=True)
    return [network] * s.layers, feed_forward((s.hidden, units), GATED, count=s.layers, bias=bias)
