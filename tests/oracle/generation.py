"""The cache objects of `generate`, held against what is estimated of beams, answers and each kind of cache.

    python -m tests.oracle.generation [TYPE…]        writes fixtures/oracle/generation.json

Small models of real classes run `generate` on the CPU. An offloaded cache needs the streams of a GPU: its real `update`
runs on fake tensors of one, with streams that do nothing. The quantised caches need optimum-quanto and hqq.
"""

from __future__ import annotations

import argparse
import gc
import json
import warnings
import weakref
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final
from unittest.mock import patch

import torch
import transformers
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_iter
from transformers import DynamicCache, StaticCache

from hfmem.probe import tiny

TARGET = Path(__file__).parents[2] / "fixtures" / "oracle" / "generation.json"

TYPES: Final = (
    "llama",
    "qwen3",
    "gemma3_text",
    "gemma2",
    "gpt_oss",
    "mixtral",
    "deepseek_v3",
    "gpt2",
    "falcon",
    "phi3",
    "qwen3_next",
    "lfm2",
)
"""Full attention, windows, latent attention, one KV head, recurrent states and convolutions."""

Row = dict[str, Any]

BATCH, PROMPT, NEW = 2, 64, 10
LONG = 48  # generated tokens of a model that is assisted: more than are drafted at once

RUNS: Final[tuple[Row, ...]] = (
    {},
    {"num_beams": 3},
    {"num_beams": 4, "num_return_sequences": 2},
    {"num_return_sequences": 3},
    {"cache_implementation": "static"},
    {"cache_implementation": "static", "num_beams": 2},
    {"cache_implementation": "quantized"},
    {"cache_implementation": "quantized", "cache_config": {"nbits": 2, "residual_length": 4}},
    {"cache_implementation": "quantized", "cache_config": {"backend": "hqq"}},
    {"cache_implementation": "quantized", "cache_config": {"backend": "hqq", "nbits": 3, "residual_length": 5}},
    {"cache_implementation": "quantized", "cache_config": {"backend": "hqq", "nbits": 8, "q_group_size": 32}},
    {"cache_implementation": "quantized", "cache_config": {"backend": "fp8"}},
    {"cache_implementation": "quantized", "num_beams": 2},
)

AWAY: Final = ("offloaded", "offloaded_static")


class Peak(TorchDispatchMode):  # type: ignore[misc] # PyTorch is untyped here
    """Bytes of all storages that operations allocate, and the most of them that were alive at once."""

    def __init__(self) -> None:
        super().__init__()
        self.live = self.peak = 0
        self._seen: dict[int, int] = {}

    def give(self, tensors: Iterator[torch.Tensor]) -> None:
        """Storages from before, which are not counted."""
        self._seen |= {tensor.untyped_storage()._cdata: 0 for tensor in tensors}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        for found in tree_iter(result):
            if isinstance(found, torch.Tensor):
                self._see(found)
        return result

    def _see(self, tensor: torch.Tensor) -> None:
        storage = tensor.untyped_storage()
        key = storage._cdata
        if key not in self._seen:
            self._seen[key] = storage.nbytes()
            self.live += storage.nbytes()
            self.peak = max(self.peak, self.live)
            weakref.finalize(storage, self._freed, key)

    def _freed(self, key: int) -> None:
        self.live -= self._seen.pop(key, 0)


def config_of(model_type: str) -> dict[str, Any]:
    """A small configuration of a type, with a head_dim that groups of 64 divide."""
    config = tiny.shrunk(model_type, tiny.types()[model_type][1])
    return dict(config) | {"max_position_embeddings": 256} if "max_position_embeddings" in config else dict(config)


def run(config: Mapping[str, Any], asked: Mapping[str, Any]) -> Row:
    """Bytes of the cache after `generate`, and of the peak above the weights; or why it does not run."""
    torch.manual_seed(0)
    given = dict(asked)
    if given.get("num_return_sequences", 1) > 1 and "num_beams" not in given:
        given["do_sample"] = True
    model = getattr(transformers, config["architectures"][0])(tiny.build(config)).to(torch.bfloat16).eval()
    tokens = torch.randint(3, 90, (BATCH, PROMPT))
    seen = Peak()
    seen.give(iter([*model.parameters(), *model.buffers()]))
    try:
        with seen, warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore")
            result = model.generate(
                tokens,
                attention_mask=torch.ones_like(tokens),
                max_new_tokens=NEW,
                min_new_tokens=NEW,
                return_dict_in_generate=True,
                use_cache=True,
                **given,
            )
    except Exception as error:  # whatever a class raises
        return {"refused": f"{type(error).__name__}: {str(error).splitlines()[0][:160]}"}
    cache = getattr(result, "cache", None) or result.past_key_values
    found = {"cache": sum(storages(cache).values()), "peak": seen.peak}
    del result, cache, model
    gc.collect()
    return found


_COUNTERS: Final = ("cumulative_length", "_sliding_window_tensor", "_pending_beam_idx")
"""Counters and indices of a few bytes, which are not cached for tokens."""


def storages(cache: Any, device: str = "") -> dict[int, int]:
    """Bytes of the tensors of a cache, by identity; of a device, or of all. Views count as what they show."""
    held = (value for layer in cache.layers for name, value in vars(layer).items() if name not in _COUNTERS)
    return {
        id(tensor): tensor.numel() * tensor.element_size()
        for tensor in _tensors(held)
        if not device or tensor.device.type == device
    }


def _tensors(values: Any) -> Iterator[torch.Tensor]:
    """The tensors in containers, and those that a quantised tensor consists of."""
    for value in values:
        if isinstance(value, torch.Tensor):
            inner = [getattr(value, part, None) for part in ("_data", "_scale", "_shift")]
            yield from _tensors(inner) if isinstance(inner[0], torch.Tensor) else (value,)
        elif isinstance(value, dict):
            yield from _tensors(value.values())
        elif isinstance(value, (list, tuple)):
            yield from _tensors(value)


class _Stream:
    """A stream of a GPU that is not there."""

    def wait_stream(self, other: Any) -> None: ...

    def __enter__(self) -> _Stream:
        return self

    def __exit__(self, *error: object) -> None: ...


def _sliced(tensor: torch.Tensor, index: Any) -> torch.Tensor:
    """A slice, without the guard of a device that the build lacks."""
    for dimension, part in enumerate(index):
        if part.start is not None or part.stop is not None:
            tensor = torch.ops.aten.slice.Tensor(tensor, dimension, part.start, part.stop)
    return tensor


def _empty(data: Any, *, dtype: Any = None, device: Any = None) -> torch.Tensor:
    """A tensor of the same shape, without values that would have to be copied to a GPU."""
    shape = (len(data),) if isinstance(data, list) else ()
    return torch.empty(shape, dtype=torch.long if dtype is int else dtype, device=device)


@contextmanager
def _streams() -> Iterator[None]:
    with (
        patch.object(FakeTensor, "__getitem__", _sliced, create=True),
        patch.object(FakeTensor, "__setitem__", lambda *_: None, create=True),
        patch.object(FakeTensor, "copy_", lambda tensor, *_: tensor, create=True),
        patch("transformers.cache_utils.torch.tensor", _empty),
        patch("torch.Stream", _Stream),
        patch("torch.cuda.default_stream", lambda *_: _Stream()),
        patch("torch._dynamo.mark_static_address", lambda *_: None),
    ):
        yield


def away(config: Mapping[str, Any], kind: str) -> Row:
    """Bytes on the GPU and on the host of an offloaded cache: the most on the GPU while tokens are generated, and
    both after that. Keys and values have the shapes that the class itself caches."""
    torch.manual_seed(0)
    model = getattr(transformers, config["architectures"][0])(tiny.build(config)).to(torch.bfloat16).eval()
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        whole = DynamicCache(config=model.config)
        model(torch.randint(3, 90, (BATCH, 4)), past_key_values=whole, use_cache=True)
    shapes = {
        number: (layer.keys.shape, layer.values.shape)
        for number, layer in enumerate(whole.layers)
        if getattr(layer, "keys", None) is not None
    }
    total = PROMPT + NEW - 1
    most = 0
    with FakeTensorMode(allow_non_fake_inputs=True), _streams():
        cache: Any = (
            StaticCache(config=model.config, max_cache_len=total, offloading=True)
            if kind == "offloaded_static"
            else DynamicCache(config=model.config, offloading=True)
        )
        for layer in cache.layers:  # a counter on the GPU, which a fake constant cannot be moved to
            if hasattr(layer, "_sliding_window_tensor"):
                layer._sliding_window_tensor = torch.empty((), dtype=torch.long)
        for tokens in (PROMPT, *(1,) * (NEW - 1)):
            for number, (keys, values) in shapes.items():
                made = [
                    torch.empty((*shape[:2], tokens, shape[3]), dtype=torch.bfloat16, device="cuda")
                    for shape in (keys, values)
                ]
                shown = cache.update(*made, number)
                here = storages(cache, "cuda") | {id(t): t.numel() * t.element_size() for t in shown}
                most = max(most, sum(here.values())) if tokens == 1 else 0
        return {
            "gpu": sum(storages(cache, "cuda").values()),
            "host": sum(storages(cache, "cpu").values()),
            "most": most,
        }


def assisted(config: Mapping[str, Any], other: Mapping[str, Any]) -> Row:
    """Bytes of the cache and of the peak above the weights of both, where another model drafts. Its drafts are random:
    the assistant drafts as many tokens as it may, and most of them are taken back."""
    torch.manual_seed(0)
    model, assistant = (
        getattr(transformers, one["architectures"][0])(tiny.build(one)).to(torch.bfloat16).eval()
        for one in (config, other)
    )
    assistant.generation_config.assistant_confidence_threshold = 0
    tokens = torch.randint(3, 90, (1, PROMPT))
    seen = Peak()
    seen.give(iter([*model.parameters(), *model.buffers(), *assistant.parameters(), *assistant.buffers()]))
    with seen, warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        result = model.generate(
            tokens,
            attention_mask=torch.ones_like(tokens),
            assistant_model=assistant,
            max_new_tokens=LONG,
            min_new_tokens=LONG,
            return_dict_in_generate=True,
            do_sample=False,
        )
    cache = getattr(result, "cache", None) or result.past_key_values
    return {"cache": sum(storages(cache).values()), "tokens": result.sequences.shape[1] - 1, "peak": seen.peak}


def pair() -> Row:
    """The row of a model with an assistant of one layer."""
    config = config_of("llama")
    other = config | {"num_hidden_layers": 1, "hidden_size": 32, "intermediate_size": 40}
    return {"config": config, "assistant": other, **assisted(config, other)}


def row(model_type: str) -> Row:
    """The row of one type."""
    config = config_of(model_type)
    found: Row = {"type": model_type, "config": config, "runs": [dict(asked) | run(config, asked) for asked in RUNS]}
    return found | {kind: attempt(config, kind) for kind in AWAY}


def attempt(config: Mapping[str, Any], kind: str) -> Row:
    """What is where, or why such a cache does not run."""
    try:
        return away(config, kind)
    except Exception as error:  # whatever a class raises
        return {"refused": f"{type(error).__name__}: {str(error).splitlines()[0][:160]}"}


def main() -> None:
    """Write the fixture."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("types", nargs="*", default=TYPES)
    names = parser.parse_args().types
    rows = [row(name) for name in names]
    record = {
        "tool": "tests/oracle/generation.py",
        "versions": {name: version(name) for name in ("transformers", "torch", "optimum-quanto", "hqq")},
        "batch": BATCH,
        "prompt": PROMPT,
        "new": NEW,
        "types": rows,
        "assisted": pair(),
    }
    TARGET.write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
