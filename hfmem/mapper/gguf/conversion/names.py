"""Names of tensors in GGUF files, from those in checkpoints of transformers.

`data/gguf_names.jsonl` has the names that gguf-py knows for each tensor, and the tensors of each architecture; it is
written by `python -m hfmem.probe.gguf_names`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from functools import cache
from typing import Final

from hfmem.data import text as data_text

__all__ = ["gguf_name"]

_NUMBER: Final = re.compile(r"(?:^|(?<=\.))(\d{1,6})(?=\.|$)")
_SUFFIXES: Final = (".weight", ".bias", ".scale")


def gguf_name(architecture: str, name: str) -> str | None:
    """The name of a tensor in files of an architecture; None where it has no such tensor.

    Args:
        architecture: llama.cpp's word.
        name: in the checkpoint; the first number in it is the layer's.
    """
    match = _NUMBER.search(name)
    alike = f"{name[: match.start()]}{{}}{name[match.end() :]}" if match else name
    for suffix in ("", *_SUFFIXES):
        if alike.endswith(suffix):
            found = _names(architecture).get(alike.removesuffix(suffix) if suffix else alike)
            if found is not None:
                return (found.replace("{}", match[1]) if match else found) + suffix
    return None


@cache
def _names(architecture: str) -> Mapping[str, str]:
    """Names in files by names in checkpoints; of two tensors with the same name the later counts (`TensorNameMap`)."""
    own, kinds = _table()
    return {
        spelling: tensor
        for kind, tensor, names in kinds
        if kind in own.get(architecture, ())
        for spelling in (tensor, *names)
    }


@cache
def _table() -> tuple[Mapping[str, frozenset[str]], tuple[tuple[str, str, tuple[str, ...]], ...]]:
    """The kinds of tensors of each architecture; and each kind with its name in files and those in checkpoints."""
    own: dict[str, frozenset[str]] = {}
    kinds: list[tuple[str, str, tuple[str, ...]]] = []
    for line in data_text("gguf_names.jsonl").splitlines()[1:]:
        row = json.loads(line)
        if "architecture" in row:
            own[row["architecture"]] = frozenset(row["kinds"])
        else:
            kinds.append((row["kind"], row["tensor"], tuple(row["names"])))
    return own, tuple(kinds)
