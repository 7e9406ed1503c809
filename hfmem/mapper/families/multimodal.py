"""Multimodal models: towers, projectors and other weights in addition to the text decoder (`modeling_<type>.py`)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from hfmem.mapper.blueprint import Blueprint, linear, weight
from hfmem.mapper.facts import Facts, MissingFactError
from hfmem.mapper.families._blocks import UndescribedError, norms, projection, side
from hfmem.mapper.families._dialect import Flag, flag
from hfmem.mapper.families._ears import ear
from hfmem.mapper.families._towers import tower
from hfmem.mapper.families._whole import Whole, read_whole
from hfmem.mapper.values import TensorGroup

__all__ = ["TYPES", "WHOLES", "read", "read_nested"]

Others = Callable[[Facts, Facts], list[TensorGroup]]

# Default number of queries per image (configuration_aria.py).
_ARIA_QUERIES: Final = 256


def read(facts: Facts) -> Blueprint:
    """Layers and weights of a multimodal model."""
    return read_whole(facts, WHOLES[facts.model_type])


def read_nested(facts: Facts) -> Blueprint:
    """The same for a config with the text model's model_type at its root; the type follows from the class name.

    Raises:
        MissingFactError: the class is not one of a known multimodal type.
    """
    named = facts.items("architectures")
    name = named[0] if named and isinstance(named[0], str) else ""
    for model_type, spec in WHOLES.items():
        if name.lower().startswith(f"{model_type.replace('_', '')}for"):
            return read_whole(facts.changed(model_type=model_type), spec)
    raise MissingFactError("hidden_size")


def _vision(whole: Facts) -> Facts:
    return whole.nested("vision_config")


def _features(whole: Facts) -> int:
    """The number of tower layers whose outputs the projector concatenates."""
    return len(whole.integers("vision_feature_layer"))


def _two_layers(inputs: int, outputs: int, *, bias: bool = True, inner: int | None = None) -> list[TensorGroup]:
    inner = outputs if inner is None else inner
    return [
        *projection(inner, inputs, bias=bias, role="linear_1"),
        *projection(outputs, inner, bias=bias, role="linear_2"),
    ]


def _llava(whole: Facts, text: Facts) -> list[TensorGroup]:
    vision = _vision(whole)
    inputs = vision.integer("hidden_size") * _features(whole)
    bias = whole.flag("multimodal_projector_bias", default=True)
    return tower(vision) + _two_layers(inputs, text.integer("hidden_size"), bias=bias)


def _llava_next(whole: Facts, text: Facts) -> list[TensorGroup]:
    return _llava(whole, text) + weight("projector", "image_newline", text.integer("hidden_size"))


def _llava_onevision(whole: Facts, text: Facts) -> list[TensorGroup]:
    vision, hidden = _vision(whole), text.integer("hidden_size")
    features = _two_layers(
        vision.integer("hidden_size") * _features(whole), hidden, bias=whole.flag("multimodal_projector_bias")
    )
    return tower(vision) + features + weight("projector", "image_newline", hidden)


def _video_llava(whole: Facts, text: Facts) -> list[TensorGroup]:
    """Two towers: one for images, one for videos."""
    vision = _vision(whole)
    inputs = vision.integer("hidden_size") * _features(whole)
    bias = whole.flag("multimodal_projector_bias", default=True)
    return tower(vision) + tower(vision) + _two_layers(inputs, text.integer("hidden_size"), bias=bias)


def _vipllava(whole: Facts, text: Facts) -> list[TensorGroup]:
    vision = _vision(whole)
    inputs = vision.integer("hidden_size") * _features(whole)
    return tower(vision) + norms("projector", inputs) + _two_layers(inputs, text.integer("hidden_size"))


def _mistral3(whole: Facts, text: Facts) -> list[TensorGroup]:
    """A norm, a patch merger, and Llava's projector."""
    vision = _vision(whole)
    width, merge = vision.integer("hidden_size"), side(whole, "spatial_merge_size")
    bias = whole.flag("multimodal_projector_bias")
    return [
        *tower(vision),
        *norms("projector", width, bias=False),
        *projection(width, width * merge**2, bias=False, role="merging_layer"),
        *_two_layers(width * _features(whole), text.integer("hidden_size"), bias=bias),
    ]


def _lighton(whole: Facts, text: Facts) -> list[TensorGroup]:
    """Mistral 3's projector without biases, on the tower's last layer only."""
    vision = _vision(whole)
    width, merge = vision.integer("hidden_size"), side(whole, "spatial_merge_size")
    return [
        *tower(vision),
        *norms("projector", width, bias=False),
        *projection(width, width * merge**2, bias=False, role="merging_layer"),
        *_two_layers(width, text.integer("hidden_size"), bias=False),
    ]


def _idefics3(whole: Facts, text: Facts) -> list[TensorGroup]:
    vision = _vision(whole)
    inputs = vision.integer("hidden_size") * whole.integer("scale_factor") ** 2
    return tower(vision) + projection(text.integer("hidden_size"), inputs, bias=False)


def _idefics2(whole: Facts, text: Facts) -> list[TensorGroup]:
    """A gated projection, and a perceiver resampler with a fixed number of latents (Idefics2PerceiverResampler)."""
    vision, hidden, perceiver = _vision(whole), text.integer("hidden_size"), whole.nested("perceiver_config")
    width, inner = vision.integer("hidden_size"), text.integer("intermediate_size")
    depth, size = perceiver.integer("resampler_depth"), perceiver.integer("resampler_head_dim")
    latent = perceiver.integer("hidden_size")
    query, kv = size * perceiver.integer("resampler_n_heads"), size * perceiver.integer("num_key_value_heads")
    if latent != hidden:
        raise UndescribedError
    return [
        *tower(vision),
        *linear("projector", "gate_up_proj", 2 * inner, width),
        *linear("projector", "down_proj", hidden, inner),
        *weight("projector", "latents", perceiver.integer("resampler_n_latents"), latent),
        *linear("projector", "q_proj", query, latent, count=depth),
        *linear("projector", "kv_proj", kv, latent, count=2 * depth),
        *linear("projector", "o_proj", latent, query, count=depth),
        *linear("projector", "mlp", 4 * latent, latent, count=3 * depth),
        *norms("projector", latent, count=3 * depth + 1, bias=False),
    ]


def _internvl(whole: Facts, text: Facts) -> list[TensorGroup]:
    vision = _vision(whole)
    # pixel shuffle merges neighbouring patches into one of more channels
    inputs = vision.integer("hidden_size") * int(1 / whole.number("downsample_ratio")) ** 2
    return tower(vision) + norms("projector", inputs) + _two_layers(inputs, text.integer("hidden_size"))


def _halved(whole: Facts, text: Facts) -> list[TensorGroup]:
    """A projector with SwiGLU: one half of the first layer's output gates the other (Aya Vision, Cohere 2 Vision)."""
    vision = _vision(whole)
    inputs = vision.integer("hidden_size") * whole.integer("downsample_factor") ** 2
    hidden = text.integer("hidden_size")
    inner = whole.integer("alignment_intermediate_size", default=hidden)
    return [
        *tower(vision),
        *projection(inner, inputs, role="linear_1"),
        *projection(hidden, inner // 2, role="linear_2"),
    ]


def _aya(whole: Facts, text: Facts) -> list[TensorGroup]:
    inputs = _vision(whole).integer("hidden_size") * whole.integer("downsample_factor") ** 2
    return _halved(whole, text) + norms("projector", inputs)


def _paligemma(whole: Facts, text: Facts) -> list[TensorGroup]:  # noqa: ARG001 - an `Others`
    vision = _vision(whole)
    width = vision.integer("projection_dim", default=whole.integer("projection_dim"))
    return tower(vision) + projection(width, vision.integer("hidden_size"))


def _only_towers(whole: Facts, text: Facts) -> list[TensorGroup]:  # noqa: ARG001 - an `Others`
    """A tower that includes its projector."""
    return tower(_vision(whole))


def _hyperclovax(whole: Facts, text: Facts) -> list[TensorGroup]:
    vision = _vision(whole)
    return tower(vision) + projection(text.integer("hidden_size"), vision.integer("out_hidden_size"))


def _kimi(whole: Facts, text: Facts) -> list[TensorGroup]:
    vision = _vision(whole)
    width, merge = vision.integer("hidden_size"), vision.integers("merge_kernel_size")
    inner = width
    for factor in merge:
        inner *= factor
    groups = tower(vision) + norms("projector", whole.integer("projection_hidden_size"))
    return groups + _two_layers(inner, text.integer("hidden_size"), inner=inner)


def _paddleocr(whole: Facts, text: Facts) -> list[TensorGroup]:
    vision = _vision(whole)
    width = vision.integer("hidden_size")
    inner = width * side(vision, "spatial_merge_size") ** 2
    groups = tower(vision) + norms("projector", width)
    return groups + _two_layers(inner, text.integer("hidden_size"), inner=inner)


def _video_llama(whole: Facts, text: Facts) -> list[TensorGroup]:
    vision = _vision(whole)
    return tower(vision) + _two_layers(vision.integer("hidden_size"), text.integer("hidden_size"))


def _lfm2(whole: Facts, text: Facts) -> list[TensorGroup]:
    vision = _vision(whole)
    inputs = vision.integer("hidden_size") * whole.integer("downsample_factor") ** 2
    inner, bias = whole.integer("projector_hidden_size"), whole.flag("projector_bias")
    groups = tower(vision) + _two_layers(inputs, text.integer("hidden_size"), bias=bias, inner=inner)
    return groups + (norms("projector", inputs) if whole.flag("projector_use_layernorm") else [])


def _ovis2(whole: Facts, text: Facts) -> list[TensorGroup]:
    """An embedding table of the visual vocabulary; like the head, it has the hidden size at the root of the config."""
    vision, sizes = _vision(whole), ("hidden_size", "vocab_size")
    words, width = vision.integer("vocab_size"), whole.integer("hidden_size")
    if not whole.flag("tie_word_embeddings") and any(whole.integer(key) != text.integer(key) for key in sizes):
        raise UndescribedError
    return tower(vision) + weight("projector", "visual_embeddings_table", words, width)


def _fuyu(whole: Facts, text: Facts) -> list[TensorGroup]:
    inputs = side(whole, "patch_size") ** 2 * whole.integer("num_channels")
    return projection(text.integer("hidden_size"), inputs)


def _llama4(whole: Facts, text: Facts) -> list[TensorGroup]:
    vision = _vision(whole)
    width = vision.integer("vision_output_dim")
    return tower(vision) + projection(text.integer("hidden_size"), width, bias=False)


def _mllama(whole: Facts, text: Facts) -> list[TensorGroup]:
    vision = _vision(whole)
    return tower(vision) + projection(text.integer("hidden_size"), vision.integer("vision_output_dim"))


def _audio(inputs: str, *, layers: int, biased: Flag) -> Others:
    """An audio tower, and a projector with `layers` linear layers; `inputs` is the config key of its input size."""

    def others(whole: Facts, text: Facts) -> list[TensorGroup]:
        sound, hidden = whole.nested("audio_config"), text.integer("hidden_size")
        width, bias = sound.integer(inputs), flag(whole, biased)
        return ear(sound) + (
            projection(hidden, width, bias=bias) if layers == 1 else _two_layers(width, hidden, bias=bias)
        )

    return others


def _glmasr(whole: Facts, text: Facts) -> list[TensorGroup]:
    sound, hidden = whole.nested("audio_config"), text.integer("hidden_size")
    return ear(sound) + _two_layers(sound.integer("intermediate_size"), hidden, inner=2 * hidden)


def _moss(whole: Facts, text: Facts) -> list[TensorGroup]:
    """Several audio frames are merged into one token."""
    sound, hidden = whole.nested("audio_config"), text.integer("hidden_size")
    frames = whole.integer("audio_merge_size")
    width = sound.integer("d_model") * frames
    bias = whole.flag("projector_bias", default=True)
    return ear(sound) + _two_layers(width, hidden, bias=bias) + norms("projector", hidden)


def _qwen3_asr(whole: Facts, text: Facts) -> list[TensorGroup]:  # noqa: ARG001 - an `Others`
    sound = whole.nested("audio_config")
    width = sound.integer("d_model")
    return ear(sound) + _two_layers(width, sound.integer("output_dim"), inner=width)


def _thinker(whole: Facts, text: Facts) -> list[TensorGroup]:  # noqa: ARG001 - an `Others`
    """Audio and vision towers, which include their projectors."""
    return ear(whole.nested("audio_config")) + tower(_vision(whole))


def _gemma4(whole: Facts, text: Facts) -> list[TensorGroup]:
    """Vision and audio towers, where the config has them, each with a projection."""
    hidden, groups = text.integer("hidden_size"), []
    if whole.has("vision_config"):
        vision = _vision(whole)
        groups += tower(vision) + projection(hidden, vision.integer("hidden_size"), bias=False)
    if whole.has("audio_config"):
        sound = whole.nested("audio_config")
        groups += ear(sound) + projection(hidden, sound.integer("output_proj_dims"), bias=False)
    return groups


def _gemma4_unified(whole: Facts, text: Facts) -> list[TensorGroup]:
    """No towers: image patches (Gemma4UnifiedVisionEmbedder) and audio frames are projected directly."""
    hidden, groups = text.integer("hidden_size"), []
    if whole.has("vision_config"):
        vision = _vision(whole)
        width = vision.integer("mm_embed_dim")
        pixels = 3 * (side(vision, "patch_size") * side(vision, "pooling_kernel_size")) ** 2
        groups += [
            *linear("vision", "patch_dense", width, pixels, bias=True),
            *weight("vision", "pos_embedding", vision.integer("mm_posemb_size"), 2, width),
            *norms("vision", pixels),
            *norms("vision", width, count=2),
            *projection(hidden, vision.integer("output_proj_dims"), bias=False),
        ]
    if whole.has("audio_config"):
        groups += projection(hidden, whole.nested("audio_config").integer("audio_embed_dim"), bias=False)
    return groups


def _got_ocr2(whole: Facts, text: Facts) -> list[TensorGroup]:
    """Two strided convolutions, which halve the grid each, and a projection."""
    vision, hidden = _vision(whole), text.integer("hidden_size")
    channels = vision.integer("output_channels")
    return [
        *tower(vision),
        *weight("projector", "conv_upsampler1", 2 * channels, channels, 3, 3),
        *weight("projector", "conv_upsampler2", hidden, 2 * channels, 3, 3),
        *projection(hidden, hidden),
    ]


def _blip2(whole: Facts, text: Facts) -> list[TensorGroup]:
    """A tower, a Q-Former whose queries cross-attend to it (Blip2QFormerModel), and a projection of its output."""
    former, vision = whole.nested("qformer_config"), _vision(whole)
    hidden = former.integer("hidden_size")
    return [
        *tower(vision),
        *weight("projector", "query_tokens", 1, whole.integer("num_query_tokens"), hidden),
        *_query_former(former, vision.integer("hidden_size"), instructed=whole.model_type != "blip-2"),
        *projection(text.integer("hidden_size", "d_model"), hidden),
    ]


def _query_former(former: Facts, width: int, *, instructed: bool) -> list[TensorGroup]:
    """A Q-Former: BERT's blocks, some with cross-attention to the tower's output of size `width`. If `instructed`, it
    also reads text, with separate feed-forward networks for it."""
    hidden, inner = former.integer("hidden_size"), former.integer("intermediate_size")
    layers = former.integer("num_hidden_layers")
    crossing = len(range(0, layers, former.integer("cross_attention_frequency")))
    networks = (2 if instructed or former.flag("use_qformer_text_input") else 1) * layers
    groups = [
        *linear("projector", "attention", hidden, hidden, count=4 * layers + 2 * crossing, bias=True),
        *linear("projector", "crossattention", hidden, width, count=2 * crossing, bias=True),
        *linear("projector", "intermediate", inner, hidden, count=networks, bias=True),
        *linear("projector", "output", hidden, inner, count=networks, bias=True),
        *norms("projector", hidden, count=1 + layers + crossing + networks),
    ]
    if instructed:
        rows = former.integer("vocab_size") + former.integer("max_position_embeddings")
        groups += weight("projector", "embeddings", rows, hidden)
    return groups


def _aria(whole: Facts, text: Facts) -> list[TensorGroup]:
    """Learned queries that cross-attend to image patches (AriaProjector)."""
    width, hidden = _vision(whole).integer("hidden_size"), text.integer("hidden_size")
    listed = whole.part("projector_patch_to_query_dict")
    queries = _ARIA_QUERIES if listed is None else max(listed.integer(name) for name in listed.names())
    return [
        *tower(_vision(whole)),
        *weight("projector", "query", queries, width),
        *linear("projector", "qkv_proj", width, width, count=3),
        *linear("projector", "in_proj", 3 * width, width, bias=True),
        *linear("projector", "linear", width, width, count=2, bias=True),
        *norms("projector", width, count=3),
        *projection(hidden, width, bias=False, role="linear_in"),
        *projection(hidden, hidden, bias=False, role="linear_out"),
    ]


def _deepseek(whole: Facts, text: Facts) -> list[TensorGroup]:
    vision = _vision(whole)
    return tower(vision) + _two_layers(vision.integer("hidden_size"), text.integer("hidden_size"))


_BLIP = Whole(others=_blip2, spoken=True)
_TOWERS = Whole(others=_only_towers)
_FLAT = Whole(others=_only_towers, flat=True, tied="either")
_SPEECH = Whole(others=_audio("hidden_size", layers=2, biased="projector_bias"), text_type="qwen2")

WHOLES: Final[dict[str, Whole]] = {
    "aria": Whole(others=_aria, text_class="AriaTextForCausalLM"),
    "audioflamingo3": _SPEECH,
    "aya_vision": Whole(others=_aya),
    "blip-2": _BLIP,
    "cohere2_vision": Whole(others=_halved),
    "cosmos3_omni": _TOWERS,
    "deepseek_vl": Whole(others=_deepseek),
    "deepseek_vl_hybrid": Whole(),
    "dots3_note": Whole(flat=True, text_class="Dots3NoteForCausalLM"),
    "emu3": Whole(text_class="Emu3ForCausalLM"),
    "exaone4_5": _TOWERS,
    "fuyu": Whole(others=_fuyu),
    "gemma3n": Whole(text_class="Gemma3nForCausalLM"),
    "gemma4": Whole(others=_gemma4, text_class="Gemma4ForCausalLM"),
    "gemma4_unified": Whole(others=_gemma4_unified, text_class="Gemma4UnifiedForCausalLM"),
    "glm46v": _TOWERS,
    "glm5_next": Whole(others=_only_towers, flat=True),
    "glm4v": _FLAT,
    "glm4v_moe": _FLAT,
    "glm_ocr": _FLAT,
    "glmasr": Whole(others=_glmasr),
    "glmga": _TOWERS,
    "got_ocr2": Whole(others=_got_ocr2),
    "granite_docling": Whole(),
    "granite_speech": Whole(),
    "granite_speech_plus": Whole(),
    "hyperclovax_vision_v2": Whole(others=_hyperclovax),
    "idefics2": Whole(others=_idefics2),
    "idefics3": Whole(others=_idefics3),
    "inkling2": Whole(text_type="inkling2_text", text_class="Inkling2ForCausalLM"),
    "inkling_mm_model": Whole(text_type="inkling_text", text_class="InklingForCausalLM"),
    "instructblip": _BLIP,
    "instructblipvideo": _BLIP,
    "internvl": Whole(others=_internvl),
    "janus": Whole(),
    "kimi_k25": Whole(others=_kimi),
    "lfm2_vl": Whole(others=_lfm2),
    "lighton_ocr": Whole(others=_lighton),
    "llama4": Whole(others=_llama4, tied="text", text_class="Llama4ForCausalLM"),
    "llava": Whole(others=_llava, tied="either"),
    "llava_next": Whole(others=_llava_next),
    "llava_next_video": Whole(others=_llava_next, tied="either"),
    "llava_onevision": Whole(others=_llava_onevision, tied="either"),
    "mistral3": Whole(others=_mistral3),
    "mistral_large4": Whole(others=_mistral3),
    "mllama": Whole(others=_mllama, text_class="MllamaForCausalLM"),
    "moss_transcribe_diarize": Whole(others=_moss),
    "musicflamingo": _SPEECH,
    "ovis2": Whole(others=_ovis2),
    "paddleocr_vl": Whole(others=_paddleocr, tied="either"),
    "paligemma": Whole(others=_paligemma),
    "perception_lm": Whole(),
    "pp_chart2table": Whole(others=_got_ocr2),
    "qianfan_ocr": Whole(others=_internvl),
    "qwen2_5_omni": Whole(text_type="qwen2_5_omni_text"),
    "qwen2_5_omni_thinker": Whole(others=_thinker),
    "qwen2_5_vl": _FLAT,
    "qwen2_audio": Whole(others=_audio("d_model", layers=1, biased=True)),
    "qwen2_vl": _FLAT,
    "qwen3_5": Whole(others=_only_towers, text_type="qwen3_5_text", text_class="Qwen3_5ForCausalLM"),
    "qwen3_5_moe": Whole(others=_only_towers, text_type="qwen3_5_moe_text", text_class="Qwen3_5MoeForCausalLM"),
    "qwen3_asr": Whole(others=_qwen3_asr),
    "qwen3_omni_moe": Whole(text_type="qwen3_omni_moe_text"),
    "qwen3_omni_moe_thinker": Whole(others=_thinker),
    "qwen3_vl": _TOWERS,
    "qwen3_vl_moe": _TOWERS,
    "qwen4_exp": Whole(others=_only_towers, text_type="qwen4_exp_text", text_class="Qwen4ExpForCausalLM"),
    "smolvlm": Whole(others=_idefics3),
    "vibevoice_asr": Whole(),
    "video_llama_3": Whole(others=_video_llama, tied="either"),
    "video_llava": Whole(others=_video_llava),
    "vipllava": Whole(others=_vipllava),
    "voxtral": Whole(others=_audio("intermediate_size", layers=2, biased=False), merged=True),
}

TYPES: Final = frozenset(WHOLES)
