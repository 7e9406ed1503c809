"""Attention as fused kernels keep it: nothing of the size of tokens × tokens, whatever the sizes of heads.

PyTorch's CPU build has a fused kernel for equal sizes of keys and values and no dropout; the kernels of a GPU take
both. Where the CPU would fall back to the arithmetic written out, this stands in with what the fused kernels keep for
the backward pass: queries, keys, values, the output, and one float32 a head and token (the log-sum-exp). A GPU's
kernel keeps no mask of its dropout, but the state of the generator.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

import torch
from torch.nn import functional
from transformers.integrations import flash_attention

__all__ = ["fused_attention", "take_flash"]

_sdpa = functional.scaled_dot_product_attention


class _Fused(torch.autograd.Function):  # type: ignore[misc] # PyTorch is untyped here
    """Scaled dot-product attention that keeps what a fused kernel keeps."""

    @staticmethod
    def forward(ctx: Any, query: Any, key: Any, value: Any) -> Any:
        batch, heads, tokens, _ = query.shape
        output = query.new_zeros((batch, tokens, heads, value.shape[-1])).transpose(1, 2)  # as the kernels lay it out
        logsumexp = query.new_zeros(query.shape[:-1], dtype=torch.float32)
        ctx.save_for_backward(query, key, value, output, logsumexp)
        return output

    @staticmethod
    def backward(ctx: Any, *_gradients: Any) -> Any:
        query, key, value, _, _ = ctx.saved_tensors
        return torch.zeros_like(query), torch.zeros_like(key), torch.zeros_like(value)


def _attention(query: Any, key: Any, value: Any, *args: Any, **kwargs: Any) -> Any:
    dropout = args[1] if len(args) > 1 else kwargs.get("dropout_p", 0.0)
    same = query.shape[-1] == value.shape[-1]
    if same and not dropout and query.device.type != "meta":
        return _sdpa(query, key, value, *args, **kwargs)
    return _Fused.apply(query, key, value)


def _flash(query: Any, key: Any, value: Any, *_args: Any, **_kwargs: Any) -> Any:
    """The kernel of `flash_attention_*`, which has the tokens before the heads."""
    return _Fused.apply(query.transpose(1, 2), key.transpose(1, 2), value.transpose(1, 2)).transpose(1, 2)


@contextmanager
def fused_attention() -> Iterator[None]:
    """While it is entered, fused attention keeps what the kernels of a GPU keep: `scaled_dot_product_attention`, and
    FlashAttention's own."""
    with (
        patch.object(functional, "scaled_dot_product_attention", _attention),
        patch.object(flash_attention, "_flash_attention_forward", _flash),
    ):
        yield


def take_flash(model: Any) -> None:
    """Sets a model to FlashAttention, whatever this machine has of it."""
    for module in model.modules():
        config = getattr(module, "config", None)
        if config is not None and hasattr(config, "_attn_implementation_internal"):
            config._attn_implementation_internal = "flash_attention_2"
