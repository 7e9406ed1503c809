"""Weight files that transformers' classes do not load, by framework."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final, NamedTuple

from hfmem.fetcher.values import FileInfo

__all__ = ["Foreign", "foreign", "is_foreign", "is_pickled"]


class Foreign(NamedTuple):
    """Files of one framework.

    Attributes:
        name: name of the format.
        loader: software that loads them.
        files: the weight files of this format in the repository.
    """

    name: str
    loader: str
    files: tuple[FileInfo, ...]

    @property
    def nbytes(self) -> int | None:
        """Bytes of all files; None if the listing has no sizes."""
        sizes = [file.size for file in self.files]
        return None if None in sizes else sum(size for size in sizes if size is not None)


# The first pattern that matches a path wins. transformers 5 has removed its Flax and TensorFlow classes
# (MIGRATION_GUIDE_V5.md in its repository); it loads GGUF only with `gguf_file=`, and dequantises it.
_KINDS: Final = (
    ("GGUF", r"\.gguf$", "llama.cpp"),
    ("ONNX", r"\.onnx(_data(_\d+)?|\.data)?$", "ONNX Runtime"),
    ("OpenVINO", r"(^|/)openvino[^/]*\.bin$", "OpenVINO"),
    ("Flax", r"\.msgpack(\.index)?$", "transformers up to 4"),
    ("SavedModel", r"(^|/)(saved_model\.pb|variables/variables\.data-\d+-of-\d+)$", "TensorFlow"),
    ("TensorFlow", r"(\.h5|\.ckpt\.data-[^/]*)$", "transformers up to 4"),
    ("Keras", r"\.keras$", "Keras"),
    ("LiteRT", r"\.(tflite|litertlm|task)$", "LiteRT"),
    ("Rust", r"(^|/)rust_model\.ot$", "rust-bert"),
    ("Core ML", r"(\.mlmodel|\.mlpackage/.*weight[^/]*\.bin)$", "Core ML"),
    ("CTranslate2", r"(^|/)model\.bin$", "CTranslate2"),
    ("NeMo", r"\.nemo$", "NeMo"),
    ("TensorRT", r"\.(engine|plan|trt)$", "TensorRT"),
    ("PaddlePaddle", r"\.(pdparams|pdiparams)$", "PaddlePaddle"),
    ("MLC", r"(^|/)params_shard_\d+\.bin$", "MLC LLM"),
    ("GGML", r"(^|/)ggml-[^/]*\.bin$", "whisper.cpp"),
    ("llamafile", r"\.llamafile$", "llamafile"),
    ("ExecuTorch", r"\.pte$", "ExecuTorch"),
    ("Qualcomm", r"\.dlc$", "Qualcomm's SNPE and QNN"),
    ("RKLLM", r"\.rkllm$", "Rockchip's RKLLM"),
    ("spaCy", r"-py3-none-any\.whl$", "spaCy"),
    ("NumPy", r"\.npz$", "NumPy"),
    ("pickled", r"(\.pt|\.pth|\.ckpt|\.pkl|\.pickle|\.joblib|\.bin)$", "the program that wrote them"),
)

_VARIABLES: Final = re.compile(r"variables/variables\.data-\d+-of-\d+$")

# Files that are not weights: training states, vocabularies, and others that inference does not read.
_OTHERWISE: Final = re.compile(
    r"(^|/)(training_args|optimizer|scheduler|scaler|rng_state[^/]*|sentencepiece\.bpe|spiece|vocab[^/]*)\.[a-z]+$"
)


def is_foreign(filename: str) -> bool:
    """Whether a file has such weights, judged by its name."""
    return bool(_kind(filename))


def is_pickled(filename: str) -> bool:
    """Whether a file is a pickle of PyTorch, judged by its name: `.bin` has many meanings."""
    return _kind(filename) == "pickled"


def _kind(filename: str) -> str:
    if _OTHERWISE.search(filename):
        return ""
    return next((name for name, pattern, _ in _KINDS if re.search(pattern, filename)), "")


def foreign(files: Iterable[FileInfo]) -> tuple[Foreign, ...]:
    """The files with such weights, by framework."""
    found: dict[str, list[FileInfo]] = {}
    named = list(files)
    # a graph has no weights if its variables have them
    graphs = {_VARIABLES.sub("saved_model.pb", file.name) for file in named if _VARIABLES.search(file.name)}
    for file in named:
        if (kind := _kind(file.name)) and file.name not in graphs:
            found.setdefault(kind, []).append(file)
    return tuple(
        Foreign(name=name, loader=loader, files=tuple(found[name])) for name, _, loader in _KINDS if name in found
    )
