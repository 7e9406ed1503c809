"""Overheads of a vLLM server outside of PyTorch's allocations in the profile run: contexts, libraries, communication
between ranks, CUDA graphs."""

from __future__ import annotations

from typing import Final

from hfmem.engines.vllm.communication import communication_terms
from hfmem.engines.vllm.graphs import graph_terms
from hfmem.engines.vllm.settings import Settings, settings_of
from hfmem.estimator.overheads import context_terms
from hfmem.estimator.parallel import SINGLE
from hfmem.estimator.scenario import Scenario
from hfmem.estimator.values import Term
from hfmem.mapper.interpret import Model
from hfmem.units import MIB

__all__ = ["server_overheads"]

_LIBRARIES: Final = {"hopper": 133, "blackwell": 133}
_OTHERS: Final = 50
_PROFILED_INSIDE: Final = ((0, 17), (0, 26))  # releases whose reading includes the capture of graphs for profiling
_CAPTURING: Final = 123


def server_overheads(model: Model, scenario: Scenario) -> list[Term]:
    """The terms of one rank; `model` is the part on that rank."""
    settings = settings_of(scenario)
    return [
        *context_terms(scenario.gpu, SINGLE),  # of one card: communication has terms of its own
        _libraries(scenario, settings),
        *communication_terms(model, scenario, settings),
        *graph_terms(model, scenario, settings),
    ]


def _libraries(scenario: Scenario, settings: Settings) -> Term:
    """Kernels that are loaded, and workspaces outside of PyTorch, when the model runs for the first time."""
    first, last = _PROFILED_INSIDE
    alone = _LIBRARIES.get(scenario.gpu.generation if scenario.gpu else "hopper", _OTHERS)
    captured = _CAPTURING if first <= settings.release <= last and not settings.enforce_eager else 0
    if scenario.parallel.pp > 1 and scenario.parallel.tp == 1:
        alone, captured = 72, 0  # 0.07 GiB in the logs of pipelines without tensor parallelism
    how = f"{alone} MiB" + (f" + {captured} MiB that the profile of CUDA graphs leaves" if captured else "")
    return Term(
        name="libraries, during the profile run",
        kind="libraries",
        group="overhead",
        nbytes=(alone + captured) * MIB,
        how=f"{how}; `non-torch forward increase` of one GPU: 0.13 GiB on H100 up to 0.16 and 0.25 since 0.17, 0.02 to "
        "0.09 on other cards",
        source="start-up logs: github.com/jgchn/llm-d-planner/tree/d3121e059da88662db39a926a3ead964be97359b and "
        "github.com/unslothai/notebooks",
        certainty="typical",
    )
