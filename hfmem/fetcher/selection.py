"""Which of a repository's files a run would load: repositories hold the same weights in several forms."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Final, Literal

from hfmem.fetcher.values import FileInfo

__all__ = [
    "INDEX",
    "PIPELINE",
    "SINGLE",
    "Layout",
    "Selection",
    "complete_shards",
    "download_files",
    "is_weight",
    "select",
]

Layout = Literal["single", "sharded", "several", "adapter", "diffusers", "bin", "gguf", "none"]

SINGLE: Final = "model.safetensors"
INDEX: Final = "model.safetensors.index.json"
PIPELINE: Final = "model_index.json"

_SHARD: Final = re.compile(r"model-(\d+)-of-(\d+)\.safetensors")
_DENSE: Final = re.compile(r"\d+_Dense/model\.safetensors")
_WEIGHT_SUFFIXES: Final = (".safetensors", ".bin", ".pt", ".pth", ".gguf", ".h5", ".msgpack", ".onnx", ".ot", ".ckpt")
_SMALL_SUFFIXES: Final = (".json", ".txt", ".model", ".jinja", ".tiktoken")


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """The chosen form.

    Attributes:
        layout: what kind of repository this is.
        weights: the files a run loads, where the listing alone tells them; for `sharded` the shards as far as their
            names are regular, else empty (the index tells).
    """

    layout: Layout
    weights: tuple[FileInfo, ...] = ()


def select(files: Sequence[FileInfo]) -> Selection:
    """The form that `transformers` (or `diffusers`, `peft`) would load: safetensors before anything else, shards and
    single files before variants, one variant only."""
    names = {file.name: file for file in files}
    extra = tuple(file for file in files if _DENSE.fullmatch(file.name)) if "modules.json" in names else ()
    if SINGLE in names:
        return Selection(layout="single", weights=(names[SINGLE], *extra))
    if INDEX in names or complete_shards(files):
        return Selection(layout="sharded", weights=complete_shards(files))
    if "adapter_config.json" in names:
        return Selection(layout="adapter", weights=_named(files, "adapter_model.safetensors"))
    if PIPELINE in names:
        return Selection(layout="diffusers", weights=_components(files))
    if consolidated := _consolidated(files):
        return Selection(layout="several", weights=consolidated)
    return _other_formats(files)


def complete_shards(files: Sequence[FileInfo]) -> tuple[FileInfo, ...]:
    """`model-00001-of-000NN.safetensors` and its brothers if the listing has exactly all of them, else nothing."""
    matches = [(match, file) for file in files if (match := _SHARD.fullmatch(file.name))]
    totals = {int(match.group(2)) for match, _ in matches}
    if len(totals) != 1 or {int(match.group(1)) for match, _ in matches} != set(range(1, totals.pop() + 1)):
        return ()
    return tuple(file for _, file in sorted(matches, key=lambda pair: pair[1].name))


def is_weight(name: str) -> bool:
    """Whether a file holds weights in any format (else it is configuration, tokenizer, documentation …)."""
    return name.endswith(_WEIGHT_SUFFIXES)


def download_files(files: Iterable[FileInfo], weights: Sequence[FileInfo]) -> tuple[FileInfo, ...]:
    """What a download to run the model would fetch: its weights, and the configuration and tokenizer files beside
    them; not the other formats, pictures and documents of the repository."""
    folders = {str(PurePosixPath(file.name).parent) for file in weights} | {"."}
    small = (
        file
        for file in files
        if file.name.endswith(_SMALL_SUFFIXES) and str(PurePosixPath(file.name).parent) in folders
    )
    return (*weights, *small)


def _named(files: Sequence[FileInfo], name: str) -> tuple[FileInfo, ...]:
    return tuple(file for file in files if file.name == name)


def _consolidated(files: Sequence[FileInfo]) -> tuple[FileInfo, ...]:
    """Root-level safetensors with names of their own: Mistral's `consolidated…`, else a single odd one."""
    root = [file for file in files if file.name.endswith(".safetensors") and "/" not in file.name]
    consolidated = tuple(file for file in root if file.name.startswith("consolidated"))
    return consolidated or (tuple(root) if len(root) == 1 else ())


def _components(files: Sequence[FileInfo]) -> tuple[FileInfo, ...]:
    """One form of each component folder of a diffusers repository: the plain one, else its smallest variant."""
    by_folder: dict[str, list[FileInfo]] = {}
    for file in files:
        folder, _, name = file.name.rpartition("/")
        if folder and "/" not in folder and name.endswith(".safetensors"):
            by_folder.setdefault(folder, []).append(file)
    return tuple(file for group in by_folder.values() for file in _one_variant(group))


def _one_variant(files: list[FileInfo]) -> list[FileInfo]:
    variants: dict[str, list[FileInfo]] = {}
    for file in files:
        stem = file.name.rpartition("/")[2].removesuffix(".safetensors")
        stem = re.sub(r"-\d+-of-\d+", "", stem)
        variants.setdefault(stem, []).append(file)
    plain = [stem for stem in variants if "." not in stem]
    chosen = min(plain or variants, key=lambda stem: (stem not in ("diffusion_pytorch_model", "model"), stem))
    return variants[chosen]


def _other_formats(files: Sequence[FileInfo]) -> Selection:
    gguf = tuple(file for file in files if file.name.endswith(".gguf"))
    binaries = tuple(file for file in files if re.fullmatch(r"pytorch_model.*\.bin", file.name))
    if binaries:
        return Selection(layout="bin", weights=binaries)
    if gguf:
        return Selection(layout="gguf", weights=gguf if len(gguf) == 1 else ())
    return Selection(layout="none")
