"""Lists that are longer than a sitting: rows in a file, and tables of Arrow in and out.

>>> from hfmem.scan import estimate_batch  # doctest: +SKIP
>>> estimate_batch(pyarrow.table({"id": ["openai-community/gpt2"]}), gpu=("24GB",))  # doctest: +SKIP
"""

from __future__ import annotations

from typing import Any

__all__ = ["estimate_batch"]


def __getattr__(name: str) -> Any:
    if name == "estimate_batch":
        from hfmem.scan.batches import estimate_batch  # imports all that an estimate needs

        return estimate_batch
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
