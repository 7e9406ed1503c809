"""One step of training, as phases: logits and loss, the backward of each layer, the optimizer's step.

Each phase lies on top of what stays, and the peak is the largest, not the sum:

    logits      what stays + saved outside the layers + saved of all layers + head and loss
    backward i  what stays + saved outside + saved of layers before i + backward of i + gradients of layers from i on
    its end     what stays + saved outside + all gradients, of a tied embedding both that are to be summed
    optimizer   what stays + gradients + what the step makes
"""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from itertools import accumulate
from math import ceil

from hfmem.estimator.activations.sources import source_of
from hfmem.estimator.recipe.values import Training, TrainingScenario
from hfmem.estimator.training.activity import Activity, activity
from hfmem.estimator.training.outcome import facts_of
from hfmem.estimator.training.slices import Slice, slices
from hfmem.estimator.training.states import Held, gradient_bytes, held, sharded
from hfmem.estimator.training.trained import Piece, has_part, share_of_layers, trained_pieces
from hfmem.estimator.training.transients import frozen_gradients, gathered, optimizer_terms
from hfmem.estimator.values import Estimate, Group, Phase, Rank, Term
from hfmem.estimator.weights.base import base_bytes, largest_linear, nf4_bytes, replaced, untied
from hfmem.mapper.interpret import Model
from hfmem.mapper.values import Component
from hfmem.units import format_bytes

__all__ = ["estimate", "phases_of"]

_LEFT = "inputs and their gradients, which hooks of frozen FSDP units refer to"

TIED_SUMS = 0
"""Tensors for the sum of a tied embedding's two gradients: it is made in place, but under a dispatch mode."""


def estimate(model: Model, scenario: TrainingScenario) -> Estimate:
    """The estimate of the most loaded GPU at the step's peak, with all phases and all distinct GPUs."""
    training, plan = scenario.training, scenario.parallel
    if model.parameters is None:
        why = model.architecture.unknown or "neither the files nor the configuration tell how large the model is"
        groups: tuple[Group, ...] = ("weights", "activations", "gradients", "optimizer")
        return Estimate(terms=(), unknown=tuple((group, why) for group in groups))
    model = untied(model) if training.stack.untied else model
    pieces = trained_pieces(model, training)
    found = []
    unknown: list[tuple[Group, str]] = []
    if model.checkpoint.missing:
        unknown.append(("weights", f"{model.checkpoint.missing} weight files are not there"))
    for part in slices(model.architecture, training, plan):
        stays = held(model, scenario, part, pieces)
        active = activity(model, scenario, part)
        if isinstance(active, str):
            unknown = [*(item for item in unknown if item[0] != "activations"), ("activations", active)]
        phases = phases_of(model, scenario, part, pieces, stays, None if isinstance(active, str) else active)
        found.append((part, stays, phases))
    if scenario.source_seq and not source_of(scenario).counts_encoder(model, scenario):
        tokens = f"{scenario.source_seq:,} tokens"
        unknown.append(("activations", f"what is saved of the encoder's {tokens} is not measured, and not counted"))
    return _estimate(model, scenario, pieces, found, unknown)


def _estimate(
    model: Model,
    scenario: TrainingScenario,
    pieces: tuple[Piece, ...],
    found: list[tuple[Slice, Held, tuple[Phase, ...]]],
    unknown: list[tuple[Group, str]],
) -> Estimate:
    ranks = tuple(Rank(ranks=part.ranks, terms=_peak(phases).terms) for part, _, phases in found)
    worst = max(range(len(found)), key=lambda index: ranks[index].total)
    part, stays, phases = found[worst]
    return Estimate(
        terms=ranks[worst].terms,
        unknown=tuple(unknown),
        notes=_notes(model, scenario),
        phases=phases,
        peak_phase=_peak(phases).name,
        ranks=ranks if scenario.parallel.gpus > 1 else (),
        training=facts_of(model, scenario, pieces, part, stays, phases),
    )


def _peak(phases: tuple[Phase, ...]) -> Phase:
    return max(phases, key=lambda phase: phase.total)


def phases_of(  # noqa: PLR0913, PLR0917 - the parts of one step
    model: Model,
    scenario: TrainingScenario,
    part: Slice,
    pieces: tuple[Piece, ...],
    stays: Held,
    active: Activity | None,
) -> tuple[Phase, ...]:
    """The phases of one GPU. Without activations, only what is known of them."""
    training = scenario.training
    step = _Step(model, scenario, training, part, pieces, stays, active)
    return step.logits(), step.backward(), step.optimizer()


class _Step:
    """The parts that the phases of one GPU are put together from."""

    def __init__(  # noqa: PLR0913, PLR0917 - the parts of one step
        self,
        model: Model,
        scenario: TrainingScenario,
        training: Training,
        part: Slice,
        pieces: tuple[Piece, ...],
        stays: Held,
        active: Activity | None,
    ) -> None:
        self._model, self._scenario, self._training = model, scenario, training
        self._part, self._pieces, self._stays, self._active = part, pieces, stays, active
        kept = training.stack.persistent_gradients
        again = training.accumulation > 1 and not training.stack.longest_first
        self._carried = kept or again or part.plan.pp > 1
        self._from_layer = self._gradients_from()
        self._before = [0, *accumulate(active.layers)] if active is not None else []

    def logits(self) -> Phase:
        """Head and loss, while all layers still hold what they saved."""
        terms = list(self._stays.terms)
        if self._carried:
            terms += self._gradients(0, "carried over micro-batches")
        if self._active is not None:
            terms += self._saved(len(self._active.layers))
            if self._active.logits_gradients and not self._carried:
                terms.append(self._gradient(self._active.logits_gradients, "of the head, by then"))
            if self._active.logits:
                terms.append(self._term("logits and loss", self._active.logits, self._active.logits_how, logits=True))
        return self._phase("logits", [*terms, *self._casts(len(self._part_layers)), *self._gathered(backward=False)])

    def backward(self) -> Phase:
        """The backward of the layer at which it needs most, or of what is before the layers."""
        depth = len(self._part_layers)
        index = max(range(depth), key=self._at_layer, default=None)
        end = self._phase("backward", self._at_end())
        found = self._phase("backward", self._backward_of(index))
        return max(end, found, key=lambda phase: phase.total)

    def _at_end(self) -> list[Term]:
        """The end of the backward pass, where the embedding's gradient is made."""
        terms = [*self._stays.terms, *self._saved(0), *self._gradients(0, "of all trained parameters")]
        simple = self._training.zero == 0 and self._training.offload == "none"
        if not self._part.first or not simple or self._training.optimizer.one_gradient:
            return terms
        own = [piece for piece in self._pieces if piece.component == "embedding"]
        more = int(self._carried) + (1 + TIED_SUMS if self._tied else 0)
        nbytes = more * gradient_bytes(self._model, self._training, self._part, own)
        return [*terms, *self._gathered(backward=False), self._gradient(nbytes, "of the embedding, to be added")]

    @property
    def _tied(self) -> bool:
        """Whether this GPU has a head whose gradient waits for that of the embedding."""
        return self._model.architecture.tied_embeddings is True and self._part.first and self._part.last

    def _backward_of(self, index: int | None) -> list[Term]:
        terms = list(self._stays.terms)
        if index is not None:
            terms += self._gradients_by(index)
            if self._active is not None:
                terms += self._saved(index)
                how = f"layer {self._part.start + index + 1}: what it saved or computes anew, and its gradients"
                terms.append(self._term("backward of one layer", self._active.backward[index], how))
                terms.append(self._term("left by the layers done", self._active.staying[index], _LEFT))
            terms += [*self._casts(index + 1), *self._unpacked(), *self._gathered(backward=True)]
        return terms

    def _at_layer(self, index: int) -> int:
        """Bytes that change with the layer whose backward runs."""
        active = self._active
        total = 0 if self._carried else self._from_layer[index] - self._not_yet(index) + self._frozen(index)
        if active is not None:
            total += self._before[index] + active.backward[index] + active.staying[index]
        return total + sum(term.nbytes for term in self._casts(index + 1))

    def _frozen(self, index: int) -> int:
        """Gradients of frozen weights by the time of a layer's backward."""
        found = frozen_gradients(self._model, self._scenario, self._training, self._part, index)
        return sum(term.nbytes for term in found)

    def _gradients_by(self, index: int) -> list[Term]:
        """Gradients that are there at the highest moment of a layer's backward."""
        if self._carried:
            return self._gradients(0, "carried over micro-batches")
        later = self._not_yet(index)
        return [
            replace(term, nbytes=max(0, term.nbytes - later))
            for term in self._gradients(index, "of the layers done, and of this one by then", before=False)
        ]

    def _not_yet(self, index: int) -> int:
        """Gradients of a layer's parameters that its backward has not made at its highest moment."""
        known = self._active.backward_gradients if self._active is not None else None
        if known is None or self._training.optimizer.one_gradient or self._training.offload != "none":
            return 0
        after = self._from_layer[index + 1] if index + 1 < len(self._from_layer) else 0
        return max(0, self._from_layer[index] - after - known[index])

    def optimizer(self) -> Phase:
        """The optimizer's step, with every gradient there."""
        terms = [*self._stays.terms, *self._gradients(0, "of all trained parameters")]
        if self._training.zero == 0:
            terms += self._gathered(backward=False)  # the buckets of DDP are always there
        return self._phase(
            "optimizer", [*terms, *optimizer_terms(self._model, self._training, self._part, self._pieces)]
        )

    @property
    def _part_layers(self) -> range:
        return range(self._part.start, self._part.stop)

    def _phase(self, name: str, terms: list[Term]) -> Phase:
        return Phase(name=name, terms=tuple(replace(term, phase=name) for term in terms if term.nbytes))

    def _saved(self, upto: int) -> list[Term]:
        active = self._active
        if active is None:
            return []
        kept = "the inputs of" if self._training.checkpointing == "full" else "saved by"
        before = sum(active.layers[:upto])
        return [
            self._term("saved outside the layers", active.outside, active.how),
            self._term(f"{kept} {upto} layers", before, active.how),
            self._term("other micro-batches in flight", active.waiting, "1F1B: as many as stages that follow"),
        ]

    def _term(self, name: str, nbytes: int, how: str, *, logits: bool = False) -> Term:
        active = self._active
        source = "" if active is None else active.logits_source if logits else active.source
        certainty = "unknown" if active is None else active.certainty
        return Term(name=name, group="activations", nbytes=nbytes, how=how, source=source, certainty=certainty)

    def _gradients(self, first: int, what: str, *, before: bool = True) -> list[Term]:
        """Of the layers from `first` of this GPU on, of what comes after them, and of what comes before; a tied
        embedding comes after them too, as the head."""
        training, part = self._training, self._part
        if training.optimizer.one_gradient:
            largest = max((piece.kept.elements * piece.gradient for piece in self._pieces), default=0)
            return [self._gradient(largest, "one tensor at a time: the optimizer steps during backward")]
        if training.offload != "none":
            return [self._gradient(self._unit_gradient(), "of one layer: they move to the host as they are made")]
        ends = [
            piece
            for piece in self._pieces
            if piece.place == "last"
            or (piece.place == "first" and (before or (self._tied and piece.component == "embedding")))
        ]
        inside = self._from_layer[first] if self._from_layer else 0
        nbytes = gradient_bytes(self._model, training, part, ends) + inside
        return [self._gradient(nbytes, what), *frozen_gradients(self._model, self._scenario, training, part, first)]

    def _gradients_from(self) -> list[int]:
        """Gradients of the layers from each one of this GPU on."""
        architecture, part = self._model.architecture, self._part
        bytes_: dict[Component, Fraction] = {}
        for piece in self._pieces:
            if piece.place == "layers":
                held_ = part.part(architecture, piece.component, piece.place, split=piece.split)
                ranks = sharded(self._training, 2, piece.component, part)
                size = piece.elements * piece.gradient * held_ / ranks
                bytes_[piece.component] = bytes_.get(piece.component, Fraction(0)) + size
        depth = len(self._part_layers)
        totals = [0.0] * depth
        for component, size in bytes_.items():
            holders = [index for index in range(depth) if has_part(architecture, component, part.start + index)]
            for index in range(depth):
                left = sum(holder >= index for holder in holders) if holders else depth - index
                totals[index] += float(size) * left / (len(holders) or depth)
        return [ceil(total) for total in totals]

    def _unit_gradient(self) -> int:
        inside = [piece for piece in self._pieces if piece.place == "layers"]
        depth = max(1, len(self._part_layers))
        return gradient_bytes(self._model, self._training, self._part, inside, shard=False) // depth

    def _gradient(self, nbytes: int, what: str) -> Term:
        training = self._training
        width = training.precision.gradient if training.lora is None else training.adapter_bytes
        spread = f" (over {training.shard} ranks)" if training.zero >= 2 and training.shard > 1 else ""
        return Term(
            name="gradients",
            group="gradients",
            nbytes=nbytes,
            how=f"{what}, {width} B each{spread}",
            source=training.precision.source,
            certainty="derived",
        )

    def _casts(self, layers: int) -> list[Term]:
        """Copies of trained float32 weights in the compute dtype, which the graph keeps until their layer is done."""
        training = self._training
        cast = training.precision.autocast and training.precision.weights == "float32"
        if not cast or training.lora is not None or training.fsdp:  # FSDP gathers its units in the compute dtype
            return []
        architecture, part = self._model.architecture, self._part
        if training.checkpointing == "full" and layers < len(self._part_layers):
            start, layers = layers - 1, 1
        else:
            start = 0
        total = 0.0
        for piece in self._pieces:
            if piece.kept.matrix and piece.place == "layers":
                share = share_of_layers(architecture, piece.component, part.start + start, part.start + start + layers)
                total += 2 * piece.elements * float(share) / part.plan.tp
        return [
            Term(
                name="cast weights",
                group="temporary",
                nbytes=ceil(total),
                how=f"2 B an element of the matrices of {layers} layers",
                source=training.precision.source,
                certainty="derived",
            )
        ]

    def _unpacked(self) -> list[Term]:
        elements = largest_linear(self._model, replaced(self._model, self._training)) // self._part.plan.tp
        width = self._training.stack.unpacked
        return [
            Term(
                name="unpacked matrix",
                group="temporary",
                nbytes=width * elements,
                how=f"{elements:,} × {width} B: the largest NF4 matrix, to be multiplied",
                source="bitsandbytes 0.50 autograd/_functions.py, MatMul4Bit.backward",
                certainty="derived",
            )
        ]

    def _gathered(self, *, backward: bool) -> list[Term]:
        return gathered(self._model, self._scenario, self._training, self._part, self._pieces, backward=backward)


def _notes(model: Model, scenario: TrainingScenario) -> tuple[str, ...]:
    training = scenario.training
    notes = []
    longest = model.architecture.max_positions
    if longest is not None and scenario.seq > longest:
        notes.append(f"{scenario.seq:,} tokens are more than the {longest:,} the model is made for.")
    if training.precision.name == "fp16" and training.method == "full":
        notes.append("Pure float16 training is unstable and GradScaler refuses it: --precision autocast-fp16 is usual.")
    if training.optimizer.paged:
        notes.append("Paged optimizer states may move to the host's memory under pressure; they are counted here.")
    notes += _experts_note(model, scenario)
    return tuple(notes)


def _experts_note(model: Model, scenario: TrainingScenario) -> list[str]:
    """What a 4-bit base would be if experts were linear modules, which transformers 5 does not make them."""
    training = scenario.training
    if training.method != "qlora" or not training.stack.fused_experts or model.parameters is None:
        return []
    experts = [group for group in model.parameters.groups if group.loaded and group.component == "experts"]
    kept = [base_bytes(group, scenario, frozenset()) for group in experts]
    packed = sum(group.count * nf4_bytes(group.elements // group.count, training.double_quant) for group in experts)
    saved = sum(size or 0 for size in kept) - packed
    if saved <= 0:
        return []
    return [
        "bitsandbytes replaces linear modules only, and transformers 5 fuses experts into plain parameters: they stay "
        f"as they are. In NF4 they would take {format_bytes(saved)} less."
    ]
