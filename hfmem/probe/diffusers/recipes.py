"""How each class of diffusers is called: inputs by the sizes of a call, and configs to start from.

`H` and `W` are sizes of the latents, `F` frames of the latents, `T` tokens of the text, `B` the batch of the network.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import torch

from hfmem.probe.diffusers.fitting import Call

__all__ = ["DENOISERS", "ENCODERS", "VAES", "Recipe", "Tensors"]

Config = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Tensors:
    """Makes the inputs of one call."""

    call: Call
    config: Mapping[str, Any]
    dtype: torch.dtype

    def __call__(self, *shape: int) -> torch.Tensor:
        return torch.empty(shape, dtype=self.dtype)

    def single(self, *shape: int) -> torch.Tensor:
        """In float32."""
        return torch.empty(shape, dtype=torch.float32)

    def whole(self, *shape: int) -> torch.Tensor:
        """Of integers."""
        return torch.zeros(shape, dtype=torch.long)

    def flags(self, *shape: int) -> torch.Tensor:
        """Of booleans."""
        return torch.ones(shape, dtype=torch.bool)


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """How a class is called.

    Attributes:
        inputs: keyword arguments of a call.
        config: keys that differ from the defaults of the class.
        video: whether the number of frames is free.
        text: whether the number of text tokens is free; otherwise its number.
        method: the method that is called.
        scalar: what the class reads from a tensor of its inputs.
        even: what height and width of the latents are multiples of.
        frames: numbers of frames that are measured.
        keys: how the sizes begin that are varied; None: all.
    """

    inputs: Callable[[Tensors, Call, Mapping[str, Any]], dict[str, Any]]
    config: Config = field(default_factory=dict)
    video: bool = False
    text: int | None = None
    method: str = "forward"
    scalar: Callable[[Call], Any] | None = None
    even: int = 8
    keys: tuple[str, ...] | None = None
    frames: tuple[int, int] = (3, 5)


def _packed(t: Tensors, c: Call, g: Mapping[str, Any], **more: Any) -> dict[str, Any]:
    """Latents as patches of 2 x 2 in a row, with positions."""
    n, axes = c.height * c.width // 4, len(g.get("axes_dims_rope") or (1, 2, 3))
    return {
        "hidden_states": t(c.batch, n, g["in_channels"]),
        "encoder_hidden_states": t(c.batch, c.text, g["joint_attention_dim"]),
        "timestep": t(c.batch),
        "img_ids": t(n, axes),
        "txt_ids": t(c.text, axes),
        **more,
    }


def _flux(t: Tensors, c: Call, g: Mapping[str, Any]) -> dict[str, Any]:
    guided = {"guidance": t.single(c.batch)} if g.get("guidance_embeds") else {}
    return _packed(t, c, g, pooled_projections=t(c.batch, g["pooled_projection_dim"]), **guided)


def _flux2(t: Tensors, c: Call, g: Mapping[str, Any]) -> dict[str, Any]:
    # patches of the latents are four channels each already; positions for each image of the batch
    n = c.height * c.width // 4
    guided = {"guidance": t.single(c.batch)} if g.get("guidance_embeds") else {}
    return {
        "hidden_states": t(c.batch, n, g["in_channels"]),
        "encoder_hidden_states": t(c.batch, c.text, g["joint_attention_dim"]),
        "timestep": t(c.batch),
        "img_ids": t.whole(c.batch, n, 4),
        "txt_ids": t.whole(c.batch, c.text, 4),
        **guided,
    }


def _image(text: str, **more: Callable[[Tensors, Call, Mapping[str, Any]], Any]) -> Callable[..., dict[str, Any]]:
    """Latents of an image, text in as many dimensions as the key `text` says, and more inputs."""

    def inputs(t: Tensors, c: Call, g: Mapping[str, Any]) -> dict[str, Any]:
        return {
            "hidden_states": t(c.batch, g["in_channels"], c.height, c.width),
            "encoder_hidden_states": t(c.batch, c.text, g[text]),
            "timestep": t(c.batch),
            **{name: make(t, c, g) for name, make in more.items()},
        }

    return inputs


def _video(text: str, **more: Callable[[Tensors, Call, Mapping[str, Any]], Any]) -> Callable[..., dict[str, Any]]:
    def inputs(t: Tensors, c: Call, g: Mapping[str, Any]) -> dict[str, Any]:
        return {
            "hidden_states": t(c.batch, g["in_channels"], c.frames, c.height, c.width),
            "encoder_hidden_states": t(c.batch, c.text, g[text]),
            "timestep": t.whole(c.batch),
            **{name: make(t, c, g) for name, make in more.items()},
        }

    return inputs


def _pair(t: Tensors, c: Call, _g: Mapping[str, Any]) -> torch.Tensor:
    return t(c.batch, 2)


def _mask(t: Tensors, c: Call, _g: Mapping[str, Any]) -> torch.Tensor:
    return t.whole(c.batch, c.text)


def _true(t: Tensors, c: Call, _g: Mapping[str, Any]) -> torch.Tensor:
    return t.flags(c.batch, c.text)


def _cogvideo(t: Tensors, c: Call, g: Mapping[str, Any]) -> dict[str, Any]:
    found = {
        "hidden_states": t(c.batch, c.frames, g["in_channels"], c.height, c.width),
        "encoder_hidden_states": t(c.batch, c.text, g["text_embed_dim"]),
        "timestep": t.whole(c.batch),
    }
    if g.get("use_rotary_positional_embeddings"):
        n = c.frames * c.height * c.width // 4 // (g.get("patch_size_t") or 1)
        found["image_rotary_emb"] = tuple(t.single(n, g["attention_head_dim"]) for _ in range(2))
    return found


def _pixart(t: Tensors, c: Call, g: Mapping[str, Any]) -> dict[str, Any]:
    more = g["use_additional_conditions"]
    if more is None:
        more = g["sample_size"] == 128
    conditions = (
        {"resolution": t(c.batch, 2), "aspect_ratio": t(c.batch, 1)}
        if more
        else {"resolution": None, "aspect_ratio": None}
    )
    return {
        "hidden_states": t(c.batch, g["in_channels"], c.height, c.width),
        "encoder_hidden_states": t(c.batch, c.text, g["caption_channels"]),
        "timestep": t(c.batch),
        "added_cond_kwargs": conditions,
        "encoder_attention_mask": t.whole(c.batch, c.text),
    }


def _hunyuandit(t: Tensors, c: Call, g: Mapping[str, Any]) -> dict[str, Any]:
    n = c.height * c.width // 4
    return {
        "hidden_states": t(c.batch, g["in_channels"], c.height, c.width),
        "timestep": t(c.batch),
        "encoder_hidden_states": t(c.batch, 77, g["cross_attention_dim"]),
        "text_embedding_mask": t.whole(c.batch, 77),
        "encoder_hidden_states_t5": t(c.batch, 256, g["cross_attention_dim_t5"]),
        "text_embedding_mask_t5": t.whole(c.batch, 256),
        "image_meta_size": t(c.batch, 6),
        "style": t.whole(c.batch),
        "image_rotary_emb": tuple(t.single(n, g["attention_head_dim"]) for _ in range(2)),
    }


def _lumina_next(t: Tensors, c: Call, g: Mapping[str, Any]) -> dict[str, Any]:
    half = g["hidden_size"] // g["num_attention_heads"] // 2
    return {
        "hidden_states": t(c.batch, g["in_channels"], c.height, c.width),
        "timestep": t(c.batch),
        "encoder_hidden_states": t(c.batch, c.text, g["cross_attention_dim"]),
        "encoder_mask": t.whole(c.batch, c.text),
        "image_rotary_emb": torch.empty(384, 384, half, dtype=torch.complex64),
        "cross_attention_kwargs": {},
    }


def _chroma(t: Tensors, c: Call, g: Mapping[str, Any]) -> dict[str, Any]:
    return _packed(t, c, g, attention_mask=t.flags(c.batch, c.text + c.height * c.width // 4))


def _qwen(t: Tensors, c: Call, g: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "hidden_states": t(c.batch, c.height * c.width // 4, g["in_channels"]),
        "encoder_hidden_states": t(c.batch, c.text, g["joint_attention_dim"]),
        "timestep": t(c.batch),
        "img_shapes": [[(1, c.height // 2, c.width // 2)]] * c.batch,
    }


def _ltx(t: Tensors, c: Call, g: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "hidden_states": t(c.batch, c.frames * c.height * c.width, g["in_channels"]),
        "encoder_hidden_states": t(c.batch, c.text, g["caption_channels"]),
        "timestep": t.whole(c.batch),
        "encoder_attention_mask": t.whole(c.batch, c.text),
        "num_frames": c.frames,
        "height": c.height,
        "width": c.width,
        "rope_interpolation_scale": (0.32, 32, 32),
    }


def _kandinsky5(t: Tensors, c: Call, g: Mapping[str, Any]) -> dict[str, Any]:
    channels = g["in_visual_dim"] * 2 + 1 if g["visual_cond"] else g["in_visual_dim"]
    return {
        "hidden_states": t(c.batch, c.frames, c.height, c.width, channels),
        "encoder_hidden_states": t(c.batch, c.text, g["in_text_dim"]),
        "timestep": t(c.batch),
        "pooled_projections": t(c.batch, g["in_text_dim2"]),
        "visual_rope_pos": [torch.arange(c.frames), torch.arange(c.height // 2), torch.arange(c.width // 2)],
        "text_rope_pos": torch.arange(c.text),
    }


def _z_image(t: Tensors, c: Call, g: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "x": [t(g["in_channels"], 1, c.height, c.width) for _ in range(c.batch)],
        "t": t(c.batch),
        "cap_feats": [t(c.text, g["cap_feat_dim"]) for _ in range(c.batch)],
    }


def _unet(t: Tensors, c: Call, g: Mapping[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {
        "sample": t(c.batch, g["in_channels"], c.height, c.width),
        "timestep": t.whole(),
        "encoder_hidden_states": t(c.batch, c.text, g.get("encoder_hid_dim") or g["cross_attention_dim"]),
    }
    if g.get("addition_embed_type") == "text_time":
        ids = 6 if g["projection_class_embeddings_input_dim"] != 2560 else 5
        pooled = g["projection_class_embeddings_input_dim"] - ids * g["addition_time_embed_dim"]
        found["added_cond_kwargs"] = {"text_embeds": t(c.batch, pooled), "time_ids": t(c.batch, ids)}
    if g.get("num_class_embeds"):
        found["class_labels"] = t.whole(c.batch)
    return found


def _controlnet(t: Tensors, c: Call, g: Mapping[str, Any]) -> dict[str, Any]:
    return {
        **_unet(t, c, g),
        "controlnet_cond": t(c.batch, g["conditioning_channels"], c.height * 8, c.width * 8),
    }


def _flux_controlnet(t: Tensors, c: Call, g: Mapping[str, Any]) -> dict[str, Any]:
    return {**_flux(t, c, g), "controlnet_cond": t(c.batch, c.height * c.width // 4, g["in_channels"])}


def _sd3(t: Tensors, c: Call, g: Mapping[str, Any]) -> dict[str, Any]:
    return {
        **_image("joint_attention_dim")(t, c, g),
        "pooled_projections": t(c.batch, g["pooled_projection_dim"]),
    }


def _unet_frames(t: Tensors, c: Call, g: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "sample": t(c.batch, g["in_channels"], c.frames, c.height, c.width),
        "timestep": t.whole(),
        "encoder_hidden_states": t(c.batch, c.text, g["cross_attention_dim"]),
    }


def _svd(t: Tensors, c: Call, g: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "sample": t(c.batch, c.frames, g["in_channels"], c.height, c.width),
        "timestep": t.whole(),
        "encoder_hidden_states": t(c.batch, 1, g["cross_attention_dim"]),
        "added_time_ids": t(c.batch, 3),
    }


def _cascade(t: Tensors, c: Call, g: Mapping[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {
        "sample": t(c.batch, g["in_channels"], c.height, c.width),
        "timestep_ratio": t(c.batch),
        "clip_text_pooled": t(c.batch, 1, g["clip_text_pooled_in_channels"]),
    }
    if g.get("clip_text_in_channels"):
        found["clip_text"] = t(c.batch, c.text, g["clip_text_in_channels"])
    if g.get("clip_image_in_channels"):
        found["clip_img"] = t(c.batch, 1, g["clip_image_in_channels"])
    if g.get("effnet_in_channels"):
        found["effnet"] = t(c.batch, g["effnet_in_channels"], c.height * 24 // 256 or 1, c.width * 24 // 256 or 1)
    return found


def _hunyuan(t: Tensors, c: Call, g: Mapping[str, Any]) -> dict[str, Any]:
    found = {
        **_video("text_embed_dim", encoder_attention_mask=_mask)(t, c, g),
        "pooled_projections": t(c.batch, g["pooled_projection_dim"]),
    }
    if g["guidance_embeds"]:
        found["guidance"] = t(c.batch)
    return found


def _cosmos(t: Tensors, c: Call, g: Mapping[str, Any]) -> dict[str, Any]:
    return {
        **_video("text_embed_dim")(t, c, g),
        "hidden_states": t(c.batch, g["in_channels"], c.frames, c.height, c.width),
        "fps": 24,
        "padding_mask": t(1, 1, c.height * 8, c.width * 8),
    }


def _allegro(t: Tensors, c: Call, g: Mapping[str, Any]) -> dict[str, Any]:
    return {
        **_video("caption_channels", encoder_attention_mask=_mask)(t, c, g),
        "attention_mask": t.whole(c.batch, c.frames, c.height, c.width),
    }


def _audio(t: Tensors, c: Call, g: Mapping[str, Any]) -> dict[str, Any]:
    length = c.height * c.width
    return {
        "hidden_states": t(c.batch, g["in_channels"], length),
        "timestep": t(c.batch),
        "encoder_hidden_states": t(c.batch, c.text, g["cross_attention_input_dim"]),
        "global_hidden_states": t(c.batch, 1, g["global_states_input_dim"]),
        "rotary_embedding": tuple(t.single(length + 1, g["attention_head_dim"] // 2) for _ in range(2)),
    }


def _prior(t: Tensors, c: Call, g: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "hidden_states": t(c.batch, g["embedding_dim"]),
        "timestep": t.whole(),
        "proj_embedding": t(c.batch, g["embedding_dim"]),
        "encoder_hidden_states": t(c.batch, g["num_embeddings"], g["embedding_dim"]),
    }


def _sizes(t: Tensors, c: Call, g: Mapping[str, Any], text: str) -> dict[str, Any]:
    return _image(text, original_size=_pair, target_size=_pair, crop_coords=_pair)(t, c, g)


def _vace(t: Tensors, c: Call, g: Mapping[str, Any]) -> dict[str, Any]:
    control = t(c.batch, g["vace_in_channels"], c.frames, c.height, c.width)
    return {**_video("text_dim")(t, c, g), "control_hidden_states": control}


def _krea2(t: Tensors, c: Call, g: Mapping[str, Any]) -> dict[str, Any]:
    n = c.height * c.width // 4
    return {
        "hidden_states": t(c.batch, n, g["in_channels"]),
        "encoder_hidden_states": t(c.batch, c.text, g["num_text_layers"], g["text_hidden_dim"]),
        "timestep": t(c.batch),
        "position_ids": t.whole(c.text + n, 3),
    }


def _ernie(t: Tensors, c: Call, g: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "hidden_states": t(c.batch, g["in_channels"], c.height // 2, c.width // 2),
        "timestep": t(c.batch),
        "text_bth": t(c.batch, c.text, g["text_in_dim"]),
        "text_lens": t.whole(c.batch),
    }


def _hunyuan_image(t: Tensors, c: Call, g: Mapping[str, Any]) -> dict[str, Any]:
    found = _image("text_embed_dim", encoder_attention_mask=_mask)(t, c, g)
    if g["guidance_embeds"]:
        found["guidance"] = t(c.batch)
    return found


def _hunyuan15(t: Tensors, c: Call, g: Mapping[str, Any]) -> dict[str, Any]:
    return {
        **_video("text_embed_dim", encoder_attention_mask=_mask)(t, c, g),
        "encoder_hidden_states_2": t(c.batch, 256, g["text_embed_2_dim"]),
        "encoder_attention_mask_2": t.whole(c.batch, 256),
        "image_embeds": t(c.batch, 729, g["image_embed_dim"]),
    }


def _joy(t: Tensors, c: Call, g: Mapping[str, Any]) -> dict[str, Any]:
    return _video("text_dim")(t, c, g)


def _bria(t: Tensors, c: Call, g: Mapping[str, Any]) -> dict[str, Any]:
    return _packed(t, c, g)


def _fibo(t: Tensors, c: Call, g: Mapping[str, Any]) -> dict[str, Any]:
    layers = [t(c.batch, c.text, g["text_encoder_dim"]) for _ in range(g["num_layers"] + g["num_single_layers"])]
    return _packed(t, c, g, text_encoder_layers=layers)


def _longcat(t: Tensors, c: Call, g: Mapping[str, Any]) -> dict[str, Any]:
    return _packed(t, c, g)


def _text(c: Call) -> int:
    return c.text


_SD = {
    "block_out_channels": (320, 640, 1280, 1280),
    "sample_size": 64,
    "cross_attention_dim": 768,
    "attention_head_dim": 8,
}
_SDXL = {
    "block_out_channels": (320, 640, 1280),
    "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
    "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
    "transformer_layers_per_block": (1, 2, 10),
    "attention_head_dim": (5, 10, 20),
    "cross_attention_dim": 2048,
    "use_linear_projection": True,
    "addition_embed_type": "text_time",
    "addition_time_embed_dim": 256,
    "projection_class_embeddings_input_dim": 2816,
}
_REFINER = {
    **_SDXL,
    "block_out_channels": (384, 768, 1536, 1536),
    "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"),
    "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
    "transformer_layers_per_block": 4,
    "attention_head_dim": (6, 12, 24, 24),
    "cross_attention_dim": 1280,
    "projection_class_embeddings_input_dim": 2560,
}
_KOLORS = {
    **_SDXL,
    "encoder_hid_dim": 4096,
    "encoder_hid_dim_type": "text_proj",
    "projection_class_embeddings_input_dim": 5632,
}
_SD2 = {**_SD, "attention_head_dim": (5, 10, 20, 20), "cross_attention_dim": 1024, "use_linear_projection": True}
_FOUR_D = {"down_block_types": ("DownEncoderBlock2D",) * 4}
_FOUR_U = {"up_block_types": ("UpDecoderBlock2D",) * 4}
_KL = {**_FOUR_D, **_FOUR_U, "block_out_channels": (128, 256, 512, 512), "layers_per_block": 2, "sample_size": 512}

DENOISERS: Final[dict[str, tuple[Recipe, ...]]] = {
    "FluxTransformer2DModel": (
        Recipe(inputs=_flux, config={"guidance_embeds": True}),
        Recipe(inputs=_flux, config={"guidance_embeds": False}),
    ),
    "UNet2DConditionModel": tuple(
        Recipe(inputs=_unet, config=config, even=16, keys=("block_out_channels",))
        for config in (_SD, _SDXL, _SD2, _KOLORS, _REFINER)
    ),
    "WanTransformer3DModel": (Recipe(inputs=_video("text_dim"), video=True),),
    "SD3Transformer2DModel": (
        Recipe(inputs=_sd3, config={"num_attention_heads": 24, "num_layers": 24, "caption_projection_dim": 1536}),
        Recipe(
            inputs=_sd3,
            config={
                "num_attention_heads": 24,
                "num_layers": 24,
                "caption_projection_dim": 1536,
                "qk_norm": "rms_norm",
                "dual_attention_layers": (0, 1),
            },
        ),
        Recipe(
            inputs=_sd3,
            config={"num_attention_heads": 38, "num_layers": 38, "caption_projection_dim": 2432, "qk_norm": "rms_norm"},
        ),
    ),
    "QwenImageTransformer2DModel": (Recipe(inputs=_qwen),),
    "HunyuanVideoTransformer3DModel": (Recipe(inputs=_hunyuan, video=True, scalar=_text),),
    "CogVideoXTransformer3DModel": (
        Recipe(
            inputs=_cogvideo,
            config={"num_attention_heads": 48, "num_layers": 42, "use_rotary_positional_embeddings": True},
            video=True,
            text=226,
        ),
        Recipe(inputs=_cogvideo, video=True, text=226),
    ),
    "LTXVideoTransformer3DModel": (Recipe(inputs=_ltx, video=True),),
    "ZImageTransformer2DModel": (Recipe(inputs=_z_image),),
    "Flux2Transformer2DModel": (
        Recipe(inputs=_flux2, config={"guidance_embeds": True}),
        Recipe(inputs=_flux2, config={"guidance_embeds": False}),
    ),
    "MochiTransformer3DModel": (Recipe(inputs=_video("text_embed_dim", encoder_attention_mask=_true), video=True),),
    "SanaTransformer2DModel": (Recipe(inputs=_image("caption_channels", encoder_attention_mask=_mask)),),
    "PixArtTransformer2DModel": (
        Recipe(inputs=_pixart, config={"caption_channels": 4096}),
        Recipe(inputs=_pixart, config={"caption_channels": 4096, "use_additional_conditions": False}),
    ),
    "ChromaTransformer2DModel": (Recipe(inputs=_chroma),),
    "CogView4Transformer2DModel": (Recipe(inputs=lambda t, c, g: _sizes(t, c, g, "text_embed_dim")),),
    "Lumina2Transformer2DModel": (
        Recipe(
            inputs=_image("cap_feat_dim", encoder_attention_mask=_mask), config={"cap_feat_dim": 2304}, scalar=_text
        ),
    ),
    "StableCascadeUNet": (),
    "AuraFlowTransformer2DModel": (Recipe(inputs=_image("joint_attention_dim")),),
    "HunyuanDiT2DModel": (
        Recipe(
            inputs=_hunyuandit,
            config={
                "in_channels": 4,
                "patch_size": 2,
                "sample_size": 128,
                "hidden_size": 1408,
                "num_layers": 40,
                "mlp_ratio": 4.3637,
                "text_len_t5": 256,
            },
            text=333,
        ),
    ),
    "UNetSpatioTemporalConditionModel": (
        Recipe(inputs=_svd, video=True, text=1, even=16, keys=("block_out_channels",)),
    ),
    "CogView3PlusTransformer2DModel": (Recipe(inputs=lambda t, c, g: _sizes(t, c, g, "text_embed_dim")),),
    "ControlNetModel": tuple(
        Recipe(
            inputs=_controlnet,
            config={k: v for k, v in config.items() if k not in ("up_block_types", "sample_size")},
            even=16,
            keys=("block_out_channels",),
        )
        for config in (_SD, _SDXL)
    ),
    "FluxControlNetModel": (Recipe(inputs=_flux_controlnet, config={"num_layers": 5, "num_single_layers": 10}),),
    "SkyReelsV2Transformer3DModel": (Recipe(inputs=_video("text_dim"), video=True),),
    "WanVACETransformer3DModel": (Recipe(inputs=_vace, video=True),),
    "ChronoEditTransformer3DModel": (Recipe(inputs=_video("text_dim"), video=True),),
    "SanaVideoTransformer3DModel": (
        Recipe(inputs=_video("caption_channels", encoder_attention_mask=_mask), video=True),
    ),
    "CosmosTransformer3DModel": (
        Recipe(inputs=_cosmos, config={"in_channels": 17, "extra_pos_embed_type": None}, video=True),
        Recipe(inputs=_cosmos, config={"in_channels": 17}, video=True),
    ),
    "Kandinsky5Transformer3DModel": (Recipe(inputs=_kandinsky5, video=True),),
    "HunyuanImageTransformer2DModel": (Recipe(inputs=_hunyuan_image, scalar=_text),),
    "HunyuanVideo15Transformer3DModel": (Recipe(inputs=_hunyuan15, video=True, scalar=_text),),
    "LatteTransformer3DModel": (
        Recipe(
            inputs=_video("caption_channels"),
            config={
                "in_channels": 4,
                "out_channels": 8,
                "attention_head_dim": 72,
                "num_layers": 28,
                "patch_size": 2,
                "attention_bias": True,
                "caption_channels": 4096,
                "cross_attention_dim": 1152,
                "activation_fn": "gelu-approximate",
                "norm_type": "ada_norm_single",
                "norm_elementwise_affine": False,
                "num_embeds_ada_norm": 1000,
            },
            video=True,
        ),
    ),
    "LuminaNextDiT2DModel": (Recipe(inputs=_lumina_next),),
    "ConsisIDTransformer3DModel": (
        Recipe(
            inputs=_cogvideo,
            config={"num_attention_heads": 48, "num_layers": 42, "use_rotary_positional_embeddings": True},
            video=True,
            text=226,
        ),
    ),
    "PRXTransformer2DModel": (Recipe(inputs=_image("context_in_dim")),),
    "DiTTransformer2DModel": (
        Recipe(
            inputs=lambda t, c, g: {
                "hidden_states": t(c.batch, g["in_channels"], c.height, c.width),
                "timestep": t.whole(c.batch),
                "class_labels": t.whole(c.batch),
            },
            text=0,
        ),
    ),
    "OvisImageTransformer2DModel": (Recipe(inputs=_longcat),),
    "LongCatImageTransformer2DModel": (Recipe(inputs=_longcat),),
    "BriaTransformer2DModel": (Recipe(inputs=_bria),),
    "BriaFiboTransformer2DModel": (Recipe(inputs=_fibo),),
    "EasyAnimateTransformer3DModel": (
        Recipe(
            inputs=_video("text_embed_dim"), config={"in_channels": 16, "out_channels": 16, "patch_size": 2}, video=True
        ),
    ),
    "AllegroTransformer3DModel": (Recipe(inputs=_allegro, video=True),),
    "StableAudioDiTModel": (Recipe(inputs=_audio),),
    "PriorTransformer": (Recipe(inputs=_prior, text=77),),
    "UNet3DConditionModel": (Recipe(inputs=_unet_frames, video=True, even=16, keys=("block_out_channels",)),),
    "UNetMotionModel": (
        Recipe(
            inputs=_unet_frames, config={"cross_attention_dim": 768}, video=True, even=16, keys=("block_out_channels",)
        ),
    ),
    "UNet2DModel": (
        Recipe(
            inputs=lambda t, c, g: {"sample": t(c.batch, g["in_channels"], c.height, c.width), "timestep": t.whole()},
            config={"block_out_channels": (128, 256, 512, 512), "sample_size": 64},
            text=0,
            even=16,
            keys=("block_out_channels",),
        ),
    ),
    "Kandinsky3UNet": (
        Recipe(
            inputs=lambda t, c, g: {
                "sample": t(c.batch, g["in_channels"], c.height, c.width),
                "timestep": t.whole(),
                "encoder_hidden_states": t(c.batch, c.text, g["encoder_hid_dim"]),
            },
            even=16,
            keys=("block_out_channels",),
        ),
    ),
    "Krea2Transformer2DModel": (Recipe(inputs=_krea2),),
    "ErnieImageTransformer2DModel": (Recipe(inputs=_ernie, scalar=_text),),
    "JoyImageEditTransformer3DModel": (Recipe(inputs=_joy, video=True),),
}


def _latents(key: str, video: bool, still: bool) -> Callable[[Tensors, Call, Mapping[str, Any]], dict[str, Any]]:
    def inputs(t: Tensors, c: Call, g: Mapping[str, Any]) -> dict[str, Any]:
        frames = (c.frames,) if video else (1,) if still else ()
        return {"z": t(c.batch, g[key], *frames, c.height, c.width)}

    return inputs


def _pixels(
    scale: int, step: int, video: bool, still: bool
) -> Callable[[Tensors, Call, Mapping[str, Any]], dict[str, Any]]:
    def inputs(t: Tensors, c: Call, g: Mapping[str, Any]) -> dict[str, Any]:
        frames = ((c.frames - 1) * step + 1,) if video else (1,) if still else ()
        return {
            "x": t(
                c.batch,
                3 if g.get("patch_size") else g.get("in_channels") or 3,
                *frames,
                c.height * scale,
                c.width * scale,
            )
        }

    return inputs


def _vae(  # noqa: PLR0913 - what VAEs differ in
    key: str,
    config: Config | None = None,
    *,
    frames: tuple[int, int] = (3, 5),
    video: bool = False,
    still: bool = False,
    scale: int = 8,
    step: int = 4,
    keys: tuple[str, ...] = (),
) -> tuple[Recipe, ...]:
    more = config or {}
    return (
        Recipe(
            inputs=_latents(key, video, still),
            config=more,
            video=video,
            method="decode",
            text=0,
            keys=keys,
            frames=frames,
        ),
        Recipe(
            inputs=_pixels(scale, step, video, still),
            config=more,
            video=video,
            method="encode",
            text=0,
            keys=keys,
            frames=frames,
        ),
    )


VAES: Final[dict[str, tuple[Recipe, ...]]] = {
    "AutoencoderKL": (
        *_vae("latent_channels", _KL, keys=("block_out_channels",)),
        *_vae(
            "latent_channels",
            {**_KL, "latent_channels": 16, "use_quant_conv": False, "use_post_quant_conv": False, "sample_size": 1024},
        ),
    ),
    "AutoencoderKLWan": (
        *_vae("z_dim", video=True),
        *_vae(
            "z_dim",
            {
                "base_dim": 160,
                "decoder_base_dim": 256,
                "z_dim": 48,
                "is_residual": True,
                "in_channels": 12,
                "out_channels": 12,
                "patch_size": 2,
                "latents_mean": [0.0] * 48,
                "latents_std": [1.0] * 48,
            },
            video=True,
            scale=8,
        ),
    ),
    "AutoencoderKLQwenImage": _vae("z_dim", still=True),
    "AutoencoderKLHunyuanVideo": _vae("latent_channels", video=True, frames=(2, 4)),
    "AutoencoderKLFlux2": _vae("latent_channels"),
    "AutoencoderDC": _vae(
        "latent_channels",
        {
            "encoder_block_types": ("ResBlock",) * 3 + ("EfficientViTBlock",) * 3,
            "decoder_block_types": ("ResBlock",) * 3 + ("EfficientViTBlock",) * 3,
            "encoder_qkv_multiscales": ((), (), (), (5,), (5,), (5,)),
            "decoder_qkv_multiscales": ((), (), (), (5,), (5,), (5,)),
            "encoder_layers_per_block": (2, 2, 2, 3, 3, 3),
            "decoder_layers_per_block": (3, 3, 3, 3, 3, 3),
            "downsample_block_type": "conv",
            "upsample_block_type": "interpolate",
        },
        scale=32,
    ),
    "AutoencoderKLCogVideoX": _vae("latent_channels", video=True, frames=(7, 11)),
    "AutoencoderKLLTXVideo": _vae("latent_channels", video=True, scale=32, step=8),
    "AutoencoderKLMochi": _vae("latent_channels", video=True, step=6),
    "AutoencoderTiny": _vae("latent_channels"),
    "AsymmetricAutoencoderKL": _vae("latent_channels"),
    "AutoencoderKLTemporalDecoder": (
        Recipe(
            inputs=lambda t, c, g: {"z": t(c.frames, g["latent_channels"], c.height, c.width), "num_frames": c.frames},
            config={**_FOUR_D, "block_out_channels": (128, 256, 512, 512), "layers_per_block": 2},
            video=True,
            method="decode",
            text=0,
            keys=(),
        ),
    ),
    "AutoencoderKLAllegro": _vae("latent_channels", video=True),
    "AutoencoderKLCosmos": _vae("latent_channels", video=True, step=8),
    "AutoencoderKLMagvit": _vae("latent_channels", video=True),
    "AutoencoderKLHunyuanVideo15": _vae("latent_channels", video=True, scale=16),
    "AutoencoderKLHunyuanImageRefiner": _vae("latent_channels", video=True, scale=16),
    "AutoencoderKLHunyuanImage": _vae(
        "latent_channels",
        {
            "in_channels": 3,
            "out_channels": 3,
            "latent_channels": 64,
            "block_out_channels": (128, 256, 512, 512, 1024, 1024),
            "layers_per_block": 2,
            "spatial_compression_ratio": 32,
            "sample_size": 384,
            "scaling_factor": 0.75,
        },
        scale=32,
    ),
    "AutoencoderKLKVAE": _vae("z_channels"),
    "AutoencoderKLLTX2Video": _vae("latent_channels", video=True, scale=32, step=8),
    "VQModel": _vae("latent_channels"),
    "AutoencoderOobleck": (
        Recipe(
            inputs=lambda t, c, g: {"z": t(c.batch, g["decoder_input_channels"], c.height * c.width)},
            method="decode",
            text=0,
            keys=(),
        ),
    ),
    "AutoencoderVidTok": _vae("z_channels", video=True),
    "ConsistencyDecoderVAE": (),
}

_CLIP = {"hidden_act": "quick_gelu"}


def _ids(t: Tensors, c: Call, _g: Mapping[str, Any]) -> dict[str, Any]:
    return {"input_ids": t.whole(c.batch, c.text)}


def _masked(t: Tensors, c: Call, _g: Mapping[str, Any]) -> dict[str, Any]:
    return {"input_ids": t.whole(c.batch, c.text), "attention_mask": t.whole(c.batch, c.text)}


ENCODERS: Final[dict[str, tuple[Recipe, ...]]] = {
    "CLIPTextModel": (
        Recipe(
            inputs=_ids,
            config={"hidden_size": 768, "intermediate_size": 3072, "num_attention_heads": 12, "num_hidden_layers": 12},
            text=77,
        ),
    ),
    "CLIPTextModelWithProjection": (
        Recipe(
            inputs=_ids,
            config={
                "hidden_size": 1280,
                "intermediate_size": 5120,
                "num_attention_heads": 20,
                "num_hidden_layers": 32,
                "projection_dim": 1280,
                "hidden_act": "gelu",
            },
            text=77,
        ),
    ),
    "T5EncoderModel": (
        Recipe(
            inputs=_ids,
            config={
                "d_model": 4096,
                "d_ff": 10240,
                "d_kv": 64,
                "num_heads": 64,
                "num_layers": 24,
                "feed_forward_proj": "gated-gelu",
                "vocab_size": 32128,
            },
        ),
    ),
    "UMT5EncoderModel": (
        Recipe(
            inputs=_masked,
            config={
                "d_model": 4096,
                "d_ff": 10240,
                "d_kv": 64,
                "num_heads": 64,
                "num_layers": 24,
                "feed_forward_proj": "gated-gelu",
                "vocab_size": 256384,
            },
        ),
    ),
    "Qwen3ForCausalLM": (
        Recipe(
            inputs=_masked,
            config={
                "hidden_size": 2560,
                "intermediate_size": 9728,
                "num_attention_heads": 32,
                "num_key_value_heads": 8,
                "head_dim": 128,
                "num_hidden_layers": 36,
            },
        ),
    ),
    "Qwen3Model": (
        Recipe(
            inputs=_masked,
            config={
                "hidden_size": 2560,
                "intermediate_size": 9728,
                "num_attention_heads": 32,
                "num_key_value_heads": 8,
                "head_dim": 128,
                "num_hidden_layers": 36,
            },
        ),
    ),
    "Gemma2Model": (
        Recipe(
            inputs=_masked,
            config={
                "hidden_size": 2304,
                "intermediate_size": 9216,
                "num_attention_heads": 8,
                "num_key_value_heads": 4,
                "head_dim": 256,
                "num_hidden_layers": 26,
            },
        ),
    ),
    "LlamaModel": (
        Recipe(
            inputs=_masked,
            config={
                "hidden_size": 4096,
                "intermediate_size": 14336,
                "num_attention_heads": 32,
                "num_key_value_heads": 8,
                "num_hidden_layers": 32,
                "head_dim": 128,
            },
        ),
    ),
    "BertModel": (
        Recipe(
            inputs=_masked,
            config={"hidden_size": 1024, "intermediate_size": 4096, "num_attention_heads": 16, "num_hidden_layers": 24},
        ),
    ),
}
