"""Parts of matrices and caches (`--split-mode tensor`) against real loads of llama.cpp 0.5.0 on two RPC servers, whose
buffers it tells by the larger of the two (`ggml_backend_meta_alloc_ctx_tensors_from_buft`)."""

from __future__ import annotations

from typing import Any

import pytest

import hfmem
from hfmem.engines.llamacpp.allocator import Device
from hfmem.engines.llamacpp.caches import sides
from hfmem.engines.llamacpp.compute import Compute, computed
from hfmem.engines.llamacpp.placement import Placement
from hfmem.engines.llamacpp.refusals import refusal
from hfmem.engines.llamacpp.settings import LlamaSettings, server
from hfmem.engines.llamacpp.weights import parted
from hfmem.mapper.gguf.parts import Parts
from hfmem.scenario.options import Options
from tests.estimator.llamacpp.buffers import blocks_of

DEVICES = 2
EVEN, UNEVEN = (), (3.0, 1.0)


def placed(file: str, shares: tuple[float, ...]) -> Placement:
    settings = LlamaSettings(n_ctx=4096, tensor_split=shares, split_mode="tensor", pins=True)
    return Placement(blocks=blocks_of(file)[1], settings=settings, free=(1,))


@pytest.mark.parametrize(
    ("file", "shares", "weights", "caches"),
    [
        # 12 heads in one product, the second set with 9 and 3 of them in turn
        ("gpt2.F16.gguf", EVEN, 162_485_760, 75_497_472),
        ("gpt2.F16.gguf", UNEVEN, 205_017_600, 113_246_208),
        # two heads of keys, one each whatever the shares
        ("Qwen2.5-0.5B.F16.gguf", EVEN, 630_326_784, 25_165_824),
        ("Qwen2.5-0.5B.F16.gguf", UNEVEN, 787_219_968, 25_165_824),
        # cut at blocks of what reads the part: 256 elements of Q4_K
        ("Qwen2.5-0.5B.Q4_K_M.gguf", EVEN, 268_339_200, 25_165_824),
        ("Qwen2.5-0.5B.Q4_K_M.gguf", UNEVEN, 325_217_280, 25_165_824),
    ],
)
def test_parts_are_those_that_were_really_loaded(
    file: str, shares: tuple[float, ...], weights: int, caches: int
) -> None:
    placement, (architecture, blocks) = placed(file, shares), blocks_of(file)
    found = parted(placement, Device(), DEVICES)
    assert max(found[device].nbytes for device in range(DEVICES)) == weights
    parts = Parts(blocks=blocks, shares=placement.settings.tensor_split, devices=DEVICES)
    found_sides = [sides(layer, placement.settings) for layer in architecture.layers or ()]
    layers = [parts.cached(number, each.keys, each.values) for number, each in enumerate(found_sides)]
    assert max(map(sum, zip(*layers, strict=True))) == caches


@pytest.mark.parametrize(
    ("file", "device", "host"),
    [("gpt2.F16.gguf", 15_212_576, 8_925_216), ("Qwen2.5-0.5B.F16.gguf", 39_594_016, 7_876_640)],
)
def test_each_has_a_compute_buffer_of_the_whole_graph(file: str, device: int, host: int) -> None:
    assert computed(placed(file, EVEN), [Device()]) == Compute(devices=(device,), host=host, flash=True)


def test_parts_of_all_tensors_make_the_whole_or_are_the_whole() -> None:
    for file in (
        "Qwen3.5-0.8B.F16.gguf",
        "gpt-oss-20b@4.F16.gguf",
        "gemma-3-4b-it.F16.gguf",
        "Phi-4-mini-instruct@2.F16.gguf",
    ):
        blocks = blocks_of(file)[1]
        parts = Parts(blocks=blocks, shares=(), devices=3)
        for tensor in blocks.tensors:
            shapes = parts.shapes(tensor)
            whole = all(shape == tensor.shape for shape in shapes)
            cut = [sum(sizes) == size for sizes, size in zip(zip(*shapes, strict=True), tensor.shape, strict=True)]
            assert whole or any(cut), tensor


@pytest.mark.parametrize(
    ("file", "asked", "words"),
    [
        ("gpt2.F16.gguf", {"split_mode": "row"}, "does not support split buffers"),
        ("gpt2.F16.gguf", {"split_mode": "row", "llamacpp_version": "2026-01"}, "not modelled"),
        ("gpt2.F16.gguf", {"split_mode": "tensor", "llamacpp_version": "2026-01"}, "not for builds before"),
        ("gpt2.F16.gguf", {"split_mode": "tensor", "flash_attn": "off"}, "needs flash attention"),
        ("DeepSeek-V3@4.F16.gguf", {"split_mode": "tensor"}, "'deepseek2'"),
        ("gpt2.F16.gguf", {"split_mode": "none", "main_gpu": 2}, "none of the 2 accelerators"),
        ("gpt2.F16.gguf", {"split_mode": "tensor"}, ""),
        ("gpt2.F16.gguf", {"split_mode": "none", "main_gpu": 1}, ""),
    ],
)
def test_what_llama_cpp_does_not_start_with(file: str, asked: dict[str, Any], words: str) -> None:
    """The first sentence is llama.cpp's own, of a device without split buffers (`make_gpu_buft_list`)."""
    found = refusal(blocks_of(file)[1], server(Options(**asked)), DEVICES)
    assert words in found
    assert bool(found) is bool(words)


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ({"split_mode": "row"}, "does not support split buffers"),
        ({"split_mode": "none", "main_gpu": 3}, "--main-gpu 3 is not the one there is, 0"),
        ({"split_mode": "none"}, ""),
        ({"main_gpu": 3}, ""),
    ],
)
def test_one_accelerator_is_refused_what_llama_cpp_refuses_it(asked: dict[str, Any], words: str) -> None:
    """llama-model.cpp and llama.cpp look at the mode alone: 'invalid value for main_gpu: 3 (available devices: 1)'."""
    found = refusal(blocks_of("gpt2.F16.gguf")[1], server(Options(**asked)), 1)
    assert words in found
    assert bool(found) is bool(words)


@pytest.mark.parametrize(("mode", "sizes"), [("layer", (1, 2)), ("tensor", (2, 1))])
def test_cut_matrices_are_tensor_parallel_and_caches_are_halved(mode: str, sizes: tuple[int, int]) -> None:
    asked = {"runtime": "llamacpp", "split_mode": mode, "gpu": ("2xRTX 4090",), "seq": 8192, "offline": True}
    report = hfmem.estimate("Qwen/Qwen3-8B", **asked)
    assert (report.scenario.parallel.tp, report.scenario.parallel.pp) == sizes
    caches = [sum(term.nbytes for term in rank.terms if term.group == "kv_cache") for rank in report.estimate.ranks]
    assert sum(caches) == 36 * 8192 * 2 * 8 * 128 * 2  # layers × tokens × keys and values × heads × width × B
    assert (caches[0] == caches[1]) is (mode == "tensor")
