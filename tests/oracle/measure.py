"""What an implementation keeps of so many tokens: bytes of its cache, a layer and dtype; and its parameters."""

from __future__ import annotations

import logging
import re
import warnings
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import torch
import transformers
from torch._subclasses.fake_tensor import FakeTensorMode
from transformers import DynamicCache, PreTrainedConfig, PreTrainedModel

from hfmem.probe.tiny import build
from tests.oracle.reference import as_loaded

transformers.logging.set_verbosity_error()
logging.getLogger("torch._subclasses.fake_tensor").setLevel(logging.CRITICAL)
torch.set_num_threads(1)

BATCH = 2
TOKENS = 21
SOURCE = 9

Layers = list[dict[str, int]]

_LARGE = 100_000_000  # parameters that are better not there

_OPAQUE = (torch.nn.Module, type, PreTrainedConfig, torch.dtype)


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """What was kept.

    Attributes:
        layers: bytes by dtype, one entry a layer.
        how: what had to be done to run it.
        dtype: what it computed in.
    """

    layers: Layers
    how: str
    dtype: str

    @property
    def total(self) -> int:
        """Bytes of all layers."""
        return sum(sum(layer.values()) for layer in self.layers)


def parameters(config: Mapping[str, Any]) -> int:
    """Parameters of the class that `architectures` names, tied weights once."""
    with torch.device("meta"), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = model_class(config)(build(config))
    return sum(parameter.numel() for parameter in model.parameters())


def model_class(config: Mapping[str, Any]) -> type[PreTrainedModel]:
    """The class that `architectures` names."""
    return getattr(transformers, config["architectures"][0])


def cache(config: Mapping[str, Any]) -> Kept:
    """The cache after `TOKENS` tokens in `BATCH` sequences, by the first way of running the class that works.

    Raises:
        Exception: that of the first way, when none works.
    """
    first: Exception | None = None
    ways = [(how, torch.bfloat16) for how in ("real", "loaded", "fake")] + [("real", torch.float32)]
    if parameters(config) > _LARGE:
        ways = [("fake", torch.bfloat16), ("real", torch.bfloat16)]
    for how, dtype in ways:
        try:
            return _measure(config, how, dtype)
        except Exception as error:  # whatever a class raises
            first = first or error
    assert first is not None
    raise first


def _measure(config: Mapping[str, Any], how: str, dtype: torch.dtype) -> Kept:
    torch.manual_seed(0)
    built = build(config)
    with ExitStack() as stack:
        stack.enter_context(warnings.catch_warnings())
        warnings.simplefilter("ignore")
        stack.enter_context(torch.no_grad())
        if how == "fake":
            stack.enter_context(FakeTensorMode(allow_non_fake_inputs=True))
        model = model_class(config)._from_config(built, dtype=dtype).eval()
        if how == "loaded":
            model = as_loaded(model, dtype)
        found, way = _run(model, built)
        return Kept(layers=_layers(found), how=f"{how}{way}", dtype=str(dtype).removeprefix("torch."))


def _run(model: PreTrainedModel, config: PreTrainedConfig) -> tuple[Any, str]:
    """The cache of a forward pass, and how it was made to work; None where the class runs and keeps nothing."""
    first: Exception | None = None
    works = False
    for way, run in _WAYS:
        try:
            found = run(model, config)
        except Exception as error:  # whatever a class raises
            first = first or error
            continue
        if found is not None:
            return found, way
        works = works or run is _whole
    if first is not None and not works:
        raise first
    return None, ""


def _ids(tokens: int) -> torch.Tensor:
    return torch.randint(3, 90, (BATCH, tokens))


def _whole(model: PreTrainedModel, config: PreTrainedConfig) -> Any:
    if model.config.is_encoder_decoder:
        return _cache(model(input_ids=_ids(SOURCE), decoder_input_ids=_ids(TOKENS), use_cache=True))
    return _cache(model(input_ids=_ids(TOKENS), use_cache=True, **_images(config)))


def _images(config: PreTrainedConfig) -> dict[str, torch.Tensor]:
    """What a class takes no text without."""
    if config.model_type != "idefics":
        return {}
    embeddings = torch.randn(BATCH, 1, SOURCE, config.vision_config.embed_dim, dtype=torch.bfloat16)
    return {"image_encoder_embeddings": embeddings, "image_attention_mask": torch.ones(BATCH, TOKENS, 1)}


def _text_model(model: PreTrainedModel, config: PreTrainedConfig) -> Any:
    """The decoder alone, with an encoder's output where it attends to one."""
    decoder = model.get_decoder()
    more = {}
    if model.config.is_encoder_decoder:
        width = getattr(decoder.config, "hidden_size", None) or decoder.config.d_model
        more["encoder_hidden_states"] = torch.randn(BATCH, SOURCE, width, dtype=model.dtype)
    return _cache(decoder(input_ids=_ids(TOKENS), use_cache=True, **more))


def _embedded(model: PreTrainedModel, config: PreTrainedConfig) -> Any:
    width = config.get_text_config(decoder=True).hidden_size
    embeds = torch.randn(BATCH, TOKENS, width, dtype=model.dtype)
    return _cache(model.get_decoder()(inputs_embeds=embeds, use_cache=True))


def _given(model: PreTrainedModel, config: PreTrainedConfig) -> Any:
    """What a class keeps that does not make a cache itself: in the cache that it is given, and in its own layers."""
    text = config.get_text_config(decoder=True)
    if getattr(text, "is_decoder", None) is False or config.is_encoder_decoder:
        return None
    cache = DynamicCache(config=text)
    model(input_ids=_ids(TOKENS), use_cache=True, past_key_values=cache)
    inner = _inner(model)
    both = [[layer, inner.get(index, [])] for index, layer in enumerate(cache.layers)]
    return both if any(_layers(both)) else None


def _inner(model: PreTrainedModel) -> dict[int, list[torch.Tensor]]:
    """Tensors that layers keep in themselves, by the layer's number."""
    found: dict[int, list[torch.Tensor]] = {}
    for name, module in model.named_modules():
        layer = re.search(r"\.layers\.(\d+)\.", name)
        if layer is not None:
            values = [value for value in vars(module).values() if isinstance(value, torch.Tensor) and value.dim() > 1]
            found.setdefault(int(layer.group(1)), []).extend(values)
    return found


_WAYS = (("", _whole), (", text model", _text_model), (", embeddings", _embedded), (", given a cache", _given))


def _cache(output: Any) -> Any:
    """The cache of an output, by whatever name."""
    for key in ("past_key_values", "cache_params", "state", "mems", "past_buckets_states"):
        found = output.get(key) if hasattr(output, "get") else getattr(output, key, None)
        if found is not None:
            return found
    return None


def _layers(cache: Any) -> Layers:
    """Bytes by dtype of every layer; things that belong to no layer come last, as one of their own."""
    if cache is None:
        return []
    if hasattr(cache, "self_attention_cache"):
        own, cross = _layers(cache.self_attention_cache), _layers(cache.cross_attention_cache)
        pairs = zip(own, cross or [{}] * len(own), strict=True)
        return [_add(first, second) for first, second in pairs]
    seen: set[Any] = set()
    items = cache.layers if hasattr(cache, "layers") else cache if isinstance(cache, list | tuple) else [cache]
    found = [_bytes(layer, seen) for layer in items]
    rest = _bytes(vars(cache), seen) if hasattr(cache, "layers") else {}
    return [*found, rest] if rest else found


def _add(first: Mapping[str, int], second: Mapping[str, int]) -> dict[str, int]:
    return {
        key: first.get(key, 0) + second.get(key, 0) for key in (*first, *(key for key in second if key not in first))
    }


def _bytes(value: Any, seen: set[Any]) -> dict[str, int]:
    sums: dict[str, int] = {}
    for tensor in _tensors(value, seen):
        name = str(tensor.dtype).removeprefix("torch.")
        sums[name] = sums.get(name, 0) + tensor.numel() * tensor.element_size()
    return sums


def _tensors(value: Any, seen: set[Any]) -> Iterator[torch.Tensor]:
    """Every distinct tensor reachable from a value, but those of one element (a counter, the window's size)."""
    if isinstance(value, torch.Tensor):
        key = (value.untyped_storage()._cdata, value.storage_offset(), tuple(value.shape), value.stride())
        if value.dim() and value.numel() > 1 and key not in seen:
            seen.add(key)
            yield value
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from _tensors(item, seen)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _tensors(item, seen)
    elif hasattr(value, "__dict__") and not isinstance(value, _OPAQUE) and id(value) not in seen:
        seen.add(id(value))
        yield from _tensors(vars(value), seen)
