"""Room on the disk that holds the Hugging Face cache."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from huggingface_hub import constants

__all__ = ["cache_room"]


def cache_room() -> tuple[str, int | None] | None:
    """The cache's folder and the free bytes of its disk, None for the bytes where no folder can be made there; None
    where the disk cannot be asked."""
    folder = Path(constants.HF_HUB_CACHE)
    try:
        existing = next((path for path in (folder, *folder.parents) if path.exists()), None)
        if existing is None:
            return None
        usage = shutil.disk_usage(existing)
        there = existing.is_dir() and os.access(existing, os.W_OK | os.X_OK)
    except OSError:
        return None
    return str(folder), usage.free if there and usage.total else None  # what the system only shows has no size
