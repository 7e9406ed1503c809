"""Pipelines of the catalog: parameters and bytes as measured on the real classes, and published totals."""

from __future__ import annotations

import json
import subprocess
import sys
from functools import cache

import pytest

import hfmem
from hfmem.fetcher import pipeline_catalog
from hfmem.fetcher.values import ModelRef
from hfmem.mapper.pipelines.values import Component
from tests.command import run

# model, component, parameters, run dtype, bytes of its parameters in memory: measured on the real classes under fake
# tensors (diffusers 0.42.1, transformers 5.24, torch 2.13), by others than the catalog's own probe
MEASURED = [
    ("black-forest-labs/FLUX.1-dev", "text_encoder_2", 4_762_310_656, "bfloat16", 9_524_621_312),
    ("black-forest-labs/FLUX.1-dev", "text_encoder", 123_060_480, "bfloat16", 246_120_960),
    ("black-forest-labs/FLUX.1-dev", "transformer", 11_901_408_320, "bfloat16", 23_802_816_640),
    ("black-forest-labs/FLUX.1-dev", "vae", 83_819_683, "bfloat16", 167_639_366),
    ("black-forest-labs/FLUX.1-schnell", "transformer", 11_891_178_560, "bfloat16", 23_782_357_120),
    ("black-forest-labs/FLUX.2-dev", "transformer", 32_223_281_152, "bfloat16", 64_446_562_304),
    ("black-forest-labs/FLUX.2-dev", "vae", 84_046_115, "bfloat16", 168_092_230 + 2 * 256),  # and statistics
    ("black-forest-labs/FLUX.2-klein-4B", "transformer", 3_875_544_576, "bfloat16", 7_751_089_152),
    ("Qwen/Qwen-Image", "transformer", 20_430_401_088, "bfloat16", 40_860_802_176),
    ("Qwen/Qwen-Image", "text_encoder", 8_292_166_656, "bfloat16", 16_584_333_312),
    ("Qwen/Qwen-Image", "vae", 126_892_531, "bfloat16", 253_785_062),
    ("Tongyi-MAI/Z-Image-Turbo", "transformer", 6_154_908_736, "bfloat16", 12_309_817_472),
    ("Tongyi-MAI/Z-Image-Turbo", "text_encoder", 4_022_468_096, "bfloat16", 8_044_936_192),
    ("stable-diffusion-v1-5/stable-diffusion-v1-5", "unet", 859_520_964, "float16", 1_719_041_928),
    ("stable-diffusion-v1-5/stable-diffusion-v1-5", "vae", 83_653_863, "float16", 167_307_726),
    ("stable-diffusion-v1-5/stable-diffusion-v1-5", "text_encoder", 123_060_480, "float16", 246_120_960),
    ("stabilityai/stable-diffusion-xl-base-1.0", "unet", 2_567_463_684, "float16", 5_134_927_368),
    ("stabilityai/stable-diffusion-xl-base-1.0", "vae", 83_653_863, "float32", 334_615_452),
    ("stabilityai/stable-diffusion-xl-base-1.0", "text_encoder_2", 694_659_840, "float16", 1_389_319_680),
    ("stabilityai/stable-diffusion-3-medium-diffusers", "text_encoder_3", 4_762_310_656, "float16", 11_537_887_232),
    ("stabilityai/stable-diffusion-3-medium-diffusers", "text_encoder", 123_650_304, "float16", 247_300_608),
    # and the table of positions, 192 x 192 x 1536, which is a buffer
    (
        "stabilityai/stable-diffusion-3-medium-diffusers",
        "transformer",
        2_028_328_000,
        "float16",
        4_056_656_000 + 2 * 192 * 192 * 1536,
    ),
    ("stabilityai/stable-cascade", "decoder", 1_562_941_136, "bfloat16", 3_125_882_272),
    ("stabilityai/stable-video-diffusion-img2vid-xt", "unet", 1_524_623_082, "float16", 3_049_246_164),
    ("zai-org/CogVideoX-2b", "transformer", 1_693_783_872, "float16", 3_387_567_744),
    ("zai-org/CogVideoX-2b", "vae", 215_583_907, "float16", 431_167_814),
    ("zai-org/CogVideoX-2b", "text_encoder", 4_762_310_656, "float16", 11_537_887_232),
    ("zai-org/CogVideoX-5b", "transformer", 5_570_283_072, "bfloat16", 11_140_566_144),
    ("PixArt-alpha/PixArt-XL-2-1024-MS", "transformer", 611_349_152, "float16", 1_222_698_304),
    ("Lightricks/LTX-Video-0.9.7-dev", "transformer", 13_042_569_344, "bfloat16", 26_085_138_688),
    ("genmo/mochi-1-preview", "vae", 459_748_611, "bfloat16", 919_497_222),
    ("Efficient-Large-Model/Sana_1600M_1024px_BF16_diffusers", "transformer", 1_604_462_752, "bfloat16", 3_208_925_504),
    ("Efficient-Large-Model/Sana_1600M_1024px_BF16_diffusers", "vae", 312_250_275, "float32", 1_249_001_100),
    (
        "Efficient-Large-Model/Sana_1600M_1024px_BF16_diffusers",
        "text_encoder",
        2_614_341_888,
        "bfloat16",
        5_228_683_776,
    ),
    ("Wan-AI/Wan2.1-T2V-1.3B-Diffusers", "transformer", 1_418_996_800, "bfloat16", 2_844_248_192),
    ("Wan-AI/Wan2.1-T2V-1.3B-Diffusers", "vae", 126_892_531, "float32", 507_570_124),
    ("Wan-AI/Wan2.1-T2V-1.3B-Diffusers", "text_encoder", 5_680_910_336, "bfloat16", 11_361_820_672),
    ("Wan-AI/Wan2.1-T2V-14B-Diffusers", "transformer", 14_288_491_584, "bfloat16", 28_635_351_168),
]

# totals that others publish
PUBLISHED = [
    ("stabilityai/stable-diffusion-xl-base-1.0", 3_468_837_867),  # from the headers of its files
    ("mistralai in black-forest-labs/FLUX.2-dev", 24_011_361_280),  # the Hub's total of Mistral-Small-3.2-24B
]


@cache
def component(model: str, name: str) -> Component:
    found = hfmem.inspect(model, offline=True)
    assert found.pipeline is not None
    one = found.pipeline.find(name)
    assert one is not None
    return one


@pytest.mark.parametrize(("model", "name", "parameters", "dtype", "nbytes"), MEASURED)
def test_components_are_the_real_classes(model: str, name: str, parameters: int, dtype: str, nbytes: int) -> None:
    one = component(model, name)
    assert one.parameters is not None
    assert one.parameters.total == parameters
    report = hfmem.estimate(model, offline=True, dtype=dtype).to_dict()
    assert next(row["bytes"] for row in report["components"] if row["name"] == name) == nbytes


def test_totals_that_others_publish() -> None:
    sdxl = hfmem.inspect(PUBLISHED[0][0], offline=True)
    assert sdxl.parameters is not None
    assert sdxl.parameters.total == PUBLISHED[0][1]
    mistral = component("black-forest-labs/FLUX.2-dev", "text_encoder")
    assert mistral.parameters is not None
    assert mistral.parameters.total == PUBLISHED[1][1]


@pytest.mark.parametrize(
    ("model", "name", "nbytes"),
    [
        # `total_size` of the index of its shards, which others have a copy of
        ("stabilityai/stable-diffusion-3.5-large", "transformer", 16_292_561_536),
        ("lodestones/Chroma1-HD", "transformer", 17_799_966_848),
        ("Tencent-Hunyuan/HunyuanDiT-v1.2-Diffusers", "text_encoder_2", 6_679_834_624),
    ],
)
def test_bytes_of_the_published_files(model: str, name: str, nbytes: int) -> None:
    table = component(model, name).parameters
    assert table is not None
    assert sum(group.stored_bytes or 0 for group in table.groups) == nbytes


@pytest.mark.parametrize(
    ("options", "published"),
    [
        (("--height", "512", "--width", "512"), 33),
        (("--height", "720", "--width", "1280"), 35),
        (("--height", "1024", "--width", "1024", "--offload", "model"), 20),
        (("--height", "720", "--width", "1280", "--offload", "model"), 20),
    ],
)
def test_what_the_card_of_cogview4_says_for_four_images(options: tuple[str, ...], published: int) -> None:
    """In whole GB (THUDM/CogView4-6B, README.md); its own example slices. With offloading the largest is the text
    encoder with the states of its 40 layers, which the pipeline asks for."""
    result = run("zai-org/CogView4-6B", "--batch", "4", "--vae-slicing", *options, "--offline", "--format", "json")
    total = json.loads(result.stdout)["results"][0]["memory"]["total"]
    assert 0.97 * published <= total / 1e9 <= 1.05 * published


def test_there_are_many_and_each_answers() -> None:
    models = pipeline_catalog.model_ids()
    assert len(models) >= 40
    for model in models:
        report = hfmem.estimate(model, offline=True)
        result = report.to_dict()
        assert report.scenario.runtime == "diffusers"
        assert result["source"] == "catalog"
        assert all(row["parameters"] and row["bytes"] and row["dtype"] for row in result["components"])
        loaded = sum(term.nbytes for term in report.estimate.terms if term.group == "weights" and term.phase is None)
        assert loaded == sum(row["bytes"] for row in result["components"])
        assert result["memory"]["kv_cache"] == 0
        assert report.model.pipeline is not None
        assert report.model.pipeline.denoiser is not None


@pytest.mark.parametrize("model", ["BLACK-FOREST-LABS/flux.1-DEV", "runwayml/stable-diffusion-v1-5"])
def test_letter_case_and_other_names(model: str) -> None:
    assert hfmem.inspect(model, offline=True).pipeline is not None


def test_a_name_that_is_almost_one_is_offered() -> None:
    process = run("black-forest-labs/FLUX.1-dve", "--offline")
    assert process.returncode == 1
    assert "black-forest-labs/FLUX.1-dev" in process.stderr


def test_where_the_facts_are_from_is_said() -> None:
    report = hfmem.estimate("Wan-AI/Wan2.1-T2V-14B-Diffusers", offline=True)
    assert "scripts/convert_wan_to_diffusers.py" in report.checkpoint.provenance
    assert all(term.source for term in report.estimate.terms)


def test_the_class_that_a_single_file_is_of() -> None:
    assert pipeline_catalog.of_class("FluxPipeline") == "black-forest-labs/FLUX.1-dev"
    assert pipeline_catalog.of_class("NoPipeline") == ""
    assert pipeline_catalog.find(ModelRef(model_id="a/b")) is None


def test_a_run_loads_neither_torch_nor_the_libraries() -> None:
    code = (
        "import sys, hfmem\n"
        "hfmem.estimate('black-forest-labs/FLUX.1-dev', offline=True)\n"
        "print(sorted({'torch', 'diffusers', 'transformers', 'httpx'} & set(sys.modules)))"
    )
    process = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert process.stdout.strip() == "[]"
