"""Servers that share the KV cache of a request: over ranks (context parallelism for decoding), or with another server
(disaggregated prefill) or the host.

* Context parallelism: each of so many tensor-parallel ranks has its share of a request's tokens, where heads would be
  replicated (`FullAttentionSpec.max_memory_usage_bytes`); vLLM 0.33.0, `config/model.py::verify_with_parallel_config`.
* Connectors: NIXL sends blocks from the pool and needs no memory of its own on the GPU. Up to 0.22, any of them turns
  off the KV cache groups of layers with windows (`config/vllm.py`, "Turning off hybrid kv cache manager").
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from hfmem.engines.vllm.settings import Settings, settings_of
from hfmem.engines.vllm.states import recurrent
from hfmem.estimator.scenario import Scenario
from hfmem.mapper.caches import KV, Latent
from hfmem.mapper.interpret import Model

__all__ = ["shared_refusal", "windowless"]

_CONTEXT: Final = (0, 10)
_CONTEXT_OF_HEADS: Final = (0, 11)
_CONNECTED: Final = (0, 9)
_GROUPED: Final = (0, 23)  # `KVConnectorFactory.supports_hma_config`


def windowless(settings: Settings) -> bool:
    """Whether a connector makes layers with windows keep all tokens."""
    return settings.extras.connected and settings.release < _GROUPED


def shared_refusal(model: Model, scenario: Scenario) -> str:
    """Why sharing is refused; "" where it is not, or where nothing is shared."""
    settings = settings_of(scenario)
    return next(filter(None, (*_over_ranks(model, scenario, settings), *_connected(model, settings))), "")


def _over_ranks(model: Model, scenario: Scenario, settings: Settings) -> Iterator[str]:
    ranks, tp, architecture = settings.extras.context_ranks, scenario.parallel.tp, model.architecture
    if ranks == 1:
        return
    name = f"--decode-context-parallel-size {ranks}"
    if settings.release < _CONTEXT:
        yield f"{name}: the option exists in vLLM 0.10.2 and later, not in {settings.describe()}"
    if tp % ranks:
        yield f"{name} does not divide --tensor-parallel-size {tp}"
    caches = {layer.cache for layer in architecture.layers or ()}
    if any(isinstance(cache, KV) and cache.window and settings.source.windowed for cache in caches):
        yield f"{name} is not for models with sliding windows"
    heads = architecture.kv_heads or 1
    if any(isinstance(cache, Latent) for cache in caches):
        return
    if settings.release < _CONTEXT_OF_HEADS:
        yield f"{name} is for latents (MLA) only in {settings.describe()}"
    if ranks > tp // heads:
        yield (
            f"{name} needs --tensor-parallel-size {ranks * heads} or more: it splits what {heads} KV heads leave "
            f"replicated on {tp} ranks"
        )
    if (architecture.attention_heads or heads) // heads % ranks:
        yield f"{name} does not divide the {(architecture.attention_heads or heads) // heads} query heads per KV head"


def _connected(model: Model, settings: Settings) -> Iterator[str]:
    if settings.extras.side and settings.release < _CONNECTED:
        yield f"--kv-role is estimated for vLLM 0.9 and later, not for {settings.describe()}"
    if windowless(settings) and recurrent(model.architecture):
        yield (
            f"{settings.describe()} moves no KV cache of models with recurrent states, as it cannot with KV cache "
            "groups; 0.23 and later do"
        )
