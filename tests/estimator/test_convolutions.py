"""What convolutions hold besides their input and output, against the workspaces that cuDNN itself asks for."""

from __future__ import annotations

import json
from collections.abc import Iterator
from math import prod
from pathlib import Path
from typing import Any

import hfmem
from hfmem.engines.convolutions import Convolution
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
    """Of 2D convolutions none; of 3D ones in releases before 9.28 some do, on T4 and RTX 3090."""
    above = [
        (row["cudnn"], row["card"], row["channels"], made.images)
        for row, made, workspace in asked()
        if workspace > made.most + FILTERS
    ]
    assert {(release, card) for release, card, *_ in above} == {("9.10.2", "T4"), ("9.10.2", "RTX 3090")}
    assert {tuple(channels) for *_, channels, _ in above} == {(256, 256)}


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
