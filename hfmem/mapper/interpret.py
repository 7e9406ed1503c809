"""From a checkpoint to an architecture and its parameters, by two roads: the configuration, and the tensor headers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Final

from hfmem.dtypes import find_dtype, stored_dtype
from hfmem.errors import InvalidConfigError, shortened
from hfmem.fetcher.formats import gguf, safetensors
from hfmem.fetcher.formats.table import format_of
from hfmem.fetcher.selection import Layout, select_for
from hfmem.fetcher.tensors import size_mismatches, table_bytes
from hfmem.fetcher.values import Checkpoint
from hfmem.mapper import generic
from hfmem.mapper.blueprint import Blueprint
from hfmem.mapper.caches import KV, Cache, Combined, Indexed
from hfmem.mapper.context import context_of
from hfmem.mapper.declared import Stored, as_stored
from hfmem.mapper.facts import Facts, MissingFactError
from hfmem.mapper.families import reader
from hfmem.mapper.holdings import NOT_LOADED, choices_note, lacks, layout_notes
from hfmem.mapper.packing import declared_cache_dtype, declared_quantisation, quantisation_of
from hfmem.mapper.rotary import rotary_rows
from hfmem.mapper.sizes import model_types
from hfmem.mapper.structure import Structure
from hfmem.mapper.tables import from_tensors, from_totals
from hfmem.mapper.tensor_plans import planned, tensor_plan
from hfmem.mapper.values import Architecture, Certainty, ParameterTable, Quantisation

__all__ = ["Model", "interpret"]


@dataclass(frozen=True, kw_only=True)
class Model:
    """A checkpoint, understood.

    Attributes:
        checkpoint: what was fetched.
        architecture: layers and sizes.
        parameters: None where neither files nor configuration tell.
        certainty: of the parameters: `exact` from headers, `derived` from the configuration or published totals,
            `typical` where the configuration has a quantisation that is not understood in full.
        source: where the parameters are from.
        quantisation: how the checkpoint is quantised; None where its configuration says nothing.
        stored_dtype: the dominant stored floating dtype (PyTorch's name), None without headers or totals.
        file_bytes: bytes of the weight files, for when nothing else tells how large the weights are.
        notes: remarks for the reader.
        lacks: what a run needs besides, and is not counted; "" for nothing.
        offered: the models that the files hold and of which none was named, in a sentence that says how; "" for none.
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
    offered: str = ""
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
    types = model_types(config) or (blueprint.architecture.model_type or "",)
    architecture = _finish(blueprint.architecture, config)
    architecture = replace(architecture, tensor_plan=tensor_plan(types, architecture.architectures))
    described = blueprint.parameters
    read = bool(checkpoint.tensors)
    parameters, certainty, source, notes = _parameters(checkpoint, config, architecture, described, selection.layout)
    return Model(
        checkpoint=checkpoint,
        architecture=architecture,
        parameters=None if parameters is None else planned(parameters, types),
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
                *_odd_heads(architecture),
                *notes,
                *layout_notes(selection, checkpoint, parameters),
                *_unseen_quantisation(checkpoint, config, parameters),
            )
        ),
        lacks=lacks(selection, checkpoint, parameters),
        offered=choices_note(checkpoint, selection.choices),
        unloadable="no file here is one that it loads" if selection.layout in NOT_LOADED and not read else "",
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
    try:
        return _by_reader(facts, config) or _unknown(facts, f"no reader knows the model type '{facts.model_type}' yet")
    except MissingFactError as error:
        return _unknown(facts, f"config.json lacks '{error.key}', which '{facts.model_type}' needs")
    except InvalidConfigError as error:
        return _unknown(facts, f"in config.json, {error.reason}")
    except ZeroDivisionError:
        divisor = _divisor(config) or "a size"
        return _unknown(facts, f"in config.json, {divisor} is 0, and '{facts.model_type}' divides by it")
    except (OverflowError, IndexError, TypeError, ValueError):
        return _unknown(facts, f"config.json holds values that cannot be a '{facts.model_type}'")


def _by_reader(facts: Facts, config: Mapping[str, Any]) -> Blueprint | None:
    read = reader(facts.model_type)
    return generic.read(config) if read is None else read(facts)


_MOST_ZEROS: Final = 64


def _divisor(config: Mapping[str, Any]) -> str:
    """The key whose zero a reader divides by: with a one there it reads on. "" where there are several."""
    for path in list(_zeros(config))[:_MOST_ZEROS]:
        try:
            changed = _with_one(config, path)
            _by_reader(Facts(changed), changed)
        except ZeroDivisionError:
            continue
        except Exception:  # noqa: S110 - what else is wrong is of no account
            pass
        return ".".join(path)
    return ""


def _zeros(config: Mapping[str, Any], before: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """The keys that are 0, at the root and in its parts."""
    for key, value in config.items():
        if type(value) is int and value == 0:
            yield (*before, key)
        elif isinstance(value, Mapping) and not before:
            yield from _zeros(value, (key,))


def _with_one(config: Mapping[str, Any], path: tuple[str, ...]) -> Mapping[str, Any]:
    first, *rest = path
    return {**config, first: _with_one(config[first], tuple(rest)) if rest else 1}


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
        overflows=architecture.model_type in _OVERFLOWING,
        state_dtype=architecture.state_dtype or _state_dtype(config),
        rotary_rows=rotary_rows(config, architecture.max_positions),
        context=context_of(config, architecture.max_positions),
    )


_OVERFLOWING: Final = ("gemma2", "gemma3", "gemma3_text", "glm4")
"""Types whose activations float16 does not hold (vLLM 0.19.0 to 0.33.0, config/model.py,
`_FLOAT16_NOT_SUPPORTED_MODELS`)."""


def _odd_heads(architecture: Architecture) -> list[str]:
    """A sentence for layers whose query heads cannot be shared out among their key/value heads: attention repeats those
    a whole number of times (`repeat_kv` of transformers 5.24, `num_key_value_groups`)."""
    found = {
        (layer.heads, cache.heads)
        for layer in set(architecture.layers or ())
        for cache in _keys_and_values(layer.cache)
        if layer.heads and (not cache.heads or layer.heads % cache.heads)
    }
    told = ", ".join(f"{heads} attention heads with {kept} key/value heads" for heads, kept in sorted(found))
    return [f"Attention cannot run with {told}, which do not divide them: correct the configuration."] if found else []


def _keys_and_values(cache: Cache) -> Iterator[KV]:
    if isinstance(cache, KV):
        yield cache
    elif isinstance(cache, Indexed):
        yield from _keys_and_values(cache.attention)
    elif isinstance(cache, Combined):
        for part in cache.caches:
            yield from _keys_and_values(part)


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
        source += "" if stored.table is described else ", stored as its quantization_config says"
        source += "; no file here is one that the class loads" if layout in NOT_LOADED else ""
        return stored.table, "typical" if stored.unread else "derived", source, _unread(stored, described)
    if checkpoint.totals:
        return from_totals(checkpoint.totals), "derived", "the Hub's public totals", []
    return None, "unknown", "", []


def _unread(stored: Stored, described: ParameterTable) -> list[str]:
    """A sentence for what of a quantisation is not understood, although its layout is."""
    if not stored.unread or stored.table is described:
        return []
    first = ", ".join(f"'{_shortened(words)}'" for words in stored.unread[:_NAMED])
    more = f" and {len(stored.unread) - _NAMED} more" if len(stored.unread) > _NAMED else ""
    return [
        f"Not understood of config.json's quantization_config, and counted as if it were not there: {first}{more}. The "
        "headers of the weight files would tell what is packed."
    ]


_LONGEST_WORD: Final = 60
_NAMED: Final = 4


def _shortened(words: str) -> str:
    """Words of a file in a sentence."""
    return words if len(words) <= _LONGEST_WORD else f"{words[: _LONGEST_WORD - 1]}…"


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
