"""What an audio tower needs is what the real class was seen to need, at sizes that no fit has seen."""

from __future__ import annotations

import json
from typing import Any, Final

import pytest

import hfmem
from hfmem.estimator.activations.audio_towers import hearing
from hfmem.estimator.activations.towers import Encoding, highest_of
from hfmem.mapper.media.ears import ear_of
from tests.oracle import audio_towers
from tests.oracle.towers import apart

RECORDED: Final = json.loads(audio_towers.RECORDED.read_text(encoding="utf-8"))
ROWS: Final = audio_towers.rows()
QWEN: Final = "Qwen/Qwen2-Audio-7B-Instruct"
VOXTRAL: Final = "mistralai/Voxtral-Mini-3B-2507"


def test_every_row_has_a_record() -> None:
    assert ROWS.keys() == RECORDED["rows"].keys() == RECORDED["real"].keys()
    assert all(len(found) >= 2 for found in RECORDED["rows"].values())


@pytest.mark.parametrize("name", ROWS)
def test_peaks_within_half_a_percent(name: str) -> None:
    assert max(apart(ROWS[name], RECORDED["rows"][name], RECORDED["depth"])) <= 0.005


@pytest.mark.parametrize("name", ROWS)
def test_real_sizes_within_three_percent(name: str) -> None:
    """Two windows of 30 seconds, seen by other means than those of the probe."""
    seen, row = RECORDED["real"][name], ROWS[name]
    ear = ear_of(seen["config"])
    assert ear is not None
    assert not row["layer"]
    sizes = {**ear.sizes, **seen["sizes"]}
    sizes["tokens"] = sizes["s"] * sizes["hidden"] // sizes["intermediate"]
    assert highest_of(row, sizes, ear.layers)[1] == pytest.approx(seen["peak"], rel=0.03)


def heard(model: str, **options: Any) -> Encoding:
    report = hfmem.estimate(model, offline=True, **{"seq": 4096, **options})
    assert not report.estimate.is_lower_bound
    found = hearing(report.model.ear, report.scenario)
    assert isinstance(found, Encoding)
    return found


def test_sound_is_padded_to_whole_windows() -> None:
    """Voxtral's are of 30 seconds: 3,000 frames of 128 bins in float32, and 375 features of 3,072 in 16 bits."""
    window = 3000 * 128 * 4 + 375 * 3072 * 2
    assert [heard(VOXTRAL, audio_seconds=seconds).kept for seconds in (1, 30, 65)] == [window, window, 3 * window]
    assert heard(QWEN, audio_seconds=1).peak == heard(QWEN, audio_seconds=90).peak


def test_a_batch_has_as_many_sounds() -> None:
    """Within the bytes of positions that all windows share."""
    one, four = (heard(QWEN, audio_seconds=30, batch=batch).peak for batch in (1, 4))
    assert four == pytest.approx(4 * one, rel=0.001)


def test_eager_attention_is_quadratic_in_positions() -> None:
    """20 heads of 1,500 squared scores, twice in 16 bits."""
    eager = heard(QWEN, audio_seconds=30, attention="eager").peak
    assert eager > 20 * 1500**2 * 4 > heard(QWEN, audio_seconds=30).peak


def test_the_features_of_sound_stay_while_the_prompt_runs() -> None:
    report = hfmem.estimate(VOXTRAL, offline=True, audio_seconds=65, seq=4096)
    terms = {term.name: term.nbytes for term in report.estimate.terms}
    assert terms["prefill: sound"] == heard(VOXTRAL, audio_seconds=65).kept


def test_another_tower_in_the_same_class_is_unknown() -> None:
    report = hfmem.estimate(QWEN, offline=True, audio_seconds=30, seq=4096)
    config = {**(report.model.checkpoint.config or {})}
    other = ear_of(config | {"audio_config": {**config["audio_config"], "model_type": "whisper"}})
    assert other is not None
    assert not isinstance(hearing(other, report.scenario), Encoding)


def test_training_with_sound_is_not_measured() -> None:
    assert hfmem.estimate(QWEN, offline=True, audio_seconds=5, seq=1024, train="full").estimate.is_lower_bound
