"""How accelerators of one machine are connected, on which the buffers of their communication depend."""

from __future__ import annotations

from typing import Final, Literal

from hfmem.hardware.values import Accelerator

__all__ = ["Link", "link_of"]

Link = Literal["nvswitch", "nvlink", "pcie"]
"""`nvswitch`: every pair at full speed, with reductions in the switch (NVLink SHARP, from Hopper on); `nvlink`: direct
links; `pcie`: over the bus or the host's memory."""

_MODULES: Final = ("A100", "A800", "V100", "H100", "H800", "H200", "H20", "GH200", "B200", "GB200", "B300", "GB300")
"""Cards that are sold as SXM modules or superchips (nvidia.com: DGX, HGX)."""
_BOARDS: Final = ("PCIe", "NVL", "A800 40GB")
"""Words of the cards among them that are plugged into a bus; bridges between pairs of them are an extra."""
_FABRIC: Final = ("cdna3", "cdna4")
"""AMD Instinct accelerators that are fully connected on their base board (Infinity Fabric)."""


def link_of(gpu: Accelerator | None) -> Link:
    """The link between several of a kind. Without a card, that of a server's modules, as the most demanding one."""
    if gpu is None or gpu.basis == "given":
        return "nvswitch"
    if gpu.generation in _FABRIC:
        return "nvlink"
    if gpu.name.split()[0] not in _MODULES or any(word in gpu.name for word in _BOARDS):
        return "pcie"
    return "nvswitch" if gpu.generation in ("hopper", "blackwell") else "nvlink"
