"""What becomes of a quantised checkpoint on some hardware: rows of (format, hardware) -> kept, unpacked, refused.

The rows of an engine stand in its own room, each with the line of source that decides; this is how one is found.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal

if TYPE_CHECKING:  # most runs name no accelerator
    from hfmem.hardware.values import Accelerator

__all__ = ["AS_STORED", "FormatRow", "Hardware", "Outcome", "hardware_of", "row_of"]

Hardware = Literal["cuda", "rocm", "xpu", "mps", "cpu"]
Outcome = Literal["kept", "unpacked", "refused"]


@dataclass(frozen=True, slots=True, kw_only=True)
class FormatRow:
    """What an engine does with one format on some hardware; of several rows that match, the first holds.

    Attributes:
        methods: quantisers' names as checkpoints give them, `*` for every one, or `--dtype WORD` for quantising while
            it loads.
        outcome: packed weights stay as they are; they become the dtype that is computed in; the engine refuses.
        schemes: the number formats it speaks of; empty for all.
        biased_experts: whether it is about models whose experts have biases, or about those whose have none; None for
            all.
        hardware: the kinds of device; empty for all.
        least: the lowest compute capability of NVIDIA's (8.9 is 89); 0 for all.
        scales_stay: whether scales stay beside weights that are unpacked.
        stays: components that stay as they are stored where the rest is unpacked.
        reason: what the engine says or does, as half a sentence.
        source: the line that decides.
    """

    methods: tuple[str, ...]
    outcome: Outcome
    schemes: tuple[str, ...] = ()
    biased_experts: bool | None = None
    hardware: tuple[Hardware, ...] = ()
    least: int = 0
    scales_stay: bool = False
    stays: tuple[str, ...] = ()
    reason: str = ""
    source: str

    def speaks_of(self, method: str, scheme: str, *, biased_experts: bool) -> bool:
        """Whether it is about a format, on whatever hardware."""
        named = method in self.methods or ("*" in self.methods and not method.startswith("--"))
        return named and (not self.schemes or scheme in self.schemes) and self.biased_experts in (None, biased_experts)

    @property
    def everywhere(self) -> bool:
        """Whether it is about all hardware, so that no later row is ever looked at."""
        return not self.hardware and not self.least

    def holds_on(self, gpu: Accelerator) -> bool:
        """Whether it is about an accelerator; never for one of which nothing is known."""
        kind = hardware_of(gpu)
        if self.hardware and kind not in self.hardware:
            return False
        return not self.least or kind != "cuda" or _capability(gpu) >= self.least


AS_STORED: Final = FormatRow(methods=(), outcome="kept", source="")
"""What holds where no row speaks of a format: packed weights stay as they are stored."""

_VENDORS: Final[dict[str, Hardware]] = {
    "nvidia": "cuda",
    "amd": "rocm",
    "intel": "xpu",
    "apple": "mps",
    "qualcomm": "cpu",
}


def hardware_of(gpu: Accelerator) -> Hardware | None:
    """The kind of device that an accelerator is to PyTorch; None where that is not known (a budget of memory)."""
    return "cpu" if gpu.kind == "cpu" else _VENDORS.get(gpu.vendor)


def _capability(gpu: Accelerator) -> int:
    """NVIDIA's compute capability as a number (8.9 is 89)."""
    major, _, minor = gpu.compute_capability.partition(".")
    return int(major) * 10 + int(minor or 0) if major.isdigit() else 0


def row_of(rows: Iterable[FormatRow], gpu: Accelerator | None) -> FormatRow:
    """What becomes of a format on an accelerator.

    Args:
        rows: those that speak of the format, in their order.
        gpu: where it runs; without one, or where its kind is not known, hardware that keeps the format is assumed, and
            what is about some other kind of hardware is passed over.
    """
    found = list(rows)
    if gpu is not None and hardware_of(gpu) is not None:
        return next((row for row in found if row.holds_on(gpu)), AS_STORED)
    return next((row for row in found if row.outcome == "kept" or row.everywhere), AS_STORED)
