"""The models among GGUF files: which files are one model, which quantisation it is, and which of several is meant."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from hfmem.fetcher.formats import gguf
from hfmem.fetcher.values import FileInfo, ModelRef

__all__ = ["DEFAULTS", "Choice", "choices", "choose", "is_model", "parts_of", "preferred", "wanted", "word_for"]

DEFAULTS: Final = ("Q4_K_M", "Q8_0")
"""What `llama-server -hf` takes where nobody names a quantisation, in this order; else the first model
(`find_best_model` of llama.cpp's common/download.cpp)."""

_SHARD: Final = re.compile(r"(.+)-(\d{5})-of-(\d{5})\.gguf", re.IGNORECASE)
_QUANT: Final = re.compile(
    r"(?<![^-._/])(?:UD-)?((?:I?Q|TQ)\d[A-Z0-9_]*|BF16|FP?(?:16|32)|MXFP4[A-Z0-9_]*|NVFP4)(?![^-._/])", re.IGNORECASE
)
# Files beside a model: towers for images and sound, statistics for quantising, small models that draft.
_BESIDE: Final = re.compile(r"mmproj|imatrix|(mtp|eagle3|dflash|dspark)-|(?<![^-._])draft(?![^-._])", re.IGNORECASE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """One model of several.

    Attributes:
        name: its file's name without the ending, or what the names of its shards have in common.
        quant: the quantisation that the name tells (`Q4_K_M`); "" where it tells none.
        files: its files, in order.
        missing: shards that the names of the others promise and that are not there.
    """

    name: str
    quant: str
    files: tuple[FileInfo, ...]
    missing: int = 0

    @property
    def size(self) -> int | None:
        """Bytes of all files; None where one is not known."""
        sizes = [file.size for file in self.files]
        return None if None in sizes else sum(size for size in sizes if size is not None)

    @property
    def file(self) -> str:
        """The name of its first file, which llama.cpp is given."""
        return self.files[0].name

    def alike(self, other: Choice) -> bool:
        """Whether it may be the same model in another quantisation: names that tell a size (`8B`) tell the same."""
        return _sizes(self.name) == _sizes(other.name)


def wanted(ref: ModelRef) -> str:
    """The quantisation or the GGUF file that is asked for of a repository; "" for none."""
    return ref.quant or (ref.file if gguf.FORMAT.matches(ref.file) else "")


def is_model(filename: str) -> bool:
    """Whether a GGUF file is a model, and not something that is used beside one."""
    return gguf.FORMAT.matches(filename) and not _BESIDE.search(filename.rpartition("/")[2])


def parts_of(filename: str) -> tuple[str, int, int]:
    """What the names of a model's shards have in common, the number of this one, and how many there are."""
    if match := _SHARD.fullmatch(filename):
        return match.group(1), int(match.group(2)), int(match.group(3))
    return filename.removesuffix(".gguf"), 1, 1


def choices(files: Iterable[FileInfo]) -> tuple[Choice, ...]:
    """Every model among the files, by name; where there are only files that are used beside one, those."""
    ours = [file for file in files if gguf.FORMAT.matches(file.name)]
    models = [file for file in ours if is_model(file.name)] or ours
    found: dict[tuple[str, int], dict[int, FileInfo]] = {}
    for file in models:
        name, number, count = parts_of(file.name)
        found.setdefault((name, count), {})[number] = file
    return tuple(
        Choice(
            name=name,
            quant=_quant_of(name),
            files=tuple(parts[number] for number in sorted(parts)),
            missing=max(0, count - len(parts)),
        )
        for (name, count), parts in sorted(found.items())
    )


def choose(among: Sequence[Choice], quant: str) -> Choice | None:
    """The model of a quantisation, in any letter case, or of a file's name; of "" the one that llama.cpp takes. None
    where there is none."""
    if not quant:
        found = (_named(among, default) for default in DEFAULTS)
        return next((choice for choice in found if choice), None) or next(iter(among), None)
    return _named(among, quant)


def preferred(among: Sequence[Choice]) -> tuple[Choice, ...]:
    """All of them: first the one that llama.cpp takes where nobody names any, then the others in its order."""
    firsts = [found for default in DEFAULTS if (found := _named(among, default)) is not None]
    return tuple(dict.fromkeys((*firsts, *among)))


def word_for(choice: Choice, among: Sequence[Choice]) -> str:
    """What to write behind the id for one of several: its quantisation, or its file's name where that is not enough."""
    if choice.quant and choose(among, choice.quant) == choice:
        return choice.quant
    return choice.name.rpartition("/")[2]


def _named(among: Sequence[Choice], quant: str) -> Choice | None:
    wanted = quant.lower().removesuffix(".gguf")
    for choice in among:
        if wanted in (choice.quant.lower(), choice.name.lower(), choice.name.lower().rpartition("/")[2]):
            return choice
    pattern = re.compile(rf"(?<![^-._/]){re.escape(wanted)}(?![^-./])", re.IGNORECASE)
    return next((choice for choice in among if pattern.search(choice.name)), None)


_SIZE: Final = re.compile(r"(?<![a-z0-9.])(\d+(?:\.\d+)?)([bm])(?![a-z0-9])", re.IGNORECASE)


def _sizes(name: str) -> list[str]:
    """The sizes that the file's own name tells, experts' among them (`30B-A3B`)."""
    return [number + unit.lower() for number, unit in _SIZE.findall(name.rpartition("/")[2])]


def _quant_of(name: str) -> str:
    """The last quantisation that a name tells: in the file's own name, else in a folder's."""
    found = _QUANT.findall(name)
    return found[-1].upper() if found else ""
