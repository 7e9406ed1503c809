"""The attention implementation that runs: the requested one, if the model's classes and the accelerator support it.

Sources: transformers 5.24, modeling_utils.py (`_check_and_adjust_attn_implementation`, `_sdpa_can_dispatch`,
`_flash_attn_can_dispatch`) and modeling_flash_attention_utils.py (versions, devices, kernels).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, NamedTuple

from hfmem.engines.protocol import Attending
from hfmem.hardware.values import Accelerator
from hfmem.mapper.values import Implementations
from hfmem.options.otherwise import Detail
from hfmem.options.words import Attention
from hfmem.refusals.options import NoFlashError

__all__ = ["FLASH", "Kernel", "taken"]


class Kernel(NamedTuple):
    """A FlashAttention kernel.

    Attributes:
        name: its value of `attn_implementation`.
        title: its name in sentences.
        runs: whether it runs on an accelerator.
        needs: its requirement, worded to follow "needs".
        source: the evidence.
    """

    name: str
    title: str
    runs: Callable[[Accelerator], bool]
    needs: str
    source: str


def _capability(gpu: Accelerator) -> float:
    """NVIDIA's compute capability; 0 for other vendors."""
    try:
        return float(gpu.compute_capability) if gpu.vendor == "nvidia" else 0.0
    except ValueError:
        return 0.0


FLASH: Final[tuple[Kernel, ...]] = (
    Kernel(
        name="flash_attention_2",
        title="FlashAttention 2",
        runs=lambda gpu: _capability(gpu) >= 8,
        needs="an NVIDIA GPU of compute capability 8.0 or more",
        source="github.com/Dao-AILab/flash-attention, README: Ampere, Ada and Hopper; builds include Blackwell since "
        "2.7.4",
    ),
    Kernel(
        name="kernels-community/flash-attn2",
        title="FlashAttention 2",
        runs=lambda gpu: gpu.vendor == "intel" and gpu.generation != "gaudi",
        needs="an Intel GPU (XPU)",
        source="FLASH_ATTN_KERNEL_DEVICES: flash-attn2 is built for cuda and xpu",
    ),
    Kernel(
        name="kernels-community/vllm-flash-attn3",
        title="FlashAttention 3",
        runs=lambda gpu: gpu.vendor == "nvidia" and gpu.generation == "hopper",
        needs="a Hopper GPU (compute capability 9.0)",
        source="FLASH_ATTN_KERNEL_DEVICES: cuda; its kernels are Hopper's",
    ),
    Kernel(
        name="flash_attention_4",
        title="FlashAttention 4",
        runs=lambda gpu: _capability(gpu) >= 9,
        needs="a Hopper or Blackwell GPU (compute capability 9.0 or more)",
        source="FLASH_ATTENTION_COMPATIBILITY_MATRIX: cuda_min_major_version 9",
    ),
    Kernel(
        name="kernels-community/aiter-flash-attn",
        title="AITER's FlashAttention",
        runs=lambda gpu: gpu.vendor == "amd" and gpu.generation in ("cdna2", "cdna3", "cdna4"),
        needs="an AMD Instinct GPU of CDNA 2 or later",
        source="FLASH_ATTN_KERNEL_DEVICES: rocm",
    ),
    Kernel(
        name="flash_attention_2",
        title="FlashAttention 2 in Triton",
        runs=lambda gpu: gpu.vendor == "amd" and gpu.generation.startswith("rdna"),
        needs="an AMD GPU of RDNA",
        source="github.com/Dao-AILab/flash-attention, README: the Triton backend supports CDNA and RDNA",
    ),
    Kernel(
        name="kernels-community/metal-flash-sdpa",
        title="Metal's FlashAttention",
        runs=lambda gpu: gpu.vendor == "apple",
        needs="an Apple GPU",
        source="FLASH_ATTN_KERNEL_DEVICES: mps",
    ),
)
"""The kernels, in the order in which they are tried for a class that does not list its own."""

# reversed, so that of two rows with one name the first is found
_BY_NAME: Final = {kernel.name: kernel for kernel in reversed(FLASH)}


def taken(asked: Attention, has: Implementations, gpu: Accelerator | None, *, attends: bool) -> Attending:
    """The implementation that runs if the user asks for `asked`.

    Args:
        asked: `sdpa`, the default of transformers, falls back to eager where the class does not support it.
        has: the implementations that the model's classes support.
        gpu: the accelerator, if given.
        attends: whether the model has attention layers at all.

    Raises:
        NoFlashError: the class does not support flash attention.
    """
    if asked == "flash":
        known = gpu is not None and (gpu.vendor or gpu.kind == "cpu")  # a memory budget says nothing about kernels
        return _flash(has, gpu if known else None)
    if asked == "sdpa" and not has.sdpa:
        reason = f"{has.name} of {has.source} does not support sdpa and uses eager attention"
        return Attending("eager", Detail(f"--attention eager: {reason}.") if attends else "")
    return Attending(asked)


def _flash(has: Implementations, gpu: Accelerator | None) -> Attending:
    """The flash kernel that runs, or the requirements of those that the class supports.

    Raises:
        NoFlashError: the class supports none.
    """
    if not has.flash and not has.kernels:
        raise NoFlashError(has.name, has.source, "sdpa" if has.sdpa else "eager")
    # a class that lists kernels accepts no others
    rows = [row for name in has.kernels if (row := _BY_NAME.get(name))] if has.kernels else list(FLASH)
    if not rows:
        return Attending("flash", f"--attention flash: {has.kernels[0]}, the kernel that {has.name} names.")
    if gpu is None:
        kernel = _choices(has, rows) if has.kernels else f"{rows[0].title}, which needs {rows[0].needs}"
        return Attending("flash", f"--attention flash: {kernel}.")
    found = next((row for row in rows if row.runs(gpu)), None)
    if found is None:
        needs = "; ".join(f"{row.title} needs {row.needs}" for row in rows)
        return Attending("flash", refused=f"--attention flash does not run on {gpu.name}: {needs}")
    return Attending("flash", f"--attention flash: {found.title} (attn_implementation '{found.name}') on {gpu.name}.")


def _choices(has: Implementations, rows: list[Kernel]) -> str:
    """The kernels of a class that supports only some, where no accelerator is given."""
    return f"{has.name} takes only {', '.join(f'{row.title} ({row.needs})' for row in rows)}"
