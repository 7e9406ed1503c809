"""What vLLM refuses to start with, whatever memory there is."""

from __future__ import annotations

from typing import Final

from hfmem.engines.vllm.classes import classless
from hfmem.engines.vllm.rules import Rules
from hfmem.engines.vllm.settings import settings_of
from hfmem.estimator.values import Scenario
from hfmem.mapper.interpret import Model
from hfmem.mapper.values import Architecture

__all__ = ["longest", "refused"]

_STRETCHED: Final = ("su", "longrope", "llama3")  # their lengths are those of the stretched context already
_YARN: Final = ("yarn", "deepseek_yarn", "deepseek_llama_scaling")


def refused(model: Model, scenario: Scenario) -> str:
    """The reason; "" where it starts."""
    settings = settings_of(scenario)
    if reason := classless(model, settings.release):
        return reason
    if settings.max_num_batched_tokens < settings.max_num_seqs:
        return (
            f"--max-num-batched-tokens {settings.max_num_batched_tokens:,} is less than --max-num-seqs "
            f"{settings.max_num_seqs:,}"
        )
    limit = longest(model.architecture, settings.rules)
    if limit is None or scenario.seq <= limit[1]:
        return ""
    context = model.architecture.context
    if context is not None and context.allowed is not None and scenario.seq <= context.allowed:
        return ""
    return (
        f"--max-model-len {scenario.seq:,} is more than the model's {limit[1]:,} ({limit[0]}); "
        "VLLM_ALLOW_LONG_MAX_MODEL_LEN=1 in the environment allows it, and answers beyond may be wrong"
    )


def longest(architecture: Architecture, rules: Rules) -> tuple[str, int] | None:
    """The longest context it derives from the configuration, with the key that sets it; None where no key does.

    vLLM 0.33.0 and 0.27.0, `config/model.py::_get_and_verify_max_len`: the length, times the factor of a scaling
    unless it is that of the stretched context already.
    """
    context = architecture.context
    if context is None:
        return None
    key, length, factor = context.key, context.length, 1.0
    for stretch in context.stretches:
        if stretch.kind in _STRETCHED or (stretch.kind in _YARN and not rules.yarn_stretches):
            continue
        factor = stretch.factor
        if stretch.kind == "yarn" and stretch.original is not None:
            key, length = "YaRN's original length × factor", stretch.original
    return key, int(length * factor)
