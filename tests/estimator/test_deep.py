"""Models of many layers: the time of an answer grows with the layers, not with their square."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest

import hfmem
from hfmem.estimator.split.share import LayerShares
from hfmem.estimator.training.split import MEGATRON

QWEN = "Qwen/Qwen3-8B"


def of_depth(folder: Path, layers: int) -> hfmem.Model:
    """A model with so many layers, from its configuration alone."""
    config = dict(hfmem.inspect(QWEN, offline=True).checkpoint.config or {})
    (folder / "config.json").write_text(json.dumps({**config, "num_hidden_layers": layers}))
    return hfmem.inspect(str(folder), offline=True)


@pytest.mark.parametrize(
    "asked",
    [
        {"train": "full"},
        {"train": "lora"},
        {"train": "full", "precision": "autocast-bf16"},
        {"train": "lora", "fsdp": True, "gpus": 4, "gradient_checkpointing": True},
    ],
    ids=str,
)
def test_training_of_a_deep_model_takes_seconds(asked: dict[str, Any], tmp_path: Path) -> None:
    """A square would take four hundred times as long for twenty times as many layers."""
    seconds = []
    for layers in (400, 8000):
        model = of_depth(tmp_path, layers)
        started = time.process_time()
        hfmem.estimate(model, **asked)
        seconds.append(time.process_time() - started)
    assert seconds[1] < 100 * max(seconds[0], 0.05)


def test_a_deep_model_has_the_figures_of_its_layers(tmp_path: Path) -> None:
    few, more, most = (hfmem.estimate(of_depth(tmp_path, n), train="full").estimate.total for n in (1000, 2000, 3000))
    assert most - more == pytest.approx(more - few, rel=1e-6)


def test_shares_of_layers_add_up() -> None:
    for name in (QWEN, "Qwen/Qwen3.5-27B", "deepseek-ai/DeepSeek-V3"):
        architecture = hfmem.inspect(name, offline=True).architecture
        shares, depth = LayerShares(architecture, MEGATRON), architecture.depth or 0
        for component in ("attention", "mlp", "experts", "state", "norm"):
            if not shares.owners_before(component)[-1] and MEGATRON.unowned == "whole":
                continue
            assert sum(shares.of(component, index, index + 1) for index in range(depth)) == 1
            assert shares.of(component, depth, depth + 1) == shares.of(component, -1, 0) == 0
