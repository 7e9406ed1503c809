"""The lines of Python that run a pipeline as it was estimated, in the words of diffusers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Final

from hfmem.engines.diffusers.classes import pipeline_row
from hfmem.engines.diffusers.quantised import python_imports, python_mapping
from hfmem.engines.diffusers.releases import MAPPED, number_of
from hfmem.engines.diffusers.settings import settings_of
from hfmem.engines.diffusers.stages import Run
from hfmem.estimator.scenario import Scenario
from hfmem.estimator.weights.components import component_dtype
from hfmem.mapper.interpret import Model
from hfmem.mapper.pipelines.values import Kind, Pipeline

__all__ = ["OFFLOADS", "python_lines"]

OFFLOADS: Final = {
    "model": "pipe.enable_model_cpu_offload()",
    "sequential": "pipe.enable_sequential_cpu_offload()",
    "group": 'pipe.enable_group_offload(onload_device=torch.device("cuda"), offload_type="leaf_level")',
}


def python_lines(model: Model, scenario: Scenario, run: Run) -> str:
    """The lines."""
    return "\n".join(_lines(model, scenario, run))


def _lines(model: Model, scenario: Scenario, run: Run) -> Iterator[str]:
    pipeline, asked = model.pipeline, settings_of(scenario)
    if pipeline is None:
        return
    class_name, name = pipeline.class_name or "DiffusionPipeline", model.checkpoint.ref.model_id
    given = _given(pipeline, run)
    yield "import torch"
    control = next(iter(pipeline.of("controlnet")), None) if pipeline.control else None
    yield from python_imports(pipeline, scenario, [class_name, *([control.class_name] if control else [])])
    loaders = sorted({f"load_{_file(each)}" for each in given})
    if loaders:
        yield f"from diffusers.utils import {', '.join(loaders)}"
    usual, others = _dtypes(pipeline, scenario)
    release = number_of(asked.version)
    apart = release is not None and release < MAPPED
    kind = _written(usual, {} if apart else others)
    if quantised := python_mapping(pipeline, scenario):
        yield f"quantised = {quantised}"
        kind += ", quantization_config=quantised"
    if control is not None:
        held = _written(component_dtype(control, scenario) or "", {})
        yield f'controlnet = {control.class_name}.from_pretrained("{pipeline.control}"{held})'
        kind = f", controlnet=controlnet{kind}"
    yield f'pipe = {class_name}.from_pretrained("{pipeline.base or name}"{kind})'
    yield from (f"pipe.{one}.to(torch.{dtype})" for one, dtype in others.items() if apart)
    if pipeline.base:
        yield f'pipe.load_lora_weights("{name}")'
    yield OFFLOADS.get(asked.offload, 'pipe.to("cuda")')
    if asked.vae_tiling:
        yield "pipe.vae.enable_tiling()"
    if asked.vae_slicing:
        yield "pipe.vae.enable_slicing()"
    for name_ in given:
        yield f'{name_} = load_{_file(name_)}("...")'
    yield f"pipe({', '.join(_arguments(pipeline, scenario, run))})"


def _dtypes(pipeline: Pipeline, scenario: Scenario) -> tuple[str, dict[str, str]]:
    """The dtype of most components, "" where none is known, and those of others by their name."""
    apart: tuple[Kind, ...] = ("adapter", "controlnet") if pipeline.control else ("adapter",)
    found = {
        one.name: dtype
        for one in pipeline.components
        if one.kind not in apart and one.quantisation is None
        if (dtype := component_dtype(one, scenario)) is not None
    }
    if not found:
        return "", {}
    usual = Counter(found.values()).most_common(1)[0][0]
    return usual, {name: dtype for name, dtype in found.items() if dtype != usual}


def _written(usual: str, others: Mapping[str, str]) -> str:
    """`torch_dtype`: one, or a dict where the components run in several."""
    if not usual or not others:
        return f", torch_dtype=torch.{usual}" if usual else ""
    each = ", ".join(f'"{name}": torch.{dtype}' for name, dtype in others.items())
    return f', torch_dtype={{{each}, "default": torch.{usual}}}'


def _takes(pipeline: Pipeline) -> tuple[str, ...]:
    """The parameters of the pipeline's call, as far as they matter; of an unknown class the usual ones."""
    return tuple(pipeline_row(pipeline.class_name).get("takes", _USUAL))


_USUAL: Final = ("prompt", "height", "width", "num_frames", "num_images_per_prompt")
_FILES: Final = ("image", "mask_image", "control_image", "video")


def _given(pipeline: Pipeline, run: Run) -> tuple[str, ...]:
    """The images and videos that its call is given."""
    if not (run.images or run.defaults.encodes or pipeline.of("controlnet")):
        return ()
    return tuple(name for name in _takes(pipeline) if name in _FILES)


def _file(name: str) -> str:
    return "video" if name == "video" else "image"


def _arguments(pipeline: Pipeline, scenario: Scenario, run: Run) -> Iterator[str]:
    takes, prompts = _takes(pipeline), scenario.batch
    for name in _given(pipeline, run):
        yield f"{name}={name}" if name != "image" or run.images < 2 else f"image=[image] * {run.images}"
    if "prompt" in takes:
        yield 'prompt="..."' if prompts == 1 else f'prompt=["..."] * {prompts}'
    yield from _guidance(pipeline, run)
    sizes = {"height": run.height, "width": run.width, "num_frames": run.frames}
    yield from (f"{name}={size}" for name, size in sizes.items() if name in takes and size is not None)
    each = next((name for name in takes if name.endswith("_per_prompt")), "")
    if each and run.batch > prompts:
        yield f"{each}={run.batch // prompts}"


_WITHOUT: Final = 1.0
_WITH: Final = 4.0  # any number above 1 runs the network for the negative prompt


def _guidance(pipeline: Pipeline, run: Run) -> Iterator[str]:
    """The arguments that switch guidance on or off, where the class's default does not."""
    scale = next((name for name in ("true_cfg_scale", "guidance_scale") if name in _takes(pipeline)), "")
    if not scale:
        return
    if run.guided and scale == "true_cfg_scale":
        yield 'negative_prompt="..."'  # without one, the scale has no effect
    if run.guided != run.defaults.guided:
        yield f"{scale}={_WITH if run.guided else _WITHOUT}"
