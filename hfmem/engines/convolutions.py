"""Convolutions on accelerators: how much of the copies into another memory layout is certain.

cuDNN runs half-precision convolutions in NHWC, and copies their input and output for it. Readings with one image in
half precision have both copies on cards from Ampere on (FLUX on an H100, Stable Diffusion on an A100). For larger
batches and float32 cuDNN's heuristics choose: readings are between one copy and both. Each convolution is decided by
itself: FLUX's VAE on an H100 takes 2.375, 2.000, 2.000 and 1.875 GiB an image at 1, 4, 8 and 16 images, which are, to
the MiB, both copies of its largest convolution, twice both of the second largest, and one of the largest. Cards before
Ampere may copy nothing there: Stable Diffusion's VAE on a T4 takes 1.75 GiB for 4 images of 512 x 512, which is one
copy of the second largest and none of the largest.
PyTorch takes the first plan of cuDNN's heuristics and sets no limit (`Conv_v8.cpp`), and those are not public.
"""

from __future__ import annotations

from typing import Final, Protocol

from hfmem.hardware.values import Accelerator

__all__ = ["COPIES", "Convolved", "highest"]

COPIES: Final = "with copies that a convolution makes of its input and output on a GPU (NHWC)"

_OLDER: Final = ("maxwell", "pascal", "volta", "turing")


class Convolved(Protocol):
    """What something with convolutions takes: the highest moment without copies, with the larger one and with both."""

    @property
    def peak(self) -> int: ...

    @property
    def once(self) -> int: ...

    @property
    def copied(self) -> int: ...


def highest(found: Convolved, gpu: Accelerator | None, *, images: int, single: bool) -> tuple[int, int]:
    """The lowest and the highest that the peak of a call may be; the same where it is certain.

    Args:
        found: what the call takes.
        gpu: where it runs; None for a current NVIDIA card.
        images: batch of the convolutions.
        single: whether it runs in float32.
    """
    if gpu is not None and gpu.vendor != "nvidia" and gpu.basis != "given":
        return found.peak, found.copied  # of other libraries no reading is known
    older = gpu is not None and gpu.generation in _OLDER
    if older:
        return found.peak, found.copied
    return (found.once if images > 1 or single else found.copied), found.copied
