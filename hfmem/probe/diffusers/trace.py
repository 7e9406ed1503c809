"""`--trace` of a pipeline: the stages that decide its peak, run on the real classes at the asked size without data."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any, Final

import torch
import transformers
from torch._subclasses.fake_tensor import FakeTensorMode

from hfmem.engines.diffusers.pipelines import latents
from hfmem.engines.diffusers.settings import settings_of
from hfmem.engines.diffusers.stages import Run, Stage, run_of, stages
from hfmem.errors import UntraceableError
from hfmem.estimator.values import Scenario, Trace
from hfmem.estimator.weights.packed import format_of
from hfmem.mapper.interpret import Model
from hfmem.mapper.pipelines.values import Component, Pipeline
from hfmem.probe.diffusers.fitting import Call
from hfmem.probe.diffusers.measuring import call_class, defaults, model_class
from hfmem.probe.diffusers.recipes import DENOISERS, ENCODERS, VAES, Recipe
from hfmem.probe.diffusers.recording import COPIES, Recorded, build
from hfmem.probe.diffusers.uncached import diffusers

__all__ = ["traced"]

_TABLES: Final = {"text": ENCODERS, "denoise": DENOISERS, "vae_decode": VAES, "vae_encode": VAES}


def traced(model: Model, scenario: Scenario) -> Trace:
    """The highest stage of a pipeline.

    Raises:
        UntraceableError: a class cannot be built, or does not run on tensors without data.
    """
    name, pipeline = model.checkpoint.ref.model_id, model.pipeline
    if pipeline is None:
        raise UntraceableError(name, "it is no diffusion pipeline")
    if settings_of(scenario).offload != "none":
        raise UntraceableError(name, "the stages of a pipeline are traced without --offload")
    if any(format_of(component, scenario) is not None for component in pipeline.denoisers):
        raise UntraceableError(name, "the libraries' quantised layers are not traced: leave --dtype out")
    started = time.monotonic()
    run, weights = run_of(pipeline, scenario), 0
    taken: dict[str, int] = {}
    traced_components: set[str] = set()
    try:
        for stage in stages(pipeline, scenario):
            found, nbytes = _stage(stage, pipeline, run, scenario)
            weights += 0 if stage.component.name in traced_components else nbytes
            traced_components.add(stage.component.name)
            taken[stage.name] = max(taken.get(stage.name, 0), _highest(found, stage) + found.inputs)
    except UntraceableError:
        raise
    except Exception as error:  # a class may fail with any exception
        raise UntraceableError(name, f"{type(error).__name__}: {' '.join(str(error).split())[:200]}") from error
    top = max(taken, key=lambda stage: taken[stage])
    return Trace(
        phase=top,
        groups={"weights": weights, "activations": taken[top]},
        phases={stage: weights + nbytes for stage, nbytes in taken.items()},
        layers=sum(_layers(component) for component in pipeline.denoisers),
        seconds=round(time.monotonic() - started, 1),
        source=f"diffusers {diffusers.__version__}, transformers {transformers.__version__}, "
        f"PyTorch {torch.__version__.partition('+')[0]}",
        subject="the classes of the pipeline",
    )


def _layers(component: Component) -> int:
    cls = model_class(component.class_name)
    config = {**defaults(cls), **component.config}
    return sum(value for key, value in config.items() if key in ("num_layers", "num_single_layers", "n_layers"))


def _highest(found: Recorded, stage: Stage) -> int:
    """With copies of convolutions where the estimate has them."""
    if not stage.single:
        return found.peak_nhwc
    return max(n for op, n in zip(found.ops, found.moments, strict=True) if op != COPIES[1])


def _stage(stage: Stage, pipeline: Pipeline, run: Run, scenario: Scenario) -> tuple[Recorded, int]:
    """What a stage takes, and the bytes of its component."""
    component = stage.component
    recipe = _recipe(component, stage.name)
    cls = model_class(component.class_name)
    dtype = torch.float32 if stage.single else _dtype(component, scenario)
    mode = FakeTensorMode(allow_non_fake_inputs=True)
    config = {**defaults(cls), **component.config}
    model = build(cls, _config(cls, component), dtype, mode)
    settings = settings_of(scenario)
    if stage.name.startswith("vae"):
        for asked, switch in ((settings.vae_tiling, "enable_tiling"), (settings.vae_slicing, "enable_slicing")):
            if asked and hasattr(model, switch):
                getattr(model, switch)()
    held = [*model.parameters(), *model.buffers()]
    weights = sum(tensor.numel() * tensor.element_size() for tensor in held)
    if stage.single and _dtype(component, scenario) != torch.float32:
        weights //= 2  # it is cast for the stage only
    return call_class(model, recipe, config, _call(stage, pipeline, run), dtype, mode), weights


def _config(cls: Any, component: Component) -> Any:
    """The config as the class takes it."""
    found = getattr(cls, "config_class", None)
    if found is not None and hasattr(found, "model_type"):
        config = found.from_dict(dict(component.config))
        config._attn_implementation = "sdpa"
        return config
    known = defaults(cls)
    return {key: value for key, value in component.config.items() if key in known}


def _dtype(component: Component, scenario: Scenario) -> torch.dtype:
    from hfmem.estimator.weights.components import component_dtype

    found: torch.dtype = getattr(torch, component_dtype(component, scenario) or "bfloat16")
    return found


def _recipe(component: Component, stage: str) -> Recipe:
    method = stage.removeprefix("vae_") if stage.startswith("vae") else "forward"
    tables: Iterator[Any] = iter((_TABLES[stage], DENOISERS))
    for table in tables:
        for recipe in table.get(component.class_name, ()):
            if recipe.method == method:
                found: Recipe = recipe
                return found
    raise UntraceableError(component.name, f"nobody has told how {component.class_name} is called")


def _call(stage: Stage, pipeline: Pipeline, run: Run) -> Call:
    height, width, frames = latents(run.height, run.width, run.frames, pipeline.vae)
    if stage.name == "text":
        clip = stage.component.class_name.startswith("CLIPText")
        return Call(batch=1, height=1, width=1, text=77 if clip else run.text)
    batch = run.network if stage.name == "denoise" else run.batch
    return Call(batch=batch, height=height, width=width, frames=frames, text=run.text)
