"""The phases of a training step: logits and loss, the backward of each layer, the optimizer step.

Each phase includes resident memory, and the peak is the largest phase, not the sum:

    forward     resident + saved outside the layers + saved by layers before i + forward of i: a phase of its own where
                it is higher than the next two
    logits      resident + saved outside the layers + saved by all layers + head and loss
    backward i  resident + saved outside + saved by layers before i + backward of i + gradients of layers from i on
    encoder j   resident + saved by the encoder's layers before j + backward of j with what is left outside + gradients
    its end     resident + saved outside + all gradients, with both gradients of a tied embedding, and their sum where
                it is a third tensor
    optimizer   resident + gradients + temporaries of the optimizer step
    evaluation  resident + a forward pass without gradients, and the logits that are kept for metrics
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import accumulate

from hfmem.estimator.training.activity import Activity
from hfmem.estimator.training.casts import Casts
from hfmem.estimator.training.evaluation import evaluation_terms
from hfmem.estimator.training.generation import generates, generation_terms
from hfmem.estimator.training.gpu import Gpu
from hfmem.estimator.training.gradients import Gradients, gradients_of
from hfmem.estimator.training.reference import forward_terms
from hfmem.estimator.training.states import Held, gradient_bytes
from hfmem.estimator.training.transients import gathered, optimizer_terms
from hfmem.estimator.training.virtual import embedding_bytes
from hfmem.estimator.values import Phase, Term
from hfmem.estimator.weights.base import largest_linear, replaced

__all__ = ["phases_of"]

_OUTSIDE = "saved outside the layers"
_LEFT = "inputs and their gradients, referenced by hooks of frozen FSDP units"


def phases_of(gpu: Gpu, stays: Held, active: Activity | None) -> tuple[Phase, ...]:
    """The phases of one GPU. Where activations are unknown, the phases have the other terms only."""
    made = active.backward_gradients if active is not None else None
    saved = tuple(accumulate(active.layers, initial=0)) if active is not None else ()
    moments = _Moments(
        gpu=gpu,
        stays=stays,
        active=active,
        gradients=gradients_of(gpu, made, active.encoder if active is not None else None),
        saved=saved,
        casts=Casts.of(gpu, active.encoder if active is not None else None),
    )
    logits, backward = moments.logits(), moments.backward()
    most = max(logits.total, backward.total)
    forward = [phase for phase in (*moments.encode(), *moments.forward()) if phase.total > most]
    before = (*moments.generation(), *moments.reference(), *forward)
    return *before, logits, backward, moments.optimizer(), *moments.evaluation()


@dataclass(frozen=True, slots=True, kw_only=True)
class _Moments:
    """The parts of which the phases of one GPU consist. `saved` are prefix sums: bytes saved by the layers before each
    one, and by all layers as the last entry."""

    gpu: Gpu
    stays: Held
    active: Activity | None
    gradients: Gradients
    saved: tuple[int, ...]
    casts: Casts

    def generation(self) -> tuple[Phase, ...]:
        """What a step begins with, if it generates: there are no gradients yet, also with several micro-batches."""
        if not generates(self.gpu):
            return ()
        return (_phase("generation", [*self.stays.terms, *generation_terms(self.gpu)]),)

    def reference(self) -> tuple[Phase, ...]:
        """The reference model's forward pass, where there is one: with the policy's graph alive, or before it."""
        tuning = self.gpu.training.tuning
        if tuning is None or tuning.reference == "none" or self.active is None:
            return ()
        terms = list(self.stays.terms)
        if tuning.trainer.reference == "after":
            terms += self.gradients.carried_terms() if self.gradients.carried else ()
            terms += self._saved(len(self.active.layers))
            terms.append(self._term("last norm, of the policy", self.active.normed, self.active.how))
            # with checkpointing, the policy's own casts went with its forward pass; otherwise its graph has them
            if self.gpu.training.checkpointing != "full":
                terms += self._casts(0, self.gpu.stage.depth)
        terms += forward_terms(self.gpu)
        return (_phase("reference", [*terms, *gathered(self.gpu, backward=False)]),)

    def encode(self) -> tuple[Phase, ...]:
        """The forward pass of a vision tower that saves nothing."""
        tower = None if self.active is None else self.active.tower
        if tower is None or not tower.forward:
            return ()
        terms = [*self.stays.terms, *(self.gradients.carried_terms() if self.gradients.carried else ())]
        how = f"its peak above what it leaves; {tower.how}"
        for name, nbytes in (("left by the vision tower", tower.saved), ("forward of the vision tower", tower.forward)):
            terms.append(_of_tower(name, nbytes, how, tower.source))
        return (_phase("encode", terms),)

    def forward(self) -> tuple[Phase, ...]:
        """The forward pass of the layers, where it can be higher than the backward pass of all of them."""
        active = self.active
        if active is None or not any(active.forward):
            return ()
        index = max(range(self.gpu.stage.depth), key=lambda each: self.saved[each] + active.forward[each])
        terms = [*self.stays.terms, *(self.gradients.carried_terms() if self.gradients.carried else ())]
        how = f"layer {self.gpu.stage.start + index + 1}: what it saves, and temporaries"
        terms += [*self._saved(index), self._term("forward of one layer", active.forward[index], how)]
        casts = self._casts(0, index + 1)
        return (_phase("forward", [*terms, *casts, *gathered(self.gpu, backward=False)]),)

    def logits(self) -> Phase:
        """Head and loss, while the saved tensors of all layers are alive: in the forward pass, or in the backward pass
        if that is another moment."""
        active = self.active
        saved = self.gpu.training.checkpointing != "full"
        casts = self._casts(0, self.gpu.stage.depth)
        # casts of frozen matrices are not cached: where layers are recomputed, each is gone with its layer
        forward = casts if saved or self.gpu.training.lora is None else []
        backward = casts if saved else []
        if active is None or active.scoring is None:
            return self._logits(0 if active is None else active.logits, forward)
        moments = (self._logits(active.scoring, forward), self._logits(active.logits, backward))
        return max(moments, key=lambda phase: phase.total)

    def _logits(self, nbytes: int, casts: list[Term]) -> Phase:
        active, carried = self.active, self.gradients.carried
        terms = [*self.stays.terms, *(self.gradients.carried_terms() if carried else ())]
        if active is not None:
            terms += self._saved(len(active.layers))
            if active.logits_gradients and not carried:  # carried gradients already include the head's
                terms.append(self.gradients.term(active.logits_gradients, "of the head, at that moment"))
            if nbytes:
                terms.append(self._term("logits and loss", nbytes, active.logits_how, logits=True))
        return _phase("logits", [*terms, *casts, *gathered(self.gpu, backward=False)])

    def backward(self) -> Phase:
        """The backward pass at its peak: in one of the layers, in an encoder's, or at the end."""
        index = max(range(self.gpu.stage.depth), key=self._at_layer, default=None)
        end = _phase("backward", self._at_end())
        found = _phase("backward", self._backward_of(index))
        heard = [_phase("backward", terms) for terms in self._backward_of_encoder()]
        if heard:
            heard.append(_phase("backward", self._at_end(decoded=True)))
        return max((end, found, *heard), key=lambda phase: phase.total)

    def optimizer(self) -> Phase:
        """The optimizer step, with all gradients alive."""
        terms = [*self.stays.terms, *self.gradients.all_terms()]
        if self.gpu.training.zero == 0:
            terms += gathered(self.gpu, backward=False)  # DDP's buckets are allocated for the whole run
        return _phase("optimizer", [*terms, *optimizer_terms(self.gpu)])

    def evaluation(self) -> tuple[Phase, ...]:
        """What evaluation holds between steps, when gradients are gone unless they are buffers of the optimizer."""
        if self.gpu.training.evaluation is None or self.active is None:
            return ()
        kept = self.gpu.training.stack.persistent_gradients
        terms = [*self.stays.terms, *(self.gradients.carried_terms() if kept else ())]
        terms += evaluation_terms(self.gpu)
        return (_phase("evaluation", [*terms, *gathered(self.gpu, backward=False)]),)

    def _at_end(self, *, decoded: bool = False) -> list[Term]:
        """The end of the backward pass, where the embedding's gradient is computed; or that of a decoder's, with all
        that the encoder beside it has saved."""
        gpu, training, gradients = self.gpu, self.gpu.training, self.gradients
        terms = [*self.stays.terms, *self._saved(0), *self._tower(ending=True)]
        encoder = None if self.active is None else self.active.encoder
        if encoder is not None and not decoded:
            gone = encoder.layers * encoder.kept
            terms = [replace(each, nbytes=each.nbytes - gone) if each.name == _OUTSIDE else each for each in terms]
        terms += gradients.decoder_terms() if decoded else gradients.all_terms()
        if encoder is not None and decoded and training.checkpointing != "full":
            terms += self.casts.of_encoder(encoder.layers - 1, whole=False)
        whole = embedding_bytes(gpu.model, training)
        if whole and gpu.stage.first:
            count = 3 if gradients.tied else 1
            return [*terms, gradients.term(count * whole, "of the embedding that trained rows are written into")]
        simple = training.zero == 0 and training.offload == "none"
        if not gpu.stage.first or not simple or training.optimizer.one_gradient:
            return terms
        own = [piece for piece in gpu.pieces if piece.component == "embedding"]
        # beside an encoder, the head's gradient and that of the decoder's embedding are one tensor already, no view
        added = gradients.added if encoder is None or decoded else min(1, gradients.added)
        nbytes = (int(gradients.carried) + added) * gradient_bytes(gpu, own)
        return [*terms, *gathered(gpu, backward=False), gradients.term(nbytes, "of the embedding, to be added")]

    def _backward_of(self, index: int | None) -> list[Term]:
        terms = list(self.stays.terms)
        if index is None:  # no layers are known
            return terms
        terms += self.gradients.by(index)
        if self.active is not None:
            terms += self._saved(index)
            how = f"layer {self.gpu.stage.start + index + 1}: saved or recomputed tensors, and their gradients"
            terms.append(self._term("backward of one layer", self.active.backward[index], how))
            terms.append(self._term("left by the layers done", self.active.staying[index], _LEFT))
        return [*terms, *self._casts_at(index), self._unpacked(), *gathered(self.gpu, backward=True)]

    def _backward_of_encoder(self) -> Iterator[list[Term]]:
        """The backward pass of an encoder's last layer, which comes first, and of its first one: with each, saved
        tensors go and gradients come."""
        active = self.active
        encoder = None if active is None else active.encoder
        if active is None or encoder is None or not encoder.layers:
            return
        for index in sorted({0, encoder.layers - 1}):
            how = f"layer {index + 1} of the encoder: saved or recomputed tensors, their gradients, and what is left"
            yield [
                *self.stays.terms,
                *self.gradients.in_encoder(index, encoder),
                self._term(f"saved by {index} layers of the encoder", index * encoder.kept, active.how),
                self._term("backward of one layer of the encoder", encoder.backward, how),
                *self._tower(),
                *self.casts.of_encoder(index, whole=self.gpu.training.checkpointing == "full"),
                self._unpacked(),
                *gathered(self.gpu, backward=True),
            ]

    def _at_layer(self, index: int) -> int:
        """The part of the bytes that depends on which layer's backward runs."""
        active, total = self.active, self.gradients.at_layer(index)
        if active is not None:
            total += self.saved[index] + active.backward[index] + active.staying[index]
        return total + sum(term.nbytes for term in self._casts_at(index))

    def _saved(self, upto: int) -> list[Term]:
        active = self.active
        if active is None:
            return []
        kept = "the inputs of" if self.gpu.training.checkpointing == "full" else "saved by"
        return [
            self._term(_OUTSIDE, active.outside, active.how),
            self._term(f"{kept} {upto} layers", self.saved[upto], active.how),
            self._term("other micro-batches in flight", active.waiting, "1F1B: one per following stage"),
            *self._tower(),
        ]

    def _tower(self, *, ending: bool = False) -> list[Term]:
        """What the vision tower saves, or needs above that while its own backward pass runs."""
        tower = None if self.active is None else self.active.tower
        if tower is None:
            return []
        name, nbytes, how = (
            ("backward of the vision tower", tower.backward, "its peak above what is saved")
            if ending
            else ("saved by the vision tower", tower.saved, tower.how)
        )
        return [_of_tower(name, nbytes, how, tower.source)]

    def _term(self, name: str, nbytes: int, how: str, *, logits: bool = False) -> Term:
        active = self.active
        source = "" if active is None else active.logits_source if logits else active.source
        certainty = "unknown" if active is None else active.certainty
        return Term(name=name, group="activations", nbytes=nbytes, how=how, source=source, certainty=certainty)

    def _casts_at(self, index: int) -> list[Term]:
        """The casts at the backward of a layer: the graph keeps those of the layers not done. Checkpointed layers have
        none in the graph: autocast forgets all where its outermost context ends, before the backward pass, in which
        each layer casts its own under a context of its own."""
        if self.gpu.training.checkpointing == "full":
            return self._casts(index, 1)
        return self._casts(0, index + 1)

    def _casts(self, first: int, layers: int) -> list[Term]:
        """Copies in the compute dtype of float32 weights, of so many layers from one on."""
        return self.casts.of_layers(first, layers)

    def _unpacked(self) -> Term:
        """The dequantised NF4 matrix of the current multiplication; 0 bytes without NF4."""
        model, training = self.gpu.model, self.gpu.training
        elements = largest_linear(model, replaced(model, training)) // self.gpu.plan.tp
        width = training.stack.unpacked
        how = f"{elements:,} × {width} B: the largest NF4 matrix, dequantised"
        source = "bitsandbytes 0.50 autograd/_functions.py, MatMul4Bit.backward"
        return _temporary("unpacked matrix", width * elements, how, source)


def _phase(name: str, terms: list[Term]) -> Phase:
    return Phase(name=name, terms=tuple(replace(term, phase=name) for term in terms if term.nbytes))


def _temporary(name: str, nbytes: int, how: str, source: str) -> Term:
    return Term(name=name, group="temporary", nbytes=nbytes, how=how, source=source, certainty="derived")


def _of_tower(name: str, nbytes: int, how: str, source: str) -> Term:
    return Term(name=name, group="activations", nbytes=nbytes, how=how, source=source, certainty="measured")
