"""Records fixtures/oracle/tower_training.json: what towers of published models save at their own sizes.

python -m tests.oracle.tower_training [MODEL ...]

The real class runs with the config of the catalog (`tower_peaks` builds it without memory for the decoder), and
`saved_tensors_hooks` sees what autograd saves: other means than the probe's, and as many layers as there are.
"""

from __future__ import annotations

import gc
import json
import sys
import warnings
import weakref
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from tests.oracle import tower_peaks

RECORDED: Final = Path(__file__).parents[2] / "fixtures" / "oracle" / "tower_training.json"
TABLE: Final = Path(__file__).parents[2] / "hfmem" / "data" / "towers_training.jsonl"
UNSEEN: Final = ("llama4",)
"""Types whose checkpointed layers get their input by keyword: it stays alive, and autograd's hooks do not see it."""

RANK: Final = 8
IMAGES: Final = 2
"""Where all images are of the tower's own size: of one, some classes copy less."""

GRID: Final = (16, 24)
"""Rows and columns of patches, where a tower takes images of any size."""


def rows() -> dict[tuple[str, bool, str], dict[str, Any]]:
    """The measured polynomials."""
    lines = map(json.loads, TABLE.read_text(encoding="utf-8").splitlines()[1:])
    return {(row["type"], row["checkpointed"], row["trained"]): row for row in lines}


def configs() -> dict[str, dict[str, Any]]:
    """Of the catalog's models whose type has a row."""
    return tower_peaks.configs(name for name, _, _ in rows())


Mode = tuple[bool, str]
"""Whether layers are checkpointed, and what is trained (`hfmem.probe.tower_training.Trained`)."""


def prepared(model: Any, trained: str) -> None:
    """Train the projector alone, or adapters of PEFT, in float32, on all linear modules of tower and projector."""
    import torch
    from peft import LoraConfig, inject_adapter_in_model

    from hfmem.mapper.names import meaning

    if trained == "projector":
        for name, one in model.named_parameters():
            one.requires_grad_(meaning(name, one.dim()).component == "projector")
    if trained == "lora":
        targets = [
            name
            for name, module in model.named_modules()
            if isinstance(module, torch.nn.Linear) and meaning(f"{name}.weight", 2).component in ("vision", "projector")
        ]
        inject_adapter_in_model(LoraConfig(r=RANK, target_modules=targets), model)
        for name, module in model.named_modules():
            if ".lora_" in name and isinstance(module, torch.nn.Linear):  # as `get_peft_model` casts them
                module.weight = torch.nn.Parameter(module.weight.detach().float())


@dataclass(eq=False)
class _Saved:
    """A tensor that autograd holds, as long as it does."""

    tensor: Any


def measure(config: dict[str, Any], mode: Mode) -> tuple[int, dict[str, int]]:
    """Bytes that the tower and the projector save for an image (or two), without weights and pixels, and its sizes."""
    checkpointed, trained = mode
    import torch

    from hfmem.probe.activations.flash import fused_attention
    from hfmem.probe.tower_training import handed
    from hfmem.probe.towers import features

    with fused_attention():
        model = tower_peaks.built(config, "sdpa").train()
        if checkpointed:
            model.gradient_checkpointing_enable()
        prepared(model, trained)
        inputs, counts = tower_peaks.given(model.config, model, GRID, IMAGES)
        given = {one.untyped_storage()._cdata for one in (*model.parameters(), *model.buffers(), *inputs.values())}
        saved: weakref.WeakSet[_Saved] = weakref.WeakSet()

        def pack(tensor: torch.Tensor) -> _Saved:
            saved.add(one := _Saved(tensor.detach()))  # with its history it would hold what it is an output of
            return one

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda one: one.tensor):
            outputs = handed(features(model)(**inputs))
        gc.collect()  # what the decoder is not handed is gone, and the layers that made it
        storages = [one.tensor.untyped_storage() for one in saved]
        del outputs
        return sum({one._cdata: one.nbytes() for one in storages if one._cdata not in given}.values()), counts


def main() -> int:
    """Record every model, or those that are named."""
    warnings.simplefilter("ignore")
    old = json.loads(RECORDED.read_text(encoding="utf-8")) if RECORDED.exists() else {}
    found: dict[str, int] = old.get("saved", {})
    sizes: dict[str, dict[str, int]] = old.get("sizes", {})
    made: dict[str, dict[str, Any]] = old.get("configs", {})
    for model, config in sorted(configs().items()):
        if sys.argv[1:] and model not in sys.argv[1:]:
            continue
        for kind, checkpointed, trained in rows():
            if kind == config["model_type"] and not (checkpointed and kind in UNSEEN):
                name = f"{model} {checkpointed} {trained}"
                try:
                    found[name], sizes[model] = measure(config, (checkpointed, trained))
                    print(name, found[name], flush=True)
                except Exception as error:  # a class may refuse any of this
                    print(name, type(error).__name__, str(error)[:150], flush=True)
        if model in sizes and model.startswith(tower_peaks.DEFAULTS):
            made[model] = tower_peaks.told(config)
        _write({"saved": found, "sizes": sizes, "configs": made})
    return 0


def _write(found: dict[str, dict[str, Any]]) -> None:
    source = json.loads(TABLE.read_text(encoding="utf-8").splitlines()[0])["source"]
    parts = {key: dict(sorted(each.items())) for key, each in found.items()}
    body = json.dumps({"source": source, "grid": GRID, **parts}, indent=1)
    RECORDED.write_text(body + "\n", encoding="utf-8")


if __name__ == "__main__":
    raise SystemExit(main())
