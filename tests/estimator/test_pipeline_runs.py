"""What a pipeline runs: sizes of its calls, and which weights are on the accelerator meanwhile."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import replace
from math import prod
from pathlib import Path
from typing import Any

import numpy
import pytest
from safetensors.numpy import save_file

import hfmem
from hfmem.engines.diffusers.classes import coder_row, edge_of, pipeline_row
from hfmem.engines.diffusers.pipelines import scale_of
from hfmem.engines.diffusers.resident import moments
from hfmem.engines.diffusers.settings import PipelineSettings
from hfmem.engines.diffusers.stages import Run, Stage, run_of, stages
from hfmem.estimator.scenario import Scenario
from hfmem.mapper.pipelines.kinds import kind_of
from hfmem.mapper.pipelines.sizes import patches
from hfmem.mapper.pipelines.values import Component, Pipeline
from hfmem.mapper.values import ParameterTable, TensorGroup
from hfmem.report.fit import help_lines

ROOT = Path(__file__).parents[2]
RUNS = json.loads((ROOT / "fixtures" / "oracle" / "pipeline_inputs.json").read_text(encoding="utf-8"))["rows"]

_VAE = {"block_out_channels": [128, 256, 512, 512]}


def part(name: str, class_name: str, config: Mapping[str, Any] | None = None, dtype: str = "float16") -> Component:
    """A component with a thousand parameters."""
    group = TensorGroup(
        component=name, role="w", shape=(1000,), count=1, dtype="F16", stored_bytes=2000, parameters=1000, active=1000
    )
    return Component(
        name=name,
        kind="adapter" if class_name == "LoRA" else kind_of(name, class_name),
        library="diffusers",
        class_name=class_name,
        config=config or {},
        parameters=ParameterTable(groups=(group,)),
        stored_dtype=dtype,
    )


def scenario(batch: int = 1, **settings: Any) -> Scenario:
    return Scenario(
        mode="inference",
        batch=batch,
        seq=1,
        dtype=None,
        compute_dtype=None,
        kv_dtype=None,
        runtime="diffusers",
        attention="sdpa",
        method="exact",
        serving=PipelineSettings(**settings),
    )


def flux(name: str) -> Pipeline:
    vae = {"AutoencoderKL": _VAE, "AutoencoderKLFlux2": _VAE}
    prefix, coder = next((prefix, coder) for prefix, coder in _CODERS.items() if name.startswith(prefix))
    denoiser = part("transformer", _DENOISERS.get(prefix) or _DENOISERS[coder], _SIZES.get(prefix))
    return Pipeline(class_name=name, components=(denoiser, part("vae", coder, vae.get(coder, {}))))


_CODERS = {
    "Flux2": "AutoencoderKLFlux2",
    "Flux": "AutoencoderKL",
    "Qwen": "AutoencoderKLQwenImage",
    "Joy": "AutoencoderKLWan",
    "Wan": "AutoencoderKLWan",
    "LTX": "AutoencoderKLLTXVideo",
}
_SIZES = {"Joy": {"patch_size": [1, 2, 2]}, "Wan": {"patch_size": [1, 2, 2]}}
_DENOISERS = {
    "AutoencoderKLFlux2": "Flux2Transformer2DModel",
    "AutoencoderKL": "FluxTransformer2DModel",
    "AutoencoderKLQwenImage": "QwenImageTransformer2DModel",
    "Joy": "JoyImageEditTransformer3DModel",
    "Wan": "WanVACETransformer3DModel",
    "LTX": "LTXVideoTransformer3DModel",
}


@pytest.mark.parametrize("row", RUNS, ids=lambda row: f"{row['pipeline']} {row['asked']} {len(row['images'])}")
def test_sizes_are_those_of_real_runs(row: dict[str, Any]) -> None:
    """Tokens of the denoiser's call, and what the VAE encoded and decoded, of small pipelines that really ran."""
    pipeline, (width, height) = flux(row["pipeline"]), row["asked"]
    image = tuple(row["images"][0]) if row["images"] else (1024, 1024)
    asked = scenario(height=height, width=width, images=len(row["images"]), image=image)
    run = run_of(pipeline, asked)
    spatial = scale_of(pipeline.vae)[0]
    if row["pipeline"] in _FRAMED:
        check_frames(pipeline, asked, row)
        return
    pixels = run.height * run.width + run.images * run.image[0] * run.image[1]
    assert pixels // (2 * spatial) ** 2 == row["tokens"]
    assert [list(run.image)] * run.images == row["encoded"]
    assert [run.height, run.width] == row["decoded"]


_FRAMED = {"JoyImageEditPipeline": None, "LTXConditionPipeline": 17, "WanVACEPipeline": 17}


def check_frames(pipeline: Pipeline, asked: Scenario, row: dict[str, Any]) -> None:
    """Where an input image is one more latent frame: the same of the calls."""
    assert isinstance(asked.serving, PipelineSettings)
    asked = replace(asked, serving=replace(asked.serving, num_frames=_FRAMED[row["pipeline"]]))
    run = run_of(pipeline, asked)
    calls = {stage.name: stage.call for stage in stages(pipeline, asked)}
    denoiser = pipeline.denoiser
    assert denoiser is not None
    tokens = calls["denoise"].pixels * calls["denoise"].frames
    assert tokens // prod(patches(denoiser, pipeline.vae)) == row["tokens"]
    assert all(list(run.image) == size for size in row["encoded"][-run.images :] if run.images)
    assert [run.height, run.width] == row["decoded"]
    assert calls["vae_decode"].batch == row["together"]


def peak(model: str, phase: str, **options: Any) -> int:
    report = hfmem.estimate(model, offline=True, **options)
    found = next(one for one in report.estimate.phases if one.name == phase)
    return sum(term.nbytes for term in found.terms if term.group == "activations")


def test_an_input_image_is_in_the_denoiser_call() -> None:
    """Kontext at 1024 × 1024 with an image of that size runs 8,192 tokens of images and 512 of text, with 17 numbers
    of the hidden size of 3,072 for each in the single blocks."""
    with_image = peak("black-forest-labs/FLUX.1-Kontext-dev", "denoise")
    assert with_image == pytest.approx(34 * 3072 * (8192 + 512), rel=0.04)
    assert peak("black-forest-labs/FLUX.1-Kontext-dev", "denoise", images=0) == pytest.approx(
        34 * 3072 * (4096 + 512), rel=0.04
    )


def test_images_of_a_prompt_are_tokens_of_the_text() -> None:
    """Qwen2.5-VL sees 1024 × 1024 as 37 × 37 merged patches of 28 pixels (transformers' smart_resize rounds 36.57), and
    384 × 384 as 14 × 14."""
    encoder = Component(name="text_encoder", kind="text_encoder", library="t", class_name="Qwen2_5_VL")

    def shown(name: str, images: int) -> int:
        pipeline = Pipeline(class_name=name, components=(encoder, *flux(name).components))
        return run_of(pipeline, scenario(images=images)).shown

    assert shown("QwenImageEditPipeline", 1) == 37 * 37
    assert shown("QwenImageEditPlusPipeline", 2) == 2 * 14 * 14


def names(pipeline: Pipeline, *, guided: bool = False) -> Iterator[tuple[str, str, set[str]]]:
    """Stage, component, and what is on the accelerator meanwhile."""
    found = stages(pipeline, scenario(offload="model", guidance=guided))
    for moment in moments(pipeline, found, "model", guided=guided):
        assert moment.names is not None
        yield moment.stage.name, moment.stage.component.name, set(moment.names)


_SD = (
    part("text_encoder", "CLIPTextModel"),
    part("unet", "UNet2DConditionModel"),
    part("vae", "AutoencoderKL", _VAE),
    part("safety_checker", "StableDiffusionSafetyChecker"),
)


def test_model_offload_hands_over_in_the_order_of_the_class() -> None:
    """accelerate: the call of a model moves the one before it in the order away, no other. The safety checker of Stable
    Diffusion is in `_exclude_from_cpu_offload`."""
    found = list(names(Pipeline(class_name="StableDiffusionPipeline", components=_SD)))
    assert found == [
        ("text", "text_encoder", {"text_encoder", "safety_checker"}),
        ("denoise", "unet", {"unet", "safety_checker"}),
        ("vae_decode", "vae", {"vae", "safety_checker"}),
    ]


def test_a_vae_that_encoded_stays() -> None:
    """It is the last of the order, so nothing moves it away; at its first call it moves the denoiser, not the text
    encoder, which is there until the denoiser is called."""
    found = list(names(Pipeline(class_name="StableDiffusionImg2ImgPipeline", components=_SD[:3])))
    assert found == [
        ("text", "text_encoder", {"text_encoder"}),
        ("vae_encode", "vae", {"text_encoder", "vae"}),
        ("denoise", "unet", {"unet", "vae"}),
        ("vae_decode", "vae", {"vae"}),
    ]


def test_what_is_not_in_the_order_stays_once_called() -> None:
    """A ControlNet is called in each step beside the denoiser, and is there for decoding too."""
    control = part("controlnet", "ControlNetModel")
    found = list(names(Pipeline(class_name="StableDiffusionControlNetPipeline", components=(*_SD[:3], control))))
    assert ("denoise", "controlnet", {"controlnet", "unet"}) in found
    assert found[-1] == ("vae_decode", "vae", {"vae", "controlnet"})


def test_a_lora_goes_where_its_denoiser_goes() -> None:
    lora = part("adapter", "LoRA")
    found = {
        stage: here
        for stage, _, here in names(
            Pipeline(
                class_name="FluxPipeline",
                components=(*_SD[:1], part("transformer", "FluxTransformer2DModel"), _SD[2], lora),
            )
        )
    }
    assert found["denoise"] == {"transformer", "adapter"}
    assert found["vae_decode"] == {"vae"}


def test_a_negative_prompt_calls_the_first_encoder_beside_the_last() -> None:
    second = part("text_encoder_2", "CLIPTextModelWithProjection")
    pipeline = Pipeline(class_name="StableDiffusionXLPipeline", components=(_SD[0], second, *_SD[1:3]))
    plain = [here for stage, _, here in names(pipeline) if stage == "text"]
    assert plain == [{"text_encoder"}, {"text_encoder_2"}]
    guided = [here for stage, _, here in names(pipeline, guided=True) if stage == "text"]
    assert {"text_encoder", "text_encoder_2"} in guided


def stage_of(pipeline: Pipeline, name: str) -> Stage:
    return next(stage for stage in stages(pipeline, scenario()) if stage.name == name)


@pytest.mark.parametrize(
    ("name", "config", "stage", "single"),
    [
        ("StableDiffusionXLPipeline", {}, "vae_decode", True),  # AutoencoderKL's own default is to be cast
        ("StableDiffusionXLPipeline", {"force_upcast": False}, "vae_decode", False),
        ("KolorsPipeline", {"force_upcast": True}, "vae_decode", True),  # calls upcast_vae too
        ("AuraFlowPipeline", {"force_upcast": True}, "vae_decode", True),
        ("StableDiffusionPipeline", {"force_upcast": True}, "vae_decode", False),  # never casts it
        ("StableVideoDiffusionPipeline", {"force_upcast": True}, "vae_encode", True),
        ("StableVideoDiffusionPipeline", {"force_upcast": True}, "vae_decode", False),  # is cast back before
    ],
)
def test_which_vae_is_made_float32(name: str, config: dict[str, Any], stage: str, single: bool) -> None:
    components = (*_SD[:2], part("vae", "AutoencoderKL", {**_VAE, **config}))
    assert stage_of(Pipeline(class_name=name, components=components), stage).single is single


def test_image_to_image_casts_for_encoding_in_every_dtype() -> None:
    """`if self.vae.config.force_upcast: self.vae.to(torch.float32)`, without a look at the dtype."""
    vae = part("vae", "AutoencoderKL", _VAE, "bfloat16")
    pipeline = Pipeline(class_name="StableDiffusionXLImg2ImgPipeline", components=(*_SD[:2], vae))
    assert stage_of(pipeline, "vae_encode").single
    assert not stage_of(pipeline, "vae_decode").single


def sizes_of(name: str, **asked: Any) -> Run:
    return run_of(flux(name), scenario(**asked))


def test_sides_are_rounded_down_or_refused() -> None:
    assert (sizes_of("FluxPipeline", height=1001, width=777).height, 768) == (
        992,
        sizes_of("FluxPipeline", width=777).width,
    )
    with pytest.raises(hfmem.HfmemError, match="takes only multiples of 8: 1,000 or 1,008"):
        hfmem.estimate("stabilityai/stable-diffusion-xl-base-1.0", height=1001, offline=True)
    with pytest.raises(hfmem.HfmemError, match="takes only multiples of 16: 480 or 496"):
        hfmem.estimate("Wan-AI/Wan2.1-T2V-1.3B-Diffusers", height=488, offline=True)


@pytest.mark.parametrize(
    ("model", "options", "words"),
    [
        ("black-forest-labs/FLUX.1-dev", {"num_frames": 9}, "makes images, not videos"),
        ("black-forest-labs/FLUX.1-dev", {"images": 1}, "no images beside"),
        ("black-forest-labs/FLUX.1-dev", {"video_frames": 8}, "images only"),
        ("black-forest-labs/FLUX.1-Kontext-dev", {"images": 2}, "one image for each prompt"),
        ("black-forest-labs/FLUX.1-dev", {"device_map": "auto", "gpu": ("H100",)}, "not covered; for one accelerator"),
        ("black-forest-labs/FLUX.1-dev", {"num_beams": 2}, "this is a diffusion pipeline: leave --num-beams out"),
        ("stabilityai/stable-video-diffusion-img2vid-xt", {"vae_tiling": True}, "does not decode in tiles"),
        ("stabilityai/stable-video-diffusion-img2vid-xt", {"vae_slicing": True}, "does not decode in slices"),
    ],
)
def test_what_a_class_does_not_do_is_refused(model: str, options: dict[str, Any], words: str) -> None:
    with pytest.raises(hfmem.HfmemError, match=words):
        hfmem.estimate(model, offline=True, **options)


def test_images_of_each_prompt() -> None:
    """Two prompts with three images each are six images, and two prompts in the text encoder."""
    run = sizes_of("FluxPipeline", height=512, width=512)
    several = run_of(flux("FluxPipeline"), scenario(2, each=3))
    assert (run.batch, several.batch, several.network) == (1, 6, 6)
    report = hfmem.estimate("black-forest-labs/FLUX.1-dev", batch=2, num_images=3, offline=True)
    same = hfmem.estimate("black-forest-labs/FLUX.1-dev", batch=6, offline=True)
    assert report.estimate.total == same.estimate.total
    assert report.scenario.batch == 2
    assert code(report)[-1] == 'pipe(prompt=["..."] * 2, height=1024, width=1024, num_images_per_prompt=3)'


def code(report: Any) -> list[str]:
    serving = report.estimate.serving
    assert serving is not None
    return str(serving.command).splitlines()


def test_what_would_help_names_the_host() -> None:
    """Offloading leaves the weights that do not run in the host's memory: the same as of an answer with it."""
    found = hfmem.estimate("black-forest-labs/FLUX.1-dev", gpu="RTX 4090", offline=True)
    advice = {row.option: row for row in found.advice}
    for words in ("model", "sequential"):
        asked = hfmem.estimate("black-forest-labs/FLUX.1-dev", gpu="RTX 4090", offload=words, offline=True)
        row = advice[f"--offload {words}"]
        assert row.host == sum(term.nbytes for term in asked.estimate.host) == 33_741_198_278
        assert row.moved
    assert not advice["--dtype nf4"].moved
    text = "\n".join(help_lines(found, "GiB"))
    assert "--offload sequential          2.64 GiB  fits, 31.42 GiB in the host's memory" in text


def test_the_code_is_what_was_counted() -> None:
    wan = code(hfmem.estimate("Wan-AI/Wan2.1-T2V-14B-Diffusers", offline=True))
    assert any(line.endswith('torch_dtype={"text_encoder": torch.bfloat16, "default": torch.float32})') for line in wan)
    half = code(hfmem.estimate("Wan-AI/Wan2.1-T2V-14B-Diffusers", dtype="bfloat16", offline=True))
    assert any(line.endswith("torch_dtype=torch.bfloat16)") for line in half)
    plain = code(hfmem.estimate("stabilityai/stable-diffusion-xl-base-1.0", guidance=False, offline=True))
    assert "guidance_scale=1.0" in plain[-1]
    qwen = code(hfmem.estimate("Qwen/Qwen-Image", guidance=False, offline=True))
    assert "true_cfg_scale=1.0" in qwen[-1]
    edit = code(hfmem.estimate("black-forest-labs/FLUX.1-Kontext-dev", offline=True))
    assert edit[-1].startswith("pipe(image=image, ")
    video = code(hfmem.estimate("stabilityai/stable-video-diffusion-img2vid-xt", offline=True))
    assert video[-1] == "pipe(image=image, height=576, width=1024, num_frames=25)"


def hunyuan15(target: int) -> Pipeline:
    denoiser = part("transformer", "HunyuanVideo15Transformer3DModel", {"target_size": target, "patch_size": 1})
    return Pipeline(
        class_name="HunyuanVideo15Pipeline", components=(denoiser, part("vae", "AutoencoderKLHunyuanVideo15"))
    )


@pytest.mark.parametrize(("target", "height", "width"), [(640, 480, 848), (960, 720, 1280)])
def test_sizes_of_an_area(target: int, height: int, width: int) -> None:
    """As HunyuanVideo15ImageProcessor.calculate_default_height_width(9, 16, target) of diffusers 0.42.1 answers."""
    run = run_of(hunyuan15(target), scenario())
    assert (run.height, run.width, run.frames, run.text) == (height, width, 121, 1000)


def test_videos_with_sound() -> None:
    """LTX-2 at its defaults, 121 frames of 512 × 768: real calls of its classes under fake tensors (diffusers 0.42.1,
    PyTorch 2.13) take 2,155,455,472 B in the denoiser with 1,024 tokens of text and both prompts at once, and in the
    VAE 4,056,247,296 B, or 5,611,640,832 B with both copies of its convolutions."""
    sizes = {"num_attention_heads": 32, "attention_head_dim": 128, "num_layers": 48, "caption_channels": 3840}
    sound = part("audio_vae", "AutoencoderKLLTX2Audio")
    denoiser, vae = part("transformer", "LTX2VideoTransformer3DModel", sizes), part("vae", "AutoencoderKLLTX2Video")
    pipeline = Pipeline(class_name="LTX2Pipeline", components=(sound, denoiser, vae))
    found = {stage.name: stage.found for stage in stages(pipeline, scenario())}
    denoised, decoded = found["denoise"], found["vae_decode"]
    assert denoised is not None
    assert decoded is not None
    assert denoised.peak == pytest.approx(2_155_455_472, rel=1e-5)
    assert (decoded.peak, decoded.copied) == pytest.approx((4_056_247_296, 5_611_640_832), rel=1e-5)


def test_cosmos_at_its_defaults() -> None:
    """121 frames of 704 × 1280: a real call of the denoiser under fake tensors (diffusers 0.42.1, PyTorch 2.13) takes
    6,516,985,344 B."""
    denoiser = part("transformer", "CosmosTransformer3DModel", {"in_channels": 16})
    pipeline = Pipeline(
        class_name="CosmosTextToWorldPipeline", components=(denoiser, part("vae", "AutoencoderKLCosmos"))
    )
    found = next(stage.found for stage in stages(pipeline, scenario()) if stage.name == "denoise")
    assert found is not None
    assert found.peak == 6_516_985_344


def test_what_is_measured_for_one_is_unknown_for_several() -> None:
    """The VAE of HunyuanVideo 1.5 takes no batch (its mask has as many dimensions as the queries but one)."""
    one = {stage.name: stage.found for stage in stages(hunyuan15(640), scenario())}
    two = {stage.name: stage.found for stage in stages(hunyuan15(640), scenario(batch=2))}
    sliced = {stage.name: stage.found for stage in stages(hunyuan15(640), scenario(batch=2, vae_slicing=True))}
    assert one["vae_decode"] is not None
    assert two["vae_decode"] is None
    assert sliced["vae_decode"] is not None
    tiled = {stage.name: stage.found for stage in stages(hunyuan15(640), scenario(vae_tiling=True))}
    assert tiled["vae_decode"] is not None
    assert tiled["vae_decode"].peak < one["vae_decode"].peak / 2


def test_what_the_table_says_of_classes() -> None:
    assert pipeline_row("StableDiffusionPipeline")["stays"] == ["safety_checker"]
    assert "joins" not in pipeline_row("StableDiffusionInpaintPipeline")  # which joins channels
    assert "joins" not in pipeline_row("FluxFillPipeline")
    assert pipeline_row("FluxKontextPipeline")["joins"]["images"] == 1
    assert pipeline_row("Flux2Pipeline")["joins"]["images"] == 0
    assert coder_row("AutoencoderTiny")["upcast"] is False
    assert edge_of(Pipeline(class_name="ZImagePipeline", components=()), 8) == (16, True)


def control_of(folder: Path, cross: int) -> str:
    """A ControlNet as that of SDXL, with a million parameters in float16 and so many sizes of a text's token."""
    config = {
        "_class_name": "ControlNetModel",
        "down_block_types": ["DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"],
        "block_out_channels": [320, 640, 1280],
        "attention_head_dim": [5, 10, 20],
        "transformer_layers_per_block": [1, 2, 10],
        "cross_attention_dim": cross,
        "use_linear_projection": True,
        "addition_embed_type": "text_time",
        "addition_time_embed_dim": 256,
        "projection_class_embeddings_input_dim": 2816,
    }
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    weights = {"conv_in.weight": numpy.zeros((1000, 1000), numpy.float16)}
    save_file(weights, folder / "diffusion_pytorch_model.safetensors")
    return str(folder)


def test_a_control_net_runs_beside(tmp_path: Path) -> None:
    """Its weights in the dtype of the denoiser, the outputs of its call beside the denoiser's, and the class that has
    one."""
    asked: dict[str, Any] = {"dtype": "float16", "offline": True}
    name = control_of(tmp_path / "control", 2048)
    plain = hfmem.estimate("stabilityai/stable-diffusion-xl-base-1.0", **asked)
    found = hfmem.estimate("stabilityai/stable-diffusion-xl-base-1.0", controlnet=name, **asked)
    assert found.estimate.group("weights") - plain.estimate.group("weights") == 2 * 10**6
    before, after = (
        next(phase for phase in each.estimate.phases if phase.name == "denoise").terms for each in (plain, found)
    )
    outputs = 2 * 2 * 128 * 128 * 1640  # of 3,280 B a latent pixel and prompt, which are 1,640 numbers
    assert sum(term.nbytes for term in after) - sum(term.nbytes for term in before) == 2 * 10**6 + outputs
    assert code(found)[1:5] == [
        "from diffusers import ControlNetModel, StableDiffusionXLControlNetPipeline",
        "from diffusers.utils import load_image",
        f'controlnet = ControlNetModel.from_pretrained("{name}", torch_dtype=torch.float16)',
        'pipe = StableDiffusionXLControlNetPipeline.from_pretrained("stabilityai/stable-diffusion-xl-base-1.0", '
        "controlnet=controlnet, torch_dtype=torch.float16)",
    ]


@pytest.mark.parametrize(
    ("model", "cross", "words"),
    [
        ("black-forest-labs/FLUX.1-dev", 2048, "does not go with FluxPipeline"),
        ("stabilityai/stable-diffusion-xl-base-1.0", 768, "does not go with StableDiffusionXLPipeline"),
    ],
)
def test_a_control_net_of_another_pipeline_is_refused(tmp_path: Path, model: str, cross: int, words: str) -> None:
    with pytest.raises(hfmem.HfmemError, match=words):
        hfmem.estimate(model, controlnet=control_of(tmp_path / "control", cross), offline=True)


def test_a_model_that_is_no_control_net_is_refused() -> None:
    with pytest.raises(hfmem.HfmemError, match="openai-community/gpt2, which is no ControlNet"):
        hfmem.estimate("stabilityai/stable-diffusion-xl-base-1.0", controlnet="openai-community/gpt2", offline=True)
