"""What each class of pipelines does by default: sizes, guidance, length of the text."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from math import ceil, sqrt
from typing import Any, Final

from hfmem.engines.diffusers.classes import pipeline_row
from hfmem.mapper.pipelines.sizes import embeds_guidance, list_length, number, own_frames
from hfmem.mapper.pipelines.values import Component, Pipeline

__all__ = ["Defaults", "defaults_of", "denoised", "latents", "scale_of"]

_CLIP_TOKENS: Final = 77
_JOINED: Final = ("StableDiffusion3",)  # CLIP's tokens and T5's, one after another

_SPATIAL: Final = {
    "AutoencoderDC": 32,
    "AutoencoderKLLTXVideo": 32,
    "AutoencoderKLLTX2Video": 32,
    "AutoencoderKLHunyuanImage": 32,
    "AutoencoderKLHunyuanImageRefiner": 16,
    "AutoencoderKLHunyuanVideo15": 16,
    "AutoencoderKLQwenImage21": 16,
    "PaellaVQModel": 4,
}
_TEMPORAL: Final = {
    "AutoencoderKLLTXVideo": 8,
    "AutoencoderKLLTX2Video": 8,
    "AutoencoderKLMochi": 6,
    "AutoencoderKLCosmos": 8,
    "AutoencoderKLTemporalDecoder": 1,
    "AutoencoderKL": 1,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Defaults:
    """What a pipeline's class does where nothing is asked.

    Attributes:
        height, width, frames: of what it makes, in pixels; frames None for images.
        guided: whether it runs the network for a negative prompt.
        networks: by how much guidance multiplies the batch of the network (1 where it calls it twice).
        text: tokens of the prompt that the network is given.
        states: whether it asks its encoders for the hidden states of every layer.
        encodes: whether the VAE encodes an image of the same size before.
        joins: how input images are joined to what the network works on (`images` of the class's own example, their
            `area` or `sizes`, the area of those in the `prompt`; `frames` where each is one more latent frame as large
            as the result, and `decoded` where it is decoded with it); empty for classes that join none.
        fixed: whether the class scales what it makes to an area of its own.
        source: where that is from.
        known: whether the class is in the table.
    """

    height: int
    width: int
    frames: int | None
    guided: bool
    networks: int
    text: int
    encodes: bool
    source: str
    states: bool = False
    fixed: bool = False
    joins: Mapping[str, Any] = field(default_factory=dict)
    known: bool = True


def defaults_of(pipeline: Pipeline) -> Defaults:
    """The defaults of a pipeline."""
    row = pipeline_row(pipeline.class_name)
    joins = row.get("joins", {})
    height, width = (_pixels(row, side, pipeline) for side in ("height", "width"))
    guided = _guided(row, pipeline)
    return Defaults(
        height=height,
        width=width,
        frames=_frames(row, pipeline),
        guided=guided,
        networks=int(row.get("concatenates", 1)),
        text=_text(row, pipeline),
        encodes=bool(row.get("encodes")) and (not joins or bool(joins.get("frames"))),
        states=bool(row.get("states")),
        fixed="area" in row,
        joins=joins,
        source=str(row.get("source", "")),
        known=bool(row),
    )


def _guided(row: Mapping[str, Any], pipeline: Pipeline) -> bool:
    denoiser = pipeline.denoiser
    distilled = bool(pipeline.settings.get("is_distilled"))
    embedded = denoiser is not None and embeds_guidance(denoiser)
    if "true_cfg" in row:
        return float(row["true_cfg"]) > 1
    if distilled or (embedded and row.get("concatenates", 1) == 1):
        return False
    return float(row.get("guidance", 1)) > 1 or (row.get("guidance") is None and row.get("concatenates", 1) > 1)


def _pixels(row: Mapping[str, Any], side: str, pipeline: Pipeline) -> int:
    found = row.get(side)
    if isinstance(found, int):
        return found
    if "target" in row:
        return _of_area(row, side, pipeline)
    component, fallback = (row.get("sample") or ["", 0])[:2]
    if isinstance(found, str) and "sample_" in found and "." in found:
        component, key = found.split(" ")[0].split(".")[:2]
        named = pipeline.find(component)
        size = number(named, key) if named is not None else None
        size = size or _usual(named, key)
        return round((size or 128) * scale_of(pipeline.vae)[0])
    denoiser = pipeline.find(component) if component else None if fallback else pipeline.denoiser
    sample = number(denoiser, "sample_size") if denoiser is not None else None
    sample = sample or fallback or _usual(pipeline.denoiser, "sample_size") or 128
    return round(sample * scale_of(pipeline.vae)[0])


_WIDE: Final = 16 / 9  # of videos whose sides follow from an area (`default_aspect_ratio` of HunyuanVideo 1.5)


def _of_area(row: Mapping[str, Any], side: str, pipeline: Pipeline) -> int:
    """A side of 16 : 9 with the area of a square, in whole latents."""
    name, key, fallback = row["target"]
    component, edge = pipeline.find(name), scale_of(pipeline.vae)[0]
    square = (number(component, key) if component is not None else None) or fallback
    length = square * sqrt(_WIDE if side == "width" else 1 / _WIDE)
    return max(edge, int(length / edge) * edge)


def _usual(component: Component | None, key: str) -> int:
    """The default of a class's own config."""
    if component is None:
        return 0
    usual = {"sample_height": 60, "sample_width": 90, "sample_frames": 49, "sample_size": 0}
    return usual.get(key, 0) or (64 if component.class_name == "UNet2DConditionModel" else 128)


def _frames(row: Mapping[str, Any], pipeline: Pipeline) -> int | None:
    found = row.get("frames")
    if isinstance(found, int):
        return found
    if isinstance(found, str):
        component, _, key = found.partition(".")
        named = pipeline.find(component.split(" ")[0])
        return int((number(named, key) if named is not None else None) or _usual(named, key) or 0) or None
    denoiser = pipeline.denoiser
    if denoiser is not None and "Temporal" in denoiser.class_name:
        return own_frames(denoiser) or 25
    return None


def _text(row: Mapping[str, Any], pipeline: Pipeline) -> int:
    found = row.get("text")
    if isinstance(found, int):
        return found + (_CLIP_TOKENS if pipeline.class_name.startswith(_JOINED) else 0)
    if any(component.class_name.startswith("CLIPText") for component in pipeline.text_encoders):
        return _CLIP_TOKENS
    return 256


def scale_of(vae: Component | None) -> tuple[int, int]:
    """Pixels of a latent along a side, and frames of one."""
    if vae is None:
        return 1, 1
    temporal = number(vae, "temporal_compression_ratio") or number(vae, "scale_factor_temporal")
    spatial = number(vae, "spatial_compression_ratio") or number(vae, "scale_factor_spatial")
    blocks = list_length(vae, "block_out_channels")
    if vae.class_name in ("AutoencoderKL", "AutoencoderKLFlux2", "AutoencoderKLTemporalDecoder", "VQModel") and blocks:
        spatial = 2 ** (blocks - 1)
    if vae.class_name == "AutoencoderDC":
        spatial = 2 ** ((list_length(vae, "encoder_block_out_channels") or 6) - 1)
    return (
        int(spatial or _SPATIAL.get(vae.class_name, 8)),
        int(temporal or _TEMPORAL.get(vae.class_name, 4)),
    )


_CASCADE: Final = "StableCascadeUNet"
_COMPRESSED: Final = 42.67  # pixels of one latent of Stable Cascade's prior; the decoder has 10.67 times as many

_PADDED: Final = "HiDreamImageTransformer2DModel"
"""Pads latents that are not square to as many tokens as its largest have (diffusers 0.42.1,
`transformer_hidream_image.py::patchify`)."""
_MOST: Final = 128  # its default


def denoised(component: Component, sizes: tuple[int, int, int | None], vae: Component | None) -> tuple[int, int, int]:
    """Height, width and frames of what a denoiser works on."""
    height, width, frames = sizes
    if component.class_name == _PADDED and height != width:
        side = int(number(component, "max_resolution") or _MOST)
        return side, side, 1
    if component.class_name != _CASCADE:
        return latents(height, width, frames, vae)
    found = [ceil(side / _COMPRESSED) for side in (height, width)]
    if component.name != "prior":
        found = [int(side * 10.67) for side in found]
    return found[0], found[1], 1


def latents(height: int, width: int, frames: int | None, vae: Component | None) -> tuple[int, int, int]:
    """Height, width and frames of the latents."""
    spatial, temporal = scale_of(vae)
    count = 1 if frames is None else (frames if temporal == 1 else 1 + ceil((frames - 1) / temporal))
    return max(1, height // spatial), max(1, width // spatial), count
