"""A file format is one value: what is registered here, in this module alone, is read wherever files are read."""

from __future__ import annotations

import contextlib
import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

import hfmem
from hfmem.__main__ import _run
from hfmem.errors import InvalidFileError, InvalidHeaderError, UnexpectedAnswerError
from hfmem.fetcher import hub as module
from hfmem.fetcher.formats import safetensors
from hfmem.fetcher.formats.protocol import FileContents, Format, Reading, Span
from hfmem.fetcher.formats.reading import Piece, read_contents
from hfmem.fetcher.formats.table import format_of, formats, is_weights, readable, register
from hfmem.fetcher.selection import select
from hfmem.fetcher.tensors import table_bytes
from hfmem.fetcher.values import FileInfo, TensorInfo
from tests.fetcher.test_hub import CONFIG
from tests.hub import Hub, Repo, ignored_range, json_file, virtual_file

MAGIC = b"KIST"
PARAMETERS = 10 * 8 + 2 * 8 * 8 + 2 * 16 * 8 + 10 * 8
SHAPES = {
    "model.embed_tokens.weight": (10, 8),
    "lm_head.weight": (10, 8),
    **{f"model.layers.{layer}.self_attn.q_proj.weight": (8, 8) for layer in (0, 1)},
    **{f"model.layers.{layer}.mlp.up_proj.weight": (16, 8) for layer in (0, 1)},
}


def read_kist(file: str) -> Reading:
    """Four bytes of magic, the data, the table as JSON, its length in eight bytes."""
    if (yield Span(start=0, stop=4)) != MAGIC:
        raise InvalidHeaderError("", f"{file} does not begin as a kist file")
    length = int.from_bytes((yield Span(start=-8, stop=None)), "little")
    if length > 10**6:
        raise InvalidHeaderError("", f"{file} says that its table is {length:,} bytes long")
    table: dict[str, Any] = json.loads((yield Span(start=-8 - length, stop=-8)))
    tensors = tuple(
        TensorInfo(name=name, dtype=table["dtype"], shape=tuple(shape), nbytes=nbytes, file=file)
        for name, (shape, nbytes) in table["tensors"].items()
    )
    return FileContents(tensors=tensors, metadata={"writer": table["writer"]})


KIST = Format(name="kist", suffixes=(".kist", ".kst"), read=read_kist, head=4, tail=64)


@pytest.fixture(scope="module", autouse=True)
def registered() -> None:
    register(KIST)


def kist(data: int = 0, dtype: str = "BF16", scale: int = 1) -> bytes:
    """A file with the tensors of the small model, `scale` times as wide, and so many bytes of data before its table."""
    sizes = {name: (rows, scale * width) for name, (rows, width) in SHAPES.items()}
    tensors = {name: (shape, table_bytes(dtype, shape)) for name, shape in sizes.items()}
    table = json.dumps({"tensors": tensors, "writer": "a test", "dtype": dtype}).encode()
    return MAGIC + bytes(data) + table + len(table).to_bytes(8, "little")


def repo(name: str = "org/kist", *, data: int = 0) -> Repo:
    weights = virtual_file("weights.kist", kist(data), lfs=True)
    return Repo(id=name, files=(json_file("config.json", CONFIG), weights))


def test_it_is_a_row_of_the_table() -> None:
    register(KIST)  # the same once more
    assert formats().count(KIST) == 1
    assert KIST in readable()
    assert format_of("folder/x.kst") is KIST
    assert format_of("model.safetensors") is safetensors.FORMAT
    assert format_of("x.kist.txt") is None


@pytest.mark.parametrize(
    "row", [replace(KIST, name="other"), replace(KIST, suffixes=(".new",)), replace(safetensors.FORMAT, head=1)]
)
def test_two_formats_cannot_share_a_name_or_a_suffix(row: Format) -> None:
    with pytest.raises(ValueError, match="has the same name or a suffix of"):
        register(row)


@pytest.mark.parametrize(
    ("name", "weights"), [("a.safetensors", True), ("a.onnx", True), ("a.gguf", True), ("a", False)]
)
def test_which_files_hold_weights(name: str, weights: bool) -> None:
    assert is_weights(name) is weights


def test_a_local_file(tmp_path: Path) -> None:
    path = tmp_path / "x.kist"
    path.write_bytes(kist())
    (tmp_path / "config.json").write_text(json.dumps(CONFIG))
    found = hfmem.inspect(str(path))
    assert {tensor.name: tensor.shape for tensor in found.checkpoint.tensors} == SHAPES
    assert (found.parameters.total, found.certainty, found.source) == (PARAMETERS, "exact", "kist headers")
    assert found.checkpoint.metadata == {"x.kist": {"writer": "a test"}}


def test_blocks_are_held_as_they_are_stored(tmp_path: Path) -> None:
    """144 bytes for 256 elements: the dtype of a block format goes the whole way, and is never cast."""
    (tmp_path / "x.kist").write_bytes(kist(dtype="Q4_K", scale=32))
    report = hfmem.estimate(str(tmp_path / "x.kist"), dtype="float16")
    assert report.parameters.total == 32 * PARAMETERS
    assert report.parameters.stored == {"Q4_K": 32 * PARAMETERS}
    assert report.estimate.group("weights") == 32 * PARAMETERS * 144 // 256
    assert not any("nknown dtype" in note for note in report.notes)


@pytest.mark.parametrize("config", [True, False])
def test_a_local_folder(tmp_path: Path, config: bool) -> None:
    (tmp_path / "weights.kst").write_bytes(kist())
    if config:
        (tmp_path / "config.json").write_text(json.dumps(CONFIG))
    report = hfmem.estimate(str(tmp_path), dtype="float32")
    assert report.parameters.total == PARAMETERS
    assert report.estimate.group("weights") == 4 * PARAMETERS


def test_it_stands_behind_every_form_that_loaders_prefer(tmp_path: Path) -> None:
    names = ("weights.kist", "weights.gguf", "pytorch_model.bin", "weights.safetensors")
    layouts = ("several", "gguf", "bin", "several")
    for count, (name, layout) in enumerate(zip(names, layouts, strict=True), start=1):
        selection = select([FileInfo(name=name, size=1) for name in names[:count]])
        assert (selection.layout, [file.name for file in selection.weights]) == (layout, [name])
    assert select([FileInfo(name=f"{letter}.kist", size=1) for letter in "ab"]).layout == "none"
    shards = [FileInfo(name=f"model-0000{number}-of-00002.kist", size=1) for number in (1, 2)]
    assert select(shards).weights == tuple(shards)


def test_the_hub_a_downloaded_snapshot_and_the_cache(hub: Hub) -> None:
    from huggingface_hub import snapshot_download

    hub.put(repo(data=500_000))
    first = hfmem.inspect("org/kist").checkpoint
    assert {tensor.name: tensor.shape for tensor in first.tensors} == SHAPES
    assert first.metadata == {"weights.kist": {"writer": "a test"}}
    assert [file.name for file in first.weight_files] == ["weights.kist"]
    assert sum(request.sent for request in hub.requests) < 10_000
    again = hfmem.inspect("org/kist", offline=True).checkpoint
    assert (again.source, again.tensors, again.metadata) == ("cache", first.tensors, first.metadata)
    snapshot_download("org/kist")
    snapshot = hfmem.inspect("org/kist", offline=True, use_cache=False).checkpoint
    assert (snapshot.commit, snapshot.tensors, snapshot.metadata) == (first.commit, first.tensors, first.metadata)


def test_the_hub_where_ranges_are_ignored(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    hub.put(repo(data=200_000))
    hub.fail("*weights.kist", ignored_range(), times=None, port="cdn")
    assert len(hfmem.inspect("org/kist", use_cache=False).checkpoint.tensors) == len(SHAPES)
    monkeypatch.setattr(module, "_LONGEST_WHOLE", 100_000)
    with pytest.raises(UnexpectedAnswerError, match="whole files"):
        hfmem.inspect("org/kist", use_cache=False)


def test_a_file_that_is_none_is_refused_on_either_road(hub: Hub, tmp_path: Path) -> None:
    (tmp_path / "x.kist").write_bytes(b"something else")
    broken = Repo(id="org/broken", files=(virtual_file("weights.kist", b"something else"),))
    hub.put(broken)
    for name in (str(tmp_path / "x.kist"), "org/broken"):
        with pytest.raises(InvalidHeaderError, match="does not begin as a kist file"):
            hfmem.inspect(name)


def test_the_command_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "x.kist").write_bytes(kist())
    (tmp_path / "config.json").write_text(json.dumps(CONFIG))
    monkeypatch.setattr(sys, "argv", ["hfmem", str(tmp_path / "x.kist"), "--format", "json", "--seq", "16"])
    assert _run() == 0
    (result,) = json.loads(capsys.readouterr().out)["results"]
    assert result["parameters"]["total"] == PARAMETERS
    assert result["memory"]["weights"] == 2 * PARAMETERS


# The driver: right bytes, each fetched once, and never more than a format may have


def whole(spans: list[Span]) -> Format:
    """A format that asks for some spans and keeps what it was sent, as metadata."""

    def read(_: str) -> Reading:
        sent = []
        for span in spans:
            sent.append((yield span))
        return FileContents(tensors=(), metadata={"sent": sent})

    return Format(name="probe", suffixes=(".probe",), read=read, head=8, tail=8)


offsets = st.integers(-80, 80)


@example(content=bytes(range(16)), asked=[(64, 80), (-10, 15)], told=False)  # behind the end before the end is known
@given(
    content=st.binary(max_size=60),
    asked=st.lists(st.tuples(offsets, st.none() | offsets), max_size=6),
    told=st.booleans(),
)
def test_every_span_is_the_slice_of_the_file_and_no_byte_is_fetched_twice(
    content: bytes, asked: list[tuple[int, int | None]], told: bool
) -> None:
    fetched: list[int] = []

    def fetch(start: int, stop: int) -> Piece:
        part = content[start:stop]
        fetched.extend(range(start, start + len(part)))
        return Piece(content=part, size=len(content) if told else None)

    listed = None if told else len(content)
    spans = [Span(start=start, stop=stop) for start, stop in asked]
    contents = read_contents(whole(spans), "x.probe", fetch, listed)
    assert contents.metadata["sent"] == [content[start:stop] for start, stop in asked]
    assert len(fetched) == len(set(fetched))


def zeros(start: int, stop: int) -> Piece:
    return Piece(content=bytes(stop - start))


@pytest.mark.parametrize(
    "spans",
    [
        [Span(start=8, stop=2**60)],
        [Span(start=16 * number, stop=16 * number + 1) for number in range(1, 100)],
    ],
    ids=["one that is too long", "too many"],
)
def test_a_file_cannot_ask_for_more_than_any_header_has(spans: list[Span]) -> None:
    with pytest.raises(InvalidFileError, match="has a header larger than"):
        read_contents(replace(whole(spans), tail=0), "x.probe", zeros)


def test_a_tail_needs_a_length() -> None:
    with pytest.raises(InvalidFileError, match=r"the size of x\.probe is unknown"):
        read_contents(whole([]), "x.probe", zeros)


@given(st.binary(max_size=300))
def test_any_bytes_are_read_or_refused(content: bytes) -> None:
    """safetensors through the driver: what a folder and the Hub do with a file that somebody wrote."""
    with contextlib.suppress(InvalidHeaderError):
        read_contents(safetensors.FORMAT, "x", lambda start, stop: Piece(content=content[start:stop]))
