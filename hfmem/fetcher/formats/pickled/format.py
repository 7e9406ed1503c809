"""The format of PyTorch's own files."""

from __future__ import annotations

from typing import Final

from hfmem.fetcher.formats.protocol import Format, Reading
from hfmem.units import MIB

__all__ = ["FORMAT", "HEAD", "LONGEST"]

HEAD: Final = 128 * 1024
"""Bytes requested first: the pickle of 1,000 tensors."""

LONGEST: Final = 64 * MIB
"""Longest row of pickles that is read, in bytes."""


def _read(file: str) -> Reading:
    from hfmem.fetcher.formats.pickled.reader import read  # not for other formats

    return (yield from read(file))


FORMAT: Final = Format(
    name="PyTorch",
    suffixes=(".bin", ".pt", ".pth", ".ckpt"),
    read=_read,
    head=HEAD,
    most_bytes=2 * LONGEST,
    most_requests=8,
)
