"""Bytes in: from the Hub, a cache, a local folder or the bundled catalog. The only package that opens a socket."""

from hfmem.fetcher.sources import Access, fetch
from hfmem.fetcher.values import Checkpoint, FileInfo, ModelRef, TensorInfo

__all__ = ["Access", "Checkpoint", "FileInfo", "ModelRef", "TensorInfo", "fetch"]
