"""The original article's formulas as printed, for comparison (`--method textbook`).

    model        parameters × bytes per parameter
    KV cache     2 × batch × seq × precision × layers × hidden size
    activations  alpha × batch × seq × hidden + beta × batch × heads × seq²      (no factor for layers)
    optimizer    Adam 8, SGD 4 bytes per parameter;  gradients 4 bytes per parameter
    rule of thumb: parameters × precision to run, 4 to 6 times that to train

Known deviations: they ignore grouped-query attention, sliding windows, experts and depth, and count a KV cache in
training.
"""

from __future__ import annotations

from fractions import Fraction
from typing import Final

from hfmem.estimator.article import ALPHA_BETA
from hfmem.estimator.scenario import Scenario
from hfmem.estimator.values import Estimate, Group, Term
from hfmem.mapper.interpret import Model
from hfmem.mapper.values import Architecture
from hfmem.units import format_bytes

__all__ = ["TEXTBOOK_OPTIMIZERS", "TEXTBOOK_PRECISIONS", "activation_bytes", "estimate", "kv_cache_bytes"]

TEXTBOOK_PRECISIONS: Final[dict[str, Fraction]] = {
    "float32": Fraction(4),
    "float16": Fraction(2),
    "bfloat16": Fraction(2),
    "int8": Fraction(1),
    "int4": Fraction(1, 2),
}
"""Bytes per parameter."""

TEXTBOOK_OPTIMIZERS: Final[dict[str, int]] = {"adam": 8, "sgd": 4}
"""Bytes of optimizer state per parameter."""

GRADIENT_BYTES: Final = 4  # float32, which the article assumes at any precision of the weights

_SOURCE: Final = "the original article (textbook method)"


def kv_cache_bytes(scenario: Scenario, architecture: Architecture) -> int | None:
    """2 × batch × seq × precision × layers × hidden size; None where a size is unknown."""
    precision = TEXTBOOK_PRECISIONS.get(scenario.dtype or "")
    if architecture.depth is None or architecture.hidden_size is None or precision is None:
        return None
    return int(2 * scenario.batch * scenario.seq * precision * architecture.depth * architecture.hidden_size)


def activation_bytes(scenario: Scenario, architecture: Architecture) -> int | None:
    """alpha × batch × seq × hidden + beta × batch × heads × seq²; None where a size is unknown."""
    alpha, beta = ALPHA_BETA[scenario.attention]
    hidden, heads = architecture.hidden_size, architecture.attention_heads
    if hidden is None or (beta and heads is None):
        return None
    linear = alpha * scenario.batch * scenario.seq * hidden
    return linear + beta * scenario.batch * (heads or 0) * scenario.seq**2


def estimate(model: Model, scenario: Scenario) -> Estimate:
    """The article's sum for inference or full training."""
    count = model.parameters.total if model.parameters else None
    precision = TEXTBOOK_PRECISIONS.get(scenario.dtype or "")
    terms: list[Term] = []
    unknown: list[tuple[Group, str]] = []
    if count is None or precision is None:
        unknown.append(("weights", "the parameters or their precision are not known"))
    else:
        terms.append(
            _term("model", "weights", int(count * precision), f"{count:,} parameters × {float(precision):g} B")
        )
    for name, group, nbytes, how in _architecture_parts(model.architecture, scenario):
        if nbytes is None:
            unknown.append((group, "the sizes of the architecture, or the precision, are not known"))
        else:
            terms.append(_term(name, group, nbytes, how))
    if scenario.train and count is not None:
        terms += _training(count, scenario.optimizer or "adam")
    return Estimate(
        terms=tuple(terms),
        unknown=tuple(unknown),
        kv_cache_per_token=_per_token(model.architecture, precision),
        kv_cache_fixed=0,
        notes=_notes(count, precision),
    )


def _architecture_parts(
    architecture: Architecture, scenario: Scenario
) -> tuple[tuple[str, Group, int | None, str], ...]:
    alpha, beta = ALPHA_BETA[scenario.attention]
    tokens = f"{scenario.batch} × {scenario.seq}"
    precision = TEXTBOOK_PRECISIONS.get(scenario.dtype or "", Fraction(0))
    return (
        (
            "KV cache",
            "kv_cache",
            kv_cache_bytes(scenario, architecture),
            f"2 × {tokens} tokens × {float(precision):g} B × {architecture.depth} layers × {architecture.hidden_size}",
        ),
        (
            "activations",
            "activations",
            activation_bytes(scenario, architecture),
            f"{alpha} × {tokens} × {architecture.hidden_size} + {beta} × {scenario.batch} × "
            f"{architecture.attention_heads} heads × {scenario.seq}²",
        ),
    )


def _training(count: int, optimizer: str) -> list[Term]:
    state = TEXTBOOK_OPTIMIZERS[optimizer]
    return [
        _term(f"{optimizer} states", "optimizer", count * state, f"{count:,} parameters × {state} B"),
        _term("gradients", "gradients", count * GRADIENT_BYTES, f"{count:,} parameters × {GRADIENT_BYTES} B"),
    ]


def _per_token(architecture: Architecture, precision: Fraction | None) -> int | None:
    if architecture.depth is None or architecture.hidden_size is None or precision is None:
        return None
    return int(2 * precision * architecture.depth * architecture.hidden_size)


def _notes(count: int | None, precision: Fraction | None) -> tuple[str, ...]:
    notes = ["The article's activation formula has no factor for the number of layers; it is computed as printed."]
    if count is not None and precision is not None:
        run = int(count * precision)
        notes.append(
            f"Rule of thumb: {format_bytes(run)} to run (parameters × precision), {format_bytes(4 * run)} to "
            f"{format_bytes(6 * run)} to train (4 to 6 times that)."
        )
    return tuple(notes)


def _term(name: str, group: Group, nbytes: int, how: str) -> Term:
    return Term(name=name, group=group, nbytes=nbytes, how=how, source=_SOURCE, certainty="typical")
