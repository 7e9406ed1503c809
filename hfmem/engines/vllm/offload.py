"""What a vLLM server keeps in the host's memory: a part of the weights, and blocks of the KV cache.

* `--cpu-offload-gb`: parameters of the layers are moved to pinned memory, one after another from the first layer on,
  until that much is moved; the GPU reads them over the bus (vLLM 0.33.0, `model_executor/offloader/uva.py`; 0.8.5,
  `model_executor/models/utils.py::maybe_offload_to_cpu`). Embeddings, head and towers stay.
* `--kv-offloading-size`: a second pool for blocks that leave the first, for all ranks together (`config/cache.py`).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from hfmem.engines.vllm.loaded import layer_tensors
from hfmem.engines.vllm.settings import settings_of
from hfmem.estimator.scenario import Scenario
from hfmem.estimator.values import Term
from hfmem.estimator.weights.kept import Kept
from hfmem.mapper.interpret import Model
from hfmem.units import format_bytes

__all__ = ["host_terms", "moved_terms", "offload_refusal"]

_WEIGHTS: Final = "vLLM 0.33.0, model_executor/offloader/uva.py"
_CACHE: Final = "vLLM 0.33.0, config/cache.py::kv_offloading_size"
_POOLED: Final = (0, 11)  # the first release with the connector


def moved_terms(model: Model, scenario: Scenario, kept: Kept) -> tuple[Term, ...]:
    """The weights of one rank that are in host memory, as a term below zero; `model` is the part on that rank."""
    moved = _moved(model, scenario, kept)
    if not moved:
        return ()
    how = f"parameters of the first layers, until {format_bytes(settings_of(scenario).extras.cpu_offload)} are moved"
    term = Term(
        name="offloaded to the host", group="weights", nbytes=-moved, how=how, source=_WEIGHTS, certainty="derived"
    )
    return (term,)


def host_terms(model: Model, scenario: Scenario, kept: Kept) -> tuple[Term, ...]:
    """What the host holds for all ranks, as the rank does for itself; `model` is the part on one rank."""
    return tuple(_host(model, scenario, kept))


def _host(model: Model, scenario: Scenario, kept: Kept) -> Iterator[Term]:
    ranks, extras = scenario.parallel.gpus, settings_of(scenario).extras
    if moved := _moved(model, scenario, kept):
        yield Term(
            name="offloaded weights",
            group="weights",
            nbytes=moved * ranks,
            how=f"{moved:,} B of pinned memory × {ranks} ranks",
            source=_WEIGHTS,
            certainty="derived",
        )
    if extras.kv_offload:
        yield Term(
            name="KV cache in host memory",
            group="kv_cache",
            nbytes=extras.kv_offload,
            how=f"--kv-offloading-size, of all {ranks} ranks" if ranks > 1 else "--kv-offloading-size",
            source=_CACHE,
            certainty="derived",
        )


def _moved(model: Model, scenario: Scenario, kept: Kept) -> int:
    """Bytes that are moved: whole parameters, the last of which may exceed the limit."""
    limit, moved = settings_of(scenario).extras.cpu_offload, 0
    if not limit:
        return 0
    for nbytes in layer_tensors(model, scenario, kept):
        if moved >= limit:
            break
        moved += nbytes
    return moved


def offload_refusal(scenario: Scenario) -> str:
    """Why offloading is refused; "" where it is not."""
    settings = settings_of(scenario)
    if settings.extras.kv_offload and settings.release < _POOLED:
        asked = ".".join(map(str, settings.release))
        return f"--kv-offloading-size is an option of vLLM 0.11 and later, not of {asked}"
    return ""
