"""Buffers through which the ranks of a vLLM server communicate, by the link between their cards and by release.

* NCCL's channels: 16 to 24 and more over NVLink, two over a bus, each with buffers of several protocols for each
  neighbour; the first collectives add those of their algorithm (NVLink SHARP in the switch among them).
* vLLM's own all-reduce (`distributed/device_communicators/custom_all_reduce.py`): two buffers of 8 MiB on every rank,
  if its cards reach each other's memory. GeForce drivers and hosts without peer access refuse that, and it is left out.
* PyTorch's symmetric memory (`symm_mem.py`, since 0.11) and FlashInfer's all-reduce, which is fused with the
  normalisation after it (`compilation/passes/fusion/allreduce_rms_fusion.py`, since 0.17).

The sizes of vLLM's buffers are its source's, those of NCCL what is left of readings of public servers.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from hfmem.engines.vllm.settings import Settings
from hfmem.estimator.parallel import Parallel
from hfmem.estimator.scenario import Scenario
from hfmem.estimator.values import Term, TermKind
from hfmem.hardware.links import Link, link_of
from hfmem.mapper.interpret import Model
from hfmem.units import MIB

__all__ = ["communication_terms"]

_LOGS: Final = "github.com/jgchn/llm-d-planner/tree/d3121e059da88662db39a926a3ead964be97359b/accuracy/results"
_AFTER_INIT: Final = (0, 11)  # since then, the first snapshot of free memory is taken after NCCL has been set up
_SWITCHED: Final = (0, 17)
_SYMMETRIC: Final = (0, 11)
_CUSTOM: Final = 8 * MIB
_CUSTOM_RANKS: Final = (2, 4, 6, 8)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Channels:
    """MiB of NCCL's channels: when a group is opened, and with its first collectives; of the experts' second group."""

    opened: int
    first: int
    experts: int
    how: str
    source: str


_NCCL: Final[Mapping[Link, _Channels]] = {
    "nvswitch": _Channels(
        opened=960,
        first=430,
        experts=500,
        how="over NVLink: 1.0 GiB when a server starts, less vLLM's own buffers; 0.4 GiB with the first collectives",
        source=f"start-up logs of vLLM 0.11 and 0.19 on H100: {_LOGS}",
    ),
    "nvlink": _Channels(
        opened=960,
        first=430,
        experts=500,
        how="over NVLink: 1.5 GiB in all on two A100, less what one has; as on H100 with releases before 0.17",
        source="start-up log of vLLM 0.7.2 on A100: github.com/daxdelvira/distributed_agent_gc, logs/vllm.log",
    ),
    "pcie": _Channels(
        opened=150,
        first=50,
        experts=0,
        how="without NVLink: 0.20 GiB in all on RTX 3090, 0.25 on RTX 4090 and 0.30 on L40S, less what one card has",
        source="github.com/vllm-project/vllm: pull 14447, issues 13061 and 15815",
    ),
}
_SWITCHED_FIRST: Final = 1850
"""MiB of the first collectives since 0.17 where a switch reduces: 2.06 to 2.21 GiB during the profile run on two and on
four H100, less what one has. The logs do not tell FlashInfer's workspace from NCCL's buffers in the switch."""

# by compute capability and ranks, in MiB: SYMM_MEM_ALL_REDUCE_MAX_SIZES
_SYMMETRIC_SIZES: Final[Mapping[str, Mapping[int, int]]] = {
    "9.0": {2: 64, 4: 32, 6: 64, 8: 64},
    "10.0": {2: 8, 4: 32, 6: 128, 8: 128},
    "10.3": {2: 4, 4: 32, 6: 32, 8: 64},
}


def communication_terms(model: Model, scenario: Scenario, settings: Settings) -> Iterator[Term]:
    """The terms of one rank; none on a single GPU. What is there before the first snapshot of free memory is
    `communication`, outside of the budget of `gpu_memory_utilization`; the rest is inside."""
    parallel, gpu = scenario.parallel, scenario.gpu
    if parallel.gpus == 1 or (gpu is not None and gpu.kind == "cpu"):
        return
    link = link_of(gpu)
    channels = _NCCL[link]
    opened: TermKind = "communication" if settings.release >= _AFTER_INIT else "libraries"
    yield _term("NCCL", opened, channels.opened, channels.how, channels.source)
    # models with experts open a second group
    if channels.experts and model.architecture.experts and parallel.tp > 1:
        how = "1.99 to 2.05 GiB when a server with experts starts, 1.51 to 1.53 for others"
        yield _term("NCCL, the experts' group", opened, channels.experts, how, channels.source)
    if parallel.tp == 1:
        return
    yield from _own(parallel, scenario, settings, opened, link)
    switched = link == "nvswitch" and settings.release >= _SWITCHED
    first = _SWITCHED_FIRST if switched else channels.first
    yield _term("NCCL's first collectives", "libraries", first, channels.how, channels.source)


def _term(name: str, kind: TermKind, mebibytes: int, how: str, source: str) -> Term:
    return Term(
        name=name, kind=kind, group="overhead", nbytes=mebibytes * MIB, how=how, source=source, certainty="typical"
    )


def _own(parallel: Parallel, scenario: Scenario, settings: Settings, kind: TermKind, link: Link) -> Iterator[Term]:
    """vLLM's own all-reduce, and symmetric memory."""
    if link == "pcie" or parallel.tp not in _CUSTOM_RANKS:
        return
    capability = scenario.gpu.compute_capability if scenario.gpu else "9.0"
    symmetric = 0
    if settings.release >= _SYMMETRIC:
        symmetric = _SYMMETRIC_SIZES.get(capability, {}).get(parallel.tp, 0) * MIB
    yield Term(
        name="all-reduce buffers",
        kind=kind,
        group="overhead",
        nbytes=2 * _CUSTOM + symmetric,
        how=f"2 × {_CUSTOM:,} B" + (f" + {symmetric:,} B of symmetric memory" if symmetric else ""),
        source="vLLM 0.19.0, distributed/device_communicators/{custom_all_reduce,symm_mem,all_reduce_utils}.py",
        certainty="derived",
    )
