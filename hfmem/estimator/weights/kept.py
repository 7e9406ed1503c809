"""How an engine holds a model's weights: which are quantised while loading, and whether packed ones are unpacked."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import TYPE_CHECKING, Final, NamedTuple

from hfmem.dtypes import stored_dtype
from hfmem.estimator.scenario import Scenario
from hfmem.estimator.weights.formats import AS_STORED, FormatRow, hardware_of, row_of
from hfmem.estimator.weights.quantisers import Quantiser, find_quantiser
from hfmem.estimator.weights.recipes import Recipe, everything, fitting
from hfmem.mapper.interpret import Model
from hfmem.mapper.values import Quantisation, TensorGroup

if TYPE_CHECKING:  # most runs name no accelerator
    from hfmem.hardware.values import Accelerator

__all__ = ["PLAIN", "Kept", "as_held", "as_plain", "is_packed", "kept_by", "kept_plainly", "stored_row"]


class Kept(NamedTuple):
    """One way to hold a model's weights.

    Attributes:
        recipe: how floating-point weights are quantised; None if they are not.
        asked: the format row for the requested quantisation on the hardware.
        stored: the format row for the checkpoint's own packed weights.
        assumed: whether hardware that keeps them packed was assumed, while other hardware would unpack them.
        biased: modules that have a bias, by component and name.
        library: whether transformers loads them, which keeps what a class lists in float32 (`TensorGroup.full_in`).
        rewritten: whether the recipe is that of an offline tool, which unpacks a quantised checkpoint and quantises it
            again.
    """

    recipe: Recipe | None = None
    asked: FormatRow = AS_STORED
    stored: FormatRow = AS_STORED
    assumed: bool = False
    biased: frozenset[tuple[str, str]] = frozenset()
    rewritten: bool = False
    library: bool = False

    @property
    def refused(self) -> str:
        """Why the engine does not run it on this hardware; "" where it does."""
        return next((row.reason for row in (self.stored, self.asked) if row.outcome == "refused"), "")

    @property
    def written(self) -> bool:
        """Whether the weights are those of a new checkpoint that an offline tool writes."""
        return self.recipe is not None and not self.recipe.loads

    def quantiser(self, group: TensorGroup) -> Quantiser | None:
        """How floating-point or unpacked tensors are quantised; None if they are not."""
        if self.recipe is None:
            return None
        return self.recipe.quantiser(group, (group.component, group.module) in self.biased)

    def unpacks(self, group: TensorGroup) -> bool:
        """Whether packed tensors are unpacked to the compute dtype (from which a recipe may quantise them again)."""
        if self.rewritten:
            return is_packed(group)
        return self.stored.outcome == "unpacked" and is_packed(group) and group.component not in self.stored.stays

    def drops(self, group: TensorGroup) -> bool:
        """Whether a group of scales is dropped, because its packed tensors are unpacked."""
        stored = self.stored
        if self.rewritten:
            return group.scale
        return (
            group.scale
            and stored.outcome == "unpacked"
            and not stored.scales_stay
            and group.component not in stored.stays
        )

    def unpacked(self) -> Kept:
        """The weights on hardware that unpacks them."""
        return self._replace(recipe=None, rewritten=False, stored=UNPACKED)


PLAIN: Final = Kept()
"""Packed weights as stored, floating-point ones in the run dtype."""

UNPACKED: Final = FormatRow(methods=(), outcome="unpacked", source="")


def is_packed(group: TensorGroup) -> bool:
    """Whether a group holds parameters in a format below 16 bits."""
    dtype = stored_dtype(group.dtype) if group.dtype else None
    return dtype is not None and not dtype.is_wide_float and not group.scale and group.parameters > 0


def as_plain(group: TensorGroup) -> TensorGroup:
    """Packed tensors with the shape of the matrices that they encode."""
    *rest, inputs = group.shape or (1,)
    if len(rest) > 2:  # blocks of a row
        inputs *= rest.pop()
    inputs *= max(1, group.parameters // max(1, group.elements))
    return replace(group, shape=(*rest, inputs), linear=bool(rest) and group.component != "embedding")


def as_held(model: Model, row: FormatRow) -> Model:
    """The model with the weights that a row unpacks replaced by plain ones in the run dtype."""
    table = model.parameters
    if row.outcome != "unpacked" or table is None:
        return model
    kept = Kept(stored=row)
    groups = (
        replace(as_plain(group), dtype=None, stored_bytes=None, kept=False) if kept.unpacks(group) else group
        for group in table.groups
        if not kept.drops(group)
    )
    return replace(model, parameters=replace(table, groups=tuple(groups)))


def stored_row(model: Model, gpu: Accelerator | None, rows: Iterable[FormatRow]) -> FormatRow:
    """The format row that applies to the checkpoint's own packed weights."""
    own, biased = model.quantisation, _biased_experts(model)
    if own is None or not own.method:
        return AS_STORED
    return row_of([row for row in rows if row.speaks_of(own.method, own.scheme, biased_experts=biased)], gpu)


def kept_plainly(model: Model, scenario: Scenario) -> tuple[Kept, ...]:
    """The weights under an engine without rules of its own: a quantiser packs all linear layers."""
    asked = find_quantiser(scenario.dtype or "")
    if asked is None:
        return (PLAIN,)
    recipe = Recipe(name=asked.name, dtype=asked.name, packs=everything(asked.name), source=asked.source)
    packed = model.parameters is not None and any(is_packed(group) for group in model.parameters.groups)
    return (Kept(recipe=recipe, biased=_biased(model), rewritten=packed),)


def kept_by(
    model: Model, scenario: Scenario, recipes: Iterable[Recipe], rows: Iterable[FormatRow], another: FormatRow
) -> tuple[Kept, ...]:
    """The weights under an engine's tables: one result per recipe that `--dtype` may stand for, at least one.

    Args:
        model: the model.
        scenario: the scenario.
        recipes: recipes of the engine, and of offline tools whose checkpoints it reads.
        rows: the engine's format rows.
        another: the row for a requested quantisation that the engine cannot apply to a quantised checkpoint.
    """
    table = list(rows)
    own, gpu, modules = model.quantisation, scenario.gpu, _biased(model)
    biased = _biased_experts(model)
    about = [
        row for row in table if own and own.method and row.speaks_of(own.method, own.scheme, biased_experts=biased)
    ]
    known = gpu is not None and hardware_of(gpu) is not None
    kept = Kept(
        stored=row_of(about, gpu),
        assumed=not known and any(row.outcome == "unpacked" for row in about),
        biased=modules,
    )
    asked = find_quantiser(scenario.dtype or "")
    if asked is None or model.parameters is None:
        return (kept,)
    online = [row for row in table if row.speaks_of(f"--dtype {asked.name}", "", biased_experts=biased)]
    row = row_of(online, gpu)
    found = fitting(recipes, asked.name, scenario.word, model.parameters.groups, conv1d=model.architecture.conv1d)
    if any(is_packed(group) for group in model.parameters.groups):
        return _over(kept._replace(asked=row), asked.name, found, another, own)
    if row.outcome == "unpacked" or not found:
        return (kept._replace(asked=row),)
    return tuple(kept._replace(asked=row, recipe=recipe) for recipe in found)


def _over(
    kept: Kept, asked: str, recipes: Iterable[Recipe], another: FormatRow, own: Quantisation | None
) -> tuple[Kept, ...]:
    """A quantisation requested for a quantised checkpoint: no change if it is the checkpoint's own, else a new
    checkpoint by an offline tool."""
    if own is not None and asked in (own.scheme, own.method):
        return (kept._replace(asked=AS_STORED),)
    written = [recipe for recipe in recipes if not recipe.loads]
    if not written:
        return (kept._replace(asked=another),)
    return tuple(kept._replace(stored=AS_STORED, recipe=recipe, rewritten=True) for recipe in written)


def _biased_experts(model: Model) -> bool:
    return any(component == "experts" for component, _ in _biased(model))


def _biased(model: Model) -> frozenset[tuple[str, str]]:
    groups = model.parameters.groups if model.parameters else ()
    return frozenset((group.component, group.module) for group in groups if group.bias)
