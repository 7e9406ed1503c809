"""Which device has which layer and tensor, by hand."""

from __future__ import annotations

from typing import Any

import pytest

from hfmem.engines.llamacpp.allocator import HOST
from tests.estimator.llamacpp.small import blocks, placement


@pytest.mark.parametrize(
    ("layers", "expected"),
    [
        (0, [HOST, HOST, HOST, HOST, HOST]),
        (1, [HOST, HOST, HOST, HOST, 0]),
        (2, [HOST, HOST, HOST, 0, 0]),
        (4, [HOST, 0, 0, 0, 0]),
        (5, [0, 0, 0, 0, 0]),
        (10**6, [0, 0, 0, 0, 0]),
    ],
)
def test_the_output_comes_first_then_the_last_layers(layers: int, expected: list[int]) -> None:
    assert list(placement(1, n_gpu_layers=layers).layers) == expected


def test_without_an_accelerator_all_are_on_the_host() -> None:
    assert set(placement(0).layers) == {HOST}


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        # five with the output: places 0, 0.2, 0.4, 0.6, 0.8 of shares that end at 0.5 and 1
        ({}, [0, 0, 0, 1, 1]),
        ({"tensor_split": (1.0, 1.0)}, [0, 0, 0, 1, 1]),
        # … at 0.75 and 1
        ({"tensor_split": (3.0, 1.0)}, [0, 0, 0, 0, 1]),
        # … at 0.2 and 1: what lies on an edge is the next one's
        ({"tensor_split": (1.0, 4.0)}, [0, 1, 1, 1, 1]),
        ({"tensor_split": (0.0, 1.0)}, [1, 1, 1, 1, 1]),
        # three are offloaded: places 0, 1/3, 2/3
        ({"n_gpu_layers": 3}, [HOST, HOST, 0, 0, 1]),
        ({"split_mode": "none"}, [0, 0, 0, 0, 0]),
        ({"split_mode": "none", "tensor_split": (1.0, 3.0)}, [0, 0, 0, 0, 0]),
        ({"split_mode": "none", "main_gpu": 1}, [1, 1, 1, 1, 1]),
    ],
)
def test_accelerators_share_the_layers(asked: dict[str, Any], expected: list[int]) -> None:
    assert list(placement(2, **asked).layers) == expected


def test_the_embedding_stays_on_the_host_and_the_norm_goes_with_the_output() -> None:
    found, file = placement(2), blocks()
    assert found.of(file.by_name["token_embd.weight"]) == HOST
    assert found.of(file.by_name["output_norm.weight"]) == 1
    assert found.of(file.by_name["blk.3.attn_q.weight"]) == 1
    assert found.of(file.by_name["blk.2.attn_q.weight"]) == 0
    assert found.places == (0, 1)
    assert placement(1, n_gpu_layers=3).places == (HOST, 0)


def on_host(**asked: Any) -> set[str]:
    """The layers' tensors that stay on the host."""
    found = placement(1, **asked)
    return {tensor.name for tensor in blocks().tensors if tensor.layer is not None and found.of(tensor) == HOST}


def test_experts_of_the_first_layers_stay_on_the_host() -> None:
    assert on_host() == set()
    assert on_host(n_cpu_moe=1) == {"blk.0.ffn_up_exps.weight", "blk.0.ffn_down_exps.weight"}
    assert len(on_host(n_cpu_moe=100)) == 2 * 4
    # layers that are on the host anyway count among the first
    assert on_host(n_cpu_moe=1, n_gpu_layers=4) == on_host(n_gpu_layers=4)


def test_rules_of_tensors_come_before_everything_else() -> None:
    assert on_host(overrides=((r"blk\.[12]\.ffn_down", "CPU"),)) == {f"blk.{n}.ffn_down_exps.weight" for n in (1, 2)}
    assert len(on_host(overrides=(("exps", "CPU"),))) == 8
    found = placement(2, overrides=(("token_embd", "0"), (r"blk\.0\.", "1")))
    assert found.of(blocks().by_name["token_embd.weight"]) == 0
    assert found.of(blocks().by_name["blk.0.attn_q.weight"]) == 1
    assert found.of(blocks().by_name["blk.1.attn_q.weight"]) == 0


@pytest.mark.parametrize(
    ("devices", "asked", "pipelined"),
    [
        (2, {}, True),
        (1, {}, False),
        (2, {"n_gpu_layers": 5}, True),
        (2, {"n_gpu_layers": 4}, False),
        (2, {"split_mode": "none"}, False),
        (2, {"offload_kqv": False}, False),
        (2, {"n_cpu_moe": 1}, False),
        (2, {"overrides": (("exps", "CPU"),)}, False),
    ],
)
def test_batches_follow_each_other_through_devices_that_hold_the_whole(
    devices: int, asked: dict[str, Any], pipelined: bool
) -> None:
    assert placement(devices, **asked).pipelined is pipelined
