"""Repositories and folders of one real model in many quantisations: true headers, and holes where the data would be."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import cache
from math import prod
from pathlib import Path

from hfmem.dtypes import stored_dtype
from tests.fetcher.gguf_files import Array, Header, header
from tests.hub import Repo, virtual_file
from tests.hub.files import File
from tests.mapper.gguf_models import MODELS, model

__all__ = ["FILE", "QUANTS", "data_of", "file_of", "folder", "head_of", "name_of", "repository", "stored"]

FILE = "Llama-3.1-8B-Instruct.Q4_K_M.gguf"
QUANTS: Mapping[str, str] = {
    **{name: name for name in ("F32", "F16", "BF16", "Q8_0", "Q6_K", "Q5_0", "Q5_1", "Q4_0", "Q4_1", "MXFP4")},
    **{f"Q5_K_{size}": "Q5_K" for size in "SM"},
    **{f"Q4_K_{size}": "Q4_K" for size in "SML"},
    **{f"Q3_K_{size}": "Q3_K" for size in "SML"},
    **{f"Q2_K{size}": "Q2_K" for size in ("", "_S")},
    **{name: name for name in ("IQ4_XS", "IQ4_NL", "IQ3_XXS", "IQ2_XS", "TQ1_0")},
}
"""25 quantisations, and the format of their matrices."""

_TOKENS = 128_256  # with merges, the header of the real model is 7,840,928 bytes long


def _tensors(quant: str) -> list[tuple[str, str, tuple[int, ...]]]:
    """Q4_K_M as it is; of the others, all matrices in one format."""
    own = [(tensor.name, tensor.dtype, tensor.shape) for tensor in model(FILE).tensors]
    if quant == "Q4_K_M":
        return own
    return [(name, dtype if len(shape) < 2 else QUANTS[quant], shape) for name, dtype, shape in own]


@cache
def head_of(quant: str, vocabulary: int = _TOKENS) -> bytes:
    """The header of a quantisation."""
    keys = {key: item for key, item in MODELS[FILE]["kv"].items() if isinstance(item, int | float | str)}
    words = {"tokenizer.ggml.tokens": Array("string", [f"token-{number:020}" for number in range(vocabulary)])}
    return header(Header({**keys, **words}, _tensors(quant)))


@cache
def data_of(quant: str) -> int:
    """Bytes of its tensors, each rounded up to 32."""
    sizes = (stored(dtype, shape) for _, dtype, shape in _tensors(quant))
    return sum(-(-size // 32) * 32 for size in sizes)


def stored(dtype: str, shape: tuple[int, ...]) -> int:
    """Bytes of a tensor."""
    row = stored_dtype(dtype)
    assert row is not None
    return row.nbytes(prod(shape))


def name_of(quant: str) -> str:
    """The name of its file."""
    return f"Llama-3.1-8B-Instruct-{quant}.gguf"


def file_of(quant: str, vocabulary: int = _TOKENS) -> File:
    """Its file."""
    head = head_of(quant, vocabulary)
    return virtual_file(name_of(quant), head, size=len(head) + data_of(quant))


def repository(quants: Iterable[str] = QUANTS, *, vocabulary: int = _TOKENS, name: str = "org/m-GGUF") -> Repo:
    """A repository of some quantisations."""
    return Repo(id=name, files=tuple(file_of(quant, vocabulary) for quant in quants))


def folder(path: Path, quants: Iterable[str]) -> Path:
    """A folder of some quantisations."""
    for quant in quants:
        head = head_of(quant, 100)
        with (path / name_of(quant)).open("wb") as out:
            out.write(head)
            out.truncate(len(head) + data_of(quant))
    return path
