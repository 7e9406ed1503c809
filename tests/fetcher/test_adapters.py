"""Adapters are called such, whatever of their files is there, and name the base model that is also needed."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

import hfmem
from hfmem.fetcher.records import from_record, to_record
from hfmem.fetcher.sources import fetch
from hfmem.fetcher.values import Access, ModelRef
from tests.command import run
from tests.hub import Hub, adapter

BASE = "nobody/has-this-base"
NAME = "base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight"
NAMED = f"its base model is also needed; estimate {BASE} as well"
UNNAMED = "its id is not recorded here"


def made(folder: Path, config: object, weights: str) -> Path:
    """A folder with what is given of an adapter."""
    folder.mkdir()
    if config is not None:
        (folder / "adapter_config.json").write_text(config if isinstance(config, str) else json.dumps(config))
    if weights.endswith(".safetensors"):
        save_file({NAME: np.zeros((8, 576), np.float32)}, folder / weights)
    elif weights:
        (folder / weights).write_bytes(b"PK\x03\x04" + bytes(1000))
    return folder


@pytest.mark.parametrize(
    ("config", "weights", "words", "nbytes"),
    [
        ({"base_model_name_or_path": BASE}, "adapter_model.safetensors", NAMED, 18432),
        ({"base_model_name_or_path": BASE}, "adapter_model.bin", NAMED, 1004),
        (None, "adapter_model.safetensors", UNNAMED, 18432),
        ({"base_model_name_or_path": None}, "adapter_model.safetensors", UNNAMED, 18432),
        ({"base_model_name_or_path": ["a"]}, "adapter_model.safetensors", UNNAMED, 18432),
        ("{broken", "adapter_model.safetensors", UNNAMED, 18432),
    ],
)
def test_an_adapter_on_this_machine(tmp_path: Path, config: object, weights: str, words: str, nbytes: int) -> None:
    folder = made(tmp_path / "lora", config, weights)
    for name in (folder, folder / weights) if weights.endswith(".safetensors") else (folder,):
        report = hfmem.estimate(str(name), offline=True)
        assert any("This is an adapter" in note and words in note for note in report.notes)
        assert report.estimate.group("weights") == nbytes
        assert report.estimate.is_lower_bound


def test_the_configuration_of_an_adapter_alone(alone: dict[str, str], tmp_path: Path) -> None:
    folder = made(tmp_path / "lora", {"base_model_name_or_path": f"{BASE}\n\x1b[31m"}, "")
    process = run(str(folder), "--format", "json", env=alone)
    assert process.returncode == 1
    document = json.loads(process.stdout)
    assert document["errors"][0]["error"] == "no_weights_error"
    assert f"this is an adapter, and its base model is also needed: {BASE}" in process.stderr
    assert "\x1b" not in process.stderr
    assert process.stderr.count("\n") == 1


def test_an_adapter_of_the_hub_and_of_the_cache(hub: Hub) -> None:
    hub.put(adapter("org/lora", {"base_model_name_or_path": BASE, "r": 8}, [("lora_A.weight", "F32", (8, 4))]))
    for access in (Access(), Access(offline=True)):
        report = hfmem.estimate("org/lora", offline=access.offline)
        assert any(NAMED in note for note in report.notes)
    found = fetch(ModelRef(model_id="org/lora"), Access())
    record = to_record(found)
    assert from_record(record, found.ref).adapter == found.adapter
    del record["adapter"]
    assert from_record(record, found.ref).adapter is None


def test_a_pipeline_with_a_stray_file_is_a_pipeline(tmp_path: Path) -> None:
    folder = made(tmp_path / "pipe", None, "adapter_model.safetensors")
    (folder / "model_index.json").write_text('{"_class_name": "StableDiffusionPipeline"}')
    assert not any("adapter" in note for note in hfmem.estimate(str(folder), offline=True).notes)
