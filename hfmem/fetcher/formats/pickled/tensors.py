"""The tensors in what a pickle of PyTorch builds: names by the path to them, sizes by the arguments of their calls.

Functions: `torch/_utils.py`; storages as persistent ids: `torch/serialization.py` (PyTorch 2.13).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from hfmem.dtypes import Dtype, find_dtype
from hfmem.fetcher.formats.pickled.opcodes import Call, Global, Items, Reference

__all__ = ["Found", "Storage", "Stored", "find", "storage_of"]

_MOST_DIMENSIONS: Final = 64
_MOST_ELEMENTS: Final = 2**56
_LONGEST_NAME: Final = 4096


@dataclass(frozen=True, slots=True, kw_only=True)
class Storage:
    """A storage as a persistent id describes it.

    Attributes:
        key: its name in the file: of its record in a zip, of its part in a legacy file.
        dtype: dtype of its elements as safetensors names it; "" for bytes without a type.
        nbytes: its bytes.
        start: where it begins in the storage that it is a view of, in elements; only in legacy files.
    """

    key: str
    dtype: str
    nbytes: int
    start: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Stored:
    """One tensor.

    Attributes:
        name: the path to it: keys and attributes, joined by dots.
        dtype: its dtype as safetensors names it.
        shape: its shape.
        storage: its storage; None for a tensor without data.
        first: offset of its first element in the storage, in bytes.
        last: offset behind its last element in the storage, in bytes.
        identity: what two names of the same tensor have in common; None for a tensor without a storage.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    storage: Storage | None = None
    first: int = 0
    last: int = 0
    identity: tuple[object, ...] | None = None

    @property
    def elements(self) -> int:
        count = 1
        for size in self.shape:
            count *= size
        return count


@dataclass(slots=True, kw_only=True)
class Found:
    """What a walk over a pickle has found.

    Attributes:
        tensors: the tensors of the model, in order.
        optimizer: the tensors of optimizer states, which running a model does not need.
        names: everything that unpickling would import.
        faults: clauses on tensors that contradict themselves.
    """

    tensors: list[Stored] = field(default_factory=list)
    optimizer: list[Stored] = field(default_factory=list)
    names: dict[Global, None] = field(default_factory=dict)
    faults: list[str] = field(default_factory=list)


class _NoTensorError(ValueError):
    """Arguments that describe no tensor."""


def find(root: Any) -> Found:
    """The tensors in what a pickle builds. Each part is visited once, by its first path."""
    found = Found()
    pending: list[tuple[tuple[str, ...], Any, bool]] = [((), root, False)]
    visited: set[int] = set()
    while pending:
        path, value, optimizer = pending.pop()
        if isinstance(value, Global):
            found.names[value] = None
        if isinstance(value, Reference):  # of a legacy file: the class of a module
            value = value.key
        if not isinstance(value, Items | Call | tuple) or (_is_shared(value) and id(value) in visited):
            continue
        visited.add(id(value))
        if isinstance(value, Call) and (kind := _rebuilt(value)):
            _name_parts(value, found)
            _add(found, path, kind, value, optimizer)
        else:
            optimizer = optimizer or _is_optimizer(value)
            pending += reversed([(path + step, part, optimizer) for step, part in _parts(value)])
    return found


def _is_shared(value: Any) -> bool:
    """Whether a second visit would only give second names of the same; a tensor has as many names as it is called."""
    return not (isinstance(value, Call) and _rebuilt(value))


def _name_parts(call: Call, found: Found) -> None:
    """Note what the arguments of a tensor's call would import."""
    pending, seen = [call.function, call.arguments, call.state], 0
    while pending and seen < 200:
        part = pending.pop()
        seen += 1
        if isinstance(part, Global):
            found.names[part] = None
        elif isinstance(part, tuple):
            pending += part
        elif isinstance(part, Reference):
            pending.append(part.key)
        elif isinstance(part, Call):
            pending += [part.function, part.arguments, part.state]


def _is_optimizer(value: Any) -> bool:
    """Whether this is an optimizer's state: `torch.optim.Optimizer.state_dict()` has these two keys, and no other
    dictionary has."""
    pairs = value.pairs if isinstance(value, Items) else value.items.pairs if isinstance(value, Call) else ()
    keys = {key for key, _ in pairs[:8] if isinstance(key, str)}
    return {"state", "param_groups"} <= keys


_MEMBERS: Final = frozenset({"_parameters", "_buffers", "_modules"})
"""Attributes of `torch.nn.Module` that are no part of a tensor's name in its state."""


def _parts(value: Any) -> Iterator[tuple[tuple[str, ...], Any]]:
    """The parts of a container, each with what it adds to the path."""
    if isinstance(value, tuple):
        for place, part in enumerate(value):
            yield (str(place),), part
    elif isinstance(value, Items):
        for key, part in value.pairs:
            yield _step(key), part
            if not isinstance(key, str | int):
                yield (), key
    else:
        yield (), value.function
        yield from (((), part) for part in _sequence(value.arguments))
        yield (), value.state
        yield (), value.items


def _sequence(value: Any) -> tuple[Any, ...]:
    return value if isinstance(value, tuple) else (value,)


def _step(key: Any) -> tuple[str, ...]:
    if isinstance(key, str):
        return () if key in _MEMBERS else (key[:_LONGEST_NAME],)
    return (str(key),) if isinstance(key, int) and abs(key) < 2**63 else ("?",)


_UTILS: Final = "torch._utils"
_REBUILDS: Final = {
    "_rebuild_tensor": "tensor",
    "_rebuild_tensor_v2": "tensor",
    "_rebuild_tensor_v3": "typed",
    "_rebuild_qtensor": "tensor",
    "_rebuild_parameter": "wrapped",
    "_rebuild_parameter_with_state": "wrapped",
    "_rebuild_meta_tensor_no_storage": "meta",
    "_rebuild_wrapper_subclass": "subclass",
}
_FROM_TYPE: Final = (
    Global("torch._tensor", "_rebuild_from_type"),
    Global("torch._tensor", "_rebuild_from_type_v2"),
)


def _rebuilt(call: Call) -> str:
    """What kind of tensor a call makes; "" for none."""
    function = call.function
    if not isinstance(function, Global):
        return ""
    if function in _FROM_TYPE:
        return "from type"
    return _REBUILDS.get(function.name, "") if function.module == _UTILS else ""


def _add(found: Found, path: tuple[str, ...], kind: str, call: Call, optimizer: bool) -> None:
    """Add the tensor that a call makes, or a fault."""
    name = ".".join(path)[:_LONGEST_NAME] or "tensor"
    try:
        tensor = _tensor(name, kind, call, depth=0)
    except (TypeError, ValueError, KeyError, IndexError) as error:
        why = f" ({error})" if isinstance(error, _NoTensorError) else ""
        found.faults.append(f"'{name}' is no tensor{why}")
        return
    (found.optimizer if optimizer else found.tensors).append(tensor)


def _tensor(name: str, kind: str, call: Call, *, depth: int) -> Stored:
    arguments = call.arguments
    if not isinstance(arguments, tuple) or depth > 4:
        raise _NoTensorError("its arguments are no tuple")
    if kind in ("wrapped", "from type"):
        return _wrapped(name, kind, arguments, depth)
    if kind == "meta":
        dtype, shape = arguments[:2]
        return Stored(name=name, dtype=_dtype(dtype), shape=_sizes(shape))
    if kind == "subclass":
        dtype, shape = arguments[1:3]
        return Stored(name=name, dtype=_dtype(dtype), shape=_sizes(shape))
    storage, offset, shape, stride = arguments[:4]
    dtype = _dtype(arguments[6]) if kind == "typed" else ""
    return _placed(name, storage_of(storage), (offset, _sizes(shape), _sizes(stride)), dtype)


def _wrapped(name: str, kind: str, arguments: tuple[Any, ...], depth: int) -> Stored:
    """A parameter around a tensor, or a subclass made from the arguments of a plain one."""
    if kind == "wrapped":
        inner = arguments[0]
    else:
        function, _, of_function, *_ = (*arguments, None)
        inner = function if isinstance(function, Call) else Call(function, of_function)
    inner_kind = _rebuilt(inner) if isinstance(inner, Call) else ""
    if not inner_kind:
        raise _NoTensorError("there is none in it")
    return _tensor(name, inner_kind, inner, depth=depth + 1)


def _placed(name: str, storage: Storage, place: tuple[Any, tuple[int, ...], tuple[int, ...]], dtype: str) -> Stored:
    """A tensor that lies in a storage."""
    offset, shape, stride = place
    if type(offset) is not int or not 0 <= offset <= _MOST_ELEMENTS or len(shape) != len(stride):
        raise _NoTensorError("its offset or its strides are none")
    found = find_dtype(dtype or storage.dtype)
    if found is None:
        raise _NoTensorError("its dtype is not known")
    extent = 0 if 0 in shape else 1 + sum((size - 1) * step for size, step in zip(shape, stride, strict=True))
    first, last = found.nbytes(offset), found.nbytes(offset + extent)
    if last > storage.nbytes:
        raise _NoTensorError("it is larger than its storage")
    name_of_dtype = _stored_name(found)
    elements = Stored(name=name, dtype=name_of_dtype, shape=shape).elements
    identity = (storage.key, storage.start, name_of_dtype, offset, elements) if extent else None
    return Stored(
        name=name, dtype=name_of_dtype, shape=shape, storage=storage, first=first, last=last, identity=identity
    )


def _sizes(value: Any) -> tuple[int, ...]:
    """Sizes or strides: non-negative integers, whose product is that of a tensor."""
    if isinstance(value, Call) and isinstance(value.function, Global) and str(value.function) == "torch.Size":
        value = value.arguments[0]
    if isinstance(value, Items) and not value.mapping:
        value = tuple(part for _, part in value.pairs)
    if not isinstance(value, tuple) or len(value) > _MOST_DIMENSIONS:
        raise _NoTensorError("its shape is no list of sizes")
    product = 1
    for size in value:
        if type(size) is not int or not 0 <= size <= _MOST_ELEMENTS:
            raise _NoTensorError("its shape is no list of sizes")
        product *= max(1, size)
        if product > _MOST_ELEMENTS**2:
            raise _NoTensorError("it is larger than any tensor")
    return value


_STORAGES: Final[Mapping[str, str]] = {
    "DoubleStorage": "float64",
    "FloatStorage": "float32",
    "HalfStorage": "float16",
    "BFloat16Storage": "bfloat16",
    "LongStorage": "int64",
    "IntStorage": "int32",
    "ShortStorage": "int16",
    "CharStorage": "int8",
    "ByteStorage": "uint8",
    "BoolStorage": "bool",
    "ComplexFloatStorage": "complex64",
    "ComplexDoubleStorage": "complex128",
    "QInt8Storage": "int8",
    "QUInt8Storage": "uint8",
    "QInt32Storage": "int32",
    "UntypedStorage": "",
}


def storage_of(value: Any) -> Storage:
    """The storage that a persistent id describes: `("storage", class, key, location, elements, view)`.

    Raises:
        ValueError: it describes none.
    """
    key = value.key if isinstance(value, Reference) else None
    if not isinstance(key, tuple) or len(key) < 5 or key[0] != "storage":
        raise _NoTensorError("it has no storage")
    _, class_, name, _, elements, *views = key
    if not isinstance(class_, Global) or class_.name not in _STORAGES:
        raise _NoTensorError("the class of its storage is not known")
    if not isinstance(name, str) or type(elements) is not int or not 0 <= elements <= _MOST_ELEMENTS:
        raise _NoTensorError("its storage has no size")
    dtype = _STORAGES[class_.name]
    found = find_dtype(dtype)
    nbytes = elements if found is None else found.nbytes(elements)
    return Storage(key=name, dtype=dtype, nbytes=nbytes, start=_start(views[0] if views else None))


def _start(view: Any) -> int:
    """Where a storage that is a view begins in its root: `(key, start, elements)`."""
    start = view[1] if isinstance(view, tuple) and len(view) == 3 else 0
    return start if type(start) is int and 0 <= start <= _MOST_ELEMENTS else 0


def _stored_name(dtype: Dtype) -> str:
    return dtype.safetensors or dtype.name


def _dtype(value: Any) -> str:
    """The dtype that is imported by its name: `torch.float8_e4m3fn`, as safetensors names it."""
    found = find_dtype(value.name) if isinstance(value, Global) and value.module == "torch" else None
    if found is not None:
        return _stored_name(found)
    raise _NoTensorError("its dtype is not known")
