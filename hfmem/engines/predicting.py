"""Shared by servers: a model's own prediction layers, which make drafts for speculative decoding."""

from __future__ import annotations

from dataclasses import replace

from hfmem.mapper.caches import KV, Cache, Combined, Compressed, State
from hfmem.mapper.interpret import Model
from hfmem.mapper.values import Layer, ParameterTable

__all__ = ["predicting", "predicting_layer"]


def predicting_layer(layers: tuple[Layer, ...]) -> Layer:
    """The kind of layer that predicts: the last one with attention over all tokens, or else with any; of DeepSeek-V4,
    one without compressed entries (vLLM `models/deepseek_v4`, its `mtp.0` has no compressor)."""
    attending = [layer for layer in layers if not _recurrent(layer.cache)]
    whole = [layer for layer in attending if not (isinstance(layer.cache, KV) and layer.cache.window)]
    found = (whole or attending or list(layers))[-1]
    parts = found.cache.caches if isinstance(found.cache, Combined) else ()
    if any(isinstance(part, Compressed) for part in parts):
        return next((replace(found, cache=part) for part in parts if isinstance(part, KV)), found)
    return found


def _recurrent(cache: Cache) -> bool:
    return isinstance(cache, State) or (isinstance(cache, Combined) and any(map(_recurrent, cache.caches)))


def predicting(model: Model) -> Model:
    """The model's prediction layers as if they were layers of the model. Embedding and head are the model's."""
    groups = [group for group in (model.parameters.groups if model.parameters else ()) if group.component == "mtp"]
    inside = (group.in_a_layer(model.architecture.prediction_layers) for group in groups)
    own = tuple(group for group in inside if group.component not in ("embedding", "lm_head"))
    return replace(model, parameters=ParameterTable(groups=own))
