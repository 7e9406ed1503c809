"""What training keeps an element of a weight, in each precision that runs on a processor.

    python -m tests.oracle.precisions        writes fixtures/oracle/precisions.json

A step of AdamW on a linear layer whose bytes are counted where they lie: its weight, its gradient and the optimizer's
states; and the format of what comes out of the layer.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, Final

import torch
from torch import nn

TARGET: Final = Path(__file__).parents[2] / "fixtures" / "oracle" / "precisions.json"

_SIDES: Final = (64, 48)

Row = dict[str, Any]

_PLAIN: Final = {"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": torch.float32}
_AUTOCAST: Final = {
    "autocast-bf16": (torch.float32, torch.bfloat16),
    "autocast-fp16": (torch.float32, torch.float16),
    "bf16-autocast": (torch.bfloat16, torch.bfloat16),
}


def steps() -> dict[str, Callable[[], Row]]:
    """Our name of each precision that runs here, and how its step is measured."""
    found: dict[str, Callable[[], Row]] = {}
    for name, dtype in _PLAIN.items():
        found[name] = partial(_torch, dtype, None)
    for name, (dtype, compute) in _AUTOCAST.items():
        found[name] = partial(_torch, dtype, compute)
    return found


def _torch(dtype: torch.dtype, compute: torch.dtype | None) -> Row:
    layer = nn.Linear(*_SIDES, bias=False, dtype=dtype)
    optimizer = torch.optim.AdamW(layer.parameters())
    inputs = torch.ones(2, _SIDES[0], dtype=dtype)
    with torch.autocast("cpu", dtype=compute) if compute else contextlib.nullcontext():
        outputs = layer(inputs)
    outputs.float().sum().backward()
    optimizer.step()
    gradient = layer.weight.grad
    assert gradient is not None
    states = [value for value in optimizer.state[layer.weight].values() if value.numel() > 1]
    elements = _SIDES[0] * _SIDES[1]
    return {
        "weights": str(layer.weight.dtype).removeprefix("torch."),
        "compute": str(outputs.dtype).removeprefix("torch."),
        "gradient": gradient.numel() * gradient.element_size() / elements,
        "states": sum(state.numel() * state.element_size() for state in states) / elements,
    }


def main() -> None:
    """Measure and write."""
    document = {
        "tool": "python -m tests.oracle.precisions",
        "torch": torch.__version__.partition("+")[0],
        "bytes": {name: step() for name, step in steps().items()},
    }
    TARGET.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    print(f"{len(document['bytes'])} precisions")


if __name__ == "__main__":
    main()
