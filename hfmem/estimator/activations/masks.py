"""What a mask adds to training with SDPA: padded rows, or several rows joined into one, cannot use causal attention
without a mask.

* The mask itself, one boolean per pair of tokens, is made once.
* SDPA casts it to the compute dtype in each layer, and the backward pass needs that cast.
* With a mask, transformers repeats grouped keys and values to all heads, and the repeated ones are saved.

FlashAttention needs no mask, but takes padded rows apart and pads its output again, which the next module saves. Eager
attention always has a mask. Layers whose window is shorter than the sequence had one when they were measured.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from hfmem.estimator.activations.source import TrainingActivations
from hfmem.estimator.recipe.values import TrainingScenario
from hfmem.mapper.caches import KV, Combined, Latent
from hfmem.mapper.interpret import Model
from hfmem.mapper.values import Layer

__all__ = ["SOURCE", "with_masks"]

SOURCE: Final = (
    "transformers 5.24.0, masking_utils.py (sdpa_mask, _ignore_causal_mask_sdpa), integrations/sdpa_attention.py "
    "(use_gqa_in_sdpa, repeat_kv); torch 2.13, transformers/attention.cpp (convert_boolean_attn_mask)"
)
_ALIGNED: Final = 16  # elements: rows of the mask are padded to it for the memory-efficient kernel


def with_masks(model: Model, scenario: TrainingScenario, found: TrainingActivations) -> TrainingActivations:
    """The activations with those that padding, or joining rows, adds."""
    training, layers = scenario.training, model.architecture.layers or ()
    if training.batching == "full" or scenario.attention == "eager" or len(layers) != len(found.layers):
        return found
    more = [_layer(layer, scenario) for layer in layers]
    if not any(more):
        return found
    kept = [0] * len(more) if training.checkpointing == "full" else more
    shape = _rows(scenario)
    windows = {_window(layer) for layer in layers if _masked(layer, scenario)}
    outside = len(windows) * shape[0] * shape[1] ** 2 if scenario.attention == "sdpa" else 0
    return replace(
        found,
        outside=found.outside + outside,
        layers=tuple(size + extra for size, extra in zip(found.layers, kept, strict=True)),
        backward=tuple(size + extra for size, extra in zip(found.backward, more, strict=True)),
        how=f"{found.how}; {'padded rows' if training.batching == 'padded' else 'joined rows'} with a mask",
        source=f"{found.source}; {SOURCE}",
    )


def _rows(scenario: TrainingScenario) -> tuple[int, int]:
    """Rows of the mask, and their tokens: joined rows are one."""
    if scenario.training.batching == "joined":
        return 1, scenario.batch * scenario.seq
    return scenario.batch, scenario.seq


def _layer(layer: Layer, scenario: TrainingScenario) -> int:
    """Bytes that one layer saves in addition."""
    cache = _attention(layer)
    if cache is None or not layer.heads or not _masked(layer, scenario):
        return 0
    width = 4 if scenario.training.precision.compute == "float32" else 2
    tokens = scenario.batch * scenario.seq
    key, value = (cache.key_dim, cache.value_dim or cache.key_dim) if isinstance(cache, KV) else (0, 0)
    if scenario.attention == "flash":
        return tokens * layer.heads * value * width if scenario.training.batching == "padded" else 0
    rows, length = _rows(scenario)
    repeated = (layer.heads - cache.heads) * (key + value) if isinstance(cache, KV) and cache.heads else 0
    return width * (tokens * repeated + rows * length * -(-length // _ALIGNED) * _ALIGNED)


def _attention(layer: Layer) -> KV | Latent | None:
    cache = layer.cache
    for part in cache.caches if isinstance(cache, Combined) else (cache,):
        if isinstance(part, KV | Latent):
            return part
    return None


def _window(layer: Layer) -> int | None:
    cache = _attention(layer)
    return None if cache is None else cache.window


def _masked(layer: Layer, scenario: TrainingScenario) -> bool:
    """Whether its attention is over all tokens, and so was measured without a mask."""
    cache = _attention(layer)
    return cache is not None and (cache.window is None or cache.window > scenario.seq)
