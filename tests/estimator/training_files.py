"""Training files that a test writes."""

from __future__ import annotations

from pathlib import Path

__all__ = ["written"]


def written(tmp_path: Path, text: str, name: str = "config.yaml") -> Path:
    path = tmp_path / name
    path.write_text(text)
    return path
