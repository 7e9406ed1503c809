"""What the estimator takes and returns: a scenario, and an estimate that is a sum of named terms."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal, Protocol

from hfmem.estimator.parallel import SINGLE, Parallel
from hfmem.hardware.values import Accelerator
from hfmem.mapper.values import Certainty
from hfmem.options.reading import not_one_of
from hfmem.options.words import Attention, Method, Mode
from hfmem.units import format_bytes

__all__ = [
    "GROUPS",
    "Attention",
    "Estimate",
    "Group",
    "InPieces",
    "Loading",
    "Margin",
    "Method",
    "Mode",
    "Offload",
    "Phase",
    "Rank",
    "Scenario",
    "Serving",
    "Settings",
    "Term",
    "Trace",
    "TrainingFacts",
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
"""Every group of memory, in the order reports show them."""


def _known(group: str) -> None:
    """Nothing for a group of memory.

    Raises:
        ValueError: it is none.
    """
    if group not in GROUPS:
        raise ValueError(f"the group {not_one_of(group, GROUPS)}")


class Settings(Protocol):
    """What a serving engine runs with, as the rest of the package sees it; an engine's own module knows more.

    Attributes:
        chosen: a sentence for each choice that the engine made, not the person.
    """

    @property
    def chosen(self) -> tuple[str, ...]: ...

    def describe(self) -> str:
        """The engine and its release, in a few words."""

    def fields(self) -> Mapping[str, Any]:
        """What `scenario` of the JSON contract shows."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """What is assumed, with every choice made.

    Attributes:
        source_seq: tokens of the encoder (or of images that the decoder attends to); None where there is none.
        dtype: the asked run dtype or quantisation, else the model's own; None where nothing tells.
        word: what was asked for it, in lower case: it may name the tool that quantises; "" for nothing.
        compute_dtype: the floating dtype that activations (and by default the cache) have.
        kv_dtype: dtype of the cache.
        chosen: a sentence for each choice that the model made, not the person.
        parallel: how the model is spread over GPUs.
        gpu: the accelerator it runs on; None where none is named.
        reserve: bytes of each accelerator that the display or other programs hold.
        serving: the settings of a serving engine; None for a runtime that is none.
        unattended: why the asked attention does not run on the accelerator; "" where it does.
        prompt: tokens of the prompt, the rest of `seq` being the answer; None for all of them.
        prefill_chunk: tokens of the prompt that are run at once; None for all of them.
        The rest as in `Options`.
    """

    mode: Mode
    batch: int
    seq: int
    dtype: str | None
    compute_dtype: str | None
    kv_dtype: str | None
    runtime: str
    attention: Attention
    method: Method
    word: str = ""
    train: str | None = None
    optimizer: str | None = None
    source_seq: int | None = None
    chosen: tuple[str, ...] = ()
    parallel: Parallel = SINGLE
    gpu: Accelerator | None = None
    serving: Settings | None = None
    reserve: int = 0
    unattended: str = ""
    prompt: int | None = None
    prefill_chunk: int | None = None

    @property
    def available(self) -> int:
        """Bytes of the accelerator that nothing else holds; 0 where none is named."""
        return 0 if self.gpu is None else max(0, self.gpu.memory - self.reserve)


TermKind = Literal["context", "communication", "workspace", "libraries", "graphs"]
"""Overheads: what a process takes of an accelerator before it does anything; buffers of NCCL; workspaces of cuBLAS;
what libraries take during vLLM's profile run; CUDA graphs."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Term:
    """One named part of an estimate.

    Attributes:
        name: what it is.
        group: the group it belongs to.
        nbytes: bytes.
        how: the arithmetic a person can redo.
        source: where the formula or the number is from.
        certainty: exact (counted from the files), derived (follows from the architecture), measured (a coefficient
            measured on the implementation), typical (varies with the machine), unknown.
        phase: the phase of a training step it belongs to; None for inference.
        kind: what engines and training tell it by among the terms of its group; None for most.
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
        """Whether PyTorch's allocator sees it."""
        return self.kind not in ("context", "communication")


@dataclass(frozen=True, slots=True, kw_only=True)
class Phase:
    """A phase of a training step: resident memory, plus what the phase needs."""

    name: str
    terms: tuple[Term, ...]

    def group(self, group: Group) -> int:
        """Bytes of a group; a ValueError for a word that is none."""
        _known(group)
        return total_of(term for term in self.terms if term.group == group)

    @property
    def total(self) -> int:
        """Bytes of all groups."""
        return total_of(self.terms)


@dataclass(frozen=True, slots=True, kw_only=True)
class Rank:
    """What some ranks of a parallel plan hold, each the same.

    Attributes:
        ranks: their numbers.
        terms: every known part of one of them.
    """

    ranks: tuple[int, ...]
    terms: tuple[Term, ...]

    @property
    def total(self) -> int:
        """Bytes of one of them."""
        return total_of(self.terms)

    @property
    def allocated(self) -> int:
        """Bytes of one of them that PyTorch's allocator sees."""
        return total_of(term for term in self.terms if term.allocated)


@dataclass(frozen=True, slots=True, kw_only=True)
class Serving:
    """What a serving engine has left for its KV cache.

    Attributes:
        kv_pool: bytes of the pool on the tightest rank; negative where the rest already does not fit; None where no
            accelerator is named.
        kv_tokens: tokens it holds, as the engine's log counts them; None for a model without a cache.
        max_concurrency: requests of the asked length that it holds; None for a model without a cache.
        command: the launch line; None where it would not start, or the scenario does not fit.
        refused: why the engine does not start; "" where it does.
        lineless: why there is no launch line although the engine starts; "" where there is one.
    """

    kv_pool: int | None
    kv_tokens: int | None
    max_concurrency: float | None
    command: str | None
    refused: str = ""
    lineless: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Margin:
    """What should stay free where an estimate fits: with less, it is tight.

    Attributes:
        nbytes: bytes of one accelerator.
        why: what takes it, as it follows "because".
        source: where the figure is from.
    """

    nbytes: int
    why: str
    source: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Offload:
    """The most of a model that fits on accelerators, the rest of which the host holds.

    Attributes:
        layers: on accelerators.
        of: layers that there are, the output among them.
        experts_on_host: layers, from the first, whose experts are the host's.
        total: bytes of the most loaded accelerator then.
        host: bytes of the host then.
        option: what to add to the command line.
        command: the line that starts it so.
    """

    layers: int
    of: int
    experts_on_host: int
    total: int
    host: int
    option: str
    command: str = ""

    @property
    def whole(self) -> bool:
        """Whether all of it is on accelerators."""
        return self.layers == self.of and not self.experts_on_host


@dataclass(frozen=True, slots=True, kw_only=True)
class Loading:
    """The peak while the model is loaded, `typical` as it varies with the machine.

    Attributes:
        host: bytes of the host's memory, without pages of mapped files, which the system drops when it needs them; None
            where no source tells.
        gpu: bytes of the most loaded accelerator; None where no source tells.
        how: what is held, and how often.
        source: where that is from.
    """

    host: int | None
    gpu: int | None
    how: str
    source: str


@dataclass(frozen=True, slots=True, kw_only=True)
class InPieces:
    """What a run of a prompt in pieces takes.

    Attributes:
        tokens: of a piece.
        total: bytes.
    """

    tokens: int
    total: int


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingFacts:
    """What a training run shows besides its phases.

    Attributes:
        trainable: parameters that are trained.
        allocated: the peak of PyTorch's allocator: the total without the CUDA context and communication buffers.
        steady: what is left between steps, of the same, once the gradients are freed.
        gradients: all gradients of this GPU, which stay until the next step frees them.
        reserved: the least and the most that `nvidia-smi` shows at such a peak, context included.
        reserved_source: where that range is from.
        host: bytes in the host's memory, of one GPU.
    """

    trainable: int
    allocated: int
    steady: int
    gradients: int
    reserved: tuple[int, int]
    reserved_source: str
    host: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Trace:
    """The peak of a step as it was measured on the real class, in bytes; what a GPU adds (its context, workspaces, the
    rounding of its allocator) is not in it.

    Attributes:
        phase: what sets the peak: `layers` or `head`; in training `logits`, `backward` or `optimizer`.
        groups: what is alive at the peak.
        phases: the highest moment of each phase.
        layers: how many layers were run, in all runs together.
        seconds: how long it took.
        source: the versions of what was run.
    """

    phase: str
    groups: Mapping[Group, int] = field(hash=False)
    phases: Mapping[str, int] = field(hash=False)
    layers: int
    seconds: float
    source: str

    @property
    def peak(self) -> int:
        """Bytes at the highest moment."""
        return sum(self.groups.values())


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """The terms, and what is not known.

    Attributes:
        terms: every known part.
        unknown: groups of which a part is not known, with the reason; such a group's sum is None where it has no term.
        kv_cache_per_token: marginal bytes of token seq+1 at batch 1; None where unknown.
        kv_cache_fixed: bytes of the cache at batch 1 that do not grow with the length; None where unknown.
        notes: remarks for the reader.
        phases: of a training step, in their order; `terms` are those of the largest.
        peak_phase: its name.
        ranks: what each distinct rank holds, where there are several GPUs; `terms` are then those of the most loaded.
        serving: what a serving engine has left; None where it is not asked, or no accelerator is named.
        in_pieces: the total if a long prompt were run in pieces, where that was not asked; None where it is not known,
            or no less.
        training: what a training run shows besides.
        spared: bytes by which the total is lower at least, where what was asked stands for several ways to quantise.
        refused: why the software would not run this; "" where it would.
        refused_by_most: why it would not by the way to quantise that leaves most, where by another it would; "" for
            nothing.
        formats: those of the remarks that tell which number format the weights have, and why.
        loading: the peak while loading; None where no source tells.
        host: terms in the host's memory, of one accelerator.
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

    def __repr__(self) -> str:
        sign = "at least " if self.is_lower_bound else ""
        return f"<Estimate {sign}{format_bytes(self.total, 'GiB')}, {len(self.terms)} terms>"

    def group(self, group: Group, rank: Rank | None = None) -> int | None:
        """Bytes of a group (of one rank, else of the most loaded): the sum of its terms; None where nothing of it is
        known, 0 where there is nothing; a ValueError for a word that is none."""
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
        """The least that the total can be: the total itself, where it is one number."""
        return self.total - self.spared

    @property
    def known_total(self) -> int | None:
        """The same; None where nothing of the weights is known: what is left is no figure of the model."""
        return None if self.group("weights") is None else self.total

    @property
    def is_lower_bound(self) -> bool:
        """Whether a part is unknown, so that the true total is larger."""
        return bool(self.unknown)


def total_of(terms: Iterable[Term]) -> int:
    """Bytes of some terms."""
    return sum(term.nbytes for term in terms)
