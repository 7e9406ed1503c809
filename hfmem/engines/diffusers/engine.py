"""diffusers as an engine: all components' weights, and the largest of the stages that run one after another."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any, Final

from hfmem.engines.convolutions import COPIES, highest, older, widened_once, widens
from hfmem.engines.diffusers.calls import Release, unmeasured
from hfmem.engines.diffusers.classes import edge_of
from hfmem.engines.diffusers.command import python_lines
from hfmem.engines.diffusers.options import DiffusersOptions
from hfmem.engines.diffusers.pipelines import scale_of
from hfmem.engines.diffusers.quantised import check_quantised, is_quantised
from hfmem.engines.diffusers.refused import check
from hfmem.engines.diffusers.releases import MEASURED, check_release, number_of, of_another
from hfmem.engines.diffusers.resident import host_terms, moments, resident
from hfmem.engines.diffusers.settings import PipelineSettings, settings_of
from hfmem.engines.diffusers.stages import Run, Stage, run_of, stages
from hfmem.engines.protocol import Engine, Shape, Suggestions
from hfmem.engines.transformers.split import RULES
from hfmem.estimator.overheads import overhead_terms
from hfmem.estimator.parallel import Parallel
from hfmem.estimator.scenario import Scenario, Settings
from hfmem.estimator.serving import Serving
from hfmem.estimator.values import Estimate, Group, Loading, Margin, Phase, Term, total_of
from hfmem.estimator.weights.components import component_terms
from hfmem.estimator.weights.kept import PLAIN, Kept
from hfmem.hardware.values import Accelerator
from hfmem.mapper.interpret import Model
from hfmem.mapper.pipelines.values import Pipeline
from hfmem.mapper.values import Architecture
from hfmem.options.otherwise import Detail, Otherwise
from hfmem.refusals.splits import UnsupportedSizeError
from hfmem.units import GIB

__all__ = ["ENGINE", "Diffusers"]


class Diffusers:
    """The pipelines of diffusers, called from Python."""

    title = "diffusers"
    split = RULES._replace(software="diffusers")
    profiled = False
    suggestions = Suggestions(
        dtypes=("fp8", "nf4"),
        others=(
            ("--vae-tiling", (("vae_tiling", True),)),
            ("--vae-slicing", (("vae_slicing", True),)),
            ("--offload model", (("offload", "model"),)),
            ("--dtype nf4 --offload model", (("dtype", "nf4"), ("offload", "model"))),
            ("--offload model --vae-tiling", (("offload", "model"), ("vae_tiling", True))),
            ("--offload model --vae-slicing", (("offload", "model"), ("vae_slicing", True))),
            ("--offload sequential", (("offload", "sequential"),)),
            ("--offload sequential --vae-tiling", (("offload", "sequential"), ("vae_tiling", True))),
            (
                "--offload sequential --vae-tiling --vae-slicing",
                (("offload", "sequential"), ("vae_tiling", True), ("vae_slicing", True)),
            ),
        ),
    )

    def check_split(self, architecture: Architecture, parallel: Parallel) -> None:
        """A pipeline is on one accelerator."""
        if parallel.gpus > 1:
            raise UnsupportedSizeError("gpus", parallel.gpus, self.title)

    def run_dtype(
        self, dtype: str | None, architecture: Architecture, gpu: Accelerator | None
    ) -> tuple[str | None, str]:
        return dtype, ""

    def sizes(self, options: Any) -> tuple[int, int | None]:
        """Prompts at once."""
        return options.batch, options.seq

    def settings(self, options: object, gpu: Accelerator | None, length: int) -> Settings | None:
        if not isinstance(options, DiffusersOptions):
            raise TypeError("not the options of diffusers")
        return PipelineSettings.of(options)

    def settled(self, settings: Settings, model: Model, scenario: Scenario) -> Settings:
        """The settings with the defaults of the pipeline's class."""
        if model.pipeline is None or not isinstance(settings, PipelineSettings):
            return settings
        check_quantised(model.pipeline, scenario, settings.offload)
        run = run_of(model.pipeline, scenario)
        check(model.pipeline, settings, run)
        check_release(settings.version, grouped=settings.offload == "group", quantised=is_quantised(scenario))
        return replace(
            settings,
            images=run.images,
            height=run.height,
            width=run.width,
            num_frames=run.frames,
            guidance=run.guided,
            chosen=tuple(_chosen(settings, run, model.pipeline.class_name)),
        )

    def shapes(self, model: Model, scenario: Scenario) -> tuple[Shape, ...]:
        """Resolutions with the same proportions, and numbers of frames."""
        if model.pipeline is None:
            return ()
        return tuple(_shapes(run_of(model.pipeline, scenario), model.pipeline, scenario))

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
        run = run_of(model.pipeline, scenario)
        release = number_of(settings_of(scenario).version)
        unknown += (*_unmeasured(model.pipeline, found, release), *_cached(run))
        how = settings_of(scenario).offload
        if not found:
            return Estimate(terms=(*weights, *fixed), unknown=tuple(unknown), kv_cache_per_token=0, kv_cache_fixed=0)
        ends = []
        for moment in moments(model.pipeline, found, how, guided=run.guided):
            on_card = (*resident(weights, model.pipeline, moment, scenario, how), *fixed)
            low, high = ((*on_card, *_terms(moment.stage, scenario.gpu, high=end)) for end in (False, True))
            ends.append((moment.stage, high, low))
        stage, top, _ = max(ends, key=lambda end: total_of(end[1]))
        least = max(total_of(end[2]) for end in ends)
        return Estimate(
            terms=top,
            unknown=tuple(unknown),
            kv_cache_per_token=0,
            kv_cache_fixed=0,
            phases=tuple(_phases(ends)),
            peak_phase=stage.name,
            spared=total_of(top) - least,
            host=host_terms(weights, how),
            notes=(*_notes(run), *_convolved(stage, scenario.gpu), *_before(ends, scenario.gpu)),
            serving=Serving(
                kv_pool=None,
                kv_tokens=None,
                max_concurrency=None,
                command=python_lines(model, scenario, run),
            ),
        )


_EDGE: Final = 16  # pixels between the sizes that are tried


def _shapes(run: Run, pipeline: Pipeline, scenario: Scenario) -> Iterator[Shape]:
    longer, asked = max(run.height, run.width), settings_of(scenario)
    edge = max(_EDGE, edge_of(pipeline, scale_of(pipeline.vae)[0])[0])

    def sides(number: int) -> tuple[int, int]:
        height, width = (max(1, round(number * side / longer)) * edge for side in (run.height, run.width))
        return height, width

    def resized(number: int) -> Scenario:
        height, width = sides(number)
        return replace(scenario, serving=replace(asked, height=height, width=width))

    if not run.defaults.fixed:
        yield Shape(
            most=1024,
            at=resized,
            sizes=lambda number: (("height", sides(number)[0]), ("width", sides(number)[1])),
        )
    if run.frames is None:
        return
    step = scale_of(pipeline.vae)[1]
    yield Shape(
        most=4096,
        at=lambda number: replace(scenario, serving=replace(asked, num_frames=(number - 1) * step + 1)),
        sizes=lambda number: (("frames", (number - 1) * step + 1),),
    )


def _chosen(asked: PipelineSettings, run: Run, name: str) -> Iterator[str]:
    if of_another(asked.version):
        yield Otherwise(
            f"--diffusers-version {asked.version}: classes and their defaults are those of diffusers {MEASURED}, which "
            "are measured, but for those that are known to have taken something else; another release may take more or "
            "less."
        )
    given = (asked.height or run.height, asked.width or run.width)
    if given != (run.height, run.width):
        yield Otherwise(f"{name} makes {run.width} × {run.height} of --width {given[1]} --height {given[0]}.")
    if run.images:
        wide, high = asked.image
        plural = "image" if run.images == 1 else "images"
        yield Detail(
            f"--images {run.images}: {plural} of {wide} × {high}, which the network is given beside what it makes as "
            f"{run.image[1]} × {run.image[0]}."
        )
    of = f"the default of the pipeline ({run.defaults.source})" if run.defaults.known else "a usual size"
    if asked.height is None or asked.width is None:
        yield Detail(f"--height {run.height} --width {run.width}: {of}.")
    if asked.num_frames is None and run.frames is not None:
        yield Detail(f"--num-frames {run.frames}: {of}.")
    if asked.guidance is None and run.guided:
        yield Detail(f"--guidance: {of}.")


def _terms(stage: Stage, gpu: Accelerator | None, *, high: bool) -> Iterator[Term]:
    """What a stage takes above the weights."""
    found = stage.found
    if found is None:
        return
    # the network runs guidance as a batch of two, whose convolutions are small
    images = max(1, stage.batch // 2) if stage.name == "denoise" else stage.batch
    nbytes = highest(found, gpu, images=images, single=stage.single)[int(high)]
    if high and widens(gpu):
        nbytes = max(nbytes, found.widened)
    more = f", {COPIES}" if nbytes > found.peak else ""
    if high and stage.workspace:
        nbytes += stage.workspace
        more += f", and {stage.workspace:,} B of the largest quantised layer"
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


_METHODS: Final = {"vae_encode": "encode", "vae_decode": "decode"}


def _unmeasured(pipeline: Pipeline, found: Sequence[Stage], release: Release | None) -> Iterator[tuple[Group, str]]:
    for stage in found:
        if stage.found is None:
            method = _METHODS.get(stage.name, "forward")
            yield (
                "activations",
                f"{stage.component.name}: {unmeasured(stage.component, method, release)}",
            )
    if not pipeline.denoisers:
        yield "activations", "the pipeline's denoiser is unknown"


def _cached(run: Run) -> Iterator[tuple[Group, str]]:
    if run.images and run.defaults.joins.get("cached"):
        yield "activations", "the keys and values of the input images, which the pipeline keeps"


def _notes(run: Run) -> Iterator[str]:
    if run.guided and run.network > run.batch:
        yield Detail(f"Guidance multiplies the batch of the denoiser: {run.network}.")


def _convolved(stage: Stage, gpu: Accelerator | None) -> Iterator[str]:
    """Where in the range current releases are, by what cuDNN itself answers (`hfmem/engines/convolutions.py`)."""
    low, high = (sum(term.nbytes for term in _terms(stage, gpu, high=end)) for end in (False, True))
    found = stage.found
    if low == high or found is None or stage.single or older(gpu) or (gpu is not None and gpu.vendor != "nvidia"):
        return
    if widens(gpu) and found.widened > found.copied:
        yield Detail(
            "At the upper end of the range 3D convolutions hold their output in float32, as they do on this card with "
            "PyTorch 2.8 to 2.12 (cuDNN 9.10 to 9.20)."
        )
    else:
        yield Detail("With PyTorch 2.8 or newer (cuDNN 9.8), convolutions take the upper end of the range.")


def _before(ends: Sequence[tuple[Stage, tuple[Term, ...], tuple[Term, ...]]], gpu: Accelerator | None) -> Iterator[str]:
    """What earlier releases of PyTorch take more."""
    if not widened_once(gpu):
        return
    known = [(stage.found, total_of(top)) for stage, top, _ in ends if stage.found is not None]
    most = max((total + found.widened - found.copied for found, total in known), default=0)
    more = most - max(total_of(top) for _, top, _ in ends)
    if more > 0:
        yield (
            f"With PyTorch 2.8 to 2.10 (cuDNN 9.10) 3D convolutions hold their output in float32 on this card: "
            f"{more / GIB:.2f} GiB more."
        )


ENGINE: Final[Engine] = Diffusers()
