"""Trained parameters and buffers of PEFT's other methods, as PEFT counts them: `fixtures/oracle/peft.json`.

    python -m tests.oracle.peft_methods    # with PEFT and transformers installed

Models are made on the meta device from the configurations of `tests.oracle.step_cases`, cut to their first layers.
A method that PEFT itself refuses for a model is recorded with its error's type.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterator, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

from tests.oracle.step_cases import MODELS, config_of

__all__ = ["FIXTURE", "METHODS", "counted", "main"]

FIXTURE: Final = Path(__file__).parents[2] / "fixtures" / "oracle" / "peft.json"
TOKENS: Final = 20
METHODS: Final[Mapping[str, tuple[str, Mapping[str, Any]]]] = {
    "adalora": ("AdaLoraConfig", {"total_step": 100}),
    "boft": ("BOFTConfig", {}),
    "ia3": ("IA3Config", {}),
    "loha": ("LoHaConfig", {}),
    "lokr": ("LoKrConfig", {}),
    "oft": ("OFTConfig", {}),
    "p-tuning": ("PromptEncoderConfig", {"num_virtual_tokens": TOKENS}),
    "prefix-tuning": ("PrefixTuningConfig", {"num_virtual_tokens": TOKENS}),
    "prompt-tuning": ("PromptTuningConfig", {"num_virtual_tokens": TOKENS}),
    "trainable-tokens": ("TrainableTokensConfig", {"token_indices": list(range(TOKENS))}),
    "vera": ("VeraConfig", {}),
}
"""Our name, PEFT's class, and what it needs."""


def counted(config: Mapping[str, Any], method: str) -> dict[str, Any]:
    """What PEFT trains of a model, and what it holds beside that: on its own targets, or on all linear modules of a
    type that it has none for."""
    found = _counted(config, method, {})
    if "target_modules" not in str(found.get("refused")):
        return found
    more = {"feedforward_modules": []} if method == "ia3" else {}
    return {"targets": "all-linear", **_counted(config, method, {"target_modules": "all-linear", **more})}


def _counted(config: Mapping[str, Any], method: str, more: Mapping[str, Any]) -> dict[str, Any]:
    import peft
    import torch
    import transformers

    from hfmem.probe.tiny import build

    with torch.device("meta"), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = getattr(transformers, config["architectures"][0])(build(dict(config)))
    before = sum(buffer.numel() for buffer in model.buffers())
    if method == "boft":  # its permutations are computed entry by entry, which needs entries
        layer = peft.tuners.boft.layer.BOFTLayer
        layer.block_butterfly_perm = lambda _, count, *__: torch.empty(count)
        layer.perm2mat = lambda _, indices: torch.empty(1, 1)
    name, asked = METHODS[method]
    task = {"task_type": "CAUSAL_LM"} if hasattr(model, "prepare_inputs_for_generation") else {}
    chosen = getattr(peft, name)(**task, **asked, **more)
    try:
        with torch.device("meta"), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            adapted = peft.get_peft_model(model, chosen)
    except Exception as error:  # whatever PEFT says is the record
        return {"refused": f"{type(error).__name__}: {str(error)[:120]}"}
    held = sum(buffer.numel() for buffer in adapted.buffers()) - before
    return {"trained": adapted.get_nb_trainable_parameters()[0], "held": held}


def rows() -> Iterator[dict[str, Any]]:
    """Every model with every method."""
    for name in MODELS:
        config = config_of(name)
        for method in METHODS:
            row = {"model": name, "method": method, **counted(config, method)}
            print(json.dumps(row), flush=True)
            yield row


def main() -> None:
    """Record all of them."""
    document = {
        "versions": {name: version(name) for name in ("peft", "transformers", "torch")},
        "tokens": TOKENS,
        "rows": list(rows()),
    }
    text = json.dumps({**document, "rows": []}, indent=1)
    lines = ",\n".join(f"  {json.dumps(row)}" for row in document["rows"])
    FIXTURE.write_text(text.replace('"rows": []', f'"rows": [\n{lines}\n ]') + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
