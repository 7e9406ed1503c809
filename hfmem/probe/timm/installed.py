"""Imports timm. It imports torchvision, whose files on PyPI lack their operators beside a PyTorch of another build; no
model here calls them, so their declarations are enough."""

from __future__ import annotations

from importlib import import_module
from typing import Any

import torch

__all__ = ["timm"]

_DECLARED = (
    "nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
)


def _import() -> Any:
    """timm itself."""
    try:
        return import_module("timm")
    except RuntimeError as error:
        if "torchvision::" not in str(error):
            raise
    library = torch.library.Library("torchvision", "FRAGMENT")
    for schema in _DECLARED:
        library.define(schema)
    _kept.append(library)  # its declarations end with it
    return import_module("timm")


_kept: list[Any] = []
timm = _import()
