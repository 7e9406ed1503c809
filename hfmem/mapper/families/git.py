"""GIT: a decoder with BERT's blocks, with an image's patches as the first tokens (modeling_git.py)."""

from __future__ import annotations

from collections.abc import Sequence

from hfmem.mapper.blueprint import Blueprint, embedding, head, norm, weight
from hfmem.mapper.caches import KV
from hfmem.mapper.facts import Facts
from hfmem.mapper.families._blocks import norms, projection
from hfmem.mapper.families._encoder import Widths, architecture_of, blocks, widths
from hfmem.mapper.families._heads import task
from hfmem.mapper.families._towers import tower
from hfmem.mapper.values import Dense, Layer, TensorGroup

__all__ = ["read"]


def read(facts: Facts) -> Blueprint:
    """Layers and weights."""
    w = widths(facts)
    size, output = w.hidden // w.heads, _head(facts, w)
    layer = Layer(
        kind="full_attention",
        cache=KV(heads=w.heads, key_dim=size, value_dim=size),
        heads=w.heads,
        ffn=Dense(intermediate=w.intermediate, gated=False),
    )
    architecture = architecture_of(facts, w, layer, "lm_head" if output else "none")
    if output is None:
        return Blueprint(architecture=architecture, groups=None)
    return Blueprint(architecture=architecture, groups=(*_weights(facts, w), *output))


def _head(facts: Facts, w: Widths) -> Sequence[TensorGroup] | None:
    kind = task(facts, "causal_lm")
    if kind == "causal_lm":
        return head(w.vocab, w.hidden, tied=w.tied, bias=True, role="output")
    return [] if kind == "base" else None


def _weights(facts: Facts, w: Widths) -> list[TensorGroup]:
    vision = facts.nested("vision_config")
    images = facts.optional_integer("num_image_with_embedding") or 0
    return [
        *embedding(w.vocab, w.hidden, role="word_embeddings"),
        *embedding(facts.integer("max_position_embeddings"), w.hidden, role="position_embeddings"),
        *norm(w.hidden, bias=True),
        *blocks(w, w.layers),
        *tower(vision),
        *projection(w.hidden, vision.integer("hidden_size")),
        *norms("projector", w.hidden),
        *weight("projector", "img_temporal_embedding", 1, 1, vision.integer("hidden_size"), count=images),
    ]
