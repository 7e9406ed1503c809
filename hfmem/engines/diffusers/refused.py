"""What a pipeline's class does not do."""

from __future__ import annotations

from hfmem.engines.diffusers.classes import coder_row, edge_of, order_of, pipeline_row
from hfmem.engines.diffusers.pipelines import scale_of
from hfmem.engines.diffusers.settings import PipelineSettings
from hfmem.engines.diffusers.stages import Run
from hfmem.mapper.pipelines.values import Pipeline
from hfmem.refusals.pipelines import PipelineClassError

__all__ = ["check"]


def check(pipeline: Pipeline, asked: PipelineSettings, run: Run) -> None:
    """Refuse what the class refuses, or does not have.

    Raises:
        PipelineClassError: with the reason.
    """
    name = pipeline.class_name
    known = bool(pipeline_row(name))
    takes = pipeline_row(name).get("takes", ())
    if asked.num_frames is not None and known and "num_frames" not in takes:
        raise PipelineClassError("frames" if run.defaults.frames is None else "length", subject=name)
    if asked.images is not None and known and not run.defaults.joins:
        raise PipelineClassError("images", subject=name)
    if (asked.images or 0) > 1 and not run.defaults.joins.get("several"):
        raise PipelineClassError("one", subject=name)
    if asked.offload == "model" and known and not order_of(pipeline):
        raise PipelineClassError("offload", subject=name)
    several = any(one.endswith("_per_prompt") for one in takes)
    if asked.each > 1 and known and not several:
        raise PipelineClassError("each", subject=name)
    edge, strict = edge_of(pipeline, scale_of(pipeline.vae)[0])
    for option, side in (("--height", asked.height), ("--width", asked.width)):
        if strict and side is not None and side % edge:
            raise PipelineClassError("edge", subject=name, option=option, given=side, multiple=edge)
    _check_coder(pipeline, asked)


def _check_coder(pipeline: Pipeline, asked: PipelineSettings) -> None:
    vae = pipeline.vae
    row = coder_row(vae.class_name) if vae is not None else {"tiles": False, "slices": False}
    subject = vae.class_name if vae is not None else ""
    for option, key, on in (
        ("--vae-tiling", "tiles", asked.vae_tiling),
        ("--vae-slicing", "slices", asked.vae_slicing),
    ):
        if on and row.get(key) is False:
            raise PipelineClassError("coder", subject=subject, option=option)
