"""Weights that the classes of transformers do not load: what the files are, and what loads them."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from hfmem.fetcher.values import FileInfo

__all__ = ["Foreign", "foreign", "is_foreign"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Foreign:
    """Files of one kind.

    Attributes:
        name: of the kind.
        loader: what loads them.
        files: of the repository, those with weights.
    """

    name: str
    loader: str
    files: tuple[FileInfo, ...]

    @property
    def nbytes(self) -> int | None:
        """Bytes of all of them; None where the listing does not tell."""
        sizes = [file.size for file in self.files]
        return None if None in sizes else sum(size for size in sizes if size is not None)


# The first kind that a path matches is its kind. transformers 5 has no Flax and no TensorFlow classes any more
# (MIGRATION_GUIDE_V5.md of its repository); GGUF it loads only by name (`gguf_file=`), and unpacks.
_KINDS: Final = (
    ("GGUF", r"\.gguf$", "llama.cpp"),
    ("ONNX", r"\.onnx(_data(_\d+)?|\.data)?$", "ONNX Runtime"),
    ("OpenVINO", r"(^|/)openvino[^/]*\.bin$", "OpenVINO"),
    ("Flax", r"\.msgpack(\.index)?$", "transformers up to 4"),
    ("TensorFlow", r"(\.h5|(^|/)saved_model\.pb|\.tflite|\.ckpt\.data-[^/]*)$", "transformers up to 4"),
    ("Rust", r"(^|/)rust_model\.ot$", "rust-bert"),
    ("Core ML", r"(\.mlmodel|\.mlpackage/.*weight[^/]*\.bin)$", "Core ML"),
    ("CTranslate2", r"(^|/)model\.bin$", "CTranslate2"),
    ("NeMo", r"\.nemo$", "NeMo"),
    ("NumPy", r"\.npz$", "NumPy"),
    ("pickled", r"(\.pt|\.pth|\.ckpt|\.pkl|\.pickle|\.joblib|\.bin)$", "the program that wrote them"),
)

# Beside weights, and none: training states, vocabularies, and what inference does not read.
_OTHERWISE: Final = re.compile(
    r"(^|/)(training_args|optimizer|scheduler|scaler|rng_state[^/]*|sentencepiece\.bpe|spiece|vocab[^/]*)\.[a-z]+$"
)


def is_foreign(filename: str) -> bool:
    """Whether a file holds such weights, by its name."""
    return bool(_kind(filename))


def _kind(filename: str) -> str:
    if _OTHERWISE.search(filename):
        return ""
    return next((name for name, pattern, _ in _KINDS if re.search(pattern, filename)), "")


def foreign(files: Iterable[FileInfo]) -> tuple[Foreign, ...]:
    """The files with such weights, by kind."""
    found: dict[str, list[FileInfo]] = {}
    for file in files:
        if kind := _kind(file.name):
            found.setdefault(kind, []).append(file)
    return tuple(
        Foreign(name=name, loader=loader, files=tuple(found[name])) for name, _, loader in _KINDS if name in found
    )
