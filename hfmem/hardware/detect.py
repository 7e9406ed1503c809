"""Detection of this machine's accelerators: NVIDIA through NVML, AMD through sysfs, Apple through sysctl.

No optional package is imported, and every method may fail without an error: the result is then empty.
"""

from __future__ import annotations

import ctypes
import os
import platform
import subprocess
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Final

from hfmem.hardware.table import find, named
from hfmem.hardware.values import Accelerator, Machine
from hfmem.units import GIB, MIB, gib_of

__all__ = ["absent", "cpu", "detect", "machine", "physical_memory"]

_SYSFS: Final = Path("/sys/class/drm")
_SAME_CARD: Final = 1.1  # detected memory up to 10 % above the table's reading counts as the same GPU


def detect() -> tuple[Machine, ...]:
    """The accelerators of this machine, with equal ones grouped; empty if none is detected."""
    found = [*_nvidia(), *_amd(_SYSFS), *_apple()]
    counts: dict[Accelerator, int] = {}
    for accelerator in found:
        counts[accelerator] = counts.get(accelerator, 0) + 1
    return tuple(Machine(accelerator=accelerator, count=count) for accelerator, count in counts.items())


def absent() -> Machine:
    """A placeholder for a machine without accelerators, so that `--gpu auto` still gets a row."""
    return Machine(
        accelerator=Accelerator(
            name="auto",
            vendor="",
            generation="",
            kind="discrete",
            memory=0,
            basis="absent",
            source="no accelerator was found in this machine",
        )
    )


def machine(name: str) -> Machine:
    """The machine for a name: `cpu` for this machine's CPU, or `cpu 64GB` for one with this memory; else a row of the
    table, or a memory budget.

    Raises:
        InvalidScenarioError: an unknown name.
    """
    word, _, rest = name.strip().partition(" ")
    if word.lower() != "cpu":
        return find(name)
    size = gib_of(rest)
    return find(name) if rest and size is None else cpu(size)


def cpu(size: float | None = None) -> Machine:
    """This machine's CPU and memory, or a CPU with `size` GiB."""
    return Machine(
        accelerator=Accelerator(
            name="CPU" if size is None else f"CPU {size:g} GiB",
            vendor="",
            generation="cpu",
            kind="cpu",
            memory=physical_memory() if size is None else round(size * GIB),
            basis="detected" if size is None else "given",
            source="physical memory of this machine" if size is None else "--gpu",
        ),
        count=1,
    )


def physical_memory() -> int:
    """Bytes of this machine's memory; 0 if unknown."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):  # Windows has no sysconf
        return _windows_memory()


def _windows_memory() -> int:
    kilobytes = ctypes.c_ulonglong()
    kernel = getattr(ctypes, "windll", None)
    if kernel is not None and kernel.kernel32.GetPhysicallyInstalledSystemMemory(ctypes.byref(kilobytes)):
        return kilobytes.value * 1024
    return 0


class _Memory(ctypes.Structure):
    """`nvmlMemory_t`, in bytes."""

    _fields_ = (("total", ctypes.c_ulonglong), ("free", ctypes.c_ulonglong), ("used", ctypes.c_ulonglong))


def _nvidia() -> list[Accelerator]:
    library = _load("libnvidia-ml.so.1", "nvml.dll")
    if library is None or library.nvmlInit_v2() != 0:
        return []
    try:
        count = ctypes.c_uint()
        if library.nvmlDeviceGetCount_v2(ctypes.byref(count)) != 0:
            return []
        cards = (_nvidia_card(library, index) for index in range(count.value))
        return [card for card in cards if card is not None]
    finally:
        library.nvmlShutdown()


def _nvidia_card(library: ctypes.CDLL, index: int) -> Accelerator | None:
    handle, name, memory = ctypes.c_void_p(), ctypes.create_string_buffer(96), _Memory()
    if library.nvmlDeviceGetHandleByIndex_v2(ctypes.c_uint(index), ctypes.byref(handle)) != 0:
        return None
    if library.nvmlDeviceGetName(handle, name, ctypes.c_uint(len(name))) != 0:
        return None
    known = library.nvmlDeviceGetMemoryInfo(handle, ctypes.byref(memory)) == 0 and memory.total > 0
    text = name.value.decode("utf-8", "replace")
    return _described(text, "nvidia", memory.total if known else None, "NVIDIA management library of this machine")


def _load(*names: str) -> ctypes.CDLL | None:
    for name in names:
        with suppress(OSError):
            return ctypes.CDLL(name)
    return None


def _amd(root: Path) -> list[Accelerator]:
    found = []
    for path in sorted(root.glob("card[0-9]*/device/mem_info_vram_total")):
        with suppress(OSError, ValueError):
            memory = int(path.read_text(encoding="ascii"))
            product = path.parent / "product_name"
            name = product.read_text(encoding="utf-8").strip() if product.is_file() else ""
            found.append(_described(name or f"AMD GPU {memory // GIB} GiB", "amd", memory, f"{path.name} in sysfs"))
    return [card for card in found if card is not None and card.memory >= GIB]  # integrated graphics report less


def _apple() -> list[Accelerator]:
    if platform.system() != "Darwin" or platform.machine() != "arm64":
        return []
    chip = _sysctl("machdep.cpu.brand_string").removeprefix("Apple ")
    memory = _sysctl("hw.memsize")
    if not memory.isdigit():
        return []
    limit = _sysctl("iogpu.wired_limit_mb")
    if limit.isdigit() and int(limit):
        card = _described(chip, "apple", int(limit) * MIB, "iogpu.wired_limit_mb of this machine")
    else:
        card = _described(f"{chip} {int(memory) // GIB}GB", "apple", None, "")
    return [card] if card else []


def _sysctl(name: str) -> str:
    try:
        run = subprocess.run(  # noqa: S603 - a fixed command
            ["/usr/sbin/sysctl", "-n", name], capture_output=True, text=True, timeout=5, check=False
        )
    except (OSError, subprocess.SubprocessError):
        return ""
    return run.stdout.strip()


def _described(name: str, vendor: str, memory: int | None, source: str) -> Accelerator | None:
    """The table's row with this machine's memory, or a new row for an unknown name; None if the memory is unknown."""
    rows = named(name)
    if memory is None:
        return rows[0] if rows else None
    if not rows:
        return Accelerator(
            name=name, vendor=vendor, generation="", kind="discrete", memory=memory, basis="detected", source=source
        )
    row = min(rows, key=lambda row: abs(row.memory - memory))  # one name may be sold with several sizes
    # NVML's total includes memory that the driver reserves, which the table's reading does not; much more than the
    # reading means another variant of the GPU
    kept = row.basis == "reading" and memory < row.memory * _SAME_CARD
    return replace(row, memory=min(memory, row.memory) if kept else memory, basis="detected", source=source, aliases=())
