"""When MLX runs a model, and what it says of one that it does not know."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final

import pytest

import hfmem
from hfmem.engines.mlx.classes import DIALECTS
from hfmem.report.heading import about

_SMALL: Final[dict[str, Any]] = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "torch_dtype": "bfloat16",
    "hidden_size": 512,
    "intermediate_size": 1536,
    "num_hidden_layers": 4,
    "num_attention_heads": 8,
    "num_key_value_heads": 4,
    "vocab_size": 4096,
    "tie_word_embeddings": False,
}


def _report(folder: Path, packed: dict[str, Any], **how: Any) -> Any:
    (folder / "config.json").write_text(json.dumps({**_SMALL, "quantization": packed}), encoding="utf-8")
    return hfmem.estimate(str(folder), seq=256, **how)


def _weights(folder: Path, packed: dict[str, Any]) -> int:
    found: int = _report(folder, packed).estimate.group("weights")
    return found


def test_what_mlx_quantised_runs_in_mlx(tmp_path: Path) -> None:
    assert _report(tmp_path, {"bits": 4, "group_size": 64}).scenario.runtime == "mlx"


def test_weights_are_packed_with_a_scale_and_a_zero_point_per_group(tmp_path: Path) -> None:
    matrices = 2 * 4096 * 512 + 4 * (512 * 512 * 2 + 512 * 256 * 2 + 3 * 512 * 1536)
    norms = (2 * 4 + 1) * 512 * 2
    assert _weights(tmp_path, {"bits": 4, "group_size": 64}) == matrices // 2 + matrices // 64 * 4 + norms
    assert _weights(tmp_path, {"bits": 8, "group_size": 32}) == matrices + matrices // 32 * 4 + norms


def test_modules_have_their_own_bits(tmp_path: Path) -> None:
    base: dict[str, Any] = {"bits": 4, "group_size": 64}
    plain = _weights(tmp_path, base)
    wider = {"model.layers.0.mlp.down_proj": {"bits": 8, "group_size": 64}, "lm_head": False}
    more = 512 * 1536 // 2 + 4096 * 512 * 2 - 4096 * 512 // 2 - 4096 * 512 // 64 * 4
    assert _weights(tmp_path, {**base, **wider}) == plain + more


def test_an_unknown_class_has_its_weights_and_a_lower_bound() -> None:
    found = hfmem.estimate("openai-community/gpt2", runtime="mlx", offline=True, gpu="M4 Max 64GB")
    assert found.estimate.group("weights")
    assert found.estimate.is_lower_bound
    assert "GPT2LMHeadModel" in dict(found.estimate.unknown)["activations"]


def test_what_is_in_flight_on_another_accelerator_is_unknown(tmp_path: Path) -> None:
    found = _report(tmp_path, {"bits": 4, "group_size": 64}, gpu="H100")
    assert "activations" in dict(found.estimate.unknown)


def test_smaller_steps_take_less(tmp_path: Path) -> None:
    packed = {"bits": 4, "group_size": 64}
    (tmp_path / "config.json").write_text(json.dumps({**_SMALL, "quantization": packed}), encoding="utf-8")
    totals = [hfmem.estimate(str(tmp_path), seq=4096, prefill_step_size=step).estimate.total for step in (256, 1024)]
    assert totals[0] < totals[1]


def test_several_accelerators_are_refused(tmp_path: Path) -> None:
    with pytest.raises(hfmem.HfmemError, match="MLX"):
        _report(tmp_path, {"bits": 4, "group_size": 64}, gpu="M4 Max 64GB", gpus=2)


def test_a_quantised_cache_takes_its_bits_and_two_numbers_per_group(tmp_path: Path) -> None:
    packed = {"bits": 4, "group_size": 64}
    found = _report(tmp_path, packed, kv_bits=8, kv_group_size=32, quantized_kv_start=0).estimate
    elements = 4 * 256 * 2 * 256  # layers × tokens × keys and values
    assert found.group("kv_cache") == elements + elements // 32 * 4
    later = _report(tmp_path, packed, kv_bits=8).estimate
    assert later.group("kv_cache") == 2 * elements


def test_a_limited_cache_keeps_its_tokens_where_the_module_does_not_choose(tmp_path: Path) -> None:
    config = {**_SMALL, "architectures": ["Qwen2ForCausalLM"], "model_type": "qwen2"}
    (tmp_path / "config.json").write_text(json.dumps(config), encoding="utf-8")
    found = hfmem.estimate(str(tmp_path), runtime="mlx", seq=4096, max_kv_size=512)
    assert found.estimate.group("kv_cache") == 4 * 512 * 2 * 256 * 2
    assert "--max-kv-size 512" in str(found.estimate.serving and found.estimate.serving.command)
    (tmp_path / "config.json").write_text(json.dumps(_SMALL), encoding="utf-8")
    whole = hfmem.estimate(str(tmp_path), runtime="mlx", seq=4096, max_kv_size=512).estimate
    assert whole.group("kv_cache") == 4 * 4096 * 2 * 256 * 2
    assert any("--max-kv-size has no effect" in note for note in whole.notes)


def test_caches_that_mlx_cannot_quantise_are_refused(tmp_path: Path) -> None:
    config = {**_SMALL, "architectures": ["Qwen2ForCausalLM"], "model_type": "qwen2"}
    (tmp_path / "config.json").write_text(json.dumps(config), encoding="utf-8")
    found = hfmem.estimate(str(tmp_path), runtime="mlx", seq=5120, max_kv_size=256, kv_bits=4).estimate
    assert "cannot quantise" in found.refused
    found = hfmem.estimate(str(tmp_path), runtime="mlx", seq=5120, kv_bits=4, kv_group_size=128).estimate
    assert "do not divide" in found.refused
    with pytest.raises(hfmem.HfmemError, match="expected 2, 3, 4, 5, 6 or 8"):
        hfmem.estimate(str(tmp_path), runtime="mlx", kv_bits=7)
    with pytest.raises(hfmem.HfmemError, match="--kv-bits"):
        hfmem.estimate(str(tmp_path), runtime="mlx", kv_group_size=64)


def test_training_with_mlx_is_refused_in_words() -> None:
    with pytest.raises(hfmem.HfmemError, match=r"mlx_lm\.lora"):
        hfmem.estimate("Qwen/Qwen3-8B", runtime="mlx", train="lora", offline=True)


def test_several_sequences_are_a_server() -> None:
    found = hfmem.estimate("Qwen/Qwen3-8B", runtime="mlx", batch=4, prefill_step_size=512, offline=True).estimate
    assert found.serving is not None
    assert found.serving.command == (
        "mlx_lm.server --model Qwen/Qwen3-8B --decode-concurrency 4 --prompt-concurrency 4 --prefill-step-size 512"
    )


def test_what_the_server_does_not_do_with_several_sequences_is_refused() -> None:
    """Of mlx-lm 0.32.2: server.py has no --max-kv-size, and its `_is_batchable` asks for `kv_bits is None`."""
    limited = hfmem.estimate("Qwen/Qwen3-8B", runtime="mlx", batch=2, max_kv_size=512, offline=True).estimate
    assert "no --max-kv-size" in limited.refused
    assert limited.serving is not None
    assert limited.serving.command is None
    packed = hfmem.estimate("Qwen/Qwen3-8B", runtime="mlx", batch=2, kv_bits=8, offline=True).estimate
    assert "one sequence at a time" in packed.refused
    alone = hfmem.estimate("Qwen/Qwen3-8B", runtime="mlx", batch=1, max_kv_size=512, offline=True).estimate
    assert not alone.refused


def test_a_cache_that_is_never_quantised_is_not_refused_but_told(tmp_path: Path) -> None:
    """`maybe_quantize_kv_cache` asks a cache only from --quantized-kv-start tokens on."""
    config = {**_SMALL, "architectures": ["Qwen2ForCausalLM"], "model_type": "qwen2"}
    (tmp_path / "config.json").write_text(json.dumps(config), encoding="utf-8")
    short = hfmem.estimate(str(tmp_path), runtime="mlx", seq=4999, max_kv_size=256, kv_bits=4).estimate
    assert not short.refused
    assert any("--kv-bits has no effect on 4,999 tokens" in note and "5,000" in note for note in short.notes)
    longer = hfmem.estimate(str(tmp_path), runtime="mlx", seq=5000, max_kv_size=256, kv_bits=4).estimate
    assert "cannot quantise" in longer.refused
    assert not any("--kv-bits has no effect" in note for note in longer.notes)


@pytest.mark.parametrize("name", ["google-t5/t5-base", "facebook/bart-base", "openai/whisper-large-v3"])
@pytest.mark.parametrize("dtype", [None, "int4"])
def test_what_mlx_lm_has_no_module_for_is_refused(name: str, dtype: str | None) -> None:
    """mlx_lm/models of 0.32.2 has no encoder-decoders."""
    found = hfmem.estimate(name, runtime="mlx", dtype=dtype, offline=True, gpu="M4 Max 64GB")
    assert "does not run models of type" in found.estimate.refused
    assert [fit.fits for fit in found.fits] == [False]


def test_every_class_that_is_known_is_one_that_mlx_lm_has_a_module_for() -> None:
    table = json.loads((Path(hfmem.__file__).parent / "data" / "mlx_modules.json").read_text(encoding="utf-8"))
    assert {dialect.module.removesuffix(".py") for dialect in DIALECTS.values()} <= {*table["modules"]}


def test_plain_weights_are_told_and_the_heading_has_the_bits_of_packed_ones(tmp_path: Path) -> None:
    plain = hfmem.estimate("Qwen/Qwen3-8B", runtime="mlx", offline=True).estimate
    assert any("weights are plain" in note for note in plain.notes)
    packed = _report(tmp_path, {"bits": 4, "group_size": 64}, dtype="float32")
    assert about(packed)[-1] == "4 bits in MLX"
    assert not any("weights are plain" in note for note in packed.estimate.notes)


def test_a_model_for_images_runs_as_its_text_model() -> None:
    found = hfmem.estimate("Qwen/Qwen3-VL-4B-Instruct", runtime="mlx", seq=2048, offline=True).estimate
    assert not found.unknown
    assert found.group("weights") == hfmem.estimate("Qwen/Qwen3-4B", runtime="mlx", offline=True).estimate.group(
        "weights"
    )
    assert any("mlx-vlm" in note for note in found.notes)
