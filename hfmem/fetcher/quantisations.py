"""The models among GGUF files: their files and quantisations, and the selection of one."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from hfmem.fetcher.formats import gguf
from hfmem.fetcher.values import FileInfo, ModelRef

__all__ = [
    "DEFAULTS",
    "Choice",
    "choices",
    "choose",
    "is_model",
    "parts_of",
    "preferred",
    "quant_of",
    "tower_for",
    "towers",
    "wanted",
    "word_for",
]

DEFAULTS: Final = ("Q4_K_M", "Q8_0")
"""The quantisations that `llama-server -hf` tries by default, in order; else it uses the first model (`find_best_model`
in llama.cpp's common/download.cpp)."""

_SHARD: Final = re.compile(r"(.+)-(\d{5})-of-(\d{5})\.gguf", re.IGNORECASE)
_QUANT: Final = re.compile(
    r"(?<![^-._/])(?:UD-)?((?:I?Q|TQ)\d[A-Z0-9_]*|BF16|FP?(?:16|32)|MXFP4[A-Z0-9_]*|NVFP4)(?![^-._/])", re.IGNORECASE
)
# Auxiliary files: vision and audio towers (mmproj), importance matrices, draft models.
_BESIDE: Final = re.compile(r"mmproj|imatrix|(mtp|eagle3|dflash|dspark)-|(?<![^-._])draft(?![^-._])", re.IGNORECASE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """One model among several.

    Attributes:
        name: its file name without suffix, or the common part of its shards' names.
        quant: the quantisation in the name (`Q4_K_M`); "" for none.
        files: its files, in order.
        missing: number of missing shards, according to the names of the others.
    """

    name: str
    quant: str
    files: tuple[FileInfo, ...]
    missing: int = 0

    @property
    def size(self) -> int | None:
        """Bytes of all files; None if one is unknown."""
        sizes = [file.size for file in self.files]
        return None if None in sizes else sum(size for size in sizes if size is not None)

    @property
    def file(self) -> str:
        """The name of its first file, the one to pass to llama.cpp."""
        return self.files[0].name

    def alike(self, other: Choice) -> bool:
        """Whether it can be the same model in another quantisation: any sizes in the file names (`8B`) are equal."""
        return _sizes(self.name) == _sizes(other.name)


def wanted(ref: ModelRef) -> str:
    """The requested quantisation or GGUF file of a repository; "" for none."""
    return ref.quant or (ref.file if gguf.FORMAT.matches(ref.file) else "")


def is_model(filename: str) -> bool:
    """Whether a GGUF file is a model, and not an auxiliary file."""
    return gguf.FORMAT.matches(filename) and not _BESIDE.search(filename.rpartition("/")[2])


def parts_of(filename: str) -> tuple[str, int, int]:
    """(Common name, number, count) of a shard, from its file name; (name, 1, 1) for other files."""
    if match := _SHARD.fullmatch(filename):
        return match.group(1), int(match.group(2)), int(match.group(3))
    return filename.removesuffix(".gguf"), 1, 1


def choices(files: Iterable[FileInfo]) -> tuple[Choice, ...]:
    """All models among the files, by name; if there are only auxiliary files, those."""
    ours = [file for file in files if gguf.FORMAT.matches(file.name)]
    models = [file for file in ours if is_model(file.name)] or ours
    found: dict[tuple[str, int], dict[int, FileInfo]] = {}
    for file in models:
        name, number, count = parts_of(file.name)
        found.setdefault((name, count), {})[number] = file
    return tuple(
        Choice(
            name=name,
            quant=quant_of(name),
            files=tuple(parts[number] for number in sorted(parts)),
            missing=max(0, count - len(parts)),
        )
        for (name, count), parts in sorted(found.items())
    )


def choose(among: Sequence[Choice], quant: str) -> Choice | None:
    """The model with a quantisation or file name (case-insensitive); for "" llama.cpp's default. None if there is
    none."""
    if not quant:
        found = (_named(among, default) for default in DEFAULTS)
        return next((choice for choice in found if choice), None) or next(iter(among), None)
    return _named(among, quant)


def preferred(among: Sequence[Choice]) -> tuple[Choice, ...]:
    """All models, llama.cpp's defaults first."""
    firsts = [found for default in DEFAULTS if (found := _named(among, default)) is not None]
    return tuple(dict.fromkeys((*firsts, *among)))


def towers(files: Iterable[FileInfo]) -> tuple[FileInfo, ...]:
    """The image and audio towers (mmproj) among files."""
    return tuple(file for file in files if gguf.FORMAT.matches(file.name) and "mmproj" in file.name)


def tower_for(model: str, files: Iterable[FileInfo]) -> FileInfo | None:
    """The tower that `llama-server -hf` loads with a file: in the same folder or one above it, the nearest, then the
    one whose quantisation has as many bits or nearly so (`find_best_sibling` in llama.cpp's common/download.cpp)."""
    home, bits = model.split("/")[:-1], _bits_of(model)
    near = [file for file in towers(files) if home[: file.name.count("/")] == file.name.split("/")[:-1]]
    return min(near, key=lambda file: (-file.name.count("/"), abs(_bits_of(file.name) - bits)), default=None)


def _bits_of(name: str) -> int:
    """The number in a quantisation's name; 0 for none."""
    digits = re.search(r"\d+", quant_of(name.rpartition("/")[2].removesuffix(".gguf")))
    return int(digits[0]) if digits else 0


def word_for(choice: Choice, among: Sequence[Choice]) -> str:
    """The name of a model after the id: its quantisation, or its file name if that is ambiguous."""
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
    """The model sizes in a file name (`30B`)."""
    return [number + unit.lower() for number, unit in _SIZE.findall(name.rpartition("/")[2])]


def quant_of(name: str) -> str:
    """The last quantisation in a path: in the file name, else in a folder name."""
    found = _QUANT.findall(name)
    return found[-1].upper() if found else ""
