"""Imports diffusers so that the caches of its models' functions can be emptied: then each call is a first one."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

__all__ = ["diffusers", "forget"]

_cached = functools.lru_cache
_found: list[Any] = []


def _remembered(maxsize: Any = 128, typed: bool = False) -> Any:
    def decorate(function: Callable[..., Any]) -> Any:
        made = _cached(128 if callable(maxsize) else maxsize, typed)(function)
        if str(function.__module__).startswith("diffusers.models"):
            _found.append(made)
        return made

    return decorate(maxsize) if callable(maxsize) else decorate


functools.lru_cache = _remembered
import diffusers  # noqa: E402


def forget() -> None:
    """Empty the caches."""
    for cached in _found:
        cached.cache_clear()
