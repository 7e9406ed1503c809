"""Pipelines in one file, and denoisers alone: which they are, and what is needed besides.

Names and shapes are those of the authors' own code: lists that others collected of Stable Diffusion's parts, and FLUX
written out from its code (`fixtures/single_files/names.json`).
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from functools import cache
from pathlib import Path

import pytest

import hfmem
from hfmem.fetcher.patterns import expand
from hfmem.mapper.pipelines.values import Pipeline
from hfmem.refusals.quantised import PipelineQuantisationError
from tests.hub import Hub
from tests.hub.files import gguf_file, json_file, safetensors_file
from tests.hub.repos import Repo

NAMES = Path(__file__).parents[2] / "fixtures" / "single_files" / "names.json"
Row = tuple[str, str, tuple[int, ...]]


@cache
def tensors(name: str) -> tuple[Row, ...]:
    rows = json.loads(NAMES.read_text(encoding="utf-8"))["files"][name]
    return tuple(expand((pattern, dtype, tuple(shape)) for pattern, dtype, shape in rows))


def single(hub: Hub, rows: Iterable[Row]) -> tuple[hfmem.Model, Pipeline]:
    hub.put(Repo(id="org/single", files=(safetensors_file("v1.safetensors", list(rows)),)))
    model = hfmem.inspect("org/single")
    assert model.pipeline is not None
    return model, model.pipeline


# the same components in diffusers' layout have as many parameters (tests/test_pipeline_catalog.py)
UNETS = {"sd15": 859_520_964, "sd21": 865_910_724, "sdxl": 2_567_463_684, "sdxl-refiner": 2_259_526_660}


@pytest.mark.parametrize(
    ("name", "class_name", "parts"),
    [
        ("sd15", "StableDiffusionPipeline", {"vae": 83_653_863, "text_encoder": 123_060_480}),
        ("sd21", "StableDiffusionPipeline", {"vae": 83_653_863}),
        (
            "sdxl",
            "StableDiffusionXLPipeline",
            {"vae": 83_653_863, "text_encoder": 123_060_480, "text_encoder_2": 694_659_840},
        ),
        ("sdxl-refiner", "StableDiffusionXLImg2ImgPipeline", {"vae": 83_653_863, "text_encoder_2": 694_659_840}),
    ],
)
def test_a_whole_pipeline(hub: Hub, name: str, class_name: str, parts: dict[str, int]) -> None:
    model, pipeline = single(hub, tensors(name))
    assert pipeline.class_name == class_name
    assert pipeline.missing == ()
    counts = {one.name: one.parameters.total for one in pipeline.components if one.parameters}
    assert counts.items() >= ({"unet": UNETS[name]} | parts).items()
    assert pipeline.denoiser is not None
    assert pipeline.denoiser.config["cross_attention_dim"]
    assert any(note.startswith(f"This file is a whole {class_name}, as ") for note in model.notes)
    rows = hfmem.estimate(model).to_dict()["components"]
    assert sum(row["bytes"] for row in rows) == 2 * sum(counts.values())  # CLIP's position ids are not loaded


def test_averages_of_training_and_schedules_are_not_counted(hub: Hub) -> None:
    more = [("model_ema.diffusion_modelinput_blocks00weight", "F32", (320, 4, 3, 3)), ("betas", "F32", (1000,))]
    _, pipeline = single(hub, [*tensors("sd15"), *more])
    assert sum(one.parameters.total for one in pipeline.components if one.parameters) < 1_070_000_000


@pytest.mark.parametrize(
    ("name", "model", "parameters"),
    [
        ("flux1-dev", "FLUX.1-dev", 11_901_408_320),
        ("flux1-schnell", "FLUX.1-schnell", 11_891_178_560),
        ("flux1-fill-dev", "FLUX.1-Fill-dev", 11_902_391_360),
    ],
)
@pytest.mark.parametrize("prefix", ["", "model.diffusion_model."])
def test_a_denoiser_alone(hub: Hub, name: str, model: str, parameters: int, prefix: str) -> None:
    found, pipeline = single(hub, [(prefix + tensor, dtype, shape) for tensor, dtype, shape in tensors(name)])
    (denoiser,) = pipeline.components
    assert denoiser.parameters is not None
    assert (denoiser.name, denoiser.class_name) == ("transformer", "FluxTransformer2DModel")
    assert denoiser.parameters.total == parameters
    assert denoiser.config["num_single_layers"] == 38
    assert [one.name for one in pipeline.missing] == ["text_encoder", "text_encoder_2", "vae"]
    assert f"as black-forest-labs/{model}, by the names" in found.notes[0]
    assert "text_encoder_2 (T5EncoderModel, 4.76 B parameters, 8.87 GiB in 16 bits)" in found.notes[1]
    report = hfmem.estimate(found)
    assert report.estimate.group("weights") == 2 * parameters
    assert report.estimate.is_lower_bound
    assert [(row["name"], row["loaded"]) for row in report.to_dict()["components"]] == [
        ("transformer", True),
        ("text_encoder", False),
        ("text_encoder_2", False),
        ("vae", False),
    ]


def test_a_denoiser_in_gguf_is_no_model_of_llama_cpp(hub: Hub) -> None:
    """As ComfyUI-GGUF writes them: the authors' names, matrices in blocks."""

    def packed(rows: Iterable[Row], dtype: str) -> list[Row]:
        return [(name, dtype if len(shape) == 2 and shape[1] % 256 == 0 else "F32", shape) for name, _, shape in rows]

    rows = tensors("flux1-dev")
    files = tuple(
        gguf_file(f"flux1-dev-{quant}.gguf", packed(rows, dtype), {"general.architecture": "flux"})
        for quant, dtype in (("Q4_K_M", "Q4_K"), ("Q8_0", "Q8_0"))
    )
    hub.put(Repo(id="org/FLUX.1-dev-gguf", files=files))
    report = hfmem.estimate("org/FLUX.1-dev-gguf:Q8_0")
    with pytest.raises(PipelineQuantisationError) as caught:
        hfmem.estimate("org/FLUX.1-dev-gguf:Q8_0", dtype="nf4")
    assert caught.value.why == "stored"
    assert report.scenario.runtime == "diffusers"
    (row, *_) = report.to_dict()["components"]
    matrices = sum(shape[0] * shape[1] for _, _, shape in rows if len(shape) == 2 and shape[1] % 256 == 0)
    rest = 11_901_408_320 - matrices
    assert row["parameters"] == 11_901_408_320
    assert row["bytes"] == matrices // 32 * 34 + 4 * rest
    assert row["dtype"] == "Q8_0"
    several = hfmem.inspect("org/FLUX.1-dev-gguf")
    assert any("others are named as in org/FLUX.1-dev-gguf:Q8_0" in note for note in several.notes)


def test_scales_of_fp8_are_no_parameters(hub: Hub) -> None:
    rows = [(name, "F8_E4M3" if len(shape) == 2 else dtype, shape) for name, dtype, shape in tensors("flux1-schnell")]
    rows += [(f"{name.removesuffix('.weight')}.scale_weight", "F32", ()) for name, _, shape in rows if len(shape) == 2]
    rows.append(("scaled_fp8", "F8_E4M3", (2,)))
    _, pipeline = single(hub, rows)
    assert pipeline.denoiser is not None
    assert pipeline.denoiser.parameters is not None
    assert pipeline.denoiser.parameters.total == 11_891_178_560


def test_a_language_model_is_none(hub: Hub) -> None:
    hub.put(Repo(id="org/lm", files=(safetensors_file("x.safetensors", [("model.layers.0.w", "F16", (4, 4))]),)))
    assert hfmem.inspect("org/lm").pipeline is None


def test_a_file_beside_a_pipeline_is_chosen_by_its_name(hub: Hub) -> None:
    files = (
        json_file("model_index.json", {"unet": ["diffusers", "UNet2DConditionModel"]}),
        safetensors_file("unet/diffusion_pytorch_model.safetensors", [("w", "F16", (4, 4))]),
        safetensors_file("v1-5-pruned.safetensors", tensors("sd15")),
    )
    hub.put(Repo(id="org/both", files=files))
    whole = hfmem.estimate("org/both")
    one = hfmem.estimate("org/both", file="v1-5-pruned.safetensors")
    assert whole.parameters is not None
    assert whole.parameters.total == 16
    assert one.model.pipeline is not None
    assert one.model.pipeline.class_name == "StableDiffusionPipeline"


def test_a_file_on_this_machine(tmp_path: Path) -> None:
    file = safetensors_file("flux1-dev.safetensors", tensors("flux1-dev"))
    path = tmp_path / file.name
    with path.open("wb") as stream:
        stream.write(file.head)
        stream.truncate(file.size)
    model = hfmem.inspect(str(path), offline=True)
    assert model.pipeline is not None
    assert model.pipeline.class_name == "FluxPipeline"
    assert hfmem.estimate(model).scenario.runtime == "diffusers"


def test_authors_repositories_have_a_config_with_a_type_of_their_own(hub: Hub) -> None:
    """Wan's own: `model_type` is no type of transformers."""
    rows = [("patch_embedding.weight", "BF16", (1536, 16, 1, 2, 2)), ("head.modulation", "BF16", (1, 2, 1536))]
    config = json_file("config.json", {"_class_name": "WanModel", "model_type": "t2v", "dim": 1536})
    hub.put(Repo(id="org/wan", files=(config, safetensors_file("diffusion_pytorch_model.safetensors", rows))))
    model = hfmem.inspect("org/wan")
    assert model.pipeline is not None
    assert model.pipeline.denoiser is not None
    assert model.parameters is not None
    assert model.parameters.total == 1536 * 64 + 3072
