"""Free space on the disk with the Hugging Face cache."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from huggingface_hub import constants

__all__ = ["cache_room"]


def cache_room() -> tuple[str, int | None] | None:
    """The cache folder and the free bytes on its disk (None if the folder is not writable); None if the disk cannot be
    queried."""
    folder = Path(constants.HF_HUB_CACHE)
    try:
        existing = next((path for path in (folder, *folder.parents) if path.exists()), None)
        if existing is None:
            return None
        usage = shutil.disk_usage(existing)
        there = existing.is_dir() and os.access(existing, os.W_OK | os.X_OK)
    except OSError:
        return None
    return str(folder), usage.free if there and usage.total else None  # virtual file systems have size 0
