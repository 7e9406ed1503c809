"""Shared by engines: weights from their tables of formats and recipes, and remarks on them. Where several recipes may
apply, the largest result counts."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from hfmem.engines.protocol import Engine, Found
from hfmem.estimator.scenario import Scenario
from hfmem.estimator.values import Group, Term, total_of
from hfmem.estimator.weights.formats import AS_STORED, FormatRow
from hfmem.estimator.weights.kept import Kept, is_packed, kept_plainly
from hfmem.estimator.weights.loaded import weight_terms, weights_of
from hfmem.estimator.weights.quantisers import find_quantiser
from hfmem.estimator.weights.recipes import Recipe
from hfmem.mapper.interpret import Model
from hfmem.mapper.values import TensorGroup
from hfmem.options.otherwise import Detail
from hfmem.units import format_bytes

__all__ = ["kept_notes", "kept_weights", "trained_notes"]


def kept_weights(
    engine: Engine,
    model: Model,
    scenario: Scenario,
    besides: Callable[[Kept], tuple[Term, ...]] = lambda _: (),
) -> Found:
    """The weights with the largest of the recipes that the requested `--dtype` may stand for.

    Args:
        engine: the engine.
        model: the part of the model on one rank.
        scenario: the scenario.
        besides: further terms of the engine.
    """
    found: list[tuple[tuple[Term, ...], tuple[tuple[Group, str], ...]]] = []
    for kept in engine.kept(model, scenario):
        own, unknown = weight_terms(model, scenario, kept)
        found.append(((*own, *besides(kept)), tuple(unknown)))
    sizes = [total_of(terms) for terms, _ in found]
    # the user does not say which tool quantises, and the largest result is safe for all of them
    terms, reasons = found[sizes.index(max(sizes))]
    return Found(terms=terms, unknown=reasons, spared=max(sizes) - min(sizes))


def kept_notes(engine: Engine, model: Model, scenario: Scenario) -> Iterator[str]:
    """Remarks on number formats: what recipes skip, what is unpacked or refused, and what is assumed."""
    kept = engine.kept(model, scenario)
    yield from _recipes(kept, model, scenario)
    yield from _stored(engine, kept[0], model, scenario)


def trained_notes(engine: Engine, row: FormatRow, model: Model, scenario: Scenario) -> Iterator[str]:
    """Remarks on a checkpoint's packed weights in training."""
    yield from _stored(engine, Kept(stored=row), model, scenario)


def _recipes(kept: tuple[Kept, ...], model: Model, scenario: Scenario) -> Iterator[str]:
    """Remarks on the requested quantisation: the software, what it skips, and the size if it skipped nothing."""
    asked = find_quantiser(scenario.dtype or "")
    if asked is None or model.parameters is None:
        return
    first, word = kept[0], f"--dtype {scenario.dtype}"
    if first.asked.outcome == "refused":
        yield f"{word} is refused: {first.asked.reason} ({first.asked.source})."
    elif first.recipe is None and first.asked is AS_STORED and model.quantisation is not None:
        yield f"{word} quantises nothing here: the checkpoint is already {model.quantisation.scheme}."
    elif first.asked.outcome == "unpacked" or first.recipe is None:
        yield f"{word} quantises nothing here: {first.asked.reason or 'no quantiser is known'}."
    groups = model.parameters.groups
    sizes = {each.recipe: weights_of(model, scenario, each) for each in kept if each.recipe is not None}
    anew = "requantises the packed weights of the checkpoint and " if first.rewritten else ""
    for (left, size), recipes in _alike(sizes, groups).items():
        by = " or ".join(recipe.name for recipe in recipes)
        each = f", {format_bytes(size)}" if len(set(sizes.values())) > 1 else ""
        sources = "; ".join(dict.fromkeys(recipe.source for recipe in recipes))
        yield f"{word} with {by} {anew}leaves unquantised: {left}{each}."
        yield Detail(f"What {by} leaves unquantised: {sources}.")
    # worth a remark only where skipped modules make a difference of more than 10 %
    most = weights_of(model, scenario, kept_plainly(model, scenario)[0])
    if most < 0.9 * min(sizes.values(), default=weights_of(model, scenario, first)):
        yield f"With all linear layers and experts in {scenario.dtype}, the weights would be {format_bytes(most)}."


def _alike(sizes: dict[Recipe, int], groups: tuple[TensorGroup, ...]) -> dict[tuple[str, int], list[Recipe]]:
    """Recipes grouped by the parts that they skip and by their size, so that one sentence covers each group."""
    found: dict[tuple[str, int], list[Recipe]] = {}
    for recipe, size in sizes.items():
        found.setdefault((recipe.leaves(groups), size), []).append(recipe)
    return found


def _stored(engine: Engine, kept: Kept, model: Model, scenario: Scenario) -> Iterator[str]:
    """Remarks on the checkpoint's own packed weights."""
    own, row = model.quantisation, kept.stored
    groups = model.parameters.groups if model.parameters else ()
    if own is None or row is AS_STORED or not any(is_packed(group) for group in groups):
        return
    name = f"{engine.title} with the checkpoint's {own.method}"
    run = scenario.compute_dtype or "the run dtype"
    if row.outcome == "refused":
        yield f"{name}: refused, {row.reason} ({row.source})."
    elif row.outcome == "unpacked":
        yield f"{name}: {row.reason}; the weights are in {run} ({row.source})."
    elif kept.assumed or row.reason:
        unpacked = format_bytes(weights_of(model, scenario, kept.unpacked()))
        where = f" {row.reason}" if row.reason else ""
        yield f"{name}: kept as stored{where}; otherwise the weights are {unpacked} in {run} ({row.source})."
