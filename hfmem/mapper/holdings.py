"""Remarks on the contents of a repository: an adapter, several models to choose from, files of other frameworks."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

from hfmem.fetcher.bases import base_name
from hfmem.fetcher.foreign import foreign, is_foreign
from hfmem.fetcher.formats import gguf
from hfmem.fetcher.formats.onnx import FORMAT as ONNX
from hfmem.fetcher.formats.table import format_of
from hfmem.fetcher.quantisations import Choice, wanted
from hfmem.fetcher.selection import Selection, select_for
from hfmem.fetcher.values import Checkpoint, FileInfo
from hfmem.mapper.values import ParameterTable
from hfmem.units import format_bytes

__all__ = [
    "NOT_LOADED",
    "PIPELINES",
    "choices_note",
    "files_note",
    "format_name",
    "is_gguf",
    "lacks",
    "layout_notes",
    "offered",
]

NOT_LOADED: Final = ("gguf", "foreign")

PIPELINES: Final = "diffusion pipeline"
"""The name of the format of pipelines, by which engines say that they run them."""

_LAYOUT_NOTES: Final = {
    "bin": "The PyTorch pickles (.bin) could not be read: the figures are from the configuration, or from the size of "
    "the files.",
}


def is_gguf(checkpoint: Checkpoint) -> bool:
    """Whether the tensors of a checkpoint were read from GGUF files."""
    return bool(checkpoint.tensors) and format_of(checkpoint.tensors[0].file) is gguf.FORMAT


def format_name(checkpoint: Checkpoint, offered: str = "") -> str:
    """The format of the files that were read; GGUF if none were, but GGUF models are offered; else ""."""
    if offered and not checkpoint.tensors and any(gguf.FORMAT.matches(file.name) for file in checkpoint.files):
        return gguf.FORMAT.name
    found = format_of(checkpoint.tensors[0].file) if checkpoint.tensors else None
    return found.name if found is not None else ""


def offered(checkpoint: Checkpoint) -> tuple[Choice, ...]:
    """The quantisations in a repository or folder, one of which was read; () if one was named, or there is only one."""
    if not is_gguf(checkpoint) or wanted(checkpoint.ref):
        return ()
    found = select_for(checkpoint.files, checkpoint.ref).choices
    return found if any(choice.files == checkpoint.weight_files for choice in found) else ()


def choices_note(checkpoint: Checkpoint, choices: Sequence[Choice]) -> str:
    """A sentence with the models among a repository's GGUF files, if none is chosen."""
    if not choices or checkpoint.tensors:
        return ""
    listed = ", ".join(f"{_name(choice)} ({_size_of(choice)})" for choice in choices)
    quant, model = wanted(checkpoint.ref), checkpoint.ref.model_id
    missed = f"None of them is '{quant}'. " if quant else ""
    first = next((choice.quant for choice in choices if choice.quant), "Q4_K_M")
    how = "give the path of one" if checkpoint.source == "local" else f"name one, as in {model}:{first}"
    return f"{missed}It holds {len(choices)} models in GGUF files to choose from; {how}: {listed}."


def _name(choice: Choice) -> str:
    """The file name by which to choose a model: its first file."""
    return choice.files[0].name


def _size_of(choice: Choice) -> str:
    size = "size unknown" if choice.size is None else format_bytes(choice.size)
    return size if len(choice.files) == 1 else f"{len(choice.files)} files, {size}"


def lacks(selection: Selection, checkpoint: Checkpoint, parameters: ParameterTable | None) -> str:
    """Why weights are missing here; "" if none are."""
    if selection.layout == "adapter":
        base = base_name(checkpoint)
        return "this is an adapter, and its base model is also needed" + (f": {base}" if base else "")
    if selection.choices and parameters is None:
        return "choose one of its files"
    if files_note(selection, checkpoint):
        return "choose one of its files"
    return ""


def files_note(selection: Selection, checkpoint: Checkpoint) -> str:
    """A sentence with the weight files of a repository, if it does not show which of them are one model."""
    ref = checkpoint.ref
    chosen = selection.weights or checkpoint.tensors or selection.layout not in ("foreign", "none")
    if chosen or not (selection.layout == "foreign" or ref.picked or checkpoint.config is None):
        return ""
    files = [file for file in checkpoint.files if is_foreign(file.name) or _is_read(file.name)]
    missed = f"None of its files is '{ref.file}', or several are. " if ref.picked else ""
    if not files:
        return missed.rstrip()
    listed = ", ".join(map(_sized, files[:_LISTED])) + (f" and {len(files) - _LISTED} more" if files[_LISTED:] else "")
    count = "1 weight file" if len(files) == 1 else f"{len(files)} weight files"
    return f"{missed}It has {count}; count one with --file {files[0].name}: {listed}."


def layout_notes(selection: Selection, checkpoint: Checkpoint, parameters: ParameterTable | None) -> Iterator[str]:
    """Remarks on which files were used, and what that means for the figures."""
    if selection.layout == "foreign":
        yield from _foreign_notes(selection, checkpoint)
        return
    if selection.layout not in NOT_LOADED or checkpoint.tensors:
        if selection.layout == "adapter":
            yield _adapter_note(checkpoint)
        elif note := _layout_note(selection, checkpoint):
            yield note
        yield from _pickle_notes(checkpoint)
        return
    if choices := choices_note(checkpoint, selection.choices):
        described = " The figures are those of the class that config.json describes, and not of these files."
        yield choices + (described if parameters is not None else "")


def _foreign_notes(selection: Selection, checkpoint: Checkpoint) -> Iterator[str]:
    """Remarks on files of other software than transformers: what loads them, and what of them is counted."""
    names = {file.name for file in selection.weights}
    if selection.weights and len(names) < len([*_foreign(checkpoint)]):
        yield f"Counted is {selection.weights[0].name} alone, which transformers does not load."
    else:
        yield f"No weights for the classes of transformers are here, but {_held(checkpoint)}."
    if selection.weights and not checkpoint.tensors:
        yield "The sizes of these files are used: what else the software that loads them takes is unknown."
    elif any(ONNX.matches(name) for name in names):
        yield "The tensors of the graph are counted: what else ONNX Runtime takes is unknown."
    elif checkpoint.config is not None:
        yield "What else the software that loads them takes is unknown."
    yield from _pickle_notes(checkpoint)


def _foreign(checkpoint: Checkpoint) -> Iterator[FileInfo]:
    for kind in foreign(checkpoint.files):
        yield from kind.files


def _layout_note(selection: Selection, checkpoint: Checkpoint) -> str:
    return "" if selection.layout == "bin" and checkpoint.tensors else _LAYOUT_NOTES.get(selection.layout, "")


def _pickle_notes(checkpoint: Checkpoint) -> Iterator[str]:
    """Remarks on what pickles have besides tensors."""
    for name, metadata in checkpoint.metadata.items():
        if refused := metadata.get("refused"):
            yield (
                f"Loading {name} imports {', '.join(refused)}, which torch.load refuses by default: unpickling can run "
                "any code. It was read as data here."
            )
        if states := metadata.get("optimizer"):
            yield (
                f"{name} also has an optimizer's state ({states['tensors']:,} tensors, "
                f"{format_bytes(states['bytes'])}), which is not counted."
            )


def _adapter_note(checkpoint: Checkpoint) -> str:
    """A remark on the base model of an adapter."""
    base = base_name(checkpoint)
    named = f"estimate {base} as well" if base else "its id is not recorded here"
    return f"This is an adapter: its base model is also needed; {named}."


def _held(checkpoint: Checkpoint) -> str:
    """The files by framework, with their sizes."""
    kinds = []
    for kind in foreign(checkpoint.files):
        names = ", ".join(_sized(file) for file in kind.files[:_NAMED])
        more = f" and {len(kind.files) - _NAMED} more" if len(kind.files) > _NAMED else ""
        total = f", {format_bytes(kind.nbytes)}" if kind.nbytes is not None and len(kind.files) > 1 else ""
        count = "1 file" if len(kind.files) == 1 else f"{len(kind.files)} files"
        kinds.append(f"{kind.name} weights for {kind.loader} ({count}{total}: {names}{more})")
    return "; ".join(kinds)


def _is_read(name: str) -> bool:
    """Whether a file is of a format that only weights have; `.bin` may be anything."""
    format_ = format_of(name)
    return format_ is not None and format_.read is not None and not format_.optional


_LISTED: Final = 12  # files listed to choose from
_NAMED: Final = 4  # files named in a sentence; the others are counted


def _sized(file: FileInfo) -> str:
    return file.name if file.size is None else f"{file.name} {format_bytes(file.size)}"
