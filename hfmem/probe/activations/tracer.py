"""Records all storages that a step allocates and frees, in order, with the part of the model that was running.

It does not include what PyTorch's dispatcher does not see: workspaces inside kernels, and the rounding and caching of
an allocator. A dispatch mode itself changes one thing, which can be undone: of two gradients of one tensor, autograd
normally adds the later one to the earlier one in place, if that is dense and nothing else references it or its storage
(`accumulate` and `can_accumulate_inplace` of PyTorch 2.13's torch/csrc/autograd/input_buffer.cpp); a view shares its
storage with its base, and is never added to. Under a dispatch mode each sum is a new tensor.
"""

from __future__ import annotations

import gc
import sys
import weakref
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cache
from types import FrameType
from typing import Any, Literal

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_iter

__all__ = ["Allocation", "Counting", "Phase", "Segment", "Tracer"]

Phase = Literal["given", "before", "encoder", "forward", "head", "backward", "after", "decoded", "optimizer"]
Segment = tuple[Phase, int]
"""The part of the step that was running: before the layers, the forward pass of a layer, head and loss, the backward
pass of a layer, the rest of the backward pass, the optimizer step. `given` is for storages from before the step. In
training, layers of an encoder beside the decoder have parts of their own, counted from the last one: `encoder` for
their forward pass, which is before the decoder's layers, and `decoded` for their backward pass, which is after them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Allocation:
    """One storage.

    Attributes:
        nbytes: its bytes.
        itemsize: bytes per element of the tensor that it was allocated for.
        shape: shape of that tensor.
        op: the operation that returned it.
        segment: the part of the step that was running.
        site: the source line of the model that called the operation; in a backward pass, the line whose gradient it
            computes.
    """

    nbytes: int
    itemsize: int
    shape: tuple[int, ...]
    op: str
    segment: Segment
    site: str


@dataclass(slots=True)
class _Log:
    allocations: list[Allocation] = field(default_factory=list)
    events: list[tuple[bool, int, Segment]] = field(default_factory=list)
    numbers: dict[int, int] = field(default_factory=dict)
    lines: dict[int, str] = field(default_factory=dict)
    nodes: int = -1


def _site() -> str:
    """The innermost source line in a model's own code."""
    frame: FrameType | None = sys._getframe(3)
    while frame is not None:
        name = frame.f_code.co_filename
        if "/models/" in name and "modeling" in name:
            return f"{name[name.rindex('/') + 1 :]}:{frame.f_lineno}"
        frame = frame.f_back
    return ""


class Tracer(TorchDispatchMode):  # type: ignore[misc] # PyTorch is untyped here
    """A context that records allocations.

    Args:
        sums_in_place: whether gradients are added in place, as without a dispatch mode. Otherwise each sum is a new
            storage, which is how `MemTracker` and other PyTorch tools count.

    Attributes:
        segment: the part of the step that is running, set by hooks.
    """

    def __init__(self, *, sums_in_place: bool = False) -> None:
        super().__init__()
        self.segment: Segment = ("given", 0)
        self._log = _Log()
        self._alone = _alone() if sums_in_place else None

    @property
    def allocations(self) -> list[Allocation]:
        """All storages, in order of allocation."""
        return self._log.allocations

    @property
    def events(self) -> list[tuple[bool, int, Segment]]:
        """(allocated or freed, number of the storage, part of the step), in order."""
        return self._log.events

    def give(self, tensors: Iterable[torch.Tensor]) -> frozenset[int]:
        """Register tensors that already exist (weights, inputs), and return their numbers."""
        return frozenset(number for tensor in tensors if (number := self._see(tensor, "given")) is not None)

    def number(self, tensor: torch.Tensor) -> int | None:
        """The number of a tensor's storage; None if it was not recorded or is freed."""
        return self._log.numbers.get(tensor.untyped_storage()._cdata)

    def live(self) -> set[int]:
        """The numbers of all live storages."""
        return set(self._log.numbers.values())

    def __enter__(self) -> Tracer:
        gc.collect()
        gc.disable()  # a collection during a step would make the time of frees arbitrary
        super().__enter__()
        return self

    def __exit__(self, *exception: Any) -> None:
        gc.enable()
        super().__exit__(*exception)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        node = torch._C._current_autograd_node()
        sums = self._alone is not None and node is not None and _is_sum(func, args)
        if sums and _holders(args, 0) == self._alone and _is_dense(args[0]):
            # the gradient that arrived first takes the other one in, if nothing else holds it or its storage
            return args[0].add_(args[1])
        out = func(*args, **(kwargs or {}))
        if node is None:
            self._remember()
        for tensor in tree_iter(out):
            if isinstance(tensor, torch.Tensor):
                self._see(tensor, str(func), node)
        return out

    def _remember(self) -> None:
        """Record the source line that created the newest node of the autograd graph."""
        log, nodes = self._log, torch.autograd._get_sequence_nr()
        if nodes != log.nodes:
            log.nodes = nodes
            log.lines[nodes - 1] = _site()

    def _line(self, node: Any) -> str:
        if node is None:
            return _site()
        return f"{self._log.lines.get(node._sequence_nr(), '')} {node.name()}"

    def _see(self, tensor: torch.Tensor, op: str, node: Any = None) -> int | None:
        storage = tensor.untyped_storage()
        nbytes = storage.nbytes()
        if not nbytes:
            return None
        key, log = storage._cdata, self._log
        if key in log.numbers:
            return log.numbers[key]
        number = len(log.allocations)
        log.numbers[key] = number
        log.allocations.append(
            Allocation(
                nbytes=nbytes,
                itemsize=tensor.element_size(),
                shape=tuple(tensor.shape),
                op=op,
                segment=self.segment,
                site=self._line(node),
            )
        )
        log.events.append((True, number, self.segment))
        weakref.finalize(storage, self._freed, key, number)
        return number

    def _freed(self, key: int, number: int) -> None:
        if self._log.numbers.get(key) == number:
            del self._log.numbers[key]
        self._log.events.append((False, number, self.segment))


def _is_sum(func: Any, args: Any) -> bool:
    """Whether an operation in a backward pass is a sum of two gradients."""
    if func is not torch.ops.aten.add.Tensor or not all(isinstance(item, torch.Tensor) for item in args):
        return False
    one, other = args
    return bool(one.shape == other.shape and one.dtype == other.dtype)


def _is_dense(tensor: torch.Tensor) -> bool:
    """Whether a tensor's elements lie side by side, in whatever order of its dimensions."""
    expected = 1
    for stride, size in sorted(zip(tensor.stride(), tensor.shape, strict=True)):
        if size != 1 and stride != expected:
            return False
        expected *= size
    return True


def _holders(args: Any, number: int) -> tuple[int, int, int]:
    """Reference counts of a tensor: in Python, in C++, and of its storage."""
    storage = torch._C._storage_Use_Count(args[number].untyped_storage()._cdata)
    return sys.getrefcount(args[number]), args[number]._use_count(), storage


@cache
def _alone() -> tuple[int, int, int]:
    """`_holders` of a gradient that only autograd references, measured on a small graph."""
    seen: list[tuple[int, int, int]] = []

    class Watching(TorchDispatchMode):  # type: ignore[misc] # PyTorch is untyped here
        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            if func is torch.ops.aten.add.Tensor:
                seen.append(_holders(args, 0))
            return func(*args, **(kwargs or {}))

    leaf = torch.ones(2, 2, requires_grad=True)
    loss = (leaf.sin() * leaf.cos()).sum()
    with Watching():
        loss.backward()
    return seen[0]


class Counting(TorchDispatchMode):  # type: ignore[misc] # PyTorch is untyped here
    """A context that counts operations.

    Attributes:
        count: the number of operations so far.
    """

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.count += 1
        return func(*args, **(kwargs or {}))
