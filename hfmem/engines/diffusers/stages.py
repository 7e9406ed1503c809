"""The stages of a pipeline's run: text, encoding of an image, one call of the denoiser, decoding."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import sqrt
from typing import Final, Literal

from hfmem.dtypes import find_dtype
from hfmem.engines.diffusers.calls import Call, Taken, taken
from hfmem.engines.diffusers.classes import coder_row, edge_of, made, pipeline_row, scaled
from hfmem.engines.diffusers.decoding import Coder, tiling
from hfmem.engines.diffusers.pipelines import Defaults, defaults_of, denoised, latents, scale_of
from hfmem.engines.diffusers.quantised import workspace
from hfmem.engines.diffusers.releases import number_of
from hfmem.engines.diffusers.settings import PipelineSettings, settings_of
from hfmem.estimator.scenario import Scenario
from hfmem.estimator.weights.components import component_dtype
from hfmem.mapper.pipelines.sizes import flag, merged_patch, patches
from hfmem.mapper.pipelines.values import Component, Pipeline

__all__ = ["Run", "Stage", "run_of", "stages"]

_CLIP_TOKENS: Final = 77

Name = Literal["text", "vae_encode", "denoise", "vae_decode"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """The sizes of a run, with all defaults.

    Attributes:
        height, width, frames: in pixels; frames None for images.
        batch: images or videos at once.
        network: batch of the denoiser.
        guided: whether guidance is used.
        text: tokens of the text.
        defaults: of the class.
        images: input images that the network is given beside the latents.
        image: height and width of each, as the pipeline scales it.
        shown: tokens of them in the prompt, which the text encoder reads.
    """

    height: int
    width: int
    frames: int | None
    batch: int
    network: int
    guided: bool
    text: int
    defaults: Defaults
    images: int = 0
    image: tuple[int, int] = (0, 0)
    shown: int = 0

    @property
    def added(self) -> int:
        """Latent frames that the input images add to what the network works on."""
        return self.images if self.defaults.joins.get("frames") else 0

    @property
    def prompt(self) -> int:
        """Tokens of the prompt with those of the images in it."""
        return self.text + self.shown


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """A stage.

    Attributes:
        name: its name.
        component: what runs.
        call: the sizes of its call.
        found: what its call takes; None for a class that is not measured.
        beside: bytes that are there besides, such as the latents.
        single: whether it runs in float32.
        batch: images at once in its convolutions.
        workspace: bytes that a quantised layer takes besides, at most.
        doubled: bytes by which the component grows while it runs (it is cast to float32).
    """

    name: Name
    component: Component
    call: Call
    found: Taken | None
    beside: int = 0
    single: bool = False
    batch: int = 1
    workspace: int = 0
    doubled: int = 0


def run_of(pipeline: Pipeline, scenario: Scenario) -> Run:
    """The sizes of a run."""
    asked, usual = settings_of(scenario), defaults_of(pipeline)
    guided = usual.guided if asked.guidance is None else asked.guidance
    frames = usual.frames if asked.num_frames is None else asked.num_frames
    edge, _ = edge_of(pipeline, scale_of(pipeline.vae)[0])
    height, width = made(pipeline, asked.height or usual.height, asked.width or usual.width, edge)
    images = _images(asked, usual)
    wide, high = asked.image
    return Run(
        height=height,
        width=width,
        frames=frames,
        batch=scenario.batch * asked.each,
        network=scenario.batch * asked.each * (usual.networks if guided else 1),
        guided=guided,
        text=scenario.prompt or usual.text,
        defaults=usual,
        images=images,
        image=((height, width) if usual.joins.get("frames") else scaled(usual.joins, high, wide, edge))
        if images
        else (0, 0),
        shown=images * _shown(pipeline, usual.joins.get("prompt"), high / wide) if images else 0,
    )


def _images(asked: PipelineSettings, usual: Defaults) -> int:
    if not usual.joins:
        return 0
    return int(usual.joins["images"]) if asked.images is None else asked.images


def _shown(pipeline: Pipeline, area: int | None, ratio: float) -> int:
    """Tokens of an image in the prompt: patches of the encoder's tower, merged (transformers 5.24, Qwen2-VL's
    `smart_resize`: sides are rounded to whole merged patches)."""
    if area is None or not pipeline.text_encoders:
        return 0
    side = merged_patch(pipeline.text_encoders[0])
    height, width = sqrt(area * ratio), sqrt(area / ratio)
    return max(1, round(height / side)) * max(1, round(width / side))


def stages(pipeline: Pipeline, scenario: Scenario) -> tuple[Stage, ...]:
    """The stages of a run, in order."""
    run, asked = run_of(pipeline, scenario), settings_of(scenario)
    return (
        *_text(pipeline, scenario, run),
        *(_vae(pipeline, scenario, run, asked, "vae_encode") if run.defaults.encodes or run.images else ()),
        *_denoise(pipeline, scenario, run),
        *_vae(pipeline, scenario, run, asked, "vae_decode"),
    )


def _single(component: Component, scenario: Scenario) -> bool:
    return component_dtype(component, scenario) == "float32"


def _text(pipeline: Pipeline, scenario: Scenario, run: Run) -> Iterator[Stage]:
    for component in pipeline.text_encoders:
        clip = component.class_name.startswith("CLIPText")
        call = Call(batch=scenario.batch, text=_CLIP_TOKENS if clip else run.prompt)
        single = _single(component, scenario)
        found = _encoder(component, call, single=single, states=run.defaults.states)
        yield Stage(name="text", component=component, call=call, found=found, single=single)


_FEED: Final = 10
_HIDDEN: Final = 3
"""Bytes of a token by intermediate and hidden size in half precision, as measured for T5's gated feed-forward part,
which decoders that encode prompts have too."""


def _encoder(component: Component, call: Call, *, single: bool, states: bool) -> Taken | None:
    found = taken(component, call, single=single)
    built = component.architecture
    if found is not None or built is None or built.hidden_size is None or built.intermediate_size is None:
        return found
    kept = 2 * built.hidden_size * ((built.depth or 0) + 1) if states else 0
    also = " and the hidden states of every layer, which the pipeline asks for" if kept else ""
    each = (_FEED * built.intermediate_size + _HIDDEN * built.hidden_size + kept) * (2 if single else 1)
    peak, outputs = call.batch * call.text * each, call.batch * call.text * built.hidden_size * 2
    return Taken(
        peak=peak,
        once=peak,
        copied=peak,
        widened=peak,
        inputs=0,
        outputs=outputs,
        how=f"{each:,} B × {call.batch} batch × {call.text} text tokens, as T5's feed-forward part{also}",
        certainty="typical",
        source="hfmem/data/diffusers_calls.jsonl, T5EncoderModel: 10 B × d_ff + 3 B × d_model a token",
    )


def _denoise(pipeline: Pipeline, scenario: Scenario, run: Run) -> Iterator[Stage]:
    height, width, frames = latents(run.height, run.width, run.frames, pipeline.vae)
    beside, release = 0, number_of(settings_of(scenario).version)
    for control in pipeline.of("controlnet"):
        single = _single(control, scenario)
        call = Call(batch=run.network, height=height, width=width, frames=frames, text=run.text)
        found = taken(control, call, single=single, release=release)
        beside += 0 if found is None else found.outputs
        yield Stage(name="denoise", component=control, call=call, found=found, single=single, batch=run.network)
    for component in pipeline.denoisers:
        single = _single(component, scenario)
        height, width, frames = denoised(component, (run.height, run.width, run.frames), pipeline.vae)
        along = patches(component, pipeline.vae)[0]
        frames = -(-frames // along) * along + run.added  # pipelines pad latents to whole patches
        call = Call(
            batch=run.network, height=height, width=width, frames=frames, text=run.prompt, joined=_joined(pipeline, run)
        )
        found = taken(component, call, single=single, release=release)
        latent = 0 if found is None else found.outputs * run.batch // run.network
        yield Stage(
            name="denoise",
            component=component,
            call=call,
            found=found,
            beside=beside + latent,
            single=single,
            batch=run.network,
            workspace=workspace(component, scenario, call, pipeline.vae),
        )


def _joined(pipeline: Pipeline, run: Run) -> int:
    """Latent pixels of the input images in each frame."""
    if run.added:
        return 0
    spatial = scale_of(pipeline.vae)[0]
    return run.images * (run.image[0] // spatial) * (run.image[1] // spatial)


def _vae(
    pipeline: Pipeline, scenario: Scenario, run: Run, asked: PipelineSettings, name: Literal["vae_encode", "vae_decode"]
) -> Iterator[Stage]:
    vae = pipeline.vae
    if vae is None:
        return
    encodes = name == "vae_encode"
    apart = encodes and run.images > 0 and not run.added
    if apart:  # one after another, each for all images that are made
        height, width, frames = latents(*run.image, None, vae)
    else:
        height, width, frames = latents(run.height, run.width, run.frames, vae)
    dtype = component_dtype(vae, scenario)
    upcast = _upcast(pipeline, vae, name.removeprefix("vae_"), dtype)
    single = dtype == "float32" or upcast
    scale = scale_of(vae)
    batch = 1 if apart else run.batch
    if not encodes and run.defaults.joins.get("decoded"):
        batch *= 1 + run.images
    call = Call(batch=batch, height=height, width=width, frames=frames)
    coder = Coder(
        vae=vae,
        single=single,
        method=name.removeprefix("vae_"),
        tiles=tiling(vae, scale),
        tiled=asked.vae_tiling,
        sliced=asked.vae_slicing,
        release=number_of(asked.version),
    )
    found = coder.taken(call)
    grown = _elements(vae) * _extra(dtype) if upcast else 0
    yield Stage(
        name=name,
        component=vae,
        call=call,
        found=found,
        single=single,
        batch=1 if asked.vae_slicing else batch,
        doubled=grown,
    )


def _upcast(pipeline: Pipeline, vae: Component, method: str, dtype: str | None) -> bool:
    """Whether the pipeline makes the VAE float32 for a call: by its own code, the VAE's config, and the default of its
    class."""
    when = pipeline_row(pipeline.class_name).get("upcasts", {}).get(method)
    forced = flag(vae, "force_upcast", default=bool(coder_row(vae.class_name).get("upcast")))
    return forced and dtype != "float32" and when in ("any", dtype)


def _elements(component: Component) -> int:
    groups: Sequence[object] = component.parameters.groups if component.parameters is not None else ()
    return sum(group.elements for group in groups if getattr(group, "loaded", False))  # type: ignore[attr-defined]


def _extra(dtype: str | None) -> int:
    found = find_dtype(dtype) if dtype else None
    return 0 if found is None else 4 - int(found.bytes_each)
