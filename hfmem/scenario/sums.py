"""Whether a run asks for the sums of a model's weights alone, or for its matrices, and not for their order in files."""

from __future__ import annotations

from typing import Final

from hfmem.engines.table import USUAL, find_engine
from hfmem.options.option import declared
from hfmem.scenario.options import Options

__all__ = ["parts_suffice", "sums_suffice"]

_SIZES: Final = frozenset({"batch", "seq", "source_seq", "runtime", "attention", "kv_dtype"})
"""Options that change nothing about the weights. Quantising, a split and training go through single matrices."""

_FITS: Final = frozenset({"gpu", "reserve"})
"""Options that ask where it fits: on several accelerators its matrices are split, and advice quantises them."""


def sums_suffice(options: Options) -> bool:
    """Whether nothing is asked for but to run a model as it is stored, on one accelerator, by an engine whose weights
    follow from sums."""
    return _asks_at_most(options, _SIZES)


def parts_suffice(options: Options) -> bool:
    """The same, and where it fits."""
    return _asks_at_most(options, _SIZES | _FITS)


def _asks_at_most(options: Options, names: frozenset[str]) -> bool:
    row = find_engine(options.runtime or USUAL)
    asked = {option.name for option in declared(type(options)) if option.asked(options)}
    return row is not None and row.sums and asked <= names
