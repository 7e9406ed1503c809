"""The KV cache of a batch on one rank of a vLLM server."""

from __future__ import annotations

from dataclasses import dataclass

from hfmem.engines.vllm.cachespec import Dtypes, States, layout
from hfmem.engines.vllm.drafts import draft_layers, drafted
from hfmem.engines.vllm.groups import Layout
from hfmem.engines.vllm.settings import Settings, settings_of
from hfmem.engines.vllm.states import kept_states, state_dtype
from hfmem.estimator.cache.sizes import CacheSize
from hfmem.estimator.scenario import Scenario
from hfmem.estimator.values import Term
from hfmem.mapper.interpret import Model
from hfmem.unknown import Unknown

__all__ = ["PagedCache", "cache_of", "layout_of"]

_CACHE_SOURCE = "vLLM 0.33.0, v1/kv_cache_interface.py and v1/core/kv_cache_planning.py"


@dataclass(frozen=True, slots=True, kw_only=True)
class PagedCache(CacheSize):
    """The cache of one rank; `per_token` is an average over a page.

    Attributes:
        layout: KV cache groups and pages.
    """

    layout: Layout


def layout_of(model: Model, scenario: Scenario) -> Layout | Unknown:
    """The layout of one rank's cache, which does not depend on batch and length; or why it is unknown."""
    architecture, settings = model.architecture, settings_of(scenario)
    if architecture.layers is None:
        return Unknown(architecture.unknown or "the layers of the architecture are not known")
    if scenario.kv_dtype is None or scenario.compute_dtype is None:
        return Unknown("the dtype of the cache is not known: use --dtype or --kv-dtype")
    state = state_dtype(architecture, settings)
    dtypes = Dtypes(kv=scenario.kv_dtype, compute=scenario.compute_dtype, state=state)
    beside = draft_layers(model, scenario)
    states = States(
        kept=kept_states(architecture, settings, scenario.gpu),
        conv_kernel=model.parameters.conv_kernel if model.parameters else None,
        drafted=drafted(model, settings),
        beside=len(beside),
    )
    return layout(
        (*architecture.layers, *beside), settings, dtypes, states, _in_flight(settings, scenario, architecture.head)
    )


def _in_flight(settings: Settings, scenario: Scenario, head: str | None) -> int:
    """Tokens of all steps that may be in flight at once (`VllmConfig.max_in_flight_tokens`): one step per pipeline
    stage, and one more with asynchronous scheduling, the default of models that generate text."""
    if not settings.source.in_flight:
        return settings.max_num_batched_tokens
    stages = scenario.parallel.pp
    overlaps = head != "none" and (stages == 1 or settings.source.overlaps_stages)
    return (stages + overlaps) * settings.max_num_batched_tokens


def cache_of(found: Layout | Unknown, scenario: Scenario) -> PagedCache | Unknown:
    """The cache for the scenario's batch on one rank, or why it is unknown."""
    if isinstance(found, Unknown):
        return found
    settings = settings_of(scenario)
    terms = tuple(
        Term(
            name=_group_name(found, index),
            group="kv_cache",
            nbytes=scenario.batch * pages * found.block_bytes,
            how=f"batch {scenario.batch} × {pages} pages × {found.width} layers × {found.page:,} B",
            source=_CACHE_SOURCE,
            certainty="derived",
        )
        for index, group in enumerate(found.groups)
        if (pages := group.spec.pages(scenario.seq, settings))
    )
    per_token = found.per_token(scenario.seq, settings) if found.groups else 0
    # what is left of the blocks after the linear part: states, windows, and unused tokens of the last page
    needed = found.blocks(scenario.seq, settings) * found.block_bytes
    return PagedCache(layout=found, terms=terms, per_token=per_token, fixed=max(0, needed - per_token * scenario.seq))


_GROUP_NAMES = {
    "full": "full attention",
    "sliding": "sliding attention",
    "chunked": "chunked attention",
    "state": "states",
    "cross": "cross attention",
}


def _group_name(found: Layout, index: int) -> str:
    """The kind of layers in a group, numbered where several groups have the same kind."""
    kinds = [group.spec.kind for group in found.groups]
    kind = kinds[index]
    number = f" (group {kinds[: index + 1].count(kind)} of {kinds.count(kind)})" if kinds.count(kind) > 1 else ""
    return _GROUP_NAMES[kind] + number
