"""The files of a diffusion pipeline: model_index.json names its components, and each has a folder of its name.

Which files of a folder are loaded is as in diffusers 0.42 (`pipelines/pipeline_loading_utils.py`): safetensors, unless
a component has none of them; of several variants the plain one; nothing outside of the components' folders.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, NamedTuple

from hfmem.fetcher.configs import CONFIG
from hfmem.fetcher.values import FileInfo

__all__ = ["PIPELINE", "Listed", "PipelineFiles", "config_files", "folder_of", "listed", "pipeline_files"]

PIPELINE: Final = "model_index.json"

_MOST_COMPONENTS: Final = 64  # pipelines have up to a dozen


class Listed(NamedTuple):
    """A component as model_index.json lists it: its name, and the library (or module) and the name of its class."""

    name: str
    library: str
    class_name: str


def listed(index: Mapping[str, Any]) -> tuple[Listed, ...]:
    """The components that are loaded, in order; those that are `[null, null]` are not. Of a library or class that is no
    name, nothing is told."""
    found = (
        Listed(name=name, library=_word(value[0]), class_name=_word(value[1]))
        for name, value in index.items()
        if re.fullmatch(r"[A-Za-z]\w{0,99}", name, re.ASCII)
        and isinstance(value, list)
        and len(value) == 2
        and all(isinstance(word, str) and word for word in value)
    )
    return tuple(found)[:_MOST_COMPONENTS]


def _word(given: str) -> str:
    return given if re.fullmatch(r"[\w.\-]{1,200}", given, re.ASCII) else "unknown"


def config_files(files: Iterable[FileInfo], index: Mapping[str, Any]) -> dict[str, str]:
    """For each component with a config, its name and that file."""
    names = {file.name for file in files}
    configs = {one.name: f"{one.name}/{CONFIG}" for one in listed(index)}
    return {name: file for name, file in configs.items() if file in names}


def folder_of(file: str) -> str:
    """The folder of a file, which is the name of its component."""
    return file.partition("/")[0] if "/" in file else ""


class PipelineFiles(NamedTuple):
    """The files to load, and the number of shards that are missing."""

    weights: tuple[FileInfo, ...]
    missing: int = 0


def pipeline_files(files: Iterable[FileInfo], index: Mapping[str, Any] | None) -> PipelineFiles:
    """The weight files of all components; without the index, those of all folders."""
    names = None if index is None else [one.name for one in listed(index)]
    folders: dict[str, list[FileInfo]] = {} if names is None else {name: [] for name in names}
    for file in files:
        folder, _, rest = file.name.partition("/")
        if rest and "/" not in rest and (names is None or folder in folders):
            folders.setdefault(folder, []).append(file)
    safe = {folder: _written(group, ".safetensors") for folder, group in folders.items()}
    pickled = {folder: _written(group, ".bin") for folder, group in folders.items()}
    with_weights = [folder for folder in folders if safe[folder] or pickled[folder]]
    first, second = (safe, pickled) if all(safe[folder] for folder in with_weights) else (pickled, safe)
    chosen = [first[folder] or second[folder] or _other(group) for folder, group in folders.items()]
    weights = tuple(file for group in chosen for file in group)
    return PipelineFiles(weights=weights, missing=sum(map(_absent, chosen)))


_NAME: Final = re.compile(
    r"(?P<stem>diffusion_pytorch_model|pytorch_model|model)(?P<variant>\.[\w-]+?)?"
    r"(?:-(?P<part>\d{1,6})-of-(?P<of>\d{1,6}))?(?P<end>\.safetensors|\.bin)"
)
_OTHERS: Final = (".onnx", ".gguf", ".msgpack")


def _written(group: Sequence[FileInfo], end: str) -> list[FileInfo]:
    """The weights of a folder in files of one format, of one variant."""
    found: dict[tuple[str, str], list[FileInfo]] = {}
    for file in group:
        match = _NAME.fullmatch(file.name.partition("/")[2])
        if match and match["end"] == end:
            found.setdefault((match["variant"] or "", match["stem"]), []).append(file)
    if not found:
        return []
    return _whole(found[min(found)])  # the plain one comes first, then variants by name


def _whole(files: list[FileInfo]) -> list[FileInfo]:
    """One file, or shards: diffusers takes shards where there are both, transformers the one file."""
    shards = [file for file in files if _parts(file)]
    single = [file for file in files if not _parts(file)]
    if not single:
        return shards
    return shards if shards and "diffusion_pytorch_model" in single[0].name else single


def _parts(file: FileInfo) -> int:
    """How many files there are of these weights; 0 for the only one."""
    match = _NAME.fullmatch(file.name.partition("/")[2])
    return int(match["of"]) if match and match["of"] else 0


def _absent(files: Sequence[FileInfo]) -> int:
    """Shards that are not there."""
    return max(0, max(map(_parts, files), default=0) - len(files)) if files and _parts(files[0]) else 0


def _other(group: Sequence[FileInfo]) -> list[FileInfo]:
    """Weights for other software than PyTorch: a graph of ONNX with the files that hold its bytes, or one file."""
    for end in _OTHERS:
        if found := [file for file in group if file.name.endswith(end)]:
            beside = [file for file in group if re.search(r"(_data|\.data|\.pb)$", file.name)]
            return [found[0], *beside] if end == ".onnx" else found[:1]
    return []
