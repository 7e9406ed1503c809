"""Where transformers and Accelerate themselves put modules for `device_map`, on machines that are not here.

    python -m tests.oracle.device_map        writes fixtures/oracle/device_map.json

The class of a model of the catalog is built on the meta device, and given to `_get_device_map`, which `from_pretrained`
calls, with the free memory of a machine in place of this one's. A machine is a share of the model's weights for each
accelerator, and for the host: one small accelerator; two and four equal ones; unequal ones with little host memory, so
that modules are left for the disk.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final
from unittest.mock import patch

import accelerate
import transformers
from transformers.integrations import accelerate as placing

from hfmem.engines.transformers.placed import runs
from hfmem.fetcher.catalog import find
from hfmem.fetcher.values import ModelRef
from hfmem.mapper.modules import Device
from hfmem.probe.placer import built
from hfmem.silence import quiet
from hfmem.units import MIB

__all__ = ["MODELS", "TARGET", "maps"]

TARGET: Final = Path(__file__).parents[2] / "fixtures" / "oracle" / "device_map.json"

MACHINES: Final[tuple[tuple[str, dict[Device, float]], ...]] = (
    ("auto", {0: 0.5, "cpu": 2}),
    ("auto", {0: 0.7, 1: 0.7, "cpu": 2}),
    ("auto", {0: 0.3, 1: 0.3, 2: 0.3, 3: 0.3, "cpu": 2}),
    ("auto", {0: 0.2, 1: 0.4, "cpu": 0.25}),
    ("balanced_low_0", {0: 0.7, 1: 0.7, 2: 0.7, "cpu": 2}),
    ("sequential", {0: 0.6, 1: 0.6, "cpu": 2}),
)

MODELS: Final[tuple[tuple[str, str, str], ...]] = (
    ("meta-llama/Llama-2-13b-hf", "float16", ""),
    ("mistralai/Mixtral-8x7B-v0.1", "bfloat16", ""),
    ("Qwen/Qwen3-235B-A22B", "bfloat16", ""),
    ("google/gemma-2-9b-it", "bfloat16", ""),
    ("openai-community/gpt2", "float32", ""),
    ("facebook/opt-6.7b", "float16", ""),
    ("tiiuae/falcon-40b", "bfloat16", ""),
    ("microsoft/Phi-3.5-mini-instruct", "bfloat16", ""),
    ("bigscience/bloom", "bfloat16", ""),
    ("deepseek-ai/DeepSeek-V2", "bfloat16", ""),
    ("zai-org/GLM-4.5", "bfloat16", ""),
    ("Qwen/Qwen3-Next-80B-A3B-Instruct", "bfloat16", ""),
    ("ai21labs/AI21-Jamba-1.5-Mini", "bfloat16", ""),
    ("LiquidAI/LFM2-1.2B", "bfloat16", ""),
    ("mistralai/Mamba-Codestral-7B-v0.1", "bfloat16", ""),
    ("BAAI/bge-large-en-v1.5", "float32", ""),
    ("meta-llama/Llama-2-13b-hf", "float16", "nf4"),
    ("meta-llama/Llama-2-13b-hf", "float16", "int8"),
    ("mistralai/Mixtral-8x7B-v0.1", "bfloat16", "nf4"),
    ("google/gemma-2-9b-it", "bfloat16", "nf4"),
)
"""Models with their run dtype, and what bitsandbytes quantises them to."""


def maps(model_id: str, dtype: str, quantised: str) -> list[dict[str, Any]]:
    """The device map of a model on each machine."""
    checkpoint = find(ModelRef(model_id=model_id))
    if checkpoint is None or checkpoint.config is None:
        raise LookupError(model_id)
    model, quantiser = built(checkpoint.config, dtype, quantised)
    total = placing.compute_module_sizes(model, quantiser)[0][""]
    rows = []
    for way, shares in MACHINES:
        free = {device: int(total * share) // MIB * MIB for device, share in shares.items()}
        found = _map(model, quantiser, free, way)
        rows.append({"way": way, "free": list(free.items()), "map": _shown(found)})
    return rows


def _map(model: Any, quantiser: Any, free: Mapping[Device, int], way: str) -> dict[str, Device]:
    own = placing.accelerate_max_memory

    def there(asked: Any = None) -> Any:
        return dict(free) if asked is None else own(asked)

    with quiet(), patch.object(placing, "accelerate_max_memory", there):
        # what a quantiser checks of the accelerators of this machine is no part of the map
        if quantiser is not None:
            quantiser.validate_environment = lambda **_: None
        return dict(placing._get_device_map(model, way, None, quantiser))


def _shown(found: Mapping[str, Device]) -> list[list[Any]]:
    """Devices with names of their modules, consecutive layers together."""
    return [
        [device, list(runs([name for name, where in found.items() if where == device]))]
        for device in dict.fromkeys(found.values())
    ]


def main() -> None:
    """Write the record."""
    rows = [
        {"model": name, "dtype": dtype, "quantised": quantised, "machines": maps(name, dtype, quantised)}
        for name, dtype, quantised in MODELS
    ]
    source = f"transformers {transformers.__version__}, accelerate {accelerate.__version__}"
    TARGET.write_text(
        '{"source":' + json.dumps(source) + ',"models":[\n' + ",\n".join(json.dumps(row) for row in rows) + "\n]}\n",
        encoding="utf-8",
    )
    print(f"{len(rows)} models, {TARGET.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
