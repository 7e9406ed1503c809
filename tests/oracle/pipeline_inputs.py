"""Records `fixtures/oracle/pipeline_inputs.json`: what real pipelines of diffusers, made small and run on the CPU, give
their denoisers and VAEs for an output size and input images.

python -m tests.oracle.pipeline_inputs

A row has the class, what was asked, the tokens that the denoiser was given in one call, and the height and width of
each image that the VAE encoded and of what it decoded.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

FIXTURE: Final = Path(__file__).parents[2] / "fixtures" / "oracle" / "pipeline_inputs.json"
_TEXT: Final = 7
_PACKED: Final = 3  # dimensions of latents that are tokens already
_UNPACKED: Final = 5
_FRAMES: Final = 17  # of videos

# class, width and height asked, sizes of the input images
CASES: Final = (
    ("FluxPipeline", (512, 520), ()),
    ("FluxPipeline", (500, 333), ()),
    ("FluxKontextPipeline", (1024, 1024), ((1024, 1024),)),
    ("FluxKontextPipeline", (512, 512), ((640, 480),)),
    ("FluxKontextPipeline", (2048, 1024), ((1000, 2000),)),
    ("FluxKontextPipeline", (1024, 1024), ()),
    ("QwenImageEditPipeline", (512, 512), ((1024, 1024),)),
    ("QwenImageEditPipeline", (1000, 700), ((300, 200),)),
    ("QwenImageEditPlusPipeline", (512, 512), ((1024, 1024), (1024, 1024))),
    ("Flux2Pipeline", (512, 512), ()),
    ("Flux2Pipeline", (512, 512), ((640, 480),)),
    ("Flux2Pipeline", (512, 256), ((1024, 2048), (1024, 2048))),
    ("JoyImageEditPipeline", (512, 512), ()),
    ("JoyImageEditPipeline", (512, 512), ((640, 480),)),
    ("LTXConditionPipeline", (128, 64), ()),
    ("LTXConditionPipeline", (128, 64), ((640, 480), (64, 64))),
    ("WanVACEPipeline", (128, 64), ()),
    ("WanVACEPipeline", (128, 64), ((640, 480),)),
)


def main() -> None:
    """Write the file."""
    rows = list(_rows())
    source = f"diffusers {version('diffusers')}, PyTorch {version('torch')}"
    lines = ",\n".join(json.dumps(row) for row in rows)
    FIXTURE.write_text(f'{{"source": "{source}", "rows": [\n{lines}\n]}}\n')


def _rows() -> Iterator[dict[str, Any]]:
    for name, size, images in CASES:
        yield {
            "pipeline": name,
            "asked": list(size),
            "images": [list(one) for one in images],
            **run(name, size, images),
        }


def run(name: str, size: tuple[int, int], images: tuple[tuple[int, int], ...]) -> dict[str, Any]:
    """What the parts of a small pipeline are given."""
    from PIL import Image

    pipe, embeds = _MADE[name]()
    pipe.set_progress_bar_config(disable=True)
    seen: dict[str, Any] = {"tokens": 0, "encoded": [], "decoded": []}

    def call(_: Any, arguments: tuple[Any, ...], named: dict[str, Any]) -> None:
        latents = named.get("hidden_states", arguments[0] if arguments else None)
        seen["tokens"] = int(latents.shape[1] if latents.ndim == _PACKED else _pixels(latents) // 4)

    encode, decode, scale = pipe.vae.encode, pipe.vae.decode, _scale(pipe)

    def encoded(x: Any, *more: Any, **named: Any) -> Any:
        seen["encoded"].append(list(x.shape[-2:]))
        return encode(x, *more, **named)

    def decoded(z: Any, *more: Any, **named: Any) -> Any:
        seen["decoded"] = [side * scale for side in z.shape[-2:]]
        seen["together"] = len(z)
        return decode(z, *more, **named)

    pipe.transformer.register_forward_pre_hook(call, with_kwargs=True)
    pipe.vae.encode, pipe.vae.decode = encoded, decoded
    given = [Image.new("RGB", one) for one in images]
    more = {"image": given if len(given) > 1 else given[0]} if given else {}
    if given and name.startswith("LTXCondition"):
        more = {"conditions": _after(given)}
    if given and name.startswith("WanVACE"):
        more = {"reference_images": given}
    pipe(width=size[0], height=size[1], num_inference_steps=1, **embeds, **more)
    return seen


def _pixels(latents: Any) -> int:
    """Latent pixels of one result and what is joined to it: of (batch, channels, frames, …), or with items before."""
    return int((latents[0, 0] if latents.ndim == _UNPACKED else latents[0, :, 0]).numel())


def _after(images: list[Any]) -> list[Any]:
    """Images of a video, each at a frame after the first."""
    from diffusers.pipelines.ltx.pipeline_ltx_condition import LTXVideoCondition

    return [LTXVideoCondition(image=image, frame_index=8 * (1 + n)) for n, image in enumerate(images)]


def _scale(pipe: Any) -> int:
    names = ("vae_scale_factor", "vae_scale_factor_spatial", "vae_spatial_compression_ratio")
    return int(next(getattr(pipe, name) for name in names if hasattr(pipe, name)))


def _scheduler() -> Any:
    from diffusers import FlowMatchEulerDiscreteScheduler

    return FlowMatchEulerDiscreteScheduler()


def _vae() -> Any:
    from diffusers import AutoencoderKL

    return AutoencoderKL(
        block_out_channels=[8] * 4,
        norm_num_groups=2,
        down_block_types=["DownEncoderBlock2D"] * 4,
        up_block_types=["UpDecoderBlock2D"] * 4,
        latent_channels=4,
        shift_factor=0.0,
    )


def _flux(name: str) -> Callable[[], Any]:
    def build() -> Any:
        import diffusers
        import torch

        transformer = diffusers.FluxTransformer2DModel(
            in_channels=16,
            num_layers=1,
            num_single_layers=0,
            attention_head_dim=16,
            num_attention_heads=2,
            joint_attention_dim=8,
            pooled_projection_dim=8,
            axes_dims_rope=(4, 4, 8),
        )
        none = dict.fromkeys(("text_encoder", "tokenizer", "text_encoder_2", "tokenizer_2"))
        pipe = getattr(diffusers, name)(transformer=transformer, vae=_vae(), scheduler=_scheduler(), **none)
        return pipe, {"prompt_embeds": torch.zeros(1, _TEXT, 8), "pooled_prompt_embeds": torch.zeros(1, 8)}

    return build


def _qwen(name: str) -> Callable[[], Any]:
    def build() -> Any:
        import diffusers
        import torch

        transformer = diffusers.QwenImageTransformer2DModel(
            in_channels=64,
            out_channels=16,
            num_layers=1,
            attention_head_dim=16,
            num_attention_heads=2,
            joint_attention_dim=8,
            axes_dims_rope=(4, 4, 8),
        )
        vae = diffusers.AutoencoderKLQwenImage(base_dim=4, z_dim=16, num_res_blocks=1)
        none = dict.fromkeys(("text_encoder", "tokenizer", "processor"))
        pipe = getattr(diffusers, name)(transformer=transformer, vae=vae, scheduler=_scheduler(), **none)
        mask = torch.ones(1, _TEXT, dtype=torch.long)
        return pipe, {"prompt_embeds": torch.zeros(1, _TEXT, 8), "prompt_embeds_mask": mask}

    return build


def _flux2() -> Any:
    import diffusers
    import torch

    transformer = diffusers.Flux2Transformer2DModel(
        in_channels=16,
        num_layers=1,
        num_single_layers=1,
        attention_head_dim=16,
        num_attention_heads=2,
        joint_attention_dim=8,
        timestep_guidance_channels=8,
        axes_dims_rope=(4, 4, 4, 4),
    )
    vae = diffusers.AutoencoderKLFlux2(
        block_out_channels=(8, 8, 8, 8),
        norm_num_groups=2,
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        latent_channels=4,
    )
    none = dict.fromkeys(("text_encoder", "tokenizer"))
    pipe = diffusers.Flux2Pipeline(transformer=transformer, vae=vae, scheduler=_scheduler(), **none)
    return pipe, {"prompt_embeds": torch.zeros(1, _TEXT, 8)}


def _joyimage() -> Any:
    import diffusers
    import torch

    transformer = diffusers.JoyImageEditTransformer3DModel(
        hidden_size=32, num_attention_heads=2, text_dim=8, num_layers=1, rope_dim_list=[4, 6, 6]
    )
    vae = diffusers.AutoencoderKLWan(base_dim=4, z_dim=16, num_res_blocks=1)
    none = dict.fromkeys(("text_encoder", "tokenizer", "processor"))
    pipe = diffusers.JoyImageEditPipeline(transformer=transformer, vae=vae, scheduler=_scheduler(), **none)
    given = {"prompt_embeds": torch.zeros(1, _TEXT, 8), "prompt_embeds_mask": torch.ones(1, _TEXT, dtype=torch.long)}
    return pipe, {**given, "guidance_scale": 1.0}


def _ltx() -> Any:
    import diffusers
    import torch

    transformer = diffusers.LTXVideoTransformer3DModel(
        in_channels=8,
        out_channels=8,
        num_attention_heads=2,
        attention_head_dim=16,
        cross_attention_dim=32,
        num_layers=1,
        caption_channels=8,
    )
    vae = diffusers.AutoencoderKLLTXVideo(
        latent_channels=8,
        block_out_channels=(8,) * 4,
        decoder_block_out_channels=(8,) * 4,
        layers_per_block=(1,) * 5,
        decoder_layers_per_block=(1,) * 5,
    )
    none = dict.fromkeys(("text_encoder", "tokenizer"))
    pipe = diffusers.LTXConditionPipeline(transformer=transformer, vae=vae, scheduler=_scheduler(), **none)
    text = {"prompt_embeds": torch.zeros(1, _TEXT, 8), "prompt_attention_mask": torch.ones(1, _TEXT)}
    return pipe, {**text, "num_frames": _FRAMES, "guidance_scale": 1.0}


def _vace() -> Any:
    import diffusers
    import torch

    transformer = diffusers.WanVACETransformer3DModel(
        num_attention_heads=2,
        attention_head_dim=16,
        text_dim=8,
        freq_dim=8,
        ffn_dim=32,
        num_layers=2,
        vace_layers=[0],
        vace_in_channels=96,
    )
    vae = diffusers.AutoencoderKLWan(base_dim=4, z_dim=16, num_res_blocks=1)
    none = dict.fromkeys(("text_encoder", "tokenizer"))
    scheduler = diffusers.UniPCMultistepScheduler(use_flow_sigmas=True, prediction_type="flow_prediction")
    pipe = diffusers.WanVACEPipeline(transformer=transformer, vae=vae, scheduler=scheduler, **none)
    return pipe, {"prompt_embeds": torch.zeros(1, _TEXT, 8), "num_frames": _FRAMES, "guidance_scale": 1.0}


_MADE: Final[dict[str, Callable[[], Any]]] = {
    "FluxPipeline": _flux("FluxPipeline"),
    "FluxKontextPipeline": _flux("FluxKontextPipeline"),
    "QwenImageEditPipeline": _qwen("QwenImageEditPipeline"),
    "QwenImageEditPlusPipeline": _qwen("QwenImageEditPlusPipeline"),
    "Flux2Pipeline": _flux2,
    "JoyImageEditPipeline": _joyimage,
    "LTXConditionPipeline": _ltx,
    "WanVACEPipeline": _vace,
}


if __name__ == "__main__":
    main()
