"""What software repeats, pads or refuses when a model is split: one row an engine, one a way of training."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from hfmem.mapper.caches import Cache

__all__ = ["Size", "SplitRules"]

Size = Literal["tp", "pp", "dp", "ep", "cp"]


@dataclass(frozen=True, slots=True, kw_only=True)
class SplitRules:
    """How one engine or training framework lays a model on ranks. The first rows say what a rank holds, those from
    `fewer_kv_heads` on what is refused.

    Attributes:
        software: its name in sentences.
        remainder: where layers go that do not divide by the stages: one each to the `first` stages, or to those
            `before_last`, which has the head besides; or `floor`: stage i of n ends at layer ⌊layers × (i + 1) / n⌋.
        numbering: which ranks stand side by side after the tensor-parallel ones: the stages of one of the `replicas`,
            or the replicas of one of the `stages`.
        rest: where components lie that are neither a known part of layers nor of what is before or after them:
            `before` the layers, on the first stage, or `inside`, shared like the layers.
        unowned: what a stage holds of tensors of which no layer is known to be the owner: the `whole`, or what is
            `even` with its number of layers.
        tensors: what decides which tensors tensor-parallel ranks share: the plan of the model's class (`planned`: in
            uneven parts too, and refused without a plan; the four rows below have no say then), whether they are
            `matrices` of linear layers or embeddings, or their `kind`.
        embedding: which embedding tables tensor-parallel ranks share: that of the `vocabulary`, or `all`.
        vocabulary_padding: rows to a multiple of which a shared vocabulary is padded.
        towers: whether tensor-parallel ranks share the matrices of vision and audio towers.
        kv_weights: matrices of key/value heads that are fewer than ranks: `repeated`, or `cut` all the same.
        replicas_share_experts: whether the ranks of all replicas share each expert where experts are not whole.
        fewer_kv_heads: whether there may be fewer key/value heads than ranks, if their number divides that of ranks.
        headed: caches whose key/value heads have to go into the ranks.
        sizes: sizes that may be above one at all.
        blind: sizes that may be above one for a model whose layers are not known.
        ep_of_all: whether experts are split over all ranks of a stage or over none; else by any number of them.
        ep_needs_experts: whether sharing experts is refused for a model without any.
        even_experts: whether each rank has to have as many experts as the others; else at least one.
        source: where the rules are from.
    """

    software: str
    remainder: Literal["first", "before_last", "floor"]
    numbering: Literal["replicas", "stages"]
    rest: Literal["before", "inside"]
    unowned: Literal["whole", "even"]
    tensors: Literal["planned", "matrices", "kind"]
    embedding: Literal["vocabulary", "all"] = "all"
    vocabulary_padding: int = 1
    towers: bool = True
    kv_weights: Literal["repeated", "cut"] = "cut"
    replicas_share_experts: bool
    fewer_kv_heads: bool
    headed: tuple[type[Cache], ...]
    sizes: tuple[Size, ...] = ("tp", "pp", "dp", "ep", "cp")
    blind: tuple[Size, ...] = ()
    ep_of_all: bool
    ep_needs_experts: bool
    even_experts: bool
    source: str
