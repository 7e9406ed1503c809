"""How `transformers` splits a model over ranks."""

from __future__ import annotations

from typing import Final

from hfmem.estimator.split.rules import SplitRules
from hfmem.mapper.caches import KV, Combined, CrossKV, Indexed

__all__ = ["RULES"]

RULES: Final = SplitRules(
    remainder="before_last",
    numbering="replicas",
    rest="before",
    unowned="whole",
    matrices_only=False,
    embedding="none",
    towers=False,
    replicas_share_experts=False,
    kv_weights="repeated",  # of layers whose cache has no heads to be checked
    fewer_kv_heads=False,
    headed=(KV, CrossKV, Indexed, Combined),
    ep_of_all=True,
    ep_needs_experts=False,
    even_experts=False,
    source="transformers 5, base_model_tp_plan of the configuration classes: embeddings are on every rank, the head "
    "and the matrices of the text layers are cut",
)
"""Tensor parallelism by each class's own plan; key/value heads cannot be repeated."""
