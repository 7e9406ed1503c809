"""Parameter gradients on one GPU at each moment of a step."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable
from dataclasses import dataclass, replace
from fractions import Fraction
from math import ceil

from hfmem.estimator.activations.source import TrainingEncoder
from hfmem.estimator.split.share import owned
from hfmem.estimator.training.gpu import Gpu
from hfmem.estimator.training.states import gradient_bytes
from hfmem.estimator.training.trained import Piece
from hfmem.estimator.training.transients import frozen_gradients, frozen_unit, unit_gradient
from hfmem.estimator.values import Term
from hfmem.mapper.values import Component

__all__ = ["Gradients", "gradients_of"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Gradients:
    """The gradients of one GPU.

    Attributes:
        gpu: the GPU.
        from_layer: for each layer of this GPU, bytes of the gradients of it and all later layers.
        frozen: bytes of the weights of an FSDP unit that mixes frozen weights and adapters; None where none does.
        made: per layer of the model, bytes of gradients that exist at the peak of its backward; None: all of them.
        encoder: bytes of the gradients of all layers of an encoder, which are in no entry of `from_layer`.
    """

    gpu: Gpu
    from_layer: tuple[int, ...]
    frozen: int | None
    made: tuple[int, ...] | None
    encoder: int = 0

    @property
    def carried(self) -> bool:
        """Whether gradients exist already when a forward pass begins."""
        training = self.gpu.training
        # if the longest micro-batch comes first, the peak is in the first forward pass, before any gradient exists
        again = training.accumulation > 1 and not training.stack.longest_first
        return training.stack.persistent_gradients or again or self.gpu.plan.pp > 1

    @property
    def tied(self) -> bool:
        """Whether this GPU has a tied head, whose gradient waits to be summed with the embedding's."""
        stage = self.gpu.stage
        return self.gpu.architecture.tied_embeddings is True and stage.first and stage.last

    @property
    def added(self) -> int:
        """Tensors like a tied embedding's gradient that are alive while it is added to the head's, which arrived first.

        Autograd adds to the first in place, unless that is a view (`can_accumulate_inplace` of PyTorch 2.13's
        torch/csrc/autograd/input_buffer.cpp). What a linear module returns is one (the transpose of a product), so the
        sum is a third tensor; the autograd function of a fused head returns a tensor of its own, and so does the cast
        of a gradient that autocast computes.
        """
        if not self.tied:
            return 0
        training = self.gpu.training
        cast = training.precision.autocast and training.precision.weights == "float32" and not training.fsdp
        return 1 if training.fused_head or cast else 2

    def carried_terms(self) -> list[Term]:
        """The gradients of earlier micro-batches."""
        return self.terms(0, "carried over micro-batches")

    def all_terms(self) -> list[Term]:
        """All gradients, at the end of the backward pass."""
        return self.terms(0, "of all trained parameters")

    def decoder_terms(self) -> list[Term]:
        """The gradients at the end of a decoder's backward pass, before that of its encoder."""
        return self.carried_terms() if self.carried else self.terms(0, "of the decoder", before=False)

    def by(self, index: int) -> list[Term]:
        """The gradients that exist at the peak of a layer's backward."""
        if self.carried:
            return self.carried_terms()
        later = self._not_yet(index)
        found = self.terms(index, "of the layers done, and of this one so far", before=False)
        return [replace(term, nbytes=max(0, term.nbytes - later)) for term in found]

    def in_encoder(self, index: int, encoder: TrainingEncoder) -> list[Term]:
        """The gradients that exist at the peak of the backward of a layer of the encoder: those of the decoder too."""
        if self.carried:
            return self.carried_terms()
        each = self.encoder // encoder.layers
        made = each if encoder.backward_gradients is None else min(each, encoder.backward_gradients)
        first, *others = self.terms(0, "of the decoder, and of the encoder's layers done", before=False)
        simple = not self.gpu.training.optimizer.one_gradient and self.gpu.training.offload == "none"
        done = (encoder.layers - index - 1) * each + made if simple else 0
        return [replace(first, nbytes=first.nbytes + done), *others]

    def at_layer(self, index: int) -> int:
        """The part of the gradients' bytes that depends on which layer's backward runs."""
        if self.carried:
            return 0
        frozen = sum(term.nbytes for term in frozen_gradients(self.gpu, self.frozen, index))
        return self.from_layer[index] - self._not_yet(index) + frozen

    def _not_yet(self, index: int) -> int:
        """Bytes of a layer's parameter gradients that do not exist yet at the peak of its backward."""
        training = self.gpu.training
        # with one_gradient and with offloading, gradients do not accumulate over layers anyway
        if self.made is None or training.optimizer.one_gradient or training.offload != "none":
            return 0
        after = self.from_layer[index + 1] if index + 1 < len(self.from_layer) else 0
        return max(0, self.from_layer[index] - after - self.made[index])

    def terms(self, first: int, what: str, *, before: bool = True) -> list[Term]:
        """Gradients of this GPU's layers from `first` on, of what follows the layers, and, with `before`, of what
        precedes them. A tied embedding follows them too, as the head."""
        gpu, training = self.gpu, self.gpu.training
        if training.optimizer.one_gradient:
            largest = max((piece.kept.elements * piece.gradient for piece in gpu.pieces), default=0)
            return [self.term(largest, "one tensor at a time: the optimizer steps during backward")]
        if training.offload != "none":
            return [self.term(unit_gradient(gpu), "of one layer: gradients are moved to the host as they are computed")]
        ends = [piece for piece in gpu.pieces if self._outside(piece, before=before)]
        inside = (self.from_layer[first] if self.from_layer else 0) + (self.encoder if before else 0)
        return [self.term(gradient_bytes(gpu, ends) + inside, what), *frozen_gradients(gpu, self.frozen, first)]

    def _outside(self, piece: Piece, *, before: bool) -> bool:
        """Whether a piece follows the layers or, with `before`, precedes them."""
        late = before or (self.tied and piece.component == "embedding")
        return piece.place == "after" or (piece.place == "before" and late)

    def term(self, nbytes: int, what: str) -> Term:
        """A term of gradients."""
        training = self.gpu.training
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


def gradients_of(gpu: Gpu, made: tuple[int, ...] | None, encoder: TrainingEncoder | None = None) -> Gradients:
    """The gradients of one GPU; `made` as in `Gradients`."""
    elements, share = sum(piece.elements for piece in gpu.inside), Fraction(0)
    if encoder is not None and elements:
        share = min(Fraction(1), Fraction(encoder.layers * encoder.trained, elements))
    whole = _from_layers(gpu, gpu.inside)
    return Gradients(
        gpu=gpu,
        from_layer=tuple(ceil(size * (1 - share)) for size in whole) if share else whole,
        frozen=frozen_unit(gpu),
        made=made,
        encoder=ceil(whole[0] * share) if whole else 0,
    )


def _from_layers(gpu: Gpu, pieces: Iterable[Piece]) -> tuple[int, ...]:
    """For each layer of this GPU, bytes of the gradients of it and all later layers. A component's gradients are spread
    evenly over the layers that have the component."""
    sizes: dict[Component, Fraction] = {}
    for piece in pieces:
        size = piece.elements * piece.gradient * gpu.share(piece, 2)
        sizes[piece.component] = sizes.get(piece.component, Fraction(0)) + size
    depth = gpu.stage.depth
    layers = (gpu.architecture.layers or ())[gpu.stage.start : gpu.stage.end]
    totals = [0.0] * depth
    for component, size in sizes.items():
        # a component that no layer is known to have: evenly over all layers
        holders = [index for index, layer in enumerate(layers) if owned(layer, component)] or list(range(depth))
        for index in range(depth):
            left = len(holders) - bisect_left(holders, index)
            totals[index] += float(size) * left / len(holders)
    return tuple(ceil(total) for total in totals)
