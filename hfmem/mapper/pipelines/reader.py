"""From the checkpoint of a diffusion pipeline to its components, each read like a model of its own."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

from hfmem.dtypes import stored_dtype
from hfmem.errors import shortened
from hfmem.fetcher.formats.onnx import FORMAT as ONNX
from hfmem.fetcher.formats.table import format_of
from hfmem.fetcher.pipelines import Listed, folder_of, listed, pipeline_files
from hfmem.fetcher.tensors import Tensors
from hfmem.fetcher.values import Checkpoint, FileInfo, TensorInfo
from hfmem.mapper.families import reader
from hfmem.mapper.interpret import Model, dominant, interpret
from hfmem.mapper.packing import declared_quantisation
from hfmem.mapper.pipelines.kept import kept_in
from hfmem.mapper.pipelines.kinds import kind_of
from hfmem.mapper.pipelines.notes import notes_on
from hfmem.mapper.pipelines.values import Component, Kind, Pipeline
from hfmem.mapper.tables import from_tensors
from hfmem.mapper.values import Architecture, Certainty, ParameterTable, TensorGroup

__all__ = ["as_model", "component_of", "pipeline_of", "single_component"]

_TRANSFORMERS: Final = "transformers"
_LIBRARIES: Final = (_TRANSFORMERS, "diffusers")
_CERTAINTIES: Final[tuple[Certainty, ...]] = ("exact", "derived", "measured", "typical", "unknown")


def _guessed(checkpoint: Checkpoint) -> dict[str, Any]:
    """An index in place of one that could not be read: every folder with weights is a component, of a class that is not
    known. The Hub tells the class of the pipeline."""
    told = (checkpoint.config or {}).get("diffusers")
    name = told.get("_class_name") if isinstance(told, dict) else None
    folders = dict.fromkeys(folder_of(file.name) for file in checkpoint.weight_files)
    return {"_class_name": name, **{folder: [_UNKNOWN, _UNKNOWN] for folder in folders}}


_UNKNOWN: Final = "unknown"


def pipeline_of(checkpoint: Checkpoint) -> Model:
    """The model of a checkpoint with a model_index.json. Never raises for contents of files."""
    index = _guessed(checkpoint) if checkpoint.pipeline is None else checkpoint.pipeline
    by_folder = _by_folder(checkpoint.tensors)
    weights = _by_name(checkpoint.weight_files)
    components = tuple(
        _component(checkpoint, one, by_folder.get(one.name, ()), weights.get(one.name, ()))
        for one in listed(index)
        if one.name in by_folder or one.name in weights
    )
    names = {one.name for one in listed(index)}
    name, custom = _class(index.get("_class_name"))
    pipeline = Pipeline(
        class_name=name,
        components=components,
        settings={key: value for key, value in index.items() if key not in names and key[:1] != "_"},
        custom=custom,
    )
    return as_model(checkpoint, pipeline)


_NAMES: Final[dict[Kind, str]] = {"denoiser": "transformer", "other": "model"}


def single_component(checkpoint: Checkpoint) -> Model | None:
    """The model of a repository with one class of diffusers, which its config.json names; None for other models."""
    config = checkpoint.config or {}
    (class_name, _), typed = _class(config.get("_class_name")), config.get("model_type")
    if not class_name or typed or not checkpoint.tensors:
        return None
    kind = kind_of("", class_name)
    listed_ = Listed(name=_NAMES.get(kind, kind), library="diffusers", class_name=class_name)
    found = component_of(checkpoint, listed_, config, checkpoint.tensors)
    note = f"This is one component of a pipeline ({class_name}), which runs beside others that are not counted."
    return as_model(checkpoint, Pipeline(class_name="", components=(found,)), (note,))


def as_model(checkpoint: Checkpoint, pipeline: Pipeline, notes: Sequence[str] = ()) -> Model:
    """A pipeline as a model: its parameters are those of all components."""
    components = pipeline.components
    known = [one.parameters for one in components if one.parameters is not None]
    table = ParameterTable(groups=tuple(group for one in known for group in one.groups)) if known else None
    sizes = [file.size for file in checkpoint.weight_files]
    certainties: list[Certainty] = [one.certainty for one in components] or ["unknown"]
    return Model(
        checkpoint=checkpoint,
        architecture=Architecture(
            model_type=None,
            architectures=(pipeline.class_name,) if pipeline.class_name else (),
            layers=(),
            head="none",
        ),
        parameters=table if len(known) == len(components) else None,
        certainty=max(certainties, key=_CERTAINTIES.index),
        source="; ".join(dict.fromkeys(one.source for one in components if one.source)),
        stored_dtype=next((one.stored_dtype for one in pipeline.denoisers if one.stored_dtype), dominant(table)),
        file_bytes=None if None in sizes or not sizes else sum(size or 0 for size in sizes),
        notes=tuple(shortened(note) for note in (*checkpoint.notes, *notes, *notes_on(checkpoint, pipeline))),
        pipeline=pipeline,
    )


def _class(given: object) -> tuple[str, bool]:
    """The pipeline's class, and whether it is code in the repository: then its module comes before it."""
    words = given if isinstance(given, list) else [given]
    names = [word for word in words if isinstance(word, str) and re.fullmatch(r"[\w.\-]{1,200}", word, re.ASCII)]
    return (names[-1] if names else ""), len(names) > 1


def _by_folder(tensors: Sequence[TensorInfo]) -> dict[str, Sequence[TensorInfo]]:
    """The tensors by component, in rows where they stand in rows."""
    if isinstance(tensors, Tensors):
        rows: dict[str, list[Any]] = {}
        for row in tensors.rows:
            rows.setdefault(folder_of(row.tensor.file), []).append(row)
        return {folder: Tensors(tuple(found)) for folder, found in rows.items()}
    found: dict[str, list[TensorInfo]] = {}
    for tensor in tensors:
        found.setdefault(folder_of(tensor.file), []).append(tensor)
    return {folder: tuple(group) for folder, group in found.items()}


def _by_name(files: Sequence[FileInfo]) -> dict[str, tuple[FileInfo, ...]]:
    found: dict[str, tuple[FileInfo, ...]] = {}
    for file in files:
        found[folder_of(file.name)] = (*found.get(folder_of(file.name), ()), file)
    return found


def _component(
    checkpoint: Checkpoint, one: Listed, tensors: Sequence[TensorInfo], files: Sequence[FileInfo]
) -> Component:
    """A component from the tensors and files in its folder."""
    config = checkpoint.configs.get(one.name, {})
    sizes = [file.size for file in files]
    nbytes = sum(size or 0 for size in sizes) if sizes and None not in sizes else None
    found = component_of(checkpoint, one, config, tensors)
    missing = _absent(files)
    if tensors and missing:
        found = replace(found, unknown=f"{missing} of its weight files {'is' if missing == 1 else 'are'} missing")
    elif tensors and one.library in _LIBRARIES and one.name not in checkpoint.configs:
        found = replace(found, unknown="its config.json is not here, without which it is not loaded")
    return replace(found, file_bytes=nbytes)


def _absent(files: Sequence[FileInfo]) -> int:
    """Shards that are not there."""
    return pipeline_files(files, None).missing


def component_of(
    checkpoint: Checkpoint, one: Listed, config: Mapping[str, Any], tensors: Sequence[TensorInfo]
) -> Component:
    """A component from its tensors.

    Args:
        checkpoint: where it is from.
        one: its name and its class.
        config: its config.json; empty if there is none.
        tensors: its tensors.
    """
    architecture = _understood(checkpoint, config) if one.library == _TRANSFORMERS else None
    table = _table(one, config, tensors, architecture) if tensors else None
    source, certainty = _source(checkpoint, tensors)
    return Component(
        name=one.name,
        kind=kind_of(one.name, one.class_name),
        library=one.library,
        class_name=one.class_name,
        config=config,
        parameters=table,
        stored_dtype=dominant(table),
        quantisation=declared_quantisation(config),
        architecture=architecture,
        certainty=certainty,
        source=source,
        unknown="" if table is not None else _why(checkpoint),
    )


def _why(checkpoint: Checkpoint) -> str:
    """Why parameters are unknown where the files are not read."""
    return "its files need a licence" if checkpoint.gated else "no reader knows the format of its files"


def _understood(checkpoint: Checkpoint, config: Mapping[str, Any]) -> Architecture | None:
    """The layers and sizes of a class of transformers; None for types without a reader, for which the library would be
    imported."""
    model_type = config.get("model_type")
    if not isinstance(model_type, str) or reader(model_type) is None:
        return None
    alone = Checkpoint(
        ref=checkpoint.ref,
        commit=checkpoint.commit,
        source=checkpoint.source,
        provenance=checkpoint.provenance,
        config=config or None,
    )
    return interpret(alone).architecture


def _table(
    one: Listed, config: Mapping[str, Any], tensors: Sequence[TensorInfo], architecture: Architecture | None
) -> ParameterTable:
    """The parameters of a component, those that its library keeps in float32 apart."""
    dtypes_of = kept_in(one.library, one.class_name)
    sorts: dict[tuple[tuple[str, ...], bool, bool], list[Any]] = {}
    rows = tensors.rows if isinstance(tensors, Tensors) else None
    for item in tensors if rows is None else rows:
        name = item.name if isinstance(item, TensorInfo) else item.tensor.name
        buffer = one.library != _TRANSFORMERS and bool(_BUFFER.search(name))
        sorts.setdefault((dtypes_of(name), buffer, bool(_SCALE.search(name))), []).append(item)
    groups: list[TensorGroup] = []
    for (full_in, buffer, scale), items in sorts.items():
        part = tuple(items) if rows is None else Tensors(tuple(items))
        found = from_tensors(part, _plain(architecture), config)
        named = [_named(group, one, full_in) for group in found.groups]
        if buffer or scale:
            named = [replace(group, parameters=0, active=0, linear=False, scale=scale) for group in named]
        groups += named
    if format_of(next(iter(tensors)).file) is ONNX:  # whose runtime casts nothing
        groups = [replace(group, kept=True) for group in groups]
    return ParameterTable(groups=tuple(groups))


# Buffers that are in the files, and are loaded: sine and cosine tables of positions (diffusers 0.42,
# `models/embeddings.py`: PatchEmbed, CogVideoXPatchEmbed), and constants of schedules and statistics.
_SCALE: Final = re.compile(r"(^|\.)(scale_weight|scale_input|scaled_fp8|comfy_quant)$")  # of ComfyUI's FP8 files
_TABLE: Final = re.compile(r"(table|token|padding|embedding)$")  # parameters of a module itself, of two dimensions
_BUFFER: Final = re.compile(r"(^|\.)(pos_embed\.pos_embed|patch_embed\.pos_embedding)$")


def _plain(architecture: Architecture | None) -> Architecture:
    """What decides over tensors that are stored twice; the layers of a text encoder are all loaded."""
    if architecture is None:
        return Architecture(model_type=None)
    tied, vocabulary = architecture.tied_embeddings, architecture.vocab_size
    return Architecture(model_type=None, tied_embeddings=tied, vocab_size=vocabulary)


def _named(group: TensorGroup, one: Listed, full_in: tuple[str, ...]) -> TensorGroup:
    """A group as one of the component; in classes of other libraries, every plain matrix is of a linear layer."""
    linear = group.linear or (one.library != _TRANSFORMERS and _is_matrix(group))
    return replace(group, component=one.name, full_in=full_in, linear=linear)


def _is_matrix(group: TensorGroup) -> bool:
    found = stored_dtype(group.dtype) if group.dtype else None
    plain = (found is None or found.is_wide_float) and not _TABLE.search(group.role)
    return plain and len(group.shape) == 2 and not group.bias and "." not in group.role and not group.scale


def _source(checkpoint: Checkpoint, tensors: Sequence[TensorInfo]) -> tuple[str, Certainty]:
    if not tensors:
        return "sizes in the repository's listing", "typical"
    if checkpoint.source == "catalog":
        return f"bundled catalog ({checkpoint.provenance.rstrip('.')})", "derived"
    found = format_of(next(iter(tensors)).file)
    return f"{found.name if found else 'file'} headers", "exact"
