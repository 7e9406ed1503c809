"""A model as a tree of modules, with the bytes by which they are placed on devices."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from hfmem.mapper.values import Component, TensorGroup
from hfmem.refusals.splits import Unplaced

__all__ = ["Device", "Held", "Kind", "Module", "Modules", "NoOutline", "Outline", "Placer", "Tree", "Ways"]

Device = int | str
"""The number of an accelerator, or `mps`, `cpu`, `disk`."""

Kind = tuple[Component, str, tuple[int, ...]]
"""Component, role and shape of tensors (`TensorGroup.kind`)."""

Tree = dict[str, Any]
"""Modules by name: a tree, `"#"` for the decoder's blocks, names of parameters, or bytes of buffers for one element of
an attention head."""

Ways = str
"""A value of `device_map`: auto, balanced, balanced_low_0, sequential."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """Tensors of one kind that a module holds.

    Attributes:
        kind: their component, role and shape, as of a group of tensors.
        nbytes: bytes of all of them.
    """

    kind: Kind
    nbytes: float


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Module:
    """A module of a class, or a tensor of a module's own.

    Attributes:
        name: its full name; "" for the whole model.
        nbytes: bytes of all tensors in it, tied ones once.
        children: the modules in it, in order.
        parameters: parameters of its own, in order.
        buffers: bytes of buffers of its own.
        whole: whether its class is never split over devices.
        layer: the number of the decoder's layer that it is; None for others.
        held: what it holds itself or, where it is `whole`, in all.
        largest: bytes of the largest module in it with tensors of its own, which is brought in to run.
        tensor: whether it is a tensor.
    """

    name: str
    nbytes: float
    children: tuple[Module, ...] = ()
    parameters: tuple[Module, ...] = ()
    buffers: tuple[Module, ...] = ()
    whole: bool = False
    layer: int | None = None
    held: tuple[Held, ...] = ()
    largest: float = 0
    tensor: bool = False

    @property
    def own(self) -> float:
        """Bytes of tensors of its own."""
        return sum(one.nbytes for one in (*self.parameters, *self.buffers))

    @property
    def divisible(self) -> bool:
        """Whether it may be split over devices."""
        return bool(self.children) and not self.whole

    def walk(self) -> Iterator[Module]:
        """It, and all modules in it that are placed on their own."""
        yield self
        if not self.whole:
            for child in self.children:
                yield from child.walk()


@dataclass(frozen=True, slots=True, kw_only=True)
class Modules:
    """The modules of a class.

    Attributes:
        root: the model.
        tied: names of parameters that are one tensor.
        source: where they are from.
        exact: whether the bytes are those of the class.
    """

    root: Module
    tied: tuple[tuple[str, ...], ...] = field(default=())
    source: str
    exact: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Outline:
    """The modules of a class in the order in which they are placed, with the tensors of a model in them.

    Attributes:
        name: the class.
        modules: its modules.
        tied: names of parameters that are one tensor.
        wide: kinds of tensors that the class makes in float32, whatever the run dtype.
        outside: the group of each parameter outside of the blocks, by its name.
        inside: groups, with the number of their tensors in all blocks together.
        source: the release it is from.
    """

    name: str
    modules: Tree
    tied: tuple[tuple[str, ...], ...]
    wide: frozenset[Kind]
    outside: Mapping[str, TensorGroup]
    inside: tuple[tuple[TensorGroup, int], ...]
    source: str


@dataclass(frozen=True, slots=True, kw_only=True)
class NoOutline:
    """Modules that are not known.

    Attributes:
        missing: what is not known.
        name: the class; "" where it is not known.
    """

    missing: Unplaced
    name: str = ""


class Placer(Protocol):
    """The class itself, by whose modules Accelerate places a model."""

    def modules(self, dtype: str | None, quantised: str) -> Modules:
        """Its modules in a run dtype, quantised to a format ("" for none) while loading."""

    def placed(self, dtype: str | None, quantised: str, limits: Mapping[Device, float], way: Ways) -> dict[str, Device]:
        """Where Accelerate puts each module, within these bytes of each device."""
