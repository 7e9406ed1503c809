"""`--trace` of a pipeline: the stages that decide its peak, run on the real classes at the asked size without data."""

from __future__ import annotations

import time
from collections.abc import Iterator
from math import ceil
from typing import Any, Final

import torch
import transformers
from torch._subclasses.fake_tensor import FakeTensorMode

from hfmem.engines.diffusers.calls import Call as Sizes
from hfmem.engines.diffusers.settings import settings_of
from hfmem.engines.diffusers.stages import Stage, stages
from hfmem.errors import UntraceableError
from hfmem.estimator.scenario import Scenario
from hfmem.estimator.traced import Trace
from hfmem.estimator.weights.packed import format_of
from hfmem.mapper.interpret import Model
from hfmem.mapper.pipelines.values import Component
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
    weights = 0
    taken: dict[str, int] = {}
    traced_components: set[str] = set()
    try:
        for stage in stages(pipeline, scenario):
            found, nbytes = _stage(stage, scenario)
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
    return max(n for op, n in zip(found.ops, found.moments, strict=True) if op not in COPIES[1:])


def _stage(stage: Stage, scenario: Scenario) -> tuple[Recorded, int]:
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
    return call_class(model, recipe, config, _called(stage.call), dtype, mode), weights


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


_PATCH: Final = 2


def _called(call: Sizes) -> Call:
    """The sizes of a call as one picture: latents of input images are further rows of it, whole patches."""
    rows = ceil(call.joined / call.width / _PATCH) * _PATCH
    return Call(batch=call.batch, height=call.height + rows, width=call.width, frames=call.frames, text=call.text)
