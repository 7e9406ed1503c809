"""Records `fixtures/pipelines/*.json`: small pipelines as the real diffusers writes them, and what it loads.

python -m tests.oracle.pipelines

A file has the contents of each JSON file, the tensors of each safetensors file, the parameters of each component, and
the bytes of its parameters after `from_pretrained` in each dtype.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

FIXTURES = Path(__file__).parents[2] / "fixtures" / "pipelines"
DTYPES = ("float32", "float16", "bfloat16")


def clip(**more: Any) -> Any:
    from transformers import CLIPTextConfig

    sizes = {"hidden_size": 32, "intermediate_size": 37, "num_hidden_layers": 2, "num_attention_heads": 4}
    return CLIPTextConfig(vocab_size=1000, projection_dim=32, **sizes, **more)


def t5(cls: Any = None) -> Any:
    from transformers import T5Config

    config = cls or T5Config
    return config(
        vocab_size=100, d_model=32, d_kv=8, d_ff=37, num_layers=2, num_heads=4, feed_forward_proj="gated-gelu"
    )


def vae(channels: int = 4) -> Any:
    from diffusers import AutoencoderKL

    return AutoencoderKL(
        block_out_channels=[32, 64],
        in_channels=3,
        out_channels=3,
        down_block_types=["DownEncoderBlock2D"] * 2,
        up_block_types=["UpDecoderBlock2D"] * 2,
        latent_channels=channels,
    )


def stable_diffusion() -> Any:
    """A UNet, CLIP, a VAE, and a safety checker that is left out."""
    from diffusers import DDIMScheduler, StableDiffusionPipeline, UNet2DConditionModel
    from transformers import CLIPTextModel

    unet = UNet2DConditionModel(
        block_out_channels=(4, 8),
        layers_per_block=1,
        sample_size=32,
        in_channels=4,
        out_channels=4,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        cross_attention_dim=32,
        norm_num_groups=2,
    )
    return StableDiffusionPipeline(
        unet=unet,
        scheduler=DDIMScheduler(),
        vae=vae(),
        text_encoder=CLIPTextModel(clip()),
        tokenizer=None,
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )


def stable_diffusion_3() -> Any:
    """Three text encoders, two of which are alike; T5 keeps a part in float32."""
    from diffusers import FlowMatchEulerDiscreteScheduler, SD3Transformer2DModel, StableDiffusion3Pipeline
    from transformers import CLIPTextModelWithProjection, T5EncoderModel

    transformer = SD3Transformer2DModel(
        sample_size=32,
        patch_size=1,
        in_channels=4,
        num_layers=1,
        attention_head_dim=8,
        num_attention_heads=4,
        caption_projection_dim=32,
        joint_attention_dim=32,
        pooled_projection_dim=64,
        out_channels=4,
    )
    return StableDiffusion3Pipeline(
        transformer=transformer,
        scheduler=FlowMatchEulerDiscreteScheduler(),
        vae=vae(),
        text_encoder=CLIPTextModelWithProjection(clip()),
        tokenizer=None,
        text_encoder_2=CLIPTextModelWithProjection(clip(hidden_act="gelu")),
        tokenizer_2=None,
        text_encoder_3=T5EncoderModel(t5()),
        tokenizer_3=None,
    )


def wan() -> Any:
    """A denoiser that keeps parts in float32, in both 16-bit dtypes."""
    from diffusers import AutoencoderKLWan, FlowMatchEulerDiscreteScheduler, WanPipeline, WanTransformer3DModel
    from transformers import UMT5Config, UMT5EncoderModel

    transformer = WanTransformer3DModel(
        patch_size=(1, 2, 2),
        num_attention_heads=2,
        attention_head_dim=12,
        in_channels=16,
        out_channels=16,
        text_dim=32,
        freq_dim=256,
        ffn_dim=32,
        num_layers=2,
        cross_attn_norm=True,
        qk_norm="rms_norm_across_heads",
    )
    return WanPipeline(
        transformer=transformer,
        vae=AutoencoderKLWan(base_dim=3, z_dim=16, dim_mult=[1, 1, 1, 1], num_res_blocks=1),
        scheduler=FlowMatchEulerDiscreteScheduler(),
        text_encoder=UMT5EncoderModel(t5(UMT5Config)),
        tokenizer=None,
    )


def flux() -> Any:
    """A transformer in shards."""
    from diffusers import FlowMatchEulerDiscreteScheduler, FluxPipeline, FluxTransformer2DModel
    from transformers import CLIPTextModel, T5EncoderModel

    transformer = FluxTransformer2DModel(
        patch_size=1,
        in_channels=16,
        num_layers=1,
        num_single_layers=1,
        attention_head_dim=16,
        num_attention_heads=2,
        joint_attention_dim=32,
        pooled_projection_dim=32,
        axes_dims_rope=[4, 4, 8],
        guidance_embeds=True,
    )
    return FluxPipeline(
        scheduler=FlowMatchEulerDiscreteScheduler(),
        vae=vae(4),
        text_encoder=CLIPTextModel(clip()),
        tokenizer=None,
        text_encoder_2=T5EncoderModel(t5()),
        tokenizer_2=None,
        transformer=transformer,
    )


PIPELINES: dict[str, Callable[[], Any]] = {
    "stable-diffusion": stable_diffusion,
    "stable-diffusion-3": stable_diffusion_3,
    "wan": wan,
    "flux": flux,
}


def header(path: Path) -> list[list[Any]]:
    """The tensors of a safetensors file."""
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        found = json.loads(file.read(length))
    return [[name, facts["dtype"], facts["shape"]] for name, facts in found.items() if name != "__metadata__"]


def files_of(folder: Path) -> Iterator[tuple[str, Any]]:
    """Each file: the contents of JSON, the tensors of safetensors."""
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if path.suffix == ".json":
            yield name, json.loads(path.read_text(encoding="utf-8"))
        elif path.suffix == ".safetensors":
            yield name, header(path)


def loaded(pipe: Any, folder: Path, dtype: Any) -> dict[str, int]:
    """Bytes of the parameters of each component, as the library loads them."""
    import torch

    without = dict.fromkeys(name for name, part in pipe.components.items() if part is None)
    pipe = type(pipe).from_pretrained(folder, torch_dtype=dtype, **without)
    modules = {name: part for name, part in pipe.components.items() if isinstance(part, torch.nn.Module)}
    return {name: sum(p.numel() * p.element_size() for p in part.parameters()) for name, part in modules.items()}


def record(name: str) -> dict[str, Any]:
    """What a pipeline is on the disk and in memory."""
    import torch

    pipe = PIPELINES[name]()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        pipe.save_pretrained(folder, max_shard_size="40KB" if name == "flux" else "5GB")
        if name == "stable-diffusion":
            pipe.to(dtype=torch.float16).save_pretrained(folder, variant="fp16")
            pipe.to(dtype=torch.float32)
        modules = {key: part for key, part in pipe.components.items() if isinstance(part, torch.nn.Module)}
        return {
            "source": f"diffusers {version('diffusers')}, transformers {version('transformers')}",
            "files": dict(files_of(folder)),
            "parameters": {key: sum(p.numel() for p in part.parameters()) for key, part in modules.items()},
            "loaded": {dtype: loaded(pipe, folder, getattr(torch, dtype)) for dtype in DTYPES},
        }


def main() -> None:
    """Write every file."""
    for name in PIPELINES:
        path = FIXTURES / f"{name}.json"
        path.write_text(json.dumps(record(name)) + "\n", encoding="utf-8")
        print(path.name, path.stat().st_size)


if __name__ == "__main__":
    main()
