"""Peaks of training steps with PEFT's other methods, as PyTorch allocates them: `fixtures/oracle/peft_steps.json`.

    python -m tests.oracle.peft_steps [rows|float32|dora]    # with PEFT and transformers installed; all or some

Under fake tensors, as `tests.oracle.steps` measures LoRA: `rows` with adapters in the model's dtype, `float32` with
those that PEFT casts to float32 (`autocast_adapter_dtype`, its default), without and with autocast; `dora` likewise,
of more models.
"""

from __future__ import annotations

import json
import sys
import warnings
from collections.abc import Iterator
from importlib.metadata import version
from itertools import product
from pathlib import Path
from typing import Any, Final

from tests.oracle.peft_methods import METHODS
from tests.oracle.step_cases import Case, config_of

__all__ = ["FIXTURE", "RANK", "cases", "config", "dora_cases", "float32_cases", "main", "measured"]

FIXTURE: Final = Path(__file__).parents[2] / "fixtures" / "oracle" / "peft_steps.json"
MODELS: Final = ("meta-llama/Meta-Llama-3-8B", "Qwen/Qwen3-0.6B")
SHAPES: Final = ((1, 512), (2, 1024))
DORA_MODELS: Final = (
    *MODELS,
    "meta-llama/Llama-2-7b-hf",
    "mistralai/Mistral-7B-v0.1",
    "microsoft/phi-2",
    "bigcode/starcoder2-7b",
    "facebook/opt-6.7b",
    "allenai/OLMo-2-1124-7B",
    "EleutherAI/gpt-j-6b",
    "CohereForAI/aya-23-8B",
)
RANK: Final = 16
"""LoRA's."""


def cases() -> Iterator[dict[str, Any]]:
    """Every model with every method, on its own targets and on all linear modules, without and with checkpointing."""
    for model, method, (batch, seq), again in product(MODELS, METHODS, SHAPES, (False, True)):
        if method == "boft":  # in the model's dtype its permutations are too, which is not PEFT's default
            continue
        adapts = method not in ("p-tuning", "prefix-tuning", "prompt-tuning", "trainable-tokens")
        for everything in (False, True) if adapts and method != "ia3" else (False,):
            yield {
                "model": model,
                "method": method,
                "targets": "all-linear" if everything else None,
                "batch": batch,
                "seq": seq,
                "checkpointing": again,
            }


def float32_cases() -> Iterator[dict[str, Any]]:
    """Methods that compute in the adapter's dtype, and LoRA, on all linear modules: every pair of checkpointing and
    autocast."""
    for model, method, again, autocast in product(MODELS, ("lora", *METHODS), (False, True), (False, True)):
        if method in ("adalora", "boft", "ia3", "loha", "lokr", "lora", "oft", "vera"):
            yield {
                "model": model,
                "method": method,
                "targets": None if method == "ia3" else "all-linear",
                "batch": 2,
                "seq": 1024,
                "checkpointing": again,
                "autocast": autocast,
            }


def dora_cases() -> Iterator[dict[str, Any]]:
    """DoRA on all linear modules, its adapters in float32: every pair of checkpointing and autocast."""
    for model, (batch, seq), again, autocast in product(DORA_MODELS, SHAPES, (False, True), (False, True)):
        yield {
            "model": model,
            "method": "dora",
            "targets": "all-linear",
            "batch": batch,
            "seq": seq,
            "checkpointing": again,
            "autocast": autocast,
        }


def config(case: dict[str, Any]) -> dict[str, Any]:
    """The model's first layers, with so small a vocabulary that layers set the peak, unless its rows are trained."""
    found = config_of(case["model"])
    return found if case["method"] == "trainable-tokens" else {**found, "vocab_size": 8192}


def _adapted(model: Any, case: dict[str, Any]) -> Any:
    """The model with a method's adapters. Modules are not moved: fake parameters cannot be swapped."""
    import peft
    import torch

    wide = "autocast" in case
    own = {"lora": {"r": RANK}, "dora": {"r": RANK, "use_dora": True}}
    name, asked = ("LoraConfig", own[case["method"]]) if case["method"] in own else METHODS[case["method"]]
    more = {"target_modules": case["targets"]} if case["targets"] else {}
    chosen = getattr(peft, name)(task_type="CAUSAL_LM", **asked, **more)
    if case["method"] == "boft":  # its permutations are computed entry by entry, which needs entries
        layer = peft.tuners.boft.layer.BOFTLayer
        layer.block_butterfly_perm = lambda _, count, *__: range(count)
        layer.perm2mat = lambda _, indices: torch.empty(len(indices), len(indices), dtype=torch.float32)
    moved, default = torch.nn.Module._apply, torch.get_default_dtype()
    torch.nn.Module._apply = lambda self, *_, **__: self
    torch.set_default_dtype(torch.float32 if wide else torch.bfloat16)
    try:
        found = peft.get_peft_model(model, chosen, autocast_adapter_dtype=wide)
    finally:
        torch.nn.Module._apply = moved
        torch.set_default_dtype(default)
    for module in found.modules():
        if hasattr(module, "module_dropout"):  # a random number decides, which a fake tensor does not have
            module.training = False
    expected = torch.float32 if wide else torch.bfloat16
    assert {weight.dtype for weight in found.parameters() if weight.requires_grad} == {expected}
    if case.get("autocast"):
        plain = found.forward

        def forward(*given: Any, **named: Any) -> Any:
            with torch.autocast("cpu", torch.bfloat16):
                return plain(*given, **named)

        found.forward = forward
    return found


def measured(case: dict[str, Any]) -> dict[str, Any]:
    """The peak of a step with AdamW."""
    from tests.oracle import steps

    def adapted(model: Any, *, dora: bool) -> Any:
        del dora
        return _adapted(model, case)

    steps._adapted = adapted
    asked = Case(
        method="lora", attention="sdpa", checkpointing=case["checkpointing"], batch=case["batch"], seq=case["seq"]
    )
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return {"peak": steps.peaks(config(case), asked)["adamw"]}
    except Exception as error:  # whatever PEFT says is the record
        return {"refused": f"{type(error).__name__}: {str(error)[:120]}"}


def _recorded(asked: Iterator[dict[str, Any]]) -> str:
    rows = []
    for case in asked:
        rows.append({**case, **measured(case)})
        print(json.dumps(rows[-1]), flush=True)
    return ",\n".join(f"  {json.dumps(row)}" for row in rows)


def main() -> None:
    """Record all sections, or those that are named."""
    sections = {"rows": cases, "float32": float32_cases, "dora": dora_cases}
    made = {section: _recorded(sections[section]()) for section in sys.argv[1:] or sections}
    kept = json.loads(FIXTURE.read_text(encoding="utf-8")) if len(made) < len(sections) else {}
    head = json.dumps({name: version(name) for name in ("peft", "transformers", "torch")})
    parts = [f' "versions": {head}']
    for section in sections:
        rows = made.get(section) or ",\n".join(f"  {json.dumps(row)}" for row in kept.get(section, ()))
        parts.append(f' "{section}": [\n{rows}\n ]')
    FIXTURE.write_text("{\n" + ",\n".join(parts) + "\n}\n", encoding="utf-8")


if __name__ == "__main__":
    main()
