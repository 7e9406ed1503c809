"""Measures the rows of `fixtures/oracle/multimodal.json` again, and writes what the installed libraries say.

    python -m tests.oracle.record_multimodal [folder of <org>--<name>/config.json, to add models]

`small`: small configurations of each type and their variants, with the parameters of the class (on the meta device,
tied weights once), what each layer keeps of so many tokens, and how many tokens the encoder made. `models`: public.
"""

from __future__ import annotations

import json
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
import transformers

from hfmem.probe.defaults import _IRRELEVANT
from tests.oracle.reference import parameters
from tests.oracle.test_multimodal import SILENT, TYPES
from tests.oracle.wholes import TOKENS, measured, speaker, variants

TARGET = Path(__file__).parents[2] / "fixtures" / "oracle" / "multimodal.json"

MODELS = (
    "Qwen/Qwen2-Audio-7B-Instruct",
    "Qwen/Qwen2-VL-2B-Instruct",
    "Qwen/Qwen2.5-VL-7B-Instruct",
    "Qwen/Qwen3-VL-30B-A3B-Instruct",
    "Qwen/Qwen3-VL-4B-Instruct",
    "facebook/bart-large-cnn",
    "facebook/mbart-large-50-many-to-many-mmt",
    "google/gemma-4-26B-A4B",
    "google/gemma-4-E2B-it",
    "nvidia/Gemma-4-31B-IT-NVFP4",
    "google/t5-v1_1-xxl",
    "google/vit-base-patch16-224-in21k",
    "google-t5/t5-small",
    "hustvl/yolos-tiny",
    "meta-llama/Llama-3.2-11B-Vision-Instruct",
    "meta-llama/Llama-4-Maverick-17B-128E-Instruct-FP8",
    "mistralai/Voxtral-Mini-3B-2507",
    "openai/whisper-tiny",
    "zai-org/GLM-4.1V-9B-Thinking",
)


def main() -> None:
    """Measure and write."""
    warnings.simplefilter("ignore")
    known = {row["model"]: row["config"] for row in _recorded()}
    if len(sys.argv) > 1:
        known |= {model: _facts(_config(Path(sys.argv[1]), model)) for model in MODELS}
    models = [{"model": name, "config": config, "parameters": parameters(config)} for name, config in known.items()]
    head = {"tool": "python -m tests.oracle.record_multimodal", "transformers": transformers.__version__}
    head |= {"torch": torch.__version__.partition("+")[0], "tokens": str(TOKENS)}
    text = json.dumps(head)[:-1]
    for name, rows in (("models", models), ("small", list(_small()))):
        text += f', "{name}": [\n' + ",\n".join(f"  {json.dumps(row)}" for row in rows) + "\n]"
    TARGET.write_text(text + "}\n")
    print(f"{TARGET.stat().st_size:,} bytes")


def _recorded() -> list[dict[str, Any]]:
    return json.loads(TARGET.read_text())["models"] if TARGET.exists() else []


def _small() -> Iterator[dict[str, Any]]:
    for model_type in TYPES:
        if model_type in SILENT:
            continue
        for config in variants(model_type):
            yield measured({**config, "architectures": [speaker(model_type)]})


def _config(folder: Path, model: str) -> dict[str, Any]:
    config: dict[str, Any] = json.loads((folder / model.replace("/", "--") / "config.json").read_text())
    return config


def _facts(config: dict[str, Any]) -> dict[str, Any]:
    """The keys that a class or memory depends on; of labels, how many."""
    kept: dict[str, Any] = {}
    for key, value in config.items():
        if key == "id2label":
            kept["num_labels"] = len(value)
        elif isinstance(value, dict) and key.endswith("_config") and key != "quantization_config":
            kept[key] = _facts(value)
        elif key == "architectures" or (not _IRRELEVANT.search(key) and _plain(value) and not key.startswith("_")):
            kept[key] = value
    return kept


def _plain(value: Any) -> bool:
    return isinstance(value, bool | int | float | str) or (isinstance(value, list) and len(value) <= 128)


if __name__ == "__main__":
    main()
