"""The generation phase of GRPO and RLOO: the policy generates with a KV cache and without gradients, before there is a
graph, or vLLM does, with a share of the accelerator that it keeps or frees in between.

All completions for a step are generated at once: the micro-batch times the micro-batches of a step. Autocast stays
around the forward pass, so the cache is in the compute dtype, and the cast of each trained matrix is kept to the end of
a pass.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from math import ceil
from typing import Final

from hfmem.estimator.activations.prefill import activation_terms
from hfmem.estimator.cache.sizes import cache_size
from hfmem.estimator.recipe.values import TrainingScenario
from hfmem.estimator.training.casts import Casts
from hfmem.estimator.training.gpu import Gpu
from hfmem.estimator.values import Term
from hfmem.unknown import Unknown

__all__ = ["generates", "generation_terms", "server_share"]

_GENERATES: Final = (
    "trl 1.16.0, grpo_trainer.py:1863 (generate), 1275 (rows), models/utils.py (unwrap_model_for_generation)"
)
_SHARE: Final = "trl 1.16.0, grpo_config.py:656 (vllm_gpu_memory_utilization), 612 (vllm_enable_sleep_mode)"
_GATHERS: Final = "trl 1.16.0, grpo_config.py (ds3_gather_for_generation): the whole policy on every rank"


def generates(gpu: Gpu) -> bool:
    """Whether something is generated on these accelerators that is not alive during the rest of a step."""
    tuning = gpu.training.tuning
    if tuning is None or not tuning.generations or tuning.vllm == "server":
        return False
    return tuning.vllm is None or tuning.sleeps


def server_share(gpu: Gpu) -> Term | None:
    """What vLLM takes of the accelerator; None without it, or where the accelerator is not named."""
    tuning, accelerator = gpu.training.tuning, gpu.scenario.gpu
    if tuning is None or tuning.vllm != "colocate" or accelerator is None:
        return None
    return Term(
        name="vLLM's share",
        group="overhead",
        nbytes=ceil(tuning.share * accelerator.memory),
        how=f"{tuning.share:g} of {accelerator.memory:,} B: its weights, cache and buffers",
        source=_SHARE,
        certainty="derived",
    )


def generation_terms(gpu: Gpu) -> list[Term]:
    """What generating holds at its peak, besides what stays."""
    tuning = gpu.training.tuning
    if tuning is not None and tuning.vllm is not None:
        share = server_share(gpu)
        return [share] if share is not None else []
    scenario = _scenario(gpu)
    cache = cache_size(gpu.architecture, scenario)
    terms = [] if isinstance(cache, Unknown) else list(cache.terms)
    terms += activation_terms(gpu.model, scenario)[0]
    terms = [replace(term, nbytes=ceil(term.nbytes / gpu.plan.tp)) for term in terms]
    return [*terms, *_widened(gpu, scenario), *_casts(gpu), *_gathered(gpu)]


def _scenario(gpu: Gpu) -> TrainingScenario:
    """Prompts and completions of a step, as they are generated."""
    scenario, training = gpu.scenario, gpu.training
    tuning, compute = training.tuning, training.precision.compute
    completion = 0 if tuning is None else tuning.completion
    return replace(
        scenario,
        batch=scenario.batch * training.accumulation,
        prompt=max(1, scenario.seq - completion),
        kv_dtype=compute,
        compute_dtype=compute,
    )


def _widened(gpu: Gpu, scenario: TrainingScenario) -> Iterator[Term]:
    """Under autocast on float32 weights, the hidden states and what norms make of them have four bytes, not two."""
    precision = gpu.training.precision
    if precision.autocast and precision.weights == "float32":
        nbytes = 4 * scenario.batch * (scenario.prompt or 1) * (gpu.architecture.hidden_size or 0)
        how = "2 B more per element of the hidden states and of a norm's result"
        yield Term(
            name="float32 hidden states",
            group="activations",
            nbytes=nbytes,
            how=how,
            source=precision.source,
            certainty="derived",
        )


def _casts(gpu: Gpu) -> Iterator[Term]:
    """Casts of one forward pass: of all matrices, the head too, if they are trained; otherwise of one at a time."""
    made = Casts.of(gpu)
    terms = made.of_layers(0, gpu.stage.depth) if gpu.training.lora is None else made.of_largest()
    yield from (replace(term, name="cast weights, generating") for term in terms)
    if made.elements and gpu.training.lora is None:
        architecture = gpu.architecture
        elements = (architecture.hidden_size or 0) * (architecture.vocab_size or 0) // gpu.plan.tp
        source = gpu.training.precision.source
        yield Term(
            name="cast head, generating",
            group="temporary",
            nbytes=2 * elements,
            how=f"2 B per element of {elements:,}",
            source=source,
            certainty="derived",
        )


def _gathered(gpu: Gpu) -> Iterator[Term]:
    """Parameters that ZeRO-3 gathers to generate; FSDP gathers only those outside of its units."""
    training = gpu.training
    if training.zero != 3 or training.fsdp or training.shard == 1 or gpu.model.parameters is None:
        return
    width = 4 if training.precision.weights == "float32" else 2
    whole = sum(group.elements for group in gpu.model.parameters.groups if group.loaded) * width // gpu.plan.tp
    nbytes = whole - whole // training.shard
    how = f"{whole:,} B, of which 1/{training.shard} is here"
    yield Term(
        name="gathered to generate",
        group="temporary",
        nbytes=nbytes,
        how=how,
        source=_GATHERS,
        certainty="derived",
    )
