"""What llama.cpp itself says that a GGUF takes: its library is given a file with the same header and no weights.

The header is written anew from what was read of the file, so that nothing more is fetched of it, files in pieces are
one, and the library reads no bytes of a repository. It runs in a process of its own, which may stop: a library ends its
process where something in a file is not as it expects.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, Final

from hfmem.engines.llamacpp.allocator import HOST, Device
from hfmem.engines.llamacpp.caches import kept
from hfmem.engines.llamacpp.compute import computed
from hfmem.engines.llamacpp.placement import Placement
from hfmem.engines.llamacpp.settings import LlamaSettings, server_of
from hfmem.engines.llamacpp.weights import placed
from hfmem.errors import UntraceableError
from hfmem.estimator.scenario import Scenario
from hfmem.estimator.traced import Trace
from hfmem.estimator.values import Group
from hfmem.fetcher.formats.gguf import TYPES
from hfmem.mapper.gguf.layout import Blocks, layout_of
from hfmem.mapper.interpret import Model
from hfmem.probe.llamacpp.library import RELEASE, Asked, LlamaError, library
from hfmem.probe.llamacpp.specimens import Specimen, loads, typed
from hfmem.unknown import Unknown

__all__ = ["main", "specimen_of", "traced"]

_GROUPS: Final[Mapping[str, Group]] = {"model": "weights", "context": "kv_cache", "compute": "activations"}
_NUMBERS: Final = {name: number for number, name in TYPES.items()}
_LONGEST: Final = 120  # seconds
_READ: Final = ("tokenizer.ggml.token_type_count",)
"""Keys of the vocabulary that sizes depend on."""


def traced(model: Model, scenario: Scenario) -> Trace:
    """The buffers of a file with all layers on the processor, and the estimate of the same.

    Raises:
        UntraceableError: it is no GGUF whose header is known, another release is asked for, or llama.cpp refuses it.
    """
    name = model.checkpoint.ref.model_id
    blocks = layout_of(model.checkpoint, model.architecture)
    if blocks is None:
        raise UntraceableError(name, "the header of its GGUF is not known")
    server = server_of(scenario)
    if server.release.name != RELEASE:
        raise UntraceableError(name, f"the library is of llama.cpp {RELEASE}, not of {server.release.name}")
    settings = replace(server.of(scenario), n_gpu_layers=0)
    started = time.monotonic()
    told = _told(name, specimen_of(model, blocks), settings)
    groups = {group: sum(sizes[part] for sizes in told.values()) for part, group in _GROUPS.items()}
    return Trace(
        phase="prefill",
        groups=groups,
        phases={"prefill": sum(groups.values())},
        layers=blocks.loaded,
        seconds=round(time.monotonic() - started, 1),
        source=f"llama.cpp {RELEASE}",
        subject="llama.cpp with all layers on the processor,",
        estimate=_estimated(model, blocks, settings),
    )


def specimen_of(model: Model, blocks: Blocks) -> Specimen:
    """The file without its weights and its vocabulary: keys that sizes may depend on, and all tensors."""
    prefix = f"{blocks.architecture}."
    found: dict[str, Any] = {}
    for table in model.checkpoint.metadata.values():
        for key, value in table.items():
            if (key.startswith(prefix) or key in _READ) and _plain(value):
                found.setdefault(key.removeprefix(prefix), value)
    if blocks.vocabulary:
        found.setdefault("vocab_size", blocks.vocabulary)
    return Specimen(
        architecture=blocks.architecture,
        keys=found,
        tensors={tensor.name: tensor.shape[::-1] for tensor in model.checkpoint.tensors},
        formats={tensor.name: (_NUMBERS[tensor.dtype], tensor.nbytes) for tensor in model.checkpoint.tensors},
    )


def _plain(value: object) -> bool:
    """Whether a value can be written again: a number, a text, or numbers."""
    if isinstance(value, list):
        return bool(value) and all(isinstance(item, int | float) for item in value)
    return isinstance(value, int | float | str)


def _told(name: str, specimen: Specimen, settings: LlamaSettings) -> dict[str, dict[str, int]]:
    """The buffers that the library tells, in a process of its own."""
    asked = Asked(
        n_ctx=settings.n_ctx,
        n_ubatch=settings.n_ubatch,
        n_batch=settings.n_batch,
        n_seq_max=settings.n_seq_max,
        n_outputs_max=settings.n_outputs,
        flash="on" if settings.flash else "off",
        type_k=settings.type_k,
        type_v=settings.type_v,
        kv_unified=settings.unified,
        swa_full=settings.swa_full,
    )
    given = json.dumps({"specimen": asdict(specimen), "asked": asdict(asked)})
    command = [sys.executable, "-m", __name__]
    try:
        process = subprocess.run(  # noqa: S603 - this module
            command, input=given, capture_output=True, text=True, errors="replace", timeout=_LONGEST, check=False
        )
    except subprocess.TimeoutExpired as error:
        raise UntraceableError(name, f"llama.cpp does not answer within {_LONGEST} seconds") from error
    if process.returncode:
        last = process.stderr.strip().splitlines()[-1:] or ["it stopped"]
        raise UntraceableError(name, f"llama.cpp: {last[0][-300:]}")
    found: dict[str, dict[str, int]] = json.loads(process.stdout.splitlines()[-1])
    return found


def _estimated(model: Model, blocks: Blocks, settings: LlamaSettings) -> dict[Group, int]:
    """The estimate of what is traced, as far as it is known."""
    placement = Placement(blocks=blocks, settings=settings)
    layers = (model.architecture.layers or ())[: blocks.loaded]
    found: dict[Group, int] = {
        "weights": placed(placement, Device())[HOST].nbytes,
        "kv_cache": sum(part.nbytes for parts in kept(layers, blocks.kernel, settings) for part in parts),
    }
    compute = computed(placement, ())
    return found if isinstance(compute, Unknown) else {**found, "activations": compute.host}


def main() -> None:
    """Answer one question of standard input on standard output."""
    given = json.load(sys.stdin)
    parts = given["specimen"]
    specimen = Specimen(
        architecture=parts["architecture"],
        keys=parts["keys"],
        tensors={name: tuple(shape) for name, shape in parts["tensors"].items()},
        formats={name: (kind, nbytes) for name, (kind, nbytes) in parts["formats"].items()},
    )
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "header.gguf"
        try:
            typed(specimen, path, loads)
            print(json.dumps(library().buffers(path, Asked(**given["asked"]))))
        except LlamaError as error:
            sys.exit(" ".join(str(error).split())[-300:])


if __name__ == "__main__":
    main()
