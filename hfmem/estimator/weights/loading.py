"""Extra memory while loading: whole files in host memory, or a second copy of one part."""

from __future__ import annotations

from hfmem.dtypes import find_dtype
from hfmem.fetcher.tensors import stored_bytes
from hfmem.mapper.interpret import Model
from hfmem.mapper.values import Experts

__all__ = ["file_bytes", "largest_experts", "largest_matrix", "mapped"]

_MAPPED = (".safetensors",)
_PICKLED = (".bin", ".pt", ".pth", ".ckpt")


def mapped(model: Model) -> bool | None:
    """Whether the weight files are memory-mapped (safetensors) rather than read (pickles); None where unknown."""
    names = [file.name for file in model.checkpoint.weight_files]
    if names and all(name.endswith(_MAPPED) for name in names):
        return True
    return False if names and all(name.endswith(_PICKLED) for name in names) else None


def file_bytes(model: Model) -> int | None:
    """Bytes of the tensors in all weight files; None where unknown."""
    tensors = model.checkpoint.tensors
    if tensors:
        return stored_bytes(tensors)
    sizes = [file.size for file in model.checkpoint.weight_files]
    known = [size for size in sizes if size is not None]
    return sum(known) if known and len(known) == len(sizes) else None


def largest_matrix(model: Model, dtype: str | None) -> int:
    """Bytes of the largest matrix that a quantiser replaces, in a floating-point dtype."""
    groups = model.parameters.groups if model.parameters else ()
    found = find_dtype(dtype or "bfloat16")
    matrices = [group.parameters // max(1, group.count) for group in groups if group.linear and group.loaded]
    return found.nbytes(max(matrices, default=0)) if found is not None else 0


def largest_experts(model: Model, dtype: str | None) -> int:
    """Bytes of the gate and up projections of one layer's experts, in a floating-point dtype; 0 without experts."""
    hidden, found = model.architecture.hidden_size, find_dtype(dtype or "bfloat16")
    layers = model.architecture.layers or ()
    sizes = [2 * ffn.count * ffn.intermediate for layer in layers if isinstance(ffn := layer.ffn, Experts)]
    return found.nbytes(max(sizes, default=0) * hidden) if found is not None and hidden else 0
