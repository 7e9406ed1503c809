"""Activations of a layer in Megatron Core, per rank (Korthikanti et al., arXiv 2205.05198, section 4).

Bytes per token, H hidden, Q query width, K key/value width, F feed-forward units, t tensor-parallel ranks. Everywhere:

    inputs of two norms 4H, of attention and feed-forward 4H, two dropout masks 2H   (over t with sequence parallel)

and shared over t in any case:

    attention   fused q, k, v 2(Q + 2K), of which grouped queries are copied again 2Q; its output 2Q
    feed-forward  4F (input and output of the activation), 6F where it is gated
    experts     k tokens each: permuted copy and output 4H, and their units

With Q = K = H and F = 4H this is the paper's 10 + 24/t. Unfused attention keeps 5 bytes per head and pair of tokens.
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
    brings_adapters = True  # none are described, and none are added
    takes_adapters = False

    def activations(self, model: Model, scenario: TrainingScenario, plan: Parallel) -> TrainingActivations | Unknown:
        """The bytes of one rank, tensor parallelism included."""
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
            outside=tokens * hidden if training.stack.dropout else 0,
            layers=tuple(kept_input if whole else size for size in saved),
            logits=0,
            backward=tuple(size + transient for size in saved),
            certainty="typical",
            how=f"{tokens:,} tokens × what each of {len(saved)} layers saves on one of {plan.tp} tensor-parallel ranks",
            source=_SOURCE,
        )

    def counts_encoder(self, model: Model, scenario: TrainingScenario) -> bool:
        """Never: the formulas are those of one stack of layers."""
        del model, scenario
        return False

    def linears(self, model: Model, scenario: TrainingScenario, index: int) -> None:
        """Not known: no adapters are described."""
        del model, scenario, index


def _layer(layer: Layer, hidden: int, scenario: TrainingScenario, plan: Parallel) -> int:
    training, tokens = scenario.training, scenario.batch * scenario.seq
    everywhere = (10 if training.stack.dropout else 8) * hidden
    query, keys = widths(layer)
    shared = 2 * (query + 2 * keys) + 2 * query + (2 * query if keys < query else 0)
    shared += _feed_forward(layer, hidden)
    scores = 0
    if scenario.attention == "eager" and training.checkpointing == "none":
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
