"""The result types of advice, without the code that computes them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Final, Literal, get_args

from hfmem.estimator.parallel import Parallel
from hfmem.estimator.serving import Offload
from hfmem.estimator.values import Estimate, Margin
from hfmem.hardware.values import Machine

if TYPE_CHECKING:
    from hfmem.hardware.values import Accelerator

__all__ = ["VERDICTS", "Advice", "Candidate", "Fit", "Plan", "Saving", "Speed", "Verdict"]

Verdict = Literal["fits", "tight", "no", "refused", "unknown"]

VERDICTS: Final[tuple[Verdict, ...]] = get_args(Verdict)
"""All verdicts on whether a model fits."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Speed:
    """A bound on how fast tokens are generated: by what accelerators read of their memory for each of them.

    Attributes:
        weights: bytes of the weights that one token uses, over all accelerators of a replica.
        cache: bytes of the cache of the whole batch at the full length.
        most: tokens per second of one sequence, at most.
        batch: sequences that run at once.
        bandwidth: bytes per second of one accelerator.
        at_once: accelerators that read at the same time.
        hosted: whether the host holds weights or cache too, which are read beside, at a speed that is not known.
        source: where the bandwidth is from.
    """

    weights: int
    cache: int
    most: float
    batch: int
    bandwidth: int
    at_once: int
    hosted: bool
    source: str

    @property
    def bytes_per_token(self) -> int:
        """Bytes read for one more token of each sequence."""
        return self.weights + self.cache


@dataclass(frozen=True, slots=True, kw_only=True)
class Saving:
    """An option that reduces memory, with the resulting total; whether that fits on the given accelerator (None if none
    was given, or a part is unknown), and whether it leaves less room than the margin."""

    option: str
    what: str
    total: int
    fits: bool | None = None
    tight: bool = False


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Fit:
    """Whether and how a model fits on one kind of accelerator.

    Attributes:
        machine: the accelerators.
        parallel: how many of them the estimate uses, and how.
        usable: bytes of one accelerator that the estimate may use.
        estimate: the estimate; None if the engine refuses the split.
        fits: None if a part is unknown and the known parts fit; False if the engine refuses it.
        tight: whether it fits but leaves less than `margin` free.
        margin: the part of `usable` that should stay free; None without an estimate.
        max_batch: sequences of the given length that fit; 0 for none, None if unknown or unlimited.
        max_seq: tokens that fit at the given batch, at most the model's own maximum; 0 for none, None if unknown.
        largest: the largest sizes of what is made that fit, each with the others as asked, by name; () for models
            without such sizes.
        gpus_needed: the fewest that fit (tensor-parallel up to 8, then pipeline stages of 8); None if unknown, or if
            128 are not enough.
        reserve: bytes of one accelerator that other programs use.
        refused: why the engine refuses the split or the launch; "" if it does not, or only with some recipes.
        never: whether the engine refuses it regardless of memory.
        offload: the largest part that fits, if the engine leaves the rest in host memory; None if it does not, if the
            user chose the part, or if nothing fits.
        speed: how fast tokens are generated at most; None where nothing is, or the bandwidth is not known.
    """

    machine: Machine
    parallel: Parallel
    usable: int
    estimate: Estimate | None = None
    fits: bool | None = None
    tight: bool = False
    margin: Margin | None = None
    max_batch: int | None = None
    max_seq: int | None = None
    largest: tuple[tuple[str, int], ...] = ()
    gpus_needed: int | None = None
    reserve: int = 0
    refused: str = ""
    never: bool = False
    offload: Offload | None = None
    speed: Speed | None = None

    shown: ClassVar[Callable[[Fit], str] | None] = None
    """How notebooks show it as HTML; set by `hfmem.api`, as this package does not import reports."""

    def _repr_html_(self) -> str | None:
        return None if Fit.shown is None else Fit.shown(self)

    def __repr__(self) -> str:
        return f"<Fit {self.parallel.gpus} × {self.gpu.name}: fits {self.fits}, headroom {self.headroom}>"

    @property
    def gpu(self) -> Accelerator:
        """The accelerator."""
        return self.machine.accelerator

    @property
    def headroom(self) -> int | None:
        """Bytes that stay free on the most loaded accelerator. Negative by the bytes missing if it does not fit,
        including those by which the reserve exceeds the accelerator."""
        beyond = max(0, self.reserve - self.gpu.memory)
        return None if self.estimate is None else self.usable - beyond - self.estimate.total

    @property
    def verdict(self) -> Verdict:
        """The verdict as one word, the same in every output format: `fits`, `tight` (fits with little room), `no` (too
        little memory), `refused` (the engine does not start for another reason), or `unknown`."""
        if self.fits:
            return "tight" if self.tight else "fits"
        short = self.headroom is not None and self.headroom < 0
        if self.refused and not (short and not self.never):
            return "refused"
        return "unknown" if self.fits is None else "no"


@dataclass(frozen=True, slots=True, kw_only=True)
class Advice:
    """A change that reduces memory.

    Attributes:
        option: the option to add to the command line.
        total: the resulting bytes on the most loaded accelerator.
        fits: whether that fits.
        tight: whether it fits but leaves less than the margin free.
        host: bytes that the host's memory then holds of the model.
        moved: whether those are more than before.
    """

    option: str
    total: int
    fits: bool
    tight: bool = False
    host: int = 0
    moved: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """A way of training, and how far it goes on one kind of accelerator.

    Attributes:
        option: what to add to the command line; "" as asked.
        method: `full`, `lora` or `qlora`.
        adapters: another method of PEFT, by its name in sentences; "" for LoRA, and without adapters.
        checkpointing: whether layers are recomputed.
        seq, batch: tokens of a row, and the largest micro-batch of them, or the smallest that there is if none fits.
        total: bytes at that batch.
        usable: bytes of one accelerator that training may use.
        max_batch: the largest micro-batch at `seq`; 0 for none, None if unlimited.
        max_seq: the longest rows at the asked batch, at most the model's own maximum; 0 for none.
        max_rank: the highest rank of adapters there; 0 for none, None without adapters.
        gpus: the fewest accelerators at the asked batch, sharded as asked, or by FSDP; None if 128 replicas are not
            enough.
        best: whether it trains the most of the model of those that fit.
    """

    option: str
    method: Literal["full", "lora", "qlora"]
    adapters: str
    checkpointing: bool
    seq: int
    batch: int
    total: int
    usable: int
    max_batch: int | None
    max_seq: int
    max_rank: int | None
    gpus: int | None
    best: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """One of several quantisations of a model.

    Attributes:
        word: its name after the id or for `--quant`.
        file: its first file.
        quant: the quantisation in the file name; "" for none.
        nbytes: bytes of its files; None if the listing lacks a size.
        bits_per_weight: file bits per parameter; None if either is unknown.
        estimate: the estimate on the first accelerator; None if unknown.
        derived: whether its weights were derived from the file size and the header of another file.
        unknown: why there is no estimate; "" if there is one, or if none was made.
        fits: one result per given accelerator, without the limits that need a search, except for the context.
        chosen: whether the report is about it.
        model: the repository that has it, of the forms of a base model; "" for the one of the report.
        relation: what that repository is to the base model (`base` for itself); "" outside of such lists.
        form: its number format, in words; "" outside of such lists.
        runtime: the engine that runs it; "" outside of such lists.
    """

    word: str
    file: str
    quant: str
    nbytes: int | None
    bits_per_weight: float | None
    estimate: Estimate | None = None
    derived: bool = False
    unknown: str = ""
    fits: tuple[Fit, ...] = ()
    chosen: bool = False
    model: str = ""
    relation: str = ""
    form: str = ""
    runtime: str = ""

    @property
    def first(self) -> Fit | None:
        """The result on the first accelerator that exists; None without any."""
        return next((fit for fit in self.fits if fit.machine.there), None)

    @property
    def max_seq(self) -> int | None:
        """The longest context there at the requested batch; None if unknown."""
        return None if self.first is None else self.first.max_seq

    @property
    def n_gpu_layers(self) -> int | None:
        """Layers offloaded there, including the output layer; None if unknown."""
        first = self.first
        if first is None or first.fits is None:
            return None
        if first.offload is None:
            return None if first.fits else 0
        if first.fits:
            return first.offload.of
        return first.offload.layers if first.offload.held else 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Variants:
    """The forms of a base model.

    Attributes:
        rows: the base model itself, then its forms, a row for each repository, and for each of several files.
        more: the relations to the base of which there are more than were asked for.
        source: who knew them: `hub` or `catalog`.
        reason: why the Hub was not asked, or how it failed; "" if it answered.
        most: how many repositories were asked for.
    """

    rows: tuple[Candidate, ...]
    more: tuple[str, ...]
    source: str
    reason: str
    most: int
