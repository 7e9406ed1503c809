"""Fallback for model types without a reader: layers from the config class of the installed `transformers`.

The type's config class is instantiated with config.json, and its attributes (`get_text_config`, `layer_types`,
`per_layer_config`, `kv_sharing_modes`) are turned into caches as `get_layer_types_and_kwargs` in cache_utils.py does,
which itself needs PyTorch. A config class does not describe the weights; they come from the headers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from hfmem.errors import InvalidConfigError, quoted
from hfmem.mapper.blueprint import Blueprint
from hfmem.mapper.caches import KV, Cache, Combined, CrossKV, Nothing
from hfmem.mapper.facts import Facts, MissingFactError
from hfmem.mapper.families import reader
from hfmem.mapper.values import Architecture, Layer
from hfmem.silence import quiet

__all__ = ["read"]

_MOST_LAYERS: Final = 100_000  # beyond every model; the layers are listed one by one

_NOTE: Final = "The layers are those of transformers' configuration class; hfmem has no reader for this model_type."

_DROPPED: Final = ("model_type", "auto_map", "quantization_config", "architectures")

# Attribute names in config classes, in order of precedence.
_LAYERS: Final = (
    "num_decoder_layers",
    "decoder_num_hidden_layers",
    "decoder_layers",
    "num_hidden_layers",
    "num_layers",
)
_HEADS: Final = (
    "num_decoder_attention_heads",
    "decoder_num_attention_heads",
    "decoder_attention_heads",
    "num_attention_heads",
    "num_heads",
)
_KV_HEADS: Final = ("decoder_num_key_value_heads", "num_key_value_heads", "num_kv_heads", "multi_query_group_num")
_HEAD_DIMS: Final = ("head_dim", "d_kv", "kv_channels", "dim_head")

# Layer kinds with a KV cache, and the attribute that limits its tokens.
_WINDOWS: Final[dict[str, str | None]] = {
    "full_attention": None,
    "sliding_attention": "sliding_window",
    "chunked_attention": "attention_chunk_size",
    # caches all prompt tokens, and a sliding window of generated ones (modeling_unlimited_ocr.py)
    "reference_sliding_attention": None,
}

# Attributes of classes whose cache is not a plain KV cache with these heads and tokens.
_OTHERWISE: Final = ("kv_lora_rank", "global_head_dim", "swa_head_dim", "prompt_length", "attn_layers", "mem_len")

# Factor of KV heads in sliding-window layers, where the class has no attribute for it
# (`MiMoV2FlashAttention` in modeling_mimo_v2_flash.py).
_MORE_HEADS: Final[dict[str, int]] = {"mimo_v2_flash": 2}

# Encoders (unless `is_decoder` is set) that have no masked-LM class, by which others are recognised.
_ENCODERS: Final = ("bert-generation",)

_NOTHING: Final = ("moe", "mlp")


def read(config: Mapping[str, Any]) -> Blueprint | None:
    """Layers of a type that `transformers` knows; None for other types.

    Raises:
        MissingFactError: the class lacks an attribute that the caches depend on.
        InvalidConfigError: the class rejects the file, or a layer kind is not supported.
    """
    built = _build(config)
    if built is None:
        return None
    try:
        return Blueprint(architecture=_describe(built, config), groups=None)
    except (AttributeError, KeyError, RuntimeError) as error:  # raised by properties of the class
        raise InvalidConfigError("", f"the layers of '{config['model_type']}' cannot be determined ({error})") from None


def _describe(built: Any, config: Mapping[str, Any]) -> Architecture:
    text = _decoder(built)
    read_text = None if text is built or built.is_encoder_decoder else reader(text.model_type)
    if read_text is not None:  # an unknown multimodal type with a text model that has a reader
        inner = read_text(Facts(text.to_dict())).architecture
        return replace(inner, model_type=str(config["model_type"]), head="lm_head", notes=(*inner.notes, _NOTE))
    depth = _integer(text, *_LAYERS)
    if depth > _MOST_LAYERS:
        raise InvalidConfigError("", f"num_hidden_layers is {depth}, expected at most {_MOST_LAYERS}")
    return _architecture(str(config["model_type"]), built, text, _layers(built, text, depth, config))


def _build(config: Mapping[str, Any]) -> Any:
    """The config object, of a class of `transformers` itself. Any exception it raises is attributed to the file."""
    with quiet():
        from transformers.models.auto.configuration_auto import CONFIG_MAPPING

        model_type = config.get("model_type")
        if model_type not in CONFIG_MAPPING:
            return None
        rest = {key: _decoded(value) for key, value in config.items() if key not in _DROPPED}
        try:
            return CONFIG_MAPPING[model_type](**rest)
        except Exception as error:
            words = " ".join(str(error).split())
            raise InvalidConfigError("", f"transformers' config class of '{model_type}' rejects it ({words})") from None


def _decoded(value: Any) -> Any:
    """A deep copy for the class to modify, with infinities decoded that `save_pretrained` writes as objects."""
    if isinstance(value, Mapping):
        tagged = value.get("__float__")
        if len(value) == 1 and tagged in ("Infinity", "-Infinity", "NaN"):
            return float(tagged)
        return {key: _decoded(item) for key, item in value.items()}
    return [_decoded(item) for item in value] if isinstance(value, list | tuple) else value


def _decoder(built: Any) -> Any:
    """The decoder's config: a nested one, or the whole where `get_text_config` returns a copy with renamed keys."""
    parts = [_attribute(built, key) for key in built.sub_configs]
    text = built.get_text_config(decoder=True)
    return text if any(text is part for part in parts) else built


def _layers(built: Any, text: Any, depth: int, config: Mapping[str, Any]) -> tuple[Layer, ...]:
    _understood(text)
    if _encodes(built, text) or not _caches(text):
        heads = _integer(text, *_HEADS)
        return tuple(Layer(kind="none", cache=Nothing(), heads=heads, ffn=None) for _ in range(depth))
    crossed = _crossed(built, config)
    kinds, parts = _kinds(text, depth), _per_layer(text, depth)
    return tuple(_layer(kind, part, crossed) for kind, part in zip(kinds, parts, strict=True))


def _understood(text: Any) -> None:
    """Raise for classes with an attribute that indicates another kind of cache."""
    for key in _OTHERWISE:
        if any(_attribute(part, key) for part in (text, *text.per_layer_config)):
            raise InvalidConfigError("", f"it has {key}, whose cache is unknown for this type")


def _caches(text: Any) -> bool:
    """Whether the class supports a cache: older classes have neither `use_cache` nor `layer_types`."""
    return any(_attribute(text, key) is not None for key in ("use_cache", "layer_types"))


def _encodes(built: Any, text: Any) -> bool:
    """Whether it is an encoder type without `is_decoder`."""
    from transformers.models.auto.modeling_auto import MODEL_FOR_MASKED_LM_MAPPING_NAMES

    encodes = built.model_type in MODEL_FOR_MASKED_LM_MAPPING_NAMES or built.model_type in _ENCODERS
    return encodes and not built.is_encoder_decoder and getattr(text, "is_decoder", None) is False


def _crossed(built: Any, config: Mapping[str, Any]) -> bool:
    """Whether the decoder has a cross-attention cache; a ...ForCausalLM class is the decoder alone, without one."""
    named = config.get("architectures")
    alone = isinstance(named, list) and any(str(name).endswith("ForCausalLM") for name in named)
    return bool(built.is_encoder_decoder) and not alone


def _kinds(text: Any, depth: int) -> Sequence[str]:
    """The kind of each layer, with transformers' names."""
    listed = getattr(text, "layer_types", None)
    kinds = [_own_kind(part) for part in _per_layer(text, depth)] if listed is None else [str(kind) for kind in listed]
    modes = getattr(text, "kv_sharing_modes", None)
    if modes is not None:
        kinds = ["shared" if mode == "reuse" else kind for kind, mode in zip(kinds, modes, strict=True)]
    if len(kinds) != depth:
        raise InvalidConfigError("", f"layer_types has {len(kinds)} entries for {depth} layers")
    return kinds


def _own_kind(part: Any) -> str:
    """The kind of a layer whose config class has no `layer_types`."""
    if getattr(part, "sliding_window", None) is not None:
        return "sliding_attention"
    if getattr(part, "attention_chunk_size", None) is not None:
        return "chunked_attention"
    return "full_attention"


def _per_layer(text: Any, depth: int) -> Sequence[Any]:
    """The config of each layer, as sizes may differ between layers."""
    parts = list(text.per_layer_config)
    return parts if len(parts) == depth else [text] * depth


def _layer(kind: str, part: Any, crossed: bool) -> Layer:
    heads = _integer(part, *_HEADS)
    if kind == "shared":
        return Layer(kind="shared", cache=Nothing(), heads=heads, ffn=None)
    if kind in _NOTHING:
        return Layer(kind="none", cache=Nothing(), heads=0, ffn=None)
    if kind not in _WINDOWS:
        raise InvalidConfigError("", f"layer_types has {quoted(kind)}, whose cache is unknown for this type")
    own: Cache = _keys_and_values(kind, part)
    if crossed:
        own = Combined(caches=(own, _cross(part)))
    return Layer(kind=kind, cache=own, heads=heads, ffn=None)


def _keys_and_values(kind: str, part: Any) -> KV:
    sizes = _sizes(part)
    times = _MORE_HEADS.get(part.model_type, 1) if kind == "sliding_attention" else 1
    bound = _WINDOWS[kind]
    window = None if bound is None else _integer(part, bound)
    value_dim = _optional(part, "v_head_dim") or sizes.dim
    return KV(heads=times * sizes.heads, key_dim=sizes.dim, value_dim=value_dim, window=window)


def _cross(part: Any) -> CrossKV:
    sizes = _sizes(part)
    return CrossKV(heads=sizes.heads, key_dim=sizes.dim, value_dim=sizes.dim)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Sizes:
    heads: int
    dim: int


def _sizes(part: Any) -> _Sizes:
    """KV heads and head_dim."""
    heads = _integer(part, *_HEADS)
    dim = _optional(part, *_HEAD_DIMS)
    return _Sizes(
        heads=_optional(part, *_KV_HEADS) or heads,  # without grouped-query attention, each query head has its own
        dim=_integer(part, "hidden_size") // heads if dim is None else dim,
    )


def _integer(part: Any, *names: str) -> int:
    value = _optional(part, *names)
    if value is None:
        raise MissingFactError(names[0])
    return value


def _optional(part: Any, *names: str) -> int | None:
    """The first of several attributes that is a positive integer."""
    for name in names:
        value = _attribute(part, name)
        if isinstance(value, int) and not isinstance(value, bool) and value > 0:
            return value
    return None


def _attribute(part: Any, name: str) -> Any:
    """An attribute, or None; a class raises RuntimeError for one that differs between layers."""
    try:
        return getattr(part, name, None)
    except RuntimeError:
        return None


def _architecture(model_type: str, built: Any, text: Any, layers: tuple[Layer, ...]) -> Architecture:
    caches = [layer.cache for layer in layers]
    first = next((cache for cache in caches if isinstance(cache, KV)), None)
    return Architecture(
        model_type=model_type,
        hidden_size=_optional(text, "hidden_size"),
        vocab_size=_optional(text, "vocab_size"),
        max_positions=_optional(text, "max_position_embeddings", "n_positions"),
        tied_embeddings=bool(getattr(built, "tie_word_embeddings", False)),
        attention_heads=_optional(text, *_HEADS),
        kv_heads=None if first is None else first.heads,
        head_dim=None if first is None else first.key_dim,
        intermediate_size=_optional(text, "intermediate_size", "ffn_dim", "d_ff"),
        experts=_optional(text, "num_experts", "n_routed_experts", "num_local_experts"),
        experts_per_token=_optional(text, "num_experts_per_tok", "moe_topk", "top_k_experts"),
        layers=layers,
        layer_count=len(layers),
        head="lm_head",
        notes=(_NOTE,),
    )
