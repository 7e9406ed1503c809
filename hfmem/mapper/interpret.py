"""From a checkpoint to an architecture and its parameters, using the config and the tensor headers."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final, Protocol

from hfmem.dtypes import stored_dtype
from hfmem.errors import shortened
from hfmem.fetcher.formats import safetensors
from hfmem.fetcher.formats.table import format_of
from hfmem.fetcher.selection import Selection, select_for
from hfmem.fetcher.values import Checkpoint
from hfmem.mapper.agreed import published
from hfmem.mapper.architecture import blueprint_of, finished
from hfmem.mapper.declared import as_stored
from hfmem.mapper.holdings import NOT_LOADED, choices_note, files_note, is_gguf, lacks, layout_notes
from hfmem.mapper.modules import Placer
from hfmem.mapper.networks import network_of
from hfmem.mapper.packing import declared_quantisation
from hfmem.mapper.pipelines.kept import kept_wide
from hfmem.mapper.pipelines.values import Pipeline
from hfmem.mapper.sizes import model_types
from hfmem.mapper.structure import Structure
from hfmem.mapper.tensor_plans import planned
from hfmem.mapper.values import Architecture, Certainty, ParameterTable, Quantisation
from hfmem.mapper.weight_notes import broken_files, odd_heads, of_headers, unread_quantisation, unseen_quantisation

if TYPE_CHECKING:
    from hfmem.fetcher.quantisations import Choice
    from hfmem.mapper.gguf.layout import Blocks
    from hfmem.mapper.inputs import Largest, LargestInput, Network, Tower
    from hfmem.mapper.modules import NoOutline, Outline

__all__ = ["Adapted", "Model", "Quantisable", "dominant", "interpret"]


class Quantisable(Protocol):
    """A checkpoint of transformers of which llama.cpp's tools make GGUF files."""

    @property
    def checkpoint(self) -> Checkpoint:
        """What is converted."""

    def choices(self) -> tuple[Choice, ...]:
        """All quantisations, as the files they would be."""

    def quantised(self, word: str) -> Checkpoint | None:
        """The file of a quantisation; None where there is no such."""


@dataclass(frozen=True, kw_only=True)
class Adapted:
    """The adapter of a model that was put together from a base and an adapter.

    Attributes:
        base: the base model alone.
        kind: PEFT's name of its kind (`LORA`); "" where its configuration has none.
        rank: its rank; None for kinds without one.
        parameters: what it adds to the base.
        trained: parameters that were trained: those, and biases of the base that the adapter replaces.
    """

    base: Model
    kind: str
    rank: int | None
    parameters: ParameterTable
    trained: int


@dataclass(frozen=True, kw_only=True, repr=False)
class Model:
    """An interpreted checkpoint.

    Attributes:
        checkpoint: the fetched files and facts.
        architecture: layers and sizes.
        parameters: the parameters; None where neither files nor config determine them.
        certainty: of the parameters: `exact` from headers, `derived` from the config or published totals, `typical`
            where the quantisation config is not fully understood.
        source: where the parameters are from.
        quantisation: how the checkpoint is quantised; None if its config states nothing.
        stored_dtype: the dominant stored floating-point dtype (PyTorch's name); None without headers or totals.
        file_bytes: bytes of the weight files, used if nothing else determines the size of the weights.
        notes: remarks for the reader.
        lacks: weights that a run also needs, and that are not counted; "" for none.
        offered: a sentence that lists the models in the files, if none was chosen; "" otherwise.
        resized: what the sizes of the tensors were derived from, if the header of the files was not read; "" if it was.
        adapted: the adapter on it; None for a model without one.
        pipeline: its components, if it is a diffusion pipeline; None for other models.
        unloadable: why software that loads the config's class finds no weights here; "" if it does, or if there are no
            files at all.
        unconverted: why llama.cpp's tools make no GGUF of it; "" if they do, or it was not asked.
        conversion: how its GGUF files follow from a checkpoint of transformers, where they were not read; else None.
        made: whether these files are still to be made.
        placer: its class, whose modules Accelerate puts on devices; None where that was not asked, or is not
            installed.
    """

    checkpoint: Checkpoint
    architecture: Architecture
    parameters: ParameterTable | None
    certainty: Certainty
    source: str
    stored_dtype: str | None
    file_bytes: int | None
    notes: tuple[str, ...]
    quantisation: Quantisation | None = None
    lacks: str = ""
    offered: str = ""
    unloadable: str = ""
    resized: str = ""
    adapted: Adapted | None = None
    pipeline: Pipeline | None = None
    unconverted: str = ""
    conversion: Quantisable | None = field(default=None, repr=False, compare=False)
    made: bool = False
    placer: Placer | None = field(default=None, repr=False, compare=False)

    def __repr__(self) -> str:
        count = f"{self.parameters.total:,}" if self.parameters else "unknown"
        kind = self.architecture.model_type or "of unknown type"
        return f"<Model {self.checkpoint.ref.model_id!r}, {kind}: {count} parameters ({self.certainty})>"

    @property
    def source_of_files(self) -> Checkpoint:
        """The checkpoint whose files are downloaded: of a GGUF that is still to be made, what it is made of."""
        return self.conversion.checkpoint if self.made and self.conversion is not None else self.checkpoint

    @property
    def is_gguf(self) -> bool:
        """Whether its tensors were read from GGUF files."""
        return is_gguf(self.checkpoint)

    @cached_property
    def blocks(self) -> Blocks | None:
        """What llama.cpp reads of its GGUF files; None where it has none, or their keys do not tell its layers."""
        if not is_gguf(self.checkpoint):
            return None
        from hfmem.mapper.gguf.layout import layout_of  # for such files only

        found = layout_of(self.checkpoint, self.architecture)
        return replace(found, resized=self.resized) if found is not None and self.resized else found

    @cached_property
    def network(self) -> Network | None:
        """What it is, if it takes images and nothing else, and is one of timm's; None for other models."""
        return network_of(self.checkpoint.config or {}) if not is_gguf(self.checkpoint) else None

    @property
    def lengthless(self) -> bool:
        """Whether it takes no sequence of tokens: a pipeline, or a network for images."""
        return self.pipeline is not None or self.network is not None

    @cached_property
    def tower(self) -> Tower | None:
        """The vision tower; None without one whose sizes are known."""
        from hfmem.mapper.media.towers import tower_of  # for runs with images only

        return tower_of(self.checkpoint.config or {})

    @cached_property
    def ear(self) -> Tower | None:
        """The audio tower; None without one whose sizes are known."""
        from hfmem.mapper.media.ears import ear_of  # for runs with sound only

        return ear_of(self.checkpoint.config or {})

    @cached_property
    def largest(self) -> Largest | None:
        """The largest images and videos that its processor lets in; None where that is not known."""
        from hfmem.mapper.media.largest import largest_of  # for servers of models with towers only

        return largest_of(self.checkpoint.config or {}, self.checkpoint.processing)

    def image_of(self, width: int, height: int) -> LargestInput | None:
        """What its processor hands to the tower for an image of that size; None where it takes none."""
        from hfmem.mapper.media.largest import image_of

        return image_of(self.checkpoint.config or {}, self.checkpoint.processing, width, height)

    @cached_property
    def outline(self) -> Outline | NoOutline:
        """The modules of its class, with its tensors in them; or what of them is not known."""
        from hfmem.mapper.outlines import outline_of  # for runs that put modules on devices only

        return outline_of(self.architecture, self.parameters)

    @cached_property
    def structure(self) -> Structure:
        """The keys for measured coefficients, and the sizes to evaluate them with."""
        return Structure(config=self.checkpoint.config or {}, architecture=self.architecture)


def interpret(checkpoint: Checkpoint) -> Model:
    """The model of a checkpoint. Never raises for contents of files: unreadable facts are unknown, with the reason."""
    selection = select_for(checkpoint.files, checkpoint.ref)
    config, described, architecture = _described(checkpoint, selection)
    types = model_types(config) or (architecture.model_type or "",)
    architecture = finished(architecture, config, types)
    parameters, certainty, source, notes = _parameters(checkpoint, config, architecture, described, selection)
    unread = selection.layout == "foreign" or (selection.layout in NOT_LOADED and not checkpoint.tensors)
    return Model(
        checkpoint=checkpoint,
        architecture=architecture,
        parameters=None if parameters is None else kept_wide(planned(parameters, types), architecture.class_names),
        certainty=certainty,
        source=source,
        quantisation=declared_quantisation(config),
        stored_dtype=dominant(parameters) or _usual(config, parameters),
        file_bytes=_file_bytes(checkpoint),
        notes=tuple(
            shortened(note)
            for note in (
                *checkpoint.notes,
                *architecture.notes,
                *odd_heads(architecture),
                *notes,
                *layout_notes(selection, checkpoint, parameters),
                *unseen_quantisation(checkpoint, config, parameters),
            )
        ),
        lacks=lacks(selection, checkpoint, parameters),
        offered=choices_note(checkpoint, selection.choices) or files_note(selection, checkpoint),
        unloadable="it loads none of the files here" if unread else "",
    )


def _described(
    checkpoint: Checkpoint, selection: Selection
) -> tuple[Mapping[str, Any], ParameterTable | None, Architecture]:
    """The config (including a quantisation config from a separate file), the weights that it describes, and the
    architecture. For GGUF files only their headers count, as a config.json in the repository describes other files."""
    if is_gguf(checkpoint):
        from hfmem.mapper.gguf.reader import architecture_of  # only needed for GGUF

        return {}, None, architecture_of(checkpoint)
    if not selection.described:
        reason = "config.json describes other files" if checkpoint.config is not None else "there is no config.json"
        return {}, None, Architecture(model_type=None, unknown=reason)
    config = checkpoint.config or {}
    if checkpoint.quantisation:
        config = {**config, "quantization_config": checkpoint.quantisation}
    blueprint = blueprint_of(checkpoint)
    architecture = blueprint.architecture
    if architecture.layers is None and _is_static(checkpoint):
        architecture = replace(architecture, layers=(), unknown="")
    return config, blueprint.parameters, architecture


_STATIC: Final = re.compile(r"(.*\.)?(embeddings?(\.weight)?|weights|mapping)")


def _is_static(checkpoint: Checkpoint) -> bool:
    """Whether the files have nothing but a table of vectors, one for each token, and the weights of their mean
    (`StaticEmbedding` of sentence-transformers, `StaticModel` of model2vec): no layer runs, and nothing is cached."""
    tensors = checkpoint.tensors
    return 0 < len(tensors) <= _STATIC_TENSORS and all(_STATIC.fullmatch(tensor.name) for tensor in tensors)


_STATIC_TENSORS: Final = 6  # a table, weights and a mapping of it, for each of two routes


def _parameters(
    checkpoint: Checkpoint,
    config: Mapping[str, Any],
    architecture: Architecture,
    described: ParameterTable | None,
    selection: Selection,
) -> tuple[ParameterTable | None, Certainty, str, list[str]]:
    layout = selection.layout
    if checkpoint.tensors:
        table = _of_tensors(checkpoint, config, architecture, gguf=layout != "adapter" and is_gguf(checkpoint))
        source, certainty = _header_source(checkpoint)
        if layout == "adapter":
            return _as_stored(table), certainty, source, []
        table = _as_stored(table) if layout == "foreign" else table  # other software casts nothing
        doubtful = certainty == "exact" and broken_files(checkpoint)
        return table, "derived" if doubtful else certainty, source, of_headers(checkpoint, table, described)
    if checkpoint.agreed and (told := published(checkpoint)) is not None:
        source = "config.json and the Hub's public totals by dtype, which are equal"
        return told, "derived", source, of_headers(checkpoint, told, described)
    if described is not None:
        stored = as_stored(described, config, architecture)
        source = f"config.json, as the class of '{architecture.model_type}' builds it"
        source += "" if stored.table is described else ", stored as its quantization_config says"
        source += "; the class loads none of the files here" if layout in NOT_LOADED else ""
        return stored.table, "typical" if stored.unread else "derived", source, unread_quantisation(stored, described)
    if checkpoint.totals and not files_note(selection, checkpoint):
        from hfmem.mapper.tables import from_totals  # where nothing else is known

        return from_totals(checkpoint.totals), "derived", "the Hub's public totals", []
    return None, "unknown", "", []


def _of_tensors(
    checkpoint: Checkpoint, config: Mapping[str, Any], architecture: Architecture, *, gguf: bool
) -> ParameterTable:
    """The parameters that the headers of files list."""
    if gguf:
        from hfmem.mapper.gguf.reader import table_of  # only needed for GGUF

        return table_of(checkpoint.tensors, architecture)
    from hfmem.mapper.tables import from_tensors  # headers are not read where config and public totals agree

    return from_tensors(checkpoint.tensors, architecture, config)


def _header_source(checkpoint: Checkpoint) -> tuple[str, Certainty]:
    if checkpoint.source != "catalog":
        format_ = format_of(checkpoint.tensors[0].file)
        return f"{(format_ or safetensors.FORMAT).name} headers", "exact"
    certainty: Certainty = "exact" if checkpoint.names == "recorded" else "derived"
    return f"bundled catalog ({checkpoint.names} names; {checkpoint.provenance.rstrip('.')})", certainty


def _usual(config: Mapping[str, Any], parameters: ParameterTable | None) -> str | None:
    """The default run dtype of a quantised checkpoint without a dtype in its config: float16 for GPTQ and AWQ, whose
    scales are float16, bfloat16 for others (transformers 5.24, `update_dtype` in `quantizer_mxfp4.py` and others)."""
    own = declared_quantisation(config)
    if own is None or parameters is None or not parameters.stored:
        return None
    return "float16" if own.method in ("gptq", "awq", "auto-round") else "bfloat16"


def dominant(parameters: ParameterTable | None) -> str | None:
    """The floating-point dtype of at least 16 bits with most stored elements, without the scales of packed tensors."""
    counts: dict[str, int] = {}
    for group in parameters.groups if parameters else ():
        dtype = stored_dtype(group.dtype) if group.dtype and not group.kept and not group.scale else None
        if dtype is not None and dtype.is_wide_float:
            counts[dtype.name] = counts.get(dtype.name, 0) + group.elements
    return max(counts, key=lambda name: counts[name]) if counts else None


def _file_bytes(checkpoint: Checkpoint) -> int | None:
    sizes = [file.size for file in checkpoint.weight_files]
    return sum(size for size in sizes if size is not None) if sizes and None not in sizes else None


def _as_stored(table: ParameterTable) -> ParameterTable:
    """The parameters in their stored dtype, as adapters and weights of other software are loaded."""
    return replace(table, groups=tuple(replace(group, kept=True) for group in table.groups))
