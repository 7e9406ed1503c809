"""What a vision tower needs is what the real class was seen to need, at sizes that no fit has seen."""

from __future__ import annotations

import json
from typing import Any, Final

import pytest

import hfmem
from hfmem.estimator.activations.towers import Encoding, encoding, highest_of
from hfmem.mapper.media.towers import tower_of
from hfmem.unknown import Unknown
from tests.oracle import tower_peaks, towers

RECORDED: Final = json.loads(towers.RECORDED.read_text(encoding="utf-8"))
REAL: Final = json.loads(tower_peaks.RECORDED.read_text(encoding="utf-8"))
PUBLISHED: Final = REAL["peaks"]
CONFIGS: Final = REAL["configs"]
ROWS: Final = {f"{row['type']} {row['attention']}": row for row in towers.rows()}
GEMMA: Final = "google/gemma-3-4b-it"
QWEN: Final = "Qwen/Qwen2.5-VL-7B-Instruct"


def test_every_row_has_a_record() -> None:
    assert ROWS.keys() == RECORDED["rows"].keys()
    assert all(len(found) >= 2 for found in RECORDED["rows"].values())


@pytest.mark.parametrize("name", ROWS)
def test_peaks_within_half_a_percent(name: str) -> None:
    assert max(towers.apart(ROWS[name], RECORDED["rows"][name], RECORDED["depth"])) <= 0.005


@pytest.mark.parametrize("model", PUBLISHED)
def test_towers_of_published_models_within_three_percent(model: str) -> None:
    """One image at the tower's own sizes, with all of its layers, seen by other means than those of the probe."""
    seen = PUBLISHED[model]
    config = CONFIGS.get(model) or hfmem.inspect(model, offline=True).checkpoint.config or {}
    tower = tower_of(config)
    assert tower is not None
    row = ROWS[f"{tower.name} sdpa"]
    said = highest_of(row, {**tower.sizes, "tiles": 0, **seen["sizes"]}, tower.layers)[1]
    assert said == pytest.approx(seen["peak"], rel=0.03)


def activations(model: str, **options: Any) -> hfmem.Report:
    return hfmem.estimate(model, offline=True, **{"seq": 8192, **options})


def found(report: hfmem.Report) -> Encoding:
    made = encoding(report.model.tower, report.scenario)
    assert not isinstance(made, Unknown), made
    return made


def test_sizes_of_a_tower() -> None:
    config = hfmem.inspect(GEMMA, offline=True).checkpoint.config
    tower = tower_of(config or {})
    assert tower is not None
    assert (tower.layers, tower.patches) == (27, 64 * 64)
    assert tower.sizes == {
        "hidden": 1152,
        "intermediate": 4304,
        "heads": 16,
        "key_dim": 72,
        "pixels": 3 * 14**2,
        "out": 2560,
        "positions": 64 * 64,
        "side": 64,
        "projector": 0,
        "position_side": 64,
        "channels": 0,
    }


def test_sizes_of_a_projector_and_of_positions() -> None:
    """As the configs of Siglip2 (16 x 16 positions), MoonViT and Llama 4's tower name them."""
    text, vision = {"hidden_size": 64}, {"hidden_size": 48, "intermediate_size": 96, "num_attention_heads": 4}
    wide = {"patch_size": 14, "num_hidden_layers": 2, **vision}
    sizes = [
        tower_of({"model_type": kind, "text_config": text, "vision_config": {**wide, **own}, **top})
        for kind, own, top in (
            ("lfm2_vl", {"num_patches": 256}, {"projector_hidden_size": 2560}),
            ("kimi_k25", {"pos_emb_height": 64, "pos_emb_width": 32}, {}),
            ("llama4", {"image_size": 336, "projector_output_dim": 4096}, {}),
        )
    ]
    assert [(one.sizes["positions"], one.sizes["projector"]) for one in sizes if one] == [
        (256, 2560),
        (2048, 0),
        (576, 4096),
    ]


def test_sizes_of_trained_queries() -> None:
    """As the configs of BLIP-2 (Q-Former), Idefics2 (perceiver), Aria (queries by patches) and Kosmos-2 name them."""
    wide = {"hidden_size": 48, "intermediate_size": 96, "num_attention_heads": 4, "patch_size": 14}
    vision = {"num_hidden_layers": 2, "image_size": 980, **wide}
    former = {"hidden_size": 64, "num_attention_heads": 4, "intermediate_size": 80, "max_position_embeddings": 512}
    perceiver = {"resampler_n_latents": 64, "resampler_n_heads": 16, "resampler_head_dim": 96}
    found = [
        tower_of({"model_type": kind, "text_config": {"hidden_size": 32, "intermediate_size": 72}, **own})
        for kind, own in (
            ("blip-2", {"vision_config": vision, "qformer_config": former, "num_query_tokens": 32}),
            ("idefics2", {"vision_config": vision, "perceiver_config": perceiver}),
            ("aria", {"vision_config": vision, "projector_patch_to_query_dict": {"1225": 128, "4900": 256}}),
            ("kosmos-2", {"vision_config": vision, "latent_query_num": 64}),
        )
    ]
    names = {"queries", "query_hidden", "query_heads", "query_dim", "query_intermediate", "words", "text_intermediate"}
    assert [{name: n for name, n in one.sizes.items() if name in names} for one in found if one] == [
        {
            "queries": 32,
            "query_hidden": 64,
            "query_heads": 4,
            "query_dim": 16,
            "query_intermediate": 80,
            "words": 512,
        },
        {"queries": 64, "query_heads": 16, "query_dim": 96, "text_intermediate": 72},
        {"queries": 256, "text_intermediate": 72},
        {"queries": 64},
    ]


def test_the_larger_of_tower_and_prompt_is_the_peak() -> None:
    short = activations(GEMMA, images=8, seq=4096, prompt=2048)
    names = [term.name for term in short.estimate.terms if term.group == "activations"]
    assert not short.estimate.is_lower_bound
    long = activations(GEMMA, images=1, seq=32768)
    assert "prefill: images" in [term.name for term in long.estimate.terms]
    assert names == ["encode: the vision tower"] or "prefill: images" in names


def test_eager_attention_is_quadratic_in_patches() -> None:
    one = found(activations(QWEN, images=1, image_size="1024x1024", attention="eager"))
    four = found(activations(QWEN, images=1, image_size="2048x2048", attention="eager"))
    assert four.peak > 14 * one.peak
    fused = found(activations(QWEN, images=1, image_size="2048x2048"))
    assert fused.peak < four.peak / 10


def test_the_scores_of_a_large_image() -> None:
    """github.com/open-compass/VLMEvalKit/issues/1021: an eager tower failed to allocate 124.68 GiB for an image of
    16,384 features at most. That is one of the tensors of 16 heads and 64,680² scores in 16 bits, of which there are as
    many as five at once: the scores, their copy in float32, and its softmax."""
    report = activations(QWEN, images=1, image_size="4116x3080", attention="eager", seq=17000)
    assert report.scenario.patches == 64_680
    scores = 16 * 64_680**2 * 2
    assert scores / 2**30 == pytest.approx(124.68, abs=0.01)
    assert found(report).peak == pytest.approx(5 * scores, rel=0.01)
    assert report.estimate.total > found(report).peak


def test_a_batch_has_as_many_images() -> None:
    one, two = (found(activations(GEMMA, images=1, batch=batch)) for batch in (1, 2))
    assert two.peak == 2 * one.peak


def test_float32_takes_twice_as_much_and_is_typical() -> None:
    wide = found(activations(GEMMA, images=1, dtype="float32"))
    assert wide.peak > 1.5 * found(activations(GEMMA, images=1)).peak
    assert not wide.measured


@pytest.mark.parametrize(
    ("model", "options"),
    [
        (QWEN, {"video_frames": 4}),
        (QWEN, {"images": 1, "tp": 2}),
        (QWEN, {"images": 1, "train": "full", "freeze": "vision", "gpus": 2}),
    ],
)
def test_what_is_not_measured_is_unknown(model: str, options: dict[str, Any]) -> None:
    assert activations(model, **options).estimate.is_lower_bound


@pytest.mark.parametrize("vision", [{}, {"hidden_size": -1}, {"num_attention_heads": 0}, {"patch_size": 0}, 5, None])
def test_an_impossible_tower_is_none(vision: Any) -> None:
    config = {"model_type": "gemma3", "vision_config": vision, "text_config": {"hidden_size": "x"}}
    assert tower_of(config) is None


def test_the_features_of_sound_stay_while_a_prompt_runs() -> None:
    """Whisper beside its encoder, as the real class was seen to be (batch 32, 1,500 positions, 16 tokens): the final
    cache, the encoder's output, and keys and values of one layer before the cache has its copy."""
    report = hfmem.estimate("openai/whisper-large-v3", offline=True, batch=32, seq=16)
    each = 32 * 1500 * 1280 * 2
    activations = sum(term.nbytes for term in report.estimate.terms if term.group == "activations")
    assert activations == pytest.approx(3 * each, rel=0.05)
