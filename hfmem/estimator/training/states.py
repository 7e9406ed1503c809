"""What a training run holds on one GPU whatever the moment: weights, their copies, optimizer states, overheads."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from math import ceil

from hfmem.estimator.overheads import overhead_terms
from hfmem.estimator.training.base import NF4_SOURCE, base_bytes, replaced
from hfmem.estimator.training.slices import Slice
from hfmem.estimator.training.trained import Piece, place_of
from hfmem.estimator.training.values import Training
from hfmem.estimator.values import Scenario, Term, total_of
from hfmem.mapper.interpret import Model
from hfmem.mapper.values import Component, component_order

__all__ = ["Held", "gradient_bytes", "held", "sharded"]

_ZERO = "ZeRO, arXiv 1910.02054, 3: each rank keeps its share"


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """What stays on one GPU, and the bytes of it that live in the host's memory instead."""

    terms: tuple[Term, ...]
    host: int


def sharded(training: Training, stage: int, component: Component, part: Slice) -> int:
    """Over how many ranks something is spread that ZeRO shares from `stage` on."""
    if training.zero < stage:
        return 1
    if component == "experts" and part.plan.ep > 1:  # replicas of an expert are fewer
        return max(1, training.shard * part.plan.tp // part.plan.ep)
    return training.shard


def held(model: Model, scenario: Scenario, part: Slice, pieces: Iterable[Piece]) -> Held:
    """The terms of one GPU. Nothing here depends on the phase."""
    training = scenario.training
    if training is None or model.parameters is None:
        return Held(terms=(), host=0)
    pieces = tuple(pieces)
    weights = [*_weights(model, scenario, training, part), *_adapters(model, training, part, pieces)]
    weights += _fp8(model, training, part, pieces)
    master, optimizer = _master(model, training, part, pieces), _optimizer(model, training, part, pieces)
    host = 0
    if training.offload == "parameters":
        host += total_of(weights)
        weights = []
    if training.offload != "none":
        host += total_of(master) + total_of(optimizer)
        master, optimizer = [], []
    return Held(terms=(*weights, *master, *optimizer, *_overhead(scenario, part)), host=host)


def gradient_bytes(
    model: Model, training: Training, part: Slice, pieces: Iterable[Piece], *, shard: bool = True
) -> int:
    """Gradients of some pieces on one GPU; all of a tensor where they are not sharded yet."""
    total = Fraction(0)
    for piece in pieces:
        share = part.part(model.architecture, piece.component, piece.place, split=piece.split)
        ranks = sharded(training, 2, piece.component, part) if shard else 1
        total += piece.elements * piece.gradient * share / ranks
    return ceil(total)


def _weights(model: Model, scenario: Scenario, training: Training, part: Slice) -> Iterator[Term]:
    nf4 = replaced(model, training)
    sums: dict[tuple[Component, bool], list[Fraction]] = {}
    for group in model.parameters.groups if model.parameters else ():
        nbytes = base_bytes(group, scenario, nf4) if group.loaded and group.elements else None
        if nbytes is None:
            continue
        share = part.part(
            model.architecture,
            group.component,
            place_of(group.component),
            split=group.linear or group.component in ("embedding", "lm_head"),
        )
        ranks = sharded(training, 3, group.component, part)
        scales = nbytes - -(-group.elements // 2) if id(group) in nf4 and training.fsdp else 0
        entry = sums.setdefault((group.component, id(group) in nf4), [Fraction(0), Fraction(0)])
        entry[0] += (nbytes - scales) * share / ranks + scales * share  # FSDP shards parameters, which scales are not
        entry[1] += group.elements * share / ranks
    for component, quantised in sorted(sums, key=lambda key: component_order(key[0])):
        nbytes_, elements = sums[component, quantised]
        if not nbytes_:
            continue
        bits = f"{float(nbytes_ * 8 / elements):.3f} bits" if quantised else f"{float(nbytes_ / elements):.4g} B"
        yield Term(
            name=f"{component} (nf4)" if quantised else component,
            group="weights",
            nbytes=ceil(nbytes_),
            how=f"{ceil(elements):,} × {bits}{_spread(training, 3)}",
            source=NF4_SOURCE if quantised else model.source,
            certainty="derived" if quantised else model.certainty,
        )


def _fp8(model: Model, training: Training, part: Slice, pieces: tuple[Piece, ...]) -> Iterator[Term]:
    """The copies that Transformer Engine multiplies with, as they are and transposed, kept between micro-batches."""
    matrices = tuple(piece for piece in pieces if piece.kept.matrix)
    if training.precision.fp8 and matrices:
        elements = _elements(model, training, part, matrices, 3)
        yield Term(
            name="FP8 copies",
            group="weights",
            nbytes=ceil(2 * elements),
            how=f"{ceil(elements):,} × 2 × 1 B",
            source=training.precision.source,
            certainty="typical",
        )


def _adapters(model: Model, training: Training, part: Slice, pieces: tuple[Piece, ...]) -> Iterator[Term]:
    own = tuple(piece for piece in pieces if piece.adapter)
    if own:
        elements = _elements(model, training, part, own, 3)
        yield Term(
            name="adapters",
            group="weights",
            nbytes=ceil(elements * training.adapter_bytes),
            how=f"{ceil(elements):,} × {training.adapter_bytes} B{_spread(training, 3)}",
            source="peft 0.21: rank × (inputs + outputs) a module; autocast_adapter_dtype keeps them in float32",
            certainty="derived",
        )


def _master(model: Model, training: Training, part: Slice, pieces: tuple[Piece, ...]) -> list[Term]:
    elements = _elements(model, training, part, (piece for piece in pieces if piece.master), 1)
    if not elements:
        return []
    width = training.precision.master
    return [
        Term(
            name="float32 weights",
            group="master_weights",
            nbytes=ceil(elements * width),
            how=f"{ceil(elements):,} × {width} B{_spread(training, 1)}",
            source=training.precision.source,
            certainty="derived",
        )
    ]


def _optimizer(model: Model, training: Training, part: Slice, pieces: tuple[Piece, ...]) -> list[Term]:
    total = Fraction(0)
    for piece in pieces:
        share = part.part(model.architecture, piece.component, piece.place, split=piece.split)
        ranks = sharded(training, 1, piece.component, part)
        total += training.optimizer.states(piece.kept) * piece.count * share / ranks
    total += training.optimizer.once if pieces else 0
    if not total:
        return []
    elements = sum(piece.elements for piece in pieces)
    return [
        Term(
            name=f"{training.optimizer.name} states",
            group="optimizer",
            nbytes=ceil(total),
            how=f"{training.optimizer.describe}, of {elements:,} trained parameters{_spread(training, 1)}",
            source=training.optimizer.source,
            certainty="derived",
        )
    ]


def _elements(model: Model, training: Training, part: Slice, pieces: Iterable[Piece], stage: int) -> Fraction:
    total = Fraction(0)
    for piece in pieces:
        share = part.part(model.architecture, piece.component, piece.place, split=piece.split)
        total += piece.elements * share / sharded(training, stage, piece.component, part)
    return total


def _spread(training: Training, stage: int) -> str:
    return f" (over {training.shard} ranks)" if training.zero >= stage and training.shard > 1 else ""


def _overhead(scenario: Scenario, part: Slice) -> Iterator[Term]:
    training = scenario.training
    for term in overhead_terms("transformers", scenario.gpu, part.plan):
        if "workspace" not in term.name or training is None:
            yield term
            continue
        threads = training.stack.workspaces
        yield Term(
            name=term.name,
            group="overhead",
            nbytes=threads * term.nbytes,
            how=f"{threads} threads (forward, autograd) × {term.how}",
            source=term.source,
            certainty=term.certainty,
        )
