"""The encoder in vLLM's profile run, each term against arithmetic by hand from the source that it names."""

from __future__ import annotations

import json
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest

from hfmem import estimate, inspect
from hfmem.engines.vllm.encoder import Profile, profile_of
from hfmem.engines.vllm.loading import second_head
from hfmem.engines.vllm.settings import settings_of
from hfmem.estimator.scenario import Scenario
from hfmem.estimator.values import Term
from hfmem.mapper.inputs import LargestInput
from hfmem.probe.vllm_towers import rows

QWEN25, QWEN3 = "Qwen/Qwen2.5-VL-7B-Instruct", "Qwen/Qwen3-VL-30B-A3B-Instruct"
model = cache(lambda name: inspect(name, offline=True))
IMAGE = 12_845_056 // 14**2
"""Patches of Qwen2.5-VL's largest image: `max_pixels` of its preprocessor_config.json, 14 x 14 pixels each."""


def terms(name: str, **asked: Any) -> dict[str, Term]:
    """Terms by name of a server whose language model takes little, so that its encoder is the peak."""
    small = {"max_num_seqs": 1, "max_num_batched_tokens": 512, "gpu": ("H100",), "seq": 4096, "vllm_version": "0.33"}
    found = estimate(model(name), runtime="vllm", **(small | asked)).estimate
    assert not found.unknown
    return {term.name: term for term in found.terms}


@pytest.mark.parametrize(
    ("version", "tp", "patch", "pixels", "angles"),
    [
        # qwen2_5_vl.py: residual, norm and output, gate and up, and their product; a rank has its share of units
        ("0.33", 1, 3 * 1280 + 3 * 3420, 1, 1),
        ("0.33", 2, 3 * 1280 + 3 * 3420 // 2, 1, 1),
        # a key that is turned in float32, and back in 16 bits, beside q, k and v and copies of them
        ("0.10.2", 1, 2 * 1280 + (3 + 3 + 2 + 2 + 1) * 1280, 2, 3),
        # q and k of 0.11 in float32, turned, and back in 16 bits, beside q, k, v, copies, and q and k put together
        ("0.11.0", 1, 2 * 1280 + (3 + 3 + 2 + 4 + 4 + 2) * 1280, 1, 3),
        # all_gather_interleave: q, k and v of all ranks apart and side by side, beside those of this one
        ("0.11.0", 4, 2 * 1280 + 2 * 3 * 1280 + 3 * 1280 // 4, 1, 3),
        # float32: the key, its product with the cosine, that of its other half with the sine, and their sum; pixels,
        # their copy, and in 16 bits; angles, cosine and sine of half a head, and of all of it
        ("0.8.2", 1, 2 * 1280 + (3 + 3 + 2 + 2 + 2 + 2) * 1280, 2 + 2 + 1, 1 + 1 + 1 + 2 + 2),
    ],
)
def test_the_tower_of_qwen25(version: str, tp: int, patch: int, pixels: int, angles: int) -> None:
    """In 2 B, beside pixels (2 frames of 14 x 14, 3 colours), of which a batch's were put together before 0.11
    (`_validate_and_reshape_mm_tensor`), and the angles of 80 dimensions of a head, in float32 before 0.12."""
    found = terms(QWEN25, vllm_version=version, tp=tp, max_num_batched_tokens=64)
    assert found["encoder's profile"].nbytes == IMAGE * 2 * (patch + pixels * 3 * 2 * 14**2 + angles * 80)


def test_the_tower_of_qwen3() -> None:
    """qwen3_vl.py: as Qwen2.5-VL's, with positions, and what three blocks give to the decoder, a token of four patches.
    16,777,216 pixels, 16 x 16 a patch; 1,152 units, heads of 72, 2,048 of the decoder."""
    patches = 16_777_216 // 16**2
    attention = 3 * 1152 + 8 * 1152 + 1152
    found = terms(QWEN3, max_num_batched_tokens=64)["encoder's profile"]
    assert found.nbytes == patches * 2 * (attention + 3 * 2048 // 4 + 3 * 2 * 16**2 + 72)
    assert found.certainty == "derived"


@pytest.mark.parametrize(
    ("version", "length", "asked", "steps"),
    [
        ("0.33", 4096, {}, 1),
        ("0.33", 32_768, {}, 2),
        ("0.33", 128_000, {}, 7),
        ("0.33", 1_000_000, {}, 7),  # 14 frames, 2 in a step
        ("0.33", 128_000, {"limit_mm_per_prompt": '{"video": 0}'}, 1),
        ("0.10.2", 128_000, {}, 1),  # the frames that run are those of a step's 64 tokens
    ],
)
def test_a_video_is_as_long_as_a_prompt(version: str, length: int, asked: dict[str, Any], steps: int) -> None:
    """qwen2_vl.py, `get_num_frames_with_most_features`: each step in time has as many tokens as an image, 16,384."""
    found = terms(QWEN25, vllm_version=version, seq=length, max_num_batched_tokens=64, **asked)
    alone = terms(QWEN25, vllm_version=version, max_num_batched_tokens=64)
    assert found["encoder's profile"].nbytes == steps * alone["encoder's profile"].nbytes


@pytest.mark.parametrize(
    ("asked", "told"),
    [
        # github.com/QwenLM/Qwen3-VL/issues/1057: the README's limits, for which a video has no frames to spare
        ({"vllm_version": "0.8.2", "seq": 128_000, "limit_mm_per_prompt": '{"image": 10, "video": 10}'}, "1 image"),
        # github.com/WaroonRagwongsiri/SuperAi-SS6-Level2-Hack4, vllm.log: a fine-tune of Qwen2.5-VL-7B
        ({"vllm_version": "0.22.0", "seq": 8192, "max_num_seqs": 10}, "1 video"),
    ],
)
def test_what_a_log_says_the_profile_run_has(asked: dict[str, Any], told: str) -> None:
    """`Encoder cache will be initialized with a budget of 16384 tokens, and profiled with 1 ... items of the maximum
    feature size.`"""
    scenario = estimate(model(QWEN25), runtime="vllm", gpu=("H100",), **asked).scenario
    found = profile_of(model(QWEN25), settings_of(scenario), scenario)
    assert found is not None
    assert found.peak.how.startswith(f"{told} of 16,384 tokens")


def test_as_many_images_as_the_budget_holds() -> None:
    """`MultiModalBudget`: 40,000 tokens hold two of 16,384; before 0.10, the last need not fit."""
    kept = IMAGE * 3 * 2 * 14**2 * 2 + 16_384 * 3584 * 2
    asked = {"seq": 65_536, "max_num_batched_tokens": 40_000, "max_num_seqs": 4}
    for version, images in (("0.33", 2), ("0.9.2", 3)):
        found = terms(QWEN25, vllm_version=version, limit_mm_per_prompt='{"video": 0}', **asked)
        assert ("encoder outputs" in found) == (images == 2)
        if images == 2:
            assert found["encoder outputs"].nbytes == images * kept
        else:
            assert found["encoder's profile"].how.startswith("3 images")


def test_the_first_engine_has_both_kinds_in_a_prompt() -> None:
    """0.9.2, worker/model_runner.py::_dummy_run on a T4: an image and a video of as many tokens, whose pixels, their
    copies and features all stay; 40,000 tokens hold one such prompt."""
    kept = 2 * IMAGE * 3 * 2 * 14**2 * 2 + 16_384 * 3584 * 2
    asked = {"vllm_version": "0.9.2", "gpu": ("T4",), "max_num_batched_tokens": 40_000, "max_num_seqs": 512}
    assert terms(QWEN25, **asked)["encoder outputs"].nbytes == 2 * kept


def profile(name: str, **asked: Any) -> tuple[Profile, Scenario]:
    scenario = estimate(model(name), runtime="vllm", **asked).scenario
    found = profile_of(model(name), settings_of(scenario), scenario)
    assert found is not None
    return found, scenario


@pytest.mark.parametrize(
    ("version", "length", "step"),
    [
        ("0.7.3", 128_000, 128_000),
        ("0.7.3", 4096, 5120),
        ("0.6.6", 128_000, 128_000),
        ("0.9.2", 128_000, 2048),  # an RTX 5090 has the second engine, which chunks them
    ],
)
def test_the_first_engine_does_not_chunk_prompts_with_images(version: str, length: int, step: int) -> None:
    """0.7.3, engine/arg_utils.py: 'For multimodal models, chunked prefill is disabled by default in V0'; config.py,
    _MULTIMODAL_MODEL_MAX_NUM_BATCHED_TOKENS. github.com/g0t4/examples, 5090/try-vllm/notes-qwen2.5-VL-multi-modal.fish:
    with 128,000 tokens, the pool of an RTX 5090 has room for 3,040, with 32,768 it has 16.90 GiB."""
    found = estimate(
        model("Qwen/Qwen2.5-VL-3B-Instruct"), runtime="vllm", gpu=("RTX 5090",), vllm_version=version, seq=length
    )
    assert settings_of(found.scenario).max_num_batched_tokens == step
    if step == 128_000:
        assert found.estimate.serving is not None
        assert found.estimate.serving.kv_pool == pytest.approx(3040 * 36 * 2 * 2 * 128 * 2, abs=0.1 * 2**30)
        (fit,) = found.fits
        assert not fit.fits
        assert fit.max_seq is not None
        (longest,) = estimate(
            model("Qwen/Qwen2.5-VL-3B-Instruct"),
            runtime="vllm",
            gpu=("RTX 5090",),
            vllm_version=version,
            seq=fit.max_seq,
        ).fits
        assert longest.fits


@pytest.mark.parametrize(
    ("version", "batched", "asked", "rows"),
    [
        # github.com/sipeed/sipeed_wiki, NanoKVM_Pro/cua.md: 'a budget of 153600 tokens, and profiled with 1 video'
        ("0.11.0", 2048, {}, 153_600),
        ("0.11.0", 200_000, {"max_num_seqs": 1}, 200_000),  # the budget is that of a step, where that is larger
        ("0.12.0", 200_000, {"max_num_seqs": 1}, 153_600),  # only as many as the video counts
        ("0.13.0", 2048, {}, 0),
    ],
)
def test_outputs_were_copied_into_rows_of_the_encoder_cache(
    version: str, batched: int, asked: dict[str, Any], rows: int
) -> None:
    """gpu_model_runner.py::profile_run, 'scatter encoder output into it'. A video of up to 25,165,824 pixels makes
    12,288 features of 2 x 32 x 32, each counted with 11.5 tokens of text, and of four times 2,048 units: of the last
    block and of three others."""
    found, _ = profile(QWEN3, gpu=("H200",), seq=262_144, vllm_version=version, max_num_batched_tokens=batched, **asked)
    if rows:
        pixels, features = 4 * 12_288 * 3 * 2 * 16**2, 12_288 * 4 * 2048
        assert found.kept.nbytes == 2 * (pixels + features + rows * 4 * 2048)
        assert "1 video of 12,288 tokens" in found.kept.how
    else:
        assert "1 image of 16,384 tokens" in found.kept.how  # and not the video, which has fewer features


def test_each_image_had_all_rows_of_the_budget() -> None:
    """Gemma 3's images are of 256 features; 0.11 profiled 32 of them in 8,192 tokens, each in as many rows."""
    early, late = (
        profile("google/gemma-3-27b-it", gpu=("H200",), seq=8192, vllm_version=version, max_num_batched_tokens=8192)[0]
        for version in ("0.11.0", "0.19")
    )
    assert early.kept.nbytes - late.kept.nbytes == 32 * 8192 * 5376 * 2


@pytest.mark.parametrize(
    ("asked", "pool"),
    [
        # github.com/Zzsf11/VideoCuttingAgent, Qwen3VL_vllm-server.out
        ({"vllm_version": "0.12.0", "tp": 2, "max_num_seqs": 64, "max_num_batched_tokens": 8192}, 38.15),
        # github.com/sipeed/sipeed_wiki, docs/hardware/en/kvm/NanoKVM_Pro/cua.md
        ({"vllm_version": "0.11.0", "tp": 4, "gpu": ("RTX 3090",)}, 2.31),
    ],
)
def test_pools_of_qwen3(asked: dict[str, Any], pool: float) -> None:
    found = estimate(model(QWEN3), runtime="vllm", seq=65_536, **({"gpu": ("H100",)} | asked)).estimate.serving
    assert found is not None
    assert found.kv_pool is not None
    assert found.kv_pool / 2**30 == pytest.approx(pool, abs=0.1)


def test_features_of_deep_blocks_have_buffers() -> None:
    """qwen3_vl.py, deepstack_input_embeds: three times the tokens of a step, of 2,048 units in 2 B."""
    small, large = (weights(QWEN3, max_num_batched_tokens=tokens) for tokens in (2048, 8192))
    assert large - small == 3 * (8192 - 2048) * 2048 * 2
    none = {"limit_mm_per_prompt": '{"image": 0, "video": 0}'}
    assert weights(QWEN3, max_num_batched_tokens=2048, **none) == weights(QWEN3, max_num_batched_tokens=8192, **none)


def test_ranks_share_the_layers_that_merge_patches() -> None:
    """qwen3_vl.py, Qwen3_VisionPatchMerger: of four, each with matrices of 4,608 x 4,608 and 4,608 x 2,048, a rank has
    half with two ranks; all of them where ranks share images instead."""
    whole, split = (weights(QWEN3, tp=2, mm_encoder_tp_mode=mode) for mode in ("data", "weights"))
    tower = 27 * (4 * 1152**2 + 2 * 1152 * 4304)
    mergers = 4 * 4608 * (4608 + 2048)
    assert whole - split == pytest.approx(2 * (tower + mergers) / 2, rel=0.005)  # biases of columns are shared, too


@pytest.mark.parametrize(
    ("version", "mask"), [("0.10.2", False), ("0.19", True), ("0.27", True), ("0.29", False), ("0.33", False)]
)
def test_pixtral_tells_images_apart_by_a_mask_or_a_kernel(tmp_path: Path, version: str, mask: bool) -> None:
    """pixtral.py: residual, norm, input and outputs of both halves, gate, up and product; with a mask, 2 B for each
    pair of patches. Ministral 3 has 1,024 and 4,096 units and heads of 64; an image of 1,540 pixels on each side has
    110 x 110 patches."""
    config = dict(model("mistralai/Ministral-3-3B-Reasoning-2512").checkpoint.config or {})
    (tmp_path / "config.json").write_text(json.dumps(config))
    image = {"size": {"longest_edge": 1540}, "patch_size": 14, "image_processor_type": "PixtralImageProcessor"}
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(image))
    own = {"processor_class": "PixtralProcessor", "patch_size": 14, "spatial_merge_size": 2}
    (tmp_path / "processor_config.json").write_text(json.dumps(own))
    found = inspect(str(tmp_path))
    assert found.largest is not None
    assert found.largest.image == LargestInput(features=55**2, pieces=1, patches=110**2)
    asked: dict[str, Any] = {"gpu": ("H100",), "seq": 8192, "max_num_seqs": 8, "max_num_batched_tokens": 6050}
    report = estimate(found, runtime="vllm", vllm_version=version, **asked)
    peak = {term.name: term.nbytes for term in report.estimate.terms}["encoder's profile"]
    patches = 2 * 110**2
    assert peak == patches * 2 * (5 * 1024 + 3 * 4096 + 3 * 14**2 + 64) + (2 * patches**2 if mask else 0)


def test_the_largest_size_of_a_class_is_not_that_of_a_model() -> None:
    """GLM-4.1V's own files let in 9,633,792 pixels, the class 5,880,000; the catalog has no such file of it."""
    found = estimate(model("zai-org/GLM-4.1V-9B-Thinking"), runtime="vllm", gpu=("H200",), seq=4096).estimate
    assert [group for group, _ in found.unknown] == ["activations"]


def weights(name: str, **asked: Any) -> int:
    settings = {"gpu": ("H100",), "seq": 4096, "vllm_version": "0.33"} | asked
    return estimate(model(name), runtime="vllm", **settings).estimate.group("weights") or 0


def in_group(name: str, component: str) -> int:
    table = model(name).parameters
    assert table is not None
    return sum(group.elements for group in table.groups if group.component == component)


def test_ranks_share_images_instead_of_weights() -> None:
    """config/multimodal.py, `mm_encoder_tp_mode`: with data, the encoder is whole on each rank. Of five images, each of
    four ranks takes two, whose pixels it copies out of those of all."""
    whole, split = (weights(QWEN25, tp=4, mm_encoder_tp_mode=mode) for mode in ("data", "weights"))
    tower = in_group(QWEN25, "vision") + in_group(QWEN25, "projector")
    assert whole - split == pytest.approx(tower * 2 * 3 / 4, rel=0.02)  # norms are on each already
    asked: dict[str, Any] = {
        "seq": 131_072,
        "max_num_seqs": 1,
        "limit_mm_per_prompt": '{"image": 5, "video": 0}',
        "tp": 4,
    }
    asked |= {"gpu": ("H100",), "max_num_batched_tokens": 5 * 16_384, "mm_encoder_tp_mode": "data"}
    scenario = estimate(model(QWEN25), runtime="vllm", **asked).scenario
    found = profile_of(model(QWEN25), settings_of(scenario), scenario)
    assert found is not None
    pixels = 3 * 2 * 14**2
    assert found.peak.nbytes == IMAGE * 2 * (2 * (3 * 1280 + 3 * 3420 + pixels + 80) + 5 * pixels)
    assert found.kept.nbytes == 5 * (IMAGE * pixels + 16_384 * 3584) * 2


@pytest.mark.parametrize(("version", "shares"), [("0.33", True), ("0.11", False)])
def test_a_class_that_cannot_share_falls_back(version: str, shares: bool) -> None:
    """`supports_encoder_tp_data` of Qwen3-VL's class since 0.11, of Gemma 3's in no release."""
    name = QWEN3 if shares else "google/gemma-3-27b-it"
    found = estimate(
        model(name), runtime="vllm", gpu=("H100",), tp=2, vllm_version=version, mm_encoder_tp_mode="data"
    ).estimate
    assert any("falls back to weights" in note for note in found.notes) is not shares
    if not shares:
        assert weights(name, tp=2, vllm_version=version, mm_encoder_tp_mode="data") == weights(
            name, tp=2, vllm_version=version
        )


@pytest.mark.parametrize("asked", [{"limit_mm_per_prompt": '{"image": 0, "video": 0}'}, {"language_model_only": True}])
def test_an_encoder_without_inputs_is_not_built(asked: dict[str, Any]) -> None:
    """models/interfaces.py, `_mark_tower_model`: where no kind of its inputs may be in a prompt."""
    nothing = weights(QWEN25, **asked)
    tower = in_group(QWEN25, "vision") + in_group(QWEN25, "projector")
    assert weights(QWEN25) - nothing == pytest.approx(tower * 2, rel=0.001)  # and what the allocator rounds up
    assert weights(QWEN25, limit_mm_per_prompt='{"image": 0}') == weights(QWEN25)
    assert "encoder outputs" not in terms(QWEN25, **asked)


def test_without_profiling_an_image_is_a_lower_bound() -> None:
    plain, seen = (
        estimate(model(QWEN25), runtime="vllm", gpu=("H100",), seq=4096, skip_mm_profiling=True, **asked).estimate
        for asked in ({}, {"images": 1, "image_size": "900x900"})
    )
    assert not plain.unknown
    assert any("--skip-mm-profiling" in note for note in plain.notes)
    assert not {"encoder outputs", "encoder's profile"} & {term.name for term in plain.terms}
    assert [group for group, _ in seen.unknown] == ["activations"]


@pytest.mark.parametrize(
    ("name", "asked", "gib"),
    [
        (QWEN25, {}, 4 * 2),
        (QWEN25, {"dp": 3}, 4 * (1 + 3)),
        (QWEN25, {"mm_processor_cache_gb": 0.5}, 0.5 * 2),
        (QWEN25, {"mm_processor_cache_gb": 0.0}, 0),
        (QWEN25, {"language_model_only": True}, 0),
        (QWEN25, {"vllm_version": "0.9.2"}, 0),
        ("Qwen/Qwen3-8B", {}, 0),
    ],
)
def test_prepared_images_in_host_memory(name: str, asked: dict[str, Any], gib: float) -> None:
    """config/multimodal.py: `mm_processor_cache_gb` of the API server, and of each engine."""
    found = estimate(model(name), runtime="vllm", gpu=("H100",), seq=4096, **asked).estimate
    assert sum(term.nbytes for term in found.host) == gib * 2**30


@pytest.mark.parametrize(
    ("version", "asked", "told"),
    [
        ("0.10.0", {"skip_mm_profiling": True}, "--skip-mm-profiling is an option of vLLM 0.10.1 and later"),
        ("0.10.1", {"mm_encoder_tp_mode": "data"}, "--mm-encoder-tp-mode is an option of vLLM 0.10.2 and later"),
        ("0.9.2", {"mm_processor_cache_gb": 1.0}, "--mm-processor-cache-gb is an option of vLLM 0.10.1 and later"),
        ("0.15", {"language_model_only": True}, "--language-model-only is an option of vLLM 0.17.0 and later"),
        ("0.33", {"language_model_only": True, "images": 1}, "--language-model-only allows 0 of 'image' in a prompt"),
    ],
)
def test_what_a_release_does_not_have_is_refused(version: str, asked: dict[str, Any], told: str) -> None:
    found = estimate(model(QWEN25), runtime="vllm", gpu=("H100",), seq=4096, vllm_version=version, **asked).estimate
    assert told in found.refused


def test_the_table_is_what_the_probe_writes() -> None:
    _, *lines = files("hfmem.data").joinpath("vllm_towers.jsonl").read_text(encoding="ascii").splitlines()
    assert [json.loads(line) for line in lines] == json.loads(json.dumps(list(rows())))


@pytest.mark.parametrize(("version", "tp", "twice"), [("0.19", 1, True), ("0.19", 2, True), ("0.13", 1, False)])
def test_a_head_is_made_before_it_is_tied(version: str, tp: int, twice: bool) -> None:
    """models/gemma3.py: ParallelLMHead, then tie_weights. 262,208 rows of 2,560 in 2 B, split over ranks; in 0.13, the
    embedding alone makes the logits."""
    settings: dict[str, Any] = {"gpu": ("H100",), "seq": 4096, "vllm_version": version, "tp": tp}
    found = model("google/gemma-3-4b-it")
    scenario = estimate(found, runtime="vllm", **settings).scenario
    assert second_head(found, scenario) == (262_208 * 2560 * 2 // tp if twice else 0)
    assert second_head(model("Qwen/Qwen3-8B"), scenario) == 0  # it has a head of its own


def test_the_longest_context_has_the_videos_of_its_own_profile_run() -> None:
    """What is left at 4,096 tokens would hold the cache of twice as long a prompt, but not beside the video that the
    profile run has for it: the limit that is told fits when it is asked for."""
    asked: dict[str, Any] = {"runtime": "vllm", "gpu": ("RTX 4090",), "vllm_version": "0.33"}
    short = estimate(model(QWEN25), seq=4096, **asked)
    (fit,), serving = short.fits, short.estimate.serving
    assert fit.max_seq is not None
    assert serving is not None
    assert 2 * 16_384 <= fit.max_seq < (serving.kv_tokens or 0) // 2 + 1000
    (longest,) = estimate(model(QWEN25), seq=fit.max_seq, **asked).fits
    assert longest.fits
