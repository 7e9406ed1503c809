"""Activations of a layer in Megatron Core, per rank (Korthikanti et al., arXiv 2205.05198, section 4).

Bytes per token; H hidden size, Q query width, K key/value width, F intermediate size, t tensor-parallel ranks.
Replicated on every rank (divided by t only with sequence parallelism):

    inputs of two norms 4H, inputs of attention and feed-forward 4H, two dropout masks 2H

Divided by t in any case:

    attention     fused q, k, v 2(Q + 2K); a copy of grouped queries 2Q; the output 2Q
    feed-forward  4F (input and output of the activation function), 6F where it is gated
    experts       for each of the k experts of a token: permuted copy and output 4H, and its intermediate units

With Q = K = H and F = 4H this is the paper's 10 + 24/t. Unfused attention saves 5 bytes per head and pair of tokens.
"""

from __future__ import annotations

from fractions import Fraction
from math import ceil

from hfmem.estimator.activations.closed_forms import widths
from hfmem.estimator.activations.source import TrainingActivations
from hfmem.estimator.parallel import Parallel
from hfmem.estimator.recipe.values import TrainingScenario
from hfmem.mapper.interpret import Model
from hfmem.mapper.values import Dense, Experts, Layer
from hfmem.unknown import Unknown

__all__ = ["Megatron"]

_SOURCE = "Korthikanti et al., arXiv 2205.05198, section 4; Megatron Core without its factor 1.05"


class Megatron:
    """Megatron Core."""

    of_one_rank = True
    brings_adapters = True  # adapters are not described for Megatron, so none may be added on top
    takes_adapters = False

    def activations(self, model: Model, scenario: TrainingScenario, plan: Parallel) -> TrainingActivations | Unknown:
        """Bytes on one rank, already divided by tensor parallelism."""
        architecture, training = model.architecture, scenario.training
        hidden = architecture.hidden_size
        if architecture.layers is None or hidden is None:
            return Unknown(architecture.unknown or "the layers of the architecture are not known")
        tokens = scenario.batch * scenario.seq
        saved = [_layer(layer, hidden, scenario, plan) for layer in architecture.layers]
        whole = training.checkpointing == "full"
        kept_input = 2 * tokens * hidden // (plan.tp if training.sequence_parallel else 1)
        transient = 2 * tokens * hidden + (kept_input if whole else 0)
        return TrainingActivations(
            outside=tokens * hidden if training.stack.dropout else 0,  # the embedding's dropout mask, 1 byte each
            layers=tuple(kept_input if whole else size for size in saved),
            logits=0,  # from the stack's own formula (`logits_vocabulary`)
            backward=tuple(size + transient for size in saved),
            certainty="typical",
            how=f"{tokens:,} tokens × what each of {len(saved)} layers saves on one of {plan.tp} tensor-parallel ranks",
            source=_SOURCE,
        )

    def counts_encoder(self, model: Model, scenario: TrainingScenario) -> bool:
        """False: the formulas describe a single stack of layers."""
        del model, scenario
        return False

    def linears(self, model: Model, scenario: TrainingScenario, index: int) -> None:
        """None: adapters are not described."""
        del model, scenario, index


def _layer(layer: Layer, hidden: int, scenario: TrainingScenario, plan: Parallel) -> int:
    training, tokens = scenario.training, scenario.batch * scenario.seq
    everywhere = (10 if training.stack.dropout else 8) * hidden  # 8 without the two dropout masks
    query, keys = widths(layer)
    shared = 2 * (query + 2 * keys) + 2 * query + (2 * query if keys < query else 0)
    shared += _feed_forward(layer, hidden)
    scores = 0
    if scenario.attention == "eager" and training.checkpointing == "none":
        # softmax output and dropout output 2 + 2, dropout mask 1; recomputed with selective checkpointing
        scores = 5 * layer.heads * scenario.batch * scenario.seq**2
    inside = Fraction(tokens * shared + scores, plan.tp)
    around = Fraction(tokens * everywhere, plan.tp if training.sequence_parallel else 1)
    return ceil(inside + around)


def _feed_forward(layer: Layer, hidden: int) -> int:
    if isinstance(layer.ffn, Dense):
        return (6 if layer.ffn.gated else 4) * layer.ffn.intermediate
    if isinstance(layer.ffn, Experts):
        experts = layer.ffn
        return experts.per_token * (4 * hidden + 6 * experts.intermediate) + 6 * experts.shared
    return 0
