"""Ollama as an engine: llama.cpp with Ollama's defaults, and the lines of a Modelfile.

Sources: Ollama's documentation (docs/modelfile.mdx, docs/context-length.mdx, docs/faq.mdx) and what its logs print:
batches of 512 tokens that are computed at once (`num_batch`), one request at a time (`OLLAMA_NUM_PARALLEL`), flash
attention where the device has it.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from hfmem.engines.llamacpp.engine import LlamaCpp
from hfmem.engines.llamacpp.options import LlamaCppOptions
from hfmem.engines.llamacpp.settings import Defaults, LlamaServer
from hfmem.engines.protocol import Engine
from hfmem.estimator.scenario import Settings
from hfmem.hardware.values import Accelerator
from hfmem.units import GIB

__all__ = ["ENGINE", "Ollama"]

_CONTEXTS: Final = ((47 * GIB, 262_144), (23 * GIB, 32_768), (0, 4_096))
"""The context without num_ctx, by the memory of the accelerators (`defaultNumCtx` of server/routes.go)."""


class Ollama(LlamaCpp):
    """`ollama run`."""

    title = "Ollama"
    defaults = Defaults(title="Ollama", batch=512, one_batch=True, embeddings=True)

    def settings(self, options: object, gpu: Accelerator | None, length: int) -> Settings:
        if isinstance(options, LlamaCppOptions) and (kind := options.cache_type_k or options.cache_type_v):
            options = replace(options, cache_type_k=kind, cache_type_v=kind)  # OLLAMA_KV_CACHE_TYPE is of both
        found = super().settings(options, gpu, length)
        asked = getattr(options, "seq", None) or getattr(options, "ctx_size", None)
        if not isinstance(found, LlamaServer) or asked or gpu is None:
            return found
        own = next(tokens for memory, tokens in _CONTEXTS if gpu.memory >= memory)
        told = f"Without num_ctx, Ollama takes a context of {own:,} tokens on this much memory, where the model has it."
        return replace(found, chosen=(*found.chosen, told)) if own != length else found


ENGINE: Final[Engine] = Ollama()
