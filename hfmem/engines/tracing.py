"""`--trace`, which belongs to the engines whose own software tells what it takes without weights."""

import os
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any, Final

from hfmem.options.option import Need, Option
from hfmem.options.panels import OUTPUT

__all__ = ["FOLDER", "TraceOptions", "library_folder"]

FOLDER: Final = "HFMEM_LLAMACPP"
"""The environment variable that names the folder of a llama.cpp library."""

_GGUF: Final = "llamacpp"


def library_folder() -> Path | None:
    """The folder that the variable names, else that of the Python package `llama_cpp`; None where no library is in it.

    The package is not imported: that would load the library into this process.
    """
    named = os.environ.get(FOLDER)
    found = None if named else find_spec("llama_cpp")
    places = [Path(place) / "lib" for place in (found.submodule_search_locations or ())] if found else []
    return next((place for place in ([Path(named)] if named else places) if any(place.glob("libllama.*"))), None)


def _one_gpu(asked: Any) -> bool:
    return all((size or 1) == 1 for size in (asked.gpus, asked.tp, asked.pp, asked.dp, asked.ep, asked.cp))


_TORCH: Final = "PyTorch, whose CPU build is enough: pip install 'hfmem[probe]'"
_LIBRARY: Final = f"a library of llama.cpp: pip install llama-cpp-python, or name the folder of one in {FOLDER}"


def _torch() -> bool:
    return find_spec("torch") is not None


@dataclass(frozen=True, kw_only=True, init=False, repr=False, eq=False)
class TraceOptions:
    """The option."""

    trace: Annotated[
        bool,
        Option(
            help="Run the model without weights and show its peak next to the estimate: the model class, which needs "
            "PyTorch, or llama.cpp for a GGUF",
            panel=OUTPUT,
            own=True,
            methods=("exact",),
            needs=(
                Need(
                    sentence="runs on one GPU: use it without --gpus, --tp, --pp, --dp, --cp and --ep",
                    met=lambda asked: asked.runtime == _GGUF or _one_gpu(asked),
                ),
                Need(
                    sentence="runs the whole prompt at once: use it without --prompt and --prefill-chunk",
                    met=lambda asked: asked.runtime == _GGUF or (asked.prompt is None and asked.prefill_chunk is None),
                ),
                Need(
                    sentence=f"needs {_TORCH}",
                    met=lambda asked: asked.runtime in (None, _GGUF) or _torch(),
                ),
                Need(
                    sentence=f"of a GGUF needs {_LIBRARY}",
                    met=lambda asked: asked.runtime != _GGUF or library_folder() is not None,
                ),
                Need(  # what a model is, is not known yet: it is asked again when it is
                    sentence=f"needs {_TORCH}; for a GGUF {_LIBRARY}",
                    met=lambda asked: asked.runtime is not None or _torch() or library_folder() is not None,
                ),
            ),
        ),
    ] = False
