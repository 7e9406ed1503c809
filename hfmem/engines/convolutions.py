"""Convolutions on accelerators: how much of the copies into another memory layout is certain.

cuDNN runs half-precision convolutions in NHWC, and copies their input and output for it into the workspace of its
plan. PyTorch runs the first plan of cuDNN's heuristics and sets no limit (`Conv_v8.cpp`). Since 9.8 they can be asked
for a card that is not there (`tests/oracle/cudnn.py`, `fixtures/oracle/cudnn.json`): from Ampere on, both copies are
made in half precision, for each number of images; of a tensor with more than 2^31 elements, those of as many images at
a time as have no more. In float32 it is both, the larger one or none, by card and size; before Ampere too.

Earlier releases cannot be asked, and are known by readings: with one image in half precision both copies are there
(FLUX on an H100, Stable Diffusion on an A100). FLUX's VAE on an H100 with cuDNN 9.1 takes 2.375, 2.000, 2.000 and 1.875
GiB an image at 1, 4, 8 and 16 images. The first is what is asked of later releases, and the last, which is in two
pieces. At 4 and 8 images the convolution after the last upsampling has at most 62 % of both copies, and the one after
it has both. Stable Diffusion's VAE on a T4 takes 1.75 GiB for 4 images of 512 x 512, which is one copy of the second
largest and none of the largest.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Protocol

from hfmem.hardware.values import Accelerator

__all__ = ["COPIES", "Convolution", "Convolved", "highest", "older", "widened_once", "widens"]

COPIES: Final = "with copies that a convolution makes of its input and output on a GPU (NHWC)"

_OLDER: Final = ("maxwell", "pascal", "volta", "turing")


_INDEXED: Final = 1 << 31
"""Elements of a tensor that a plan can index: of more, cuDNN runs as many images at a time as have no more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Convolution:
    """A convolution of a batch.

    Attributes:
        bare: bytes that are alive while it runs, without copies.
        larger, both: bytes of the copies of its input and output: of the larger one, and of both.
        elements: of the larger of its input and output.
        images: its batch.
    """

    bare: float
    larger: float
    both: float
    elements: float
    images: float

    @property
    def share(self) -> float:
        """What part of its copies is there at a time: that of as many images as a plan can index."""
        at_once = _INDEXED * self.images // self.elements if self.elements else self.images
        return min(1.0, at_once / self.images) if at_once else 1.0  # a single image that is larger: not known

    @property
    def most(self) -> float:
        """Bytes while it runs, with both copies."""
        return self.bare + self.both * self.share

    def least(self, *, single: bool) -> float:
        """Bytes while it runs, with what is certain of the copies: of pieces in half precision, both; in float32 of
        pieces, nothing."""
        if self.share == 1:
            return self.bare + self.larger
        return self.bare if single else self.most


class Convolved(Protocol):
    """What something with convolutions takes: the highest moment without copies, with the larger one and with both."""

    @property
    def peak(self) -> int: ...

    @property
    def once(self) -> int: ...

    @property
    def copied(self) -> int: ...


def older(gpu: Accelerator | None) -> bool:
    """Whether a card is of before Ampere, where convolutions in half precision may copy nothing."""
    return gpu is not None and gpu.generation in _OLDER


_WIDENING: Final = ("7.5", "8.6")


def widens(gpu: Accelerator | None) -> bool:
    """Whether half-precision plans of 3D convolutions of many channels hold their output in float32 on a card: with
    cuDNN 9.10 to 9.20, which PyTorch 2.8 to 2.12 have (`fixtures/oracle/cudnn.json`), on Turing and consumer Ampere."""
    return gpu is not None and gpu.compute_capability in _WIDENING


def widened_once(gpu: Accelerator | None) -> bool:
    """Whether they did on a card in earlier releases only: on an A100 with cuDNN 9.10 (PyTorch 2.8 to 2.10)."""
    return gpu is not None and gpu.compute_capability == "8.0"


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
    if older(gpu):
        return found.peak, found.copied
    return (found.once if images > 1 or single else found.copied), found.copied
