"""A checkpoint of transformers as the GGUF file that llama.cpp's own tools make of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

from hfmem.errors import InvalidConfigError
from hfmem.fetcher.quantisations import Choice
from hfmem.fetcher.tensors import table_bytes
from hfmem.fetcher.values import Checkpoint, FileInfo, TensorInfo
from hfmem.mapper.caches import KV, Shared
from hfmem.mapper.facts import Facts, MissingFactError
from hfmem.mapper.gguf.conversion.dialects import DIALECTS, Dialect
from hfmem.mapper.gguf.conversion.keys import Values, general
from hfmem.mapper.gguf.conversion.tensors import UnconvertedError, shaped
from hfmem.mapper.gguf.quantisation import QUANTISATIONS, NoTypeError, Shaped, named, types
from hfmem.mapper.gguf.quantisation import Facts as Rules
from hfmem.mapper.values import Architecture, Layer
from hfmem.unknown import Unknown

__all__ = ["USUAL", "Conversion", "conversion_of"]

USUAL: Final = "Q4_K_M"
"""The quantisation that llama-server takes where none is named."""


@dataclass(frozen=True, kw_only=True)
class Conversion:
    """A model that llama.cpp's tools convert.

    Attributes:
        checkpoint: of transformers.
        architecture: llama.cpp's word for it.
        values: the keys of the file, without that word.
        tensors: as convert_hf_to_gguf stores them.
    """

    checkpoint: Checkpoint
    architecture: str
    values: Values
    tensors: tuple[Shaped, ...] = field(repr=False)
    _known: dict[str, dict[str, str] | None] = field(default_factory=dict, init=False, repr=False, compare=False)

    def choices(self) -> tuple[Choice, ...]:
        """All quantisations that llama-quantize makes of it, as the files they would be."""
        found = (self._choice(name) for name in QUANTISATIONS)
        return tuple(choice for choice in found if choice is not None)

    def quantised(self, word: str) -> Checkpoint | None:
        """The file of a quantisation; None where llama-quantize does not make it.

        Args:
            word: its name, in any case.
        """
        name = named(word)
        choice = None if name is None else self._choice(name)
        if name is None or choice is None:
            return None
        file = choice.file
        dtypes = self._types(name) or {}
        tensors = tuple(
            TensorInfo(
                name=tensor.name,
                dtype=(dtype := dtypes[tensor.name]),
                shape=tensor.shape,
                nbytes=table_bytes(dtype, tensor.shape),
                file=file,
            )
            for tensor in self.tensors
        )
        keys = {f"{self.architecture}.{key}": value for key, value in self.values.items()}
        return replace(
            self.checkpoint,
            ref=replace(self.checkpoint.ref, quant=name),
            config=None,
            quantisation=None,
            tensors=tensors,
            names="derived",
            files=choice.files,
            weight_files=choice.files,
            metadata={file: {"general.architecture": self.architecture, **keys}},
            totals=None,
        )

    def _types(self, name: str) -> dict[str, str] | None:
        """The types of a quantisation; None where a tensor's shape allows none."""
        if name not in self._known:
            try:
                self._known[name] = types(self.tensors, self.rules, name)
            except NoTypeError:
                self._known[name] = None
        return self._known[name]

    def _choice(self, name: str) -> Choice | None:
        found = self._types(name)
        if found is None or (name == "MXFP4_MOE" and "expert_count" not in self.values):
            return None
        size = sum(table_bytes(found[tensor.name], tensor.shape) for tensor in self.tensors)
        source = self.checkpoint.quantised_of or self.checkpoint.ref.model_id
        stem = f"{source.rstrip('/').rpartition('/')[2] or 'model'}-{name}"
        return Choice(name=stem, quant=name, files=(FileInfo(name=f"{stem}.gguf", size=size),))

    @property
    def rules(self) -> Rules:
        """What llama-quantize's rules ask of the file."""
        heads = _first(self.values.get("attention.head_count", 0))
        return Rules(
            architecture=self.architecture,
            layers=self.values["block_count"],
            heads=heads,
            kv_heads=_first(self.values.get("attention.head_count_kv", heads)),
            experts=self.values.get("expert_count", 0),
        )


def _first(value: Any) -> int:
    return int(value[0] if isinstance(value, Sequence) else value)


def conversion_of(checkpoint: Checkpoint, architecture: Architecture) -> Conversion | Unknown:
    """How a checkpoint becomes a GGUF, or why that is not known.

    Args:
        checkpoint: of transformers.
        architecture: its layers, for what a config leaves to its class.
    """
    config = checkpoint.config or {}
    classes = config.get("architectures")
    name = classes[0] if isinstance(classes, list) and classes and isinstance(classes[0], str) else ""
    dialect = DIALECTS.get(name)
    if dialect is None:
        return Unknown(
            f"how '{name[:80]}' is converted to GGUF is not known here" if name else "config.json names no class"
        )
    if not checkpoint.tensors:
        return Unknown("the names and shapes of its tensors are not known")
    facts = _completed(_text(config), architecture)
    try:
        dialect = dialect.instead(facts) or dialect
        values = _values(facts, dialect)
        layers = values["block_count"]
        tensors = shaped(checkpoint.tensors, facts, dialect, layers)
        if dialect.further:
            values = _with_further(values, facts, dialect, tensors)
    except MissingFactError as error:
        return Unknown(f"config.json lacks '{error.key}'")
    except InvalidConfigError as error:
        return Unknown(f"in config.json, {error.reason}")
    except UnconvertedError as error:
        return Unknown(f"llama.cpp's '{dialect.architecture}' has no place for the tensor {error.name[:120]}")
    return Conversion(checkpoint=checkpoint, architecture=dialect.architecture, values=values, tensors=tensors)


def _text(config: Mapping[str, Any]) -> Facts:
    """The text model's config, above what encloses it (`TextModel.__init__`)."""
    facts = Facts(config)
    inner = facts.part("text_config", "llm_config")
    if inner is None:
        return facts
    outer = {key: value for key, value in config.items() if key not in ("text_config", "model_type")}
    return inner.above(outer)


def _completed(facts: Facts, architecture: Architecture) -> Facts:
    """The config with the kinds of the layers and the size of heads of full attention."""
    layers = architecture.layers or ()
    full = next((layer.cache for layer in layers if layer.kind == "full_attention"), None)
    head = full.key_dim if isinstance(full, KV) else None
    outer = {"layer_types": [_kind(layer) for layer in layers], "global_head_dim": head}
    return facts.above({key: value for key, value in outer.items() if value})


def _kind(layer: Layer) -> str:
    """The kind of a layer; of one that shares another's cache, that layer's."""
    if not isinstance(layer.cache, Shared):
        return layer.kind
    source = layer.cache.source
    return "sliding_attention" if isinstance(source, KV) and source.window else "full_attention"


def _values(facts: Facts, dialect: Dialect) -> Values:
    values = general(facts)
    for key in dialect.without:
        values.pop(key, None)
    for key, names in dialect.copies.items():
        values[key] = facts.integer(*names)
    return values | dialect.keys(facts)


def _with_further(values: Values, facts: Facts, dialect: Dialect, tensors: Sequence[Shaped]) -> Values:
    """The values with the layers of further predictions: those of the config, else those that are there."""
    layers = values["block_count"]
    there = {int(tensor.name.split(".")[1]) for tensor in tensors if tensor.name.startswith("blk.")}
    more = facts.optional_integer(dialect.further) or len([number for number in there if number >= layers])
    if not more:
        return values
    found = {**values, "block_count": layers + more, "nextn_predict_layers": more}
    if isinstance(kinds := found.get("attention.recurrent_layers"), list):
        found["attention.recurrent_layers"] = [*kinds, *([False] * more)]
    return found
