"""Which weights are on the accelerator in a stage, and which in the host's memory, by the way of offloading."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from hfmem.engines.diffusers.classes import order_of, staying
from hfmem.engines.diffusers.stages import Stage
from hfmem.estimator.scenario import Scenario
from hfmem.estimator.values import Term
from hfmem.estimator.weights.components import component_bytes, component_dtype
from hfmem.mapper.pipelines.values import Component, Pipeline

__all__ = ["Moment", "host_terms", "moments", "resident"]

_HOOKS: Final = "accelerate's hooks bring a part to the accelerator when it is called"
_SOURCE: Final = "diffusers 0.42.1, pipeline_utils.py::enable_sequential_cpu_offload, hooks/group_offloading.py"


@dataclass(frozen=True, slots=True, kw_only=True)
class Moment:
    """A stage that runs, and the components that are on the accelerator meanwhile; None for all."""

    stage: Stage
    names: frozenset[str] | None


def moments(pipeline: Pipeline, stages: Sequence[Stage], how: str, *, guided: bool) -> tuple[Moment, ...]:
    """The stages with what is on the accelerator; one may run several times beside other components.

    Args:
        pipeline: the pipeline.
        stages: in the order in which they run.
        how: the way of offloading.
        guided: whether the text encoders run for a negative prompt as well.
    """
    if how != "model":
        return tuple(Moment(stage=stage, names=None) for stage in stages)
    return tuple(_handed_over(pipeline, _runs(pipeline, stages, guided=guided)))


def _handed_over(pipeline: Pipeline, runs: Sequence[tuple[str, Stage | None]]) -> Iterator[Moment]:
    """Model offload as its hooks do it: the call of a component moves the one before it in the class's order, and only
    that one, to the host (accelerate, `hooks.py::CpuOffload.pre_forward`; diffusers 0.42.1,
    `pipeline_utils.py::enable_model_cpu_offload`). What is not in the order stays once it was called."""
    order = order_of(pipeline) or tuple(dict.fromkeys(name for name, _ in runs))
    before = dict(zip(order[1:], order, strict=False))
    here = {name for name in staying(pipeline) if name not in order}
    for name, stage in runs:
        here.discard(before.get(name, ""))
        here.add(name)
        if stage is not None:
            yield Moment(stage=stage, names=frozenset(here | _adapters(pipeline, here)))


def _adapters(pipeline: Pipeline, here: set[str]) -> set[str]:
    """LoRAs, whose matrices are parts of the denoiser."""
    denoiser = pipeline.denoiser
    adapted = denoiser is not None and denoiser.name in here
    return {one.name for one in pipeline.of("adapter")} if adapted else set()


_BEFORE: Final = ("image_encoder", "other")


def _runs(pipeline: Pipeline, stages: Sequence[Stage], *, guided: bool) -> tuple[tuple[str, Stage | None], ...]:
    """The calls of components in order, with the stages that they are; calls of components without one besides."""
    named = [(stage.component.name, stage) for stage in stages]
    text = [run for run in named if run[1].name == "text"]
    steps = [run for run in named if run[1].name == "denoise"]
    told = {name for name, _ in named}
    others = [(one.name, None) for one in pipeline.components if one.kind in _BEFORE and one.name not in told]
    twice = any(
        run[1].component.kind == "controlnet" for run in steps
    )  # from the second step on, the denoiser is there
    return (
        *(text * 2 if guided else text),
        *others,
        *(run for run in named if run[1].name == "vae_encode"),
        *(steps * 2 if twice else steps),
        *(run for run in named if run[1].name == "vae_decode"),
    )


def resident(
    terms: Sequence[Term], pipeline: Pipeline, moment: Moment, scenario: Scenario, how: str
) -> tuple[Term, ...]:
    """The weights on the accelerator in a stage."""
    if how == "none":
        return tuple(terms)
    if moment.names is not None:
        return tuple(term for term in terms if term.name in moment.names)
    component = moment.stage.component
    stays = staying(pipeline) if how == "sequential" else ()
    layer = Term(
        name=component.name,
        group="weights",
        nbytes=_largest(component, component_dtype(component, scenario)),
        how=f"the largest layer of {component.class_name}: {_HOOKS}",
        source=_SOURCE,
        certainty="derived",
    )
    return (*(term for term in terms if term.name in stays), layer)


def host_terms(terms: Sequence[Term], how: str) -> tuple[Term, ...]:
    """What waits in the host's memory: all weights, whichever are on the accelerator at the moment."""
    return () if how == "none" else tuple(terms)


def _largest(component: Component, dtype: str | None) -> int:
    """Bytes of the largest tensor."""
    if component.parameters is None:
        return component.file_bytes or 0
    whole = component_bytes(component, dtype) or 0
    groups = [group for group in component.parameters.groups if group.loaded and group.count]
    every = sum(group.elements for group in groups) or 1
    return max((whole * (group.elements // group.count) // every for group in groups), default=0)
