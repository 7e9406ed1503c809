"""Twelve pairs of a small base model and an adapter on it: as PEFT counts them, and as it loads them.

`python -m tests.oracle.pairs` writes `fixtures/oracle/pairs.json`.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import peft
import torch
import transformers

import hfmem
from hfmem.report.result import to_result

FIXTURE = Path(__file__).parents[2] / "fixtures" / "oracle" / "pairs.json"

SIZES: dict[str, Any] = {
    **{"hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 3, "num_attention_heads": 4},
    **{"num_key_value_heads": 2, "vocab_size": 128, "max_position_embeddings": 64, "head_dim": 16},
}
TASK = {"task_type": "CAUSAL_LM"}


def lora(**more: Any) -> Any:
    """LoRA on the queries and values."""
    return peft.LoraConfig(**{"r": 8, "target_modules": ["q_proj", "v_proj"], **TASK, **more})


def pairs() -> dict[str, tuple[str, Callable[[], Any]]]:
    """By name: the base's type, and the adapter's configuration."""
    linear = "all-linear"
    return {
        "llama lora": ("llama", lora),
        "llama lora, all linear layers": ("llama", lambda: lora(target_modules=linear, r=4)),
        "qwen3 lora and the head": ("qwen3", lambda: lora(modules_to_save=["lm_head"])),
        "qwen2 lora with biases": ("qwen2", lambda: lora(bias="lora_only")),
        "mistral dora": ("mistral", lambda: lora(use_dora=True)),
        "llama rank-stabilised": ("llama", lambda: lora(use_rslora=True, r=16)),
        "llama lora on the embedding": ("llama", lambda: lora(target_modules=["embed_tokens", "q_proj"])),
        "llama ranks by a pattern": ("llama", lambda: lora(rank_pattern={"layers.0.self_attn.q_proj": 32})),
        "qwen3 loha": ("qwen3", lambda: peft.LoHaConfig(r=4, target_modules=["q_proj", "v_proj"], **TASK)),
        "llama ia3": (
            "llama",
            lambda: peft.IA3Config(target_modules=["k_proj", "down_proj"], feedforward_modules=["down_proj"], **TASK),
        ),
        "llama prompt tuning": ("llama", lambda: peft.PromptTuningConfig(num_virtual_tokens=7, **TASK)),
        "gemma lora, norms as a whole": ("gemma", lambda: lora(modules_to_save=["input_layernorm"])),
    }


def measure(name: str, folder: Path) -> dict[str, Any]:
    """What PEFT counts of a pair when it is made, and holds once it is loaded; and what hfmem says of its files."""
    kind, config = pairs()[name]
    base, own = folder / "base", folder / "adapter"
    settings = transformers.AutoConfig.for_model(kind, **SIZES)
    settings.dtype = torch.bfloat16
    model = transformers.AutoModelForCausalLM.from_config(settings).to(torch.bfloat16)
    model.save_pretrained(base)
    made = peft.get_peft_model(transformers.AutoModelForCausalLM.from_pretrained(base, dtype=torch.bfloat16), config())
    trainable, total = made.get_nb_trainable_parameters()
    made.save_pretrained(own)
    loaded = peft.PeftModel.from_pretrained(
        transformers.AutoModelForCausalLM.from_pretrained(base, dtype=torch.bfloat16), own
    )
    return {"trainable": trainable, "total": total, "bytes": sum(part.nbytes for part in loaded.parameters())}


def told(folder: Path) -> dict[str, Any]:
    """What hfmem says of the files of a pair."""
    result = to_result(hfmem.estimate(str(folder / "adapter"), offline=True))
    parts = result["components"]
    return {
        "trainable": parts[1]["parameters"],
        "total": result["parameters"]["total"],
        "bytes": result["memory"]["weights"],
    }


def main() -> None:
    """Measure all pairs."""
    found = {}
    for name in pairs():
        with tempfile.TemporaryDirectory() as folder:
            found[name] = measure(name, Path(folder))
            said = told(Path(folder))
        print(f"{name}: {found[name]} {'' if said == found[name] else said}")
    versions = {module.__name__: module.__version__ for module in (peft, torch, transformers)}
    FIXTURE.write_text(json.dumps({"versions": versions, "pairs": found}, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
