"""Repositories hold the same weights in several forms; one is counted."""

from __future__ import annotations

import pytest

from hfmem.fetcher.selection import download_files, select
from hfmem.fetcher.values import FileInfo

SHARDS = [f"model-{i:05d}-of-00003.safetensors" for i in (1, 2, 3)]


def files(*names: str) -> tuple[FileInfo, ...]:
    return tuple(FileInfo(name=name, size=10) for name in names)


CASES = [
    (["config.json", "model.safetensors"], "single", ["model.safetensors"]),
    (["model.safetensors", "model.fp16.safetensors", "pytorch_model.bin"], "single", ["model.safetensors"]),
    ([*SHARDS, "model.safetensors.index.json", "consolidated.safetensors"], "sharded", SHARDS),
    (SHARDS[:2] + ["model.safetensors.index.json"], "sharded", []),
    (SHARDS[:2], "sharded", SHARDS[:2]),
    (SHARDS[:1], "sharded", SHARDS[:1]),
    (["model.fp16.safetensors", "model.bf16.safetensors"], "several", ["model.bf16.safetensors"]),
    (["consolidated.safetensors", "consolidated.fp8.safetensors"], "several", ["consolidated.safetensors"]),
    (["pytorch_model.bin", "pytorch_model.fp16.bin"], "bin", ["pytorch_model.bin"]),
    (["odd-1.safetensors", "model.safetensors.index.json"], "sharded", []),
    (["adapter_config.json", "adapter_model.safetensors"], "adapter", ["adapter_model.safetensors"]),
    (["consolidated.safetensors", "params.json"], "several", ["consolidated.safetensors"]),
    (["weights.safetensors"], "several", ["weights.safetensors"]),
    (["a.safetensors", "b.safetensors"], "none", []),
    (["pytorch_model-00001-of-00002.bin", "pytorch_model-00002-of-00002.bin"], "bin", None),
    (["m-Q4_K_M.gguf"], "gguf", ["m-Q4_K_M.gguf"]),
    (["m-Q4_K_M.gguf", "m-Q8_0.gguf"], "gguf", ["m-Q4_K_M.gguf"]),
    (["m-00002-of-00002.gguf", "m-00001-of-00002.gguf"], "gguf", ["m-00001-of-00002.gguf", "m-00002-of-00002.gguf"]),
    (["Q8_0/m-Q8_0.gguf", "mmproj-F16.gguf", "imatrix.gguf", "mtp-m.gguf"], "gguf", ["Q8_0/m-Q8_0.gguf"]),
    (["mmproj-F16.gguf"], "gguf", ["mmproj-F16.gguf"]),
    (["README.md"], "none", []),
    (
        ["modules.json", "model.safetensors", "2_Dense/model.safetensors", "1_Pooling/config.json"],
        "single",
        ["model.safetensors", "2_Dense/model.safetensors"],
    ),
    (
        ["modules.json", "pytorch_model.bin", "2_Dense/pytorch_model.bin", "2_Dense/model.safetensors", "3_x/a.bin"],
        "bin",
        ["pytorch_model.bin", "2_Dense/model.safetensors"],
    ),
    (["modules.json", "0_StaticEmbedding/model.safetensors"], "several", ["0_StaticEmbedding/model.safetensors"]),
    (
        ["modules.json", "query_0_StaticEmbedding/model.safetensors", "document_0_Dense/pytorch_model.bin"],
        "several",
        ["query_0_StaticEmbedding/model.safetensors", "document_0_Dense/pytorch_model.bin"],
    ),
    (["1_Pooling/pytorch_model.bin"], "foreign", ["1_Pooling/pytorch_model.bin"]),
    (["consolidated.00.pth", "consolidated.01.pth", "params.json"], "several", None),
    (["model.pt"], "several", ["model.pt"]),
    (["a.pt", "b.pt"], "foreign", []),
    (["model.pt", "config.json"], "foreign", ["model.pt"]),
    (
        ["checkpoint-9/adapter_model.bin", "checkpoint-10/adapter_model.bin", "checkpoint-10/adapter_config.json"],
        "adapter",
        ["checkpoint-10/adapter_model.bin"],
    ),
    (
        [
            "model_index.json",
            "unet/diffusion_pytorch_model.safetensors",
            "unet/diffusion_pytorch_model.fp16.safetensors",
            "vae/diffusion_pytorch_model.fp16.safetensors",
            "text_encoder/model-00001-of-00002.safetensors",
            "text_encoder/model-00002-of-00002.safetensors",
            "sd_xl_base_1.0.safetensors",
        ],
        "pipeline",
        [
            "unet/diffusion_pytorch_model.safetensors",
            "vae/diffusion_pytorch_model.fp16.safetensors",
            "text_encoder/model-00001-of-00002.safetensors",
            "text_encoder/model-00002-of-00002.safetensors",
        ],
    ),
]


@pytest.mark.parametrize(("names", "layout", "weights"), CASES)
def test_select(names: list[str], layout: str, weights: list[str] | None) -> None:
    selection = select(files(*names))
    assert selection.layout == layout
    everything = [name for name in names if not name.endswith(".json")]
    assert [file.name for file in selection.weights] == (everything if weights is None else weights)


def test_a_download_takes_configuration_and_tokenizer_but_no_other_format() -> None:
    listing = files(
        "config.json",
        "tokenizer.model",
        "model.safetensors",
        "pytorch_model.bin",
        "README.md",
        "onnx/model.onnx",
        "a.png",
    )
    names = {file.name for file in download_files(listing, select(listing).weights)}
    assert names == {"config.json", "tokenizer.model", "model.safetensors"}


def test_shards_that_are_promised_and_not_there_are_counted() -> None:
    assert select(files(*SHARDS)).missing == 0
    assert select(files(*SHARDS[:1])).missing == 2
