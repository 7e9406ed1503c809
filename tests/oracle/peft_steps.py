"""Peaks of training steps with PEFT's other methods, as PyTorch allocates them: `fixtures/oracle/peft_steps.json`.

    python -m tests.oracle.peft_steps    # with PEFT and transformers installed

Under fake tensors, as `tests.oracle.steps` measures LoRA: `rows` with adapters in the model's dtype, `float32` with
those that PEFT casts to float32 (`autocast_adapter_dtype`, its default), without and with autocast.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterator
from importlib.metadata import version
from itertools import product
from pathlib import Path
from typing import Any, Final

from tests.oracle.peft_methods import METHODS
from tests.oracle.step_cases import Case, config_of

__all__ = ["FIXTURE", "RANK", "cases", "config", "float32_cases", "main", "measured"]

FIXTURE: Final = Path(__file__).parents[2] / "fixtures" / "oracle" / "peft_steps.json"
MODELS: Final = ("meta-llama/Meta-Llama-3-8B", "Qwen/Qwen3-0.6B")
SHAPES: Final = ((1, 512), (2, 1024))
RANK: Final = 16
"""LoRA's."""


def cases() -> Iterator[dict[str, Any]]:
    """Every model with every method, on its own targets and on all linear modules, without and with checkpointing."""
    for model, method, (batch, seq), again in product(MODELS, METHODS, SHAPES, (False, True)):
        if method == "boft":  # makes its blocks one by one, thousands of them
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
        if method in ("adalora", "ia3", "loha", "lokr", "lora", "oft", "vera"):
            yield {
                "model": model,
                "method": method,
                "targets": None if method == "ia3" else "all-linear",
                "batch": 2,
                "seq": 1024,
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
    name, asked = ("LoraConfig", {"r": RANK}) if case["method"] == "lora" else METHODS[case["method"]]
    more = {"target_modules": case["targets"]} if case["targets"] else {}
    chosen = getattr(peft, name)(task_type="CAUSAL_LM", **asked, **more)
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
    """Record all of them."""
    head = json.dumps({name: version(name) for name in ("peft", "transformers", "torch")})
    rows, wide = _recorded(cases()), _recorded(float32_cases())
    text = f'{{\n "versions": {head},\n "rows": [\n{rows}\n ],\n "float32": [\n{wide}\n ]\n}}\n'
    FIXTURE.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
