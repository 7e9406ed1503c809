"""Whether a class accepts a config and runs with it."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable, Mapping
from typing import Any

import torch
import transformers

from hfmem.probe import tiny
from hfmem.probe.activations.tracer import Counting

__all__ = ["Config", "builds", "hears", "loops_over_tokens", "parameters", "runs", "with_changes", "works"]

Config = dict[str, Any]


def works(base: Config, path: tuple[str, ...], changes: Mapping[str, Any]) -> bool:
    """Whether the class accepts a config with changes, and runs a few tokens with it."""
    config = with_changes(base, path, changes)
    return builds(config) and runs(config)


def builds(config: Config) -> bool:
    """Whether the config object can be built."""
    return _attempt(lambda: tiny.build(config))


def runs(config: Config) -> bool:
    """Whether the class runs a short prompt."""
    return _attempt(lambda: _forward(config, 64))


def loops_over_tokens(config: Config) -> bool:
    """Whether a forward pass of slightly more tokens runs more operations. Both lengths fit into one chunk, so only a
    loop over single tokens would."""
    counts = []
    for tokens in (16, 24):
        with torch.no_grad(), Counting() as counting:
            _forward(config, tokens)
        counts.append(counting.count)
    return bool(counts[0] != counts[1])


def hears(config: Config) -> bool:
    """Whether the class has an encoder. The config does not tell: BART's is also used for its decoder-only class."""
    return (
        "decoder_input_ids" in inspect.signature(getattr(transformers, config["architectures"][0]).forward).parameters
    )


def listens(config: Config) -> bool:
    """Whether the class's encoder takes a mel spectrogram of one length, two frames for each of its positions."""
    kind = getattr(transformers, config["architectures"][0])
    built = tiny.build(config)
    return kind.main_input_name == "input_features" and all(
        hasattr(built, key) for key in ("num_mel_bins", "max_source_positions", "decoder_layers")
    )


def hearing(config: Config, source: int) -> Config:
    """The config with an encoder of so many positions, if it takes no other number of them."""
    return {**config, "max_source_positions": source} if listens(config) else config


def inputs_of(config: Config, batch: int, tokens: int, source: int) -> dict[str, torch.Tensor]:
    """Random inputs of a class: tokens, and those of its encoder (or the sound that becomes them), if it has one."""
    ids = torch.randint(3, 90, (batch, tokens))
    if not hears(config):
        return {"input_ids": ids}
    if listens(config):
        sound = torch.randn(batch, tiny.build(config).num_mel_bins, 2 * source)
        return {"decoder_input_ids": ids, "input_features": sound}
    return {"decoder_input_ids": ids, "input_ids": torch.randint(3, 90, (batch, source))}


def parameters(config: Config) -> int:
    """The parameters of the class, counted on the meta device."""
    with torch.device("meta"):
        model = getattr(transformers, config["architectures"][0])(tiny.build(config))
    return sum(parameter.numel() for parameter in model.parameters())


def _forward(config: Config, tokens: int) -> None:
    config = hearing(config, tokens)
    built = tiny.build(config)
    with torch.no_grad():
        model = getattr(transformers, config["architectures"][0])._from_config(built, dtype=torch.bfloat16)
        model.eval()
        inputs = inputs_of(config, 1, tokens, tokens)
        model(**{key: value.bfloat16() if value.is_floating_point() else value for key, value in inputs.items()})


def _attempt(action: Callable[[], Any]) -> bool:
    try:
        action()
    except Exception:  # a class may reject the sizes with any exception
        return False
    return True


def with_changes(base: Config, path: tuple[str, ...], changes: Mapping[str, Any]) -> Config:
    """A copy of a config with new values in the sub-config at `path`, and at the top level if it repeats them."""
    changed = copy.deepcopy(base)
    part = changed
    for key in path:
        part = part.setdefault(key, {})
    for key, value in changes.items():
        old = part.get(key)
        if part is not changed and old is not None and changed.get(key) == old:
            changed[key] = value  # the top level repeats a size of the text model
        part[key] = [value] * len(old) if isinstance(old, list) and isinstance(value, int) else value
    return changed
