"""Writes `data/attention.jsonl`: the attention implementations that classes of the installed `transformers` support.

    python -m hfmem.probe.attention

A class without `sdpa` uses `eager` unless an implementation is requested; a class without `flash_attention` rejects it;
a class that lists kernels uses the first one available for the device.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import transformers
from transformers.models.auto.modeling_auto import MODEL_FOR_PRETRAINING_MAPPING_NAMES, MODEL_MAPPING_NAMES

from hfmem.probe import tiny

__all__ = ["classes"]

TARGET = Path(__file__).parent.parent / "data" / "attention.jsonl"


def main() -> None:
    """Write the table: a line of provenance, then one line per model type that lacks an implementation."""
    lines = [
        json.dumps({"source": f"transformers {transformers.__version__}", "tool": "python -m hfmem.probe.attention"})
    ]
    for model_type, name in sorted(classes().items()):
        model_class = getattr(transformers, name, None)
        if hasattr(model_class, "_supports_sdpa") and (row := _row(model_class)):
            lines.append(json.dumps({"type": model_type, "class": name, **row}, separators=(",", ":")))
    TARGET.write_text("\n".join(lines) + "\n")
    print(f"{len(lines) - 1} types, {TARGET.stat().st_size:,} bytes")


def classes() -> dict[str, str]:
    """The class of each type: the one for text generation, otherwise the first available."""
    found: dict[str, str] = {}
    for names in (MODEL_FOR_PRETRAINING_MAPPING_NAMES, MODEL_MAPPING_NAMES, *reversed(tiny.GROUPS.values())):
        found |= {model_type: _first(name) for model_type, name in names.items()}
    return found


def _first(name: str | tuple[str, ...]) -> str:
    return name if isinstance(name, str) else name[0]


def _row(model_class: Any) -> Mapping[str, Any]:
    """The implementations that a class lacks, and the kernels that it lists; empty for a class that lacks none."""
    lacks = [
        word
        for word, attribute in (("sdpa", "_supports_sdpa"), ("flash", "_supports_flash_attn"))
        if not getattr(model_class, attribute)
    ]
    kernels = model_class._compatible_flash_implementations
    return ({"lacks": lacks} if lacks else {}) | ({"kernels": kernels} if kernels else {})


if __name__ == "__main__":
    main()
