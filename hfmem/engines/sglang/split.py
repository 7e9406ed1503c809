"""How SGLang splits a model over ranks."""

from __future__ import annotations

from typing import Final

from hfmem.estimator.split.rules import SplitRules
from hfmem.mapper.caches import KV, Combined, CrossKV, Indexed

__all__ = ["RULES"]

RULES: Final = SplitRules(
    software="SGLang",
    remainder="before_last",
    numbering="replicas",
    rest="before",
    unowned="whole",
    tensors="kind",
    embedding="vocabulary",
    vocabulary_padding=64,
    towers=True,
    replicas_share_experts=False,
    kv_weights="repeated",
    fewer_kv_heads=True,
    headed=(KV, CrossKV, Indexed, Combined),
    ep_of_all=False,
    ep_needs_experts=False,
    even_experts=False,
    source="SGLang 0.5.23, srt/layers/{linear,vocab_parallel_embedding}.py (QKVParallelLinear, "
    "DEFAULT_VOCAB_PADDING_SIZE), srt/distributed/utils.py::get_pp_indices",
)
"""KV heads are replicated where there are fewer than ranks. `--dp` is independent replicas, unless attention alone is
replicated (`--enable-dp-attention`)."""
