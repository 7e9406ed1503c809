"""A forward pass of timm's networks needs what the real classes were seen to allocate, at sizes no fit has seen."""

from __future__ import annotations

import json
from typing import Any, Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

import hfmem
from hfmem.engines.convolutions import highest
from hfmem.errors import InvalidScenarioError
from hfmem.estimator.activations.grids import Grid, grids, parsed, spelled
from hfmem.estimator.activations.images import Pass, forward
from hfmem.fetcher import network_catalog
from hfmem.mapper.inputs import Network
from hfmem.mapper.networks import network_of
from hfmem.unknown import Unknown
from tests.command import run
from tests.oracle import networks

ROWS: Final = {(row["network"], row["precision"]): row for row in networks.rows()}
RECORDED: Final = [json.loads(line) for line in networks.RECORDED.read_text(encoding="utf-8").splitlines()[1:]]
RESNET: Final = "timm/resnet50.a1_in1k"
VIT: Final = "timm/vit_base_patch16_224.augreg2_in21k_ft_in1k"
CONFIG: Final = {
    "architecture": "resnet50",
    "num_classes": 1000,
    "pretrained_cfg": {"input_size": [3, 224, 224], "fixed_input_size": False},
}


def report(model: Any = RESNET, **options: Any) -> hfmem.Report:
    return hfmem.estimate(model, offline=True, **options)


def passed(found: hfmem.Report) -> Pass:
    assert found.model.network is not None
    made = forward(found.model.network, found.scenario)
    assert not isinstance(made, Unknown), made
    return made


def test_sixty_architectures_and_each_is_recorded() -> None:
    assert len({name for name, _ in ROWS}) >= 60
    assert {(one["network"], one["precision"]) for one in RECORDED} == ROWS.keys()
    assert sum("real" in one for one in RECORDED) >= 10


def said(one: dict[str, Any], kind: str) -> int:
    row = ROWS[one["network"], one["precision"]]
    tables = row["lone"] if one["batch"] == 1 and "lone" in row else row
    kinds = ("peak", "once", "copied")[: ("peak", "once", "copied").index(kind) + 1]
    size = (one["batch"], one["height"], one["width"])
    return max(grids(parsed(table), *size) for name in kinds for table in tables[name])


@pytest.mark.parametrize("one", RECORDED, ids=lambda one: f"{one['network']} {one['precision']} {one['batch']}")
def test_peaks_within_half_a_percent(one: dict[str, Any]) -> None:
    for kind in ("peak", "once", "copied"):
        if kind in one:
            assert said(one, kind) == pytest.approx(one[kind], rel=0.005)


def test_a_residual_network_by_hand() -> None:
    """The first block of its first stage, at a quarter of each side, when the shortcut is normalised: the block's input
    of 64 channels, the main path's output of 256, the shortcut's convolution and its normalisation, of 256 each."""
    images, positions = 32, 56 * 56
    found = passed(report(batch=images))
    assert found.peak == images * positions * 4 * (64 + 3 * 256)
    assert found.pixels == images * 3 * 224 * 224 * 4


def test_the_size_is_the_weights_own_unless_another_is_asked() -> None:
    usual = report()
    assert (usual.scenario.image_height, usual.scenario.image_width) == (224, 224)
    assert any("input_size" in sentence for sentence in usual.scenario.chosen)
    other = report(image_size="448x224")
    assert (other.scenario.image_height, other.scenario.image_width) == (224, 448)
    assert passed(other).peak == pytest.approx(2 * passed(usual).peak, rel=1e-3)


def test_images_multiply_the_batch() -> None:
    assert report(images=4, batch=2).scenario.batch == 8
    assert passed(report(images=8)).peak == passed(report(batch=8)).peak


def test_half_precision_takes_half() -> None:
    one, half = (passed(report(batch=8, dtype=dtype)) for dtype in ("float32", "bfloat16"))
    assert half.peak == pytest.approx(one.peak / 2, rel=0.01)


def test_the_range_is_that_of_convolutions() -> None:
    found = report(batch=8, dtype="float16", gpu=("A100",))
    made = passed(found)
    low, high = highest(made, found.scenario.gpu, images=8, single=False)
    assert found.estimate.spared == high - low > 0
    assert found.estimate.convolved
    one = report(batch=1, dtype="float16", gpu=("A100",))
    assert not one.estimate.spared  # readings have both copies there
    assert not report(VIT, batch=8).estimate.spared  # its only convolution is not the peak


def test_a_fixed_size_is_refused_in_a_sentence() -> None:
    with pytest.raises(InvalidScenarioError, match=r"224 × 224 pixels, and takes no others"):
        report(VIT, image_size="384x384")
    done = run(VIT, "--offline", "--image-size", "384x384")
    assert (done.returncode, done.stdout) == (2, "")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"runtime": "vllm"}, "--runtime vllm runs no networks of timm"),
        ({"method": "textbook"}, "the textbook's formulas are for language models"),
        ({"video_frames": 4}, "--video-frames has no meaning here"),
        ({"audio_seconds": 4.0}, "--audio-seconds has no meaning here"),
        ({"tp": 2}, "no tp_plan"),
    ],
)
def test_what_does_not_go_with_it(options: dict[str, Any], words: str) -> None:
    with pytest.raises(InvalidScenarioError, match=words):
        report(**options)


def test_an_image_size_alone_is_refused_for_other_models() -> None:
    with pytest.raises(InvalidScenarioError, match="--image-size needs --images or --video-frames"):
        report("openai-community/gpt2", image_size="224x224")


def test_it_has_no_length_and_no_cache() -> None:
    found = report(seq=4096, gpu=("T4",))
    assert found.estimate.group("kv_cache") == 0
    assert any("--seq has no effect" in note for note in found.scenario.chosen)
    (fit,) = found.fits
    assert fit.max_seq is None
    assert fit.max_batch is not None
    assert fit.max_batch > 100


def test_a_refusal_names_the_option_on_the_command_line() -> None:
    done = run(RESNET, "--offline", "--video-frames", "2")
    assert "--video-frames has no meaning here: this network takes images only" in done.stderr
    done = run(RESNET, "--offline", "--runtime", "vllm", "--gpu", "T4")
    assert "--runtime vllm runs no networks of timm" in done.stderr


def test_attention_is_its_own() -> None:
    assert any("--attention has no effect" in note for note in report(attention="eager").scenario.chosen)
    assert not any("--attention" in note for note in report().scenario.chosen)


def test_it_generates_nothing() -> None:
    found = report(num_beams=4)
    assert found.scenario.batch == 1
    assert any("--num-beams" in note and "no effect" in note for note in found.scenario.chosen)


def test_a_training_step_is_a_lower_bound() -> None:
    found = report(train="full")
    assert found.estimate.is_lower_bound
    assert [reason for group, reason in found.estimate.unknown if group == "activations"] == [
        "what a training step of timm's networks saves is not measured"
    ]


def network(**changes: Any) -> Network:
    found = network_of({**CONFIG, **changes})
    assert found is not None
    return found


def scenario() -> Any:
    return report().scenario


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (
            {"architecture": "a_network_nobody_knows"},
            "a forward pass of timm's 'a_network_nobody_knows' is not measured",
        ),
        ({"model_args": {"block_args": {"attn_layer": "eca"}}}, "otherwise (block_args)"),
        ({"model_args": {"in_chans": 1}}, "images of 1 channels are not measured"),
    ],
)
def test_what_is_not_measured_is_told(changes: dict[str, Any], words: str) -> None:
    found = forward(network(**changes), scenario())
    assert isinstance(found, Unknown)
    assert words in found.reason


@pytest.mark.parametrize(
    ("config", "size"),
    [
        (CONFIG, (224, 224)),
        ({**CONFIG, "model_args": {"img_size": 384}}, (384, 384)),
        ({"architecture": "resnet50", "num_classes": 10, "input_size": [3, 160, 192]}, (160, 192)),
        ({"architecture": "resnet50", "num_classes": 10, "pretrained_cfg": {"input_size": [3, -1, 10**9]}}, (224, 224)),
        ({"architecture": "resnet50", "num_classes": 10, "pretrained_cfg": 7, "model_args": [1]}, (224, 224)),
    ],
)
def test_sizes_of_a_config(config: dict[str, Any], size: tuple[int, int]) -> None:
    found = network_of(config)
    assert found is not None
    assert (found.height, found.width) == size


@pytest.mark.parametrize(
    "config", [{}, {"architecture": 3, "num_classes": 2}, {"architecture": "x"}, {**CONFIG, "model_type": "vit"}]
)
def test_other_configs_are_none(config: dict[str, Any]) -> None:
    assert network_of(config) is None


@given(
    st.dictionaries(
        st.builds(
            Grid,
            st.booleans(),
            st.sampled_from(("p", "rc", "pp")),
            st.integers(1, 64),
            st.integers(-64, 64),
        ),
        st.integers(-(10**9), 10**9).filter(bool),
        max_size=4,
    )
)
def test_a_polynomial_is_read_as_it_is_written(polynomial: dict[Grid, int]) -> None:
    assert parsed(spelled(polynomial)) == polynomial


def test_chains_of_roundings_are_one() -> None:
    """Sides of a network of three convolutions of stride 2, one after another, with borders of 1, 0 and 1."""

    def side(pixels: int) -> int:
        for kernel, border in ((3, 1), (3, 0), (7, 1)):
            pixels = (pixels + 2 * border - kernel) // 2 + 1
        return pixels

    shift = (side(800) * 8) - 800
    found = [Grid(False, "p", 8, a) for a in range(shift - 8, shift + 9)]
    fits = [one for one in found if all(one.positions(n, n) == side(n) ** 2 for n in range(32, 400))]
    assert len(fits) == 1


def test_the_catalog_answers_offline() -> None:
    names = network_catalog.model_ids()
    assert len(names) >= 20
    for name in names:
        found = report(name)
        assert found.parameters is not None
        assert found.parameters.total > 0


@pytest.mark.parametrize(
    ("name", "parameters"),
    # as timm's own results tables have them (results-imagenet.csv, param_count in millions)
    [
        ("timm/resnet50.a1_in1k", 25.56),
        ("timm/convnext_base.fb_in22k_ft_in1k", 88.59),
        ("timm/vit_base_patch16_224.augreg2_in21k_ft_in1k", 86.57),
        ("timm/swin_tiny_patch4_window7_224.ms_in1k", 28.29),
        ("timm/efficientnet_b0.ra_in1k", 5.29),
        ("timm/mobilenetv3_large_100.ra_in1k", 5.48),
        ("timm/densenet121.ra_in1k", 7.98),
        ("timm/vgg16.tv_in1k", 138.36),
        ("timm/inception_v3.tv_in1k", 23.83),
        ("timm/tf_efficientnetv2_s.in21k_ft_in1k", 21.46),
    ],
)
def test_parameters_as_published(name: str, parameters: float) -> None:
    table = report(name).parameters
    assert table is not None
    assert round(table.total / 1e6, 2) == parameters


def test_statistics_are_loaded_and_no_parameters() -> None:
    """ResNet-50 has 53 batch normalisations of 26,560 channels together: a mean and a variance of each."""
    found = report()
    assert found.parameters is not None
    assert found.estimate.group("weights") == 4 * (found.parameters.total + 2 * 26_560)
