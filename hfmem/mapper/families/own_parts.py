"""Multimodal models with remote code; the reader of the text model's type describes the decoder.

Towers are described where a published parameter count confirms them. Elsewhere the weights follow only from the files'
headers.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final

from hfmem.mapper.blueprint import Blueprint, weight
from hfmem.mapper.caches import Latent
from hfmem.mapper.facts import Facts, MissingFactError
from hfmem.mapper.families import reader
from hfmem.mapper.families._blocks import Block, UndescribedError, blocks, norms, patches, projection
from hfmem.mapper.families._decoder import never
from hfmem.mapper.families._dialect import Dialect
from hfmem.mapper.families._towers import tower
from hfmem.mapper.families.own_code import Own, read_own
from hfmem.mapper.values import Architecture, TensorGroup

__all__ = ["read"]

_PHI3: Final = Own(
    dialect=Dialect(fused=True, names=("qkv_proj", "o_proj"), mlp=("gate_up_proj", "down_proj"), schedule=never),
    defaults={"tie_word_embeddings": False},
)

# config.json of openai/clip-vit-large-patch14-336, which Phi-3-vision's config refers to by name
_CLIP: Final = {
    "model_type": "clip_vision_model",
    "hidden_size": 1024,
    "intermediate_size": 4096,
    "num_hidden_layers": 24,
    "num_channels": 3,
    "image_size": 336,
    "patch_size": 14,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class _Parts:
    """The parts of a type.

    Attributes:
        text: keys of the text model's config; () for the root of the file.
        others: all weights except the text model's; None where they are not described.
        expanded: whether the cache holds keys and values of all heads in place of MLA's latent.
    """

    text: tuple[str, ...]
    others: Callable[[Facts, Facts], list[TensorGroup]] | None = None
    expanded: bool = False


def _internvl(whole: Facts, text: Facts) -> list[TensorGroup]:
    """modeling_internvl_chat.py, modeling_intern_vit.py: InternViT without a final norm, and a projector."""
    vision = whole.part("vision_config")
    if vision is None or vision.model_type != "intern_vit_6b":
        raise UndescribedError
    # pixel shuffle merges neighbouring patches into one of more channels
    merged = int(vision.integer("hidden_size") / whole.number("downsample_ratio") ** 2)
    hidden = text.integer("hidden_size")
    return [
        *_intern_vit(vision),
        *norms("projector", merged),
        *projection(hidden, merged, role="mlp1.1"),
        *projection(hidden, hidden, role="mlp1.3"),
    ]


def _intern_vit(facts: Facts) -> list[TensorGroup]:
    facts = facts.alone()
    hidden, layers = facts.integer("hidden_size"), facts.integer("num_hidden_layers")
    patch = facts.integer("patch_size")
    centred = facts.text("norm_type") == "layer_norm"
    block = Block(
        hidden=hidden,
        inner=facts.integer("intermediate_size"),
        qkv_bias=facts.flag("qkv_bias"),
        norm_bias=centred,
    )
    groups = [
        *weight("vision", "class_embedding", 1, 1, hidden),
        # + 1: the class token
        *weight("vision", "position_embedding", 1, (facts.integer("image_size") // patch) ** 2 + 1, hidden),
        *patches(hidden, facts.integer("num_channels", default=3), patch, patch, bias=True),
        *blocks("vision", block, layers),
        *weight("vision", "ls", hidden, count=2 * layers),
    ]
    return groups + (norms("vision", hidden, count=2 * layers, bias=False) if facts.flag("qk_normalization") else [])


def _phi3_v(whole: Facts, text: Facts) -> list[TensorGroup]:
    """image_embedding_phi3_v.py: CLIP, learned separators of rows and images, a projector of 2 × 2 merged patches."""
    named = whole.part("img_processor")
    if named is None or named.text("model_name") != "openai/clip-vit-large-patch14-336":
        raise UndescribedError
    hidden, merged = text.integer("hidden_size"), 4 * named.integer("image_dim_out")
    return [
        *tower(Facts(_CLIP)),
        *weight("projector", "glb_GN", 1, 1, merged),
        *weight("projector", "sub_GN", 1, 1, 1, merged),
        *projection(hidden, merged, role="img_projection.0"),
        *projection(hidden, hidden, role="img_projection.2"),
    ]


_PARTS: Final[dict[str, _Parts]] = {
    # the cache of its remote code (modeling_deepseek.py) holds keys and values of all heads
    "deepseek_vl_v2": _Parts(text=("language_config",), expanded=True),
    "internvl_chat": _Parts(text=("llm_config",), others=_internvl),
    # its text model is Kimi Linear with gates and latent experts that are not described
    "kimi_k3": _Parts(text=("text_config",)),
    "locateanything": _Parts(text=("text_config",)),
    "multi_modality": _Parts(text=("language_config",)),
    "phi3_v": _Parts(text=(), others=_phi3_v),
}


def read(facts: Facts) -> Blueprint:
    """Layers of the text model, and the weights of all parts where they are described."""
    parts = _PARTS[facts.model_type]
    facts = facts.alone()
    text = facts.part(*parts.text) if parts.text else facts
    if text is None:
        raise MissingFactError(parts.text[0])
    inner = _text(facts, text)
    architecture = replace(inner.architecture, model_type=facts.model_type)
    if parts.expanded:
        architecture = _expanded(architecture)
    others = _others(facts, text, parts)
    known = inner.groups is not None and others is not None
    return Blueprint(architecture=architecture, groups=(*(inner.groups or ()), *(others or ())) if known else None)


def _text(facts: Facts, text: Facts) -> Blueprint:
    if text is facts:
        return read_own(facts, _PHI3)
    read_text = reader(text.model_type)
    if read_text is None:
        reason = f"its text model_type, '{text.model_type}', is not supported yet"
        return Blueprint(architecture=Architecture(model_type=facts.model_type, unknown=reason), groups=None)
    return read_text(text)


def _others(facts: Facts, text: Facts, parts: _Parts) -> list[TensorGroup] | None:
    if parts.others is None:
        return None
    try:
        return parts.others(facts, text)
    except UndescribedError:
        return None


def _expanded(architecture: Architecture) -> Architecture:
    layers = tuple(
        replace(layer, cache=replace(layer.cache, expanded=True)) if isinstance(layer.cache, Latent) else layer
        for layer in architecture.layers or ()
    )
    return replace(architecture, layers=layers or architecture.layers)
