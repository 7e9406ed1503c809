"""The pipelines of the catalog: the components of each, with the source of each config.

A config is a folder of collected configs (`forge/…`), a model of the catalog (`catalog:…`), or keys that differ from
the defaults of the class, as the conversion scripts of diffusers (`scripts/convert_….py`) set them. The stored dtype is
that of the published files as far as their size is known, else that of the conversion script.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Final

__all__ = ["MODELS", "Listing", "Part"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """A component.

    Attributes:
        library: as model_index.json has it; the module in `diffusers.pipelines` for classes of one pipeline.
        cls: the class.
        config: a folder of configs, a model of the catalog after `catalog:`, or keys.
        source: where keys are from; "" for the others.
        dtype: the stored dtype.
        more: keys beside those of a folder or model.
    """

    library: str
    cls: str
    config: str | dict[str, Any]
    source: str = ""
    dtype: str = "BF16"
    more: dict[str, Any] = field(default_factory=dict)

    def stored(self, dtype: str) -> Part:
        """The same in another dtype."""
        return Part(
            library=self.library,
            cls=self.cls,
            config=self.config,
            source=self.source,
            dtype=dtype,
            more=self.more,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Listing:
    """A pipeline.

    Attributes:
        cls: its class.
        parts: its components, by name.
        settings: the other keys of model_index.json.
        aliases: other repositories with the same components.
    """

    cls: str
    parts: dict[str, Part]
    settings: dict[str, Any] = field(default_factory=dict)
    aliases: tuple[str, ...] = ()


def _diffusers(cls: str, config: str | dict[str, Any], source: str = "", dtype: str = "BF16") -> Part:
    return Part(library="diffusers", cls=cls, config=config, source=source, dtype=dtype)


def _transformers(cls: str, config: str | dict[str, Any], source: str = "", dtype: str = "BF16", **more: Any) -> Part:
    return Part(library="transformers", cls=cls, config=config, source=source, dtype=dtype, more=more)


_SDXL: Final = "forge/stabilityai/stable-diffusion-xl-base-1.0"
_SD15: Final = "forge/runwayml/stable-diffusion-v1-5"
_SD3: Final = "forge/stabilityai/stable-diffusion-3-medium-diffusers"
_FLUX: Final = "forge/black-forest-labs/FLUX.1-dev"
_DEFAULTS: Final = "defaults of the class"

_T5: Final = _transformers("T5EncoderModel", f"{_FLUX}/text_encoder_2")
_CLIP: Final = _transformers("CLIPTextModel", f"{_FLUX}/text_encoder")
_CLIP_G: Final = _transformers("CLIPTextModelWithProjection", f"{_SDXL}/text_encoder_2", dtype="F32")
_CLIP_L: Final = _transformers("CLIPTextModel", f"{_SDXL}/text_encoder", dtype="F32")
_FLUX_VAE: Final = _diffusers("AutoencoderKL", f"{_FLUX}/vae")
_SDXL_VAE: Final = _diffusers("AutoencoderKL", f"{_SDXL}/vae", dtype="F32")
_UMT5: Final = _transformers(
    "UMT5EncoderModel",
    {
        "model_type": "umt5",
        "vocab_size": 256384,
        "d_model": 4096,
        "d_kv": 64,
        "d_ff": 10240,
        "num_layers": 24,
        "num_heads": 64,
        "feed_forward_proj": "gated-gelu",
    },
    "google/umt5-xxl's sizes, as in Wan2.1 (wan/modules/t5.py, umt5_xxl)",
)
_VIT_H: Final = {
    "model_type": "clip_vision_model",
    "hidden_size": 1280,
    "intermediate_size": 5120,
    "num_attention_heads": 16,
    "num_hidden_layers": 32,
    "patch_size": 14,
    "projection_dim": 1024,
    "image_size": 224,
    "hidden_act": "gelu",
}
_VIT: Final = "laion/CLIP-ViT-H-14-laion2B-s32B-b79K's sizes (open_clip, model_configs/ViT-H-14.json)"
_QWEN_VL: Final = _transformers("Qwen2_5_VLForConditionalGeneration", "catalog:Qwen/Qwen2.5-VL-7B-Instruct")
_QWEN3: Final = _transformers("Qwen3ForCausalLM", "catalog:Qwen/Qwen3-4B")
_GEMMA: Final = _transformers("Gemma2Model", "catalog:google/gemma-2-2b-it")

_WAN_SCRIPT: Final = "diffusers, scripts/convert_wan_to_diffusers.py"
_WAN_KEYS: Final = {
    "added_kv_proj_dim": None,
    "attention_head_dim": 128,
    "cross_attn_norm": True,
    "eps": 1e-06,
    "freq_dim": 256,
    "in_channels": 16,
    "out_channels": 16,
    "patch_size": [1, 2, 2],
    "qk_norm": "rms_norm_across_heads",
    "text_dim": 4096,
}


def _wan(heads: int, layers: int, inner: int, **more: Any) -> Part:
    sizes = {"num_attention_heads": heads, "num_layers": layers, "ffn_dim": inner}
    return _diffusers("WanTransformer3DModel", {**_WAN_KEYS, **sizes, **more}, _WAN_SCRIPT, "F32")


_WAN_VAE: Final = _diffusers("AutoencoderKLWan", {}, f"{_DEFAULTS} ({_WAN_SCRIPT})", "F32")
_WAN_VAE_5B: Final = _diffusers(
    "AutoencoderKLWan",
    {
        "base_dim": 160,
        "z_dim": 48,
        "is_residual": True,
        "in_channels": 12,
        "out_channels": 12,
        "decoder_base_dim": 256,
        "scale_factor_temporal": 4,
        "scale_factor_spatial": 16,
        "patch_size": 2,
        "clip_output": False,
    },
    _WAN_SCRIPT,
    "F32",
)
_WAN_IMAGE: Final = {"image_dim": 1280, "added_kv_proj_dim": 5120, "in_channels": 36}


def _sd3(layers: int, dual: int, positions: int) -> Part:
    keys = {
        "sample_size": 128,
        "patch_size": 2,
        "in_channels": 16,
        "joint_attention_dim": 4096,
        "num_layers": layers,
        "caption_projection_dim": 64 * layers,
        "num_attention_heads": layers,
        "attention_head_dim": 64,
        "pos_embed_max_size": positions,
        "qk_norm": "rms_norm",
        "dual_attention_layers": list(range(dual)),
    }
    return _diffusers("SD3Transformer2DModel", keys, "diffusers, scripts/convert_sd3_to_diffusers.py")


_SD3_PARTS: Final = {
    "text_encoder": _transformers("CLIPTextModelWithProjection", f"{_SD3}/text_encoder", dtype="F16"),
    "text_encoder_2": _CLIP_G.stored("F16"),
    "text_encoder_3": _T5.stored("F16"),
}
_SD3_VAE: Final = _diffusers("AutoencoderKL", f"{_SD3}/vae", dtype="F16")


def _flux2(double: int, single: int, heads: int, text: int, **more: Any) -> Part:
    keys = {
        "patch_size": 1,
        "in_channels": 128,
        "num_layers": double,
        "num_single_layers": single,
        "attention_head_dim": 128,
        "num_attention_heads": heads,
        "joint_attention_dim": text,
        "timestep_guidance_channels": 256,
        "mlp_ratio": 3.0,
        "axes_dims_rope": [32, 32, 32, 32],
        "rope_theta": 2000,
        "eps": 1e-6,
        **more,
    }
    return _diffusers("Flux2Transformer2DModel", keys, "diffusers, scripts/convert_flux2_to_diffusers.py")


_FLUX2_VAE: Final = _diffusers(
    "AutoencoderKLFlux2", {}, f"{_DEFAULTS} (diffusers, scripts/convert_flux2_to_diffusers.py)"
)
_MISTRAL: Final = _transformers(
    "Mistral3ForConditionalGeneration",
    {
        "model_type": "mistral3",
        "tie_word_embeddings": False,
        "image_token_index": 10,
        "spatial_merge_size": 2,
        "text_config": {
            "model_type": "mistral",
            "vocab_size": 131072,
            "hidden_size": 5120,
            "intermediate_size": 32768,
            "num_hidden_layers": 40,
            "num_attention_heads": 32,
            "num_key_value_heads": 8,
            "head_dim": 128,
            "max_position_embeddings": 131072,
            "tie_word_embeddings": False,
        },
        "vision_config": {
            "model_type": "pixtral",
            "hidden_size": 1024,
            "intermediate_size": 4096,
            "num_hidden_layers": 24,
            "num_attention_heads": 16,
            "image_size": 1540,
            "patch_size": 14,
        },
    },
    "mistralai/Mistral-Small-3.2-24B-Instruct-2506's sizes (transformers, convert_mistral3_weights_to_hf.py)",
)
_COG_SCRIPT: Final = "diffusers, scripts/convert_cogvideox_to_diffusers.py"


def _cogvideox(layers: int, heads: int, dtype: str, **more: Any) -> Part:
    keys = {"num_layers": layers, "num_attention_heads": heads, "in_channels": 16, "sample_frames": 49, **more}
    return _diffusers("CogVideoXTransformer3DModel", keys, _COG_SCRIPT, dtype)


_LTX_SCRIPT: Final = "diffusers, scripts/convert_ltx_to_diffusers.py"
_LTX_VAE: Final = _diffusers(
    "AutoencoderKLLTXVideo",
    {
        "block_out_channels": [128, 256, 512, 512],
        "decoder_block_out_channels": [128, 256, 512, 512],
        "layers_per_block": [4, 3, 3, 3, 4],
        "decoder_layers_per_block": [4, 3, 3, 3, 4],
        "spatio_temporal_scaling": [True, True, True, False],
        "decoder_spatio_temporal_scaling": [True, True, True, False],
        "decoder_inject_noise": [False] * 5,
        "upsample_residual": [False] * 4,
        "upsample_factor": [1] * 4,
        "timestep_conditioning": False,
    },
    _LTX_SCRIPT,
    "F32",
)
_LTX_VAE_13B: Final = _diffusers(
    "AutoencoderKLLTXVideo",
    {
        "block_out_channels": [128, 256, 512, 1024, 2048],
        "down_block_types": ["LTXVideo095DownBlock3D"] * 4,
        "decoder_block_out_channels": [256, 512, 1024],
        "layers_per_block": [4, 6, 6, 2, 2],
        "decoder_layers_per_block": [5, 5, 5, 5],
        "spatio_temporal_scaling": [True] * 4,
        "decoder_spatio_temporal_scaling": [True] * 3,
        "decoder_inject_noise": [False] * 4,
        "downsample_type": ["spatial", "temporal", "spatiotemporal", "spatiotemporal"],
        "upsample_residual": [True] * 3,
        "upsample_factor": [2] * 3,
        "timestep_conditioning": True,
        "spatial_compression_ratio": 32,
        "temporal_compression_ratio": 8,
    },
    _LTX_SCRIPT,
)
_SANA_AE: Final = _diffusers(
    "AutoencoderDC",
    {
        "latent_channels": 32,
        "encoder_block_types": ["ResBlock"] * 3 + ["EfficientViTBlock"] * 3,
        "decoder_block_types": ["ResBlock"] * 3 + ["EfficientViTBlock"] * 3,
        "encoder_block_out_channels": [128, 256, 512, 512, 1024, 1024],
        "decoder_block_out_channels": [128, 256, 512, 512, 1024, 1024],
        "encoder_qkv_multiscales": [[], [], [], [5], [5], [5]],
        "decoder_qkv_multiscales": [[], [], [], [5], [5], [5]],
        "encoder_layers_per_block": [2, 2, 2, 3, 3, 3],
        "decoder_layers_per_block": [3, 3, 3, 3, 3, 3],
        "downsample_block_type": "conv",
        "upsample_block_type": "interpolate",
        "decoder_norm_types": "rms_norm",
        "decoder_act_fns": "silu",
        "scaling_factor": 0.41407,
    },
    "diffusers, scripts/convert_dcae_to_diffusers.py",
)
_SANA: Final = _diffusers(
    "SanaTransformer2DModel",
    {
        "in_channels": 32,
        "out_channels": 32,
        "num_attention_heads": 70,
        "attention_head_dim": 32,
        "num_layers": 20,
        "num_cross_attention_heads": 20,
        "cross_attention_head_dim": 112,
        "cross_attention_dim": 2240,
        "caption_channels": 2304,
        "mlp_ratio": 2.5,
        "attention_bias": False,
        "sample_size": 32,
        "patch_size": 1,
        "norm_elementwise_affine": False,
    },
    "diffusers, scripts/convert_sana_to_diffusers.py",
)
_PIXART: Final = {"sample_size": 128, "caption_channels": 4096}


def _pixart(**more: Any) -> Part:
    return _diffusers(
        "PixArtTransformer2DModel",
        {**_PIXART, **more},
        "diffusers, scripts/convert_pixart_sigma_to_diffusers.py",
        "F32",
    )


_SDXL_PARTS: Final = {"text_encoder": _CLIP_L, "text_encoder_2": _CLIP_G}
_ZIMAGE: Final = _diffusers("ZImageTransformer2DModel", {}, _DEFAULTS, "F32")
_QWEN_IMAGE: Final = _diffusers("QwenImageTransformer2DModel", {"guidance_embeds": False}, _DEFAULTS)
_QWEN_VAE: Final = _diffusers("AutoencoderKLQwenImage", {}, _DEFAULTS)
_HUNYUAN_SCRIPT: Final = "diffusers, scripts/convert_hunyuan_video_to_diffusers.py"

MODELS: Final[dict[str, Listing]] = {
    "stable-diffusion-v1-5/stable-diffusion-v1-5": Listing(
        cls="StableDiffusionPipeline",
        parts={
            "safety_checker": Part(
                library="stable_diffusion",
                cls="StableDiffusionSafetyChecker",
                config=f"{_SD15}/safety_checker",
                dtype="F32",
            ),
            "text_encoder": _transformers("CLIPTextModel", f"{_SD15}/text_encoder", dtype="F32"),
            "unet": _diffusers("UNet2DConditionModel", f"{_SD15}/unet", dtype="F32"),
            "vae": _diffusers("AutoencoderKL", f"{_SD15}/vae", dtype="F32"),
        },
        settings={"requires_safety_checker": True},
        aliases=("runwayml/stable-diffusion-v1-5", "CompVis/stable-diffusion-v1-4"),
    ),
    "stabilityai/stable-diffusion-2-1": Listing(
        cls="StableDiffusionPipeline",
        parts={
            "text_encoder": _transformers(
                "CLIPTextModel", "forge/stabilityai/stable-diffusion-2-1/text_encoder", dtype="F32"
            ),
            "unet": _diffusers("UNet2DConditionModel", "forge/stabilityai/stable-diffusion-2-1/unet", dtype="F32"),
            "vae": _diffusers("AutoencoderKL", "forge/stabilityai/stable-diffusion-2-1/vae", dtype="F32"),
        },
        settings={"requires_safety_checker": False},
    ),
    "stabilityai/stable-diffusion-xl-base-1.0": Listing(
        cls="StableDiffusionXLPipeline",
        parts={
            **_SDXL_PARTS,
            "unet": _diffusers("UNet2DConditionModel", f"{_SDXL}/unet", dtype="F32"),
            "vae": _SDXL_VAE,
        },
        settings={"force_zeros_for_empty_prompt": True},
        aliases=("stabilityai/sdxl-turbo",),
    ),
    "stabilityai/stable-diffusion-xl-refiner-1.0": Listing(
        cls="StableDiffusionXLImg2ImgPipeline",
        parts={
            "text_encoder_2": _CLIP_G,
            "unet": _diffusers(
                "UNet2DConditionModel", "forge/stabilityai/stable-diffusion-xl-refiner-1.0/unet", dtype="F32"
            ),
            "vae": _SDXL_VAE,
        },
        settings={"force_zeros_for_empty_prompt": False, "requires_aesthetics_score": True},
    ),
    "playgroundai/playground-v2.5-1024px-aesthetic": Listing(
        cls="StableDiffusionXLPipeline",
        parts={
            **_SDXL_PARTS,
            "unet": _diffusers(
                "UNet2DConditionModel", "forge/playgroundai/playground-v2.5-1024px-aesthetic/unet", dtype="F32"
            ),
            "vae": _SDXL_VAE,
        },
    ),
    "Kwai-Kolors/Kolors-diffusers": Listing(
        cls="KolorsPipeline",
        parts={
            "text_encoder": Part(
                library="kolors",
                cls="ChatGLMModel",
                config="forge/Kwai-Kolors/Kolors/text_encoder",
                dtype="F16",
            ),
            "unet": _diffusers("UNet2DConditionModel", "forge/Kwai-Kolors/Kolors/unet", dtype="F16"),
            "vae": _diffusers("AutoencoderKL", "forge/Kwai-Kolors/Kolors/vae", dtype="F16"),
        },
    ),
    "stabilityai/stable-diffusion-3-medium-diffusers": Listing(
        cls="StableDiffusion3Pipeline",
        parts={
            **_SD3_PARTS,
            "transformer": _diffusers("SD3Transformer2DModel", f"{_SD3}/transformer", dtype="F16"),
            "vae": _SD3_VAE,
        },
    ),
    "stabilityai/stable-diffusion-3.5-large": Listing(
        cls="StableDiffusion3Pipeline",
        parts={**_SD3_PARTS, "transformer": _sd3(38, 0, 192), "vae": _SD3_VAE.stored("BF16")},
        aliases=("stabilityai/stable-diffusion-3.5-large-turbo",),
    ),
    "stabilityai/stable-diffusion-3.5-medium": Listing(
        cls="StableDiffusion3Pipeline",
        parts={**_SD3_PARTS, "transformer": _sd3(24, 13, 384), "vae": _SD3_VAE.stored("BF16")},
    ),
    "black-forest-labs/FLUX.1-dev": Listing(
        cls="FluxPipeline",
        parts={
            "text_encoder": _CLIP,
            "text_encoder_2": _T5,
            "transformer": _diffusers("FluxTransformer2DModel", f"{_FLUX}/transformer"),
            "vae": _FLUX_VAE,
        },
        aliases=("black-forest-labs/FLUX.1-Krea-dev",),
    ),
    "black-forest-labs/FLUX.1-schnell": Listing(
        cls="FluxPipeline",
        parts={
            "text_encoder": _CLIP,
            "text_encoder_2": _T5,
            "transformer": _diffusers("FluxTransformer2DModel", "forge/black-forest-labs/FLUX.1-schnell/transformer"),
            "vae": _FLUX_VAE,
        },
    ),
    "black-forest-labs/FLUX.1-Kontext-dev": Listing(
        cls="FluxKontextPipeline",
        parts={
            "text_encoder": _CLIP,
            "text_encoder_2": _T5,
            "transformer": _diffusers("FluxTransformer2DModel", f"{_FLUX}/transformer"),
            "vae": _FLUX_VAE,
        },
    ),
    "black-forest-labs/FLUX.1-Fill-dev": Listing(
        cls="FluxFillPipeline",
        parts={
            "text_encoder": _CLIP,
            "text_encoder_2": _T5,
            "transformer": Part(
                library="diffusers",
                cls="FluxTransformer2DModel",
                config=f"{_FLUX}/transformer",
                more={"in_channels": 384, "out_channels": 64},
            ),
            "vae": _FLUX_VAE,
        },
    ),
    "black-forest-labs/FLUX.2-dev": Listing(
        cls="Flux2Pipeline",
        parts={"text_encoder": _MISTRAL, "transformer": _flux2(8, 48, 48, 15360), "vae": _FLUX2_VAE},
    ),
    "black-forest-labs/FLUX.2-klein-4B": Listing(
        cls="Flux2KleinPipeline",
        parts={
            "text_encoder": _QWEN3,
            "transformer": _flux2(5, 20, 24, 7680, guidance_embeds=False),
            "vae": _FLUX2_VAE,
        },
        settings={"is_distilled": True},
    ),
    "Qwen/Qwen-Image": Listing(
        cls="QwenImagePipeline",
        parts={"text_encoder": _QWEN_VL, "transformer": _QWEN_IMAGE, "vae": _QWEN_VAE},
    ),
    "Qwen/Qwen-Image-Edit": Listing(
        cls="QwenImageEditPipeline",
        parts={"text_encoder": _QWEN_VL, "transformer": _QWEN_IMAGE, "vae": _QWEN_VAE},
    ),
    "Tongyi-MAI/Z-Image-Turbo": Listing(
        cls="ZImagePipeline",
        parts={
            "text_encoder": _transformers("Qwen3Model", "catalog:Qwen/Qwen3-4B"),
            "transformer": _ZIMAGE,
            "vae": _FLUX_VAE,
        },
    ),
    "Wan-AI/Wan2.1-T2V-1.3B-Diffusers": Listing(
        cls="WanPipeline",
        parts={"text_encoder": _UMT5, "transformer": _wan(12, 30, 8960), "vae": _WAN_VAE},
    ),
    "Wan-AI/Wan2.1-T2V-14B-Diffusers": Listing(
        cls="WanPipeline",
        parts={"text_encoder": _UMT5, "transformer": _wan(40, 40, 13824), "vae": _WAN_VAE},
    ),
    "Wan-AI/Wan2.1-I2V-14B-480P-Diffusers": Listing(
        cls="WanImageToVideoPipeline",
        parts={
            "image_encoder": _transformers("CLIPVisionModelWithProjection", _VIT_H, _VIT),
            "text_encoder": _UMT5,
            "transformer": _wan(40, 40, 13824, **_WAN_IMAGE),
            "vae": _WAN_VAE,
        },
        aliases=("Wan-AI/Wan2.1-I2V-14B-720P-Diffusers",),
    ),
    "Wan-AI/Wan2.2-T2V-A14B-Diffusers": Listing(
        cls="WanPipeline",
        parts={
            "text_encoder": _UMT5,
            "transformer": _wan(40, 40, 13824),
            "transformer_2": _wan(40, 40, 13824),
            "vae": _WAN_VAE,
        },
        settings={"boundary_ratio": 0.875},
    ),
    "Wan-AI/Wan2.2-I2V-A14B-Diffusers": Listing(
        cls="WanImageToVideoPipeline",
        parts={
            "text_encoder": _UMT5,
            "transformer": _wan(40, 40, 13824, in_channels=36),
            "transformer_2": _wan(40, 40, 13824, in_channels=36),
            "vae": _WAN_VAE,
        },
        settings={"boundary_ratio": 0.9},
    ),
    "Wan-AI/Wan2.2-TI2V-5B-Diffusers": Listing(
        cls="WanPipeline",
        parts={
            "text_encoder": _UMT5,
            "transformer": _wan(24, 30, 14336, in_channels=48, out_channels=48),
            "vae": _WAN_VAE_5B,
        },
        settings={"expand_timesteps": True},
    ),
    "hunyuanvideo-community/HunyuanVideo": Listing(
        cls="HunyuanVideoPipeline",
        parts={
            "text_encoder": _transformers(
                "LlamaModel",
                "catalog:meta-llama/Meta-Llama-3-8B-Instruct",
                dtype="F16",
                vocab_size=128320,
            ),
            "text_encoder_2": _CLIP.stored("F16"),
            "transformer": _diffusers(
                "HunyuanVideoTransformer3DModel", {"guidance_embeds": True}, f"{_DEFAULTS} ({_HUNYUAN_SCRIPT})"
            ),
            "vae": _diffusers("AutoencoderKLHunyuanVideo", {}, f"{_DEFAULTS} ({_HUNYUAN_SCRIPT})", "F16"),
        },
    ),
    "Lightricks/LTX-Video": Listing(
        cls="LTXPipeline",
        parts={
            "text_encoder": _T5.stored("F32"),
            "transformer": _diffusers("LTXVideoTransformer3DModel", {}, f"{_DEFAULTS} ({_LTX_SCRIPT})", "F32"),
            "vae": _LTX_VAE,
        },
    ),
    "Lightricks/LTX-Video-0.9.7-dev": Listing(
        cls="LTXConditionPipeline",
        parts={
            "text_encoder": _T5,
            "transformer": _diffusers(
                "LTXVideoTransformer3DModel",
                {"attention_head_dim": 128, "cross_attention_dim": 4096, "num_layers": 48},
                _LTX_SCRIPT,
            ),
            "vae": _LTX_VAE_13B,
        },
        aliases=("Lightricks/LTX-Video-0.9.7-distilled",),
    ),
    "zai-org/CogVideoX-2b": Listing(
        cls="CogVideoXPipeline",
        parts={
            "text_encoder": _T5.stored("F16"),
            "transformer": _cogvideox(30, 30, "F16"),
            "vae": _diffusers("AutoencoderKLCogVideoX", {"scaling_factor": 1.15258426}, _COG_SCRIPT, "F16"),
        },
        aliases=("THUDM/CogVideoX-2b",),
    ),
    "zai-org/CogVideoX-5b": Listing(
        cls="CogVideoXPipeline",
        parts={
            "text_encoder": _T5,
            "transformer": _cogvideox(42, 48, "BF16", use_rotary_positional_embeddings=True),
            "vae": _diffusers("AutoencoderKLCogVideoX", {"scaling_factor": 0.7}, _COG_SCRIPT),
        },
        aliases=("THUDM/CogVideoX-5b",),
    ),
    "PixArt-alpha/PixArt-Sigma-XL-2-1024-MS": Listing(
        cls="PixArtSigmaPipeline",
        parts={
            "text_encoder": _T5.stored("F32"),
            "transformer": _pixart(interpolation_scale=2, use_additional_conditions=False),
            "vae": _SDXL_VAE,
        },
    ),
    "PixArt-alpha/PixArt-XL-2-1024-MS": Listing(
        cls="PixArtAlphaPipeline",
        parts={
            "text_encoder": _T5.stored("F32"),
            "transformer": _pixart(use_additional_conditions=True),
            "vae": _diffusers("AutoencoderKL", f"{_SD15}/vae", dtype="F32"),
        },
    ),
    "Efficient-Large-Model/Sana_1600M_1024px_BF16_diffusers": Listing(
        cls="SanaPipeline",
        parts={"text_encoder": _GEMMA, "transformer": _SANA, "vae": _SANA_AE},
    ),
    "Alpha-VLLM/Lumina-Image-2.0": Listing(
        cls="Lumina2Pipeline",
        parts={
            "text_encoder": _GEMMA,
            "transformer": _diffusers(
                "Lumina2Transformer2DModel",
                {
                    "sample_size": 128,
                    "num_layers": 26,
                    "hidden_size": 2304,
                    "cap_feat_dim": 2304,
                    "multiple_of": 256,
                    "axes_dim_rope": [32, 32, 32],
                },
                "diffusers, scripts/convert_lumina_to_diffusers.py",
            ),
            "vae": _FLUX_VAE,
        },
    ),
    "lodestones/Chroma1-HD": Listing(
        cls="ChromaPipeline",
        parts={
            "text_encoder": _transformers("T5EncoderModel", "sdnext/chroma/text_encoder"),
            "transformer": _diffusers("ChromaTransformer2DModel", "sdnext/chroma/transformer"),
            "vae": _diffusers("AutoencoderKL", "sdnext/chroma/vae"),
        },
    ),
    "zai-org/CogView4-6B": Listing(
        cls="CogView4Pipeline",
        parts={
            "text_encoder": _transformers(
                "GlmModel",
                {
                    "model_type": "glm",
                    "vocab_size": 151552,
                    "hidden_size": 4096,
                    "intermediate_size": 13696,
                    "num_hidden_layers": 40,
                    "num_attention_heads": 32,
                    "num_key_value_heads": 2,
                    "head_dim": 128,
                    "attention_bias": True,
                },
                "THUDM/glm-4-9b-hf's sizes (diffusers, scripts/convert_cogview4_to_diffusers.py)",
            ),
            "transformer": _diffusers(
                "CogView4Transformer2DModel",
                {
                    "num_layers": 28,
                    "attention_head_dim": 128,
                    "num_attention_heads": 32,
                    "text_embed_dim": 4096,
                    "time_embed_dim": 512,
                    "condition_dim": 256,
                    "pos_embed_max_size": 128,
                },
                "diffusers, scripts/convert_cogview4_to_diffusers.py",
            ),
            "vae": _diffusers(
                "AutoencoderKL",
                {
                    "down_block_types": ["DownEncoderBlock2D"] * 4,
                    "up_block_types": ["UpDecoderBlock2D"] * 4,
                    "block_out_channels": [128, 512, 1024, 1024],
                    "layers_per_block": 3,
                    "latent_channels": 16,
                    "sample_size": 1024,
                    "force_upcast": True,
                    "use_quant_conv": False,
                    "use_post_quant_conv": False,
                    "mid_block_add_attention": False,
                },
                "diffusers, scripts/convert_cogview4_to_diffusers.py",
            ),
        },
        aliases=("THUDM/CogView4-6B",),
    ),
    "genmo/mochi-1-preview": Listing(
        cls="MochiPipeline",
        parts={
            "text_encoder": _T5.stored("F32"),
            "transformer": _diffusers("MochiTransformer3DModel", {}, _DEFAULTS, "F32"),
            "vae": _diffusers(
                "AutoencoderKLMochi",
                {"latent_channels": 12, "out_channels": 3},
                "diffusers, scripts/convert_mochi_to_diffusers.py",
                "F32",
            ),
        },
        settings={"force_zeros_for_empty_prompt": False},
    ),
    "Tencent-Hunyuan/HunyuanDiT-v1.2-Diffusers": Listing(
        cls="HunyuanDiTPipeline",
        parts={
            "text_encoder": _transformers(
                "BertModel", "forge/Tencent-Hunyuan/HunyuanDiT-Diffusers/text_encoder", dtype="F32"
            ),
            "text_encoder_2": _transformers(
                "T5EncoderModel", "forge/Tencent-Hunyuan/HunyuanDiT-Diffusers/text_encoder_2", dtype="F32"
            ),
            "transformer": _diffusers(
                "HunyuanDiT2DModel", "forge/Tencent-Hunyuan/HunyuanDiT-Diffusers/transformer", dtype="F16"
            ),
            "vae": _diffusers("AutoencoderKL", "forge/Tencent-Hunyuan/HunyuanDiT-Diffusers/vae", dtype="F32"),
        },
    ),
    "stabilityai/stable-cascade": Listing(
        cls="StableCascadeDecoderPipeline",
        parts={
            "decoder": _diffusers("StableCascadeUNet", "forge/stabilityai/stable-cascade/decoder", dtype="F32"),
            "text_encoder": _transformers(
                "CLIPTextModelWithProjection", "forge/stabilityai/stable-cascade/text_encoder", dtype="F32"
            ),
            "vqgan": Part(
                library="wuerstchen",
                cls="PaellaVQModel",
                config="forge/stabilityai/stable-cascade/vqgan",
                dtype="F32",
            ),
        },
        settings={"latent_dim_scale": 10.67},
    ),
    "stabilityai/stable-video-diffusion-img2vid-xt": Listing(
        cls="StableVideoDiffusionPipeline",
        parts={
            "image_encoder": _transformers("CLIPVisionModelWithProjection", _VIT_H, _VIT, "F32"),
            "unet": _diffusers(
                "UNetSpatioTemporalConditionModel", {"num_frames": 25, "sample_size": 96}, _DEFAULTS, "F32"
            ),
            "vae": _diffusers(
                "AutoencoderKLTemporalDecoder",
                {
                    "block_out_channels": [128, 256, 512, 512],
                    "down_block_types": ["DownEncoderBlock2D"] * 4,
                    "layers_per_block": 2,
                    "sample_size": 768,
                },
                "diffusers, scripts/convert_svd_to_diffusers.py",
                "F32",
            ),
        },
    ),
}
