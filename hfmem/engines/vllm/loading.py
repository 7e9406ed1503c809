"""Memory that vLLM needs while loading."""

from __future__ import annotations

from typing import Final

from hfmem.dtypes import find_dtype
from hfmem.engines.vllm.classes import class_rule
from hfmem.engines.vllm.settings import settings_of
from hfmem.engines.vllm.split import RULES
from hfmem.estimator.scenario import Scenario
from hfmem.estimator.values import Loading
from hfmem.estimator.weights.loading import largest_experts, largest_matrix, mapped
from hfmem.estimator.weights.quantisers import find_quantiser
from hfmem.mapper.interpret import Model

__all__ = ["loading", "second_head"]

_SOURCE: Final = "vLLM 0.33.0, model_executor/model_loader/{base_loader,utils,weight_utils}.py"


def loading(model: Model, scenario: Scenario, weights: int) -> Loading | None:
    """The peak while loading. The whole model is allocated on the device before tensors are copied from memory-mapped
    files; then modules are repacked or quantised one by one, each next to its original."""
    from_files = mapped(model)
    if from_files is None:
        return None
    beside, what = 0, ""
    experts = largest_experts(model, scenario.compute_dtype)
    if find_quantiser(scenario.dtype or "") is not None:
        beside, what = (
            max(largest_matrix(model, scenario.compute_dtype), experts),
            ", and one module before quantisation",
        )
    elif experts:
        beside, what = experts, ", and one layer's experts before repacking"
    ranks = scenario.parallel.tp * (scenario.parallel.dp if experts else 1)
    above, head = beside // max(1, ranks), second_head(model, scenario)
    if head > above:  # it is gone before modules are repacked
        above, what = head, ", and a head before it is tied to the embedding"
    return Loading(
        host=0 if from_files else None,
        gpu=weights + above,
        how=f"host: memory-mapped files, whose pages can be reclaimed; accelerator: the weights{what}",
        source=_SOURCE,
    )


def second_head(model: Model, scenario: Scenario) -> int:
    """Bytes on a rank of a head that the model's class makes, and then ties to the embedding."""
    architecture, dtype = model.architecture, find_dtype(scenario.compute_dtype or "")
    components = model.parameters.by_component if model.parameters is not None else {}
    tied = architecture.head == "lm_head" and "embedding" in components and "lm_head" not in components
    if dtype is None or not tied or not class_rule(model, settings_of(scenario).release).twice:
        return 0
    tp, padding = scenario.parallel.tp, RULES.vocabulary_padding
    rows = -(-(architecture.vocab_size or 0) // padding) * padding // tp
    return dtype.nbytes(rows * (architecture.hidden_size or 0))
