"""What the first tensor-parallel rank holds of models of the catalog: `python -m tests.oracle.tensor_parallel`.

The library's own functions cut the class of each model, of its full size, on the meta device
(`hfmem.probe.tensor_plans`); writes `fixtures/oracle/tensor_parallel.json`.
"""

from __future__ import annotations

import json
from importlib.resources import files
from math import prod
from pathlib import Path
from typing import Any, Final

TARGET: Final = Path(__file__).parents[2] / "fixtures" / "oracle" / "tensor_parallel.json"

CASES: Final[dict[str, tuple[int, ...]]] = {
    "meta-llama/Llama-3.1-8B-Instruct": (2, 8),
    "Qwen/Qwen2.5-0.5B": (2,),  # tied, biases of keys and values
    "Qwen/Qwen3-30B-A3B": (4,),  # experts in pairs of matrices
    "mistralai/Mixtral-8x7B-Instruct-v0.1": (8,),  # experts under other names in the files
    "microsoft/phi-4": (3, 8),  # outputs gathered: uneven parts, 10 heads of keys and values on every rank
    "allenai/OLMo-2-1124-7B": (3,),
    "google/gemma-3-4b-it": (4,),  # a vision tower, tied
    "google/gemma-2-2b": (4,),
    "deepseek-ai/DeepSeek-V2-Lite": (8,),  # latents, shared experts
    "Qwen/Qwen3-Next-80B-A3B-Instruct": (2,),  # linear attention whose outputs are gathered
    "ai21labs/AI21-Jamba-1.5-Mini": (8,),  # states on every rank
    "ibm-granite/granite-4.0-h-small": (8,),
    "nvidia/NVIDIA-Nemotron-3-Nano-30B-A3B-BF16": (8,),  # nothing but embedding and experts
    "meta-llama/Llama-4-Scout-17B-16E-Instruct": (8,),  # a part of the vision tower
    "Qwen/Qwen2-VL-2B-Instruct": (2,),
    "togethercomputer/RedPajama-INCITE-7B-Base": (8,),  # fused queries, keys and values
    "EleutherAI/gpt-j-6b": (8,),
    "bigcode/starcoder2-7b": (4,),
    "llava-hf/llava-1.5-7b-hf": (8,),
}


def measure(name: str) -> dict[str, int]:
    """Elements of the whole model, and of the first of so many ranks; tied weights once."""
    import transformers

    from hfmem.probe import tensor_plans, tiny

    config = tiny.build(_configs()[name])
    model_class = getattr(transformers, tensor_plans.classes()[config.model_type])
    found = {"1": _elements(tensor_plans.on_meta(model_class, config))}
    for ranks in CASES[name]:
        found[str(ranks)] = _elements(tensor_plans.cut(tensor_plans.on_meta(model_class, config), ranks))
    return found


def _elements(model: Any) -> int:
    from hfmem.probe.tensor_plans import shards

    tied = set(model.all_tied_weights_keys)
    return sum(prod(shape) for name, shape in shards(model).items() if name not in tied)


def _configs() -> dict[str, Any]:
    text = files("hfmem.data").joinpath("catalog.jsonl").read_text(encoding="utf-8")
    rows = [json.loads(line) for line in text.splitlines()[1:]]
    return {row["model"]: row["config"] for row in rows if row["model"] in CASES}


def main() -> None:
    import torch
    import transformers

    versions = {"torch": torch.__version__, "transformers": transformers.__version__}
    document = {"versions": versions, "elements": {name: measure(name) for name in CASES}}
    TARGET.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
