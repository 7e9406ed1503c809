"""The sizes of a vision tower, by which its measured activations are evaluated."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from math import isqrt
from typing import Any, Final

from hfmem.errors import InvalidConfigError
from hfmem.mapper.facts import Facts, MissingFactError
from hfmem.mapper.inputs import Tower

__all__ = ["FEATURES", "PROJECTOR", "taken_of", "tower_of"]

PROJECTOR: Final = ("projector_hidden_size", "alignment_intermediate_size", "projector_output_dim")
"""Keys of a projector's own width, between the tower's and the decoder's."""

FEATURES: Final = ("vision_feature_layers", "vision_feature_layer")
"""Keys of the layers whose states a projector takes."""


def taken_of(chosen: Sequence[int], layers: int) -> tuple[int, int]:
    """Of how many layers the projector takes the states, and how many last layers run for nothing.

    Args:
        chosen: indices of states, from the embedding's, which is the first, or from the end.
        layers: of the tower.
    """
    last = max(each if each >= 0 else layers + 1 + each for each in chosen)
    return len(chosen), layers - last


def tower_of(config: Mapping[str, Any]) -> Tower | None:
    """The vision tower that a config describes; None where a size is missing or impossible."""
    facts = Facts(config)
    try:
        return _tower(facts)
    except (MissingFactError, InvalidConfigError, ZeroDivisionError, TypeError, ValueError, OverflowError):
        return None


def _tower(facts: Facts) -> Tower:
    vision = facts.nested("vision_config")
    text = facts.part("text_config", "llm_config", "language_config") or facts
    hidden = vision.integer("embed_dim", "hidden_size")
    heads = vision.integer("num_attention_heads", "num_heads")
    inner = vision.optional_integer("intermediate_size")
    if inner is None:
        inner = int(hidden * vision.number("mlp_ratio"))
    patch = _side(vision, "patch_size")
    temporal = vision.optional_integer("temporal_patch_size") or 1
    side = _side(vision, "max_img_size", "image_size", "max_image_size")
    layers = vision.integer("depth", "num_hidden_layers")
    taken, unused = _taken(facts, layers)
    return Tower(
        name=facts.model_type,
        kind=vision.model_type,
        layers=layers,
        taken=taken,
        unused=unused,
        sizes={
            "hidden": hidden,
            "intermediate": inner,
            "heads": heads,
            "key_dim": hidden // heads,
            "pixels": 3 * temporal * patch**2,
            "out": text.integer("hidden_size", "n_embd", "d_model"),
            "positions": _positions(vision, side // patch),
            "side": side // patch,
            "projector": _projector(facts, vision),
            "position_side": isqrt(_positions(vision, side // patch)),
            "channels": vision.optional_integer("output_channels") or 0,
            **_vocabulary(vision),
            **_queries(facts, text, (side // patch) ** 2),
            **_downsampled(facts, side // patch),
        },
        patches=(side // patch) ** 2,
    )


def _taken(facts: Facts, layers: int) -> tuple[int, int]:
    with suppress(MissingFactError):
        return taken_of(facts.integers(*FEATURES), layers)
    return 1, 0


def _vocabulary(vision: Facts) -> dict[str, int]:
    """Words of which a tower tells each patch as a mixture; none where it has none."""
    marks = vision.optional_integer("num_visual_indicator_tokens")
    return {} if marks is None else {"visual_words": vision.integer("vocab_size") - marks}


def _projector(*parts: Facts) -> int:
    """A projector's own width; 0 where it has none."""
    found = (part.optional_integer(key) for key in PROJECTOR for part in parts)
    return next(filter(None, found), 0)


def _queries(facts: Facts, text: Facts, patches: int) -> dict[str, int]:
    """The sizes of a projector with trained queries; none of them where it has no queries."""
    former, resampler = _optional(facts, "qformer_config"), _optional(facts, "perceiver_config")
    latent = facts.optional_integer("latent_query_num")
    counts = facts.counts("projector_patch_to_query_dict")
    if latent is not None:
        return {"queries": latent}
    inner = text.optional_integer("intermediate_size") or 0
    if counts:
        return {"queries": counts.get(str(patches), max(counts.values())), "text_intermediate": inner}
    if resampler is not None:
        return {
            "queries": resampler.integer("resampler_n_latents"),
            "query_heads": resampler.integer("resampler_n_heads"),
            "query_dim": resampler.integer("resampler_head_dim"),
            "text_intermediate": inner,
        }
    if former is None:
        return {}
    hidden, heads = former.integer("hidden_size"), former.integer("num_attention_heads")
    return {
        "queries": facts.optional_integer("num_query_tokens") or 0,
        "query_hidden": hidden,
        "query_heads": heads,
        "query_dim": hidden // heads,
        "query_intermediate": former.integer("intermediate_size"),
        "words": former.integer("max_position_embeddings"),  # the longest question that the queries take in
    }


def _downsampled(facts: Facts, side: int) -> dict[str, int]:
    """Rows and tokens of a tile, where a fraction of its rows is left."""
    few, _, many = (facts.text("downsample_rate") or "").partition("/")
    if not (few.isdigit() and many.isdigit()):
        return {}
    rows = side * int(few) // int(many)
    return {"rows": rows, "tile_tokens": rows**2}


def _optional(facts: Facts, key: str) -> Facts | None:
    """A nested config that the file or the config class has; else None."""
    return facts.nested(key) if facts.has(key) or facts.fixes(key) else None


def _positions(vision: Facts, side: int) -> int:
    """Trained positions: those of an image of the usual size, where the config does not tell another number."""
    tall, wide = (vision.optional_integer(key) for key in ("pos_emb_height", "pos_emb_width"))
    return vision.optional_integer("num_patches") or (tall or side) * (wide or side)


def _side(vision: Facts, *keys: str) -> int:
    """A length in pixels, which may be written for the height and the width; 0 where there is none.

    Raises:
        ValueError: it is impossible, or the two differ.
    """
    for key in keys:
        with suppress(MissingFactError):
            found = set(vision.integers(key))
            if len(found) != 1 or min(found) < 1:
                raise ValueError(key)
            return found.pop()
    return 0
