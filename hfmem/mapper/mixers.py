"""Mixers with a state of a fixed size: the sizes from which the arrays of a pass follow. Their caches are `State`."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["DeltaRule", "Mixer", "StateSpace"]


@dataclass(frozen=True, slots=True, kw_only=True)
class DeltaRule:
    """Linear attention by the gated delta rule (arXiv 2412.06464).

    Attributes:
        key_heads, value_heads, key_dim, value_dim: heads and head sizes of keys and values.
        kernel: kernel size of the convolution of queries, keys and values.
    """

    key_heads: int
    value_heads: int
    key_dim: int
    value_dim: int
    kernel: int

    @property
    def keys(self) -> int:
        """Width of all key heads together."""
        return self.key_heads * self.key_dim

    @property
    def values(self) -> int:
        """Width of all value heads together."""
        return self.value_heads * self.value_dim

    @property
    def convolved(self) -> int:
        """Channels of the convolution: queries have the width of keys."""
        return 2 * self.keys + self.values

    @property
    def recurrent(self) -> int:
        """Elements of the recurrent state."""
        return self.values * self.key_dim


@dataclass(frozen=True, slots=True, kw_only=True)
class StateSpace:
    """Mamba-2 (arXiv 2405.21060).

    Attributes:
        heads, head_dim: heads of the recurrence, and their size.
        groups: groups of heads that share B and C.
        state: recurrent elements per channel.
        kernel: kernel size of the convolution.
        bias: whether the convolution has a bias.
        projected_bias: whether the projections have biases.
    """

    heads: int
    head_dim: int
    groups: int
    state: int
    kernel: int
    bias: bool = True
    projected_bias: bool = False

    @property
    def inner(self) -> int:
        """Width of all heads together."""
        return self.heads * self.head_dim

    @property
    def convolved(self) -> int:
        """Channels of the convolution: x, and B and C of each group."""
        return self.inner + 2 * self.groups * self.state

    @property
    def recurrent(self) -> int:
        """Elements of the recurrent state."""
        return self.inner * self.state


Mixer = DeltaRule | StateSpace
