"""How `transformers` splits a model over ranks."""

from __future__ import annotations

from typing import Final

from hfmem.estimator.split.rules import SplitRules
from hfmem.mapper.caches import KV, Combined, CrossKV, Indexed

__all__ = ["RULES"]

RULES: Final = SplitRules(
    software="transformers",
    remainder="first",
    numbering="replicas",
    rest="before",
    unowned="whole",
    tensors="planned",
    replicas_share_experts=False,
    fewer_kv_heads=False,
    headed=(KV, CrossKV, Indexed, Combined),
    ep_of_all=True,
    ep_needs_experts=True,
    even_experts=True,
    source="transformers 5.24.0: distributed/mixin.py:85-105 and 256-262 (plans), tensor_parallel.py (styles), "
    "pipeline_parallel.py:109 (layer_range_for_rank), expert_parallel.py (MoEParamShard)",
)
"""Tensor parallelism by each class's tp_plan; KV heads cannot be replicated."""
