"""Memory that `from_pretrained` needs while loading, and the safety margin."""

from __future__ import annotations

from typing import Final

from hfmem.estimator.scenario import Scenario
from hfmem.estimator.values import Estimate, Loading, Margin
from hfmem.estimator.weights.loading import file_bytes, largest_experts, largest_matrix, mapped
from hfmem.estimator.weights.quantisers import find_quantiser
from hfmem.mapper.interpret import Model

__all__ = ["loading", "margin"]

_SOURCE: Final = "transformers 5.24.0, modeling_utils.py::_load_pretrained_model and core_model_loading.py"
_LAST: Final = Margin(
    nbytes=1_288_490_189,  # 1.2 GiB
    why="transformers itself never takes the last 1.2 GiB of a card when it loads",
    source="transformers 5.24.0, modeling_utils.py::caching_allocator_warmup",
)


def loading(model: Model, scenario: Scenario, weights: int) -> Loading | None:
    """The peak while loading. Tensors are copied one by one from memory-mapped files, while pickled files are read as a
    whole. On the device, a matrix is quantised next to its original, and a layer's experts are fused next to their
    separate tensors."""
    from_files = mapped(model)
    if from_files is None:
        return None
    how, host = "memory-mapped files, whose pages can be reclaimed", 0
    if not from_files:
        read = file_bytes(model)
        how, host = "all pickled files together", -1 if read is None else read
    on_cpu = scenario.gpu is not None and scenario.gpu.kind == "cpu"
    quantiser = find_quantiser(scenario.dtype or "")
    beside, what = 0, ""
    if quantiser is not None:
        beside, what = largest_matrix(model, scenario.compute_dtype), ", and the original of the largest packed matrix"
    elif _joined(model):
        beside, what = largest_experts(model, scenario.compute_dtype), ", and one layer's experts before they are fused"
    # `weights` are those of one rank, whereas the largest matrix is of the whole model
    ranks = max(1, scenario.parallel.tp * scenario.parallel.ep)
    device = weights + beside // ranks
    return Loading(
        host=None if host < 0 else host + (device if on_cpu else 0),  # on a CPU, the weights are in host memory too
        gpu=device,
        how=f"host: {how}; accelerator: the weights{what}",
        source=_SOURCE,
    )


def _joined(model: Model) -> bool:
    """Whether the files store experts as separate tensors, which the class fuses into one."""
    # stored fused, a layer has at most two expert tensors (gate_up and down), which are three-dimensional
    table, depth = model.parameters, model.architecture.depth or 0
    groups = table.groups if table is not None else ()
    return any(group.component == "experts" and len(group.shape) == 2 and group.count > 2 * depth for group in groups)


def margin(estimate: Estimate) -> Margin:
    """Inference: the last 1.2 GiB. Training: memory that the allocator may reserve beyond what is allocated."""
    facts = estimate.training
    if facts is None:
        return _LAST
    return Margin(
        nbytes=max(0, facts.reserved[1] - estimate.total),
        why="PyTorch's allocator may reserve that much more than is allocated",
        source=facts.reserved_source,
    )
