"""How people write an accelerator: a count, a name, and the size of its memory, in any order of care.

`2x4090`, `RTX-4090 24GB`, `a100 80g` and `NVIDIA A100-SXM4-80GB` are each a count, a key (the name without maker, case,
blanks and dashes) and a size. Nothing here knows a table.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

__all__ = ["Spelled", "budget", "counted", "spelled"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Spelled:
    """What a spelling says.

    Attributes:
        words: the name, without maker and what tells no card from another.
        size: GB of memory that it names; None where it names none.
    """

    words: tuple[str, ...]
    size: int | None = None

    @property
    def key(self) -> str:
        """The name as keys are compared: without blanks and dashes."""
        return "".join(self.words)

    @property
    def short_keys(self) -> tuple[str, ...]:
        """The keys that leave out the series: `4090` for RTX 4090."""
        starts = range(1, len(self.words))
        return tuple("".join(self.words[n:]) for n in starts if all(word in _SERIES for word in self.words[:n]))


_MAKERS: Final = ("nvidia", "geforce", "tesla", "amd", "intel", "google", "aws", "qualcomm", "apple")
# words that drivers and shops add, and that tell no card from another
_EMPTY: Final = ("gpu", "generation", "edition", "graphics", "with", "design", "hbm2", "hbm2e", "hbm3", "hbm3e")
_SAME: Final = {"mobile": "laptop", "notebook": "laptop", "sxm2": "sxm", "sxm3": "sxm", "sxm4": "sxm", "sxm5": "sxm"}
# a series that people leave out: `4090`, `7900 XTX`, `A770`; not those of which several have the same numbers
_SERIES: Final = ("rtx", "gtx", "rx", "arc", "radeon", "instinct", "jetson")

_UNITS: Final = {"g": 1.0, "m": 2.0**-10, "t": 2.0**10}
_SIZE: Final = re.compile(r"(?P<number>\d{1,9}(?:\.\d{1,9})?)\s*(?P<unit>[gmt])(?:i?b)?", re.I)
_WORD_OF_SIZE: Final = re.compile(r"(?<![a-z0-9.])(?P<number>\d{1,6})\s*g(?:i?b)?(?![a-z0-9])", re.I)
_COUNTED: Final = re.compile(
    r"^(?P<before>[1-9]\d{0,3})\s*[x×*]\s*(?P<rest>.+)$|^(?P<name>.+?)(?:\s*:\s*|\s+[x×]\s*)(?P<after>[1-9]\d{0,3})$",
    re.I,
)
_BARE: Final = re.compile(r"\d{1,3}")
_LARGEST_BARE: Final = 512


def counted(text: str) -> tuple[str, int | None]:
    """A spelling without its count, and the count: `4x H100`, `2 x 4090`, `H100:4`, `H100 x4`; None for none."""
    match = _COUNTED.match(text.strip())
    if match is None:
        return text.strip(), None
    return (match["rest"] or match["name"]).strip(), int(match["before"] or match["after"])


def budget(text: str) -> float | None:
    """GiB of a spelling that is a size and nothing else; None for any other.

    Sizes of memory are in powers of two, whatever their unit is called: a card of `24GB` has 24 GiB. A number without a
    unit is GiB up to 512, more than which is likelier a card's name than its memory.
    """
    match = _SIZE.fullmatch(text.strip())
    if match is not None:
        size = float(match["number"]) * _UNITS[match["unit"].lower()]
        return size if size > 0 else None
    if _BARE.fullmatch(text.strip()) and 0 < int(text) <= _LARGEST_BARE:
        return float(text)
    return None


def spelled(text: str) -> Spelled:
    """A name and the size of memory in it, wherever that stands: `RTX 3050 6GB Laptop GPU`."""
    match = _WORD_OF_SIZE.search(text)
    if match is None or not (words := _words(f"{text[: match.start()]} {text[match.end() :]}")):
        return Spelled(words=_words(text))
    return Spelled(words=words, size=int(match["number"]))


def _words(name: str) -> tuple[str, ...]:
    lower = re.sub(r"\((?:tm|r)\)", " ", name.lower())
    words = re.sub(r"[^a-z0-9]+", " ", re.sub(r"max[ -]q", "maxq", lower)).split()
    while len(words) > 1 and words[0] in _MAKERS:
        words = words[1:]
    return tuple(_SAME.get(word, word) for word in words if word not in _EMPTY)
