"""Donut's image encoder: a Swin Transformer, whose stages use windowed attention and each halve the grid
(`DonutSwinModel`)."""

from __future__ import annotations

from hfmem.errors import InvalidConfigError
from hfmem.mapper.blueprint import Blueprint, linear, weight
from hfmem.mapper.caches import Nothing
from hfmem.mapper.facts import Facts
from hfmem.mapper.families._blocks import Block, blocks, norms, patches, side
from hfmem.mapper.families._decoder import MOST_LAYERS
from hfmem.mapper.values import Architecture, Dense, Layer, TensorGroup

__all__ = ["read"]


def read(facts: Facts) -> Blueprint:
    """Layers and weights of the base model. Each stage after the first merges four patches and doubles the width."""
    width, patch = facts.integer("embed_dim"), side(facts, "patch_size")
    depths, heads = facts.integers("depths"), facts.integers("num_heads")
    if len(depths) != len(heads) or min((*depths, *heads), default=0) < 1 or sum(depths) > MOST_LAYERS:
        raise InvalidConfigError("", f"depths and num_heads are {depths} and {heads}, expected as many of each stage")
    groups = [*patches(width, facts.integer("num_channels"), patch, patch), *norms("vision", width)]
    if facts.flag("use_absolute_embeddings"):
        groups += weight("vision", "position_embeddings", 1, _tokens(facts, 0) + 1, width)
    layers: list[Layer] = []
    for stage, (depth, count) in enumerate(zip(depths, heads, strict=True)):
        hidden = width * 2**stage  # each stage doubles the width and halves both sides of the grid
        inner = int(facts.number("mlp_ratio") * hidden)
        if stage:
            # merges 2 × 2 patches of the previous width, hidden / 2
            groups += linear("vision", "downsample", hidden, 2 * hidden)
            groups += norms("vision", 2 * hidden)
        groups += _stage(facts, Block(hidden=hidden, inner=inner, qkv_bias=facts.flag("qkv_bias")), depth, count)
        ffn = Dense(intermediate=inner, gated=False)
        layers += [Layer(kind="none", cache=Nothing(), heads=count, ffn=ffn)] * depth
    hidden = width * 2 ** (len(depths) - 1)
    architecture = Architecture(
        model_type=facts.model_type,
        hidden_size=hidden,
        max_positions=_tokens(facts, len(depths) - 1),
        attention_heads=heads[0],
        layers=tuple(layers),
        head="none",
    )
    named = str((facts.items("architectures") or ("Model",))[0])
    return Blueprint(architecture=architecture, groups=tuple(groups) if named.endswith("Model") else None)


def _tokens(facts: Facts, halvings: int) -> int:
    """The number of patches of an image after `halvings` stages that halve each side."""
    height, *rest = facts.integers("image_size")
    size = side(facts, "patch_size") << halvings
    return (height // size) * ((rest[0] if rest else height) // size)


def _stage(facts: Facts, b: Block, depth: int, heads: int) -> list[TensorGroup]:
    positions = (2 * facts.integer("window_size") - 1) ** 2  # relative offsets within a window, in both axes
    return blocks("vision", b, depth) + weight("vision", "relative_position_bias_table", positions, heads, count=depth)
