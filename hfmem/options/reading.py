"""How values are read that people write in several ways, and what is said of a word that is not known."""

from __future__ import annotations

import re
from collections.abc import Iterable
from operator import index
from typing import Any, Final

from hfmem.errors import cut, quoted

__all__ = ["near", "not_one_of", "plain", "tokens"]

_TOKENS: Final = re.compile(r"(\d[\d_,]*|\d*\.\d+)\s*([km]?)", re.IGNORECASE | re.ASCII)
_SIZES: Final = {"": 1, "k": 2**10, "m": 2**20}
_MOST_DIGITS: Final = 20
_LONGEST: Final = 80  # letters of a word that are compared
_ENOUGH: Final = 2  # letters that say which word is begun


def tokens(text: str) -> int:
    """A number of tokens as people write it: `4096`, `32k` and `128K` (x 1024), `1M`, `131,072`.

    Raises:
        ValueError: it is none, with what is wrong as it follows an option's name.
    """
    found = _TOKENS.fullmatch(text.strip())
    if found is not None and len(text) <= _MOST_DIGITS:
        size = _SIZES[found[2].lower()]
        digits = found[1].replace(",", "").replace("_", "")
        number = float(digits) * size if "." in digits else int(digits) * size
        if number == int(number):
            return int(number)
    if re.fullmatch(r"[+-]?\d+", text.strip(), re.ASCII):
        return int(text) if len(text) <= _MOST_DIGITS else 10**_MOST_DIGITS
    raise ValueError(f"is {quoted(text)}, expected a whole number such as 4096, or 32k for 32 x 1024")


def plain(value: Any) -> Any:
    """A number or a switch of another package (NumPy's, PyTorch's) as Python's own; anything else as it is."""
    if isinstance(value, (bool, int, float, str)) or value is None:
        return value
    if getattr(value, "shape", None) == ():  # a scalar: NumPy's say what they are by their dtype
        return value.item()
    try:
        return index(value)
    except TypeError:  # an array has the method, and is none
        return value


def near(word: str, known: Iterable[str], count: int = 1) -> tuple[str, ...]:
    """The known words that a misspelt one may mean, the nearest first, else those that it is the beginning of; letter
    case does not count."""
    from difflib import get_close_matches  # for what is misspelt only

    by_fold, asked = {each.lower(): each for each in known}, word[:_LONGEST].lower()
    begun = [each for each in by_fold if len(asked) >= _ENOUGH and each.startswith(asked)]
    return tuple(by_fold[each] for each in (get_close_matches(asked, by_fold, n=count, cutoff=0.7) or begun)[:count])


def not_one_of(word: object, known: Iterable[str]) -> str:
    """What is said of a word that is not among those that are known: which are, and which may be meant."""
    words = tuple(known)
    meant = near(str(word), words)
    told = f" (did you mean '{meant[0]}'?)" if meant else ""
    return f"'{cut(word)}' is not one of {', '.join(words)}{told}"
