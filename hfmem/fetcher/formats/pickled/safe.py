"""What `torch.load` refuses to import by default (`weights_only=True`)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final

from hfmem.dtypes import find_dtype
from hfmem.fetcher.formats.pickled.opcodes import Global

__all__ = ["unsafe"]

# `_get_allowed_globals` and `_tensor_rebuild_functions` of torch/_weights_only_unpickler.py (PyTorch 2.13), with the
# names that Python 2 gave to the same
_ALLOWED: Final = frozenset(
    {
        *("collections.OrderedDict", "collections.Counter", "_codecs.encode"),
        *(f"{builtins}.{name}" for builtins in ("builtins", "__builtin__") for name in ("bytearray", "set", "complex")),
        *("torch.nn.parameter.Parameter", "torch.nn.parameter.Buffer", "torch.serialization._get_layout"),
        *(f"torch.{name}" for name in ("Size", "device", "per_tensor_affine", "per_channel_affine")),
        "torch.per_channel_affine_float_qparams",
        "torch._tensor._rebuild_from_type_v2",
        *(
            f"torch._utils._rebuild_{what}"
            for what in (
                *("tensor", "tensor_v2", "tensor_v3", "parameter", "parameter_with_state", "qtensor", "sparse_tensor"),
                *("meta_tensor_no_storage", "nested_tensor", "wrapper_subclass", "device_tensor_from_numpy"),
                "device_tensor_from_cpu_tensor",
            )
        ),
    }
)
_TORCH: Final = frozenset({"torch", "torch.cuda", "torch.storage", "torch.sparse", "torch.cuda.sparse"})


def unsafe(names: Iterable[Global]) -> Iterator[str]:
    """The names that it refuses."""
    for name in names:
        if str(name) not in _ALLOWED and not (name.module in _TORCH and _is_type(name.name)):
            yield str(name)


def _is_type(name: str) -> bool:
    """Whether it is the name of a dtype, or of a class of storages or tensors."""
    return name.endswith(("Storage", "Tensor")) or find_dtype(name) is not None or name.startswith(("quint", "qint"))
