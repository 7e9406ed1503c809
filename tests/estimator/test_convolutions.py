"""What convolutions hold besides their input and output, against the workspaces that cuDNN itself asks for."""

from __future__ import annotations

import json
from collections.abc import Iterator
from math import prod
from pathlib import Path
from typing import Any

import pytest

import hfmem
from hfmem.engines.convolutions import Convolution, widens
from hfmem.hardware.table import find
from hfmem.units import GIB, MIB

FIXTURE = Path(__file__).parents[2] / "fixtures" / "oracle" / "cudnn.json"
FILTERS = 24 * MIB
"""The copy of the filter and small tables, which the copies of images are far above."""


def asked() -> Iterator[tuple[dict[str, Any], Convolution, int]]:
    """Each row, the convolution of each batch, and its workspace in the row's release."""
    for row in json.loads(FIXTURE.read_text(encoding="utf-8")):
        size = 2 if row["dtype"] == "float16" else 4
        for images, workspace in row["workspace"].items():
            ends = [int(images) * channels * prod(row["sides"]) for channels in row["channels"]]
            both, larger = size * sum(ends), size * max(ends)
            made = Convolution(bare=0, larger=larger, both=both, elements=max(ends), images=int(images))
            yield row, made, workspace


def test_no_plan_takes_more_than_the_copies_of_one_piece() -> None:
    """But for 3D convolutions in half precision, on cards of which that is known."""
    above = {
        (row["cudnn"], row["card"], tuple(row["channels"]), len(row["sides"]), row["dtype"])
        for row, made, workspace in asked()
        if workspace > made.most + FILTERS
    }
    assert {card for _, card, *_ in above} == {"T4", "RTX 3090"}
    assert {(release, dtype, sides) for release, _, _, sides, dtype in above} == {
        ("9.10.2", "float16", 3),
        ("9.20.0", "float16", 3),
    }
    assert {channels for _, _, channels, *_ in above} == {(256, 256), (256, 128)}


@pytest.mark.parametrize("card", ["T4", "RTX 3090"])
def test_above_both_copies_is_the_output_in_float32(card: str) -> None:
    assert widens(find(card).accelerator)
    for row, made, workspace in asked():
        if row["card"] == card:
            output = 4 * made.images * row["channels"][1] * prod(row["sides"]) * made.share
            assert workspace <= made.most + output + FILTERS
            if (row["cudnn"], card, row["channels"], made.images) == ("9.20.0", "RTX 3090", [256, 128], 1):
                wide = len(row["sides"]) > 2 and row["dtype"] == "float16"
                assert wide == (workspace >= made.most + output)


@pytest.mark.parametrize("card", ["A100 80GB", "RTX 4090", "H100 80GB"])
def test_other_cards_hold_no_output_in_float32(card: str) -> None:
    assert not widens(find(card).accelerator)


def test_in_half_precision_both_copies_are_made() -> None:
    """From Ampere on, also where a batch is cut into pieces; on an RTX 3090 up to 17 images, of which it has 24 GiB."""
    for row, made, workspace in asked():
        most = {"T4": 0, "RTX 3090": 17}.get(row["card"], 32)
        if row["dtype"] == "float16" and made.images <= most:
            assert workspace >= made.least(single=False), row


def test_in_float32_a_piece_may_have_no_copies() -> None:
    cut = [(made, workspace) for row, made, workspace in asked() if row["dtype"] == "float32" and made.share < 1]
    assert min(workspace / made.both for made, workspace in cut) < 0.001
    assert all(made.least(single=True) == 0 for made, _ in cut)


def test_pieces_are_whole_images() -> None:
    """17 images of 128 x 1024 x 1024: 16 of them have 2^31 elements."""
    one = 128 * 1024 * 1024
    made = Convolution(bare=0, larger=17 * 2 * one, both=17 * 4 * one, elements=17 * one, images=17)
    assert made.share == 16 / 17
    assert made.most == made.least(single=False) == 16 * 4 * one


def test_an_image_of_more_elements_is_not_cut() -> None:
    made = Convolution(bare=1, larger=2, both=4, elements=3 * 2**31, images=1)
    assert (made.share, made.most, made.least(single=False)) == (1, 5, 3)


def decoded(batch: int) -> tuple[float, float]:
    """GiB an image that FLUX's VAE takes to decode 1024 x 1024, at least and at most."""
    found = hfmem.estimate("black-forest-labs/FLUX.1-dev", dtype="bfloat16", batch=batch, offline=True).estimate
    high = sum(term.nbytes for term in found.terms if term.phase == "vae_decode") / batch / GIB
    return high - found.spared / batch / GIB, high


def test_a_batch_whose_tensors_have_too_many_elements_is_one_number() -> None:
    """16 images: 256 channels of 1024 x 1024 after the last upsampling, of which 8 images have 2^31 elements: half of
    both copies, as read on an H100 (1.875 GiB an image); of 8 images, any of both."""
    low, high = decoded(16)
    assert low == high
    assert abs(high - 1.875) < 0.001
    low, high = decoded(8)
    assert abs(low - 1.875) < 0.001
    assert abs(high - 2.375) < 0.001


def test_pieces_never_take_more_than_a_batch_in_one() -> None:
    """What is taken grows with each image, also over the bound where pieces begin."""
    totals = [batch * decoded(batch)[1] for batch in (7, 8, 9, 10, 16, 17)]
    assert totals == sorted(totals)


def test_a_video_on_a_card_whose_3d_convolutions_hold_float32() -> None:
    """HunyuanVideo's VAE of 256 channels at full size: a tile in time has 17 frames."""
    asked: dict[str, Any] = {"offload": "model", "height": 512, "width": 768, "num_frames": 61, "offline": True}
    found = {
        name: hfmem.estimate("hunyuanvideo-community/HunyuanVideo", gpu=(name,), **asked).estimate
        for name in ("RTX A6000", "RTX 4090", "A100 80GB")
    }
    decoded = {
        name: next(phase for phase in each.phases if phase.name == "vae_decode").terms for name, each in found.items()
    }
    sums = {name: sum(term.nbytes for term in terms if term.phase) for name, terms in decoded.items()}
    assert sums["RTX 4090"] == sums["A100 80GB"]
    output = 4 * 256 * 17 * 512 * 768  # float32
    assert sums["RTX A6000"] - sums["RTX 4090"] == pytest.approx(output, rel=0.01)
    assert found["RTX A6000"].low < found["RTX A6000"].total
    assert any("PyTorch 2.8 to 2.12" in note for note in found["RTX A6000"].notes)
    assert any("PyTorch 2.8 to 2.10" in note for note in found["A100 80GB"].notes)
    assert found["A100 80GB"].low == found["A100 80GB"].total
    assert not any("float32" in note for note in found["RTX 4090"].notes)
