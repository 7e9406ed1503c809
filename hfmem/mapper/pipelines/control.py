"""A ControlNet beside a pipeline, as one model.

`from_pretrained(..., controlnet=...)` of the class that diffusers (0.42) has for a pipeline with one: its name is that
of the plain class with ControlNet, or ControlNetUnion, before what it ends in.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from hfmem.fetcher.values import Checkpoint, FileInfo
from hfmem.mapper.interpret import Model
from hfmem.mapper.pipelines.reader import as_model
from hfmem.refusals.pipelines import PipelineClassError

if TYPE_CHECKING:
    from hfmem.mapper.pipelines.values import Component, Pipeline

__all__ = ["with_control"]

_FAMILIES: Final = {"": "StableDiffusion", "SD3": "StableDiffusion3", "HunyuanDiT2D": "HunyuanDiT"}
"""Pipelines that a ControlNet goes with, by what its class begins with; others begin alike."""
_CONTROL: Final = re.compile(r"(\w*?)ControlNet(Union)?Model")
_ENDS: Final = re.compile(r"(Img2Img|Inpaint(?:ing)?)?Pipeline$")


def with_control(base: Model, control: Model, known: Collection[str]) -> Model:
    """The pipeline `base` with a ControlNet.

    Args:
        base: the model of a pipeline.
        control: the model of the ControlNet's repository.
        known: the pipelines of diffusers.

    Raises:
        PipelineClassError: it is no ControlNet, or none for this pipeline.
    """
    pipeline, name = base.pipeline, control.checkpoint.ref.model_id
    if pipeline is None:
        return base
    found = next(iter(control.pipeline.of("controlnet")), None) if control.pipeline is not None else None
    made = _CONTROL.fullmatch(found.class_name) if found is not None else None
    if found is None or made is None:
        raise PipelineClassError("controlless", subject=name)
    class_name = _ENDS.sub(lambda end: f"ControlNet{made[2] or ''}{end[0]}", pipeline.class_name)
    family = _FAMILIES.get(made[1], made[1])
    if class_name not in known or not pipeline.class_name.startswith(family) or not _fits(found, pipeline):
        raise PipelineClassError("control", subject=pipeline.class_name, option=found.class_name)
    denoiser = pipeline.denoiser
    beside = replace(
        found, name="controlnet", stored_dtype=(denoiser.stored_dtype if denoiser else None) or found.stored_dtype
    )
    whole = replace(pipeline, class_name=class_name, components=(*pipeline.components, beside), control=name)
    note = f"{name} runs beside it in each step ({class_name})."
    return as_model(_merged(base.checkpoint, control.checkpoint), whole, (note,))


def _merged(base: Checkpoint, control: Checkpoint) -> Checkpoint:
    """The files of both, under the name of the pipeline; those of the pipeline alone where they are not known."""
    name = control.ref.model_id
    both = f"{base.provenance}; {name}: {control.provenance}"
    if not base.weight_files:
        return replace(base, provenance=both)
    # in a folder of their own, as the two repositories may have files of the same names
    weights = tuple(FileInfo(name=f"{name}/{file.name}", size=file.size) for file in control.weight_files)
    return replace(
        base,
        provenance=both,
        files=(*base.files, *weights),
        weight_files=(*base.weight_files, *weights),
        faults=(*base.faults, *control.faults),
    )


def _fits(control: Component, pipeline: Pipeline) -> bool:
    """Whether it takes what the denoiser takes from the text: a ControlNet of SD 1.5 does not go with SDXL."""
    if pipeline.denoiser is None:
        return True
    key = "cross_attention_dim"
    mine, theirs = (one.config.get(key) for one in (control, pipeline.denoiser))
    return mine is None or theirs is None or mine == theirs
