"""How SGLang splits a model over ranks."""

from __future__ import annotations

from typing import Final

from hfmem.engines.sglang.settings import settings_of
from hfmem.estimator.scenario import Scenario
from hfmem.estimator.split.rules import SplitRules
from hfmem.mapper.caches import KV, Combined, CrossKV, Indexed
from hfmem.mapper.values import Architecture, Experts

__all__ = ["RULES", "experts_refusal"]

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
    cuts_experts=True,
    source="SGLang 0.5.23, srt/layers/{linear,vocab_parallel_embedding}.py (QKVParallelLinear, "
    "DEFAULT_VOCAB_PADDING_SIZE), srt/distributed/utils.py::get_pp_indices",
)
"""KV heads are replicated where there are fewer than ranks. `--dp` is independent replicas, unless attention alone is
replicated (`--enable-dp-attention`)."""


def experts_refusal(architecture: Architecture, scenario: Scenario) -> str:
    """Why experts cannot be split over `--ep` ranks, and each expert over the rest of the tensor-parallel ranks; ""
    where they can (0.5.23, `runtime_context.py`: tp = ep × moe_tp; `layers/moe/fused_moe_triton/layer.py`: each
    divides)."""
    asked, plan = settings_of(scenario), scenario.parallel
    ranks = plan.tp * (plan.dp if asked.enable_dp_attention else 1)
    if ranks % asked.ep:
        return f"--ep {asked.ep} does not divide the {ranks} tensor-parallel ranks"
    for layer in set(architecture.layers or ()):
        if not isinstance(layer.ffn, Experts):
            continue
        if layer.ffn.count % asked.ep:
            return f"--ep {asked.ep} does not divide the {layer.ffn.count} experts"
        if layer.ffn.intermediate % (ranks // asked.ep):
            units = f"the {layer.ffn.intermediate:,} units of an expert"
            return f"{ranks // asked.ep} ranks (--tp {ranks} / --ep {asked.ep}) do not divide {units}"
    return ""
