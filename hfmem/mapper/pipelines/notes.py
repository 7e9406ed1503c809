"""Remarks on a pipeline's files: what of them is not loaded, and what is to be said on loading."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

from hfmem.fetcher.pipelines import folder_of, listed
from hfmem.fetcher.values import Checkpoint

if TYPE_CHECKING:
    from hfmem.mapper.pipelines.values import Pipeline

__all__ = ["notes_on"]

_VARIANT: Final = re.compile(r"(?:diffusion_pytorch_model|pytorch_model|model)\.([\w-]+?)(?:-\d+-of-\d+)?\.\w+")
_WEIGHTS: Final = (".safetensors", ".bin")


def notes_on(checkpoint: Checkpoint, pipeline: Pipeline) -> Iterator[str]:
    """One sentence each."""
    if pipeline.custom:
        yield f"{pipeline.class_name} is code in the repository, which is not run here: its weights are counted."
    yield from _left_out(checkpoint)
    variants = {match[1] for file in checkpoint.weight_files if (match := _VARIANT.fullmatch(_file(file.name)))}
    for variant in sorted(variants):
        yield f'Loading it takes variant="{variant}": some components have no other weights.'
    for component in pipeline.components:
        if component.unknown:
            yield f"{component.name} ({component.class_name}): {component.unknown}."


def _left_out(checkpoint: Checkpoint) -> Iterator[str]:
    """Folders with weights that model_index.json does not name."""
    if checkpoint.pipeline is None:
        return
    names = {one.name for one in listed(checkpoint.pipeline)}
    folders = {folder_of(file.name) for file in checkpoint.files if file.name.endswith(_WEIGHTS)} - names - {""}
    if folders:
        listed_ = ", ".join(f"{folder}/" for folder in sorted(folders)[:6])
        verb = "is not in model_index.json, and is" if len(folders) == 1 else "are not in model_index.json, and are"
        yield f"{listed_} {verb} neither loaded nor counted."


def _file(name: str) -> str:
    return name.rpartition("/")[2]
