"""From a checkpoint to an architecture and its parameters, by two roads: the configuration, and the tensor headers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Final

from hfmem.dtypes import find_dtype, stored_dtype
from hfmem.errors import InvalidConfigError, shortened
from hfmem.fetcher.foreign import foreign
from hfmem.fetcher.formats import gguf, safetensors
from hfmem.fetcher.formats.table import format_of
from hfmem.fetcher.quantisations import Choice, wanted
from hfmem.fetcher.selection import Layout, Selection, select_for
from hfmem.fetcher.tensors import size_mismatches, table_bytes
from hfmem.fetcher.values import Checkpoint, FileInfo
from hfmem.mapper import generic
from hfmem.mapper.blueprint import Blueprint
from hfmem.mapper.context import context_of
from hfmem.mapper.declared import as_stored
from hfmem.mapper.facts import Facts, MissingFactError
from hfmem.mapper.families import reader
from hfmem.mapper.packing import declared_cache_dtype, declared_quantisation, quantisation_of
from hfmem.mapper.rotary import rotary_rows
from hfmem.mapper.structure import Structure
from hfmem.mapper.tables import from_tensors, from_totals
from hfmem.mapper.values import Architecture, Certainty, ParameterTable, Quantisation
from hfmem.units import format_bytes

__all__ = ["Model", "interpret"]


@dataclass(frozen=True, kw_only=True)
class Model:
    """A checkpoint, understood.

    Attributes:
        checkpoint: what was fetched.
        architecture: layers and sizes.
        parameters: None where neither files nor configuration tell.
        certainty: of the parameters: `exact` from headers, `derived` from the configuration or published totals.
        source: where the parameters are from.
        quantisation: how the checkpoint is quantised; None where its configuration says nothing.
        stored_dtype: the dominant stored floating dtype (PyTorch's name), None without headers or totals.
        file_bytes: bytes of the weight files, for when nothing else tells how large the weights are.
        notes: remarks for the reader.
        lacks: what a run needs besides, and is not counted; "" for nothing.
        unloadable: why software that loads the class of the configuration finds no weights here; "" where it does, or
            where there are no files at all.
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
    unloadable: str = ""

    def __repr__(self) -> str:
        count = f"{self.parameters.total:,}" if self.parameters else "unknown"
        kind = self.architecture.model_type or "of unknown type"
        return f"<Model {self.checkpoint.ref.model_id!r}, {kind}: {count} parameters ({self.certainty})>"

    @cached_property
    def structure(self) -> Structure:
        """What measured coefficients are looked up by, and the sizes they are written in."""
        return Structure(config=self.checkpoint.config or {}, architecture=self.architecture)


def interpret(checkpoint: Checkpoint) -> Model:
    """The model of a checkpoint. Never raises for what a file says: what cannot be read is unknown, with the reason."""
    config = {} if _is_gguf(checkpoint) else _config(checkpoint)
    selection = select_for(checkpoint.files, checkpoint.ref)
    blueprint = _blueprint(checkpoint)
    architecture = _finish(blueprint.architecture, config)
    described = blueprint.parameters
    read = bool(checkpoint.tensors)
    parameters, certainty, source, notes = _parameters(checkpoint, config, architecture, described, selection.layout)
    return Model(
        checkpoint=checkpoint,
        architecture=architecture,
        parameters=parameters,
        certainty=certainty,
        source=source,
        quantisation=declared_quantisation(config),
        stored_dtype=_dominant(parameters) or _usual(config, parameters),
        file_bytes=_file_bytes(checkpoint),
        notes=tuple(
            shortened(note)
            for note in (
                *checkpoint.notes,
                *architecture.notes,
                *notes,
                *_layout_notes(selection, checkpoint, parameters),
                *_unseen_quantisation(checkpoint, config, parameters),
            )
        ),
        lacks=_lacks(selection, checkpoint, parameters),
        unloadable="no file here is one that it loads" if selection.layout in _NOT_LOADED and not read else "",
    )


def _is_gguf(checkpoint: Checkpoint) -> bool:
    """Whether what was read of a checkpoint are GGUF files."""
    return bool(checkpoint.tensors) and format_of(checkpoint.tensors[0].file) is gguf.FORMAT


def _config(checkpoint: Checkpoint) -> Mapping[str, Any]:
    """config.json, with the quantisation that stands in a file of its own."""
    config = checkpoint.config or {}
    return {**config, "quantization_config": checkpoint.quantisation} if checkpoint.quantisation else config


def _blueprint(checkpoint: Checkpoint) -> Blueprint:
    if _is_gguf(checkpoint):  # what a config.json beside them says is of other files
        from hfmem.mapper.gguf.reader import architecture_of  # for such files only

        return Blueprint(architecture=architecture_of(checkpoint), groups=None)
    if checkpoint.config is None:
        return Blueprint(architecture=Architecture(model_type=None, unknown="there is no config.json"), groups=None)
    if checkpoint.gated and not checkpoint.tensors:
        # only the part of config.json that is public is here: class defaults must not fill in for the rest
        model_type = checkpoint.config.get("model_type")
        architecture = Architecture(
            model_type=model_type[:_LONGEST_NAME] if isinstance(model_type, str) else None,
            unknown="config.json of a gated model cannot be read without access",
        )
        return Blueprint(architecture=architecture, groups=None)
    return _read(checkpoint.config)


def _read(config: Mapping[str, Any]) -> Blueprint:
    """The blueprint by the reader of the model type; where there is none, or a fact is missing, an architecture whose
    layers are unknown, with the reason."""
    facts = Facts(config)
    if not facts.model_type:
        return _unknown(facts, "config.json does not say its model_type")
    read = reader(facts.model_type)
    try:
        blueprint = generic.read(config) if read is None else read(facts)
        return blueprint or _unknown(facts, f"no reader knows the model type '{facts.model_type}' yet")
    except MissingFactError as error:
        return _unknown(facts, f"config.json lacks '{error.key}', which '{facts.model_type}' needs")
    except InvalidConfigError as error:
        return _unknown(facts, f"in config.json, {error.reason}")
    except (ZeroDivisionError, OverflowError, IndexError, TypeError, ValueError) as error:
        return _unknown(facts, f"config.json holds values that cannot be a '{facts.model_type}' ({error})")


def _unknown(facts: Facts, reason: str) -> Blueprint:
    """The sizes that can be read without knowing the type; layers and weights stay unknown."""
    text = facts.part("text_config", "llm_config", "language_config") or facts
    architecture = Architecture(
        model_type=facts.model_type or None,
        hidden_size=_size(text, "hidden_size", "n_embd", "d_model"),
        vocab_size=_size(text, "vocab_size"),
        max_positions=_size(text, "max_position_embeddings", "n_positions"),
        attention_heads=_size(text, "num_attention_heads", "n_head"),
        intermediate_size=_size(text, "intermediate_size"),
        experts=_size(text, "num_experts", "n_routed_experts", "num_local_experts"),
        experts_per_token=_size(text, "num_experts_per_tok", "moe_topk"),
        layer_count=_size(text, "num_hidden_layers", "n_layer", "num_layers"),
        unknown=shortened(reason),
    )
    return Blueprint(architecture=architecture, groups=None)


def _size(facts: Facts, *keys: str) -> int | None:
    try:
        return facts.optional_integer(*keys)
    except InvalidConfigError:
        return None


_LONGEST_NAME: Final = 80  # characters of a class's name or a type's
_MOST_CLASSES: Final = 16


def _finish(architecture: Architecture, config: Mapping[str, Any]) -> Architecture:
    """What every architecture takes from the configuration in the same way: class names and run dtype."""
    classes = config.get("architectures")
    names = classes if isinstance(classes, list) else []
    return replace(
        architecture,
        architectures=tuple(name[:_LONGEST_NAME] for name in names[:_MOST_CLASSES] if isinstance(name, str)),
        dtype=_run_dtype(config),
        kv_dtype=declared_cache_dtype(config),
        state_dtype=architecture.state_dtype or _state_dtype(config),
        rotary_rows=rotary_rows(config, architecture.max_positions),
        context=context_of(config, architecture.max_positions),
    )


def _state_dtype(config: Mapping[str, Any]) -> str | None:
    """The dtype of recurrent states that a configuration names, at its root or in its text part."""
    text = config.get("text_config")
    for part in (config, text if isinstance(text, Mapping) else {}):
        for key in ("mamba_ssm_cache_dtype", "mamba_ssm_dtype"):
            name = part.get(key)
            found = find_dtype(name) if isinstance(name, str) else None
            if found is not None:
                return found.name
    return None


def _run_dtype(config: Mapping[str, Any]) -> str | None:
    """The floating dtype a configuration names, at its root or in its text part."""
    parts = [
        config,
        *(
            part
            for key in ("text_config", "llm_config", "thinker_config")
            if isinstance(part := config.get(key), Mapping)
        ),
    ]
    for part in parts:
        for key in ("dtype", "torch_dtype"):
            name = part.get(key)
            found = find_dtype(name) if isinstance(name, str) else None
            if found is not None and found.is_wide_float:
                return found.name
    return None


def _parameters(
    checkpoint: Checkpoint,
    config: Mapping[str, Any],
    architecture: Architecture,
    described: ParameterTable | None,
    layout: Layout,
) -> tuple[ParameterTable | None, Certainty, str, list[str]]:
    if checkpoint.tensors and layout == "adapter":
        return _adapter(from_tensors(checkpoint.tensors, architecture, config)), *_header_source(checkpoint)[::-1], []
    if checkpoint.tensors:
        if _is_gguf(checkpoint):
            from hfmem.mapper.gguf.reader import table_of  # for such files only

            table = table_of(checkpoint.tensors, architecture)
        else:
            table = from_tensors(checkpoint.tensors, architecture, config)
        source, certainty = _header_source(checkpoint)
        broken = [*_faults(checkpoint), *_doubts(checkpoint), *_odd_sizes(checkpoint)]
        notes = [*_unloaded(table), *_disagreement(table, described), *broken, *_unknown_dtypes(checkpoint)]
        return table, "derived" if broken and certainty == "exact" else certainty, source, notes
    if described is not None:
        stored = as_stored(described, config, architecture)
        source = f"config.json, as the class of '{architecture.model_type}' builds it"
        source += "" if stored is described else ", stored as its quantization_config says"
        source += "; no file here is one that the class loads" if layout in _NOT_LOADED else ""
        return stored, "derived", source, []
    if checkpoint.totals:
        return from_totals(checkpoint.totals), "derived", "the Hub's public totals", []
    return None, "unknown", "", []


def _header_source(checkpoint: Checkpoint) -> tuple[str, Certainty]:
    if checkpoint.source != "catalog":
        format_ = format_of(checkpoint.tensors[0].file)
        return f"{(format_ or safetensors.FORMAT).name} headers", "exact"
    certainty: Certainty = "exact" if checkpoint.names == "recorded" else "derived"
    return f"bundled catalog ({checkpoint.names} names; {checkpoint.provenance.rstrip('.')})", certainty


def _faults(checkpoint: Checkpoint) -> list[str]:
    """A sentence for files that contradict themselves."""
    faults = checkpoint.faults
    if not faults:
        return []
    more = f", and {len(faults) - 1} more" if len(faults) > 1 else ""
    return [
        f"The weight files are cut or broken, and loaders refuse such ones ({faults[0]}{more}): what their headers say "
        "is counted."
    ]


def _doubts(checkpoint: Checkpoint) -> list[str]:
    """A sentence for files that contradict each other or their index."""
    doubts = checkpoint.doubts
    return [f"The weight files do not agree with each other: {'; '.join(doubts)}."] if doubts else []


def _odd_sizes(checkpoint: Checkpoint) -> list[str]:
    """A sentence for tensors whose bytes are not what shape and dtype say."""
    known = checkpoint.source == "catalog" or _is_gguf(checkpoint)  # sizes that follow from shape and dtype
    odd = () if known else size_mismatches(checkpoint.tensors)
    if not odd:
        return []
    stored, expected = sum(t.nbytes for t in odd), sum(table_bytes(t.dtype, t.shape) for t in odd)
    return [
        f"{len(odd)} tensors ('{odd[0].name}', …) hold {stored:,} bytes where shape × dtype is {expected:,}; the "
        "stored bytes are counted for packed dtypes, shape × dtype for the others."
    ]


def _unknown_dtypes(checkpoint: Checkpoint) -> list[str]:
    """A sentence for dtypes that are not known."""
    if checkpoint.source == "catalog":
        return []
    unknown = sorted({tensor.dtype for tensor in checkpoint.tensors if stored_dtype(tensor.dtype) is None})
    return [f"Unknown dtypes, counted by their stored bytes: {', '.join(unknown[:8])}."] if unknown else []


def _unloaded(table: ParameterTable) -> list[str]:
    """A sentence for what the files hold and a run does not load."""
    notes = []
    mtp = sum(group.parameters for group in table.groups if group.component == "mtp")
    if mtp:
        notes.append(
            f"{mtp:,} of the parameters are extra prediction layers (mtp), which transformers does not load; the "
            f"weights are without them."
        )
    rest = [group for group in table.groups if not group.loaded and group.component != "mtp"]
    if rest:
        names = sorted({group.role for group in rest})
        elements, nbytes = sum(g.elements for g in rest), sum(g.stored_bytes or 0 for g in rest)
        notes.append(
            f"Not parameters, and not loaded: {sum(g.count for g in rest)} stored tensors ({', '.join(names[:4])}), "
            f"{elements:,} elements, {nbytes:,} bytes."
        )
    return notes


def _disagreement(table: ParameterTable, described: ParameterTable | None) -> list[str]:
    """A sentence where the files and the configuration count differently, naming the components that do."""
    if described is None:
        return []
    stored = {name: count for name, count in table.by_component.items() if name != "mtp"}
    expected = described.by_component
    if sum(stored.values()) == sum(expected.values()):
        return []
    parts = [
        f"{component} {stored.get(component, 0) - expected.get(component, 0):+,}"
        for component in dict.fromkeys((*stored, *expected))
        if stored.get(component, 0) != expected.get(component, 0)
    ]
    return [
        f"The files hold {sum(stored.values()):,} parameters, the configuration describes {sum(expected.values()):,}: "
        f"{', '.join(parts)}."
    ]


def _usual(config: Mapping[str, Any], parameters: ParameterTable | None) -> str | None:
    """The dtype that a quantised checkpoint runs in where nothing names one: halves for GPTQ and AWQ, whose scales are
    such, bfloat16 for all others (transformers 5.24, `quantizer_mxfp4.py::update_dtype` and its likes)."""
    own = declared_quantisation(config)
    if own is None or parameters is None or not parameters.stored:
        return None
    return "float16" if own.method in ("gptq", "awq", "auto-round") else "bfloat16"


def _dominant(parameters: ParameterTable | None) -> str | None:
    """The floating dtype of at least 16 bits that most stored elements have."""
    counts: dict[str, int] = {}
    for group in parameters.groups if parameters else ():
        dtype = stored_dtype(group.dtype) if group.dtype and not group.kept else None
        if dtype is not None and dtype.is_wide_float:
            counts[dtype.name] = counts.get(dtype.name, 0) + group.elements
    return max(counts, key=lambda name: counts[name]) if counts else None


def _file_bytes(checkpoint: Checkpoint) -> int | None:
    sizes = [file.size for file in checkpoint.weight_files]
    return sum(size for size in sizes if size is not None) if sizes and None not in sizes else None


_NOT_LOADED: Final = ("gguf", "foreign")

_LAYOUT_NOTES: Final = {
    "bin": "The weights are PyTorch pickles (.bin), which are not opened: the figures are from the configuration, or "
    "from the size of the files.",
    "adapter": "This is an adapter: its base model is needed besides.",
    "diffusers": "This is a diffusers pipeline: the weights of all its components are counted, its activations are not "
    "known yet.",
}


def _adapter(table: ParameterTable) -> ParameterTable:
    """An adapter's own parameters, as its file has them."""
    return replace(table, groups=tuple(replace(group, kept=True) for group in table.groups))


def _unseen_quantisation(
    checkpoint: Checkpoint, config: Mapping[str, Any], parameters: ParameterTable | None
) -> list[str]:
    """What a configuration says of weights that are not there to be read."""
    found = quantisation_of(config)
    if checkpoint.tensors or parameters is None or not found:
        return []
    if any(group.stored_bytes is not None for group in parameters.groups):
        return []
    words = (found.get("quant_method"), found.get("quant_algo"))
    method = next((word for word in words if isinstance(word, str) and word), "some format")
    return [
        f"config.json says that the weights are quantised ({method}); without their files they are counted as they "
        "were before: --dtype fp8, int4, … gives a format."
    ]


def _choices_note(checkpoint: Checkpoint, choices: Sequence[Choice]) -> str:
    """The models among a repository's GGUF files, where none of them is chosen."""
    if not choices or checkpoint.tensors:
        return ""
    listed = ", ".join(f"{_name(choice)} ({_size_of(choice)})" for choice in choices)
    quant, model = wanted(checkpoint.ref), checkpoint.ref.model_id
    missed = f"None of them is '{quant}'. " if quant else ""
    first = next((choice.quant for choice in choices if choice.quant), "Q4_K_M")
    how = "give the path of one" if checkpoint.source == "local" else f"name one, as in {model}:{first}"
    return f"{missed}It holds {len(choices)} models in GGUF files to choose from; {how}: {listed}."


def _name(choice: Choice) -> str:
    """The file to give: of a model in several, the first."""
    return choice.files[0].name


def _size_of(choice: Choice) -> str:
    size = "size unknown" if choice.size is None else format_bytes(choice.size)
    return size if len(choice.files) == 1 else f"{len(choice.files)} files, {size}"


def _lacks(selection: Selection, checkpoint: Checkpoint, parameters: ParameterTable | None) -> str:
    """What of the weights is not here."""
    if selection.layout == "adapter":
        return "this is an adapter, whose base model is needed besides"
    if selection.choices and parameters is None:
        return "one of its files has to be named"
    if selection.layout in _NOT_LOADED and parameters is None and not selection.weights:
        return f"no weights for the classes of transformers are here, but {_held(checkpoint)}"
    return ""


def _layout_notes(selection: Selection, checkpoint: Checkpoint, parameters: ParameterTable | None) -> Iterator[str]:
    """Which files were taken, and what that means for the figures."""
    if selection.layout not in _NOT_LOADED or checkpoint.tensors:
        if note := _LAYOUT_NOTES.get(selection.layout):
            yield note
        return
    choices = _choices_note(checkpoint, selection.choices)
    there = choices or f"No weights for the classes of transformers are here, but {_held(checkpoint)}."
    if parameters is not None:
        yield f"{there} The figures are those of the class that config.json describes, and not of these files."
    elif choices or selection.weights:
        yield there if choices else f"{there} They are taken by their size."


def _held(checkpoint: Checkpoint) -> str:
    """What the files are, how large, and what they are for."""
    kinds = []
    for kind in foreign(checkpoint.files):
        names = ", ".join(_sized(file) for file in kind.files[:_NAMED])
        more = f" and {len(kind.files) - _NAMED} more" if len(kind.files) > _NAMED else ""
        total = f", {format_bytes(kind.nbytes)}" if kind.nbytes is not None and len(kind.files) > 1 else ""
        count = "1 file" if len(kind.files) == 1 else f"{len(kind.files)} files"
        kinds.append(f"{kind.name} weights for {kind.loader} ({count}{total}: {names}{more})")
    return "; ".join(kinds)


_NAMED: Final = 4


def _sized(file: FileInfo) -> str:
    return file.name if file.size is None else f"{file.name} {format_bytes(file.size)}"
