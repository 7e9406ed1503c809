"""Memory that does not depend on the model: the CUDA context, library workspaces, NCCL. One sourced row each.

These figures vary with driver, GPU and library versions, so they are `typical`; `--explain` shows the source.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from hfmem.estimator.parallel import SINGLE, Parallel
from hfmem.estimator.values import Term, TermKind
from hfmem.units import MIB

if TYPE_CHECKING:
    from hfmem.hardware.values import Accelerator

__all__ = ["OVERHEADS", "Overhead", "context_terms", "overhead_terms"]


class Overhead(NamedTuple):
    """A fixed cost.

    Attributes:
        name: name of the term.
        kind: kind of the term.
        of: what it applies to: a GPU generation or vendor, PyTorch (`workspace`), or `several` GPUs.
        nbytes: bytes on one GPU.
        how: what was measured, and the range that was seen.
        source: where the measurement was published.
    """

    name: str
    kind: TermKind
    of: str
    nbytes: int
    how: str
    source: str


_LOGS: Final = "github.com/jgchn/llm-d-planner/tree/d3121e059da88662db39a926a3ead964be97359b/accuracy/results"

OVERHEADS: Final[tuple[Overhead, ...]] = (
    Overhead(
        name="CUDA context",
        kind="context",
        of="hopper",
        nbytes=522 * MIB,
        how="0.51 GiB on an H100; 0.47 to 1.4 GiB seen, by driver, card and loaded kernels",
        source=f"start-up snapshots of vLLM 0.19 on H100: {_LOGS}",
    ),
    Overhead(
        name="CUDA context",
        kind="context",
        of="ampere",
        nbytes=481 * MIB,
        how="0.47 GiB on an A100 with lazy loading (0.92 with eager loading, 1.78 with PyTorch 1.10)",
        source="github.com/stas00/ml-engineering, training/performance: memory used by the CUDA kernels",
    ),
    Overhead(
        name="CUDA context",
        kind="context",
        of="ada",
        nbytes=256 * MIB,
        how="0.25 GiB in use at the start of a worker on an L4",
        source="start-up log of vLLM 0.10.2, github.com/unslothai/notebooks, AMD-Qwen3_8B_FP8_GRPO.ipynb",
    ),
    Overhead(
        name="CUDA context",
        kind="context",
        of="volta",
        nbytes=1343 * MIB,
        how="1,343 MiB on a V100 with CUDA 11.2",
        source="huggingface.co/docs/transformers, model_memory_anatomy",
    ),
    Overhead(
        name="HIP context",
        kind="context",
        of="amd",
        nbytes=297_771_008,
        how="297,771,008 B in use on an idle MI300X",
        source="github.com/ROCm/legacy-rocm-build/issues/4750",
    ),
    Overhead(
        name="cuBLAS workspace",
        kind="workspace",
        of="workspace",
        nbytes=8_519_680,
        how="8,519,680 B per handle and stream on sm80 (':4096:2:16:8'); 32 MiB on sm90",
        source="docs.pytorch.org/docs/stable/notes/cuda.html, CUBLAS_WORKSPACE_CONFIG",
    ),
    Overhead(
        name="NCCL",
        kind="communication",
        of="several",
        nbytes=1004 * MIB,
        how="1.43 to 1.53 GiB at the start of a worker with 2 or 4 GPUs, 0.51 GiB with one; 0.9 to 1.5 GiB seen",
        source=f"start-up snapshots of vLLM 0.19 on H100: {_LOGS}",
    ),
)


def overhead_terms(gpu: Accelerator | None = None, parallel: Parallel = SINGLE) -> list[Term]:
    """The fixed costs of PyTorch on one GPU."""
    terms = context_terms(gpu, parallel)
    return terms + ([_term(row) for row in OVERHEADS if row.kind == "workspace"] if _is_cuda(gpu) else [])


def context_terms(gpu: Accelerator | None, parallel: Parallel) -> list[Term]:
    """The context of the accelerator and the communication buffers of several GPUs. Without `--gpu`, and for
    generations that were not measured, the H100's figure stands in; CPUs and vendors without a row add nothing."""
    rows = {row.of: row for row in OVERHEADS}
    chosen = []
    if gpu is None or _is_cuda(gpu):
        chosen.append(rows.get(gpu.generation if gpu else "", rows["hopper"]))
    elif gpu.vendor == "amd":
        chosen.append(rows["amd"])
    if chosen and parallel.gpus > 1:
        chosen.append(rows["several"])
    return [_term(row) for row in chosen]


def _is_cuda(gpu: Accelerator | None) -> bool:
    """Whether to count CUDA's overheads: yes for NVIDIA GPUs, and also where only a memory budget or nothing is given,
    as CUDA is the likely target."""
    return gpu is None or gpu.basis == "given" or (gpu.vendor == "nvidia" and gpu.kind != "cpu")


def _term(row: Overhead) -> Term:
    return Term(
        name=row.name,
        kind=row.kind,
        group="overhead",
        nbytes=row.nbytes,
        how=row.how,
        source=row.source,
        certainty="typical",
    )
