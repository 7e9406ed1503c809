"""How llama.cpp shares a model: whole layers on each accelerator, as `placement` has them."""

from __future__ import annotations

from typing import Final

from hfmem.estimator.split.rules import SplitRules

__all__ = ["RULES"]

RULES: Final = SplitRules(
    software="llama.cpp",
    remainder="first",
    numbering="replicas",
    rest="before",
    unowned="whole",
    tensors="kind",
    replicas_share_experts=False,
    fewer_kv_heads=True,
    headed=(),
    sizes=("tp", "pp"),
    blind=("tp", "pp"),
    ep_of_all=True,
    ep_needs_experts=False,
    even_experts=False,
    source="llama.cpp 0.5.0, llama-model.cpp::load_tensors",
)
"""Accelerators are counted by `--gpus` and by the machine; there are no other sizes."""
