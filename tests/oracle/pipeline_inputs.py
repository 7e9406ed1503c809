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
        seen["tokens"] = int(named.get("hidden_states", arguments[0] if arguments else None).shape[1])

    encode, decode, scale = pipe.vae.encode, pipe.vae.decode, pipe.vae_scale_factor

    def encoded(x: Any, *more: Any, **named: Any) -> Any:
        seen["encoded"].append(list(x.shape[-2:]))
        return encode(x, *more, **named)

    def decoded(z: Any, *more: Any, **named: Any) -> Any:
        seen["decoded"] = [side * scale for side in z.shape[-2:]]
        return decode(z, *more, **named)

    pipe.transformer.register_forward_pre_hook(call, with_kwargs=True)
    pipe.vae.encode, pipe.vae.decode = encoded, decoded
    given = [Image.new("RGB", one) for one in images]
    more = {"image": given if len(given) > 1 else given[0]} if given else {}
    pipe(width=size[0], height=size[1], num_inference_steps=1, **embeds, **more)
    return seen


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


_MADE: Final[dict[str, Callable[[], Any]]] = {
    "FluxPipeline": _flux("FluxPipeline"),
    "FluxKontextPipeline": _flux("FluxKontextPipeline"),
    "QwenImageEditPipeline": _qwen("QwenImageEditPipeline"),
    "QwenImageEditPlusPipeline": _qwen("QwenImageEditPlusPipeline"),
    "Flux2Pipeline": _flux2,
}


if __name__ == "__main__":
    main()
