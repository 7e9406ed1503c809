"""Records fixtures/oracle/tower_training.json: what towers of published models save at their own sizes.

python -m tests.oracle.tower_training [MODEL ...]

The real class runs with the config of the catalog (one layer of the decoder, which does not run; fake tensors where
they do), and `saved_tensors_hooks` sees what autograd saves: other means than the probe's, and as many layers as there
are.
"""

from __future__ import annotations

import json
import sys
import warnings
from contextlib import nullcontext
from pathlib import Path
from typing import Any, Final

RECORDED: Final = Path(__file__).parents[2] / "fixtures" / "oracle" / "tower_training.json"
TABLE: Final = Path(__file__).parents[2] / "hfmem" / "data" / "towers_training.jsonl"
CATALOG: Final = Path(__file__).parents[2] / "hfmem" / "data" / "catalog.jsonl"
GRID: Final = (16, 24)
"""Rows and columns of patches, where a tower takes images of any size."""


def rows() -> dict[tuple[str, bool], dict[str, Any]]:
    """The measured polynomials."""
    lines = map(json.loads, TABLE.read_text(encoding="utf-8").splitlines()[1:])
    return {(row["type"], row["checkpointed"]): row for row in lines}


def configs() -> dict[str, dict[str, Any]]:
    """Of the catalog's models whose type has a row."""
    known = {name for name, _ in rows()}
    lines = (json.loads(line) for line in CATALOG.read_text(encoding="utf-8").splitlines()[1:])
    made: dict[str, tuple[str, dict[str, Any]]] = {}
    for line in lines:
        config = line.get("config")
        if isinstance(config, dict) and config.get("model_type") in known:
            width = config.get("text_config", config).get("hidden_size")
            tower = json.dumps([config["vision_config"], width], sort_keys=True)
            made.setdefault(tower, (line["model"], config))
    return dict(made.values())


def measure(config: dict[str, Any], checkpointed: bool) -> int:
    """Bytes that the tower and the projector save for one image, without weights and pixels."""
    import torch
    import transformers
    from torch._subclasses.fake_tensor import FakeTensorMode
    from transformers.initialization import no_init_weights

    from hfmem.probe import tiny
    from hfmem.probe.activations.flash import fused_attention

    made = transformers.AutoConfig.for_model(**config)
    text = made.get_text_config()
    text.num_hidden_layers = 1
    if getattr(text, "layer_types", None):
        text.layer_types = text.layer_types[:1]
    kind = getattr(transformers, tiny.GROUPS["image-text"][config["model_type"]])
    # what a grid tells is read while the tower runs, which fake tensors do not have
    pretended = FakeTensorMode() if _grid(made.vision_config) is None else nullcontext()
    with pretended, no_init_weights(), fused_attention():
        model = kind._from_config(made, dtype=torch.bfloat16, attn_implementation="sdpa").train()
        if checkpointed:
            model.gradient_checkpointing_enable()
        inputs = _inputs(made)
        given = {one.untyped_storage()._cdata for one in (*model.parameters(), *model.buffers(), *inputs.values())}
        saved: dict[int, torch.Tensor] = {}

        def pack(tensor: torch.Tensor) -> torch.Tensor:
            saved[tensor.untyped_storage()._cdata] = tensor
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            model.get_image_features(**inputs)
        return sum(one.untyped_storage().nbytes() for key, one in saved.items() if key not in given)


def _grid(vision: Any) -> int | None:
    """Patches on a side that become one token, where images are packed; else None."""
    return getattr(vision, "spatial_merge_size", None)


def _inputs(config: Any) -> dict[str, Any]:
    """One image, as the class takes it."""
    import torch

    vision = config.vision_config
    patch = vision.patch_size
    if _grid(vision) is not None:
        rows, columns = GRID
        frames = getattr(vision, "temporal_patch_size", 1)
        flat = torch.empty(rows * columns, 3 * frames * patch**2)
        return {"pixel_values": flat, "image_grid_thw": torch.tensor([[1, rows, columns]])}
    return {"pixel_values": torch.empty(1, 3, vision.image_size, vision.image_size)}


def main() -> int:
    """Record every model, or those that are named."""
    warnings.simplefilter("ignore")
    found: dict[str, int] = json.loads(RECORDED.read_text(encoding="utf-8"))["saved"] if RECORDED.exists() else {}
    for model, config in sorted(configs().items()):
        if sys.argv[1:] and model not in sys.argv[1:]:
            continue
        for checkpointed in (False, True):
            try:
                found[f"{model} {checkpointed}"] = measure(config, checkpointed)
                print(model, checkpointed, found[f"{model} {checkpointed}"], flush=True)
            except Exception as error:  # a class may refuse any of this
                print(model, checkpointed, type(error).__name__, str(error)[:150])
            _write(found)
    return 0


def _write(found: dict[str, int]) -> None:
    source = json.loads(TABLE.read_text(encoding="utf-8").splitlines()[0])["source"]
    body = json.dumps({"source": source, "grid": GRID, "saved": dict(sorted(found.items()))}, indent=1)
    RECORDED.write_text(body + "\n", encoding="utf-8")


if __name__ == "__main__":
    raise SystemExit(main())
