"""Tokens of images, videos and sound are those of the real processors, as `tests.oracle.media` recorded them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final

import pytest

from hfmem.mapper.media.count import Counter, counter
from hfmem.mapper.media.values import Clip, Picture, Sound, UncountedError
from tests.oracle import media

ROWS: Final = {row["name"]: row for row in json.loads(media.RECORDED.read_text(encoding="utf-8"))["rows"]}
PROCESSORS: Final = Path(__file__).parents[2] / "hfmem" / "data" / "processors.jsonl"


def of(row: dict[str, Any]) -> Counter:
    """The rules of a recorded row, whose settings stand in a repository's files."""
    files = {"processor_config.json": row["processor"], "preprocessor_config.json": row["image"]}
    return counter({"model_type": row["type"]}, {name: file for name, file in files.items() if file})


def images(rules: Counter, sizes: tuple[tuple[int, int], ...]) -> int:
    return sum(rules.image(Picture(width=width, height=height, of=len(sizes))).count for width, height in sizes)


def counted(count: Any) -> int | None:
    """None where the processor refuses it."""
    try:
        return int(count())
    except UncountedError:
        return None


def test_enough_types_are_recorded() -> None:
    pictured = {row["type"] for row in ROWS.values() if "images" in row}
    heard = {row["type"] for row in ROWS.values() if "sounds" in row}
    assert len(pictured) >= 70
    assert len(heard) >= 18
    assert len(media.SIZES) >= 12
    assert len(media.SECONDS) >= 12


@pytest.mark.parametrize("name", [name for name, row in ROWS.items() if "images" in row])
def test_images(name: str) -> None:
    rules = of(ROWS[name])
    assert [counted(lambda sizes=sizes: images(rules, sizes)) for sizes in media.SIZES] == ROWS[name]["images"]


@pytest.mark.parametrize("name", [name for name, row in ROWS.items() if "sounds" in row])
def test_sounds(name: str) -> None:
    rules = of(ROWS[name])
    found = [counted(lambda seconds=seconds: rules.audio(Sound(seconds=seconds)).count) for seconds in media.SECONDS]
    assert found == ROWS[name]["sounds"]


@pytest.mark.parametrize("name", [name for name, row in ROWS.items() if "clips" in row])
def test_clips(name: str) -> None:
    rules = of(ROWS[name])
    clips = [Clip(frames=frames, width=width, height=height) for frames, width, height in media.CLIPS]
    assert [counted(lambda clip=clip: rules.video(clip).count) for clip in clips] == ROWS[name]["clips"]


BY_HAND: Final = {
    # 2048 x 1536: Qwen2.5-VL's class allows 1280 tokens of 28 pixels, its published file 16384
    "qwen2_5_vl": ({}, 41 * 30),
    "qwen2_5_vl of its file": ({"min_pixels": 3136, "max_pixels": 12845056}, 73 * 55),
    # 4 x 3 tiles of 364 pixels and the whole, 169 tokens each
    "idefics3": ({}, 169 * 13),
}


@pytest.mark.parametrize("name", BY_HAND)
def test_by_hand(name: str) -> None:
    file, expected = BY_HAND[name]
    rules = counter({"model_type": name.partition(" ")[0]}, {"preprocessor_config.json": file} if file else {})
    assert rules.image(Picture(width=2048, height=1536)).count == expected
    assert rules.default is (not file)


def test_a_tiny_image_is_scaled_up() -> None:
    rules = counter({"model_type": "idefics3"}, {})
    assert rules.image(Picture(width=28, height=28)).count == 169 * 17


def test_the_processor_that_a_file_names_counts() -> None:
    """LLaVA's class runs Pixtral's images too."""
    named = {"processor_class": "PixtralProcessor", "patch_size": 16, "spatial_merge_size": 1}
    files = {"processor_config.json": named}
    rules = counter({"model_type": "llava"}, files | {"preprocessor_config.json": {"size": {"longest_edge": 1024}}})
    assert rules.processor == "PixtralProcessor"
    assert rules.image(Picture(width=512, height=256)).count == 32 * 16


def test_settings_within_the_processors_file_count() -> None:
    file = {"image_processor": {"size": {"shortest_edge": 3136, "longest_edge": 12845056}}}
    rules = counter({"model_type": "qwen2_5_vl"}, {"processor_config.json": file})
    assert rules.image(Picture(width=2048, height=1536)).count == 73 * 55


@pytest.mark.parametrize(
    "file",
    [
        {"patch_size": -1},
        {"patch_size": "14"},
        {"patch_size": 2**40},
        {"merge_size": 0},
        {"size": {"shortest_edge": "x", "longest_edge": []}},
        {"size": [1, 2, 3]},
        {"min_pixels": True},
    ],
)
def test_impossible_settings_are_no_count(file: dict[str, Any]) -> None:
    with pytest.raises(UncountedError):
        counter({"model_type": "qwen2_vl"}, {"preprocessor_config.json": file}).image(Picture(width=9, height=9))


def test_an_impossible_number_of_tiles_is_refused_at_once() -> None:
    rules = counter({"model_type": "internvl"}, {"preprocessor_config.json": {"max_patches": 10**9}})
    with pytest.raises(UncountedError, match="impossible number of tiles"):
        rules.image(Picture(width=900, height=90))


def test_an_elongated_image_is_refused_as_there() -> None:
    with pytest.raises(UncountedError, match="200 times as long"):
        counter({"model_type": "qwen2_vl"}, {}).image(Picture(width=9000, height=9))


@pytest.mark.parametrize("config", [{}, {"model_type": "gpt2"}, {"model_type": 3}, {"model_type": "speecht5"}])
def test_what_takes_no_images(config: dict[str, Any]) -> None:
    with pytest.raises(UncountedError):
        counter(config, {}).image(Picture(width=9, height=9))


def test_every_rule_has_a_record_or_is_named_here() -> None:
    """Of the processors with a rule, which none of the recorded types has."""
    types = [json.loads(line) for line in PROCESSORS.read_text(encoding="utf-8").splitlines()[1:]]
    of_type = {row["type"]: row.get("processor") for row in types if "type" in row}
    recorded = {of_type[row["type"]] for row in ROWS.values()}
    from hfmem.mapper.media.table import RULES

    assert set(RULES) - recorded == {
        "AudioFlamingo3Processor",  # types that transformers lists under no task with a prompt
        "MusicFlamingoProcessor",
        "Kosmos2Processor",  # a number of its settings
        "Kosmos2_5Processor",
        "MllamaProcessor",  # its decoder attends to all tiles, which the model pads, not the processor's text
        "VoxtralProcessor",  # its placeholders are made by mistral-common
        "WhisperProcessor",  # an encoder's only length
    }
