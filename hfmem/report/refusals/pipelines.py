"""Of diffusion pipelines."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from hfmem.refusals.pipelines import PipelineClassError, PipelineError

__all__ = ["WORDS"]


_INSTEAD: Final = {
    "--device-map": "diffusers puts whole components on several accelerators (device_map='balanced'), which is not "
    "covered; for one accelerator use --offload model, group or sequential",
}
"""What holds for pipelines in place of an option that they do not have."""


def _pipeline(error: PipelineError) -> str:
    if error.why == "training":
        return "this is a diffusion pipeline, and pipelines are not trained here: leave --train out to run it"
    if error.why == "textbook":
        return "the textbook's formulas are for language models, and this is a diffusion pipeline"
    if error.why == "engine":
        return f"{error.runtime} runs no diffusion pipelines: leave --runtime out, or use --runtime {error.runs}"
    if error.why == "option":
        instead = _INSTEAD.get(error.option, f"leave {error.option} out")
        return (
            f"{error.option} is an option of {' and '.join(error.owners)}, and this is a diffusion pipeline: {instead}"
        )
    return f"this is no diffusion pipeline, and {error.runtime} runs nothing else: leave --runtime out"


def _edge(error: PipelineClassError) -> str:
    below = max(1, error.given // error.multiple) * error.multiple
    return (
        f"{error.option} is {error.given:,}, and {error.subject} takes only multiples of {error.multiple}: "
        f"{below:,} or {below + error.multiple:,}"
    )


def _coder(error: PipelineClassError) -> str:
    if not error.subject:
        return f"the pipeline has no VAE: leave {error.option} out"
    what = "tiles" if error.option == "--vae-tiling" else "slices"
    return f"{error.subject} does not decode in {what}: leave {error.option} out"


_SENTENCES: Final[dict[str, Callable[[PipelineClassError], str]]] = {
    "frames": lambda error: f"{error.subject} makes images, not videos: leave --num-frames out",
    "length": lambda error: (
        f"{error.subject} makes a video as long as the one that it is given, piece by piece: leave --num-frames out"
    ),
    "images": lambda error: (
        f"{error.subject} is given no images beside what it makes: leave --images out (an image that is changed or "
        "continued is counted without it)"
    ),
    "one": lambda error: f"{error.subject} is given one image for each prompt: use --images 1",
    "each": lambda error: f"{error.subject} makes one result of each prompt: use --batch instead of --num-images",
    "offload": lambda error: (
        f"{error.subject} cannot offload whole models, as its class has no order for it: use --offload sequential"
    ),
    "edge": _edge,
    "coder": _coder,
    "control": lambda error: (
        f"--controlnet names a {error.option} that does not go with {error.subject}: name one that was trained for it"
    ),
    "controlless": lambda error: (
        f"--controlnet names {error.subject}, which is no ControlNet of diffusers: name the repository of one"
    ),
    "media": lambda error: f"a pipeline is given images only: leave {error.option} out",
}


def _class(error: PipelineClassError) -> str:
    return _SENTENCES[error.why](error)


WORDS: Final[dict[type, Callable[[Any], str]]] = {PipelineError: _pipeline, PipelineClassError: _class}
