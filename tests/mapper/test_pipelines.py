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


@pytest.mark.parametrize(
    ("config", "asked", "expected"),
    [
        ({}, None, 4 * (4096 + 64)),  # as torch_dtype is float32 where none is given
        ({}, "bfloat16", 2 * (4096 + 64)),
        ({"quantization_config": {"quant_method": "torchao", "quant_type": "float8wo"}}, "bfloat16", 4096 + 2 * 64),
    ],
)
def test_bytes_that_no_quantisation_declares_are_cast(
    hub: Hub, config: dict[str, Any], asked: str | None, expected: int
) -> None:
    """`from_pretrained` casts floats of one byte as all others: the parameters of a tiny AutoencoderKL, saved in
    float8_e4m3fn, are float32 after loading, and bfloat16 with torch_dtype=torch.bfloat16 (diffusers 0.42.1)."""
    index = {"_class_name": "FluxPipeline", "transformer": ["diffusers", "FluxTransformer2DModel"]}
    rows = [("blocks.0.ff.weight", "F8_E4M3", (64, 64)), ("norm.weight", "F32" if asked is None else "BF16", (64,))]
    files = (
        json_file("model_index.json", index),
        json_file("transformer/config.json", config),
        safetensors_file("transformer/diffusion_pytorch_model.safetensors", rows),
    )
    hub.put(Repo(id="org/bytes", files=files))
    assert weights(hfmem.inspect("org/bytes"), dtype=asked) == {"transformer": expected}


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
    ],
)
def test_odd_entries_of_an_index_are_no_components(value: object) -> None:
    assert listed({"unet": value, "../up": ["a", "b"], "a/b": ["a", "b"]}) == ()


LORA = [
    ("transformer.blocks.0.attn1.to_q.lora_A.weight", "F32", (4, 24)),
    ("transformer.blocks.0.attn1.to_q.lora_B.weight", "F32", (24, 4)),
    ("transformer.blocks.0.attn1.to_q.alpha", "F32", ()),
]


@pytest.mark.parametrize("base", ["org/wan", ["org/wan", "org/other"]])
def test_a_lora_stands_on_the_pipeline_that_its_card_names(hub: Hub, base: object) -> None:
    row = recorded("wan")
    lora = safetensors_file("pytorch_lora_weights.safetensors", LORA)
    hub.put(Repo(id="org/wan", files=files_of(row)), Repo(id="org/lora", files=(lora,), card={"base_model": base}))
    report = hfmem.estimate("org/lora", dtype="bfloat16")
    rows = {each["name"]: each for each in report.to_dict()["components"]}
    assert rows["adapter"]["parameters"] == 2 * 4 * 24
    assert rows["adapter"]["bytes"] == 2 * 2 * 4 * 24
    assert report.estimate.group("weights") == sum(each["bytes"] for each in rows.values())
    assert report.parameters is not None
    assert report.parameters.by_component["adapter"] == 2 * 4 * 24
    assert any("A LoRA of rank 4 with 192 parameters, on org/wan" in note for note in report.notes)
    assert report.estimate.serving is not None
    lines = str(report.estimate.serving.command).splitlines()
    assert lines[2:4] == [
        'pipe = WanPipeline.from_pretrained("org/wan", torch_dtype=torch.bfloat16)',
        'pipe.load_lora_weights("org/lora")',
    ]
    again = hfmem.estimate("org/lora", dtype="bfloat16", offline=True)
    assert again.to_dict()["components"] == report.to_dict()["components"]


@pytest.mark.parametrize(
    "card", ["base_model: org/wan", "base_model:\n- org/wan\n- b/c", 'tags:\n- lora\nbase_model:\n  - "org/wan"']
)
def test_a_folder_with_a_lora_and_its_card(hub: Hub, tmp_path: Path, card: str) -> None:
    hub.put(Repo(id="org/wan", files=files_of(recorded("wan"))))
    lora = safetensors_file("pytorch_lora_weights.safetensors", LORA)
    (tmp_path / lora.name).write_bytes(lora.read(0, lora.size))
    (tmp_path / "README.md").write_text(f"---\n{card}\n---\nbase_model: a/b\n")
    assert [one.name for one in pipeline(hfmem.inspect(str(tmp_path))).components][-1] == "adapter"


@pytest.mark.parametrize("card", [None, {}, {"base_model": None}, {"base_model": [1]}, {"base_model": "a b"}])
def test_a_lora_without_a_base_says_what_is_missing(hub: Hub, card: dict[str, Any] | None) -> None:
    lora = safetensors_file("pytorch_lora_weights.safetensors", LORA)
    hub.put(Repo(id="org/lora", files=(lora,), card=card))
    report = hfmem.estimate("org/lora")
    assert report.estimate.is_lower_bound
    assert any("This is an adapter: its base model is also needed" in note for note in report.notes)


def test_a_gated_pipeline_counts_by_its_files(hub: Hub) -> None:
    """Without access, the Hub tells the files with their sizes; nothing is taken for a language model."""
    hub.put(Repo(id="org/gated", files=files_of(recorded("wan")), gated="auto", parameters={}))
    report = hfmem.estimate("org/gated")
    rows = {row["name"]: row for row in report.to_dict()["components"]}
    assert set(rows) == {"transformer", "vae", "text_encoder"}
    assert all(row["bytes"] and row["parameters"] is None for row in rows.values())
    assert report.estimate.is_lower_bound
    assert report.estimate.group("kv_cache") == 0
    assert any("from the sizes of files that the Hub makes public" in note for note in report.notes)
    assert any("transformer (unknown): its files need a licence" in note for note in report.notes)


def test_an_index_that_cannot_be_read(hub: Hub) -> None:
    files = [file for file in files_of(recorded("wan")) if file.name != "model_index.json"]
    hub.put(Repo(id="org/broken", files=(virtual_file("model_index.json", b"{nothing"), *files)))
    model = hfmem.inspect("org/broken")
    assert {one.name for one in pipeline(model).components} == {"transformer", "vae", "text_encoder"}
    assert model.parameters is not None
    assert model.parameters.total == sum(recorded("wan")["parameters"].values())


def test_names_that_are_none_do_not_reach_the_terminal(hub: Hub) -> None:
    index = {"_class_name": ["x", "Bad\x1b[31mPipeline"], "unet": ["diffusers", "U\x1b[31mNet"]}
    weights_ = safetensors_file("unet/diffusion_pytorch_model.safetensors", [("w", "F16", (4, 4))])
    hub.put(Repo(id="org/odd", files=(json_file("model_index.json", index), weights_)))
    model = hfmem.inspect("org/odd")
    assert [(one.name, one.class_name) for one in pipeline(model).components] == [("unet", "unknown")]
    assert "\x1b" not in repr(hfmem.estimate(model).to_dict())


def test_a_page_shows_the_components() -> None:
    from hfmem.report.html.fragments import fragment

    shown = fragment(hfmem.estimate("black-forest-labs/FLUX.1-dev", offline=True))
    assert "<h3>Components</h3>" in shown
    for word in ("text_encoder_2", "FluxTransformer2DModel", "11.90 B", "22.17 GiB"):
        assert word in shown
