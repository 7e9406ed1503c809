"""Mamba, Falcon-Mamba and Mamba-2: decoders with state-space layers only."""

from __future__ import annotations

import math

from hfmem.mapper.blueprint import Blueprint, embedding, norm
from hfmem.mapper.facts import Facts
from hfmem.mapper.families._decoder import decoder
from hfmem.mapper.families._states import (
    Keeps,
    Mamba,
    Mamba2,
    automatic,
    layers_with,
    unattended,
    without_attention,
)

__all__ = ["read"]


def read(facts: Facts) -> Blueprint:
    """Layers and weights (modeling_mamba.py, modeling_falcon_mamba.py, modeling_mamba2.py)."""
    hidden = facts.integer("hidden_size")
    s = unattended(facts, hidden)
    mixer = _second(facts, hidden) if facts.model_type == "mamba2" else _first(facts, hidden)
    weights = [
        *embedding(s.vocab, hidden, role="embeddings"),
        *mixer.weights(s.layers),
        *norm(hidden, count=s.layers + 1),
    ]
    keeps = {"linear_attention": Keeps(cache=mixer.cache)}
    layers = layers_with(facts, ("linear_attention",) * s.layers, keeps, None)
    return without_attention(decoder(facts, s, weights, layers))


def _first(facts: Facts, hidden: int) -> Mamba:
    """The mixer of Mamba 1; `intermediate_size` takes precedence over `expand` (configuration_mamba.py)."""
    return Mamba(
        hidden=hidden,
        inner=facts.integer("intermediate_size", default=int(facts.number("expand") * hidden)),
        state=facts.integer("state_size"),
        kernel=facts.integer("conv_kernel"),
        rank=automatic(facts, "time_step_rank", math.ceil(hidden / 16)),
        bias=facts.flag("use_bias"),
        conv_bias=facts.flag("use_conv_bias"),
    )


def _second(facts: Facts, hidden: int) -> Mamba2:
    bias = facts.flag("use_bias")
    return Mamba2(
        hidden=hidden,
        inner=int(facts.number("expand") * hidden),
        heads=facts.integer("num_heads"),
        groups=facts.integer("n_groups"),
        state=facts.integer("state_size"),
        kernel=facts.integer("conv_kernel"),
        in_bias=bias,
        out_bias=bias,
        conv_bias=facts.flag("use_conv_bias"),
    )
