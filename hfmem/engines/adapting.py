"""Shared by servers: the matrices of slots for LoRA adapters."""

from __future__ import annotations

from hfmem.mapper.values import TensorGroup

__all__ = ["matrix_sides"]


def matrix_sides(group: TensorGroup, tp: int) -> int:
    """Inputs plus outputs of a matrix on one of `tp` ranks. Column-parallel: all inputs, the rank's outputs;
    row-parallel: the rank's inputs, all outputs."""
    out, into = group.shape
    # the shape on a rank has the first dimension divided, whichever one the engine divides
    return out * tp + -(-into // tp) if group.writes_stream else out + into
