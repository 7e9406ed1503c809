"""Records fixtures/oracle/tower_training.json: what towers of published models save at their own sizes.

python -m tests.oracle.tower_training [MODEL ...]

The real class runs with the config of the catalog (`tower_peaks` builds it without memory for the decoder), and
`saved_tensors_hooks` sees what autograd saves: other means than the probe's, and as many layers as there are.
"""

from __future__ import annotations

import json
import sys
import warnings
from pathlib import Path
from typing import Any, Final

from tests.oracle import tower_peaks

RECORDED: Final = Path(__file__).parents[2] / "fixtures" / "oracle" / "tower_training.json"
TABLE: Final = Path(__file__).parents[2] / "hfmem" / "data" / "towers_training.jsonl"
GRID: Final = (16, 24)
"""Rows and columns of patches, where a tower takes images of any size."""


def rows() -> dict[tuple[str, bool], dict[str, Any]]:
    """The measured polynomials of towers that are trained as a whole."""
    lines = map(json.loads, TABLE.read_text(encoding="utf-8").splitlines()[1:])
    return {(row["type"], row["checkpointed"]): row for row in lines if row["trained"] == "all"}


def configs() -> dict[str, dict[str, Any]]:
    """Of the catalog's models whose type has a row."""
    return tower_peaks.configs(name for name, _ in rows())


def measure(config: dict[str, Any], checkpointed: bool) -> int:
    """Bytes that the tower and the projector save for one image, without weights and pixels."""
    import torch

    from hfmem.probe.activations.flash import fused_attention
    from hfmem.probe.towers import features, parameters_of

    packed = rows()[config["model_type"], checkpointed]["packed"]
    with tower_peaks.pretended(packed), fused_attention():
        model = tower_peaks.built(config, "sdpa", packed=packed).train()
        if checkpointed:
            model.gradient_checkpointing_enable()
        inputs, _ = tower_peaks.inputs_of(model.config, parameters_of(type(model).__name__), GRID)
        given = {one.untyped_storage()._cdata for one in (*model.parameters(), *model.buffers(), *inputs.values())}
        saved: dict[int, torch.Tensor] = {}

        def pack(tensor: torch.Tensor) -> torch.Tensor:
            saved[tensor.untyped_storage()._cdata] = tensor
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            features(model)(**inputs)
        return sum(one.untyped_storage().nbytes() for key, one in saved.items() if key not in given)


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
