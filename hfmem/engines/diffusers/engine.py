"""diffusers as an engine: all components' weights, and the largest of the stages that run one after another."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any, Final

from hfmem.engines.diffusers.calls import Taken
from hfmem.engines.diffusers.command import python_lines
from hfmem.engines.diffusers.options import DiffusersOptions
from hfmem.engines.diffusers.resident import host_terms, resident
from hfmem.engines.diffusers.settings import PipelineSettings, settings_of
from hfmem.engines.diffusers.stages import Run, Stage, run_of, stages
from hfmem.engines.protocol import Engine, Suggestions
from hfmem.engines.transformers.split import RULES
from hfmem.estimator.overheads import overhead_terms
from hfmem.estimator.parallel import Parallel
from hfmem.estimator.values import (
    Estimate,
    Group,
    Loading,
    Margin,
    Phase,
    Scenario,
    Serving,
    Settings,
    Term,
    total_of,
)
from hfmem.estimator.weights.components import component_dtype, component_terms
from hfmem.estimator.weights.kept import PLAIN, Kept
from hfmem.hardware.values import Accelerator
from hfmem.mapper.interpret import Model
from hfmem.mapper.pipelines.values import Pipeline
from hfmem.mapper.values import Architecture
from hfmem.options.otherwise import Detail

__all__ = ["ENGINE", "Diffusers"]

_COPIES: Final = "with the copies that a half-precision convolution makes of its input and output on a GPU (NHWC)"


class Diffusers:
    """The pipelines of diffusers, called from Python."""

    title = "diffusers"
    split = RULES
    profiled = False
    suggestions = Suggestions(
        others=(
            ("--vae-tiling", (("vae_tiling", True),)),
            ("--offload model", (("offload", "model"),)),
            ("--offload model --vae-tiling", (("offload", "model"), ("vae_tiling", True))),
            ("--offload sequential --vae-tiling", (("offload", "sequential"), ("vae_tiling", True))),
        )
    )

    def check_split(self, architecture: Architecture, parallel: Parallel) -> None:
        """A pipeline is on one accelerator."""

    def run_dtype(
        self, dtype: str | None, architecture: Architecture, gpu: Accelerator | None
    ) -> tuple[str | None, str]:
        return dtype, ""

    def sizes(self, options: Any) -> tuple[int, int | None]:
        """Images at once."""
        return options.num_images or options.batch, options.seq

    def settings(self, options: object, gpu: Accelerator | None, length: int) -> Settings | None:
        if not isinstance(options, DiffusersOptions):
            raise TypeError("not the options of diffusers")
        return PipelineSettings.of(options)

    def settled(self, settings: Settings, model: Model, scenario: Scenario) -> Settings:
        """The settings with the defaults of the pipeline's class."""
        if model.pipeline is None or not isinstance(settings, PipelineSettings):
            return settings
        run = run_of(model.pipeline, scenario)
        return replace(
            settings,
            height=run.height,
            width=run.width,
            num_frames=run.frames,
            guidance=run.guided,
            chosen=tuple(_chosen(settings, run)),
        )

    def kept(self, model: Model, scenario: Scenario) -> tuple[Kept, ...]:
        return (PLAIN,)

    def refused(self, model: Model, scenario: Scenario) -> str:
        return ""

    def loading(self, model: Model, scenario: Scenario, weights: int) -> Loading | None:
        return None

    def usable(self, terms: Sequence[Term], scenario: Scenario) -> int:
        return scenario.available

    def margin(self, estimate: Estimate, scenario: Scenario) -> Margin:
        return Margin(nbytes=0, why="", source="")

    def notes(self, model: Model, scenario: Scenario) -> tuple[str, ...]:
        return ()

    def estimate(self, model: Model, scenario: Scenario) -> Estimate:
        """The weights of all components, and the highest stage."""
        if model.pipeline is None:
            return Estimate(terms=(), unknown=(("weights", "this is no diffusion pipeline"),))
        weights, unknown = component_terms(model.pipeline, scenario)
        fixed = overhead_terms(scenario.gpu, scenario.parallel)
        found = stages(model.pipeline, scenario)
        unknown += _unmeasured(model.pipeline, found)
        how = settings_of(scenario).offload
        if not found:
            return Estimate(terms=(*weights, *fixed), unknown=tuple(unknown), kv_cache_per_token=0, kv_cache_fixed=0)
        ends = []
        for stage in found:
            on_card = (*resident(weights, model.pipeline, stage, scenario, how), *fixed)
            ends.append((stage, (*on_card, *_terms(stage, high=True)), (*on_card, *_terms(stage, high=False))))
        stage, top, _ = max(ends, key=lambda end: total_of(end[1]))
        low = max(total_of(end[2]) for end in ends)
        run = run_of(model.pipeline, scenario)
        dtype = next((component_dtype(each, scenario) for each in model.pipeline.denoisers), scenario.dtype)
        return Estimate(
            terms=top,
            unknown=tuple(unknown),
            kv_cache_per_token=0,
            kv_cache_fixed=0,
            phases=tuple(_phases(ends)),
            peak_phase=stage.name,
            spared=total_of(top) - low,
            host=host_terms(weights, how),
            notes=tuple(_notes(found, run)),
            serving=Serving(
                kv_pool=None,
                kv_tokens=None,
                max_concurrency=None,
                command=python_lines(model, scenario, run, dtype),
            ),
        )


def _chosen(asked: PipelineSettings, run: Run) -> Iterator[str]:
    of = f"the default of the pipeline ({run.defaults.source})" if run.defaults.known else "a usual size"
    if asked.height is None or asked.width is None:
        yield Detail(f"--height {run.height} --width {run.width}: {of}.")
    if asked.num_frames is None and run.frames is not None:
        yield Detail(f"--num-frames {run.frames}: {of}.")
    if asked.guidance is None and run.guided:
        yield Detail(f"--guidance: {of}.")


def _exact(stage: Stage) -> bool:
    """Whether the copies of convolutions are certain: half precision, one image. Larger batches and float32 were
    measured between one and both copies."""
    return not stage.single and stage.batch <= (1 if stage.name != "denoise" else 2)  # guidance is a batch of two


_LARGE: Final = 4
"""Images from which no reading is higher than half way between one and both copies: FLUX's VAE on an H100 takes 28, 27
and 1 % of the second copy at 4, 8 and 16 images, Stable Diffusion's on a T4 none at 4."""


def _copied(stage: Stage, found: Taken, *, high: bool) -> int:
    """The highest moment, with copies of convolutions."""
    if _exact(stage):
        return found.copied
    if not high:
        return found.once
    if stage.batch >= _LARGE and not stage.single:
        return (found.once + found.copied) // 2
    return found.copied


def _terms(stage: Stage, *, high: bool) -> Iterator[Term]:
    """What a stage takes above the weights."""
    found = stage.found
    if found is None:
        return
    nbytes = _copied(stage, found, high=high)
    more = f", {_COPIES}" if nbytes > found.peak else ""
    yield Term(
        name=f"{stage.component.name} activations",
        group="activations",
        nbytes=nbytes + found.inputs + stage.beside,
        how=f"{found.how}{more}; inputs {found.inputs + stage.beside:,} B",
        source=found.source,
        certainty=found.certainty,
        phase=stage.name,
    )
    if stage.doubled:
        yield Term(
            name=f"{stage.component.name} in float32",
            group="weights",
            nbytes=stage.doubled,
            how="force_upcast: it is cast to float32 for decoding",
            source="diffusers 0.42.1, pipeline_stable_diffusion_xl.py::upcast_vae",
            certainty="exact",
            phase=stage.name,
        )


def _phases(ends: Sequence[tuple[Stage, tuple[Term, ...], tuple[Term, ...]]]) -> Iterator[Phase]:
    """The highest stage of each name."""
    names = dict.fromkeys(stage.name for stage, _, _ in ends)
    for name in names:
        terms = max((top for stage, top, _ in ends if stage.name == name), key=total_of)
        yield Phase(name=name, terms=terms)


def _unmeasured(pipeline: Pipeline, found: Sequence[Stage]) -> Iterator[tuple[Group, str]]:
    for stage in found:
        if stage.found is None:
            yield "activations", f"{stage.component.name}: calls of {stage.component.class_name} are not measured"
    if not pipeline.denoisers:
        yield "activations", "the pipeline's denoiser is unknown"


def _notes(found: Sequence[Stage], run: Run) -> Iterator[str]:
    for stage in found:
        if stage.found is not None and stage.found.odd and stage.name == "denoise":
            keys = ", ".join(stage.found.odd[:4])
            name = stage.component.class_name
            yield f"{name} is not measured with this config ({keys}): its activations are typical."
    if run.guided and run.network > run.batch:
        yield Detail(f"Guidance multiplies the batch of the denoiser: {run.network}.")


ENGINE: Final[Engine] = Diffusers()
