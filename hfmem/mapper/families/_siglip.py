"""The SigLIP vision tower of multimodal models (modeling_siglip.py)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from hfmem.mapper.blueprint import linear, norm, weight
from hfmem.mapper.facts import Facts
from hfmem.mapper.families._decoder import feed_forward
from hfmem.mapper.values import TensorGroup

__all__ = ["vision_tower"]


def vision_tower(facts: Facts) -> list[TensorGroup]:
    """All weights of the tower, with component `vision`."""
    hidden, layers = facts.integer("hidden_size"), facts.integer("num_hidden_layers")
    patch, channels = facts.integer("patch_size"), facts.integer("num_channels")
    sizes = (hidden, facts.integer("intermediate_size"))
    return list(
        _as_vision(
            [
                *weight("vision", "patch_embedding", hidden, channels, patch, patch),
                *weight("vision", "patch_embedding.bias", hidden),
                *weight("vision", "position_embedding", (facts.integer("image_size") // patch) ** 2, hidden),
                *linear("vision", "q_proj", hidden, hidden, count=layers, bias=True),
                *linear("vision", "k_proj", hidden, hidden, count=layers, bias=True),
                *linear("vision", "v_proj", hidden, hidden, count=layers, bias=True),
                *linear("vision", "out_proj", hidden, hidden, count=layers, bias=True),
                *feed_forward(sizes, ("fc1", "fc2"), count=layers, bias=True, component="vision"),
                *norm(hidden, count=2 * layers + 1, bias=True),
                *(_pooling(sizes) if facts.flag("vision_use_head", default=True) else ()),
            ]
        )
    )


def _pooling(sizes: tuple[int, int]) -> list[TensorGroup]:
    """The attention pooling head, which pools all patches into one vector (SiglipMultiheadAttentionPoolingHead)."""
    hidden = sizes[0]
    return [
        *weight("vision", "probe", 1, 1, hidden),
        *linear("vision", "in_proj", 3 * hidden, hidden, bias=True),
        *linear("vision", "out_proj", hidden, hidden, bias=True),
        *feed_forward(sizes, ("fc1", "fc2"), count=1, bias=True, component="vision"),
        *norm(hidden, bias=True),
    ]


def _as_vision(groups: Iterable[TensorGroup]) -> Iterable[TensorGroup]:
    return (replace(group, component="vision") for group in groups)
