"""Random sizes for a small config of a model with a tower: of the tower, of the projector, of trained queries."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any, Final

from hfmem.mapper.media.towers import FEATURES, PROJECTOR
from hfmem.probe.tower_inputs import merge_of

__all__ = ["choose_layers", "chosen_layers", "resize", "resize_projector", "resize_queries"]

_HIDDEN: Final = ("hidden_size", "embed_dim", "d_model")
_INNER: Final = ("intermediate_size", "encoder_ffn_dim")
_HEADS: Final = ("num_attention_heads", "num_heads", "encoder_attention_heads")
_DEPTH: Final = ("num_hidden_layers", "depth", "encoder_layers")

_WIDTHS: Final = {"minimax_m3_vl_vision": (24, 36, 48, 60)}
"""Of a head, where a third of it is rotated for each of time, rows and columns, and what is left is not."""

_DEEPSTACK: Final = 4
"""Layers of a tower with a map of them whose states the decoder is handed."""

_PROJECTED: Final = (*PROJECTOR, "projector_input_dim", "vision_output_dim")


def resize(vision: Any, rng: random.Random, depth: int) -> dict[str, int]:
    """Give a tower random sizes."""
    heads, width = rng.choice((2, 3, 4, 5, 6)), rng.choice(_WIDTHS.get(vision.model_type, (8, 16, 24, 32)))
    hidden, inner = heads * width, 8 * rng.randrange(9, 60)
    _lengthen(vision, depth)
    for keys, value in (
        (_HIDDEN, hidden),
        (_INNER, inner),
        (_HEADS, heads),
        (_DEPTH, depth),
        (("head_dim",), width),
        (("num_key_value_heads",), heads),
    ):
        for key in keys:
            if hasattr(vision, key):
                setattr(vision, key, value)
    _mix_layers(vision, depth)
    _single_out(vision, depth)
    if hasattr(vision, "pixel_shuffle_ratio"):
        vision.intermediate_size = inner = round(hidden / vision.pixel_shuffle_ratio**2)  # shuffled patches enter it
    further = _resize_vocabulary(vision, rng)
    if hasattr(vision, "mlp_ratio"):
        vision.mlp_ratio = type(vision.mlp_ratio)(rng.choice((2, 3, 4)))
        inner = int(hidden * vision.mlp_ratio)
        if hasattr(vision, "intermediate_size"):
            vision.intermediate_size = inner  # a class may read either
    sizes = {"hidden": hidden, "intermediate": inner, "heads": heads, "key_dim": width, **further}
    if not hasattr(vision, "output_channels"):
        return sizes
    vision.output_channels = 8 * random.Random(hidden).randrange(3, 21)  # noqa: S311 - sizes, no secrets
    return {**sizes, "channels": vision.output_channels}


def _resize_vocabulary(vision: Any, rng: random.Random) -> dict[str, int]:
    """The words of a tower that tells each patch as a mixture of them."""
    if not hasattr(vision, "num_visual_indicator_tokens"):
        return {}
    words = rng.randrange(70, 900)
    vision.vocab_size = words + vision.num_visual_indicator_tokens
    return {"visual_words": words}


def _single_out(vision: Any, depth: int) -> None:
    """Layers that do something of their own."""
    if hasattr(vision, "fullatt_block_indexes"):
        vision.fullatt_block_indexes = list(range(depth))  # the layers that attend to the whole image have the peak
    if hasattr(vision, "global_attn_indexes"):
        vision.global_attn_indexes = list(range(depth))  # alike
    if hasattr(vision, "deepstack_visual_indexes"):
        vision.deepstack_visual_indexes = [0, 1, 2]  # as many layers as of published models hand their states over


def _mix_layers(vision: Any, depth: int) -> None:
    """Layers of each kind, as there are in real towers, where a small config has lost one."""
    kinds = sorted(set(getattr(type(vision)(), "layer_types", None) or ()))
    if set(getattr(vision, "layer_types", None) or ()) < set(kinds):
        vision.layer_types = [kinds[number % len(kinds)] for number in range(depth)]


def chosen_layers(config: Any) -> dict[str, Sequence[int]]:
    """Lists of layers whose states the projector takes, by key."""
    found = {key: getattr(config, key, None) for key in FEATURES}
    return {key: chosen for key, chosen in found.items() if isinstance(chosen, (list, tuple))}


def choose_layers(config: Any, depth: int) -> None:
    """Layers whose states the projector takes, as many as in the class's default, the last one as there."""
    for key, chosen in chosen_layers(config).items():
        last = max((layer for layer in chosen if layer < 0), default=-1)
        setattr(config, key, [last - number % depth for number in range(len(chosen))])
    if hasattr(config, "deepstack_layer_map"):  # as many as of published models
        config.deepstack_layer_map = [(-1 - number % depth, number) for number in range(_DEEPSTACK)]


def resize_projector(config: Any, rng: random.Random) -> dict[str, int]:
    """Widths between tower and decoder: a projector's own one, and those that must be one of the two."""
    vision, text = config.vision_config, config.get_text_config()
    merged = vision.hidden_size * merge_of(vision) ** 2 if hasattr(vision, "hidden_size") else 0
    for key, value in (
        ("vision_hidden_size", merged and vision.hidden_size),
        ("projection_hidden_size", merged and vision.hidden_size),
        ("out_hidden_size", merged),
        ("adapter_in_dim", merged and vision.hidden_size),
        ("adapter_out_dim", text.hidden_size),
        ("merged_hidden_size", text.hidden_size * merge_of(vision) ** 2),
    ):
        for part in (config, vision):
            if value and hasattr(part, key) and (part is config or key.startswith("adapter_")):
                setattr(part, key, value)
    if hasattr(getattr(config, "perceiver_config", None), "hidden_size"):
        config.perceiver_config.hidden_size = text.hidden_size
    places = [(part, key) for key in _PROJECTED for part in (config, vision) if hasattr(part, key)]
    if not places:
        return {}
    width = 8 * rng.randrange(5, 70)
    for part, key in places:
        setattr(part, key, width)
    return {"projector": width}


def resize_queries(config: Any, rng: random.Random) -> dict[str, int]:
    """A projector with trained queries: their number, and the sizes of its layers."""
    text, vision = config.get_text_config(), config.vision_config
    if hasattr(config, "latent_query_num"):
        config.latent_query_num = rng.randrange(5, 40)
        return {"queries": config.latent_query_num}
    counts = getattr(config, "projector_patch_to_query_dict", None)
    former, resampler = (getattr(config, key, None) for key in ("qformer_config", "perceiver_config"))
    if counts is None and former is None and resampler is None:
        return {}
    text.intermediate_size = 8 * rng.randrange(9, 60)
    heads, width, inner = rng.choice((2, 3, 4, 5, 6)), rng.choice((8, 16, 24, 32)), 8 * rng.randrange(9, 60)
    sizes = {"queries": rng.randrange(5, 40), "text_intermediate": text.intermediate_size}
    if resampler is not None:
        resampler.resampler_n_latents = sizes["queries"]
        resampler.resampler_n_heads = resampler.num_key_value_heads = heads
        resampler.resampler_head_dim = width
        return {**sizes, "query_heads": heads, "query_dim": width}
    if former is None:
        return sizes
    if not hasattr(config, "num_query_tokens"):  # its queries are as wide as the tower, and a part of the patches
        former.hidden_size, former.encoder_hidden_size = vision.hidden_size, vision.hidden_size
        former.num_attention_heads, former.intermediate_size = vision.num_attention_heads, inner
        return {"query_intermediate": inner}
    former.hidden_size, former.num_attention_heads, former.intermediate_size = heads * width, heads, inner
    if hasattr(former, "encoder_hidden_size"):
        former.encoder_hidden_size = vision.hidden_size
    config.num_query_tokens = sizes["queries"]
    widths = {"query_hidden": heads * width, "query_heads": heads, "query_dim": width, "query_intermediate": inner}
    return {**sizes, **widths}


def _lengthen(vision: Any, depth: int) -> None:
    """Repeat lists of one entry for each layer up to a new depth."""
    before = next((getattr(vision, key) for key in _DEPTH if hasattr(vision, key)), None)
    for key, value in vision.to_dict().items():
        if isinstance(value, list) and before and len(value) == before and "layer" in key:
            setattr(vision, key, (value * (depth // before + 1))[:depth])
