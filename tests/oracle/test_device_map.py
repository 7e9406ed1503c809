"""Device maps by Accelerate itself, anew; and hfmem's own derivation of them on the bytes of the class."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch")
pytest.importorskip("accelerate")

import accelerate
import torch
import transformers

from hfmem.engines.transformers.placement import balanced, placed, within
from hfmem.fetcher.catalog import find
from hfmem.fetcher.values import ModelRef
from hfmem.mapper.modules import Device
from hfmem.probe import tiny
from hfmem.probe.placer import OfClass, modules_of
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


@pytest.mark.parametrize("kind", ["llama", "mixtral", "gpt2"])
def test_one_offloaded_module_is_there_at_a_time(kind: str, tmp_path: Path) -> None:
    """Run for real with modules on disk: beside those that stay, the weights of one module with tensors of its own are
    there while it runs, and the largest of them are the term "offloaded module while it runs"."""
    name = {"gpt2": "GPT2LMHeadModel"}.get(kind, f"{kind.title()}ForCausalLM")
    config = tiny.build(tiny.shrunk(kind, name))
    model = getattr(transformers, name)(config).eval()
    modules = modules_of(model, None, config.num_hidden_layers)
    blocks = next(one.name.rpartition(".")[0] for one in modules.root.walk() if one.layer == 0)
    away = {f"{blocks}.{number}": "disk" for number in range(1, config.num_hidden_layers)}
    leaves = [one.name for one in modules.root.walk() if not one.children or one.whole]
    accelerate.dispatch_model(
        model, {leaf: away.get(leaf, "cpu") for leaf in leaves}, main_device="cpu", offload_dir=str(tmp_path)
    )

    def there() -> int:
        return sum(one.numel() * one.element_size() for one in model.parameters() if one.device.type != "meta")

    before, seen = there(), [0]
    for module in model.modules():
        if any(True for _ in module.parameters(recurse=False)):
            inner = module._old_forward if hasattr(module, "_old_forward") else module.forward

            def counted(*given: Any, inner: Any = inner, **named: Any) -> Any:
                seen.append(there() - before)
                return inner(*given, **named)

            setattr(module, "_old_forward" if hasattr(module, "_old_forward") else "forward", counted)
    with torch.no_grad():
        model(torch.zeros(1, 4, dtype=torch.long))
    assert max(seen) == max(one.largest for one in modules.root.walk() if one.name in away)
    assert there() == before


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
