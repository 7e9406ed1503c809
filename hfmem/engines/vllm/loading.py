"""Memory that vLLM needs while loading."""

from __future__ import annotations

from typing import Final

from hfmem.estimator.values import Loading, Scenario
from hfmem.estimator.weights.loading import largest_experts, largest_matrix, mapped
from hfmem.estimator.weights.quantisers import find_quantiser
from hfmem.mapper.interpret import Model

__all__ = ["loading"]

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
    return Loading(
        host=0 if from_files else None,
        gpu=weights + beside // max(1, ranks),
        how=f"host: memory-mapped files, whose pages can be reclaimed; accelerator: the weights{what}",
        source=_SOURCE,
    )
