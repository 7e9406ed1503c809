"""Shared by servers: sizes of a layer's activations in a forward pass without gradients."""

from __future__ import annotations

from hfmem.mapper.values import Dense, Experts, Layer

__all__ = ["layer_inner"]


def layer_inner(layer: Layer, ranks: int) -> int:
    """Elements per token of the gate and up projections and their product, on one of the ranks that share them."""
    if isinstance(layer.ffn, Dense):
        return (3 if layer.ffn.gated else 2) * layer.ffn.intermediate // ranks
    if isinstance(layer.ffn, Experts):
        return 3 * layer.ffn.shared // ranks
    return 0
