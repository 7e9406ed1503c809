"""Evaluation between steps of training, as the Trainer runs it (transformers 5.24, trainer.py, `evaluation_loop`).

Of each batch there is a forward pass without gradients, and the loss. With metrics, logits of all batches are kept,
under autocast in float32 (accelerate converts what a forward pass returns), gathered from all replicas, and each batch
is joined to those before by a copy. Where batches are moved to the host after some steps, only those are there.

    in a forward pass   logits of the batches before, those of the last one also by themselves, and the pass
    while joining       logits of the batches before, of this one, and of all of them together
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from hfmem.estimator.training.casts import Casts
from hfmem.estimator.training.gpu import Gpu
from hfmem.estimator.training.reference import layer_peak, stream
from hfmem.estimator.values import Term

__all__ = ["evaluation_terms"]

_LOOP: Final = (
    "transformers 5.24.0, trainer.py:2974-3053 (evaluation_loop), trainer_pt_utils.py:352 (EvalLoopContainer)"
)
_LOSS: Final = "transformers 5.24.0, loss/loss_utils.py (ForCausalLMLoss): logits in float32, and their log-softmax"
_ALONE: Final = 2  # batches up to which the joined logits are no tensor beside those of the last batch


def evaluation_terms(gpu: Gpu) -> list[Term]:
    """What evaluation holds at its peak, besides what stays."""
    evaluation = gpu.training.evaluation
    if evaluation is None:
        return []
    run = replace(gpu, scenario=replace(gpu.scenario, batch=evaluation.batch))
    forward = _forward(run)
    if not evaluation.logits:
        return forward
    each, count = _logits(run) * gpu.plan.dp, evaluation.batches(gpu.plan.dp)
    held = count - 1 if count <= _ALONE else count
    joining = _kept(each, 2 * count if count > 1 else 1)
    moments = ([*forward, _kept(each, held)], [joining])
    return max(moments, key=lambda terms: sum(term.nbytes for term in terms))


def _forward(gpu: Gpu) -> list[Term]:
    """A forward pass at its peak: in a layer, or in head and loss."""
    inside, source = layer_peak(gpu)
    head = _head(gpu) if gpu.stage.last else 0
    casts = [replace(term, name="cast weights, evaluating") for term in _casts(gpu)]
    term = Term(
        name="forward pass of an evaluation",
        group="activations",
        nbytes=max(inside, head) + stream(gpu),
        how=f"without gradients: one layer of {inside:,} B, or head and loss of {head:,} B, and the hidden states",
        source=f"{_LOSS}; {source}" if source else _LOSS,
        certainty="measured" if source else "typical",
    )
    return [term, *casts]


def _casts(gpu: Gpu) -> list[Term]:
    """Autocast's copies: those of trained matrices, the head's included, are kept to the end of the pass."""
    made = Casts.of(gpu)
    if gpu.training.lora is not None:
        return made.of_largest()
    terms = made.of_layers(0, gpu.stage.depth)
    if not terms or gpu.architecture.head != "lm_head":
        return terms
    elements = (gpu.architecture.hidden_size or 0) * (gpu.architecture.vocab_size or 0)
    return [*terms, replace(terms[0], nbytes=2 * elements, how=f"2 B per element of the head, {elements:,}")]


def _head(gpu: Gpu) -> int:
    """Bytes of logits and loss; in 16 bits: logits, a copy in float32, and the log-softmax of that."""
    training, evaluation = gpu.training, gpu.training.evaluation
    entries = _entries(gpu)
    if gpu.architecture.head != "lm_head":
        return 0
    fused = training.fused_loss or training.stack.fused_loss
    if fused and evaluation is not None and not evaluation.logits:  # `skip_logits`
        return 0
    return (8 if training.precision.compute == "float32" else 10) * entries


def _entries(gpu: Gpu) -> int:
    """Logits of a batch: for each token, or for each row where a class has a classifier."""
    architecture, scenario = gpu.architecture, gpu.scenario
    if architecture.head == "lm_head":
        return scenario.batch * -(-scenario.seq // gpu.plan.cp) * (architecture.vocab_size or 0)
    return scenario.batch * gpu.training.labels


def _width(gpu: Gpu) -> int:
    precision = gpu.training.precision
    return 4 if precision.autocast or precision.compute == "float32" else 2


def _logits(gpu: Gpu) -> int:
    """Bytes of a batch's logits, as they are kept."""
    return _width(gpu) * _entries(gpu)


def _kept(each: int, count: int) -> Term:
    return Term(
        name="logits of an evaluation",
        group="activations",
        nbytes=count * each,
        how=f"{count} × {each:,} B: batches before this one, and copies while they are joined",
        source=_LOOP,
        certainty="derived",
    )
