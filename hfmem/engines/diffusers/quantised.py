"""Denoisers that are quantised while they are loaded: what goes with it, and what their layers' calls hold besides."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from math import ceil, prod

from hfmem.engines.diffusers.calls import Call
from hfmem.estimator.scenario import Scenario
from hfmem.estimator.weights.packed import FORMATS, Format, format_of, is_packed, is_stored_packed
from hfmem.estimator.weights.quantisers import find_quantiser
from hfmem.mapper.pipelines.sizes import patches
from hfmem.mapper.pipelines.values import Component, Pipeline
from hfmem.refusals.quantised import PipelineQuantisationError

__all__ = ["check_quantised", "is_quantised", "python_imports", "python_mapping", "workspace"]


def check_quantised(pipeline: Pipeline, scenario: Scenario, offload: str) -> None:
    """Refuse a quantisation that diffusers does not do, or whose memory is not known.

    Raises:
        PipelineQuantisationError: with the reason.
    """
    if not is_quantised(scenario):
        return
    known = tuple(row.name for row in FORMATS)
    if not pipeline.denoisers:
        raise PipelineQuantisationError("none", scenario.word)
    for component in pipeline.denoisers:
        found = format_of(component, scenario)
        if found is None:
            raise PipelineQuantisationError("format", scenario.word, known=known)
        _check(component, found, scenario.word, offload)


def is_quantised(scenario: Scenario) -> bool:
    """Whether a quantisation is asked for."""
    return bool(scenario.word) and find_quantiser(scenario.dtype or "") is not None


def _check(component: Component, found: Format, word: str, offload: str) -> None:
    if (offload == "sequential" and not found.sequential) or (offload == "group" and not found.group):
        raise PipelineQuantisationError("offload", word, subject=offload)
    if component.parameters is None or component.library != "diffusers":
        raise PipelineQuantisationError("unknown", word, subject=component.name)
    groups = component.parameters.groups
    if component.quantisation is not None or any(group.scale or is_stored_packed(group) for group in groups):
        raise PipelineQuantisationError("stored", word, subject=component.name)
    if not any(map(is_packed, groups)):
        raise PipelineQuantisationError("unknown", word, subject=component.name)
    if found.output and "Transformer" not in component.class_name:  # whose layers run on fewer positions
        others = tuple(row.name for row in FORMATS if not row.output)
        raise PipelineQuantisationError("convolutions", word, known=others, subject=component.class_name)


def workspace(component: Component, scenario: Scenario, call: Call, vae: Component | None) -> int:
    """Bytes that the call of the largest quantised layer holds besides, at most: a copy of its weight that it computes
    with, and its output once more where the format scales it apart. The call's highest moment may be elsewhere."""
    found = format_of(component, scenario)
    if found is None or component.parameters is None:
        return 0
    positions = _positions(component, call, vae)
    layers = [group.shape for group in component.parameters.groups if is_packed(group)]
    return max((max(found.weight * prod(shape), found.output * positions * shape[0]) for shape in layers), default=0)


def _positions(component: Component, call: Call, vae: Component | None) -> int:
    """Tokens of latents and text in a call, at most."""
    along, down, right = patches(component, vae)
    latent = ceil(call.frames / along) * ceil(call.height / down) * ceil(call.width / right)
    latent += ceil(call.joined / (down * right))
    return call.batch * (latent + call.text)


def python_imports(pipeline: Pipeline, scenario: Scenario, classes: Sequence[str]) -> Iterator[str]:
    """The lines that import the pipeline's class and those of other parts, and what a quantisation needs."""
    found = next((row for each in pipeline.denoisers if (row := format_of(each, scenario)) is not None), None)
    if found is None:
        yield f"from diffusers import {', '.join(sorted(classes))}"
        return
    names = sorted((*classes, found.written.partition("(")[0], "PipelineQuantizationConfig"))
    yield f"from diffusers import {', '.join(names)}"
    if found.needs:
        yield f"from {found.needs[0]} import {found.needs[1]}"


def python_mapping(pipeline: Pipeline, scenario: Scenario) -> str:
    """The value of `quantization_config` of `from_pretrained`; "" without a quantisation."""
    parts = [
        f'"{each.name}": {found.written}'
        for each in pipeline.denoisers
        if (found := format_of(each, scenario)) is not None
    ]
    return f"PipelineQuantizationConfig(quant_mapping={{{', '.join(parts)}}})" if parts else ""
