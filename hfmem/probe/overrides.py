"""Config keys by model type that its small config needs in addition to the rules of `hfmem.probe.tiny`."""

from __future__ import annotations

from typing import Any, Final

__all__ = ["OVERRIDES"]

_ROTARY: Final = {"rope_type": "default", "rope_theta": 10000.0}

# Text models whose default rotary sections (`mrope_section`) are too large for small heads.
_SECTIONED: Final = (
    "glm4v_text",
    "glm_ocr_text",
    "paddleocr_vl_text",
    "qwen2_vl_text",
    "qwen2_5_vl_text",
    "qwen2_5_omni_text",
)

OVERRIDES: Final[dict[str, dict[str, Any]]] = {
    "wavtokenizer_encoder": {"codebook_dim": 64, "codebook_size": 16},
    "apertus1p5": {
        "image_token_offset": 10,
        "audio_token_offset": 26,
        "vision_config": {"base_channels": 32, "codebook_size": 16},
    },
    "bamba": {"attn_layer_indices": [1]},
    "chameleon": {"vocabulary_map": {"<image>": 5}},
    "codegen": {"rotary_dim": 8},
    "cohere_compass_text": {"rope_parameters": {"full_attention": _ROTARY}},
    "dbrx": {"attn_config": {"rope_theta": 10000.0, "kv_n_heads": 2, "clip_qkv": 8}, "rope_parameters": _ROTARY},
    "deepseek_ocr2_text": {"num_hidden_layers": 2, "mlp_layer_types": ["dense", "sparse"]},
    "dots1": {"n_shared_experts": 1},
    "dots3_note_vision_encoder": {
        "num_hidden_layers": 42,
        "num_local_experts": 4,
        "moe_intermediate_size": 24,
        "adapter_in_dim": 64,
        "adapter_out_dim": 64,
    },
    "dots3_note_audio_encoder": {"adapter_input_size": 64, "adapter_out_dim": 64},
    "dots3_note_text": {"num_key_value_heads": 4},
    **{
        name: {"decoder": {"is_decoder": True, "add_cross_attention": True}}
        for name in ("encoder-decoder", "speech-encoder-decoder", "vision-encoder-decoder")
    },
    "emu3_vqgan": {"base_channels": 32, "codebook_size": 96},
    "emu3": {"vocabulary_map": {"<image>": 5}},
    "ernie4_5_vl_moe_text": {
        "hidden_size": 128,
        "moe_intermediate_size": [24, 20],
        "rope_parameters": {**_ROTARY, "mrope_section": [6, 6, 4]},
    },
    "florence_vision": {
        "embed_dim": [16, 24, 32, 40],
        "num_heads": [2, 2, 2, 2],
        "num_groups": [2, 2, 2, 2],
        "projection_dim": 64,
    },
    "gemma3n_text": {"num_hidden_layers": 10, "num_kv_shared_layers": 3, "intermediate_size": [80] * 10},
    **{name: {"rope_parameters": {**_ROTARY, "mrope_section": [2, 3, 3]}} for name in _SECTIONED},
    **{name: {"final_logit_softcapping": 30.0} for name in ("gemma4_text", "gemma4_unified_text")},
    "gemma4_assistant": {"text_config": {"hidden_size_per_layer_input": 0}},
    **{name: {"out_hidden_size": 64} for name in ("glm4v_vision", "glm4v_moe_vision", "glm_ocr_vision")},
    "glm5_next_vision": {"out_hidden_size": 64, "projection_intermediate_size": 80},
    "glm4v_moe_text": {"rope_parameters": {**_ROTARY, "partial_rotary_factor": 0.5, "mrope_section": [1, 1, 2]}},
    "glm5_next_text": {"num_key_value_heads": 4, "index_kpool": 2, "qk_rope_head_dim": 0},
    "gpt_neo": {"attention_types": [[["global", "local"], 1]]},
    "gptj": {"rotary_dim": 8},
    "granite4_vision": {"deepstack_layer_map": [[-1, 0]], "downsample_rate": "4/8"},
    "granite_docling_vision": {"out_hidden_size": 64},
    "granitemoehybrid": {"layer_types": ["linear_attention", "full_attention"]},
    "lfm2": {"layer_types": ["conv", "full_attention"]},
    "lfm2_moe": {"layer_types": ["conv", "full_attention"]},
    "janus_vqgan": {"base_channels": 32, "num_embeddings": 96, "projection_dim": 64, "image_token_embed_dim": 64},
    "janus_vision_model": {"projection_dim": 64},
    "inkling2_loop": {"vision_config": {"text_hidden_size": 64}},
    "inkling2": {"vision_config": {"text_hidden_size": 64}, "audio_config": {"text_hidden_size": 64}},
    "hy_v4_vl_text": {"qk_rope_head_dim": 32},
    "hunyuan_vl_text": {"rope_parameters": {**_ROTARY, "mrope_section": [2, 2, 2, 2]}},
    "longcat_flash": {"head_dim": 8},
    "mamba2": {"num_heads": 8},
    "molmo2_vision": {"num_hidden_layers": 25},
    "muse_glimmer": {"out_hidden_size": 64, "projector_hidden_size": 40},
    "muse_spark": {"out_hidden_size": 64, "projector_hidden_size": 40},
    "muse_spark_audio": {"num_hidden_layers": 4, "hidden_sizes": [16, 24, 32, 40], "out_hidden_size": 64},
    "nemotron_h_omni": {"projector_hidden_size": 40, "vision_config": {"video_temporal_patch_size": 2}},
    "opt": {"word_embed_proj_dim": 64},
    "ovis2": {"hidden_size": 64, "vocab_size": 96},
    "qwen4_exp_text": {
        "indexer_n_heads": 4,
        "indexer_kv_heads": 1,
        "indexer_head_dim": 18,
        "indexer_budget": 8,
        "indexer_compress_ratio": 2,
    },
    "reformer": {"is_decoder": True, "axial_pos_shape": [8, 16], "axial_pos_embds_dim": [24, 40]},
    "zamba2": {"num_hidden_layers": 4, "layers_block_type": ["linear_attention", "hybrid"] * 2},
    "xlstm": {"hidden_size": 512},
    "zaya": {"num_experts_per_tok": 1},
    "xmod": {"default_language": "en_XX"},
}
