"""The colour of each memory group, the same on the page, in pictures and in the terminal.

They are told apart by people with the common kinds of colour blindness, on light and on dark ground (the vibrant
palette of Paul Tol, https://sronpersonalpages.nl/~pault/), and never carry a meaning alone: names stand beside them.
"""

from __future__ import annotations

from typing import Final

from hfmem.estimator.values import Group

__all__ = ["COLOURS", "TOO_MUCH"]

COLOURS: Final[dict[Group, str]] = {
    "weights": "#0077bb",
    "kv_cache": "#ee7733",
    "activations": "#009988",
    "overhead": "#999999",
    "master_weights": "#33bbee",
    "gradients": "#cc3311",
    "optimizer": "#aa3377",
    "temporary": "#ccbb44",
}
"""Hexadecimal sRGB by group."""

TOO_MUCH: Final = "#cc3311"
"""What marks the end of an accelerator's memory."""
