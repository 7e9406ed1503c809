"""Activations on one GPU at each moment of a training step, without parameter gradients."""

from __future__ import annotations

from dataclasses import dataclass, replace
from fractions import Fraction
from itertools import accumulate
from math import ceil

from hfmem.estimator.activations.masks import with_masks
from hfmem.estimator.activations.source import TrainedTower, TrainingActivations, TrainingEncoder
from hfmem.estimator.activations.sources import source_of, step_activations
from hfmem.estimator.activations.tiles import SOURCE as HEAD_SOURCE
from hfmem.estimator.recipe.values import Training, TrainingScenario
from hfmem.estimator.split.stages import Stage
from hfmem.estimator.training.gpu import Gpu
from hfmem.estimator.training.tiles import tiled_head
from hfmem.estimator.training.virtual import embedding_bytes
from hfmem.mapper.interpret import Model
from hfmem.mapper.values import Certainty
from hfmem.unknown import Unknown

__all__ = ["Activity", "activity"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Activity:
    """Bytes on one GPU; all but `waiting` are for one micro-batch.

    Attributes:
        outside, layers, logits, backward: as in `TrainingActivations`, for this GPU's layers, adapters included.
        logits_gradients, backward_gradients: as in `TrainingActivations`; known only without parallelism.
        forward: as in `TrainingActivations`; 0 for each layer where it is unknown.
        staying: per layer, bytes still held by later layers whose backward is done.
        waiting: bytes held by other micro-batches in flight (pipeline parallelism).
        logits_how: the arithmetic of `logits`.
        certainty, how, source: as in `Term`, for all of these.
        logits_source: source of `logits`.
        normed: as in `TrainingActivations`.
        tower: the vision tower of a run with images; None without one, or where it is not measured.
        encoder: as in `TrainingActivations`, of this GPU; None with pipeline parallelism.
        scoring: bytes of head and loss in the forward pass, where the backward pass that `logits` is for is another
            moment, after autocast; None where both are one.
    """

    outside: int
    layers: tuple[int, ...]
    logits: int
    backward: tuple[int, ...]
    staying: tuple[int, ...]
    waiting: int
    logits_gradients: int
    backward_gradients: tuple[int, ...] | None
    logits_how: str
    certainty: Certainty
    how: str
    source: str
    logits_source: str
    normed: int = 0
    tower: TrainedTower | None = None
    forward: tuple[int, ...] = ()
    scoring: int | None = None
    encoder: TrainingEncoder | None = None


def activity(gpu: Gpu) -> Activity | Unknown:
    """The activations of one GPU, or why they are unknown."""
    model, training, stage = gpu.model, gpu.training, gpu.stage
    # rounded up: the most loaded context-parallel rank counts
    mine = replace(gpu.scenario, seq=-(-gpu.scenario.seq // gpu.plan.cp))
    found = step_activations(model, mine, gpu.plan)
    if isinstance(found, Unknown):
        return found
    found = with_masks(model, mine, found)
    hidden = model.architecture.hidden_size or 0
    ranks = 1 if source_of(mine).of_one_rank else gpu.plan.tp
    share = _Share(training, ranks, mine.batch * mine.seq * hidden)
    layers, backward, forward = (share.each(sizes, stage) for sizes in (found.layers, found.backward, found.forward))
    logits, scoring, how, source = _head(mine, found, gpu)
    # gradients were measured on one GPU with all weights trained and no master weights; else all are counted as present
    alone = gpu.plan.gpus == 1 and training.method == "full" and not training.precision.master
    outside = found.outside + _merged_rows(gpu) if stage.first or stage.last else 0
    # one of the micro-batches in flight is the current one, whose tensors the phases count themselves
    waiting = ceil((gpu.in_flight - 1) * (sum(layers) + outside)) if gpu.in_flight > 1 else 0
    return Activity(
        outside=outside,
        layers=layers,
        logits=logits if stage.last else 0,
        normed=found.normed,
        tower=_tower(gpu),
        forward=forward,
        scoring=scoring if stage.last else None,
        encoder=_encoder(found.encoder, share, alone=alone) if gpu.plan.pp == 1 else None,
        backward=backward,
        staying=_staying(training, layers, 2 * mine.batch * mine.seq * hidden),  # gradients of inputs in 16 bits
        waiting=waiting,
        # a stack's own formula for the logits says nothing of the head's gradient at that moment
        logits_gradients=found.logits_gradients if alone and logits == found.logits else 0,
        backward_gradients=found.backward_gradients if alone else None,
        logits_how=how,
        certainty=found.certainty,
        how=found.how,
        source=found.source,
        logits_source=source,
    )


def _encoder(encoder: TrainingEncoder | None, share: _Share, *, alone: bool) -> TrainingEncoder | None:
    """The encoder on one GPU; gradients at its peak are known only as they were measured."""
    if encoder is None:
        return None
    return replace(
        encoder,
        kept=share.of(encoder.kept),
        backward=share.of(encoder.backward),
        backward_gradients=encoder.backward_gradients if alone else None,
    )


def _tower(gpu: Gpu) -> TrainedTower | None:
    if not gpu.scenario.media_tokens:
        return None
    from hfmem.estimator.activations.trained_towers import trained_tower  # for runs with images only

    found = trained_tower(gpu.model, gpu.scenario)
    return None if isinstance(found, Unknown) else found


def _merged_rows(gpu: Gpu) -> int:
    """The embedding with its trained rows in it, made in each forward pass, which a tied head keeps."""
    return embedding_bytes(gpu.model, gpu.training) if gpu.architecture.tied_embeddings is True else 0


def _head(scenario: TrainingScenario, found: TrainingActivations, gpu: Gpu) -> tuple[int, int | None, str, str]:
    """Head and loss: bytes of the backward pass, those of the forward pass if that is another moment, the arithmetic
    and its source."""
    tiled = tiled_head(gpu)
    if tiled is not None:
        return found.normed + tiled.backward, found.normed + tiled.forward, tiled.how, HEAD_SOURCE
    logits, how, source = _logits(gpu.model, scenario, found, gpu)
    return logits, None, how, source


def _staying(training: Training, inputs: tuple[int, ...], gradient: int) -> tuple[int, ...]:
    """Inputs of checkpointed layers and their gradients, kept alive to the end of backward by FSDP's hook for frozen
    units.

    The hook is registered on the inputs (`_register_post_backward_reshard_only_hook` in torch's fsdp/_runtime_utils.py)
    and references their autograd nodes. Reentrant checkpointing detaches the inputs, which makes each node a leaf's and
    holds its tensor and gradient. The gradient from the next layer is counted in the layer's own backward.
    """
    depth = len(inputs)
    hooked = training.fsdp and training.lora is not None and not training.stack.mixed_units
    if not hooked or training.checkpointing != "full" or not training.stack.reentrant:
        return (0,) * depth
    after = [*accumulate(reversed(inputs), initial=0)][-2::-1]
    return tuple(after[index] + max(0, depth - index - 2) * gradient for index in range(depth))


class _Share:
    """A layer's activations on one tensor-parallel rank. Inputs and outputs of norms are replicated on every rank,
    unless sequence parallelism splits them too (Korthikanti et al., arXiv 2205.05198, 4)."""

    def __init__(self, training: Training, ranks: int, units: int) -> None:
        self._ranks = ranks
        # per token and hidden unit, as in `closed_forms`: frozen layers do not save the norms' outputs
        bytes_each = 8 if training.method != "full" else 16
        self._replicated = 0 if training.sequence_parallel else bytes_each * units

    def each(self, sizes: tuple[int, ...], stage: Stage) -> tuple[int, ...]:
        """Those of the layers of a pipeline stage."""
        return tuple(self.of(size) for size in sizes[stage.start : stage.end])

    def of(self, nbytes: int) -> int:
        if self._ranks == 1:
            return nbytes
        # with full checkpointing a layer saves only its input, which is less than what norms would save
        everywhere = min(nbytes, self._replicated)
        return everywhere + ceil(Fraction(nbytes - everywhere, self._ranks))


def _logits(model: Model, scenario: TrainingScenario, found: TrainingActivations, gpu: Gpu) -> tuple[int, str, str]:
    """Head and loss: in chunks where the loss is fused, by the stack's own formula, or as measured."""
    architecture, training = model.architecture, scenario.training
    stack = training.stack
    vocabulary, hidden = architecture.vocab_size or 0, architecture.hidden_size or 0
    tokens = scenario.batch * scenario.seq
    if architecture.head != "lm_head" or not vocabulary or not hidden:
        return found.logits, found.how, found.source
    if training.fused_loss or stack.fused_loss:
        chunk = min(tokens, _chunk(tokens, vocabulary, hidden))
        how = f"{chunk:,} tokens × {vocabulary:,} × 2 B at a time + {tokens:,} × {hidden} × 2 B of gradient"
        source = (
            "liger-kernel ops/fused_linear_cross_entropy.py: chunks of next_power_of_2(tokens / ceil(vocab/hidden))"
        )
        return chunk * vocabulary * 2 + tokens * hidden * 2, how, source
    if stack.logits_vocabulary is None:
        return found.logits, found.how, found.source
    # vocabulary-parallel loss: each rank has the logits of its part of the vocabulary, else every rank has all
    ranks = gpu.plan.tp if stack.vocabulary_parallel else 1
    entry = stack.logits_vocabulary + (stack.sharded_logits if training.fsdp else 0)
    each = entry * vocabulary // ranks + stack.logits_hidden * hidden
    how = f"{tokens:,} tokens × ({entry} × {vocabulary:,} + {stack.logits_hidden} × {hidden}) B"
    return tokens * each, how, stack.source


def _chunk(tokens: int, vocabulary: int, hidden: int) -> int:
    # Liger sizes chunks so that a chunk's logits are about as large as the hidden states of all tokens
    pieces = -(-vocabulary // hidden)
    return 1 << (-(-tokens // pieces) - 1).bit_length()
