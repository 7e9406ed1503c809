"""Sizes of images that a server of vLLM is told: of the profile run (`--limit-mm-per-prompt`), and of all
(`--mm-processor-kwargs`)."""

from __future__ import annotations

import json
from functools import cache
from typing import Any

import pytest

from hfmem import estimate, inspect
from hfmem.estimator.values import Estimate
from hfmem.mapper.media.count import counter
from hfmem.mapper.media.values import Clip, Picture

QWEN25, QWEN3 = "Qwen/Qwen2.5-VL-7B-Instruct", "Qwen/Qwen3-VL-30B-A3B-Instruct"
model = cache(lambda name: inspect(name, offline=True))
SIZED = {"image": {"count": 2, "width": 512, "height": 512}}


def served(
    name: str, limits: dict[str, Any] | None = None, given: dict[str, Any] | None = None, **asked: Any
) -> Estimate:
    """A server whose language model takes little, so that its encoder is the peak."""
    small = {"max_num_seqs": 1, "max_num_batched_tokens": 64, "gpu": ("H100",), "seq": 4096, "vllm_version": "0.33"}
    if limits is not None:
        asked["limit_mm_per_prompt"] = json.dumps(limits)
    if given is not None:
        asked["mm_processor_kwargs"] = json.dumps(given)
    return estimate(model(name), runtime="vllm", **(small | asked)).estimate


def how(found: Estimate, name: str = "encoder's profile") -> str:
    (term,) = [term for term in found.terms if term.name == name]
    return term.how


def notes(found: Estimate) -> str:
    return "\n".join(map(str, found.notes))


def test_images_of_the_profile_run() -> None:
    """512 pixels are 18 patches of 28: 504; the pixels of 4 patches each and the features, in 2 B. One of them runs, as
    the class says that an image has 16,384 tokens (`get_mm_max_tokens_per_item`)."""
    found = served(QWEN25, SIZED | {"video": 0}, max_num_batched_tokens=512)
    (kept,) = [term for term in found.terms if term.name == "encoder outputs"]
    assert kept.nbytes == 18**2 * 2 * (4 * 3 * 2 * 14**2 + 3584)
    assert kept.how == "pixels and features of 1 image of 324 tokens"
    assert "requests may have larger ones" in notes(found)


def test_rows_of_the_cache_are_those_of_the_largest() -> None:
    """0.12.0, `profile_run`: outputs are copied into `mm_max_toks_per_item` rows."""
    found = served(QWEN3, SIZED | {"video": 0}, max_num_batched_tokens=512, vllm_version="0.12")
    (kept,) = [term for term in found.terms if term.name == "encoder outputs"]
    assert kept.nbytes == 16**2 * 2 * (4 * 3 * 2 * 16**2 + 4 * 2048) + 16_384 * 2 * 4 * 2048


@pytest.mark.parametrize(
    ("name", "limits"),
    [
        (QWEN25, SIZED),  # a video has as many tokens, and a later name
        (QWEN25, {"image": {"width": 512}, "video": 0}),  # its height is that of an image with the most tokens
        (QWEN25, {"image": {"width": 9000, "height": 9000}, "video": 0}),
        (QWEN3, {"video": {"num_frames": 8, "width": 512, "height": 512}}),
    ],
)
def test_the_largest_input_where_sizes_are_not_those_of_the_profile_run(name: str, limits: dict[str, Any]) -> None:
    found = served(name, limits)
    assert "of 16,384 tokens" in how(found)
    assert "the profile run has the largest input" in notes(found)


def test_a_request_may_have_a_larger_image() -> None:
    asked = {"images": 1, "image_size": "900x900"}
    assert [group for group, _ in served(QWEN25, SIZED | {"video": 0}, **asked).unknown] == ["activations"]
    assert not served(QWEN25, SIZED, **asked).unknown  # its video covers it
    assert not served(QWEN25, SIZED | {"video": 0}).unknown


def test_counts_in_objects() -> None:
    found = served(QWEN25, {"image": {"count": 1}}, images=2, image_size="90x90")
    assert found.refused == "--limit-mm-per-prompt allows 1 of 'image' in a prompt, and 2 are asked for"
    assert not served(QWEN25, {"image": {"width": 56}}, images=3, image_size="56x56").refused  # 999


def test_objects_are_of_later_releases() -> None:
    refused = "--limit-mm-per-prompt has objects in vLLM 0.11.1 and later; 0.11 takes numbers"
    assert served(QWEN25, SIZED, vllm_version="0.11.0").refused == refused
    assert not served(QWEN25, SIZED, vllm_version="0.11.2").refused


@pytest.mark.parametrize(
    ("name", "given", "told"),
    [
        (QWEN25, {"max_pixels": 1_003_520}, 1_003_520 // 28**2),
        (QWEN25, {"size": {"longest_edge": 1_003_520}}, 1_003_520 // 28**2),
        (QWEN25, {"size": {"longest_edge": 28**2}, "max_pixels": 1_003_520}, 1_003_520 // 28**2),
        (QWEN25, {"images_kwargs": {"max_pixels": 1_003_520}}, 1_003_520 // 28**2),
        (QWEN25, {"do_convert_rgb": True}, 16_384),
        (QWEN3, {"max_pixels": 1_003_520}, 1_003_520 // 32**2),
    ],
)
def test_settings_of_a_processor_win_over_its_files(name: str, given: dict[str, Any], told: int) -> None:
    found = how(served(name, {"video": 0}, given))
    assert found.startswith(f"1 image of {told:,} tokens")


def test_requests_have_images_of_these_settings() -> None:
    asked: dict[str, Any] = {"images": 1, "image_size": "2000x2000", "seq": 8192, "gpu": ("H100",)}
    given = json.dumps({"max_pixels": 1_003_520})
    plain = estimate(model(QWEN25), runtime="vllm", **asked).scenario
    small = estimate(model(QWEN25), runtime="vllm", mm_processor_kwargs=given, **asked).scenario
    assert (plain.image_tokens, small.image_tokens) == (71**2, (1002 // 28) ** 2)


def test_settings_of_one_part() -> None:
    """Within `images_kwargs` and `videos_kwargs`, they are of that part alone; the other's stay."""
    checkpoint = model(QWEN25).checkpoint
    files = checkpoint.processing
    only = counter(checkpoint.config, {**files, "--kw": {"images_kwargs": {"max_pixels": 28**2 * 100}}})
    stored = counter(checkpoint.config, files)
    picture, clip = Picture(width=2000, height=2000), Clip(frames=2, width=2000, height=2000)
    assert only.image(picture).count == 100
    assert only.video(clip) == stored.video(clip)
    every = counter(checkpoint.config, {**files, "--kw": {"max_pixels": 28**2 * 100}})
    assert every.image(picture).count == every.video(clip).count == 100
