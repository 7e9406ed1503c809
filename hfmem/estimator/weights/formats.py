"""What an engine does with a quantised checkpoint on given hardware: (format, hardware) -> kept, unpacked or refused.

Each engine's rows are in its own package (`engines/*/formats.py`), with the source line that decides. This module
selects a row.
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
    """What an engine does with a format on given hardware. The first row that matches applies.

    Attributes:
        methods: `quant_method` names, `*` for every one, or `--dtype WORD` for quantisation while loading.
        outcome: weights stay packed; they are unpacked to the compute dtype; the engine refuses them.
        schemes: number formats it applies to; empty for all.
        biased_experts: True: only models whose experts have biases; False: only those without; None: both.
        hardware: kinds of device; empty for all.
        least: minimum NVIDIA compute capability (8.9 is 89); 0 for any.
        scales_stay: whether scales are kept although weights are unpacked.
        stays: components that stay packed where the rest is unpacked.
        reason: the engine's behaviour, as a clause.
        source: the source line that decides.
    """

    methods: tuple[str, ...]
    outcome: Outcome
    source: str
    schemes: tuple[str, ...] = ()
    biased_experts: bool | None = None
    hardware: tuple[Hardware, ...] = ()
    least: int = 0
    scales_stay: bool = False
    stays: tuple[str, ...] = ()
    reason: str = ""

    def speaks_of(self, method: str, scheme: str, *, biased_experts: bool) -> bool:
        """Whether the row applies to a format, regardless of hardware."""
        named = method in self.methods or ("*" in self.methods and not method.startswith("--"))
        return named and (not self.schemes or scheme in self.schemes) and self.biased_experts in (None, biased_experts)

    @property
    def everywhere(self) -> bool:
        """Whether the row applies to all hardware, so that later rows are never reached."""
        return not self.hardware and not self.least

    def holds_on(self, gpu: Accelerator) -> bool:
        """Whether the row's hardware conditions match an accelerator; not for one of unknown kind."""
        kind = hardware_of(gpu)
        if self.hardware and kind not in self.hardware:
            return False
        return not self.least or kind != "cuda" or _capability(gpu) >= self.least


AS_STORED: Final = FormatRow(methods=(), outcome="kept", source="")
"""The default where no row matches: weights stay packed, as stored."""

_VENDORS: Final[dict[str, Hardware]] = {
    "nvidia": "cuda",
    "amd": "rocm",
    "intel": "xpu",
    "apple": "mps",
    "qualcomm": "cpu",
}


def hardware_of(gpu: Accelerator) -> Hardware | None:
    """PyTorch's device type of an accelerator; None where it is unknown (a memory budget)."""
    return "cpu" if gpu.kind == "cpu" else _VENDORS.get(gpu.vendor)


def _capability(gpu: Accelerator) -> int:
    """NVIDIA's compute capability as a number (8.9 is 89)."""
    major, _, minor = gpu.compute_capability.partition(".")
    return int(major) * 10 + int(minor or 0) if major.isdigit() else 0


def row_of(rows: Iterable[FormatRow], gpu: Accelerator | None) -> FormatRow:
    """The row that applies to a format on an accelerator.

    Args:
        rows: the rows for the format, in order.
        gpu: the accelerator. If None or of unknown kind, hardware that keeps the format packed is assumed, and rows
            that unpack or refuse on certain hardware are skipped.
    """
    found = list(rows)
    if gpu is not None and hardware_of(gpu) is not None:
        return next((row for row in found if row.holds_on(gpu)), AS_STORED)
    return next((row for row in found if row.outcome == "kept" or row.everywhere), AS_STORED)
