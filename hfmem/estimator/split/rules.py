"""How software replicates, pads or refuses when a model is split: one row per engine and per training framework."""

from __future__ import annotations

from typing import Literal, NamedTuple

from hfmem.mapper.caches import Cache

__all__ = ["Size", "SplitRules"]

Size = Literal["tp", "pp", "dp", "ep", "cp"]


class SplitRules(NamedTuple):
    """How one engine or training framework splits a model over ranks. Fields up to `replicas_share_experts` describe
    what a rank holds, those from `fewer_kv_heads` on what is refused.

    Attributes:
        software: its name in sentences.
        remainder: where layers go if the stages do not divide them: one extra to each of the `first` stages; or to
            the stages `before_last`, as the last one has the head; or `floor`: stage i of n ends at layer
            ⌊layers × (i + 1) / n⌋.
        numbering: the rank order outside of tensor parallelism: `replicas` numbers all stages of a replica
            consecutively, `stages` all replicas of a stage.
        rest: where components go that are known neither as part of layers nor as before or after them: `before` the
            layers, on the first stage, or `inside`, divided like the layers.
        unowned: what a stage holds of tensors that cannot be assigned to layers: the `whole`, or a share `even` with
            its number of layers.
        tensors: which tensors are split over tensor-parallel ranks: those in the tp_plan of the model's class
            (`planned`: unevenly if needed, refused without a plan; the next four fields are ignored then), all
            `matrices` of linear layers and embeddings, or according to their `kind`.
        embedding: embedding tables that are split over tensor-parallel ranks: that of the `vocabulary`, or `all`.
        vocabulary_padding: a split vocabulary is padded to a multiple of this many rows.
        towers: whether linear layers of vision and audio towers are split over tensor-parallel ranks.
        projectors: whether those between a tower and its decoder are, too.
        kv_weights: key/value projections with fewer heads than ranks: `repeated` (heads are replicated), or `cut`.
        replicas_share_experts: whether, without expert parallelism, each expert is split over the ranks of all
            replicas.
        fewer_kv_heads: whether there may be fewer KV heads than ranks, if the heads divide the ranks.
        headed: cache types whose KV heads must be divisible by the ranks.
        sizes: parallel sizes that may be above one at all.
        blind: parallel sizes that may be above one for a model with unknown layers.
        ep_of_all: whether experts are split over all ranks of a stage or none; else over any number of ranks.
        ep_needs_experts: whether expert parallelism is refused for a model without experts.
        even_experts: whether every rank must have the same number of experts; else at least one.
        cuts_experts: whether tensor-parallel ranks beyond `ep` split each expert; else they have it whole.
        source: where the rules are from.
    """

    software: str
    remainder: Literal["first", "before_last", "floor"]
    numbering: Literal["replicas", "stages"]
    rest: Literal["before", "inside"]
    unowned: Literal["whole", "even"]
    tensors: Literal["planned", "matrices", "kind"]
    replicas_share_experts: bool
    fewer_kv_heads: bool
    headed: tuple[type[Cache], ...]
    ep_of_all: bool
    ep_needs_experts: bool
    even_experts: bool
    source: str
    embedding: Literal["vocabulary", "all"] = "all"
    vocabulary_padding: int = 1
    towers: bool = True
    projectors: bool = False
    kv_weights: Literal["repeated", "cut"] = "cut"
    sizes: tuple[Size, ...] = ("tp", "pp", "dp", "ep", "cp")
    blind: tuple[Size, ...] = ()
    cuts_experts: bool = False
