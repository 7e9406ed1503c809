"""Device maps by Accelerate itself, anew; and hfmem's own derivation of them on the bytes of the class."""

from __future__ import annotations

import json
import random
from typing import Any

import pytest

pytest.importorskip("torch")
pytest.importorskip("accelerate")

from hfmem.engines.transformers.placement import balanced, placed, within
from hfmem.fetcher.catalog import find
from hfmem.fetcher.values import ModelRef
from hfmem.mapper.modules import Device
from hfmem.probe.placer import OfClass
from tests.oracle import device_map

pytestmark = pytest.mark.oracle

RECORD: dict[str, Any] = json.loads(device_map.TARGET.read_text(encoding="utf-8"))
RANDOM = (
    "meta-llama/Llama-2-7b-hf",
    "google/gemma-3-27b-it",
    "google-t5/t5-base",
    "facebook/bart-base",
    "albert/albert-base-v1",
    "Qwen/Qwen2-VL-2B-Instruct",
    "openai/whisper-large-v3",
    "deepseek-ai/DeepSeek-V2",
    "ai21labs/AI21-Jamba-1.5-Mini",
    "openai-community/gpt2",
    "FacebookAI/roberta-base",
    "meta-llama/Llama-3.2-11B-Vision-Instruct",
)


@pytest.mark.parametrize("row", RECORD["models"], ids=lambda row: f"{row['model']} {row['quantised']}")
def test_maps_are_as_recorded(row: dict[str, Any]) -> None:
    if row["quantised"]:
        pytest.importorskip("bitsandbytes")
    found = device_map.maps(row["model"], row["dtype"], row["quantised"])
    assert json.loads(json.dumps(found)) == row["machines"]


@pytest.mark.parametrize("name", RANDOM)
def test_the_derivation_is_equal_on_machines_of_any_size(name: str) -> None:
    checkpoint = find(ModelRef(model_id=name))
    assert checkpoint is not None
    assert checkpoint.config is not None
    of = OfClass(config=checkpoint.config, depth=None)
    modules, draw = of.modules("bfloat16", ""), random.Random(name)
    for _ in range(25):
        count, total = draw.choice((1, 1, 2, 2, 3, 4, 8)), modules.root.nbytes
        free: dict[Device, float] = {
            number: int(total * draw.uniform(0.02, 1.5) / (count if draw.random() < 0.7 else 1))
            for number in range(count)
        }
        if draw.random() < 0.8:
            free["cpu"] = int(total * draw.uniform(0, 1.2))
        way = draw.choice(("auto", "balanced", "balanced_low_0", "sequential"))
        limits = within(free, way, asked=draw.random() < 0.3)
        assert placed(modules, balanced(modules, limits, way)) == of.placed("bfloat16", "", limits, way), (way, free)
