"""What only pipelines of diffusers take."""

from dataclasses import dataclass
from functools import partial
from typing import Annotated

from hfmem.engines.tracing import TraceOptions
from hfmem.errors import InvalidScenarioError
from hfmem.options.option import Option

__all__ = ["SIZES", "DiffusersOptions"]

_option = partial(Option, panel="diffusers")


def _release(version: str) -> InvalidScenarioError | None:
    """Why a release is not accepted; None if it is."""
    from hfmem.engines.diffusers.releases import number_of  # only runs with --diffusers-version need it here

    try:
        number_of(version)
    except InvalidScenarioError as error:
        return error
    return None


@dataclass(frozen=True, kw_only=True, init=False, repr=False, eq=False)
class DiffusersOptions(TraceOptions):
    """The options of diffusers; None is the default of the pipeline's class."""

    height: Annotated[
        int | None,
        _option(help="Height of the images or frames in pixels", shown="the pipeline's own", least=16, most=32_768),
    ] = None
    width: Annotated[
        int | None,
        _option(help="Width of the images or frames in pixels", shown="the pipeline's own", least=16, most=32_768),
    ] = None
    num_frames: Annotated[
        int | None,
        _option(help="Frames of a video", shown="the pipeline's own", least=1, most=100_000),
    ] = None
    num_images: Annotated[
        int | None,
        _option(
            help="Images or videos for each of the --batch prompts (num_images_per_prompt)",
            shown="1",
            least=1,
            most=10_000,
        ),
    ] = None
    guidance: Annotated[
        bool | None,
        _option(
            help="Classifier-free guidance, which runs the network for the negative prompt as well",
            shown="as the pipeline's defaults",
        ),
    ] = None
    controlnet: Annotated[
        str | None,
        _option(help="A ControlNet that runs beside the denoiser: a Hub id or path", metavar="MODEL"),
    ] = None
    vae_tiling: Annotated[bool, _option(help="Decode images in tiles (vae.enable_tiling)")] = False
    vae_slicing: Annotated[bool, _option(help="Decode images one by one (vae.enable_slicing)")] = False
    diffusers_version: Annotated[
        str | None,
        _option(
            help="diffusers release that runs it; of another than the measured one, the answer says so",
            metavar="VERSION",
            shown="the measured one",
            check=_release,
        ),
    ] = None


SIZES = tuple(
    name
    for name in DiffusersOptions.__annotations__
    if not name.startswith(("vae", "guidance", "controlnet", "diffusers"))
)
"""The options for what is made."""
