"""What every engine does with its tables of formats and recipes: the largest of several ways counts; and sentences."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from hfmem.engines.protocol import Engine, Found
from hfmem.estimator.values import Group, Scenario, Term, total_of
from hfmem.estimator.weights.formats import KEPT
from hfmem.estimator.weights.loaded import weight_terms, weights_of
from hfmem.estimator.weights.loading import Loading, is_packed, plain_loadings
from hfmem.estimator.weights.quantisers import find_quantiser
from hfmem.mapper.interpret import Model
from hfmem.units import format_bytes

__all__ = ["loading_notes", "loading_weights"]


def loading_weights(
    engine: Engine,
    model: Model,
    scenario: Scenario,
    besides: Callable[[Loading], tuple[Term, ...]] = lambda _: (),
) -> Found:
    """The weights by the recipe that leaves most of what the asked word may mean.

    Args:
        engine: the engine.
        model: what one rank holds.
        scenario: what is assumed.
        besides: further terms of the engine.
    """
    found: list[tuple[tuple[Term, ...], tuple[tuple[Group, str], ...]]] = []
    for loading in engine.loadings(model, scenario):
        own, unknown = weight_terms(model, scenario, loading)
        found.append(((*own, *besides(loading)), tuple(unknown)))
    sizes = [total_of(terms) for terms, _ in found]
    terms, reasons = found[sizes.index(max(sizes))]
    return Found(terms=terms, unknown=reasons, spared=max(sizes) - min(sizes))


def loading_notes(engine: Engine, model: Model, scenario: Scenario) -> Iterator[str]:
    """What becomes of the formats: what a recipe leaves, what is unpacked or refused, and what is assumed."""
    loadings = engine.loadings(model, scenario)
    yield from _recipes(loadings, model, scenario)
    yield from _stored(engine, loadings[0], model, scenario)


def _recipes(loadings: tuple[Loading, ...], model: Model, scenario: Scenario) -> Iterator[str]:
    """The asked quantisation: by which software, what it leaves, and what packing the rest would give."""
    asked = find_quantiser(scenario.dtype or "")
    if asked is None or model.parameters is None:
        return
    first, word = loadings[0], f"--dtype {scenario.dtype}"
    if first.asked.outcome == "refused":
        yield f"{word} is refused: {first.asked.reason}."
    elif first.asked.outcome == "unpacked" or first.recipe is None:
        yield f"{word} packs nothing here: {first.asked.reason or 'no quantiser is known'}."
    groups = model.parameters.groups
    sizes = {each.recipe.name: weights_of(model, scenario, each) for each in loadings if each.recipe is not None}
    for each in loadings:
        if each.recipe is not None:
            size = f", {format_bytes(sizes[each.recipe.name])}" if len(sizes) > 1 else ""
            yield f"{word} by {each.recipe.name} leaves {each.recipe.leaves(groups)}{size} ({each.recipe.source})."
    most = weights_of(model, scenario, plain_loadings(model, scenario)[0])
    if most < 0.9 * min(sizes.values(), default=weights_of(model, scenario, first)):
        yield f"With all linear layers and experts in {scenario.dtype}, the weights would be {format_bytes(most)}."


def _stored(engine: Engine, loading: Loading, model: Model, scenario: Scenario) -> Iterator[str]:
    """The checkpoint's own packed weights."""
    own, row = model.quantisation, loading.stored
    groups = model.parameters.groups if model.parameters else ()
    if own is None or row is KEPT or not any(is_packed(group) for group in groups):
        return
    name = f"{engine.title} with the checkpoint's {own.method}"
    run = scenario.compute_dtype or "the run dtype"
    if row.outcome == "refused":
        yield f"{name}: refused, {row.reason} ({row.source})."
    elif row.outcome == "unpacked":
        yield f"{name}: {row.reason}; the weights are in {run} ({row.source})."
    elif loading.assumed or row.reason:
        unpacked = format_bytes(weights_of(model, scenario, loading.unpacked()))
        kept = f"kept as stored{' ' if row.reason else ''}{row.reason}"
        yield f"{name}: {kept}; where it is not, the weights are {unpacked} in {run} ({row.source})."
