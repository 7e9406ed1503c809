"""Records fixtures/oracle/timm.jsonl: what forward passes of timm's networks allocate, at sizes that no fit has seen.

    python -m tests.oracle.networks [ARCHITECTURE ...]

Needs `pip install timm torchvision`. Rows with `real` are passes with real tensors on a processor, in float32.
"""

from __future__ import annotations

import json
import sys
import warnings
from pathlib import Path
from typing import Any, Final

RECORDED: Final = Path(__file__).parents[2] / "fixtures" / "oracle" / "timm.jsonl"
TABLE: Final = Path(__file__).parents[2] / "hfmem" / "data" / "timm_images.jsonl"
_SMALL: Final = """
resnet18 resnet50 resnext50_32x4d seresnet50 convnext_atto convnext_tiny efficientnet_b0 tf_efficientnet_b0
mobilenetv2_100 mobilenetv3_large_100 mobilenetv4_conv_small vit_tiny_patch16_224 vit_small_patch16_224
deit_tiny_patch16_224 swin_tiny_patch4_window7_224 regnety_008 densenet121 vgg11 inception_v3 mixer_b16_224
fastvit_t8 repvgg_a2 resnet34 mobilevit_s ghostnet_100
"""

REAL: Final = frozenset(_SMALL.split())
"""Architectures that are small enough to be run on a processor."""


def rows() -> list[dict[str, Any]]:
    """The table."""
    return [json.loads(line) for line in TABLE.read_text(encoding="utf-8").splitlines()[1:]]


def sizes(row: dict[str, Any]) -> list[tuple[int, int, int]]:
    """Batch, height and width of passes: other ones than those of the fit."""
    (height, width), (tall, wide) = row["native"], row["unit"]
    if row.get("alone"):
        return [(1, height, width), (7, height, width)]
    if tall == 1:
        return [(1, 200, 333), (6, 240, 240)]
    steps, columns = height // tall, width // wide
    return [(1, (steps + 1) * tall, columns * wide), (6, (steps + 2) * tall, (columns + 3) * wide)]


def measure(row: dict[str, Any], batch: int, height: int, width: int, *, real: bool = False) -> dict[str, Any]:
    """Bytes of the highest moments of one pass above weights and images."""
    from hfmem.probe.timm.measuring import DTYPES, Subject
    from hfmem.probe.timm.recording import KINDS, Call

    call = Call(batch=batch, height=height, width=width)
    found = {"network": row["network"], "precision": row["precision"], "batch": batch}
    found |= {"height": height, "width": width}
    if real:
        return {**found, "real": True, "peak": _real(row, call, DTYPES["single"])}
    subject = Subject(name=row["network"], native=tuple(row["native"]), fixed=row["fixed"], patch=0)
    run = subject.run([call], row["precision"])[0]
    return {**found, **{kind: run.highest(kind) for kind in KINDS}}


def _real(row: dict[str, Any], call: Any, dtype: Any) -> int:
    """The highest moment with real tensors, as PyTorch's own operations allocate them."""
    import torch

    from hfmem.probe.activations.tracer import Tracer
    from hfmem.probe.timm.installed import timm

    size = {"img_size": (call.height, call.width)} if row["fixed"] else {}
    model = timm.create_model(row["network"], pretrained=False, **size).eval().to(dtype)
    tracer = Tracer()
    with torch.no_grad():
        images = torch.zeros(call.batch, 3, call.height, call.width, dtype=dtype)
        given = tracer.give([*model.parameters(), *model.buffers(), images])
        with tracer:
            out = model(images)
        del out
    live = highest = 0
    for allocated, number, _ in tracer.events:
        if number not in given:
            live += tracer.allocations[number].nbytes * (1 if allocated else -1)
            highest = max(highest, live)
    return highest


def main() -> int:
    """Record every row, or those of the architectures that are named."""
    warnings.simplefilter("ignore")
    lines = RECORDED.read_text(encoding="utf-8").splitlines()[1:] if RECORDED.exists() else []
    kept = [json.loads(line) for line in lines]
    for row in rows():
        name = row["network"]
        if (sys.argv[1:] and name not in sys.argv[1:]) or any(
            (one["network"], one["precision"]) == (name, row["precision"]) for one in kept
        ):
            continue
        calls = sizes(row)
        kept += [measure(row, *call) for call in (calls if row["precision"] == "half" else calls[-1:])]
        if name in REAL and row["precision"] == "single":
            kept.append(measure(row, *((2, *calls[0][1:])), real=True))
        print(name, row["precision"], flush=True)
        _write(kept)
    return 0


def _write(kept: list[dict[str, Any]]) -> None:
    source = json.loads(TABLE.read_text(encoding="utf-8").splitlines()[0])
    known = {(row["network"], row["precision"]) for row in rows()}
    kept = [row for row in kept if (row["network"], row["precision"]) in known]
    kept.sort(key=lambda row: (row["network"], row["precision"], "real" in row, row["batch"]))
    lines = [json.dumps(row, separators=(",", ":")) for row in (source, *kept)]
    RECORDED.write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
