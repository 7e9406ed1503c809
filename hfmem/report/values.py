"""What every report is made from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from hfmem.estimator.values import Estimate, Group, Scenario, Trace
from hfmem.fetcher.selection import download_files
from hfmem.fetcher.values import Checkpoint
from hfmem.mapper.interpret import Model
from hfmem.mapper.values import Architecture, ParameterTable

if TYPE_CHECKING:
    from hfmem.advice.fit import Fit
    from hfmem.advice.inference import Advice
    from hfmem.advice.training import Saving

__all__ = ["GROUP_NAMES", "Download", "Report"]

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
"""What people call each group."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Download:
    """What a download to run the model would fetch. `nbytes` and `files` are None where they are not known."""

    nbytes: int | None
    files: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """A model under a scenario: everything that a format shows.

    Attributes:
        fits: the model held against each accelerator that was named; None where none was.
        advice: what would help, where it does not fit on the first.
        savings: ways to need less in training, the largest saving first.
        trace: the peak as it was measured on the real class, where that was asked.
    """

    model: Model
    scenario: Scenario
    estimate: Estimate
    fits: tuple[Fit, ...] | None = None
    advice: tuple[Advice, ...] = ()
    savings: tuple[Saving, ...] = ()
    trace: Trace | None = None

    @property
    def checkpoint(self) -> Checkpoint:
        """What was fetched."""
        return self.model.checkpoint

    @property
    def architecture(self) -> Architecture:
        """Layers and sizes."""
        return self.model.architecture

    @property
    def parameters(self) -> ParameterTable | None:
        """The parameters; None where unknown."""
        return self.model.parameters

    @property
    def allocated(self) -> int:
        """Bytes of the estimate that the class itself allocates: all but the overhead."""
        return self.estimate.total - (self.estimate.group("overhead") or 0)

    @property
    def notes(self) -> tuple[str, ...]:
        """Every remark, once."""
        lines = (*self.model.notes, *self.scenario.chosen, *self.estimate.notes)
        reasons = (f"{group.replace('_', ' ')}: unknown, {reason}." for group, reason in self.estimate.unknown)
        return tuple(dict.fromkeys((*lines, *reasons)))

    @property
    def download(self) -> Download:
        """The chosen weights with the configuration and tokenizer files; nothing for what is on this machine already.

        Where no listing is at hand (the catalog), the bytes of the tensors, without a count of files.
        """
        if self.checkpoint.source == "local":
            return Download(nbytes=0, files=0)
        if not self.checkpoint.weight_files:
            nbytes = sum(tensor.nbytes for tensor in self.checkpoint.tensors)
            return Download(nbytes=nbytes or None, files=None)
        files = download_files(self.checkpoint.files, self.checkpoint.weight_files)
        sizes = [file.size for file in files]
        known = [size for size in sizes if size is not None]
        return Download(nbytes=sum(known) if len(known) == len(sizes) else None, files=len(files))
