"""Parsing of values with several spellings, and suggestions for unknown words."""

from __future__ import annotations

import re
from collections.abc import Iterable
from operator import index
from typing import Any, Final

from hfmem.errors import cut, quoted
from hfmem.units import gib_of

__all__ = ["gibibytes", "near", "not_one_of", "plain", "tokens"]

_TOKENS: Final = re.compile(r"(\d[\d_,]*|\d*\.\d+)\s*([km]?)", re.IGNORECASE | re.ASCII)
_SIZES: Final = {"": 1, "k": 2**10, "m": 2**20}
_MOST_DIGITS: Final = 20
_LONGEST: Final = 80  # characters of a word that are compared
_ENOUGH: Final = 2  # characters that are enough to complete a word
_BEGUN: Final = re.compile(r"\d+", re.ASCII)


def tokens(text: str) -> int:
    """A number of tokens: `4096`, `32k` and `128K` (× 1024), `1M`, `131,072`.

    Raises:
        ValueError: it is not a number of tokens; the message is worded to follow an option's name.
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
    """A scalar of another package (NumPy, PyTorch) as a Python number or bool; anything else unchanged."""
    if isinstance(value, (bool, int, float, str)) or value is None:
        return value
    if getattr(value, "shape", None) == ():  # a scalar; NumPy's have a dtype
        return value.item()
    try:
        return index(value)
    except TypeError:  # an array has the method too, but is no scalar
        return value


def near(word: str, known: Iterable[str], count: int = 1) -> tuple[str, ...]:
    """Known words similar to a misspelled one, most similar first; otherwise those that it is a prefix of. Case is
    ignored."""
    from difflib import get_close_matches  # only for misspelled words

    by_fold, asked = {each.lower(): each for each in known}, word[:_LONGEST].lower()
    begun = [each for each in by_fold if len(asked) >= _ENOUGH and each.startswith(asked)]
    return tuple(by_fold[each] for each in (get_close_matches(asked, by_fold, n=count, cutoff=0.7) or begun)[:count])


def not_one_of(word: object, known: Iterable[str]) -> str:
    """The message for an unknown word: the known ones, and a suggestion."""
    words = tuple(known)
    meant = " or ".join(f"'{each}'" for each in near(str(word), words) or _of_the_same_number(str(word), words)[:2])
    told = f" (did you mean {meant}?)" if meant else ""
    return f"'{cut(word)}' is not one of {', '.join(words)}{told}"


def _of_the_same_number(word: str, known: Iterable[str]) -> tuple[str, ...]:
    """Known words that end in the number with which another begins: int4 and nf4 for `4bit`."""
    begun = _BEGUN.match(word[:_LONGEST])
    return () if begun is None else tuple(each for each in known if re.fullmatch(rf"[a-z]+{begun[0]}", each))


def gibibytes(text: str) -> float:
    """A memory size in GiB; a number without unit is GiB.

    Raises:
        ValueError: it is not a size.
    """
    size = gib_of(text)
    try:
        return float(text) if size is None else size
    except ValueError:
        raise ValueError(f"'{cut(text)}' is not a memory size such as 2, 2GiB or 512MiB") from None
