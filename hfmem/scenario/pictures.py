"""Images of a network that takes nothing else: how many, and of which size."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, TypeVar

from hfmem.engines.table import USUAL
from hfmem.estimator.activations.images import size_refused
from hfmem.estimator.scenario import Scenario
from hfmem.mapper.interpret import Model
from hfmem.options.media import image_size
from hfmem.options.otherwise import Detail, Otherwise
from hfmem.refusals.media import ImageSizeError, NetworkError
from hfmem.scenario.options import Options

if TYPE_CHECKING:
    from hfmem.mapper.inputs import Network

__all__ = ["check_network", "with_pictures"]

_Any = TypeVar("_Any", bound=Scenario)


def check_network(options: Options, model: Model) -> None:
    """Refuse what does not go with a network for images.

    Raises:
        NetworkError: the textbook's formulas, an engine that does not run it, videos or sound.
    """
    if model.network is None:
        return
    if options.method != "exact":
        raise NetworkError("textbook")
    if options.runtime not in (None, USUAL):
        raise NetworkError("engine", word=options.runtime)
    for option, asked in (("--video-frames", options.video_frames), ("--audio-seconds", options.audio_seconds)):
        if asked is not None:
            raise NetworkError("media", word=option)


def with_pictures(scenario: _Any, options: Options, network: Network) -> _Any:
    """The scenario with its images: `--images` for each of the batch, of the size that the weights were trained with.

    Raises:
        ImageSizeError: the network takes no images of the size.
    """
    height, width = network.height, network.width
    chosen: tuple[str, ...] = ()
    if options.image_size is not None:
        width, height = image_size(options.image_size)
        if size_refused(network, height, width):
            raise ImageSizeError((width, height), (network.width, network.height))
    else:
        where = "timm's own default, as config.json has none" if network.usual else "of config.json (input_size)"
        chosen = (Detail(f"--image-size {width}x{height}: {where}."),)
    if scenario.generation is not None:
        named = "--num-beams, --num-return-sequences, --cache-implementation and --assistant-model"
        chosen += (Otherwise(f"{named} have no effect: a network for images generates nothing."),)
    if options.attention != "sdpa":
        chosen += (Otherwise("--attention has no effect: timm's classes choose their own."),)
    return replace(
        scenario,
        generation=None,
        batch=scenario.batch * (options.images or 1),
        images=options.images or 1,
        image_height=height,
        image_width=width,
        chosen=(*scenario.chosen, *chosen),
    )
