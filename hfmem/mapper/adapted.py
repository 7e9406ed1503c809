"""A base model with an adapter on it, as one model.

What PEFT (0.21) holds after `PeftModel.from_pretrained`: the base as it is; the adapter's own weights in float32,
whatever the file has (`autocast_adapter_dtype`, `tuners_utils.py::cast_adapter_dtype`); and of the modules in
`modules_to_save`, whole copies beside the originals, in their dtype (`utils/other.py::ModulesToSaveWrapper`).
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import replace
from typing import Any, Final, NamedTuple

from hfmem.dtypes import find_dtype, stored_dtype
from hfmem.fetcher.bases import base_name
from hfmem.fetcher.selection import select_for
from hfmem.fetcher.tensors import rows_of
from hfmem.fetcher.values import Checkpoint, FileInfo, TensorInfo
from hfmem.mapper.interpret import Adapted, Model, interpret
from hfmem.mapper.values import ParameterTable, TensorGroup

__all__ = ["understood"]

_PREFIXES: Final = ("base_model.model.", "base_model.")
_FULL: Final = "F32"


def understood(checkpoint: Checkpoint) -> Model:
    """The model of a checkpoint; of an adapter whose base model was read, both as one. Never raises for contents of
    files."""
    if checkpoint.pipeline is not None or _is_pipeline(checkpoint):
        from hfmem.mapper.pipelines.reader import pipeline_of  # for pipelines only

        return pipeline_of(checkpoint)
    own = _of_diffusers(checkpoint) or interpret(checkpoint)
    if checkpoint.base is None:
        return own
    if checkpoint.base.pipeline is not None:
        from hfmem.mapper.pipelines.lora import with_lora
        from hfmem.mapper.pipelines.reader import pipeline_of

        return with_lora(pipeline_of(checkpoint.base), checkpoint, _merged(checkpoint.base, checkpoint))
    base = interpret(checkpoint.base)
    return own if base.parameters is None else _joined(base, own)


def _is_pipeline(checkpoint: Checkpoint) -> bool:
    """Whether it is a pipeline whose model_index.json could not be read: of a gated repository, or an invalid one."""
    return select_for(checkpoint.files, checkpoint.ref, checkpoint.pipeline).layout == "pipeline"


def _of_diffusers(checkpoint: Checkpoint) -> Model | None:
    """The pipeline in one file, or the one class of diffusers, that a checkpoint is; None for other models."""
    config = checkpoint.config or {}
    if not checkpoint.tensors or (config.get("model_type") and "_class_name" not in config):
        return None
    from hfmem.mapper.pipelines.reader import single_component  # models with a type of their own are none
    from hfmem.mapper.pipelines.single import single_file

    return single_file(checkpoint) or single_component(checkpoint)


class _Kinds(NamedTuple):
    """Which tensors of an adapter's file are what.

    Attributes:
        names: names of the base's tensors, without their numbers.
        saved: `modules_to_save` of the adapter's configuration.
    """

    names: Collection[str]
    saved: Collection[str]

    def is_copy(self, name: str) -> bool:
        """Whether it is a copy of a tensor of the base: of a module to save."""
        from hfmem.mapper.names import without_numbers

        parts = name.split(".")
        return without_numbers(name) in self.names or any(part in self.saved for part in parts[:-1])


def _joined(base: Model, own: Model) -> Model:
    checkpoint = own.checkpoint
    groups = tuple(_groups(base, checkpoint))
    assert base.parameters is not None  # noqa: S101 - the caller has looked
    merged = _merged(base.checkpoint, checkpoint)
    sizes = [file.size for file in merged.weight_files]
    return replace(
        base,
        checkpoint=merged,
        parameters=ParameterTable(groups=(*base.parameters.groups, *groups)),
        source=f"{base.source}; the adapter: {own.source}",
        file_bytes=None if None in sizes or not sizes else sum(size or 0 for size in sizes),
        notes=(*_notes(checkpoint, groups), *checkpoint.notes, *base.notes),
        adapted=Adapted(
            base=base,
            kind=_text(checkpoint.adapter, "peft_type"),
            rank=_rank(checkpoint.adapter),
            parameters=ParameterTable(groups=groups),
            trained=sum(group.parameters for group in groups) + _trained_biases(checkpoint),
        ),
    )


def _groups(base: Model, checkpoint: Checkpoint) -> Iterator[TensorGroup]:
    """What the adapter adds to the base."""
    from hfmem.mapper.names import without_numbers  # for adapters with their base only

    saved = (checkpoint.adapter or {}).get("modules_to_save")
    kinds = _Kinds(
        names={without_numbers(row.tensor.name) for row in rows_of(base.checkpoint.tensors)},
        saved=[name for name in saved if isinstance(name, str)] if isinstance(saved, list) else [],
    )
    for row in rows_of(checkpoint.tensors):
        name = _stripped(row.tensor.name)
        if ".base_layer." in name:  # a resized embedding replaces the base's
            continue
        yield _group(name, row.tensor, row.count, copy=kinds.is_copy(name))


def _trained_biases(checkpoint: Checkpoint) -> int:
    """Elements of the base's biases that were trained with the adapter (`bias` of LoraConfig), and replace them."""
    rows = rows_of(checkpoint.tensors)
    return sum(row.tensor.elements * row.count for row in rows if row.tensor.name.endswith(".base_layer.bias"))


def _stripped(name: str) -> str:
    return next((name.removeprefix(prefix) for prefix in _PREFIXES if name.startswith(prefix)), name)


def _group(name: str, tensor: TensorInfo, count: int, *, copy: bool) -> TensorGroup:
    found = stored_dtype(tensor.dtype)
    floating = found is not None and found.is_wide_float
    full = find_dtype(_FULL)
    cast = floating and not copy and full is not None
    return TensorGroup(
        component="adapter",
        role=name.rpartition(".")[0].rpartition(".")[2] or name,
        shape=tensor.shape,
        count=count,
        dtype=_FULL if cast else tensor.dtype,
        stored_bytes=full.nbytes(tensor.elements) * count if cast and full is not None else tensor.nbytes * count,
        parameters=tensor.elements * count,
        active=tensor.elements * count,
        kept=not copy,
    )


def _merged(base: Checkpoint, own: Checkpoint) -> Checkpoint:
    """The base's files and the adapter's, under the adapter's name."""
    # in a folder of their own, as the two repositories may have files of the same names
    weights = tuple(FileInfo(name=f"{own.ref.model_id}/{file.name}", size=file.size) for file in own.weight_files)
    return replace(
        base,
        ref=own.ref,
        commit=own.commit,
        source=own.source,
        provenance=f"{own.provenance}; its base model: {base.provenance}",
        adapter=own.adapter,
        base=base,
        files=(*base.files, *weights),
        weight_files=(*base.weight_files, *weights),
        faults=(*base.faults, *own.faults),
    )


def _notes(checkpoint: Checkpoint, groups: tuple[TensorGroup, ...]) -> Iterator[str]:
    """What was put together, and what the figures do not say."""
    kind, rank = _text(checkpoint.adapter, "peft_type") or "PEFT", _rank(checkpoint.adapter)
    rank_words = f" of rank {rank}" if rank else ""
    own = sum(group.parameters for group in groups)
    copies = sum(group.parameters for group in groups if not group.kept)
    kept = f", {copies:,} of them whole copies of modules" if copies else ""
    yield (
        f"A {kind} adapter{rank_words} with {own:,} parameters{kept}, on {base_name(checkpoint)}; its own weights are "
        "float32, as PeftModel loads them. Merged into the base, they would take nothing."
    )
    tokens = (checkpoint.adapter or {}).get("num_virtual_tokens")
    if type(tokens) is int and tokens > 0:
        yield f"Its {tokens:,} virtual tokens stand before each sequence, and count inside --seq."


def _rank(config: Mapping[str, Any] | None) -> int | None:
    rank = (config or {}).get("r")
    return rank if type(rank) is int and 0 < rank < 10**6 else None


def _text(config: Mapping[str, Any] | None, key: str) -> str:
    text = (config or {}).get(key)
    return " ".join(text.split())[:40] if isinstance(text, str) else ""
