"""How each class of diffusers is called: what it is given (`inputs`), and configs to start from."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final

from hfmem.probe.diffusers import inputs
from hfmem.probe.diffusers.fitting import Call
from hfmem.probe.diffusers.inputs import Config, Tensors

__all__ = ["DENOISERS", "ENCODERS", "OLDER", "VAES", "Recipe"]


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
        tokens: whether text is all that it is given.
        texts: numbers of text tokens that are measured.
        keys: how the sizes begin that are varied; None: all.
        length: frames of the latents, where their number is not free.
        squared: whether it holds a mask of all tokens by all tokens.
        square: whether height and width are one.
        still: whether it is given one frame of a video.
        alone: whether it is measured for one at a time: it goes through a batch one by one, or takes no larger one.
        chosen: the key that says to how many experts each token is sent, where the class sends them by their number:
            all to the same ones, which takes the most.
        most, over: monomials of a call up to which, and above which, it is measured.
        calls, checked: the calls that are measured, and those that are compared; () for the usual ones.
        stairs: whether what it takes rises in stairs, as it cuts what is too large: what is measured is raised so that
            no recorded call is above it, and may be as much too high as this share; 0 for a class without.
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
    tokens: bool = False
    texts: tuple[int, int] = (64, 96)
    length: int = 1
    squared: bool = False
    square: bool = False
    still: bool = False
    alone: bool = False
    chosen: str = ""
    most: Mapping[str, int] = field(default_factory=dict)
    over: Mapping[str, int] = field(default_factory=dict)
    calls: tuple[Call, ...] = ()
    checked: tuple[Call, ...] = ()
    stairs: float = 0.0


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
_BLOCK, _ATTENDING = ["SDCascadeResBlock", "SDCascadeTimestepBlock"], "SDCascadeAttnBlock"
_PRIOR = {
    "block_types_per_layer": ((*_BLOCK, _ATTENDING),) * 2,
    "clip_image_in_channels": 768,
    "clip_text_in_channels": 1280,
    "switch_level": (False,),
}
_DECODER = {
    "block_out_channels": (320, 640, 1280, 1280),
    "block_types_per_layer": (tuple(_BLOCK), tuple(_BLOCK), (*_BLOCK, _ATTENDING), (*_BLOCK, _ATTENDING)),
    "conditioning_dim": 1280,
    "down_blocks_repeat_mappers": (1, 1, 1, 1),
    "down_num_layers_per_block": (2, 6, 28, 6),
    "dropout": (0, 0, 0.1, 0.1),
    "effnet_in_channels": 16,
    "in_channels": 4,
    "num_attention_heads": (0, 0, 20, 20),
    "out_channels": 4,
    "patch_size": 2,
    "pixel_mapper_in_channels": 3,
    "timestep_conditioning_type": ("sca",),
    "up_blocks_repeat_mappers": (3, 3, 2, 2),
    "up_num_layers_per_block": (6, 28, 6, 2),
}
_FOUR_D = {"down_block_types": ("DownEncoderBlock2D",) * 4}
_FOUR_U = {"up_block_types": ("UpDecoderBlock2D",) * 4}
_SVD = {**_FOUR_D, "block_out_channels": (128, 256, 512, 512), "layers_per_block": 2}
_KL = {**_FOUR_D, **_FOUR_U, "block_out_channels": (128, 256, 512, 512), "layers_per_block": 2, "sample_size": 512}

_HIDREAM = {
    "patch_size": 2,
    "in_channels": 16,
    "caption_channels": [4096, 4096],
    "axes_dims_rope": (64, 32, 32),
    "llama_layers": [*range(32), *[31] * 16],
}
_OMNIGEN = {"rope_scaling": {"type": "su", "long_factor": [1.0] * 48, "short_factor": [1.0] * 48}}

DENOISERS: Final[dict[str, tuple[Recipe, ...]]] = {
    "FluxTransformer2DModel": (
        Recipe(inputs=inputs.flux, config={"guidance_embeds": True}),
        Recipe(inputs=inputs.flux, config={"guidance_embeds": False}),
    ),
    "UNet2DConditionModel": tuple(
        Recipe(inputs=inputs.unet, config=config, even=16, keys=("block_out_channels",))
        for config in (_SDXL, _SD, _KOLORS, _REFINER, _SD2)
    ),
    "WanTransformer3DModel": (Recipe(inputs=inputs.video("text_dim"), video=True),),
    "SD3Transformer2DModel": (
        Recipe(inputs=inputs.sd3, config={"num_attention_heads": 24, "num_layers": 24, "caption_projection_dim": 1536}),
        Recipe(
            inputs=inputs.sd3,
            config={
                "num_attention_heads": 24,
                "num_layers": 24,
                "caption_projection_dim": 1536,
                "qk_norm": "rms_norm",
                "dual_attention_layers": (0, 1),
            },
        ),
        Recipe(
            inputs=inputs.sd3,
            config={"num_attention_heads": 38, "num_layers": 38, "caption_projection_dim": 2432, "qk_norm": "rms_norm"},
        ),
    ),
    "QwenImageTransformer2DModel": (Recipe(inputs=inputs.qwen),),
    # sound in whole latents at these numbers of frames
    "LTX2VideoTransformer3DModel": (Recipe(inputs=inputs.ltx2, video=True, frames=(4, 7)),),
    "HunyuanVideoTransformer3DModel": (Recipe(inputs=inputs.hunyuan, video=True, scalar=inputs.text),),
    "CogVideoXTransformer3DModel": (
        Recipe(
            inputs=inputs.cogvideo,
            config={"num_attention_heads": 48, "num_layers": 42, "use_rotary_positional_embeddings": True},
            video=True,
            text=226,
        ),
        Recipe(
            inputs=inputs.cogvideo,
            config={
                "num_attention_heads": 48,
                "num_layers": 42,
                "use_rotary_positional_embeddings": True,
                "patch_bias": False,
                "patch_size_t": 2,
            },
            video=True,
            text=226,
        ),
        Recipe(inputs=inputs.cogvideo, video=True, text=226),
    ),
    "LTXVideoTransformer3DModel": (
        Recipe(inputs=inputs.ltx, video=True),
        Recipe(inputs=inputs.ltx, config={"attention_head_dim": 128, "cross_attention_dim": 4096}, video=True),
    ),
    "ZImageTransformer2DModel": (Recipe(inputs=inputs.z_image, even=32, texts=(256, 512)),),
    "Flux2Transformer2DModel": (
        Recipe(inputs=inputs.flux2, config={"guidance_embeds": True}),
        *(
            Recipe(
                inputs=inputs.flux2,
                config={"guidance_embeds": False, "num_attention_heads": n, "joint_attention_dim": d},
            )
            for n, d in ((24, 7680), (32, 12288))
        ),
    ),
    "MochiTransformer3DModel": (
        Recipe(inputs=inputs.video("text_embed_dim", encoder_attention_mask=inputs.true), video=True),
    ),
    "SanaTransformer2DModel": (Recipe(inputs=inputs.image("caption_channels", encoder_attention_mask=inputs.mask)),),
    "PixArtTransformer2DModel": (
        Recipe(inputs=inputs.pixart, config={"caption_channels": 4096}),
        Recipe(inputs=inputs.pixart, config={"caption_channels": 4096, "use_additional_conditions": False}),
    ),
    "ChromaTransformer2DModel": (Recipe(inputs=inputs.chroma, squared=True),),
    "CogView4Transformer2DModel": (Recipe(inputs=lambda t, c, g: inputs.sizes(t, c, g, "text_embed_dim")),),
    "Lumina2Transformer2DModel": (
        Recipe(
            inputs=inputs.image("cap_feat_dim", encoder_attention_mask=inputs.mask),
            config={"cap_feat_dim": 2304},
            scalar=inputs.text,
        ),
    ),
    "StableCascadeUNet": tuple(Recipe(inputs=inputs.cascade, config=config, even=16) for config in (_PRIOR, _DECODER)),
    "AuraFlowTransformer2DModel": (Recipe(inputs=inputs.image("joint_attention_dim")),),
    "HunyuanDiT2DModel": (
        Recipe(
            inputs=inputs.hunyuandit,
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
        Recipe(inputs=inputs.svd, video=True, text=1, even=16, keys=("block_out_channels",)),
    ),
    "CogView3PlusTransformer2DModel": (Recipe(inputs=lambda t, c, g: inputs.sizes(t, c, g, "text_embed_dim")),),
    "ControlNetModel": tuple(
        Recipe(
            inputs=inputs.controlnet,
            config={k: v for k, v in config.items() if k not in ("up_block_types", "sample_size")},
            even=16,
            keys=("block_out_channels",),
        )
        for config in (_SD, _SDXL)
    ),
    "FluxControlNetModel": (Recipe(inputs=inputs.flux_controlnet, config={"num_layers": 5, "num_single_layers": 10}),),
    "SkyReelsV2Transformer3DModel": (Recipe(inputs=inputs.video("text_dim"), video=True),),
    "WanVACETransformer3DModel": (Recipe(inputs=inputs.vace, video=True),),
    "WanAnimateTransformer3DModel": (
        Recipe(
            inputs=inputs.wan_animate,
            config={"added_kv_proj_dim": 5120},
            video=True,
            over={"BN": 30_000},  # below, the faces take more than the video
            calls=tuple(
                Call(batch=batch, height=height, width=width, frames=frames, text=text)
                for batch in (1, 2)
                for height, width in ((60, 104), (90, 160))
                for frames in (12, 20)
                for text in (256, 512)
            ),
            checked=(
                Call(batch=1, height=64, width=64, frames=20, text=512),
                Call(batch=2, height=68, width=120, frames=16, text=400),
            ),
        ),
    ),
    "ChronoEditTransformer3DModel": (Recipe(inputs=inputs.video("text_dim"), video=True),),
    "SanaVideoTransformer3DModel": (
        Recipe(inputs=inputs.video("caption_channels", encoder_attention_mask=inputs.mask), video=True),
    ),
    "CosmosTransformer3DModel": (
        Recipe(inputs=inputs.cosmos, video=True),
        Recipe(inputs=inputs.cosmos, config={"in_channels": 17}, video=True),
    ),
    "Kandinsky5Transformer3DModel": (Recipe(inputs=inputs.kandinsky5, video=True),),
    "HunyuanImageTransformer2DModel": (Recipe(inputs=inputs.hunyuan_image, scalar=inputs.text),),
    "HunyuanVideo15Transformer3DModel": (
        Recipe(inputs=inputs.hunyuan15, video=True, squared=True, alone=True, scalar=inputs.text),
    ),
    "LatteTransformer3DModel": (
        Recipe(
            inputs=inputs.video("caption_channels"),
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
            length=16,
        ),
    ),
    "LuminaNextDiT2DModel": (Recipe(inputs=inputs.lumina_next, config={"num_kv_heads": 8}),),
    "ConsisIDTransformer3DModel": (
        Recipe(
            inputs=inputs.cogvideo,
            config={"num_attention_heads": 48, "num_layers": 42, "use_rotary_positional_embeddings": True},
            video=True,
            text=226,
        ),
    ),
    "PRXTransformer2DModel": (Recipe(inputs=inputs.image("context_in_dim")),),
    "DiTTransformer2DModel": (
        Recipe(
            inputs=lambda t, c, g: {
                "hidden_states": t(c.batch, g["in_channels"], c.height, c.width),
                "timestep": t.whole(c.batch),
                "class_labels": t.whole(c.batch),
            },
            text=0,
            square=True,
        ),
    ),
    "OvisImageTransformer2DModel": (Recipe(inputs=inputs.packed),),
    "LongCatImageTransformer2DModel": (Recipe(inputs=inputs.packed),),
    "BriaTransformer2DModel": (Recipe(inputs=inputs.packed),),
    "BriaFiboTransformer2DModel": (Recipe(inputs=inputs.fibo),),
    "EasyAnimateTransformer3DModel": (
        Recipe(
            inputs=inputs.video("text_embed_dim"),
            config={"in_channels": 16, "out_channels": 16, "patch_size": 2},
            video=True,
        ),
    ),
    "AllegroTransformer3DModel": (Recipe(inputs=inputs.allegro, video=True),),
    "StableAudioDiTModel": (Recipe(inputs=inputs.audio),),
    "PriorTransformer": (Recipe(inputs=inputs.prior, text=77),),
    "UNet3DConditionModel": (Recipe(inputs=inputs.unet_frames, video=True, even=16, keys=("block_out_channels",)),),
    "UNetMotionModel": (
        Recipe(
            inputs=inputs.unet_motion,
            config={"cross_attention_dim": 768},
            video=True,
            even=16,
            keys=("block_out_channels",),
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
    "Kandinsky3UNet": (Recipe(inputs=inputs.kandinsky3, even=16, keys=("block_out_channels",)),),
    "Krea2Transformer2DModel": (Recipe(inputs=inputs.krea2),),
    "ErnieImageTransformer2DModel": (Recipe(inputs=inputs.ernie, scalar=inputs.text),),
    "HiDreamImageTransformer2DModel": (
        Recipe(inputs=inputs.hidream, config=_HIDREAM, square=True, chosen="num_activated_experts"),
    ),
    "OmniGenTransformer2DModel": (
        # whether the text is longer than the first lengths that it was trained for
        Recipe(inputs=inputs.omnigen, config=_OMNIGEN, squared=True, scalar=lambda _: False),
    ),
    "GlmImageTransformer2DModel": (Recipe(inputs=inputs.glm_image),),
    "I2VGenXLUNet": (Recipe(inputs=inputs.i2vgen, video=True, text=77, even=16, keys=("block_out_channels",)),),
    "ControlNetUnionModel": tuple(
        Recipe(
            inputs=inputs.union,
            config={**{k: v for k, v in _SDXL.items() if k != "up_block_types"}, "num_control_type": count},
            even=16,
            keys=("block_out_channels",),
        )
        for count in (6, 8)
    ),
    "QwenImageControlNetModel": (Recipe(inputs=inputs.qwen_controlnet, config={"num_layers": 5}),),
    "SanaControlNetModel": (Recipe(inputs=inputs.sana_controlnet),),
    "JoyImageEditTransformer3DModel": (Recipe(inputs=inputs.video("text_dim"), video=True),),
}


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
    name: str = "z",
    channels: int = 0,
) -> tuple[Recipe, ...]:
    more = config or {}
    return (
        Recipe(
            inputs=inputs.latents(key, video, still, name),
            config=more,
            video=video,
            method="decode",
            text=0,
            keys=keys,
            frames=frames,
        ),
        Recipe(
            inputs=inputs.pixels(scale, step, video, still, channels),
            config=more,
            video=video,
            method="encode",
            text=0,
            keys=keys,
            frames=frames,
        ),
    )


_mochi = _vae("latent_channels", video=True, step=6, frames=(4, 6), channels=3)
_MOCHI = {"BN": 20_000}  # above, convolutions of more than 2 GiB are cut
_VIDEOS = tuple(
    Call(batch=batch, height=height, width=width, frames=frames)
    for batch, height, width, frames in (
        *((1, 60, 106, frames) for frames in (4, 8, 15, 28)),
        *((1, 48, 84, frames) for frames in (6, 15, 28)),
        *((2, 60, 106, 8), (1, 90, 160, 8), (1, 72, 128, 12), (2, 40, 64, 8), (2, 32, 32, 12)),
    )
)
_OTHERS = tuple(
    Call(batch=batch, height=height, width=width, frames=frames)
    for batch, height, width, frames in ((1, 60, 106, 12), (1, 64, 64, 22), (2, 48, 84, 10), (1, 80, 80, 6))
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
    "AutoencoderDC": (
        *_vae("latent_channels", scale=32),
        *_vae(
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
    ),
    "AutoencoderKLCogVideoX": _vae("latent_channels", video=True, frames=(7, 11)),
    "AutoencoderKLLTXVideo": _vae("latent_channels", video=True, scale=32, step=8),
    "AutoencoderKLMochi": (
        *(replace(one, most=_MOCHI) for one in _mochi),
        replace(_mochi[0], over=_MOCHI, calls=_VIDEOS, checked=_OTHERS, stairs=0.05),
    ),
    "AutoencoderTiny": _vae("latent_channels", name="x"),
    "AsymmetricAutoencoderKL": _vae("latent_channels"),
    "AutoencoderKLTemporalDecoder": (
        Recipe(
            inputs=lambda t, c, g: {"z": t(c.frames, g["latent_channels"], c.height, c.width), "num_frames": c.frames},
            config=_SVD,
            video=True,
            method="decode",
            text=0,
            keys=(),
        ),
        Recipe(
            inputs=lambda t, c, g: {"x": t(c.batch, g["in_channels"], c.height * 8, c.width * 8)},
            config=_SVD,
            method="encode",
            text=0,
            keys=(),
            still=True,
        ),
    ),
    "AutoencoderKLAllegro": _vae("latent_channels", video=True),
    "AutoencoderKLCosmos": _vae("latent_channels", video=True, step=8),
    "AutoencoderKLMagvit": _vae("latent_channels", video=True),
    "AutoencoderKLHunyuanVideo15": tuple(
        replace(one, squared=True, alone=True) for one in _vae("latent_channels", video=True, scale=16)
    ),
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
    "PaellaVQModel": _vae("latent_channels", name="h", scale=4),
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

OLDER: Final[dict[str, dict[str, tuple[Recipe, ...]]]] = {
    # frees each convolution's cache before it makes the next; convolutions of more than 2 GiB are cut, which begins
    # above 5,940 latent pixels
    "0.31": {
        "AutoencoderKLCogVideoX": tuple(replace(one, most={"BP": 5760}) for one in VAES["AutoencoderKLCogVideoX"])
    },
}
"""Classes that took something else before a release of diffusers, by that release."""


ENCODERS: Final[dict[str, tuple[Recipe, ...]]] = {
    "CLIPTextModel": (
        Recipe(
            tokens=True,
            inputs=inputs.clip,
            config={"hidden_size": 768, "intermediate_size": 3072, "num_attention_heads": 12, "num_hidden_layers": 12},
            text=77,
        ),
    ),
    "CLIPTextModelWithProjection": tuple(
        Recipe(
            tokens=True,
            inputs=inputs.clip,
            config={
                "hidden_size": width,
                "intermediate_size": 4 * width,
                "num_attention_heads": width // 64,
                "num_hidden_layers": layers,
                "projection_dim": width,
                "hidden_act": act,
            },
            text=77,
        )
        for width, layers, act in ((1280, 32, "gelu"), (768, 12, "quick_gelu"))
    ),
    "T5EncoderModel": (
        Recipe(
            tokens=True,
            inputs=inputs.ids,
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
    "ChatGLMModel": (
        Recipe(
            tokens=True,
            inputs=inputs.chatglm,
            scalar=lambda _: False,  # whether no token is masked: prompts are padded
            config={
                "add_qkv_bias": True,
                "multi_query_attention": True,
                "multi_query_group_num": 2,
                "original_rope": True,
                "post_layer_norm": True,
                "seq_length": 32768,
            },
        ),
    ),
    "UMT5EncoderModel": (
        Recipe(
            tokens=True,
            inputs=inputs.masked,
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
            tokens=True,
            inputs=inputs.masked,
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
            tokens=True,
            inputs=inputs.masked,
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
            tokens=True,
            inputs=inputs.masked,
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
            tokens=True,
            inputs=inputs.masked,
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
            tokens=True,
            inputs=inputs.masked,
            config={"hidden_size": 1024, "intermediate_size": 4096, "num_attention_heads": 16, "num_hidden_layers": 24},
        ),
    ),
}
