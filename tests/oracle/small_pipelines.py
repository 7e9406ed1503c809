"""A small pipeline as diffusers saves it, and the lines of Python that an answer has, run on the CPU."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import hfmem

__all__ = ["run_lines", "tiny"]


def tiny(folder: Path) -> None:
    """A small Stable Diffusion with random weights."""
    import diffusers
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

    words = {word: number for number, word in enumerate(("<|startoftext|>", "<|endoftext|>", ".", "a</w>", ".</w>"))}
    tokenizer = CLIPTokenizer(vocab=words, merges=[], model_max_length=77)
    blocks = {"block_out_channels": (32, 64), "norm_num_groups": 32}
    unet = diffusers.UNet2DConditionModel(
        **blocks,
        layers_per_block=1,
        sample_size=16,
        cross_attention_dim=32,
        attention_head_dim=8,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
    )
    vae = diffusers.AutoencoderKL(
        **blocks, down_block_types=("DownEncoderBlock2D",) * 2, up_block_types=("UpDecoderBlock2D",) * 2, sample_size=32
    )
    text = CLIPTextModel(
        CLIPTextConfig(
            hidden_size=32, intermediate_size=37, num_attention_heads=4, num_hidden_layers=2, vocab_size=len(words)
        )
    )
    diffusers.StableDiffusionPipeline(
        vae=vae,
        text_encoder=text,
        tokenizer=tokenizer,
        unet=unet,
        scheduler=diffusers.DDIMScheduler(),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    ).save_pretrained(folder)


def run_lines(report: hfmem.Report) -> dict[str, Any]:
    """The names that the answer's lines make at 32 × 32 pixels, in one step; `made` is what the last one returns."""
    serving = report.estimate.serving
    assert serving is not None
    assert serving.command is not None
    lines = serving.command.replace('"cuda"', '"cpu"').replace("width=32", "width=32, num_inference_steps=1")
    names: dict[str, Any] = {}
    last = lines.splitlines()[-1]
    exec(lines.replace(last, f"made = {last}"), names)
    return names
