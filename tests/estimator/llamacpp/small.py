"""A small file of llama.cpp for tests by hand: four layers, of which each has an attention matrix and experts."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from hfmem.engines.llamacpp.placement import Placement
from hfmem.engines.llamacpp.settings import LlamaSettings
from hfmem.mapper.gguf.layout import Blocks, layout_of
from hfmem.mapper.gguf.reader import architecture_of
from tests.mapper.gguf_models import checkpoint

__all__ = ["LAYERS", "blocks", "placement"]

LAYERS = 4
_ROWS: tuple[tuple[str, str, tuple[int, ...]], ...] = (
    ("token_embd.weight", "F16", (1000, 64)),
    ("output_norm.weight", "F32", (64,)),
    ("rope_freqs.weight", "F32", (16,)),
    ("blk.{0-3}.attn_q.weight", "F16", (64, 64)),
    ("blk.{0-3}.ffn_up_exps.weight", "F16", (8, 128, 64)),
    ("blk.{0-3}.ffn_down_exps.weight", "F16", (8, 64, 128)),
)
_KEYS = {
    "general.architecture": "llama",
    "llama.block_count": LAYERS,
    "llama.context_length": 4096,
    "llama.embedding_length": 64,
    "llama.feed_forward_length": 128,
    "llama.attention.head_count": 4,
    "llama.attention.head_count_kv": 2,
    "llama.expert_count": 8,
    "llama.expert_used_count": 2,
}


def blocks(rows: Iterable[tuple[str, str, tuple[int, ...]]] = (), **keys: int) -> Blocks:
    """The file, with further tensors and keys."""
    more = {f"llama.{key}": value for key, value in keys.items()}
    made = checkpoint(_KEYS | more, (*_ROWS, *rows))
    found = layout_of(made, architecture_of(made))
    assert found is not None
    return found


def placement(devices: int, file: Blocks | None = None, **settings: Any) -> Placement:
    """The file on so many accelerators of the same free memory."""
    return Placement(blocks=file or blocks(), settings=LlamaSettings(**settings), free=(1,) * devices)
