"""Room on the disk that holds the Hugging Face cache."""

from __future__ import annotations

import shutil
from pathlib import Path

from huggingface_hub import constants

__all__ = ["cache_room"]


def cache_room() -> tuple[str, int] | None:
    """The cache's folder and the free bytes of its disk; None where the disk cannot be asked."""
    folder = Path(constants.HF_HUB_CACHE)
    try:
        existing = next((path for path in (folder, *folder.parents) if path.exists()), None)
        return (str(folder), shutil.disk_usage(existing).free) if existing else None
    except OSError:
        return None
