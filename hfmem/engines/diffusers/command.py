"""The lines of Python that run a pipeline as it was estimated, in the words of diffusers."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from hfmem.engines.diffusers.quantised import python_imports, python_mapping
from hfmem.engines.diffusers.settings import settings_of
from hfmem.engines.diffusers.stages import Run
from hfmem.estimator.values import Scenario
from hfmem.mapper.interpret import Model

__all__ = ["OFFLOADS", "python_lines"]

OFFLOADS: Final = {
    "model": "pipe.enable_model_cpu_offload()",
    "sequential": "pipe.enable_sequential_cpu_offload()",
    "group": 'pipe.enable_group_offload(onload_device=torch.device("cuda"), offload_type="leaf_level")',
}


def python_lines(model: Model, scenario: Scenario, run: Run, dtype: str | None) -> str:
    """The lines."""
    return "\n".join(_lines(model, scenario, run, dtype))


def _lines(model: Model, scenario: Scenario, run: Run, dtype: str | None) -> Iterator[str]:
    asked = settings_of(scenario)
    if model.pipeline is None:
        return
    name = model.pipeline.class_name or "DiffusionPipeline"
    yield "import torch"
    yield from python_imports(model.pipeline, scenario, name)
    kind = f", torch_dtype=torch.{dtype}" if dtype else ""
    if quantised := python_mapping(model.pipeline, scenario):
        yield f"quantised = {quantised}"
        kind += ", quantization_config=quantised"
    yield f'pipe = {name}.from_pretrained("{model.checkpoint.ref.model_id}"{kind})'
    yield OFFLOADS.get(asked.offload, 'pipe.to("cuda")')
    if asked.vae_tiling:
        yield "pipe.vae.enable_tiling()"
    if asked.vae_slicing:
        yield "pipe.vae.enable_slicing()"
    sizes = f"height={run.height}, width={run.width}"
    frames = f", num_frames={run.frames}" if run.frames is not None else ""
    several = (
        f", num_{'videos' if run.frames is not None else 'images'}_per_prompt={run.batch}" if run.batch > 1 else ""
    )
    yield f'pipe(prompt="...", {sizes}{frames}{several})'
