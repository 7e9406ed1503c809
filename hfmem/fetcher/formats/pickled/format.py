"""The format of PyTorch's own files."""

from __future__ import annotations

from typing import Final

from hfmem.fetcher.formats.pickled.limits import HEAD, LONGEST
from hfmem.fetcher.formats.protocol import Format, Reading

__all__ = ["FORMAT"]


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
    optional=True,
)
