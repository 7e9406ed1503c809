"""How mlx-lm shares a model: `mlx_lm.generate` runs on one accelerator."""

from __future__ import annotations

from typing import Final

from hfmem.estimator.split.rules import SplitRules

__all__ = ["RULES"]

RULES: Final = SplitRules(
    software="MLX",
    remainder="first",
    numbering="replicas",
    rest="before",
    unowned="whole",
    tensors="kind",
    replicas_share_experts=False,
    fewer_kv_heads=True,
    headed=(),
    sizes=(),
    blind=(),
    ep_of_all=True,
    ep_needs_experts=False,
    even_experts=False,
    source="mlx-lm 0.32.2, mlx_lm/generate.py (main)",
)
