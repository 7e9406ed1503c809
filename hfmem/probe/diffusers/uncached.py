"""Imports diffusers without the caches of its models' functions, so that each call is a first one."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

__all__ = ["diffusers"]

_cached = functools.lru_cache


def _unless_of_models(maxsize: Any = 128, typed: bool = False) -> Any:
    def decorate(function: Callable[..., Any]) -> Any:
        if str(function.__module__).startswith("diffusers.models"):
            return function
        return _cached(128 if callable(maxsize) else maxsize, typed)(function)

    return decorate(maxsize) if callable(maxsize) else decorate


functools.lru_cache = _unless_of_models
import diffusers  # noqa: E402

for _name in dir(diffusers):
    if _name.endswith(("Model", "VAE", "UNet")) or _name.startswith(("Autoencoder", "UNet")) or "Transformer" in _name:
        try:
            getattr(diffusers, _name)
        except Exception:  # noqa: S112 - a class whose optional package is missing
            continue
functools.lru_cache = _cached
