"""The modules of a class with their bytes, from the table of outlines and the parameters of a model."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

from hfmem.engines.protocol import Engine
from hfmem.estimator.scenario import Scenario
from hfmem.estimator.split.share import owned
from hfmem.estimator.weights.kept import Kept
from hfmem.estimator.weights.loaded import code_bytes
from hfmem.mapper.interpret import Model
from hfmem.mapper.modules import Held, Kind, Module, Modules, NoOutline, Outline
from hfmem.mapper.values import Architecture, Component, TensorGroup
from hfmem.refusals.splits import DeviceMapError

__all__ = ["outlined"]

_NARROW: Final = (None, "F16", "BF16", "F32", "F64")  # stored dtypes that are cast


def outlined(engine: Engine, model: Model, scenario: Scenario) -> Modules:
    """The modules of a model, with the bytes that transformers counts for its parameters in a run.

    Raises:
        DeviceMapError: they are not known.
    """
    outline = model.outline
    if isinstance(outline, NoOutline):
        raise DeviceMapError(outline.missing, outline.name)
    kept = engine.kept(model, scenario)[0]._replace(library=False)  # what stays in float32 is not known when it places
    return _Filled(
        architecture=model.architecture, outline=outline, scenario=scenario, kept=kept, bnb=_is_bnb(model)
    ).modules()


def _is_bnb(model: Model) -> bool:
    """Whether bitsandbytes quantised the checkpoint: transformers counts none of its scales."""
    return model.quantisation is not None and model.quantisation.method == "bitsandbytes"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Filled:
    """An outline that is filled with bytes."""

    architecture: Architecture
    outline: Outline
    scenario: Scenario
    kept: Kept
    bnb: bool

    def modules(self) -> Modules:
        """The modules with their bytes."""
        outline, (blocks, exact) = self.outline, self._blocks()
        root = self._tree("", outline.modules, blocks)
        return Modules(root=root, tied=outline.tied, source=outline.source, exact=exact)

    def _tree(self, name: str, tree: Mapping[str, Any], blocks: tuple[Module, ...]) -> Module:
        prefix = f"{name}." if name else ""
        children = tuple(self._module(prefix + key, inner, blocks) for key, inner in tree.items())
        return _around(name, children)

    def _module(self, name: str, inner: Any, blocks: tuple[Module, ...]) -> Module:
        if isinstance(inner, dict):
            return self._tree(name, inner, blocks)
        if inner == "#":
            return _around(name, tuple(replace(block, name=f"{name}.{block.name}") for block in blocks))
        if isinstance(inner, list):
            groups = [group for key in inner if (group := self.outline.outside.get(f"{name}.{key}")) is not None]
            held = tuple(Held(kind=group.kind, nbytes=self._one(group)) for group in groups)
            size = sum(one.nbytes for one in held)
            return Module(name=name, nbytes=size, held=held, largest=size)
        return Module(name=name, nbytes=round(inner * (self.architecture.head_dim or 0)))

    def _one(self, group: TensorGroup) -> float:
        """Bytes of a tensor of a group.

        Raises:
            DeviceMapError: the run dtype is not known.
        """
        if self.bnb and group.scale:
            return 0
        size = code_bytes(group, self.scenario, self.kept)
        if size is not None and group.kind in self.outline.wide and group.dtype in _NARROW:
            return 4 * group.elements / group.count
        if size is None:
            raise DeviceMapError("dtype")
        return size / group.count

    def _blocks(self) -> tuple[tuple[Module, ...], bool]:
        """The blocks, named by their numbers; and whether each layer has a whole number of each tensor."""
        layers = self.architecture.layers or ()
        holdings: list[dict[Kind, float]] = [defaultdict(float) for _ in layers]
        largest: list[dict[Component, float]] = [defaultdict(float) for _ in layers]
        exact = True
        for group, count in self.outline.inside:
            owners = [index for index, layer in enumerate(layers) if owned(layer, group.component)]
            owners = owners or list(range(len(layers)))
            exact = exact and count % len(owners) == 0
            each, one = count / len(owners), self._one(group)
            for index in owners:
                holdings[index][group.kind] += one * each
                # a layer's experts are one module
                together = group.component == "experts"
                most = largest[index][group.component]
                largest[index][group.component] = most + one * each if together else max(most, one)
        blocks = tuple(
            Module(
                name=str(index),
                nbytes=sum(sizes.values()),
                whole=True,
                layer=index,
                held=tuple(Held(kind=kind, nbytes=size) for kind, size in sizes.items()),
                largest=max(largest[index].values(), default=0),
            )
            for index, sizes in enumerate(holdings)
        )
        return blocks, exact


def _around(name: str, children: tuple[Module, ...]) -> Module:
    return Module(
        name=name,
        nbytes=sum(child.nbytes for child in children),
        children=children,
        largest=max((child.largest for child in children), default=0),
    )
