"""Of diffusion pipelines."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from hfmem.refusals.pipelines import PipelineError

__all__ = ["WORDS"]


def _pipeline(error: PipelineError) -> str:
    if error.why == "training":
        return "this is a diffusion pipeline, and pipelines are not trained here: leave --train out to run it"
    if error.why == "textbook":
        return "the textbook's formulas are for language models, and this is a diffusion pipeline"
    if error.why == "engine":
        return f"{error.runtime} runs no diffusion pipelines: leave --runtime out, or use --runtime {error.runs}"
    return f"this is no diffusion pipeline, and {error.runtime} runs nothing else: leave --runtime out"


WORDS: Final[dict[type, Callable[[Any], str]]] = {PipelineError: _pipeline}
