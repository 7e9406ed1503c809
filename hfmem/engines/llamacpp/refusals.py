"""Types of the cache that llama.cpp does not start with (`llama_init_from_model` of llama-context.cpp, 0.5.0)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from hfmem.engines.llamacpp.settings import CACHE_TYPES, LlamaServer
from hfmem.mapper.gguf.layout import Blocks

__all__ = ["refusal"]

_LATENT: Final = "attention.key_length_mla"


def refusal(blocks: Blocks, server: LlamaServer) -> str:
    """Why a context of the file is refused; "" if it is not."""
    return next(_reasons(blocks, server), "")


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
