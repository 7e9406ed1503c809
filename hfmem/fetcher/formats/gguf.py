"""GGUF, llama.cpp's format. Its header is not read yet: a file is known by its size.

Format: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md
"""

from __future__ import annotations

from typing import Final

from hfmem.fetcher.formats.protocol import Format

__all__ = ["FORMAT"]

FORMAT: Final = Format(name="GGUF", suffixes=(".gguf",), read=None)
