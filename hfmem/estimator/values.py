"""The estimator's output: an estimate as a sum of named terms."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, Literal

from hfmem.estimator.beside import InPieces, TrainingFacts
from hfmem.estimator.placement import Placement
from hfmem.estimator.serving import Serving
from hfmem.mapper.values import Certainty
from hfmem.options.reading import not_one_of
from hfmem.units import format_bytes

__all__ = [
    "GROUPS",
    "Estimate",
    "Group",
    "Loading",
    "Margin",
    "Phase",
    "Rank",
    "Term",
    "total_of",
]

Group = Literal[
    "weights", "kv_cache", "activations", "overhead", "master_weights", "gradients", "optimizer", "temporary"
]

GROUPS: Final[tuple[Group, ...]] = (
    "weights",
    "kv_cache",
    "activations",
    "overhead",
    "master_weights",
    "gradients",
    "optimizer",
    "temporary",
)
"""Every memory group, in the order of reports."""


def _known(group: str) -> None:
    """Check the name of a memory group.

    Raises:
        ValueError: there is no such group.
    """
    if group not in GROUPS:
        raise ValueError(f"the group {not_one_of(group, GROUPS)}")


TermKind = Literal["context", "communication", "workspace", "libraries", "graphs", "graph activations", "managed"]
"""Overheads: the context that a process creates on the accelerator; NCCL buffers; cuBLAS workspaces; memory that
libraries take during vLLM's profile run; CUDA graphs; activations that graphs and their warm-up keep; CUDA's managed
memory, which the driver may page out."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Term:
    """One named part of an estimate.

    Attributes:
        name: its name in reports.
        group: its memory group.
        nbytes: bytes.
        how: the arithmetic, so that a reader can redo it.
        source: where the formula or the figure is from.
        certainty: exact (counted from the files), derived (follows from the architecture), measured (a coefficient
            measured on the implementation), typical (varies with the machine), unknown.
        phase: the phase of the training step it belongs to; None for inference.
        kind: sort of overhead, by which engines and training select it; None for most terms.
    """

    name: str
    group: Group
    nbytes: int
    how: str
    source: str
    certainty: Certainty
    phase: str | None = None
    kind: TermKind | None = None

    @property
    def allocated(self) -> bool:
        """Whether it is allocated through PyTorch's caching allocator."""
        # the CUDA context, NCCL buffers and managed memory are allocated by others, so torch's statistics lack them
        return self.kind not in ("context", "communication", "managed")


@dataclass(frozen=True, slots=True, kw_only=True)
class Phase:
    """A phase of a training step: resident memory, plus what the phase needs."""

    name: str
    terms: tuple[Term, ...]

    def group(self, group: Group) -> int:
        """Bytes of a group; ValueError for an unknown group."""
        _known(group)
        return total_of(term for term in self.terms if term.group == group)

    @property
    def total(self) -> int:
        """Bytes of all groups."""
        return total_of(self.terms)


@dataclass(frozen=True, slots=True, kw_only=True)
class Rank:
    """Ranks of a parallel plan that hold the same terms.

    Attributes:
        ranks: their rank numbers.
        terms: the terms of one of them.
    """

    ranks: tuple[int, ...]
    terms: tuple[Term, ...]

    @property
    def total(self) -> int:
        """Bytes of one rank."""
        return total_of(self.terms)

    @property
    def allocated(self) -> int:
        """Bytes of one rank that are allocated through PyTorch's allocator."""
        return total_of(term for term in self.terms if term.allocated)


@dataclass(frozen=True, slots=True, kw_only=True)
class Margin:
    """The safety margin: a fit with less free memory is reported as tight.

    Attributes:
        nbytes: bytes per accelerator.
        why: what may use it, worded to follow "because".
        source: where the figure is from.
    """

    nbytes: int
    why: str
    source: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Loading:
    """Peak memory while the checkpoint is loaded; `typical`, as it varies with the machine.

    Attributes:
        host: bytes of host memory, without the page cache of memory-mapped files, which the kernel can reclaim; None
            where no source documents it.
        gpu: bytes of the most loaded accelerator; None where no source documents it.
        how: what is held at the peak, and how many copies.
        source: where that is documented.
    """

    host: int | None
    gpu: int | None
    how: str
    source: str


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Estimate:
    """An estimate: its terms, and what is unknown.

    Attributes:
        terms: every known term.
        unknown: (group, reason) for each group with an unknown part; its sum is None where it has no term at all.
        kv_cache_per_token: bytes that token seq+1 adds to the KV cache at batch 1; None where unknown.
        kv_cache_fixed: bytes of the cache at batch 1 that do not grow with the length; None where unknown.
        notes: remarks for the reader.
        phases: phases of a training step, in order; `terms` are those of the largest.
        peak_phase: name of the largest phase.
        ranks: the terms of each distinct rank, where there are several GPUs; `terms` are those of the most loaded.
        serving: what a serving engine has left for its KV cache; None for other runtimes.
        in_pieces: the total with a long prompt run in chunks, where the user did not ask for chunks; None where that
            is unknown or saves nothing.
        training: further figures of a training run.
        spared: bytes between the highest and the lowest total, where `--dtype` leaves open which tool quantises, and
            tools leave different modules unquantised.
        refused: why the software would refuse to run this; "" where it would run.
        refused_by_most: why it would be refused with the tool that leaves most modules unquantised, where it runs with
            another; "" otherwise.
        formats: the remarks that state the weights' number format, and why.
        loading: the peak while loading; None where no source documents it.
        host: terms in host memory, per accelerator.
        convolved: whether the total is a range for want of knowing how cuDNN runs convolutions.
        placement: where whole modules lie; None where they are not put on devices so.
    """

    terms: tuple[Term, ...]
    unknown: tuple[tuple[Group, str], ...] = ()
    kv_cache_per_token: int | None = None
    kv_cache_fixed: int | None = None
    notes: tuple[str, ...] = ()
    phases: tuple[Phase, ...] = ()
    peak_phase: str | None = None
    ranks: tuple[Rank, ...] = ()
    serving: Serving | None = None
    in_pieces: InPieces | None = None
    training: TrainingFacts | None = None
    spared: int = 0
    refused: str = ""
    refused_by_most: str = ""
    formats: tuple[str, ...] = ()
    loading: Loading | None = None
    host: tuple[Term, ...] = ()
    convolved: bool = False
    placement: Placement | None = None

    def __repr__(self) -> str:
        sign = "at least " if self.is_lower_bound else ""
        return f"<Estimate {sign}{format_bytes(self.total, 'GiB')}, {len(self.terms)} terms>"

    def group(self, group: Group, rank: Rank | None = None) -> int | None:
        """Bytes of a group, on one rank or on the most loaded one. None where the whole group is unknown; 0 where it
        is empty; ValueError for an unknown group."""
        _known(group)
        terms = [term.nbytes for term in (rank.terms if rank else self.terms) if term.group == group]
        if not terms and any(name == group for name, _ in self.unknown):
            return None
        return sum(terms)

    @property
    def total(self) -> int:
        """Bytes of all known groups."""
        return sum(term.nbytes for term in self.terms)

    @property
    def low(self) -> int:
        """The low end of the total where it is a range (`spared`), else the total."""
        return self.total - self.spared

    @property
    def known_total(self) -> int | None:
        """The total; None where the weights are unknown, as the remaining terms alone say nothing about the model."""
        return None if self.group("weights") is None else self.total

    @property
    def is_lower_bound(self) -> bool:
        """Whether a part is unknown, so that the total is a lower bound."""
        return bool(self.unknown)


def total_of(terms: Iterable[Term]) -> int:
    """Bytes of some terms."""
    return sum(term.nbytes for term in terms)
