"""What an audio tower needs for its forward pass, before the prompt runs: measured polynomials in windows of sound and
positions of each, as of images and patches (`hfmem.estimator.activations.towers`).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cache
from typing import Any, Final

from hfmem.data import text as data_text
from hfmem.dtypes import find_dtype
from hfmem.estimator.activations.towers import PIXEL, Batch, Encoding, evaluated, named_in, unlike
from hfmem.estimator.scenario import Scenario
from hfmem.mapper.inputs import Tower
from hfmem.unknown import Unknown

__all__ = ["FRAMES", "hearing"]

FRAMES: Final = 2
"""Frames of a position: the stride of the encoders' convolutions."""


def hearing(tower: Tower | None, scenario: Scenario) -> Encoding | Unknown:
    """What the sound of a batch needs, or why that is not known."""
    reason = Unknown("what the tower of images or sound needs while it runs is not measured yet")
    if scenario.image_tokens or scenario.video_tokens or not scenario.windows or tower is None:
        return reason
    row = _rows().get((tower.name, "eager" if scenario.attention == "eager" else "sdpa"))
    dtype = find_dtype(scenario.compute_dtype or "")
    windows, each = scenario.batch * scenario.windows, scenario.positions or tower.patches
    if row is None or dtype is None or not each or unlike(row, tower):
        return reason
    tokens = each * tower.sizes["hidden"] // tower.sizes["intermediate"]
    sizes = {**tower.sizes, "b": windows, "s": each, "tokens": tokens}
    if not named_in(row) <= sizes.keys():
        return reason
    batch = Batch(
        sizes=sizes,
        features=scenario.batch * scenario.audio_tokens,
        given=windows * FRAMES * each * tower.sizes["mels"] * PIXEL,
        what="frames",
        source=f"hfmem.probe.audio_towers on {tower.name} ({row['attention']}), {_lines()[0]['source']}",
    )
    return evaluated(row, tower, scenario, batch, dtype.nbytes(1))


@cache
def _lines() -> tuple[Mapping[str, Any], ...]:
    return tuple(json.loads(line) for line in data_text("audio_towers.jsonl").splitlines())


@cache
def _rows() -> Mapping[tuple[str, str], Mapping[str, Any]]:
    return {(row["type"], row["attention"]): row for row in _lines()[1:]}
