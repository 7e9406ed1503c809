"""Decoding of mixtures of experts in transformers: a pass makes a copy of each expert that a token selects.

On an accelerator, `generate` runs experts as `batched_mm` once the prompt is through (`_optimize_model_for_decode` in
generation/utils.py; not in `_beam_search`). It gathers the weights of the selected experts, token by token
(`self.gate_up_proj[expert_ids]` in integrations/moe.py), so an expert that several sequences select is there as often;
when those of the second projection are gathered, those of the first are still alive.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from hfmem.dtypes import find_dtype
from hfmem.estimator.scenario import Scenario
from hfmem.estimator.values import Term, total_of
from hfmem.mapper.interpret import Model
from hfmem.mapper.values import Experts

__all__ = ["copied_experts", "with_copied_experts"]

_NEAR: Final = 0.05
"""How near the weights of an expert are to whole matrices of its sizes; else it has others, and their mean counts."""


def with_copied_experts(terms: Sequence[Term], model: Model, scenario: Scenario, tokens: int = 1) -> list[Term]:
    """The terms of a run, or the copies of a pass of decoding (so many tokens a sequence) where these take more."""
    copies = copied_experts(model, scenario, tokens)
    return [copies] if copies is not None and copies.nbytes > total_of(terms) else list(terms)


def copied_experts(model: Model, scenario: Scenario, tokens: int = 1) -> Term | None:
    """Bytes of the copies in a pass of decoding (so many tokens a sequence), above weights and the final cache.

    None where there are none: for a class without such experts, for packed ones, which have kernels of their own, with
    beams, and where nothing is generated.
    """
    architecture, width = model.architecture, find_dtype(scenario.compute_dtype or "")
    layers = [layer.ffn for layer in architecture.layers or () if isinstance(layer.ffn, Experts)]
    if not layers or width is None or not architecture.gathering or _packed(model, scenario):
        return None
    generation = scenario.generation
    if generation is not None and generation.beams > 1:
        return None
    elements = _elements(model, layers)
    if not elements:
        return None
    sequences = scenario.batch * (generation.sequences if generation is not None else 1)
    chosen = tokens * max(layer.per_token for layer in layers)
    return Term(
        name="decode: copies of the selected experts",
        group="activations",
        nbytes=width.nbytes(sequences * chosen * elements),
        how=f"{sequences:,} sequences × {chosen:,} experts that their tokens select × {elements:,} weights of an "
        f"expert in {width.name}: each sequence's copies; experts_implementation='eager' makes none",
        source=f"{architecture.gathering}: `batched_mm` while tokens are generated on an accelerator",
        certainty="derived",
    )


def _packed(model: Model, scenario: Scenario) -> bool:
    dtype = find_dtype(scenario.dtype or "")
    return model.quantisation is not None or model.is_gguf or dtype is None or dtype.nbytes(1) < 2


def _elements(model: Model, layers: Sequence[Experts]) -> int:
    """Weights of an expert: what one token does not use, over the experts that it does not select."""
    table, hidden = model.parameters, model.architecture.hidden_size or 0
    unused = sum(layer.count - layer.per_token for layer in layers)
    if table is None or not unused:
        return 0
    mean, matrix = (table.total - table.active) / unused, hidden * max(layer.intermediate for layer in layers)
    matrices = round(mean / matrix) if matrix else 0
    if matrices and abs(mean / (matrices * matrix) - 1) < _NEAR:
        return matrices * matrix
    return round(mean)
