"""Replicas of attention that share their ranks (`--enable-dp-attention`): what is not attention is split over all of
them. Experts are split by the plan; dense layers, shared experts and the head are here."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from hfmem.engines.sglang.settings import settings_of
from hfmem.engines.sglang.split import RULES
from hfmem.estimator.parallel import Parallel
from hfmem.estimator.scenario import Scenario
from hfmem.estimator.split.ranks import rank_model
from hfmem.estimator.split.stages import Stage
from hfmem.mapper.interpret import Model
from hfmem.mapper.values import ParameterTable

__all__ = ["over_replicas"]

_SHARED: Final = ("mlp", "shared_experts", "lm_head")
"""Components that are split over all ranks: SGLang 0.5.23, srt/models/deepseek_v2.py (DeepseekV2MLP without
--moe-dense-tp-size), srt/layers/logits_processor.py (without --enable-dp-lm-head)."""


def over_replicas(model: Model, scenario: Scenario) -> Model:
    """The part on one rank, of which replicas of attention share what they can."""
    dp = scenario.parallel.dp
    if not settings_of(scenario).enable_dp_attention or dp == 1 or model.parameters is None:
        return model
    groups = model.parameters.groups
    shared = tuple(group for group in groups if group.component in _SHARED)
    depth = len(model.architecture.layers or ())
    whole = Stage(index=0, of=1, start=0, end=depth, ranks=(0,))
    part = rank_model(replace(model, parameters=ParameterTable(groups=shared)), Parallel(tp=dp), whole, RULES)
    kept = tuple(group for group in groups if group.component not in _SHARED)
    mine = part.parameters.groups if part.parameters else ()
    return replace(model, parameters=ParameterTable(groups=(*kept, *mine)))
