"""Memory that no formula of the model gives: the CUDA context and library workspaces. One sourced row each.

These figures vary with the driver, the card and the libraries, so they are `typical`, and `--explain` shows the source.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from hfmem.estimator.values import Term
from hfmem.units import MIB

__all__ = ["OVERHEADS", "Overhead", "overhead_terms"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Overhead:
    """A fixed cost.

    Attributes:
        name: what it is.
        runtime: the software that has it.
        nbytes: bytes on one GPU.
        how: what the figure is a reading of, with its range.
        source: where it was read.
    """

    name: str
    runtime: str
    nbytes: int
    how: str
    source: str


OVERHEADS: Final[tuple[Overhead, ...]] = (
    Overhead(
        name="CUDA context",
        runtime="transformers",
        nbytes=522 * MIB,
        how="0.51 GiB on an H100; 0.47 to 1.4 GiB seen, by driver, card and loaded kernels",
        source="start-up snapshots of vLLM 0.19 on H100: "
        "github.com/jgchn/llm-d-planner/tree/d3121e059da88662db39a926a3ead964be97359b/accuracy/results",
    ),
    Overhead(
        name="cuBLAS workspace",
        runtime="transformers",
        nbytes=8_519_680,
        how="8,519,680 B a handle and stream on sm80 (':4096:2:16:8'); 32 MiB on sm90",
        source="docs.pytorch.org/docs/stable/notes/cuda.html, CUBLAS_WORKSPACE_CONFIG",
    ),
)


def overhead_terms(runtime: str) -> list[Term]:
    """The fixed costs of a runtime on one GPU."""
    return [
        Term(name=row.name, group="overhead", nbytes=row.nbytes, how=row.how, source=row.source, certainty="typical")
        for row in OVERHEADS
        if row.runtime == runtime
    ]
