"""The libraries without their messages, while a probe runs them."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import transformers

__all__ = ["quiet"]

_TALKATIVE: Final = ("accelerate", "torch._subclasses.fake_tensor")
"""Loggers that tell of devices that are not here, and of tensors that are not real."""


@contextmanager
def quiet() -> Iterator[None]:
    """A context without the libraries' messages and warnings."""
    level = transformers.logging.get_verbosity()
    transformers.logging.set_verbosity_error()
    before = {name: logging.getLogger(name).level for name in _TALKATIVE}
    for name in _TALKATIVE:
        logging.getLogger(name).setLevel(logging.CRITICAL)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        transformers.logging.set_verbosity(level)
        for name, known in before.items():
            logging.getLogger(name).setLevel(known)
