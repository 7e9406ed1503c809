"""Building blocks of vision and audio towers. All of their weights, norms included, count to the tower's component."""

from __future__ import annotations

from dataclasses import dataclass

from hfmem.mapper.blueprint import linear, weight
from hfmem.mapper.facts import Facts
from hfmem.mapper.values import Component, TensorGroup

__all__ = ["Block", "UndescribedError", "blocks", "norms", "patches", "projection", "side"]


class UndescribedError(Exception):
    """No reader describes the weights of a part of the model: the whole's weights are unknown, its layers are known."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """One transformer block: attention, feed-forward network and two norms.

    Attributes:
        hidden, inner: hidden and intermediate size.
        kv: width of keys and of values (KV heads × head_dim); None for the hidden size.
        qkv_bias, key_bias, out_bias, mlp_bias: biases of the projections; `key_bias=False` for types where only the
            key projection has none.
        gated: whether the feed-forward network has a gate projection.
        norm_bias: True for LayerNorm with a bias, False for RMSNorm.
    """

    hidden: int
    inner: int
    kv: int | None = None
    qkv_bias: bool = True
    key_bias: bool = True
    out_bias: bool = True
    mlp_bias: bool = True
    gated: bool = False
    norm_bias: bool = True


def blocks(component: Component, b: Block, count: int) -> list[TensorGroup]:
    """All weights of `count` blocks."""
    kv = b.hidden if b.kv is None else b.kv
    groups = [
        *linear(component, "q_proj", b.hidden, b.hidden, count=count, bias=b.qkv_bias),
        *linear(component, "k_proj", kv, b.hidden, count=count, bias=b.qkv_bias and b.key_bias),
        *linear(component, "v_proj", kv, b.hidden, count=count, bias=b.qkv_bias),
        *linear(component, "out_proj", b.hidden, b.hidden, count=count, bias=b.out_bias),
        # gated: gate and up projection have the same shape
        *linear(component, "fc1", b.inner, b.hidden, count=count * (2 if b.gated else 1), bias=b.mlp_bias),
        *linear(component, "fc2", b.hidden, b.inner, count=count, bias=b.mlp_bias),
    ]
    return groups + norms(component, b.hidden, count=2 * count, bias=b.norm_bias)  # of attention and of the MLP


def norms(component: Component, size: int, *, count: int = 1, bias: bool = True) -> list[TensorGroup]:
    """Norms of a tower: LayerNorm with a bias, or RMSNorm without."""
    groups = weight(component, "norm", size, count=count)
    return groups + weight(component, "norm.bias", size, count=count) if bias else groups


def patches(hidden: int, *shape: int, bias: bool = True) -> list[TensorGroup]:
    """The patch embedding, a convolution; `shape` is that of one patch."""
    groups = weight("vision", "patch_embedding", hidden, *shape)
    return groups + weight("vision", "patch_embedding.bias", hidden) if bias else groups


def projection(outputs: int, inputs: int, *, bias: bool = True, role: str = "linear") -> list[TensorGroup]:
    """A linear layer between a tower and the decoder."""
    return linear("projector", role, outputs, inputs, bias=bias)


def side(facts: Facts, *keys: str) -> int:
    """The side length of an image or patch, given as one integer or several equal ones."""
    found = set(facts.integers(*keys))
    if len(found) != 1:
        raise UndescribedError
    return found.pop()
