"""Packed formats of vLLM's KV cache, against arithmetic by hand from the sizes that its backends publish."""

from __future__ import annotations

from functools import cache
from typing import Any

import pytest

from hfmem import HfmemError, estimate, inspect
from hfmem.dtypes import PACKED_KV
from hfmem.engines.vllm.kvformats import FORMATS

model = cache(lambda name: inspect(name, offline=True))
LLAMA, QWEN, DEEPSEEK = "meta-llama/Llama-3.1-8B-Instruct", "Qwen/Qwen3.5-27B", "deepseek-ai/DeepSeek-V3"


def found(name: str, kv_dtype: str, **asked: Any) -> Any:
    return estimate(model(name), runtime="vllm", kv_dtype=kv_dtype, seq=8192, **asked).estimate


def test_every_format_is_a_choice() -> None:
    assert tuple(FORMATS) == PACKED_KV


@pytest.mark.parametrize(
    ("name", "slot"),
    [
        ("int8_per_token_head", 128 + 128 + 8),
        ("fp8_per_token_head", 128 + 128 + 8),
        ("int4_per_token_head", 64 + 64 + 8),
        ("nvfp4", 2 * (64 + 8)),
        ("nvfp4_4over6", 2 * (64 + 8)),
        ("fp8_inc", 256),
    ],
)
def test_bytes_of_a_token(name: str, slot: int) -> None:
    """Llama-3.1-8B: 32 layers of 8 KV heads of 128."""
    assert found(LLAMA, name).kv_cache_per_token == 32 * 8 * slot


@pytest.mark.parametrize(
    ("name", "slot"),
    [
        ("turboquant_k8v4", 128 + 64 + 4),
        ("turboquant_4bit_nc", 64 + 2 + 64 + 4),
        ("turboquant_k3v4_nc", 48 + 2 + 64 + 4),
        ("turboquant_3bit_nc", 48 + 2 + 48 + 4),
        ("ultraquant_4bit", 136),
    ],
)
def test_four_layers_keep_their_dtype(name: str, slot: int) -> None:
    """Two at each end. Since 0.27, a page of the others is so large that it holds 16 tokens of them: groups of four
    layers, of which seven have larger blocks."""
    page = 16 * -(-512 // slot) * slot * 8  # bytes; 512 = 2 × 128 × 2 B
    block = 16 * -(-512 // slot)
    charged = 4 * page * (7 * -(-8192 // block) + 8192 // 16)
    new = found(LLAMA, name, vllm_version="0.33")
    assert new.group("kv_cache") == charged
    if FORMATS[name].since < (0, 26):  # before, their pages lie side by side
        assert found(LLAMA, name, vllm_version="0.26").kv_cache_per_token == 8 * (28 * slot + 4 * 512)


def test_hybrids_pack_every_layer() -> None:
    """Qwen3.5-27B: heads of 256, in a page that holds a state."""
    new = found(QWEN, "turboquant_k8v4", vllm_version="0.33", enable_prefix_caching=False)
    assert new.kv_cache_per_token == pytest.approx(16 * 4 * (256 + 128 + 4), rel=0.01)


def test_octave_has_slots_of_eight_bytes() -> None:
    """Heads of 256: keys of 3 bits, values of 3 or 4, one or five scales, on AMD's GPUs only."""
    slots = {name: FORMATS[name].slot(256, 256) for name in FORMATS if name.startswith("octave")}  # type: ignore[misc]
    assert slots == {"octave_k3v4": 272, "octave_k3v3": 240, "octave_k3v3_compact": 196}
    assert "AMD GPUs only" in found(QWEN, "octave_k3v4", gpu=("H100",)).refused
    assert "head dimension of 256" in found(LLAMA, "octave_k3v4", gpu=("MI300X",)).refused


def test_latents() -> None:
    """A latent of 512 with 64 rotary elements, in 61 layers."""
    assert found(DEEPSEEK, "fp8_ds_mla").kv_cache_per_token == 61 * 656
    assert found(DEEPSEEK, "nvfp4_ds_mla").kv_cache_per_token == 61 * 352
    assert found(DEEPSEEK, "int8_per_token_head").kv_cache_per_token == 61 * (576 + 8)
    assert "is not for latents" in dict(found(DEEPSEEK, "nvfp4").unknown)["kv_cache"]
    assert "is not for keys and values" in dict(found(LLAMA, "fp8_ds_mla").unknown)["kv_cache"]


def test_formats_have_a_first_release() -> None:
    assert "0.25 and later" in found(LLAMA, "int4_per_token_head", vllm_version="0.24").refused
    assert not found(LLAMA, "int4_per_token_head", vllm_version="0.25").refused
    served = found(LLAMA, "nvfp4", gpu=("B200",)).serving
    assert "--kv-cache-dtype nvfp4" in served.command


def test_other_engines_have_none() -> None:
    with pytest.raises(HfmemError, match="nvfp4"):
        estimate(model(LLAMA), kv_dtype="nvfp4")
