"""ONNX files: their initializers as the package `onnx` loads them, by few requests, and whatever bytes they have."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest

from hfmem.errors import InvalidFileError
from hfmem.fetcher.formats.onnx import FORMAT
from hfmem.fetcher.formats.protocol import FileContents
from hfmem.fetcher.formats.reading import Piece, read_contents

FOLDER = Path(__file__).parents[2] / "fixtures" / "onnx"
EXPECTED = json.loads((FOLDER / "expected.json").read_text(encoding="utf-8"))["files"]
MIB = 2**20


class Remote:
    """The bytes of a file, and how many requests were made for them."""

    def __init__(self, content: bytes) -> None:
        self.content, self.requests, self.read = content, 0, 0

    def __call__(self, start: int, stop: int) -> Piece:
        self.requests += 1
        self.read += stop - start
        return Piece(content=self.content[start:stop], size=len(self.content))


def contents(content: bytes, *, near: bool = False) -> FileContents:
    return read_contents(FORMAT, "model.onnx", Remote(content), near=near)


@pytest.mark.parametrize("name", sorted(EXPECTED))
def test_tensors_are_those_that_the_package_loads(name: str) -> None:
    remote = Remote((FOLDER / name).read_bytes())
    found = read_contents(FORMAT, name, remote)
    assert not found.unread
    assert not found.faults
    assert sorted([tensor.name, list(tensor.shape), tensor.nbytes] for tensor in found.tensors) == EXPECTED[name]
    assert remote.requests == 1


def test_bytes_in_another_file_are_those_of_the_shapes() -> None:
    found = contents((FOLDER / "outside.onnx").read_bytes())
    size = (FOLDER / "outside.onnx_data").stat().st_size
    assert found.metadata == {"external_data": {"outside.onnx_data": size}}


def number(value: int) -> bytes:
    """A variable-length number."""
    parts = []
    while value >= 0x80:
        parts.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*parts, value])


def sized(field: int, content: bytes) -> bytes:
    return number(field << 3 | 2) + number(len(content)) + content


def tensor(name: str, shape: tuple[int, ...], raw: int, type_: int = 1) -> bytes:
    dims = b"".join(number(1 << 3) + number(size) for size in shape)
    return sized(5, dims + number(2 << 3) + number(type_) + sized(8, name.encode()) + sized(9, bytes(raw)))


def model(*parts: bytes) -> bytes:
    return number(1 << 3) + number(9) + sized(7, b"".join(parts))


def test_bytes_of_weights_are_skipped() -> None:
    content = model(*(tensor(f"w{index}", (512, 1024), 2 * MIB) for index in range(20)), tensor("b", (4,), 16))
    remote = Remote(content)
    found = read_contents(FORMAT, "model.onnx", remote)
    assert [one.shape for one in found.tensors] == [(512, 1024)] * 20 + [(4,)]
    assert remote.requests <= len(content) // MIB
    assert remote.read < len(content) / 8


def test_a_file_with_many_of_them_counts_by_its_size() -> None:
    content = model(*(tensor(f"w{index}", (128, 1024), MIB // 2) for index in range(60)))
    remote = Remote(content)
    assert "larger" in read_contents(FORMAT, "model.onnx", remote).unread
    assert remote.requests <= FORMAT.most_requests
    assert len(contents(content, near=True).tensors) == 60, "on this machine, requests cost nothing"


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\x00" * 100,
        b"GGUF" + bytes(60),
        b"\xff" * 64,
        model(tensor("w", (2**40, 2**40), 4)),
        model(tensor("w", (4,), 4, type_=77)),
        sized(7, b"")[:1] + number(2**62),
        model(sized(1, sized(5, sized(6, sized(1, sized(5, sized(6, b"\x2a\xff\x01"))))))),
    ],
)
def test_other_bytes_are_no_tensors(content: bytes) -> None:
    found = contents(content)
    assert not found.tensors


def test_a_file_that_was_cut_is_at_fault() -> None:
    found = contents(model(tensor("w", (4, 4), 64))[:-20])
    assert found.faults == ("model.onnx has 61 bytes, but 81 by its header",)


def test_graphs_are_followed_to_a_depth() -> None:
    inner = b""
    for _ in range(40):
        inner = sized(1, sized(5, sized(6, inner)))
    assert "nested" in contents(sized(7, inner)).unread


def test_mutated_files_are_an_answer_or_a_sentence() -> None:
    chosen = random.Random(12)
    sources = [(FOLDER / name).read_bytes()[:2000] for name in sorted(EXPECTED)]
    answered = 0
    for _ in range(2000):
        content = bytearray(chosen.choice(sources))
        for _ in range(chosen.randint(1, 8)):
            content[chosen.randrange(len(content))] = chosen.randrange(256)
        try:
            found = contents(bytes(content[: chosen.choice((None, chosen.randrange(len(content))))]))
        except InvalidFileError:
            continue
        assert all(one.nbytes >= 0 for one in found.tensors)
        answered += not found.unread
    assert answered > 100
