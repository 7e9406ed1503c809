"""When MLX runs a model, and what it says of one that it does not know."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final

import pytest

import hfmem

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
