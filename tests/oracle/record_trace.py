"""Measures training steps with PyTorch's own MemTracker at full depth, and writes `fixtures/oracle/trace.json`.

    python -m tests.oracle.record_trace

A row is a model, a step, and the peak and its parts in bytes. MemTracker takes a minute or more a step.
"""

from __future__ import annotations

import json
import logging
import sys
import time
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
import transformers
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.distributed._tools.mem_tracker import MemTracker

from hfmem.probe.tiny import build

FIXTURES = Path(__file__).parents[2] / "fixtures"
TARGET = FIXTURES / "oracle" / "trace.json"

STEPS: tuple[dict[str, Any], ...] = (
    {"model": "meta-llama/Llama-2-7b-hf", "batch": 1, "seq": 2048, "checkpointing": False},
    {"model": "meta-llama/Llama-2-7b-hf", "batch": 16, "seq": 2048, "checkpointing": True},
)


def main() -> None:
    """Measure and write."""
    rows = []
    for step in STEPS:
        started = time.monotonic()
        parts = peak(config_of(step["model"]), step["batch"], step["seq"], step["checkpointing"])
        rows.append({**step, "optimizer": "AdamW", "peak": parts["Total"], "parts": parts})
        print(rows[-1], f"{time.monotonic() - started:.0f} s", file=sys.stderr)
    head = {"tool": "python -m tests.oracle.record_trace", "transformers": transformers.__version__}
    head["torch"] = torch.__version__.partition("+")[0]
    lines = ",\n".join(f"  {json.dumps(row)}" for row in rows)
    TARGET.write_text(f'{json.dumps(head)[:-1]}, "steps": [\n{lines}\n]}}\n')


def config_of(model: str) -> dict[str, Any]:
    """The config.json of a model that is among the fixtures."""
    found: dict[str, Any] = json.loads((FIXTURES / model.replace("/", "--") / "config.json").read_text())
    return found


def peak(config: Mapping[str, Any], batch: int, seq: int, checkpointing: bool) -> dict[str, int]:
    """The peak of the second of two training steps in bfloat16 with AdamW, by what it is made of."""
    logging.getLogger("torch._subclasses.fake_tensor").setLevel(logging.CRITICAL)
    with FakeTensorMode(allow_non_fake_inputs=True), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = getattr(transformers, config["architectures"][0])._from_config(build(config), dtype=torch.bfloat16)
        ids = torch.ones((batch, seq), dtype=torch.long)
        model.train()
        if checkpointing:
            model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
        optimizer = torch.optim.AdamW(model.parameters(), foreach=True)  # as on a GPU
        tracker = MemTracker()
        tracker.track_external(model, optimizer)
        with tracker:
            for step in range(2):
                model(ids, labels=ids, use_cache=False).loss.backward()
                optimizer.step()
                optimizer.zero_grad()
                if step == 0:  # which makes the optimizer's states
                    tracker.reset_mod_stats()
    (parts,) = tracker.get_tracker_snapshot("peak").values()
    return {getattr(name, "value", str(name)): int(size) for name, size in parts.items()}


if __name__ == "__main__":
    main()
