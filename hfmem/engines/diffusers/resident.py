"""Which weights are on the accelerator in a stage, and which in the host's memory, by the way of offloading."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from hfmem.engines.diffusers.stages import Stage
from hfmem.estimator.values import Scenario, Term
from hfmem.estimator.weights.components import component_bytes, component_dtype
from hfmem.mapper.pipelines.values import Component, Pipeline

__all__ = ["host_terms", "resident"]

_HOOKS: Final = "accelerate's hooks bring a part to the accelerator when it is called"
_STREAMED: Final = 1  # layers that are brought beside the one that runs


def resident(terms: Sequence[Term], pipeline: Pipeline, stage: Stage, scenario: Scenario, how: str) -> tuple[Term, ...]:
    """The weights on the accelerator in a stage."""
    if how == "none":
        return tuple(terms)
    if how == "model":
        return tuple(term for term in terms if term.name in (stage.component.name, *_staying(pipeline)))
    layer = _largest(stage.component, component_dtype(stage.component, scenario))
    return (
        Term(
            name=stage.component.name,
            group="weights",
            nbytes=layer,
            how=f"the largest layer of {stage.component.class_name}: {_HOOKS}",
            source="diffusers 0.42.1, pipeline_utils.py::enable_sequential_cpu_offload, hooks/group_offloading.py",
            certainty="derived",
        ),
    )


def host_terms(terms: Sequence[Term], how: str) -> tuple[Term, ...]:
    """What waits in the host's memory: all weights, whichever are on the accelerator at the moment."""
    return () if how == "none" else tuple(terms)


def _staying(pipeline: Pipeline) -> tuple[str, ...]:
    """What model offload leaves on the accelerator (`_exclude_from_cpu_offload` of Stable Diffusion's pipelines)."""
    return ("safety_checker",) if pipeline.class_name.startswith("StableDiffusion") else ()


def _largest(component: Component, dtype: str | None) -> int:
    """Bytes of the largest tensor."""
    if component.parameters is None:
        return component.file_bytes or 0
    whole = component_bytes(component, dtype) or 0
    groups = [group for group in component.parameters.groups if group.loaded and group.count]
    every = sum(group.elements for group in groups) or 1
    return max((whole * (group.elements // group.count) // every for group in groups), default=0)
