"""Pipelines as the real diffusers writes them: each component's parameters, and its bytes as the library loads it.

The recordings are made by `tests/oracle/pipelines.py`; here they are repositories of a Hub, and folders.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import hfmem
from hfmem.errors import InvalidScenarioError
from hfmem.fetcher.pipelines import listed, pipeline_files
from hfmem.fetcher.values import FileInfo
from hfmem.mapper.pipelines.kinds import kind_of
from hfmem.mapper.pipelines.values import Pipeline
from hfmem.report.errors import explain
from tests.hub import Hub
from tests.hub.files import File, json_file, safetensors_file, virtual_file
from tests.hub.repos import Repo

FIXTURES = Path(__file__).parents[2] / "fixtures" / "pipelines"
NAMES = sorted(path.stem for path in FIXTURES.glob("*.json"))
DTYPES = ("float32", "float16", "bfloat16")


def recorded(name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((FIXTURES / f"{name}.json").read_text(encoding="utf-8"))
    return found


def files_of(row: dict[str, Any], *without: str) -> tuple[File, ...]:
    """The recorded files, as a Hub has them."""
    kept = {name: content for name, content in row["files"].items() if not any(word in name for word in without)}
    return tuple(
        json_file(name, content)
        if name.endswith(".json")
        else safetensors_file(name, [(tensor, dtype, tuple(shape)) for tensor, dtype, shape in content])
        for name, content in kept.items()
    )


def pipeline(model: hfmem.Model) -> Pipeline:
    assert model.pipeline is not None
    return model.pipeline


def weights(model: hfmem.Model, **asked: Any) -> dict[str, int]:
    found = hfmem.estimate(model, **asked)
    rows = found.to_dict()["components"]
    assert found.estimate.group("weights") == sum(row["bytes"] for row in rows)
    return {row["name"]: row["bytes"] for row in rows}


@pytest.mark.parametrize("name", NAMES)
def test_components_are_what_the_library_loads(hub: Hub, name: str) -> None:
    """Parameters from the headers; T5 in float16 and the lists of Wan partly stay float32."""
    row = recorded(name)
    hub.put(Repo(id=f"org/{name}", files=files_of(row)))
    model = hfmem.inspect(f"org/{name}")
    assert {one.name: one.parameters.total for one in pipeline(model).components if one.parameters} == row["parameters"]
    for dtype in DTYPES:
        assert weights(model, dtype=dtype) == row["loaded"][dtype] | {
            key: row["loaded"][dtype][key] + buffers(model, key, dtype) for key in row["parameters"]
        }


def buffers(model: hfmem.Model, name: str, dtype: str) -> int:
    """Bytes of the buffers that are in the files, which the recorded bytes of parameters lack."""
    component = pipeline(model).find(name)
    assert component is not None
    assert component.parameters is not None
    elements = sum(group.elements for group in component.parameters.groups if group.loaded and not group.parameters)
    return elements * (4 if dtype == "float32" else 2)


def test_a_pipeline_takes_few_requests(hub: Hub) -> None:
    """The listing, model_index.json, each component's config and header, and two that look for a plain model."""
    row = recorded("wan")
    hub.put(Repo(id="org/wan", files=files_of(row)))
    hfmem.inspect("org/wan")
    assert len(hub.asked("hub")) == 2 + 2 * 3 + 2


def test_a_folder_answers_as_the_hub_does(hub: Hub, tmp_path: Path) -> None:
    row = recorded("stable-diffusion-3")
    hub.put(Repo(id="org/sd3", files=files_of(row)))
    for file in files_of(row):
        path = tmp_path / file.name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(file.read(0, file.size))
    here, there = hfmem.estimate(str(tmp_path)).to_dict(), hfmem.estimate("org/sd3").to_dict()
    for key in ("components", "parameters", "memory", "terms"):
        assert here[key] == there[key]


def test_what_the_cache_keeps_answers_alike(hub: Hub) -> None:
    hub.put(Repo(id="org/wan", files=files_of(recorded("wan"))))
    first = hfmem.estimate("org/wan").to_dict()
    second = hfmem.estimate("org/wan", offline=True).to_dict()
    assert second["source"] == "cache"
    assert second["components"] == first["components"]


def test_variants_are_not_counted_twice_and_are_taken_where_nothing_else_is(hub: Hub) -> None:
    row = recorded("stable-diffusion")
    hub.put(
        Repo(id="org/both", files=files_of(row)),
        Repo(
            id="org/fp16",
            files=tuple(file for file in files_of(row) if "safetensors" not in file.name or ".fp16." in file.name),
        ),
    )
    both, fp16 = hfmem.inspect("org/both"), hfmem.inspect("org/fp16")
    assert both.parameters is not None
    assert fp16.parameters is not None
    assert both.parameters.total == fp16.parameters.total == sum(row["parameters"].values())
    assert (both.stored_dtype, fp16.stored_dtype) == ("float32", "float16")
    assert 'Loading it takes variant="fp16": some components have no other weights.' in fp16.notes
    assert not any("variant" in note for note in both.notes)


def test_folders_that_the_index_does_not_name_are_left_out(hub: Hub) -> None:
    row = recorded("stable-diffusion")
    more = safetensors_file("vae_1_0/diffusion_pytorch_model.safetensors", [("w", "F32", (8, 8))])
    root = safetensors_file("everything.safetensors", [("w", "F32", (800, 8))])
    single = safetensors_file("model.safetensors", [("w", "F32", (800, 8))])
    hub.put(Repo(id="org/more", files=(*files_of(row), more, root, single)))
    model = hfmem.inspect("org/more")
    assert model.parameters is not None
    assert model.parameters.total == sum(row["parameters"].values())
    assert "vae_1_0/ is not in model_index.json, and is neither loaded nor counted." in model.notes


def test_each_component_runs_as_it_is_stored(hub: Hub) -> None:
    index = {
        "_class_name": "SomePipeline",
        "transformer": ["diffusers", "SomeTransformer2DModel"],
        "text_encoder": ["transformers", "T5EncoderModel"],
        "safety_checker": [None, None],
    }
    hub.put(
        Repo(
            id="org/mixed",
            files=(
                json_file("model_index.json", index),
                safetensors_file("transformer/diffusion_pytorch_model.safetensors", [("w", "F32", (8, 8))]),
                safetensors_file("text_encoder/model.safetensors", [("shared.weight", "BF16", (8, 8))]),
                safetensors_file("safety_checker/model.safetensors", [("w", "F32", (8, 8))]),
            ),
        )
    )
    model = hfmem.inspect("org/mixed")
    assert weights(model) == {"transformer": 256, "text_encoder": 128}
    assert weights(model, dtype="bfloat16") == {"transformer": 128, "text_encoder": 128}


def test_a_components_own_quantisation_counts(hub: Hub) -> None:
    """bitsandbytes' 4 bits: two values a byte; absmax and maps are no parameters."""
    index = {"_class_name": "FluxPipeline", "transformer": ["diffusers", "FluxTransformer2DModel"]}
    rows = [
        ("blocks.0.ff.weight", "U8", (2048, 1)),
        ("blocks.0.ff.weight.absmax", "F32", (64,)),
        ("blocks.0.ff.weight.quant_map", "F32", (16,)),
        ("norm.weight", "BF16", (64,)),
    ]
    quantised = {
        "quantization_config": {"quant_method": "bitsandbytes", "load_in_4bit": True, "bnb_4bit_quant_type": "nf4"}
    }
    hub.put(
        Repo(
            id="org/nf4",
            files=(
                json_file("model_index.json", index),
                json_file("transformer/config.json", quantised),
                safetensors_file("transformer/diffusion_pytorch_model.safetensors", rows),
            ),
        )
    )
    model = hfmem.inspect("org/nf4")
    (component,) = pipeline(model).components
    assert component.parameters is not None
    assert component.parameters.total == 4096 + 64
    assert component.quantisation is not None
    assert component.quantisation.method == "bitsandbytes"
    assert weights(model) == {"transformer": 2048 + 256 + 64 + 128}


def test_pickles_are_read_where_there_is_nothing_else(hub: Hub) -> None:
    """Of a component without safetensors, all are taken from `.bin`, as the library takes them."""
    names = (
        "unet/diffusion_pytorch_model.bin",
        "unet/diffusion_pytorch_model.safetensors",
        "text_encoder/pytorch_model.bin",
    )
    index = {"unet": ["diffusers", "UNet2DConditionModel"], "text_encoder": ["transformers", "CLIPTextModel"]}
    found = pipeline_files([FileInfo(name=name, size=1) for name in names], index)
    assert [file.name for file in found.weights] == [names[0], names[2]]
    content = (FIXTURES.parent / "pickles" / "state.bin").read_bytes()
    files = [virtual_file(name, content, size=len(content)) for name in (names[0], names[2])]
    hub.put(Repo(id="org/bin", files=(json_file("model_index.json", index), *files)))
    model = hfmem.inspect("org/bin")
    # two tensors of floats; the third is a counter (fixtures/pickles/expected.json)
    assert [one.parameters and one.parameters.total for one in pipeline(model).components] == [4 + 24] * 2


def test_shards_win_over_one_file_in_classes_of_diffusers() -> None:
    shards = [f"transformer/diffusion_pytorch_model-0000{number}-of-00002.safetensors" for number in (1, 2)]
    names = ["transformer/diffusion_pytorch_model.safetensors", *shards]
    index = {"transformer": ["diffusers", "X"]}
    found = pipeline_files([FileInfo(name=name, size=1) for name in names], index)
    assert [file.name for file in found.weights] == shards
    assert pipeline_files([FileInfo(name=shards[0], size=1)], index).missing == 1


def test_a_class_of_the_repository_is_not_run(hub: Hub) -> None:
    index = {"_class_name": ["pipeline_mine", "MinePipeline"], "mind": ["mind", "MineModel"]}
    hub.put(
        Repo(
            id="org/custom",
            files=(
                json_file("model_index.json", index),
                safetensors_file("mind/diffusion_pytorch_model.safetensors", [("w", "F16", (4, 4))]),
                virtual_file("mind/mind.py", b"raise SystemExit(1)\n"),
            ),
        )
    )
    found = hfmem.estimate("org/custom")
    assert found.estimate.group("weights") == 32
    assert found.estimate.is_lower_bound
    assert "MinePipeline is code in the repository, which is not run here: its weights are counted." in found.notes


def test_nothing_of_a_language_model_is_said_of_a_pipeline(hub: Hub) -> None:
    hub.put(Repo(id="org/wan", files=files_of(recorded("wan"))))
    found = hfmem.estimate("org/wan")
    assert found.scenario.runtime == "diffusers"
    assert found.estimate.group("kv_cache") == 0
    assert not any("--seq" in note or "KV" in note for note in found.notes)
    assert found.to_dict()["scenario"]["seq"] is None


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ({"train": "lora"}, "pipelines are not trained here"),
        ({"train": "full"}, "pipelines are not trained here"),
        ({"method": "textbook"}, "for language models"),
        ({"runtime": "vllm"}, "vLLM runs no diffusion pipelines"),
        ({"runtime": "transformers"}, "transformers runs no diffusion pipelines"),
    ],
)
def test_what_does_not_go_with_a_pipeline_is_refused(hub: Hub, asked: dict[str, Any], words: str) -> None:
    hub.put(Repo(id="org/wan", files=files_of(recorded("wan"))))
    with pytest.raises(InvalidScenarioError) as refused:
        hfmem.estimate("org/wan", **asked)
    assert words in explain(refused.value).message


def test_the_engine_of_pipelines_runs_nothing_else() -> None:
    with pytest.raises(InvalidScenarioError) as refused:
        hfmem.estimate("openai-community/gpt2", offline=True, runtime="diffusers")
    assert "this is no diffusion pipeline" in explain(refused.value).message


@pytest.mark.parametrize(
    ("name", "class_name", "kind"),
    [
        ("unet", "UNet2DConditionModel", "denoiser"),
        ("transformer_2", "WanTransformer3DModel", "denoiser"),
        ("prior", "StableCascadeUNet", "denoiser"),
        ("decoder", "StableCascadeUNet", "denoiser"),
        ("vae", "AutoencoderDC", "vae"),
        ("vqgan", "PaellaVQModel", "vae"),
        ("text_encoder", "ChatGLMModel", "text_encoder"),
        ("text_encoder", "Qwen2_5_VLForConditionalGeneration", "text_encoder"),
        ("image_encoder", "CLIPVisionModelWithProjection", "image_encoder"),
        ("safety_checker", "StableDiffusionSafetyChecker", "safety_checker"),
        ("controlnet", "FluxControlNetModel", "controlnet"),
        ("mind", "Mine", "other"),
    ],
)
def test_what_a_component_does(name: str, class_name: str, kind: str) -> None:
    assert kind_of(name, class_name) == kind


@pytest.mark.parametrize(
    "value",
    [
        None,
        "x",
        [None, None],
        ["diffusers", None],
        ["a"],
        ["a", "b", "c"],
        {"a": 1},
        ["", "b"],
        [1, 2],
        ["a" * 300, "b"],
    ],
)
def test_odd_entries_of_an_index_are_no_components(value: object) -> None:
    assert listed({"unet": value, "../up": ["a", "b"], "a/b": ["a", "b"]}) == ()
