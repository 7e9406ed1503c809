"""The options of a run of a pipeline, as asked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from hfmem.engines.diffusers.options import DiffusersOptions
from hfmem.estimator.scenario import Scenario
from hfmem.options.media import USUAL_IMAGE, MediaOptions, image_size

__all__ = ["RELEASE", "PipelineSettings", "settings_of"]

RELEASE = "0.42"


@dataclass(frozen=True, slots=True, kw_only=True)
class PipelineSettings:
    """What was asked; None is the default of the pipeline's class.

    Attributes:
        images: input images that are joined to what the network works on.
        image: width and height of each.
        each: images or videos of one prompt.
    """

    height: int | None = None
    width: int | None = None
    num_frames: int | None = None
    guidance: bool | None = None
    offload: str = "none"
    vae_tiling: bool = False
    vae_slicing: bool = False
    version: str | None = None
    images: int | None = None
    image: tuple[int, int] = USUAL_IMAGE
    each: int = 1
    chosen: tuple[str, ...] = ()

    def describe(self) -> str:
        """The engine and its release."""
        return f"diffusers {RELEASE}"

    def fields(self) -> Mapping[str, Any]:
        """What `scenario` of the JSON contract shows."""
        return {
            "height": self.height,
            "width": self.width,
            "frames": self.num_frames,
            "num_images": self.each,
            "images": self.images,
            "guidance": self.guidance,
            "offload": self.offload,
            "vae_tiling": self.vae_tiling,
            "vae_slicing": self.vae_slicing,
        }

    @classmethod
    def of(cls, options: DiffusersOptions) -> PipelineSettings:
        """The settings of the options."""
        media = options if isinstance(options, MediaOptions) else None
        return cls(
            height=options.height,
            width=options.width,
            num_frames=options.num_frames,
            guidance=options.guidance,
            offload=getattr(options, "offload", "none"),  # training has this option too
            vae_tiling=options.vae_tiling,
            vae_slicing=options.vae_slicing,
            version=options.diffusers_version,
            images=media.images if media is not None else None,
            image=image_size(media.image_size) if media is not None and media.image_size else USUAL_IMAGE,
            each=options.num_images or 1,
        )


def settings_of(scenario: Scenario) -> PipelineSettings:
    """The settings of a scenario of this engine.

    Raises:
        TypeError: it is a scenario of another engine.
    """
    if not isinstance(scenario.serving, PipelineSettings):
        raise TypeError("not a scenario of diffusers")
    return scenario.serving
