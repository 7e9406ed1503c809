"""Writes `data/gguf_names.jsonl`: the names that gguf-py knows for the tensors of GGUF files.

PYTHONPATH=LLAMA_CPP/gguf-py python -m hfmem.probe.gguf_names     # or `pip install gguf`
"""

from __future__ import annotations

import json
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Final

from hfmem.mapper.gguf.conversion.dialects import DIALECTS

__all__ = ["lines", "main"]

_DATA: Final = Path(__file__).parents[1] / "data" / "gguf_names.jsonl"


def lines() -> list[dict[str, Any]]:
    """A row of each tensor, then of each architecture that models are converted to."""
    gguf: Any = import_module("gguf")
    names: Any = import_module("gguf.tensor_mapping").TensorNameMap
    known = {**names.mappings_cfg, **names.block_mappings_cfg}
    numbers = {word: kind for kind, word in gguf.MODEL_ARCH_NAMES.items()}
    wanted = sorted({dialect.architecture for dialect in DIALECTS.values()})
    tensors = {word: set(gguf.MODEL_TENSORS[numbers[word]]) for word in wanted}
    used = set().union(*tensors.values())
    rows: list[dict[str, Any]] = [
        {"kind": kind.name, "tensor": _blank(gguf.TENSOR_NAMES[kind]), "names": [_blank(name) for name in spellings]}
        for kind, spellings in known.items()
        if kind in used
    ]
    rows += [{"architecture": word, "kinds": [kind.name for kind in known if kind in tensors[word]]} for word in wanted]
    return rows


def _blank(name: str) -> str:
    return name.replace("{bid}", "{}")


def main() -> None:
    """Write the file."""
    try:
        release = version("gguf")
    except PackageNotFoundError:
        release = "of llama.cpp 0.5.0"
    head = {"source": f"gguf-py {release}, tensor_mapping.py and constants.py (MIT licence)"}
    text = "\n".join(json.dumps(row, separators=(",", ":")) for row in [head, *lines()])
    _DATA.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
