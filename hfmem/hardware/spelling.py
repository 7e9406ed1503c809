"""Parsing of accelerator names: an optional count, a name, and an optional memory size.

`2x4090`, `RTX-4090 24GB`, `a100 80g` and `NVIDIA A100-SXM4-80GB` are parsed to a count, a key (the name in lower case
without vendor, spaces and dashes) and a size. The table of accelerators is not used here.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from hfmem.units import gib_of

__all__ = ["Spelled", "budget", "counted", "spelled"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Spelled:
    """A parsed name.

    Attributes:
        words: the words of the name, without the vendor and words that do not distinguish GPUs.
        size: memory in GB; None if not given.
    """

    words: tuple[str, ...]
    size: int | None = None

    @property
    def key(self) -> str:
        """The name as a key for comparison, without spaces and dashes."""
        return "".join(self.words)

    @property
    def short_keys(self) -> tuple[str, ...]:
        """Keys without the series: `4090` for RTX 4090."""
        starts = range(1, len(self.words))
        return tuple("".join(self.words[n:]) for n in starts if all(word in _SERIES for word in self.words[:n]))


_MAKERS: Final = ("nvidia", "geforce", "tesla", "amd", "intel", "google", "aws", "qualcomm", "apple")
# words added by drivers and shops, which do not distinguish GPUs
_EMPTY: Final = ("gpu", "generation", "edition", "graphics", "with", "design", "hbm2", "hbm2e", "hbm3", "hbm3e")
_SAME: Final = {"mobile": "laptop", "notebook": "laptop", "sxm2": "sxm", "sxm3": "sxm", "sxm4": "sxm", "sxm5": "sxm"}
# series that are often omitted: `4090`, `7900 XTX`, `A770`; not those that share numbers with another series
_SERIES: Final = ("rtx", "gtx", "rx", "arc", "radeon", "instinct", "jetson")

_WORD_OF_SIZE: Final = re.compile(r"(?<![a-z0-9.])(?P<number>\d{1,6})\s*g(?:i?b)?(?![a-z0-9])", re.I)
_COUNTED: Final = re.compile(
    r"^(?P<before>[1-9]\d{0,3})\s*[x×*]\s*(?P<rest>.+)$|^(?P<name>.+?)(?:\s*:\s*|\s+[x×]\s*)(?P<after>[1-9]\d{0,3})$",
    re.I,
)
_BARE: Final = re.compile(r"\d{1,3}")
_LARGEST_BARE: Final = 512


def counted(text: str) -> tuple[str, int | None]:
    """The name without its count, and the count (None if absent): `4x H100`, `2 x 4090`, `H100:4`, `H100 x4`."""
    match = _COUNTED.match(text.strip())
    if match is None:
        return text.strip(), None
    return (match["rest"] or match["name"]).strip(), int(match["before"] or match["after"])


def budget(text: str) -> float | None:
    """GiB of a memory size without a name; None for anything else.

    Memory sizes are in powers of two even with decimal units: a GPU sold with `24GB` has 24 GiB. A number without a
    unit is GiB up to 512; larger numbers are more likely part of a name.
    """
    size = gib_of(text)
    if size is not None:
        return size if size > 0 else None
    if _BARE.fullmatch(text.strip()) and 0 < int(text) <= _LARGEST_BARE:
        return float(text)
    return None


def spelled(text: str) -> Spelled:
    """Parse a name, with a memory size at any position: `RTX 3050 6GB Laptop GPU`."""
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
