"""Bytes of packed weights and of what a loader holds beside them, each against arithmetic that is done by hand."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from hfmem import Model, estimate, inspect
from hfmem.estimator.recipe.optimizer_states import Kept
from hfmem.estimator.recipe.optimizers import find_optimizer
from hfmem.estimator.weights.base import nf4_bytes
from hfmem.estimator.weights.quantisers import layout
from hfmem.fetcher.values import FileInfo

MIXTRAL, LLAMA = "mistralai/Mixtral-8x7B-v0.1", "meta-llama/Llama-3.1-8B-Instruct"


@cache
def model(name: str) -> Model:
    """A bundled one whose weights lie in a mapped file."""
    found = inspect(name, offline=True)
    files = (FileInfo(name="model.safetensors", size=None),)
    return replace(found, checkpoint=replace(found.checkpoint, weight_files=files))


@pytest.mark.parametrize(
    ("elements", "plain", "double"),
    [
        (4096 * 4096, 2**23 + 2**18 * 4, 2**23 + 2**18 + 2**10 * 4 + 4),
        (65, 33 + 2 * 4, 33 + 2 + 4 + 4),
        (64 * 257, 32 * 257 + 257 * 4, 32 * 257 + 257 + 2 * 4 + 4),
    ],
)
def test_nf4(elements: int, plain: int, double: int) -> None:
    """arXiv 2305.14314, 3: blocks of 64 with a float32 each; doubly quantised a byte each, and a float32 for 256 of
    them. bitsandbytes functional.py, quantize_4bit: besides, the 16 float32 of the code, and one of the offset."""
    assert nf4_bytes(elements, double_quant=False) == plain + 16 * 4
    assert nf4_bytes(elements, double_quant=True) == double + 16 * 4


@pytest.mark.parametrize(
    ("name", "shape", "count", "nbytes"),
    [
        ("fp8 blocks", (130, 200), 1, 130 * 200 + 2 * 2 * 4),  # arXiv 2412.19437, 3.3: blocks of 128 × 128
        ("fp8 blocks", (4, 256, 128), 3, 12 * (256 * 128 + 2 * 4)),
        ("fp8", (130, 200), 2, 2 * (130 * 200 + 130 * 4)),  # one a channel
        ("int8", (130, 200), 2, 2 * (130 * 200 + 130 * 4)),
        ("int4", (64, 256), 1, 64 * 128 + 64 * 2 * 2 + 64),  # float16, and 4 bits of a zero point
        ("int4", (64, 130), 1, 64 * 65 + 64 * 2 * 2 + 64),  # a group that is not full
        ("mxfp4", (64, 96), 1, 64 * 48 + 64 * 3),  # OCP MX 1.0, 5.2: a byte a block of 32
        ("nvfp4", (64, 32), 5, 5 * (64 * 16 + 64 * 2 + 4)),  # a byte a block of 16, and a float32 a tensor
        ("nvfp4 twice", (64, 32), 5, 5 * (64 * 16 + 2 * 64 * 2 + 4)),
    ],
)
def test_layouts(name: str, shape: tuple[int, ...], count: int, nbytes: int) -> None:
    assert layout(name).nbytes(shape, count) == nbytes


@pytest.mark.parametrize(("shape", "nbytes"), [((64, 64), 2 * (4096 + 16 * 4)), ((4095,), 2 * 4095 * 4)])
def test_tensors_of_4096_elements_are_in_8_bits(shape: tuple[int, ...], nbytes: int) -> None:
    """bitsandbytes optim/optimizer.py: 32 bits where `p.numel() < min_8bit_size`, which is 4096."""
    row = find_optimizer("adamw_bnb_8bit")
    assert row is not None
    assert row.states(Kept(shape=shape, width=4)) == nbytes


@pytest.mark.parametrize(("asked", "ranks"), [({}, 1), ({"tp": 2}, 2), ({"tp": 2, "dp": 2}, 4)])
def test_one_layers_experts_as_they_were(asked: dict[str, Any], ranks: int) -> None:
    """vLLM's model_loader/utils.py: process_weights_after_loading goes module by module; the larger of two tensors is
    that of gate and up, 8 × 2 × 14,336 × 4,096 of Mixtral's in 2 B."""
    found = estimate(model(MIXTRAL), runtime="vllm", gpu=("H200",), seq=4096, **asked).estimate
    assert found.loading is not None
    assert found.loading.gpu is not None
    weights = found.group("weights")
    assert found.loading.gpu - (weights or 0) == 8 * 2 * 14336 * 4096 * 2 // ranks


@pytest.mark.parametrize("runtime", ["transformers", "vllm"])
def test_the_largest_matrix_beside_its_packed_form(runtime: Any) -> None:
    """Llama-3.1-8B: 14,336 × 4,096 in 2 B; the embedding is larger, and is not packed."""
    found = estimate(model(LLAMA), runtime=runtime, dtype="nf4", gpu=("H200",), seq=4096).estimate
    assert found.loading is not None
    assert found.loading.gpu is not None
    assert found.loading.gpu - (found.group("weights") or 0) == 14336 * 4096 * 2


def test_nothing_stands_beside_plain_weights() -> None:
    found = estimate(model(LLAMA), seq=4096).estimate
    assert found.loading is not None
    assert found.loading.gpu == found.group("weights")


@pytest.mark.parametrize(("parts", "joined"), [(1, False), (2, False), (3, True), (8, True)])
def test_experts_of_a_layer_are_joined_beside_their_parts(parts: int, joined: bool) -> None:
    """core_model_loading.py joins experts that files have one by one: as more than the two matrices of a layer, into
    and out of all of them, that other files have. Mixtral has 8 of 14,336 units with a gate in each of 32 layers."""
    whole = model(MIXTRAL)
    assert whole.parameters is not None
    groups = [group for group in whole.parameters.groups if group.component == "experts"]
    table = replace(whole.parameters, groups=tuple(replace(group, count=parts * 32) for group in groups))
    found = estimate(replace(whole, parameters=table), seq=64).estimate
    assert found.loading is not None
    assert found.loading.gpu is not None
    assert found.loading.gpu - (found.group("weights") or 0) == joined * 8 * 2 * 14336 * 4096 * 2


def test_the_cache_of_a_batch() -> None:
    """Llama-3.1-8B: 32 layers of 8 heads of 128, keys and values, in 2 B. A window of Mistral-7B-v0.1 is 4,096 long."""
    a_token = 32 * 2 * 8 * 128 * 2
    found = estimate(model(LLAMA), seq=1000, batch=3).estimate
    assert found.group("kv_cache") == 3 * 1000 * a_token
    assert (found.kv_cache_per_token, found.kv_cache_fixed) == (a_token, 0)
    windowed = estimate(model("mistralai/Mistral-7B-v0.1"), seq=10_000).estimate
    assert windowed.group("kv_cache") == windowed.kv_cache_fixed == 4096 * a_token
    assert windowed.kv_cache_per_token == 0


@pytest.mark.parametrize(
    ("name", "seq", "refused"),
    [("openai-community/gpt2", 1024, False), ("openai-community/gpt2", 1025, True), (LLAMA, 131_073, False)],
)
def test_only_a_table_of_positions_has_an_end(name: str, seq: int, refused: bool) -> None:
    """modeling_gpt2.py: `wpe` has a row for each of 1,024 positions; angles of rotary ones are computed for any."""
    assert bool(estimate(model(name), seq=seq).estimate.refused) is refused


@pytest.mark.parametrize(("dtype", "nbytes"), [("float16", 657_408), ("bfloat16", 526_336)])
def test_what_a_class_keeps_in_float32_is_counted_so(dtype: str, nbytes: int, tmp_path: Path) -> None:
    """Bytes of `T5ForConditionalGeneration.from_pretrained(dtype=…).parameters()`, transformers 5.24: in float16 each
    of four `wo`, 64 × 256, is float32."""
    config = {
        "architectures": ["T5ForConditionalGeneration"],
        "model_type": "t5",
        "d_model": 64,
        "d_ff": 256,
        "num_layers": 2,
        "num_heads": 4,
        "d_kv": 16,
        "vocab_size": 512,
        "tie_word_embeddings": True,
    }
    (tmp_path / "config.json").write_text(json.dumps(config), encoding="utf-8")
    found = estimate(str(tmp_path), dtype=dtype).estimate
    assert found.group("weights") == nbytes
    wide = [term for term in found.terms if "float32" in term.how]
    assert sum(term.nbytes for term in wide) == (4 * 64 * 256 * 4 if dtype == "float16" else 0)
    plain = estimate(str(tmp_path), dtype=dtype, runtime="vllm").estimate
    assert plain.group("weights") <= 526_336
