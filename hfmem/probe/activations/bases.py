"""The base config for the variants of a type: enough positions for their tokens, every kind of layer, and sizes that
can be distinguished."""

from __future__ import annotations

from typing import Any, Final

from hfmem.probe import tiny
from hfmem.probe.activations.attempts import (
    Config,
    builds,
    hears,
    loops_over_tokens,
    parameters,
    runs,
    with_changes,
    works,
)
from hfmem.probe.activations.keys import (
    CHUNK,
    CHUNKS,
    DENSE_FIRST,
    HEAD_DIM,
    HEADS,
    HIDDEN,
    KV,
    POSITIONS,
    RANDOM_BLOCKS,
    WINDOWS,
    integers,
)

__all__ = [
    "encoder_depth",
    "hears_in_blocks",
    "is_chunked",
    "lengthened",
    "with_all_heads",
    "with_head_dim",
    "with_shared_caches",
]


def encoder_depth(config: Config, path: tuple[str, ...]) -> tuple[str, ...]:
    """The key of the number of encoder layers, if there is an encoder; what they save is fitted as a multiple of it.

    Raises:
        LookupError: there is an encoder, but the text model's config has no key for its number of layers.
    """
    text = tiny.at(tiny.build(config), path)
    if not hears(config):
        return ()
    for key, other in _DEPTHS.items():
        if isinstance(getattr(text, key, None), int) and isinstance(getattr(text, other, None), int):
            return (key,)
    raise LookupError("its text model's config has no key for the number of encoder layers")


_DEPTHS: Final = {"encoder_layers": "decoder_layers", "num_layers": "num_decoder_layers"}
"""The key of the number of encoder layers, and the corresponding one of decoder layers."""


def is_chunked(config: Config, path: tuple[str, ...]) -> bool:
    """Whether the class processes the sequence in chunks of tokens."""
    text = tiny.at(tiny.build(config), path)
    kinds = getattr(text, "layer_types", None) or ()
    names = (key for key in (*dict(integers(text)), *map(str, kinds)) if key != "chunk_size_feed_forward")
    return any(CHUNKS.search(name) for name in names) and not loops_over_tokens(config)


def hears_in_blocks(config: Config) -> bool:
    """Whether the class has an encoder that attends in blocks to many tokens, and to all of few."""
    built = tiny.build(config)
    return hasattr(tiny.at(built, tiny.text_path(built)), RANDOM_BLOCKS) and hears(config)


def lengthened(config: Config, within: bool) -> Config:
    """The config with enough positions for the tokens of every shape, and windows longer (`within`) or shorter than
    these."""
    built = tiny.build(config)
    path = tiny.text_path(built)
    text = tiny.at(built, path)
    changes: dict[str, Any] = {}
    # the first layer may create tensors that all use, and the last is special too, so there is one between them
    changes |= {_DEPTHS[key]: 3 for key in encoder_depth(config, path)}
    changes |= {key: 0.0 for key in tiny.fields_of(text) if "layerdrop" in key}  # LayerDrop would skip layers at random
    for key, value in integers(text):
        if POSITIONS.search(key) and "rope" not in key:
            changes[key] = 4096
        elif DENSE_FIRST.search(key):
            changes[key] = 1  # so that there are both dense and MoE layers
        elif (WINDOWS.search(key) and value > 1) or (within and CHUNK.search(key) and hears_in_blocks(config)):
            changes[key] = 2048 if within else value
    changed = with_changes(config, path, changes)
    return changed if builds(changed) else config


def with_all_heads(config: Config, path: tuple[str, ...]) -> Config:
    """The config with as many KV heads as query heads, if it does not run with fewer."""
    text = tiny.at(tiny.build(config), path)
    kv, heads = (next((key for key in keys if hasattr(text, key)), None) for keys in (KV, HEADS))
    if kv is None or heads is None or runs(config):
        return config
    changed = with_changes(config, path, {kv: tiny.value(text, heads)})
    return changed if works(config, path, {kv: tiny.value(text, heads)}) else config


def with_shared_caches(config: Config) -> Config:
    """The config with layers of each kind that share another layer's KV cache, after those with their own cache, if the
    class has such layers. If the class also supports activation sparsity, it has sparse layers of each kind first."""
    built = tiny.build(config)
    path = tiny.text_path(built)
    text = tiny.at(built, path)
    kinds, depth = list(getattr(text, "layer_types", None) or ()), getattr(text, "num_hidden_layers", None)
    if len(kinds) != depth or not isinstance(getattr(text, _SHARING, None), int):
        return config
    firsts = sorted(kinds.index(kind) for kind in set(kinds))
    keep = [0, *firsts, *firsts, *firsts]
    changes: dict[str, Any] = {
        key: [value[index] for index in keep]
        for key in tiny.fields_of(text)
        if isinstance(value := vars(text).get(key), list | tuple) and len(value) == depth
    }
    changes |= {_SHARING: 2 * len(firsts), "num_hidden_layers": len(keep)}
    if isinstance(getattr(text, _SPARSITY, None), list):
        changes[_SPARSITY] = [0.95] * (1 + len(firsts)) + [0.0] * (2 * len(firsts))
        changes[_SHARING] = len(firsts)
    shared = with_changes(config, path, changes)
    return shared if builds(shared) and runs(shared) else config


_SHARING: Final = "num_kv_shared_layers"

_SPARSITY: Final = "activation_sparsity_pattern"


def with_head_dim(config: Config, path: tuple[str, ...]) -> Config:
    """The config with an explicit `head_dim`, if the class reads that key without declaring it. In models that set it,
    the query width differs from the hidden size, so the two must be distinguishable."""
    text = tiny.at(tiny.build(config), path)
    if any(isinstance(tiny.value(text, key), int) for key in HEAD_DIM):
        return config
    hidden, heads = (
        next((found for key in keys if (found := tiny.value(text, key)) is not None), None) for keys in (HIDDEN, HEADS)
    )
    if not isinstance(hidden, int) or not isinstance(heads, int):
        return config
    own, other = (with_changes(config, path, {"head_dim": factor * hidden // heads}) for factor in (1, 2))
    return own if builds(other) and parameters(other) != parameters(own) and runs(other) else config
