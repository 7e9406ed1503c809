"""Images, videos and sound on the command line: their tokens are part of the prompt."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import hfmem
from tests.command import run

QWEN = "Qwen/Qwen2.5-VL-7B-Instruct"


def scenario(*arguments: str) -> dict[str, Any]:
    done = run(*arguments, "--offline", "--format", "json")
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)["results"][0]["scenario"]
    return found


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A model of a folder, with a processor's file of its own."""
    config = hfmem.inspect(QWEN, offline=True).checkpoint.config
    (tmp_path / "config.json").write_text(json.dumps(dict(config or {})))
    own = {"min_pixels": 3136, "max_pixels": 12845056, "processor_class": "Qwen2_5_VLProcessor"}
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(own))
    return tmp_path


def test_tokens_by_the_models_file(folder: Path) -> None:
    found = scenario(str(folder), "--images", "2", "--image-size", "2048x1536", "--seq", "16k")
    assert (found["images"], found["image_tokens"], found["seq"]) == (2, 2 * 73 * 55, 16384)
    assert (found["video_tokens"], found["audio_tokens"]) == (0, 0)


@pytest.mark.parametrize(
    "line",
    [
        ("Qwen/Qwen2-Audio-7B-Instruct", "--audio-seconds", "9", "--train", "full"),
        ("Qwen/Qwen2-VL-2B-Instruct", "--images", "1", "--runtime", "vllm", "--gpu", "8x H200"),
        (QWEN, "--video-frames", "4", "--gpu", "H200"),
        ("Qwen/Qwen2-Audio-7B-Instruct", "--audio-seconds", "9", "--tp", "2", "--gpu", "H200"),
    ],
)
def test_what_a_tower_needs_is_unknown_not_nothing(line: tuple[str, ...]) -> None:
    """A total without it is a lower bound, and no fit."""
    done = run(*line, "--offline", "--format", "json")
    found = json.loads(done.stdout)["results"][0]
    assert found["total_is_lower_bound"]
    assert not any(fit["fits"] for fit in found["fit"] or ())


def test_vllm_profiles_with_the_largest_images() -> None:
    """So an image of a request is in its peak already."""
    line = ("google/gemma-3-27b-it", "--offline", "--runtime", "vllm", "--gpu", "H200", "--format", "json")
    plain, seen = (json.loads(run(*line, *more).stdout)["results"][0] for more in ((), ("--images", "1")))
    assert not seen["total_is_lower_bound"]
    assert seen["memory"]["activations"] == plain["memory"]["activations"]


@pytest.mark.parametrize(
    ("name", "limits", "pp"),
    [("openai/whisper-large-v3", "", "1"), ("meta-llama/Llama-3.2-11B-Vision-Instruct", '{"image": 0}', "1"),
     ("meta-llama/Llama-3.2-11B-Vision-Instruct", '{"image": 0}', "2")],
)  # fmt: skip
def test_an_encoder_that_is_not_measured_is_told(name: str, limits: str, pp: str) -> None:
    """vLLM's profile run has the largest input of a model, whatever the user asks for; any rank may be the fullest."""
    line = (name, "--offline", "--runtime", "vllm", "--gpu", "H100", "--pp", pp)
    found = json.loads(run(*line, "--format", "json").stdout)["results"][0]
    assert found["total_is_lower_bound"]
    assert not any(fit["fits"] for fit in found["fit"])
    told = " ".join(run(*line).stdout.split())
    assert "the profile run has the largest input of the encoder" in told.replace("vLLM's", "the")
    assert (f"--limit-mm-per-prompt '{limits}' leaves it out" in told) is bool(limits)
    if limits:
        without = json.loads(run(*line, "--limit-mm-per-prompt", limits, "--format", "json").stdout)["results"][0]
        assert not without["total_is_lower_bound"]


def test_more_than_vllm_allows_is_refused(folder: Path) -> None:
    line = (str(folder), "--runtime", "vllm", "--gpu", "H200", "--images", "2", "--limit-mm-per-prompt", '{"image": 1}')
    done = run(*line, "--format", "json")
    refused = json.loads(done.stdout)["results"][0]["serving"]["refused"]
    assert refused == "--limit-mm-per-prompt allows 1 of 'image' in a prompt, and 2 are asked for"


@pytest.mark.parametrize(
    "word",
    [
        "",
        "{}",
        "2",
        "image",
        "image=2,",
        "picture=1",
        '{"picture": 1}',
        '{"image": -1}',
        '{"image": true}',
        '{"image": {}}',
        '{"image": {"width": 0}}',
        '{"image": {"num_frames": 2}}',
        '{"image": {"count": "2"}}',
        "[" * 100000,
    ],
)
def test_limits_that_are_none(word: str) -> None:
    done = run(QWEN, "--offline", "--runtime", "vllm", "--limit-mm-per-prompt", word)
    assert done.returncode == 2
    assert "is not a JSON object of image, video and audio" in done.stderr


@pytest.mark.parametrize(
    ("version", "written"), [("0.8.4", "image=2,video=0"), ("0.8.5", '\'{"image": 2, "video": 0}\'')]
)
def test_limits_are_written_as_the_release_reads_them(version: str, written: str) -> None:
    """0.8.4, engine/arg_utils.py: nullable_kvs; 0.8.5: JSON. Either is understood."""
    line = (QWEN, "--offline", "--runtime", "vllm", "--gpu", "H100", "--vllm-version", version)
    for asked in ("image=2,video=0", '{"image": 2, "video": 0}'):
        done = run(*line, "--limit-mm-per-prompt", asked, "--format", "json")
        found = json.loads(done.stdout)["results"][0]
        assert f"--limit-mm-per-prompt {written}" in found["serving"]["command"]


@pytest.mark.parametrize(
    ("word", "told"),
    [
        ("2", "'2' is not a JSON object, such as"),
        ("{}", "'{}' is not a JSON object, such as"),
        ("[" * 100000, "is not a JSON object, such as"),
        ('{"num_crops": 4}', "what 'num_crops' does to images is not known; min_pixels, max_pixels, size are"),
        ('{"max_pixels": 0}', "'max_pixels' has whole numbers from 1"),
        ('{"size": {"longest_edge": "2"}}', "'size' has whole numbers from 1"),
        ('{"images_kwargs": 2}', "images_kwargs and videos_kwargs are JSON objects"),
        ('{"images_kwargs": {"crop": 2}}', "what 'crop' does to images is not known"),
    ],
)
def test_settings_of_a_processor_that_are_not_read(word: str, told: str) -> None:
    done = run(QWEN, "--offline", "--runtime", "vllm", "--mm-processor-kwargs", word)
    assert done.returncode == 2
    assert told in " ".join(done.stderr.split())


def test_the_launch_line_has_the_sizes() -> None:
    line = (QWEN, "--offline", "--runtime", "vllm", "--gpu", "H100", "--limit-mm-per-prompt")
    limits, given = '{"image": {"width": 512, "height": 512}, "video": 0}', '{"max_pixels": 1003520}'
    done = run(*line, limits, "--mm-processor-kwargs", given, "--format", "json")
    found = json.loads(done.stdout)["results"][0]
    written = f"--limit-mm-per-prompt '{limits}' --mm-processor-kwargs '{given}'"
    assert written in found["serving"]["command"]
    sized = {"count": 999, "width": 512, "height": 512}
    assert found["scenario"]["limit_mm_per_prompt"] == {"image": sized, "video": 0}
    assert found["scenario"]["mm_processor_kwargs"] == {"max_pixels": 1_003_520}


def test_the_launch_line_has_the_limits() -> None:
    line = (QWEN, "--offline", "--runtime", "vllm", "--gpu", "H100", "--limit-mm-per-prompt", '{"video":0}')
    found = json.loads(run(*line, "--format", "json").stdout)["results"][0]
    assert "--limit-mm-per-prompt '{\"video\": 0}'" in found["serving"]["command"]
    assert found["scenario"]["limit_mm_per_prompt"] == {"video": 0}


def test_they_are_within_seq(folder: Path) -> None:
    """The cache is that of the same tokens of text."""
    with_image = hfmem.estimate(str(folder), seq=8192, images=1, image_size="1024x1024")
    without = hfmem.estimate(str(folder), seq=8192)
    assert with_image.estimate.group("kv_cache") == without.estimate.group("kv_cache")


def test_the_arithmetic_is_shown(folder: Path) -> None:
    card = run(str(folder), "--images", "1", "--image-size", "2048x1536", "--explain").stdout.replace("\n  ", " ")
    assert "73 × 55 tokens of 28 × 28 pixels" in card
    assert "by preprocessor_config.json" in card


def test_a_default_is_named_as_one(folder: Path) -> None:
    (folder / "preprocessor_config.json").unlink()
    found = run(str(folder), "--images", "1").stdout.replace("\n  ", " ")
    assert "by the defaults of Qwen2_5_VLProcessor" in found


@pytest.mark.parametrize("more", [(), ("--seq", "4000"), ("--seq", "8k", "--prompt", "4000")])
def test_more_than_the_prompt_is_wrong_usage(folder: Path, more: tuple[str, ...]) -> None:
    done = run(str(folder), "--images", "2", "--image-size", "2048x1536", *more)
    assert done.returncode == 2
    assert "8,030 tokens" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "code", "told"),
    [
        (("openai-community/gpt2", "--images", "1"), 1, "it takes no images"),
        ((QWEN, "--audio-seconds", "3"), 1, "it takes no sound"),
        ((QWEN, "--image-size", "3x3"), 2, "needs --images"),
        ((QWEN, "--images", "1", "--image-size", "0x3"), 2, "expected width and height"),
        ((QWEN, "--images", "1", "--image-size", "9000x3"), 1, "200 times as long as wide"),
        ((QWEN, "--images", "-1"), 2, "expected 0 to"),
        ((QWEN, "--images", "1", "--method", "textbook"), 2, "--images"),
    ],
)
def test_what_is_refused(arguments: tuple[str, ...], code: int, told: str) -> None:
    done = run(*arguments, "--offline")
    assert (done.returncode, done.stdout) == (code, "")
    assert told in done.stderr


def test_no_images_are_none() -> None:
    assert scenario(QWEN, "--images", "0")["image_tokens"] == 0


def test_a_decoder_that_attends_to_images() -> None:
    found = scenario("meta-llama/Llama-3.2-11B-Vision-Instruct", "--images", "2")
    assert found["source_seq"] == found["image_tokens"] == 2 * 4 * 1601


def test_sound_of_a_speech_model() -> None:
    assert scenario("Qwen/Qwen2-Audio-7B-Instruct", "--audio-seconds", "10")["audio_tokens"] == 250
    assert scenario("Qwen/Qwen2-Audio-7B-Instruct", "--audio-seconds", "99")["audio_tokens"] == 750
    assert scenario("openai/whisper-tiny", "--audio-seconds", "10")["audio_tokens"] == 1500


def test_frames_of_a_video() -> None:
    found = scenario("Qwen/Qwen3-VL-4B-Instruct", "--video-frames", "8", "--image-size", "640x480", "--seq", "8k")
    assert found["video_tokens"] > 0
    assert found["images"] == 0


def test_training_has_images_too(folder: Path) -> None:
    found = scenario(str(folder), "--train", "full", "--images", "1", "--seq", "4096")
    assert found["image_tokens"] == 37 * 37


def test_a_plain_run_loads_no_rules() -> None:
    import subprocess
    import sys

    program = (
        "import sys; from hfmem.__main__ import run; sys.argv=['hfmem','openai-community/gpt2','--offline'];"
        "run(); print([name for name in sys.modules if name.startswith('hfmem.mapper.media')], file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.stderr.strip().endswith("[]")


def test_an_eager_tower_holds_scores_of_every_pair_of_patches() -> None:
    """github.com/open-compass/VLMEvalKit/issues/1021: one allocation of 124.68 GiB, which is 16 heads x 64,680 patches
    squared x 2 B, for an image of 196 x 330 patches of 14 pixels."""
    scores = 16 * 64680**2 * 2
    assert round(scores / 2**30, 2) == 124.68
    line = (QWEN, "--offline", "--images", "1", "--image-size", "4620x2744", "--seq", "17000", "--attention", "eager")
    found = json.loads(run(*line, "--format", "json").stdout)["results"][0]
    assert found["scenario"]["image_tokens"] == 64680 // 4
    assert found["memory"]["activations"] > 2 * scores


def test_an_encoder_of_sound_is_a_part_of_what_is_measured() -> None:
    """Whisper's runs in the pass of the prompt; a tower's beside a decoder does not."""
    plain = hfmem.estimate("openai/whisper-large-v3", offline=True).estimate
    heard = hfmem.estimate("openai/whisper-large-v3", offline=True, audio_seconds=30.0).estimate
    assert not heard.is_lower_bound
    assert heard.total == plain.total


def test_sound_whose_tower_is_measured_is_a_fit() -> None:
    line = ("Qwen/Qwen2-Audio-7B-Instruct", "--audio-seconds", "9", "--gpu", "H200", "--offline", "--format", "json")
    found = json.loads(run(*line).stdout)["results"][0]
    assert not found["total_is_lower_bound"]
    assert [fit["fits"] for fit in found["fit"]] == [True]
