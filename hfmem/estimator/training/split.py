"""How training software splits a model over ranks: one row per scheme, referenced by stacks."""

from __future__ import annotations

from typing import Final

from hfmem.estimator.recipe.stacks import Stack
from hfmem.estimator.split.rules import SplitRules
from hfmem.mapper.caches import KV, Combined, CrossKV, Indexed

__all__ = ["MEGATRON", "REPLICAS", "TRAINER", "rules_of"]

MEGATRON: Final = SplitRules(
    software="Megatron",
    remainder="floor",
    numbering="stages",
    rest="inside",
    unowned="even",
    tensors="matrices",
    embedding="all",
    towers=True,
    kv_weights="cut",
    replicas_share_experts=False,
    fewer_kv_heads=True,
    headed=(KV,),
    blind=("tp", "dp", "cp"),
    ep_of_all=False,
    ep_needs_experts=True,
    even_experts=True,
    source="Megatron-LM, megatron/training/arguments.py and megatron/core/transformer/transformer_config.py",
)
"""Linear weights are split evenly, also those with fewer KV heads than ranks."""

TRAINER: Final = MEGATRON._replace(
    software="the Trainer of transformers",
    tensors="planned",
    fewer_kv_heads=False,
    headed=(KV, CrossKV, Indexed, Combined),
    sizes=("tp", "dp", "ep", "cp"),
    blind=("dp", "cp"),
    source="transformers 5.24.0: trainer.py:467 and 777-790 (a model that from_pretrained has split by its tp_plan); "
    "distributed/pipeline_parallel.py, pipeline_parallel_naive_forward: stages have no loss and send no gradients",
)
"""Tensor parallelism by each class's tp_plan, as in inference; no pipeline parallelism."""

REPLICAS: Final = TRAINER._replace(
    software="this stack",
    sizes=("dp",),
    blind=("dp",),
    source="transformers 4.48, training_args.py: neither tp_size nor parallelism_config; litgpt 0.4, finetune/lora.py: "
    "FSDPStrategy over all devices",
)
"""Data parallelism only, sharded or not."""

_ROWS: Final = {"megatron": MEGATRON, "trainer": TRAINER, "replicas": REPLICAS}


def rules_of(stack: Stack) -> SplitRules:
    """The split rules of a stack."""
    return _ROWS[stack.split]
