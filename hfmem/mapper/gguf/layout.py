"""A GGUF as llama.cpp lays it out: values of its keys for each layer, and the tensors of each layer."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Final, Literal

from hfmem.fetcher.values import Checkpoint, TensorInfo
from hfmem.mapper.caches import Cache, Combined, Shared
from hfmem.mapper.gguf.keys import InvalidKeyError, Keys
from hfmem.mapper.gguf.names import split
from hfmem.mapper.values import Architecture

__all__ = ["Blocks", "GgufTensor", "layout_of"]

_OUTPUT: Final = (
    "output",
    "cls",
    "dense_2",
    "dense_3",
    "hc_head",
    "altup_proj",
    "altup_unembd_proj",
    "dec.output_norm",
    "enc.output_norm",
)
_OUTPUT_OF: Final = {"lfm2": "token_embd_norm", "lfm2moe": "token_embd_norm"}
"""What is the output's in one architecture alone (`LLM_TENSOR_OUTPUT_NORM_LFM2`)."""
_INPUT: Final = ("token_embd.", "position_embd.", "token_types.", "per_layer_token_embd.", "masked_embd")


_EMBEDDING: Final = "token_embd.weight"
_HEAD: Final = "output.weight"


@dataclass(frozen=True, slots=True, kw_only=True)
class GgufTensor:
    """A tensor.

    Attributes:
        name: its whole name.
        layer: the number of its layer; None outside of layers.
        place: where llama.cpp puts it: `before` the layers (on the host), `inside` of them, or `after`.
    """

    name: str
    layer: int | None
    place: Literal["before", "inside", "after"]
    nbytes: int
    dtype: str
    shape: tuple[int, ...]

    @property
    def inner(self) -> str:
        """Its name inside its layer."""
        return self.name.split(".", 2)[2] if self.layer is not None else self.name


@dataclass(frozen=True, kw_only=True)
class Blocks:
    """What llama.cpp reads of a file.

    Attributes:
        architecture: its word for the kind of model.
        count: layers, those of further predictions among them.
        loaded: layers that are loaded.
        values: whole numbers of the keys, without the architecture's name; a tuple for one a layer.
        kinds: of the layers that are loaded.
        window: tokens that layers with one keep; None where there is none.
        headed: whether it makes words of its states.
        tensors: all of them.
        resized: from what their sizes follow, where they are not of the file's own header; "" where they are.
    """

    architecture: str
    count: int
    loaded: int
    kinds: tuple[str, ...]
    window: int | None
    headed: bool
    values: Mapping[str, int | tuple[int, ...]] = field(hash=False)
    tensors: tuple[GgufTensor, ...] = field(repr=False)
    resized: str = ""

    def number(self, key: str, layer: int = 0, default: int = 0) -> int:
        """A value, of a layer where each has its own."""
        value = self.values.get(key, default)
        if isinstance(value, tuple):
            return value[layer] if layer < len(value) else default
        return value

    @cached_property
    def memo(self) -> dict[Hashable, Any]:
        """What engines computed of it, kept as long as it is."""
        return {}

    @property
    def kernel(self) -> int:
        """Tokens of a convolution's window; 0 for none."""
        return self.number("shortconv.l_cache") or self.number("ssm.conv_kernel")

    @cached_property
    def by_layer(self) -> tuple[str, ...]:
        """Keys that have a value for each layer."""
        return tuple(key for key, value in self.values.items() if isinstance(value, tuple))

    @cached_property
    def of_layers(self) -> tuple[tuple[GgufTensor, ...], ...]:
        """The tensors of each layer."""
        found: list[list[GgufTensor]] = [[] for _ in range(self.count)]
        for tensor in self.tensors:
            if tensor.layer is not None and tensor.layer < self.count:
                found[tensor.layer].append(tensor)
        return tuple(tuple(each) for each in found)

    @cached_property
    def by_name(self) -> Mapping[str, GgufTensor]:
        """The tensors by their names."""
        return {tensor.name: tensor for tensor in self.tensors}

    @cached_property
    def tied(self) -> GgufTensor | None:
        """The embedding, where it is the output's matrix too."""
        return None if _HEAD in self.by_name or not self.headed else self.by_name.get(_EMBEDDING)

    @property
    def mixed(self) -> bool:
        """Whether layers have experts."""
        return any("_exps." in tensor.name for tensor in self.tensors)

    @property
    def vocabulary(self) -> int:
        """Rows of the embedding."""
        return self.number("vocab_size")

    @property
    def heads(self) -> tuple[int, int]:
        """Elements of one head's keys and values."""
        sizes = self.sizes(0)
        return sizes["attention.key_length"], sizes["attention.value_length"]

    def sizes(self, layer: int) -> dict[str, int]:
        """The values of a layer by their keys, with llama.cpp's defaults for what a file leaves out
        (`llama_model_base::load_hparams`)."""
        found = {key: self.number(key, layer) for key in self.values}
        heads = found.get("attention.head_count") or 1
        found.setdefault("attention.head_count_kv", heads)
        size = found.get("embedding_length", 0) // heads
        for key in ("attention.key_length", "attention.value_length", "rope.dimension_count"):
            found.setdefault(key, size)
        shared = found.get("expert_shared_feed_forward_length", found.get("expert_feed_forward_length", 0))
        found.setdefault("feed_forward_length", shared)  # mixtures without a dense layer leave it out
        return found

    def read(self, names: Iterable[str], layer: int | None, *, gathers: bool) -> Iterator[GgufTensor]:
        """The tensors of a step that was recorded from another file: those of its layer, else of the whole. Recorded
        files have one matrix for embedding and output; of a file that has two, the output reads its own.

        Args:
            names: in the layer or in the file.
            layer: its number; None outside of layers.
            gathers: whether the step takes rows of a table, as an input does.
        """
        for name in names:
            own = self.by_name.get(f"blk.{layer}.{name}") if layer is not None else None
            tensor = own or self.by_name.get(name)
            if name == _EMBEDDING and not gathers:
                tensor = self.by_name.get(_HEAD, tensor)
            if tensor is not None:
                yield tensor


def layout_of(checkpoint: Checkpoint, architecture: Architecture) -> Blocks | None:
    """What llama.cpp reads of a checkpoint's GGUF; None where its keys do not tell the layers."""
    names = [file.name for file in checkpoint.weight_files] or list(checkpoint.metadata)
    tables = (checkpoint.metadata.get(name, {}) for name in names)
    metadata = next((table for table in tables if "general.architecture" in table), {})
    keys = Keys(metadata)
    try:
        count, ahead = keys.number("block_count", 0), keys.number("nextn_predict_layers", 0)
    except InvalidKeyError:
        return None
    if not keys.architecture or not 0 < count <= 10_000 or architecture.layers is None:
        return None
    layers = architecture.layers[:count]  # some repeat their layers
    return Blocks(
        architecture=keys.architecture,
        count=count,
        loaded=count - ahead if ahead < count else count,
        kinds=tuple(layer.kind for layer in layers),
        headed=architecture.head != "none",
        window=next(filter(None, (_window(layer.cache) for layer in layers)), None),
        values=_values(metadata, keys.architecture, checkpoint.tensors),
        tensors=tuple(_tensor(tensor, keys.architecture) for tensor in checkpoint.tensors),
    )


def _window(cache: Cache) -> int | None:
    """The window of a layer's attention."""
    if isinstance(cache, Combined):
        return next(filter(None, (_window(each) for each in cache.caches)), None)
    if isinstance(cache, Shared):
        return _window(cache.source)
    return getattr(cache, "window", None)


def _values(
    metadata: Mapping[str, Any], architecture: str, tensors: Iterable[TensorInfo]
) -> dict[str, int | tuple[int, ...]]:
    prefix = f"{architecture}."
    found: dict[str, int | tuple[int, ...]] = {}
    for key, value in metadata.items():
        name = key.removeprefix(prefix)
        if name == key:
            continue
        if isinstance(value, list) and value and all(type(item) in (int, bool) for item in value):
            found[name] = tuple(int(item) for item in value)
        elif type(value) in (int, bool):
            found[name] = int(value)
    shapes = {tensor.name: tensor.shape for tensor in tensors}
    embedding = shapes.get(_EMBEDDING)
    if embedding:
        found["vocab_size"] = embedding[0]
    return found


def _tensor(tensor: TensorInfo, architecture: str) -> GgufTensor:
    layer, _ = split(tensor.name)
    return GgufTensor(
        name=tensor.name,
        layer=layer,
        place=_place(tensor.name, architecture) if layer is None else "inside",
        nbytes=tensor.nbytes,
        dtype=tensor.dtype,
        shape=tensor.shape,
    )


def _place(name: str, architecture: str) -> Literal["before", "inside", "after"]:
    if name.startswith(_INPUT):
        return "before"
    own = _OUTPUT_OF.get(architecture)
    return "after" if name.startswith(_OUTPUT) or (own and name.startswith(own)) else "inside"
