"""Attention that saves the same tensors as fused GPU kernels: nothing of size tokens × tokens, for any head sizes.

PyTorch's CPU build only has a fused kernel for equal key and value sizes without dropout; GPU kernels have no such
limits. Where the CPU would fall back to eager arithmetic, a replacement saves what the fused kernels save for the
backward pass: queries, keys, values, the output, and one float32 per head and token (the log-sum-exp). GPU kernels save
the state of the random generator instead of a dropout mask.
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
    """Scaled dot-product attention that saves the tensors of a fused kernel."""

    @staticmethod
    def forward(ctx: Any, query: Any, key: Any, value: Any) -> Any:
        batch, heads, tokens, _ = query.shape
        output = query.new_zeros((batch, tokens, heads, value.shape[-1])).transpose(
            1, 2
        )  # the memory layout of the kernels
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
    """Replacement for `_flash_attention_forward`, whose tensors have tokens before heads."""
    return _Fused.apply(query.transpose(1, 2), key.transpose(1, 2), value.transpose(1, 2)).transpose(1, 2)


@contextmanager
def fused_attention() -> Iterator[None]:
    """A context in which `scaled_dot_product_attention` and FlashAttention save what the GPU kernels save."""
    with (
        patch.object(functional, "scaled_dot_product_attention", _attention),
        patch.object(flash_attention, "_flash_attention_forward", _flash),
    ):
        yield


def take_flash(model: Any) -> None:
    """Set a model to FlashAttention even if the package is not installed."""
    for module in model.modules():
        config = getattr(module, "config", None)
        if config is not None and hasattr(config, "_attn_implementation_internal"):
            config._attn_implementation_internal = "flash_attention_2"
