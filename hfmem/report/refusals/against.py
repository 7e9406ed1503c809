"""Of files of measurements."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from hfmem.refusals.against import LogError

__all__ = ["WORDS"]

_KNOWN: Final = (
    "it takes logs of vLLM, SGLang and llama.cpp from their start, torch.cuda.memory_stats() as JSON, a snapshot "
    "of PyTorch's memory, metrics of transformers' Trainer, and the output of nvidia-smi"
)


def _log(error: LogError) -> str:
    if error.why == "unreadable":
        return f"{error.name} cannot be read: {error.system}"
    if error.why == "empty":
        return f"{error.name} is empty"
    if error.why == "binary":
        return f"{error.name} is neither text nor a snapshot of PyTorch's memory; {_KNOWN}"
    if error.why == "mixed":
        return f"{error.name} has lines of {' and '.join(error.programs)}: give the log of one of them"
    return f"{error.name} has no line about memory that is known; {_KNOWN}"


WORDS: Final[dict[type, Callable[[Any], str]]] = {LogError: _log}
