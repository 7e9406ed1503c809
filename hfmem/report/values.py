"""The report as a value, from which all formats are rendered."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from importlib import import_module
from typing import Any, Final, NamedTuple

from hfmem.advice.values import Advice, Candidate, Fit, Plan, Saving, Variants
from hfmem.against.values import Against
from hfmem.estimator.scenario import Scenario
from hfmem.estimator.traced import Trace
from hfmem.estimator.values import Estimate, Group
from hfmem.fetcher.pipelines import listed
from hfmem.fetcher.selection import download_files
from hfmem.fetcher.tensors import stored_bytes
from hfmem.fetcher.values import Checkpoint
from hfmem.mapper.bundle import Bundle
from hfmem.mapper.interpret import Model
from hfmem.mapper.values import Architecture, Certainty, ParameterTable
from hfmem.report.choice_notes import choice_notes
from hfmem.units import format_bytes

__all__ = ["GROUP_NAMES", "Download", "Fits", "Report"]

GROUP_NAMES: Final[dict[Group, str]] = {
    "weights": "weights",
    "kv_cache": "KV cache",
    "activations": "activations",
    "overhead": "overhead",
    "master_weights": "master weights",
    "gradients": "gradients",
    "optimizer": "optimizer states",
    "temporary": "temporary",
}
"""The name of each group in reports."""


class Download(NamedTuple):
    """The download needed to run the model. `nbytes` and `files` are None if unknown."""

    nbytes: int | None
    files: int | None


class Fits(tuple["Fit", ...]):
    """Whether a model fits on some accelerators; a tuple that shows itself in notebooks."""

    __slots__ = ()

    def _repr_html_(self) -> str:
        return str(_view("hfmem.report.html.fragments", "fits_fragment", self))


def _view(module: str, name: str, *shown: object) -> Any:
    """What a function that renders reports makes of one; it is named, as its module imports this one."""
    return getattr(import_module(module), name)(*shown)


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Report:
    """A model in a scenario, with everything that formats show.

    Attributes:
        model: the model; the first one of a bundle.
        scenario: its scenario.
        estimate: the estimate for all models together.
        bundle: the models that run as one; None for a single model.
        fits: one result per given accelerator; empty without any.
        advice: options that help if it does not fit on the first accelerator.
        savings: options that reduce the memory of training, the largest saving first.
        plans: how far training goes on the first accelerator, in several ways; empty without one, or for inference.
        trace: the traced peak, if requested.
        choices: the quantisations to choose from, the smallest first; empty if one was named, or if there is only one.
        against: the estimate held against a log; None without one.
        holders: the machines of the tables that it fits on, the fewest and smallest first; None if not asked for.
        variants: the forms of its model that the Hub or the catalog knows; None if not asked for.
        label: its name in a list, if the id alone does not distinguish the rows; "" if it does.
    """

    model: Model
    scenario: Scenario
    estimate: Estimate
    fits: tuple[Fit, ...] = ()
    advice: tuple[Advice, ...] = ()
    savings: tuple[Saving, ...] = ()
    plans: tuple[Plan, ...] = ()
    trace: Trace | None = None
    bundle: Bundle | None = None
    choices: tuple[Candidate, ...] = ()
    against: Against | None = None
    holders: tuple[Fit, ...] | None = None
    variants: Variants | None = None
    label: str = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "fits", Fits(self.fits))

    def to_dict(self) -> dict[str, Any]:
        """The report as one of the `results` of `--format json`: sizes in bytes, None where unknown."""
        found: dict[str, Any] = _view("hfmem.report.result", "to_result", self)
        return found

    def _repr_html_(self) -> str:
        return str(_view("hfmem.report.html.fragments", "summary", self))

    def __repr__(self) -> str:
        scenario, estimate = self.scenario, self.estimate
        sign = "at least " if estimate.is_lower_bound else ""
        verdicts = ""
        if self.fits:
            verdicts = f", fits on {sum(bool(fit.fits) for fit in self.fits)} of {len(self.fits)} accelerators named"
        return (
            f"<Report {self.checkpoint.ref.model_id!r}: {scenario.mode}, batch {scenario.batch} × {scenario.seq:,} "
            f"tokens, {sign}{format_bytes(estimate.total, 'GiB')}{verdicts}>"
        )

    @property
    def name(self) -> str:
        """Its name in lists and sentences."""
        return self.label or self.checkpoint.ref.model_id

    @property
    def models(self) -> tuple[Model, ...]:
        """All models that run."""
        return self._bundle.models

    @property
    def _bundle(self) -> Bundle:
        return self.bundle or Bundle.of(self.model)

    @property
    def checkpoint(self) -> Checkpoint:
        """The fetched checkpoint."""
        return self.model.checkpoint

    @property
    def architecture(self) -> Architecture:
        """Layers and sizes."""
        return self.model.architecture

    @property
    def parameters(self) -> ParameterTable | None:
        """The parameters of all models; None where unknown."""
        return self._bundle.parameters

    @property
    def certainty(self) -> Certainty:
        """The certainty of the parameters."""
        return self._bundle.certainty

    @property
    def source(self) -> str:
        """The source of the parameters."""
        return self._bundle.source

    @property
    def allocated(self) -> int:
        """Bytes of the estimate without the overhead, which are allocated by the class itself."""
        return self.estimate.total - (self.estimate.group("overhead") or 0)

    def beside(self, group: Group) -> int | None:
        """The estimate of a group of what was traced; None where it is not known."""
        if self.trace is None or self.trace.estimate is None:
            return self.estimate.group(group)
        return self.trace.estimate.get(group)

    @property
    def beside_peak(self) -> int:
        """The estimate of all that was traced, as far as it is known."""
        if self.trace is None or self.trace.estimate is None:
            return self.allocated
        return sum(self.trace.estimate.values())

    @property
    def notes(self) -> tuple[str, ...]:
        """All remarks, without duplicates."""
        told = choice_notes(self.choices, self.checkpoint, read=self.model.conversion is None) if self.choices else ()
        lines = (*told, *self._bundle.notes, *self.scenario.chosen, *self.estimate.formats, *self.estimate.notes)
        reasons = (f"{group.replace('_', ' ')}: unknown, {reason}." for group, reason in self.estimate.unknown)
        return tuple(dict.fromkeys((*lines, *reasons)))

    @property
    def download(self) -> Download:
        """The selected weights of all models with config and tokenizer files, except files that are already on this
        machine."""
        parts = [_download(model.source_of_files) for model in self.models]
        return Download(nbytes=_sum(part.nbytes for part in parts), files=_sum(part.files for part in parts))


def _download(checkpoint: Checkpoint) -> Download:
    """The download of one checkpoint. Without a file listing (in the catalog), the bytes of the tensors, and no number
    of files."""
    if checkpoint.base is not None:
        return _with_base(checkpoint, checkpoint.base)
    if checkpoint.source == "local":
        return Download(nbytes=0, files=0)
    if not checkpoint.weight_files:
        nbytes = stored_bytes(checkpoint.tensors)
        return Download(nbytes=nbytes or None, files=None)
    folders = [one.name for one in listed(checkpoint.pipeline or {})]
    files = download_files(checkpoint.files, checkpoint.weight_files, folders)
    return Download(nbytes=_sum(file.size for file in files), files=len(files))


def _with_base(checkpoint: Checkpoint, base: Checkpoint) -> Download:
    """The download of a base model and of the adapter on it."""
    first = _download(base)
    if checkpoint.source == "local":
        return first
    own = [file for file in checkpoint.weight_files if file not in base.weight_files]
    nbytes = _sum([first.nbytes, *(file.size for file in own)])
    return Download(nbytes=nbytes, files=None if first.files is None else first.files + len(own))


def _sum(sizes: Iterable[int | None]) -> int | None:
    """The sum; None if a size is unknown."""
    found = list(sizes)
    known = [size for size in found if size is not None]
    return sum(known) if len(known) == len(found) else None
