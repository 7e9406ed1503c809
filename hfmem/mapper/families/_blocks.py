"""Blocks of towers: the encoders of images and sound that stand before a decoder. Every weight of one belongs to it."""

from __future__ import annotations

from dataclasses import dataclass

from hfmem.mapper.blueprint import linear, weight
from hfmem.mapper.facts import Facts
from hfmem.mapper.values import Component, TensorGroup

__all__ = ["Block", "UndescribedError", "blocks", "norms", "patches", "projection", "side"]


class UndescribedError(Exception):
    """A part of a model whose weights no reader describes: the weights of the whole are unknown, its layers are not."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """One transformer block: attention, feed-forward, and two norms.

    Attributes:
        hidden, inner: sizes.
        kv: width of keys and of values; None for the hidden size.
        qkv_bias, key_bias, out_bias, mlp_bias: biases; `key_bias` is for types whose keys alone have none.
        gated: the feed-forward network has a second input projection.
        norm_bias: LayerNorm with a bias, not RMSNorm.
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
    """Every weight of `count` blocks."""
    kv = b.hidden if b.kv is None else b.kv
    groups = [
        *linear(component, "q_proj", b.hidden, b.hidden, count=count, bias=b.qkv_bias),
        *linear(component, "k_proj", kv, b.hidden, count=count, bias=b.qkv_bias and b.key_bias),
        *linear(component, "v_proj", kv, b.hidden, count=count, bias=b.qkv_bias),
        *linear(component, "out_proj", b.hidden, b.hidden, count=count, bias=b.out_bias),
        *linear(component, "fc1", b.inner, b.hidden, count=count * (2 if b.gated else 1), bias=b.mlp_bias),
        *linear(component, "fc2", b.hidden, b.inner, count=count, bias=b.mlp_bias),
    ]
    return groups + norms(component, b.hidden, count=2 * count, bias=b.norm_bias)


def norms(component: Component, size: int, *, count: int = 1, bias: bool = True) -> list[TensorGroup]:
    """Norms of a tower: LayerNorm, or RMSNorm without a bias."""
    groups = weight(component, "norm", size, count=count)
    return groups + weight(component, "norm.bias", size, count=count) if bias else groups


def patches(hidden: int, *shape: int, bias: bool = True) -> list[TensorGroup]:
    """The convolution that makes vectors of patches; `shape` is that of one patch."""
    groups = weight("vision", "patch_embedding", hidden, *shape)
    return groups + weight("vision", "patch_embedding.bias", hidden) if bias else groups


def projection(outputs: int, inputs: int, *, bias: bool = True, role: str = "linear") -> list[TensorGroup]:
    """A linear layer between a tower and the decoder."""
    return linear("projector", role, outputs, inputs, bias=bias)


def side(facts: Facts, *keys: str) -> int:
    """A size of an image or a patch: a whole number, or several equal ones."""
    found = set(facts.integers(*keys))
    if len(found) != 1:
        raise UndescribedError
    return found.pop()
