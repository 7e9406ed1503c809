"""Overheads of a vLLM server outside of PyTorch's allocations in the profile run: contexts, libraries, CUDA graphs."""

from __future__ import annotations

from hfmem.engines.vllm.settings import Settings, settings_of
from hfmem.estimator.overheads import context_terms
from hfmem.estimator.values import Scenario, Term
from hfmem.mapper.interpret import Model
from hfmem.units import MIB

__all__ = ["server_overheads"]


def server_overheads(model: Model, scenario: Scenario) -> list[Term]:
    """The terms of one rank; `model` is the part on that rank."""
    settings = settings_of(scenario)
    experts = bool(model.architecture.experts)
    contexts = context_terms(scenario.gpu, scenario.parallel, experts=experts)
    return [*contexts, _forward_term(scenario, settings), *_graph_terms(settings)]


def _forward_term(scenario: Scenario, settings: Settings) -> Term:
    alone, shared = settings.rules.forward
    mebibytes = shared if scenario.parallel.tp > 1 else alone
    if scenario.parallel.pp > 1 and scenario.parallel.tp == 1:
        mebibytes = 72  # 0.07 GiB in the logs of pipelines without tensor parallelism
    return Term(
        name="libraries, during the profile run",
        kind="libraries",
        group="overhead",
        nbytes=mebibytes * MIB,
        how="`non-torch forward increase`: 0.07 to 0.46 GiB on one GPU or with pipeline parallelism; with tensor "
        "parallelism 0.5 GiB up to 0.16, 2.1 GiB since 0.17",
        source="start-up logs: github.com/jgchn/llm-d-planner/tree/d3121e059da88662db39a926a3ead964be97359b",
        certainty="typical",
    )


def _graph_terms(settings: Settings) -> list[Term]:
    """CUDA graphs: one set per captured batch size: 1, 2, 4, then multiples of 8 up to 256 and of 16 up to 512."""
    if settings.enforce_eager:
        return []
    # vLLM's default max_cudagraph_capture_size
    largest = min(2 * settings.max_num_seqs, 512)
    sizes = [size for size in (1, 2, 4, *range(8, 257, 8), *range(272, 513, 16)) if size <= largest]
    each = settings.rules.graphs
    return [
        Term(
            name="CUDA graphs",
            kind="graphs",
            group="overhead",
            nbytes=len(sizes) * each * MIB,
            how=f"{len(sizes)} captured sizes × {each} MiB; 0.1 to 2.9 GiB seen",
            source="vLLM 0.19.0, config/compilation.py (sizes); start-up logs (about 12 MiB per piecewise and 6 MiB "
            "per full graph)",
            certainty="typical",
        )
    ]
