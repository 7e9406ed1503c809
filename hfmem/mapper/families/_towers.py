"""Vision towers of multimodal models: all of their weights, with component `vision`.

To add one: a function from its config to its weights, and a row in `TOWERS`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from hfmem.mapper.blueprint import linear, weight
from hfmem.mapper.facts import Facts
from hfmem.mapper.families._blocks import Block, UndescribedError, blocks, norms, patches, side
from hfmem.mapper.families._siglip import vision_tower as siglip
from hfmem.mapper.values import TensorGroup

__all__ = ["TOWERS", "tower"]


def tower(facts: Facts) -> list[TensorGroup]:
    """All weights of a vision tower.

    Raises:
        UndescribedError: there is no reader for its type.
    """
    read = TOWERS.get(facts.model_type)
    if read is None:
        raise UndescribedError
    return read(facts)


def _block(facts: Facts, **differences: bool) -> Block:
    return Block(hidden=facts.integer("hidden_size"), inner=facts.integer("intermediate_size"), **differences)


def _grid(facts: Facts) -> int:
    """The number of patches of an image."""
    return (side(facts, "image_size") // side(facts, "patch_size")) ** 2


def _flat_patches(facts: Facts, *, bias: bool = True) -> list[TensorGroup]:
    patch = side(facts, "patch_size")
    return patches(facts.integer("hidden_size"), facts.integer("num_channels", "in_channels"), patch, patch, bias=bias)


def _clip(facts: Facts) -> list[TensorGroup]:
    """modeling_clip.py: a class token, learned positions, a norm before the layers and one after."""
    hidden = facts.integer("hidden_size")
    return [
        *weight("vision", "class_embedding", hidden),
        *_flat_patches(facts, bias=False),
        *weight("vision", "position_embedding", _grid(facts) + 1, hidden),
        *blocks("vision", _block(facts), facts.integer("num_hidden_layers")),
        *norms("vision", hidden, count=2),
    ]


def _blip(facts: Facts) -> list[TensorGroup]:
    """modeling_blip_2.py, modeling_instructblip.py: a class token, learned positions, a norm after the layers."""
    hidden, patch = facts.integer("hidden_size"), side(facts, "patch_size")
    b = _block(facts, qkv_bias=facts.flag("qkv_bias", default=True))
    return [
        *weight("vision", "class_embedding", 1, 1, hidden),
        *patches(hidden, 3, patch, patch),
        *weight("vision", "position_embedding", 1, _grid(facts) + 1, hidden),
        *blocks("vision", b, facts.integer("num_hidden_layers")),
        *norms("vision", hidden),
    ]


def _got_ocr2(facts: Facts) -> list[TensorGroup]:
    """modeling_got_ocr2.py: Segment Anything's encoder, with windowed and global attention blocks."""
    hidden, layers = facts.integer("hidden_size"), facts.integer("num_hidden_layers")
    grid, channels = side(facts, "image_size") // side(facts, "patch_size"), facts.integer("output_channels")
    b = Block(hidden=hidden, inner=facts.integer("mlp_dim"), qkv_bias=facts.flag("qkv_bias"))
    groups = _flat_patches(facts)
    groups += weight("vision", "pos_embed", 1, grid, grid, hidden) if facts.flag("use_abs_pos") else []
    if facts.flag("use_rel_pos"):
        size = hidden // facts.integer("num_attention_heads")
        over_all = sum(index in facts.integers("global_attn_indexes") for index in range(layers))
        window = facts.integer("window_size") or grid
        # relative offsets, one table each for height and width
        groups += weight("vision", "rel_pos", 2 * grid - 1, size, count=2 * over_all)
        groups += weight("vision", "rel_pos", 2 * window - 1, size, count=2 * (layers - over_all))
    return [
        *groups,
        *blocks("vision", b, layers),
        *weight("vision", "neck.conv1", channels, hidden, 1, 1),
        *weight("vision", "neck.conv2", channels, channels, 3, 3),
        *norms("vision", channels, count=2),
    ]


def _idefics(facts: Facts) -> list[TensorGroup]:
    """modeling_idefics2.py, modeling_idefics3.py, modeling_smolvlm.py: SigLIP without the pooling head."""
    return siglip(facts.changed(vision_use_head=False))


def _siglip2(facts: Facts) -> list[TensorGroup]:
    """modeling_siglip2.py: a linear patch embedding, and `num_patches` positions."""
    patch = side(facts, "patch_size")
    head = siglip(facts.changed(image_size=patch, num_hidden_layers=0))
    hidden = facts.integer("hidden_size")
    return [
        # `head` has a position embedding already, of one patch
        *weight("vision", "position_embedding", facts.integer("num_patches") - 1, hidden),
        *blocks("vision", _block(facts), facts.integer("num_hidden_layers")),
        *head,
    ]


def _video_llama(facts: Facts) -> list[TensorGroup]:
    """modeling_video_llama_3.py: rotary positions, no pooling head."""
    hidden = facts.integer("hidden_size")
    return [
        *_flat_patches(facts),
        *blocks("vision", _block(facts), facts.integer("num_hidden_layers")),
        *norms("vision", hidden),
    ]


def _pixtral(facts: Facts) -> list[TensorGroup]:
    """modeling_pixtral.py: blocks as in Llama."""
    b = _block(facts, qkv_bias=False, out_bias=False, mlp_bias=False, gated=True, norm_bias=False)
    return [
        *_flat_patches(facts, bias=False),
        *blocks("vision", b, facts.integer("num_hidden_layers")),
        *norms("vision", b.hidden, bias=False),
    ]


def _internvl(facts: Facts) -> list[TensorGroup]:
    """modeling_internvl.py: a class token, learned positions, and a layer scale after attention and after the MLP."""
    hidden, layers = facts.integer("hidden_size"), facts.integer("num_hidden_layers")
    biased = facts.flag("attention_bias")
    with_bias = facts.text("norm_type") == "layer_norm"
    groups = [
        *weight("vision", "cls_token", 1, 1, hidden),
        *_flat_patches(facts),
        *blocks("vision", _block(facts, qkv_bias=biased, norm_bias=with_bias), layers),
        *weight("vision", "lambda", hidden, count=2 * layers),
    ]
    if facts.flag("use_mask_token"):
        groups += weight("vision", "mask_token", 1, 1, hidden)
    if facts.flag("use_absolute_position_embeddings"):
        groups += weight("vision", "position_embeddings", 1, _grid(facts) + 1, hidden)
    if facts.flag("use_qk_norm"):
        groups += norms("vision", hidden, count=2 * layers, bias=False)
    return groups if facts.flag("use_mean_pooling") else groups + norms("vision", hidden)


def _volume(facts: Facts, hidden: int, *, bias: bool = False) -> list[TensorGroup]:
    """The patch embedding over several frames (3D convolution)."""
    patch, frames = side(facts, "patch_size"), side(facts, "temporal_patch_size")
    return patches(hidden, facts.integer("in_channels"), frames, patch, patch, bias=bias)


def _merger(outputs: int, inputs: int, *, count: int = 1) -> list[TensorGroup]:
    """The patch merger: two linear layers that merge several patches into one token."""
    return [
        *linear("projector", "linear_fc1", inputs, inputs, count=count, bias=True),
        *linear("projector", "linear_fc2", outputs, inputs, count=count, bias=True),
    ]


def _qwen2(facts: Facts) -> list[TensorGroup]:
    """modeling_qwen2_vl.py: here `hidden_size` is the merger's output size, that of the decoder."""
    hidden = facts.integer("embed_dim")
    b = Block(hidden=hidden, inner=int(hidden * facts.number("mlp_ratio")))
    return [
        *_volume(facts, hidden),
        *blocks("vision", b, facts.integer("depth")),
        *norms("projector", hidden),
        *_merger(facts.integer("hidden_size"), hidden * side(facts, "spatial_merge_size") ** 2),
    ]


def _qwen2_5(facts: Facts) -> list[TensorGroup]:
    """modeling_qwen2_5_vl.py: gated feed-forward networks and RMSNorm (modeling_exaone4_5.py: with grouped-query
    attention)."""
    hidden, heads = facts.integer("hidden_size"), facts.integer("num_heads")
    b = Block(
        hidden=hidden,
        inner=facts.integer("intermediate_size"),
        kv=hidden // heads * facts.integer("num_key_value_heads", default=heads),
        gated=True,
        norm_bias=False,
    )
    return [
        *_volume(facts, hidden),
        *blocks("vision", b, facts.integer("depth")),
        *norms("projector", hidden, bias=False),
        *_merger(facts.integer("out_hidden_size"), hidden * side(facts, "spatial_merge_size") ** 2),
    ]


def _qwen3(facts: Facts) -> list[TensorGroup]:
    """modeling_qwen3_vl.py: learned positions, and one more merger per DeepStack layer."""
    hidden = facts.integer("hidden_size")
    merged = hidden * side(facts, "spatial_merge_size") ** 2
    deep = len(facts.items("deepstack_visual_indexes") or ())
    return [
        *_volume(facts, hidden, bias=True),
        *weight("vision", "pos_embed", facts.integer("num_position_embeddings"), hidden),
        *blocks("vision", _block(facts), facts.integer("depth")),
        *norms("projector", hidden),
        *norms("projector", merged, count=deep),
        *_merger(facts.integer("out_hidden_size"), merged, count=1 + deep),
    ]


def _glm(facts: Facts) -> list[TensorGroup]:
    """modeling_glm4v.py: MLPs with the output size as intermediate size, a downsampling convolution, a gated merger."""
    hidden, width = facts.integer("hidden_size"), facts.integer("out_hidden_size")
    biased, layers, merge = facts.flag("attention_bias"), facts.integer("depth"), side(facts, "spatial_merge_size")
    b = Block(
        hidden=hidden,
        inner=width,
        qkv_bias=biased,
        out_bias=False,
        mlp_bias=False,
        gated=True,
        norm_bias=False,
    )
    return [
        *_volume(facts, hidden, bias=True),
        *weight("vision", "position_embedding", _grid(facts), hidden),
        *blocks("vision", b, layers),
        *norms("vision", hidden, count=2, bias=False),
        *weight("projector", "downsample", width, hidden, merge, merge),
        *weight("projector", "downsample.bias", width),
        *_gated_merger(width, facts.integer("intermediate_size")),
    ]


def _gated_merger(width: int, inner: int) -> list[TensorGroup]:
    return [
        *linear("projector", "proj", width, width),
        *norms("projector", width),
        *linear("projector", "gate_up_proj", 2 * inner, width),
        *linear("projector", "down_proj", width, inner),
    ]


def _glm_ocr(facts: Facts) -> list[TensorGroup]:
    """modeling_glm_ocr.py: the merger's intermediate size is output size × input channels."""
    return _glm_rotary(facts, facts.integer("out_hidden_size") * facts.integer("in_channels"))


def _glm5_next(facts: Facts) -> list[TensorGroup]:
    """modeling_glm5_next.py: the merger's intermediate size has a config key."""
    return _glm_rotary(facts, facts.integer("projection_intermediate_size"))


def _glm_rotary(facts: Facts, merger: int) -> list[TensorGroup]:
    """Rotary positions, q and k norms, a final norm, and a merger with intermediate size `merger`."""
    hidden, width = facts.integer("hidden_size"), facts.integer("out_hidden_size")
    biased, layers, merge = facts.flag("attention_bias"), facts.integer("depth"), side(facts, "spatial_merge_size")
    b = _block(facts, qkv_bias=biased, out_bias=biased, mlp_bias=biased, gated=True, norm_bias=False)
    return [
        *_volume(facts, hidden, bias=True),
        *blocks("vision", b, layers),
        *norms("vision", hidden // facts.integer("num_heads"), count=2 * layers, bias=False),
        *norms("vision", hidden, bias=False),
        *weight("projector", "downsample", width, hidden, merge, merge),
        *weight("projector", "downsample.bias", width),
        *_gated_merger(width, merger),
    ]


def _kimi(facts: Facts) -> list[TensorGroup]:
    """modeling_kimi_k25.py: MoonViT with learned 2D positions."""
    hidden = facts.integer("hidden_size")
    grid = (facts.integer("pos_emb_height"), facts.integer("pos_emb_width"))
    patch = side(facts, "patch_size")
    return [
        *patches(hidden, 3, patch, patch),
        *weight("vision", "position_embeddings", *grid, hidden),
        *blocks("vision", _block(facts), facts.integer("num_hidden_layers")),
        *norms("vision", hidden),
    ]


def _ovis(facts: Facts) -> list[TensorGroup]:
    """modeling_ovis2.py: a ViT with a head over a visual vocabulary."""
    hidden = facts.integer("hidden_size")
    biased = facts.flag("qkv_bias")
    b = _block(facts, qkv_bias=biased, out_bias=biased, mlp_bias=facts.flag("mlp_bias"), gated=True, norm_bias=False)
    words = facts.integer("vocab_size") - facts.integer("num_visual_indicator_tokens")
    return [
        *_flat_patches(facts),
        *weight("vision", "position_embedding", _grid(facts), hidden),
        *blocks("vision", b, facts.integer("num_hidden_layers")),
        *norms("vision", hidden, count=2, bias=False),
        *linear("projector", "head_linear", words, hidden * facts.integer("hidden_stride") ** 2),
        *norms("projector", words),
    ]


def _llama4(facts: Facts) -> list[TensorGroup]:
    """modeling_llama4.py: a ViT with a linear patch embedding, and a pixel-shuffle adapter."""
    hidden, patch = facts.integer("hidden_size"), side(facts, "patch_size")
    outputs = facts.integer("projector_output_dim")
    return [
        *weight("vision", "class_embedding", hidden),
        *weight("vision", "positional_embedding_vlm", _grid(facts) + 1, hidden),
        *linear("vision", "patch_embedding", hidden, facts.integer("num_channels") * patch * patch),
        *blocks("vision", _block(facts), facts.integer("num_hidden_layers")),
        *norms("vision", hidden, count=2),
        *linear("projector", "fc1", facts.integer("projector_input_dim"), facts.integer("intermediate_size")),
        *linear("projector", "fc2", outputs, outputs),
    ]


def _mllama(facts: Facts) -> list[TensorGroup]:
    """modeling_mllama.py: local and global blocks, and embeddings of tiles by aspect ratio."""
    hidden, tiles = facts.integer("hidden_size"), facts.integer("max_num_tiles")
    local, over_all = facts.integer("num_hidden_layers"), facts.integer("num_global_layers")
    positions = _grid(facts) + 1
    ratios = len(facts.items("supported_aspect_ratios") or [0] * 8) + 1
    return [
        *weight("vision", "class_embedding", hidden),
        *_flat_patches(facts, bias=False),
        *weight("vision", "gated_positional_embedding", positions, hidden),
        *weight("vision", "tile_embedding", ratios, tiles * positions * hidden),
        *weight("vision", "tile_positional_embedding", ratios, tiles * hidden, count=2),
        *weight("vision", "gate", 1, count=3 + 2 * over_all),
        *norms("vision", hidden, count=2),
        *blocks("vision", _block(facts, qkv_bias=False, out_bias=False), local + over_all),
    ]


def _gemma4(facts: Facts) -> list[TensorGroup]:
    """modeling_gemma4.py: grouped-query attention with q and k norms, four norms per block, 2D positions."""
    hidden, layers = facts.integer("hidden_size"), facts.integer("num_hidden_layers")
    size, heads = facts.integer("head_dim"), facts.integer("num_attention_heads")
    query, kv = heads * size, size * facts.integer("num_key_value_heads", default=heads)
    inner = facts.integer("intermediate_size")
    return [
        *linear("vision", "input_proj", hidden, 3 * side(facts, "patch_size") ** 2),
        *weight("vision", "position_embedding_table", 2, facts.integer("position_embedding_size"), hidden),
        *linear("vision", "q_proj", query, hidden, count=layers),
        *linear("vision", "kv_proj", kv, hidden, count=2 * layers),
        *linear("vision", "o_proj", hidden, query, count=layers),
        *linear("vision", "gate_up_proj", inner, hidden, count=2 * layers),
        *linear("vision", "down_proj", hidden, inner, count=layers),
        *norms("vision", size, count=2 * layers, bias=False),
        *norms("vision", hidden, count=4 * layers, bias=False),
    ]


TOWERS: Final[dict[str, Callable[[Facts], list[TensorGroup]]]] = {
    "blip_2_vision_model": _blip,
    "clip_vision_model": _clip,
    "exaone4_5_vision": _qwen2_5,
    "gemma4_vision": _gemma4,
    "git_vision_model": _clip,
    "glm4v_moe_vision": _glm,
    "glm4v_vision": _glm,
    "glm5_next_vision": _glm5_next,
    "glm_ocr_vision": _glm_ocr,
    "got_ocr2_vision": _got_ocr2,
    "idefics2_vision": _idefics,
    "idefics3_vision": _idefics,
    "instructblip_vision_model": _blip,
    "instructblipvideo_vision_model": _blip,
    "internvl_vision": _internvl,
    "kimi_k25_vision": _kimi,
    "llama4_vision_model": _llama4,
    "mllama_vision_model": _mllama,
    "ovis2_vision": _ovis,
    "paddleocr_vl_vision": _idefics,
    "pixtral": _pixtral,
    "pp_chart2table_vision": _got_ocr2,
    "qianfan_ocr_vision": _internvl,
    "qwen2_5_omni_vision_encoder": _qwen2_5,
    "qwen2_5_vl_vision": _qwen2_5,
    "qwen2_vl_vision": _qwen2,
    "qwen3_5_moe_vision": _qwen3,
    "qwen3_5_vision": _qwen3,
    "qwen3_omni_moe_vision_encoder": _qwen3,
    "qwen3_vl_moe_vision": _qwen3,
    "qwen3_vl_vision": _qwen3,
    "qwen4_exp_vision": _qwen3,
    "siglip2_vision_model": _siglip2,
    "siglip_vision_model": siglip,
    "smolvlm_vision": _idefics,
    "video_llama_3_vision": _video_llama,
}
