"""The weights by device, by hand."""

from __future__ import annotations

from typing import Any

from hfmem.engines.llamacpp.allocator import HOST, Device
from hfmem.engines.llamacpp.weights import placed
from tests.estimator.llamacpp.buffers import blocks_of
from tests.estimator.llamacpp.small import blocks, placement

EMBEDDING = 1000 * 64 * 2
NORM = 64 * 4
ROTARY = 16 * 4
LAYER = (64 * 64 + 2 * 8 * 64 * 128) * 2
CUDA = Device(alignment=128, row_padding=512)


def sizes(devices: int, device: Device | None = None, **asked: Any) -> dict[int, int]:
    return {place: each.nbytes for place, each in placed(placement(devices, **asked), device or Device()).items()}


def test_on_the_host_alone_everything_is_there_once() -> None:
    assert sizes(0) == {HOST: EMBEDDING + NORM + ROTARY + 4 * LAYER}


def test_an_embedding_that_is_the_outputs_too_is_there_twice() -> None:
    assert sizes(1) == {HOST: EMBEDDING, 0: EMBEDDING + NORM + ROTARY + 4 * LAYER}
    assert sizes(1, n_gpu_layers=1) == {HOST: EMBEDDING + ROTARY + 4 * LAYER, 0: EMBEDDING + NORM}


def test_an_output_of_its_own_is_there_once() -> None:
    file = blocks([("output.weight", "F16", (1000, 64))])
    found = {place: each.nbytes for place, each in placed(placement(1, file), Device()).items()}
    assert found == {HOST: EMBEDDING, 0: EMBEDDING + NORM + ROTARY + 4 * LAYER}


def test_rotary_factors_are_on_each_device_with_layers() -> None:
    # three layers, then one with the output
    assert sizes(2) == {HOST: EMBEDDING, 0: ROTARY + 3 * LAYER, 1: ROTARY + LAYER + EMBEDDING + NORM}
    half = sizes(1, n_gpu_layers=3)
    assert half == {HOST: EMBEDDING + ROTARY + 2 * LAYER, 0: ROTARY + 2 * LAYER + EMBEDDING + NORM}


def test_layers_of_further_predictions_are_not_loaded() -> None:
    file = blocks(nextn_predict_layers=1)
    assert file.loaded == 3
    found = {place: each.nbytes for place, each in placed(placement(1, file), Device()).items()}
    assert found == {HOST: EMBEDDING, 0: EMBEDDING + NORM + ROTARY + 3 * LAYER}


def test_each_tensor_is_rounded_up_to_the_alignment() -> None:
    rows = [("blk.0.attn_q.bias", "F32", (3,))]
    found = {place: each.nbytes for place, each in placed(placement(1, blocks(rows)), Device(alignment=128)).items()}
    rotary = 128  # of 64
    assert found[0] == EMBEDDING + NORM + rotary + 4 * LAYER + 128


def test_the_last_row_of_a_quantised_matrix_is_padded_on_a_gpu() -> None:
    """Rows of 64 elements in Q8_0 are 68 B; eight more blocks of them make 512 elements, of 14 more 34 B each."""
    rows = [("blk.0.ffn_gate.weight", "Q8_0", (256, 64))]
    file = blocks(rows)
    plain, padded = (
        {place: each.nbytes for place, each in placed(placement(1, file), device).items()}[0]
        for device in (Device(alignment=128), CUDA)
    )
    stored = 256 * 64 // 32 * 34
    missing = (512 - 64) // 32 * 34
    aligned = -(-(stored + missing) // 128) * 128
    assert stored % 128 == 0
    assert padded - plain == aligned - stored


def test_floats_and_full_rows_are_not_padded() -> None:
    file = blocks([("blk.0.ffn_gate.weight", "Q8_0", (64, 512))])
    plain, padded = (
        {place: each.nbytes for place, each in placed(placement(1, file), device).items()}
        for device in (Device(alignment=128), CUDA)
    )
    assert plain == padded


def test_the_norm_of_the_output_has_another_name_in_lfm2() -> None:
    found = [
        tensor.place
        for file in ("LFM2-1.2B.F16.gguf", "bert-base-uncased.F16.gguf")
        for tensor in blocks_of(file)[1].tensors
        if tensor.name == "token_embd_norm.weight"
    ]
    assert found == ["after", "inside"]
