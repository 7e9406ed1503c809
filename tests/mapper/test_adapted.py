"""A base model and an adapter on it are one model: the base's layers and weights, and what the adapter adds."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

import hfmem
from hfmem.report.result import to_result
from tests.command import run
from tests.hub import Hub, adapter, single

BASE = "HuggingFaceTB/SmolLM2-135M-Instruct"
PARAMETERS = 134_515_008
LAYER = "base_model.model.model.layers.{}.self_attn.q_proj.lora_{}.weight"
CONFIG = {"base_model_name_or_path": BASE, "r": 8, "peft_type": "LORA"}
OWN = 30 * 2 * 8 * 576
"""Elements of an adapter of rank 8 on a matrix of 576 × 576, in 30 layers."""


def rows(dtype: type = np.float16) -> dict[str, np.ndarray]:
    sizes = {"A": (8, 576), "B": (576, 8)}
    return {LAYER.format(layer, side): np.zeros(size, dtype) for layer in range(30) for side, size in sizes.items()}


def saved(folder: Path, config: dict[str, Any] = CONFIG, more: dict[str, np.ndarray] | None = None) -> str:
    """A folder with an adapter in float16."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "adapter_config.json").write_text(json.dumps(config))
    save_file({**rows(), **(more or {})}, folder / "adapter_model.safetensors")
    return str(folder)


def told(path: str, **asked: Any) -> dict[str, Any]:
    return to_result(hfmem.estimate(path, offline=True, **asked))


def test_weights_are_those_of_both_and_all_else_is_the_bases(tmp_path: Path) -> None:
    result, base = told(saved(tmp_path / "lora"), gpu="RTX 4090"), told(BASE, gpu="RTX 4090")
    assert result["parameters"]["total"] == PARAMETERS + OWN
    assert result["parameters"]["by_component"]["adapter"] == OWN
    assert result["memory"]["weights"] == 2 * PARAMETERS + 4 * OWN, "float32, whatever the file has"
    assert result["total_is_lower_bound"] is False
    for key in ("kv_cache", "activations", "overhead"):
        assert result["memory"][key] == base["memory"][key]
    assert result["fit"][0]["fits"] is True


def test_its_parts_are_listed(tmp_path: Path) -> None:
    path = saved(tmp_path / "lora")
    first, second = told(path)["components"]
    assert first == {
        "name": BASE,
        "class": "LlamaForCausalLM",
        "parameters": PARAMETERS,
        "dtype": "bfloat16",
        "bytes": 2 * PARAMETERS,
        "loaded": True,
    }
    assert second == {
        "name": path,
        "class": "LORA",
        "parameters": OWN,
        "dtype": "float32",
        "bytes": 4 * OWN,
        "loaded": True,
    }
    assert told(BASE)["components"] is None


def test_modules_to_save_are_copies_in_the_dtype_of_the_base(tmp_path: Path) -> None:
    head = {"base_model.model.lm_head.weight": np.zeros((49152, 576), np.float32)}
    path = saved(tmp_path / "lora", {**CONFIG, "modules_to_save": ["lm_head"]}, head)
    result = told(path)
    assert result["memory"]["weights"] == 2 * (PARAMETERS + 49152 * 576) + 4 * OWN
    assert "28,311,552 of them whole copies of modules" in " ".join(result["notes"])


def test_a_resized_embedding_replaces_the_bases(tmp_path: Path) -> None:
    name = "base_model.model.model.embed_tokens.base_layer.weight"
    path = saved(tmp_path / "lora", CONFIG, {name: np.zeros((49160, 576), np.float16)})
    assert told(path)["parameters"]["total"] == PARAMETERS + OWN


def test_the_newest_checkpoint_of_a_trainer(tmp_path: Path) -> None:
    for step in (9, 100, 20):
        saved(tmp_path / "run" / f"checkpoint-{step}", {**CONFIG, "r": step})
    result = told(str(tmp_path / "run"))
    assert result["parameters"]["total"] == PARAMETERS + OWN
    assert "of rank 100" in " ".join(result["notes"])


def test_training_is_of_the_base(tmp_path: Path) -> None:
    path = saved(tmp_path / "lora")
    report, base = (hfmem.estimate(name, train="lora", offline=True) for name in (path, BASE))
    assert report.estimate.total == base.estimate.total
    assert any("the adapter that it has is left out" in note for note in report.notes)


def test_on_the_hub_the_base_is_followed_to_its_revision(hub: Hub) -> None:
    config = {
        **{"model_type": "llama", "architectures": ["LlamaForCausalLM"], "torch_dtype": "bfloat16"},
        **{"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16},
        **{"vocab_size": 10, "tie_word_embeddings": True, "max_position_embeddings": 64},
    }
    table = [("model.embed_tokens.weight", "BF16", (10, 8)), ("model.layers.0.mlp.up_proj.weight", "BF16", (16, 8))]
    hub.put(single("org/base", config, table))
    own = [(LAYER.format(0, "A"), "BF16", (4, 8)), (LAYER.format(0, "B"), "BF16", (8, 4))]
    hub.put(adapter("org/lora", {"base_model_name_or_path": "org/base", "r": 4, "peft_type": "LORA"}, own))
    result = to_result(hfmem.estimate("org/lora"))
    assert result["parameters"]["total"] == 80 + 128 + 64
    assert result["memory"]["weights"] == 2 * (80 + 128) + 4 * 64
    (weights,) = [file.size for file in hfmem.inspect("org/lora").checkpoint.weight_files if "lora/" in file.name]
    base = to_result(hfmem.estimate("org/base"))["download"]
    assert result["download"] == {"bytes": base["bytes"] + weights, "files": base["files"] + 1}
    assert to_result(hfmem.estimate("org/lora", offline=True))["memory"] == result["memory"], "both are in the cache"


@pytest.mark.parametrize(
    ("base", "words"),
    [
        ("/home/somebody/models/llama", "which is no model of the Hub"),
        ("../elsewhere", "which is no model of the Hub"),
        ("org/nothing", "could not be read"),
        ("org/lora", "is an adapter itself"),
    ],
)
def test_a_base_that_cannot_be_had_leaves_a_lower_bound(hub: Hub, base: str, words: str) -> None:
    own = [(LAYER.format(0, "A"), "BF16", (4, 8)), (LAYER.format(0, "B"), "BF16", (8, 4))]
    hub.put(adapter("org/lora", {"base_model_name_or_path": base, "r": 4}, own))
    result = to_result(hfmem.estimate("org/lora"))
    assert words in " ".join(result["notes"])
    assert result["total_is_lower_bound"] is True
    assert result["components"] is None


def test_a_strangers_file_does_not_choose_a_folder_of_this_machine(hub: Hub, tmp_path: Path) -> None:
    """The base's name is an existing path here, but the adapter is from the Hub."""
    (tmp_path / "config.json").write_text('{"model_type": "llama"}')
    own = [(LAYER.format(0, "A"), "BF16", (4, 8))]
    hub.put(adapter("org/lora", {"base_model_name_or_path": str(tmp_path), "r": 4}, own))
    notes = " ".join(hfmem.estimate("org/lora").notes)
    assert "which is no model of the Hub" in notes


def test_a_base_on_this_machine_of_an_adapter_on_this_machine(tmp_path: Path) -> None:
    base = tmp_path / "base"
    base.mkdir()
    fixture = Path(__file__).parents[2] / "fixtures" / "HuggingFaceTB--SmolLM2-135M-Instruct" / "config.json"
    (base / "config.json").write_text(fixture.read_text())
    path = saved(tmp_path / "lora", {**CONFIG, "base_model_name_or_path": str(base)})
    assert told(path)["parameters"]["total"] == PARAMETERS + OWN


def test_the_card(alone: dict[str, str], tmp_path: Path) -> None:
    process = run(saved(tmp_path / "lora"), "--offline", "--gpu", "RTX 4090", env=alone)
    assert process.returncode == 0
    assert f"A LORA adapter of rank 8 with {OWN:,} parameters, on {BASE}" in " ".join(process.stdout.split())
