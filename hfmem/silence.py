"""The libraries without their messages, while they are loaded and run."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["quiet"]


@contextmanager
def quiet() -> Iterator[None]:
    """A context without the libraries' messages and warnings: of devices and extensions that are not here, and of
    tensors that are not real. What they raise is not affected."""
    import logging  # comes with what is silenced

    before = logging.root.manager.disable
    logging.disable(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
