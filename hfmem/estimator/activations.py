"""What inference holds besides weights and cache: a working set, and the logits.

The working set comes from the textbook's coefficients until measured ones take their place, and is marked `typical`.
"""

from __future__ import annotations

from hfmem.dtypes import find_dtype
from hfmem.estimator.textbook import ALPHA_BETA, activation_bytes
from hfmem.estimator.values import Group, Scenario, Term
from hfmem.mapper.interpret import Model

__all__ = ["activation_terms"]

_LOGITS_SOURCE = "transformers 5 generation/utils.py: logits of the last position, copied to float32"
_FLOAT32 = 4


def activation_terms(model: Model, scenario: Scenario) -> tuple[list[Term], list[tuple[Group, str]]]:
    """The terms, and what is unknown."""
    architecture = model.architecture
    working = activation_bytes(scenario, architecture)
    if working is None:
        return [], [("activations", architecture.unknown or "the hidden size is not known")]
    alpha, beta = ALPHA_BETA[scenario.attention]
    how = f"{alpha} × {scenario.batch} × {scenario.seq} tokens × {architecture.hidden_size}"
    if beta:
        how += f" + {beta} × {scenario.batch} × {architecture.attention_heads} heads × {scenario.seq}²"
    terms = [
        Term(
            name="working set",
            group="activations",
            nbytes=working,
            how=how,
            source=f"textbook coefficients for {scenario.attention} attention: alpha {alpha}, beta {beta}",
            certainty="typical",
        )
    ]
    return terms + _logits(model, scenario), []


def _logits(model: Model, scenario: Scenario) -> list[Term]:
    architecture = model.architecture
    compute = find_dtype(scenario.compute_dtype) if scenario.compute_dtype else None
    if architecture.head != "lm_head" or architecture.vocab_size is None or compute is None:
        return []
    width = compute.bits // 8
    return [
        Term(
            name="logits",
            group="activations",
            nbytes=scenario.batch * architecture.vocab_size * (width + _FLOAT32),
            how=f"batch {scenario.batch} × 1 position × {architecture.vocab_size:,} × ({width} + {_FLOAT32}) B",
            source=_LOGITS_SOURCE,
            certainty="typical",
        )
    ]
