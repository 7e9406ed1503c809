"""RWKV-5: a recurrence with a matrix-valued state per head (modeling_rwkv5.py in its repositories, which is never run;
mlc-llm's rwkv5_model.py has the same state)."""

from __future__ import annotations

from dataclasses import replace

from hfmem.mapper.blueprint import Blueprint
from hfmem.mapper.caches import State
from hfmem.mapper.facts import Facts
from hfmem.mapper.families._decoder import decoder
from hfmem.mapper.families._states import Keeps, layers_with, unattended, without_attention
from hfmem.mapper.values import Dense

__all__ = ["read"]


def read(facts: Facts) -> Blueprint:
    """Layers. The state holds the last token's input of time mixing and of channel mixing, and a square float32 matrix
    per head.

    `intermediate_size` is null in the files and defaults to 3.5 × hidden size, rounded down to a multiple of 32. The
    weights are not described: the files state a tied head, which no published parameter count confirms.
    """
    facts = facts.alone()
    hidden = facts.integer("hidden_size")
    s = unattended(facts, hidden)
    width = facts.integer("attention_hidden_size", default=hidden)
    units = facts.integer("intermediate_size", default=int(hidden * 3.5) // 32 * 32)
    # the recurrent state is a matrix of head size × head size per head, unlike that of RWKV-4
    state = State(conv=2 * hidden, recurrent=width * facts.integer("head_size"), recurrent_dtype="float32")
    layers = layers_with(
        facts,
        ("linear_attention",) * s.layers,
        {"linear_attention": Keeps(cache=state)},
        Dense(intermediate=units, gated=False),
    )
    return replace(without_attention(decoder(facts, s, (), layers)), groups=None)
