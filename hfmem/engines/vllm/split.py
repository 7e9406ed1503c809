"""How vLLM splits a model over ranks."""

from __future__ import annotations

from typing import Final

from hfmem.estimator.split.rules import SplitRules
from hfmem.mapper.caches import KV, Combined, CrossKV, Indexed

__all__ = ["RULES"]

RULES: Final = SplitRules(
    software="vLLM",
    remainder="before_last",
    numbering="replicas",
    rest="before",
    unowned="whole",
    tensors="kind",
    embedding="vocabulary",
    vocabulary_padding=64,
    towers=True,
    replicas_share_experts=True,
    kv_weights="repeated",
    fewer_kv_heads=True,
    headed=(KV, CrossKV, Indexed, Combined),
    ep_of_all=True,
    ep_needs_experts=False,
    even_experts=False,
    source="vLLM 0.19.0, model_executor/layers/{linear,vocab_parallel_embedding}.py (QKVParallelLinear, "
    "DEFAULT_VOCAB_PADDING_SIZE), distributed/utils.py::get_pp_indices",
)
"""KV heads are replicated where there are fewer than ranks; the vocabulary is padded and split."""
