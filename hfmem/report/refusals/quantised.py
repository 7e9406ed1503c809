"""Of pipelines that are quantised while they are loaded."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from hfmem.refusals.quantised import PipelineQuantisationError

__all__ = ["WORDS"]


def _quantised(error: PipelineQuantisationError) -> str:
    given = f"--dtype {error.dtype}"
    known = ", ".join(error.known[:-1]) + f" or {error.known[-1]}" if error.known else ""
    if error.why == "format":
        return f"pipelines are not quantised to {error.dtype} here: use --dtype {known}, or leave --dtype out"
    if error.why == "offload":
        return (
            f"{given} does not go with --offload {error.subject}: its scales are no parameters, which is what is "
            "moved. Use --offload model, or another --dtype"
        )
    if error.why == "stored":
        return f"{error.subject} is quantised in its files already: leave {given} out"
    if error.why == "unknown":
        return f"the tensors of {error.subject} are unknown, so what {given} makes of them is too: leave --dtype out"
    if error.why == "convolutions":
        return f"{given} is known for transformers, and {error.subject} has convolutions: use --dtype {known}"
    return f"this pipeline has no denoiser that {given} quantises: leave --dtype out"


WORDS: Final[dict[type, Callable[[Any], str]]] = {PipelineQuantisationError: _quantised}
