"""Resident memory of a training run on one GPU: weights, master weights, optimizer states, overheads."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from fractions import Fraction
from math import ceil

from hfmem.estimator.overheads import overhead_terms
from hfmem.estimator.training.generation import server_share
from hfmem.estimator.training.gpu import Gpu
from hfmem.estimator.training.reference import reference_weights
from hfmem.estimator.training.trained import Piece
from hfmem.estimator.training.virtual import held_elements
from hfmem.estimator.values import Term
from hfmem.estimator.weights.base import base_bytes, replaced
from hfmem.estimator.weights.nf4 import NF4_SOURCE
from hfmem.mapper.values import Component, component_order

__all__ = ["Held", "gradient_bytes", "held"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """Resident terms on one GPU, and those offloaded to host memory."""

    terms: tuple[Term, ...]
    host: tuple[Term, ...] = ()


def held(gpu: Gpu) -> Held:
    """The resident terms of one GPU, the same in every phase."""
    if gpu.model.parameters is None:
        return Held(terms=())
    weights = [*_weights(gpu), *_adapters(gpu), *_fp8(gpu)]
    weights += reference_weights(gpu, tuple(weights))
    master, optimizer = _master(gpu), _optimizer(gpu)
    host: list[Term] = []
    offload = gpu.training.offload
    if offload == "parameters":
        host += weights
        weights = []
    if offload != "none":
        host += [*master, *optimizer]
        master, optimizer = [], []
    tuning, share = gpu.training.tuning, server_share(gpu)
    kept = [share] if share is not None and tuning is not None and not tuning.sleeps else []
    return Held(terms=(*weights, *master, *optimizer, *_overhead(gpu), *kept), host=tuple(host))


def gradient_bytes(gpu: Gpu, pieces: Iterable[Piece], *, shard: bool = True) -> int:
    """Bytes of the gradients of some pieces on one GPU; before ZeRO's sharding with `shard=False`."""
    zero = 2 if shard else None
    return ceil(sum((piece.elements * piece.gradient * gpu.share(piece, zero) for piece in pieces), Fraction(0)))


def _weights(gpu: Gpu) -> Iterator[Term]:
    model, training = gpu.model, gpu.training
    nf4 = replaced(model, training)
    sums: dict[tuple[Component, bool], list[Fraction]] = {}
    for group in model.parameters.groups if model.parameters else ():
        nbytes = base_bytes(group, gpu.scenario, nf4) if group.loaded and group.elements else None
        if nbytes is None:
            continue
        share = gpu.share(group)
        sharded = share / gpu.over(group.component, 3)
        # NF4 packs two elements per byte; the rest of the bytes are quantisation scales
        scales = nbytes - -(-group.elements // 2) if id(group) in nf4 and training.fsdp else 0
        entry = sums.setdefault((group.component, id(group) in nf4), [Fraction(0), Fraction(0)])
        entry[0] += (nbytes - scales) * sharded + scales * share  # FSDP shards parameters; NF4 scales are none
        entry[1] += group.elements * sharded
    for component, quantised in sorted(sums, key=lambda key: component_order(key[0])):
        nbytes_, elements = sums[component, quantised]
        if not nbytes_:
            continue
        bits = f"{float(nbytes_ * 8 / elements):.3f} bits" if quantised else f"{float(nbytes_ / elements):.4g} B"
        yield Term(
            name=f"{component} (nf4)" if quantised else component,
            group="weights",
            nbytes=ceil(nbytes_),
            how=f"{ceil(elements):,} × {bits}{_spread(gpu, 3)}",
            source=NF4_SOURCE if quantised else model.source,
            certainty="derived" if quantised else model.certainty,
        )


def _fp8(gpu: Gpu) -> Iterator[Term]:
    """Transformer Engine's FP8 weight copies, one of them transposed, which are cached between micro-batches."""
    matrices = tuple(piece for piece in gpu.pieces if piece.kept.matrix)
    if gpu.training.precision.fp8 and matrices:
        elements = _elements(gpu, matrices, 3)
        yield Term(
            name="FP8 copies",
            group="weights",
            nbytes=ceil(2 * elements),
            how=f"{ceil(elements):,} × 2 × 1 B",
            source=gpu.training.precision.source,
            certainty="typical",
        )


def _adapters(gpu: Gpu) -> Iterator[Term]:
    own = tuple(piece for piece in gpu.pieces if piece.adapter)
    if own:
        elements, width = _elements(gpu, own, 3), gpu.training.adapter_bytes
        yield Term(
            name="adapters",
            group="weights",
            nbytes=ceil(elements * width),
            how=f"{ceil(elements):,} × {width} B{_spread(gpu, 3)}",
            source="peft 0.21: rank × (inputs + outputs) a module; autocast_adapter_dtype keeps them in float32",
            certainty="derived",
        )

    lora = gpu.training.lora
    frozen = held_elements(gpu.model, lora) if lora is not None else 0
    if lora is not None and lora.method is not None and frozen:
        yield Term(
            name="frozen parts of adapters",
            group="weights",
            nbytes=4 * frozen,
            how=f"{frozen:,} × 4 B",
            source=lora.method.source,
            certainty="derived",
        )


def _master(gpu: Gpu) -> list[Term]:
    elements = _elements(gpu, (piece for piece in gpu.pieces if piece.master), 1)
    if not elements:
        return []
    width = gpu.training.precision.master
    return [
        Term(
            name="float32 weights",
            group="master_weights",
            nbytes=ceil(elements * width),
            how=f"{ceil(elements):,} × {width} B{_spread(gpu, 1)}",
            source=gpu.training.precision.source,
            certainty="derived",
        )
    ]


def _optimizer(gpu: Gpu) -> list[Term]:
    training, total = gpu.training, Fraction(0)
    for piece in gpu.pieces:
        total += training.optimizer.states(piece.kept) * piece.count * gpu.share(piece, 1)
    # `once` is not sharded: every rank has its own quantisation maps
    total += training.optimizer.once if gpu.pieces else 0
    if not total:
        return []
    elements = sum(piece.elements for piece in gpu.pieces)
    return [
        Term(
            name=f"{training.optimizer.name} states",
            group="optimizer",
            nbytes=ceil(total),
            how=f"{training.optimizer.describe}, of {elements:,} trained parameters{_spread(gpu, 1)}",
            source=training.optimizer.source,
            certainty="derived",
            kind="managed" if training.optimizer.paged else None,
        )
    ]


def _elements(gpu: Gpu, pieces: Iterable[Piece], zero: int) -> Fraction:
    return sum((piece.elements * gpu.share(piece, zero) for piece in pieces), Fraction(0))


def _spread(gpu: Gpu, zero: int) -> str:
    """The suffix of a term's arithmetic for tensors that are sharded from a ZeRO stage on."""
    training = gpu.training
    return f" (over {training.shard} ranks)" if training.zero >= zero and training.shard > 1 else ""


def _overhead(gpu: Gpu) -> Iterator[Term]:
    for term in overhead_terms(gpu.scenario.gpu, gpu.plan):
        if term.kind != "workspace":
            yield term
            continue
        threads = gpu.training.stack.workspaces
        how = f"{threads} threads (forward, autograd) × {term.how}"
        yield replace(term, nbytes=threads * term.nbytes, how=how)
