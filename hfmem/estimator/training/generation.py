"""The generation phase of GRPO and RLOO: the policy generates with a KV cache and without gradients, before there is a
graph, or vLLM does, with a share of the accelerator that it keeps or frees in between.

All completions for a step are generated at once: the micro-batch times the micro-batches of a step. Autocast stays
around the forward pass: values are in the compute dtype, keys in float32 behind rotary positions, and the cast of each
trained matrix is kept to the end of a pass. `tests/oracle/trl_generation.py` measures it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from math import ceil
from typing import Final

from hfmem.estimator.activations.experts import copied_experts
from hfmem.estimator.activations.prefill import activation_terms
from hfmem.estimator.cache.sizes import cache_size, layer_bytes
from hfmem.estimator.recipe.values import TrainingScenario
from hfmem.estimator.training.casts import Casts
from hfmem.estimator.training.gpu import Gpu
from hfmem.estimator.values import Group, Term
from hfmem.mapper.caches import KV
from hfmem.mapper.values import Layer
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
    moments = (_in_layer(gpu, scenario), _at_head(gpu, scenario))
    filled = [*_cache(gpu, scenario), *_gathered(gpu)]
    return [*filled, *max(moments, key=lambda terms: sum(term.nbytes for term in terms))]


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


def _cache(gpu: Gpu, scenario: TrainingScenario) -> list[Term]:
    """The cache of whole completions. Under autocast on float32 weights, rotary positions make keys float32, unless the
    class casts them back, which is not counted on."""
    found = cache_size(gpu.architecture, scenario)
    terms = [] if isinstance(found, Unknown) else [_on(gpu, term) for term in found.terms]
    more = sum(_keys(layer, scenario) for layer in gpu.architecture.layers or ()) if _mixed(gpu) else 0
    if more:
        how = "2 B more per element of the keys, which rotary positions in float32 have widened"
        terms.append(_term(gpu, "float32 keys", "kv_cache", more // gpu.plan.tp, how))
    return terms


def _keys(layer: Layer, scenario: TrainingScenario) -> int:
    """Bytes of a layer's cached keys in the compute dtype."""
    cache = layer.cache
    if not isinstance(cache, KV):
        return 0
    value = cache.key_dim if cache.value_dim is None else cache.value_dim
    return layer_bytes(layer, scenario) * cache.key_dim // max(1, cache.key_dim + value)


def _in_layer(gpu: Gpu, scenario: TrainingScenario) -> list[Term]:
    """In a layer: the prompt's pass, or a token's, which copies the cache of one layer to append to it, or experts."""
    made = Casts.of(gpu)
    casts = made.of_layers(0, gpu.stage.depth) if gpu.training.lora is None else made.of_largest()
    casts = [replace(term, name="cast weights, generating") for term in casts]
    first = [_on(gpu, term) for term in activation_terms(gpu.model, scenario)[0]]
    if _mixed(gpu):
        layers = gpu.architecture.layers or ()
        heads = max((layer.heads * _width(layer) for layer in layers), default=0)
        nbytes = 4 * scenario.batch * (scenario.prompt or 1) * ((gpu.architecture.hidden_size or 0) + heads)
        how = "float32 hidden states and norms for 16-bit ones; queries rotated in float32, and cast again"
        first.append(_term(gpu, "float32 in a layer", "activations", nbytes // gpu.plan.tp, how))
    copied = max((_copied(layer, scenario, gpu) for layer in gpu.architecture.layers or ()), default=0)
    how = f"the cache of a layer, while a token is appended: {copied:,} B"
    later = [_term(gpu, "cache of a layer, appended to", "activations", copied // gpu.plan.tp, how)]
    # of a frozen matrix there is no copy while the cache is appended to
    later = [*casts, *later] if gpu.training.lora is None else later
    copies = copied_experts(gpu.model, scenario)
    selected = [*casts, _on(gpu, copies)] if copies is not None else []
    return max([*casts, *first], later, selected, key=lambda terms: sum(term.nbytes for term in terms))


def _width(layer: Layer) -> int:
    return layer.cache.key_dim if isinstance(layer.cache, KV) else 0


def _copied(layer: Layer, scenario: TrainingScenario, gpu: Gpu) -> int:
    """Bytes of the copies: of keys, then of values, when the old keys are gone; a window is cut after both."""
    keys, whole = _keys(layer, scenario), layer_bytes(layer, scenario)
    wide = 2 * keys if _mixed(gpu) else keys
    if not isinstance(layer.cache, KV) or layer.cache.window is not None:
        return whole - keys + wide
    return max(wide, whole - keys)


def _at_head(gpu: Gpu, scenario: TrainingScenario) -> list[Term]:
    """At the head, for one position of each row: its cast, and those of trained matrices before it."""
    made, architecture = Casts.of(gpu), gpu.architecture
    casts = made.of_layers(0, gpu.stage.depth) if gpu.training.lora is None else []
    terms = [replace(term, name="cast weights, generating") for term in casts]
    if not _mixed(gpu):
        return terms
    elements = (architecture.hidden_size or 0) * (architecture.vocab_size or 0) // gpu.plan.tp
    terms.append(_term(gpu, "cast head", "temporary", 2 * elements, f"2 B per element of {elements:,}"))
    scores = 6 * scenario.batch * (architecture.vocab_size or 0)
    terms.append(_term(gpu, "scores", "activations", scores, "of one position of each row, and a float32 copy"))
    return terms


def _mixed(gpu: Gpu) -> bool:
    """Whether the policy runs in autocast on float32 weights."""
    precision = gpu.training.precision
    return precision.autocast and precision.weights == "float32"


def _on(gpu: Gpu, term: Term) -> Term:
    return replace(term, nbytes=ceil(term.nbytes / gpu.plan.tp))


def _term(gpu: Gpu, name: str, group: Group, nbytes: int, how: str) -> Term:
    source = f"{_GENERATES}; {gpu.training.precision.source}"
    return Term(name=name, group=group, nbytes=nbytes, how=how, source=source, certainty="derived")


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
