"""The Hub's own list of hardware (recorded in fixtures/hardware): every name of it is known here."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from hfmem.errors import InvalidScenarioError
from hfmem.hardware.table import find

HUB = json.loads((Path(__file__).parents[2] / "fixtures" / "hardware" / "hub.json").read_text(encoding="utf-8"))
ROWS = HUB["accelerators"]

# sizes of the Hub's list with which nobody sells the thing, and what they are
NOT_SOLD = {
    "RTX A5000": {8: "a share of one (vGPU profile)", 12: "a share of one (vGPU profile)"},
    "RX 7600 XT": {8: "the RX 7600"},
    "Radeon Pro VII": {32: "the Radeon Pro Vega II"},
    "Arc B60": {48: "two of 24 on a board: 2x Arc Pro B60"},
    "Apple M1 Pro": {24: ""},
    "Apple M1 Max": {16: "", 24: ""},
    "Apple M1 Ultra": {16: "", 24: "", 32: "", 96: ""},
    "Apple M2 Pro": {24: ""},
    "Apple M2 Ultra": {96: ""},
}


def test_the_record_is_whole() -> None:
    assert (HUB["package"], HUB["version"]) == ("@huggingface/tasks", "0.21.54")
    assert len(ROWS) == 197  # 177 GPUs and 20 of Apple


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row["name"])
def test_every_name_is_found(row: dict[str, Any]) -> None:
    for name in (row["name"], *row["aliases"]):
        assert find(name).accelerator.kind in ("discrete", "unified")


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row["name"])
def test_the_capability_is_the_hubs(row: dict[str, Any]) -> None:
    """developer.nvidia.com/cuda-gpus has the B300 at 10.3, the Hub at 10.0."""
    expected = "10.3" if row["name"] == "B300" else row["capability"]
    assert find(row["name"]).accelerator.compute_capability == expected


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row["name"])
def test_every_size_is_found_and_is_that_size(row: dict[str, Any]) -> None:
    """An MI250 is two GPUs of half its memory."""
    name = re.sub(r" \d+GB$", "", row["name"])
    for size in row["memory"]:
        spelling = f"{name} {size}GB"
        if size in NOT_SOLD.get(row["name"], {}):
            with pytest.raises(InvalidScenarioError, match="is sold with"):
                find(spelling)
        else:
            assert find(spelling).accelerator.nominal_gb == (size // 2 if name == "MI250" else size)
