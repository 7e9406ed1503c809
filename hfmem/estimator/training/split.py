"""How training frameworks split a model over ranks."""

from __future__ import annotations

from typing import Final

from hfmem.estimator.split.rules import SplitRules
from hfmem.mapper.caches import KV

__all__ = ["RULES"]

RULES: Final = SplitRules(
    remainder="floor",
    numbering="stages",
    rest="inside",
    unowned="even",
    matrices_only=True,
    embedding="all",
    towers=True,
    replicas_share_experts=False,
    kv_weights="cut",
    fewer_kv_heads=True,
    headed=(KV,),
    blind=("tp", "dp", "cp"),
    ep_of_all=False,
    ep_needs_experts=True,
    even_experts=True,
    source="Megatron-LM, megatron/training/arguments.py and megatron/core/transformer/transformer_config.py",
)
"""Matrices are cut evenly, those of few key/value heads too."""
