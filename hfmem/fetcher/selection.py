"""Selection of a repository's files to load, as repositories may have the same weights in several formats."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import PurePosixPath
from typing import Any, Final, Literal

from hfmem.errors import InvalidFileError
from hfmem.fetcher.configs import ADAPTER, CONFIG
from hfmem.fetcher.foreign import foreign, is_pickled
from hfmem.fetcher.formats import gguf, safetensors
from hfmem.fetcher.formats.pickled import format as pickled
from hfmem.fetcher.formats.protocol import FileContents, Format
from hfmem.fetcher.formats.table import format_of, readable
from hfmem.fetcher.pipelines import PIPELINE, pipeline_files
from hfmem.fetcher.quantisations import Choice, choices, choose, preferred, wanted
from hfmem.fetcher.values import FileInfo, ModelRef

__all__ = [
    "INDEX",
    "SINGLE",
    "Layout",
    "Selection",
    "download_files",
    "first_readable",
    "select",
    "select_for",
]

Layout = Literal["single", "sharded", "several", "adapter", "pipeline", "bin", "gguf", "foreign", "picked", "none"]

SINGLE: Final = "model.safetensors"
INDEX: Final = "model.safetensors.index.json"
_ADAPTER_WEIGHTS: Final = ("adapter_model.safetensors", "adapter_model.bin")

_SHARD: Final = re.compile(r"model-(\d{1,9})-of-(\d{1,9})\.safetensors")
_MODULES: Final = "modules.json"
_MODULE: Final = re.compile(r"((?:(?:[\w-]+_)?\d+_\w+/)+)(?:model\.safetensors|pytorch_model\.bin)")
"""The weights of a module of sentence-transformers, in the folder that it is saved in: `2_Dense/`, and of a `Router`
`query_0_StaticEmbedding/` (`SentenceTransformer.save_pretrained`, `Router.save`)."""
_SMALL_SUFFIXES: Final = (".json", ".txt", ".model", ".jinja", ".tiktoken")


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """The selected files.

    Attributes:
        layout: kind of repository.
        weights: the files to load, if the listing determines them; for `sharded` the shards if their names are regular,
            else empty (the index determines them).
        missing: number of missing shards, according to the names of the others.
        choices: the models in GGUF files, if there are several and none is named; `weights` are then those of
            llama.cpp's default, or empty if the named one does not exist.
        unread: why preferred files could not be read, by file name.
        folder: the folder of an adapter's files, with a slash behind it; "" for the repository itself.
        described: whether the repository's config.json describes these weights.
    """

    layout: Layout
    weights: tuple[FileInfo, ...] = ()
    missing: int = 0
    choices: tuple[Choice, ...] = ()
    unread: Mapping[str, str] = field(default_factory=dict, hash=False)
    folder: str = ""
    described: bool = True


def select(files: Sequence[FileInfo], quant: str | None = None, index: Mapping[str, Any] | None = None) -> Selection:
    """The files that `transformers` (or `diffusers`, `peft`) would load: safetensors first, shards and single files
    before variants, and only one variant.

    Args:
        files: the listing.
        quant: the requested GGUF quantisation; "" for llama.cpp's default; None if no GGUF is requested.
        index: the contents of model_index.json, if they are known.
    """
    if quant is not None:
        return _quantised(files, quant)
    names = {file.name: file for file in files}
    if PIPELINE in names and ADAPTER not in names and (found := pipeline_files(files, index)).weights:
        return Selection(layout="pipeline", weights=found.weights, missing=found.missing)
    if SINGLE in names:
        return Selection(layout="single", weights=(names[SINGLE], *_modules(files)))
    shards, missing = _shards(files)
    if INDEX in names:
        return Selection(layout="sharded", weights=() if missing else shards)
    if shards:
        return Selection(layout="sharded", weights=shards, missing=missing)
    return _other_layouts(names, files)


def select_for(files: Sequence[FileInfo], ref: ModelRef, index: Mapping[str, Any] | None = None) -> Selection:
    """The selection for a reference: the requested quantisation or file if it exists, else as by `select`."""
    if ref.picked:
        return _picked(files, ref.file)
    quant = wanted(ref)
    found = select(files, quant) if quant else Selection(layout="none")
    return select(files, index=index) if found.layout == "none" else found


_MOST_TRIED: Final = 3  # files of a repository that are all broken are not all read


def first_readable(
    selection: Selection, read: Callable[[Sequence[FileInfo]], dict[str, FileContents]]
) -> tuple[Selection, dict[str, FileContents]]:
    """The first of several models that can be read, starting with llama.cpp's default, and the contents of its files.

    Args:
        selection: a selection with choices.
        read: reads the headers of files.

    Raises:
        InvalidFileError: none of the first few models can be read.
    """
    unread: dict[str, str] = {}
    first: InvalidFileError | None = None
    for choice in preferred(selection.choices)[:_MOST_TRIED]:
        try:
            found = read(choice.files)
        except InvalidFileError as error:
            first = first or error
            unread[choice.file] = error.reason
        else:
            return replace(selection, weights=choice.files, missing=choice.missing, unread=unread), found
    raise first or InvalidFileError("", "there is no file to read")


def _other_layouts(names: Collection[str], files: Sequence[FileInfo]) -> Selection:
    """An adapter, a pipeline, or safetensors with other names; else another format."""
    if ADAPTER in names or (_ADAPTER_WEIGHTS[0] in names and PIPELINE not in names):
        weights = next(filter(None, (_named(files, name) for name in _ADAPTER_WEIGHTS)), ())
        return Selection(layout="adapter", weights=weights)
    if PIPELINE in names:
        return Selection(layout="pipeline")
    if odd := _oddly_named(files, safetensors.FORMAT):
        return Selection(layout="several", weights=odd)
    found = _saved_adapter(files) or _other_formats(files)
    if not (modules := _modules(files)):
        return found
    if found.layout == "bin":
        return replace(found, weights=(*found.weights, *modules))
    return Selection(layout="several", weights=modules)


def _modules(files: Sequence[FileInfo]) -> tuple[FileInfo, ...]:
    """The weights of the modules of sentence-transformers that have folders of their own; of each, safetensors if it
    has them."""
    if all(file.name != _MODULES for file in files):
        return ()
    found: dict[str, FileInfo] = {}
    for file in files:
        match = _MODULE.fullmatch(file.name)
        if match and (match.group(1) not in found or safetensors.FORMAT.matches(file.name)):
            found[match.group(1)] = file
    return tuple(found.values())


_CHECKPOINT: Final = re.compile(r"checkpoint-(\d{1,12})/adapter_model\.(?:safetensors|bin)")


def _saved_adapter(files: Sequence[FileInfo]) -> Selection | None:
    """The adapter in the newest folder that a trainer has saved, of a repository with nothing else; None for none."""
    steps = [int(match.group(1)) for file in files if (match := _CHECKPOINT.fullmatch(file.name))]
    if not steps or any(is_pickled(file.name) and "/" not in file.name for file in files):
        return None
    folder = f"checkpoint-{max(steps)}/"
    weights = next(filter(None, (_named(files, folder + name) for name in _ADAPTER_WEIGHTS)), ())
    return Selection(layout="adapter", weights=weights, folder=folder)


def _shards(files: Sequence[FileInfo]) -> tuple[tuple[FileInfo, ...], int]:
    """The shards `model-00001-of-000NN.safetensors`, …, and the number of missing ones."""
    matches = [(match, file) for file in files if (match := _SHARD.fullmatch(file.name))]
    if not matches:
        return (), 0
    total = max(int(match.group(2)) for match, _ in matches)
    found = {int(match.group(1)): file for match, file in matches if int(match.group(2)) == total}
    return tuple(found[number] for number in sorted(found)), max(0, total - len(found))


def download_files(
    files: Iterable[FileInfo], weights: Sequence[FileInfo], besides: Iterable[str] = ()
) -> tuple[FileInfo, ...]:
    """The files to download for running the model: weights, and config and tokenizer files in the same folders; not
    other formats, images and documents. Folders `besides` have tokenizers and schedulers."""
    folders = {str(PurePosixPath(file.name).parent) for file in weights} | {".", *besides}
    small = (
        file
        for file in files
        if file.name.endswith(_SMALL_SUFFIXES) and str(PurePosixPath(file.name).parent) in folders
    )
    return (*weights, *small)


def _named(files: Sequence[FileInfo], name: str) -> tuple[FileInfo, ...]:
    return tuple(file for file in files if file.name == name)


def _oddly_named(files: Sequence[FileInfo], format_: Format) -> tuple[FileInfo, ...]:
    """Root-level files of a format with other names: Mistral's `consolidated…`, variants of `model` if there is no
    plain one, else a single file. Only one of several variants is selected."""
    root = [file for file in files if format_.matches(file.name) and "/" not in file.name]
    for stem in ("consolidated", "model", "diffusion_pytorch_model", ""):
        family = [file for file in root if file.name.startswith(stem)]
        if family and (stem or len(root) == 1):
            return tuple(_one_variant(family, format_))
    return ()


def _one_variant(files: list[FileInfo], format_: Format) -> list[FileInfo]:
    variants: dict[str, list[FileInfo]] = {}
    for file in files:
        name = file.name.rpartition("/")[2]
        stem = name.removesuffix(next(suffix for suffix in format_.suffixes if name.endswith(suffix)))
        stem = re.sub(r"-\d+-of-\d+|(?<=consolidated)[.-]\d+", "", stem)
        variants.setdefault(stem, []).append(file)
    plain = [stem for stem in variants if "." not in stem]
    chosen = min(plain or variants, key=lambda stem: (stem not in ("diffusion_pytorch_model", "model"), stem))
    return variants[chosen]


def _other_formats(files: Sequence[FileInfo]) -> Selection:
    binaries = tuple(file for file in files if file.name == "pytorch_model.bin")
    binaries = binaries or tuple(file for file in files if re.fullmatch(r"pytorch_model-\d+-of-\d+\.bin", file.name))
    if binaries:
        return Selection(layout="bin", weights=binaries)
    if (found := _quantised(files, None)).layout == "gguf":
        return found
    if (odd := _pickled(files)) and all(file.name != CONFIG for file in files):
        return Selection(layout="several", weights=odd)
    for format_ in readable():
        if not format_.optional and (odd := _oddly_named(files, format_)):
            return Selection(layout="several", weights=odd)
    return _other_software(files) or _NONE


def _other_software(files: Sequence[FileInfo]) -> Selection | None:
    """Files that transformers does not load, or that are in other folders than it looks in: counted if they are one
    model; None for no such files, or for several models of the second kind."""
    if others := tuple(file for kind in foreign(files) for file in kind.files):
        return Selection(layout="foreign", weights=_whole(others, others[0]), described=False)
    spare = tuple(
        file
        for file in files
        if (one := format_of(file.name)) and one.read and (one is not pickled.FORMAT or is_pickled(file.name))
    )
    if not spare or any(file.name == CONFIG for file in files):
        return None
    whole = _whole(spare, spare[0])
    return Selection(layout="picked", weights=whole, described=False) if whole else None


_NONE: Final = Selection(layout="none")
_PART: Final = re.compile(r"-\d+-of-(\d+)(?=\.\w+$)")
_BESIDE: Final = (".data", "_data")


def _picked(files: Sequence[FileInfo], name: str) -> Selection:
    """The file of a name, or the only one with that name in a folder, and what belongs to it."""
    named = [file for file in files if file.name == name] or [
        file for file in files if file.name.rpartition("/")[2] == name
    ]
    if len(named) != 1:
        return Selection(layout="none", described=False)
    if gguf.FORMAT.matches(name):
        return _quantised(files, named[0].name)
    file = named[0]
    torch = format_of(file.name) in (safetensors.FORMAT, pickled.FORMAT)
    described = torch and "/" not in file.name
    return Selection(layout="picked" if torch else "foreign", weights=_parts(files, file), described=described)


def _parts(files: Iterable[FileInfo], file: FileInfo) -> tuple[FileInfo, ...]:
    """A file with its other shards, or with the files that hold its bytes: `model.onnx_data` is of `model.onnx`."""
    shards = _PART.sub(r"-*-of-\1", file.name)
    if shards != file.name:
        return tuple(each for each in files if _PART.sub(r"-*-of-\1", each.name) == shards)
    stem = file.name.rpartition(".")[0]
    beside = (*(file.name + end for end in _BESIDE), *(stem + end for end in _BESIDE))
    return (file, *(each for each in files if each.name.startswith(beside) and each != file))


def _whole(files: Sequence[FileInfo], first: FileInfo) -> tuple[FileInfo, ...]:
    """These files if they are one model; () for several."""
    mains = [file for file in files if not any(file in _parts(files, each)[1:] for each in files if each != file)]
    parts = _parts(files, mains[0] if mains else first)
    return parts if len(parts) == len(files) else ()


def _pickled(files: Sequence[FileInfo]) -> tuple[FileInfo, ...]:
    """Root-level pickles of PyTorch with other names: Meta's `consolidated.…`, else a single file."""
    root = [file for file in files if is_pickled(file.name) and "/" not in file.name and format_of(file.name)]
    parts = tuple(file for file in root if file.name.startswith("consolidated."))
    return parts or (tuple(root) if len(root) == 1 else ())


def _quantised(files: Sequence[FileInfo], quant: str | None) -> Selection:
    """The model in GGUF files: the only one, or the one with the requested quantisation; else all of them as
    `choices`."""
    among = choices(files)
    if not among:
        return Selection(layout="none")
    chosen = choose(among, quant or "")
    if chosen is None:
        return Selection(layout="gguf", choices=among)
    open_ = among if quant is None and len(among) > 1 else ()
    return Selection(layout="gguf", weights=chosen.files, missing=chosen.missing, choices=open_)
