"""What a component does in a run, by its class, and by its name where the class does not tell."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from hfmem.mapper.pipelines.values import Kind

__all__ = ["kind_of"]

# The first pattern that matches a class wins.
_CLASSES: Final[tuple[tuple[str, Kind], ...]] = (
    (r"SafetyChecker", "safety_checker"),
    (r"ControlNet|T2IAdapter|MotionAdapter", "controlnet"),
    (r"LatentUpsampl|Upsampler", "upsampler"),
    (
        r"^(AutoencoderKL|AutoencoderDC|Autoencoder|AsymmetricAutoencoder|VQModel|PaellaVQModel|ConsistencyDecoder)",
        "vae",
    ),
    (r"(CLIP|Siglip)VisionModel|^Dinov2|ImageEncoder|^CLIPVision", "image_encoder"),
    (r"UNet|Transformer\w*Model$|Transformer\w*$|^PriorTransformer", "denoiser"),
    (r"Text(Model|Encoder)|EncoderModel|ForCausalLM|ConditionalGeneration|ChatGLM", "text_encoder"),
)
_NAMES: Final[tuple[tuple[str, Kind], ...]] = (
    (r"^text_encoder|^prior_text_encoder|^text_model|^language_model|^mllm|^vlm|prompt", "text_encoder"),
    (r"image_encoder|image_projection", "image_encoder"),
    (r"^(vae|vqgan|movq|vqvae)", "vae"),
    (r"^(transformer|unet|prior|decoder|denoiser)", "denoiser"),
    (r"safety", "safety_checker"),
)


def kind_of(name: str, class_name: str) -> Kind:
    """The kind of a component.

    Args:
        name: its key in model_index.json.
        class_name: its class.
    """
    for pattern, kind in _NAMES[:1]:  # what encodes prompts may be of any class
        if re.search(pattern, name):
            return kind
    for pattern, kind in _CLASSES:
        if re.search(pattern, class_name):
            return kind
    return next((kind for pattern, kind in _NAMES if re.search(pattern, name)), "other")
