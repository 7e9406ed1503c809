"""Types of the cache and ways to share a model that llama.cpp does not start with (`llama_init_from_model` of
llama-context.cpp, `make_gpu_buft_list` of llama-model.cpp, 0.5.0)."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain
from typing import Final

from hfmem.engines.llamacpp.releases import NEWEST
from hfmem.engines.llamacpp.settings import CACHE_TYPES, LlamaServer
from hfmem.mapper.gguf.layout import Blocks
from hfmem.mapper.gguf.parts import UNPARTED

__all__ = ["refusal"]

_LATENT: Final = "attention.key_length_mla"


def refusal(blocks: Blocks, server: LlamaServer, devices: int) -> str:
    """Why a context of the file is refused on so many accelerators; "" if it is not."""
    return next(chain(_unshared(blocks, server, devices), _reasons(blocks, server)), "")


def _unshared(blocks: Blocks, server: LlamaServer, devices: int) -> Iterator[str]:
    """Why accelerators cannot share it so: llama.cpp looks at the mode, and not at how many there are."""
    mode = server.asked.split_mode
    if not devices:
        return
    if mode == "row" and server.release == NEWEST:
        yield (
            f"llama.cpp {NEWEST.name} has no --split-mode row on CUDA, HIP, Metal and Vulkan: it stops with 'does not "
            "support split buffers'; --split-mode tensor has taken its place"
        )
    elif mode == "row":
        yield "how builds before llama.cpp 0.5.0 split rows (--split-mode row) is not modelled"
    elif mode == "tensor" and server.release != NEWEST:
        yield f"--split-mode tensor is modelled for llama.cpp {NEWEST.name}, not for builds before it"
    elif mode == "tensor" and blocks.architecture in UNPARTED:
        yield f"llama.cpp has no --split-mode tensor for '{blocks.architecture}'"
    elif mode == "tensor" and not server.flash:
        yield "--split-mode tensor needs flash attention"
    elif mode == "none" and server.asked.main_gpu >= devices:
        there = f"none of the {devices} accelerators, which begin with 0" if devices > 1 else "not the one there is, 0"
        yield f"--main-gpu {server.asked.main_gpu} is {there}"


def _reasons(blocks: Blocks, server: LlamaServer) -> Iterator[str]:
    keys, values = server.type_k, server.type_v
    if keys != values and (_LATENT in blocks.values or blocks.architecture == "deepseek4"):
        yield f"llama.cpp keeps the latent of this model only with one cache type, not with {keys} and {values}"
    if not server.flash:
        if _block(values) > 1:
            yield f"llama.cpp keeps values in {values} only with flash attention"
        return
    for kind, length, name in ((keys, "attention.key_length", "keys"), (values, "attention.value_length", "values")):
        size = next((size for size in _heads(blocks, length) if size % _block(kind)), 0)
        if size:
            yield f"{kind} has blocks of {_block(kind)}, which do not divide heads with {name} of {size}"


def _block(kind: str) -> int:
    return CACHE_TYPES[kind][0]


def _heads(blocks: Blocks, length: str) -> Iterator[int]:
    """Elements of a head in each layer."""
    return (blocks.sizes(layer)[length] for layer in range(blocks.loaded))
