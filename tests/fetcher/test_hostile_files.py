"""Files that are too long, that are none, or contradict themselves: told, and never read whole; here and on the Hub."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from safetensors import SafetensorError, safe_open

import hfmem
from hfmem.errors import HfmemError, InvalidConfigError
from hfmem.fetcher.files import read_bytes
from hfmem.fetcher.sources import fetch
from hfmem.fetcher.values import Access, ModelRef
from tests.command import run
from tests.fetcher.test_hub import CONFIG, small
from tests.hub import Hub, virtual_file

ROWS = {
    name: {"dtype": "BF16", "shape": [4], "data_offsets": [start, start + 8]} for name, start in [("a", 0), ("b", 8)]
}


def weights(change: dict[str, Any] | None = None, data: int = 16) -> bytes:
    """A file of two tensors of eight bytes each, or what `change` makes of its header."""
    header = json.dumps(ROWS | (change or {})).encode()
    return len(header).to_bytes(8, "little") + header + bytes(data)


BROKEN = {
    "an overlap": (weights({"b": ROWS["b"] | {"data_offsets": [4, 12]}}, 12), "'b' begins inside 'a'"),
    "the same bytes": (weights({"b": ROWS["a"]}, 8), "'b' begins inside 'a'"),
    "a hole": (weights({"b": ROWS["b"] | {"data_offsets": [12, 20]}}, 20), "4 bytes before 'b'"),
    "a hole at the beginning": (
        weights({"a": ROWS["a"] | {"data_offsets": [4, 12]}, "b": ROWS["b"] | {"data_offsets": [12, 20]}}, 20),
        "4 bytes before 'a'",
    ),
    "data cut off": (weights(data=9), "by its header"),
    "no data at all": (weights(data=0), "by its header"),
    "data behind the last tensor": (weights(data=17), "by its header"),
    "more bytes than dtype x shape": (
        weights({"b": ROWS["b"] | {"data_offsets": [8, 20]}}, 20),
        "have 12 bytes where shape × dtype is 8",
    ),
    "fewer bytes than dtype x shape": (
        weights({"b": ROWS["b"] | {"shape": [400]}}),
        "have 8 bytes where shape × dtype is 800",
    ),
}


@pytest.mark.parametrize("what", BROKEN)
def test_the_library_refuses_them(what: str, tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    path.write_bytes(BROKEN[what][0])
    with pytest.raises(SafetensorError), safe_open(path, "np") as file:
        file.keys()


@pytest.mark.parametrize("what", BROKEN)
@pytest.mark.parametrize("place", ["file", "folder", "hub", "cache"])
def test_a_file_that_contradicts_itself_is_not_exact(what: str, place: str, tmp_path: Path, hub: Hub) -> None:
    content, words = BROKEN[what]
    path = tmp_path / "model.safetensors"
    path.write_bytes(content)
    name = {"file": str(path), "folder": str(tmp_path)}.get(place, "org/small")
    hub.put(small().put(virtual_file("model.safetensors", content, lfs=True)))
    found = hfmem.inspect(name)
    if place == "cache":
        found = hfmem.inspect(name, offline=True)
        assert found.checkpoint.source == "cache"
    assert found.certainty == "derived"
    assert any(words in note for note in found.notes)


def test_whole_files_are_exact(tmp_path: Path, hub: Hub) -> None:
    empty = {"c": {"dtype": "BF16", "shape": [0], "data_offsets": [8, 8]}, "__metadata__": {"format": "pt"}}
    for content in (weights(), weights(empty)):
        path = tmp_path / "model.safetensors"
        path.write_bytes(content)
        hub.put(small().put(virtual_file("model.safetensors", content, lfs=True)))
        with safe_open(path, "np") as file:
            assert "a" in file.keys()  # noqa: SIM118 - no mapping
        for name in (str(path), str(tmp_path), "org/small"):
            found = hfmem.inspect(name, use_cache=False)
            assert (found.certainty, found.checkpoint.faults) == ("exact", ())


def test_a_note_names_one_and_counts_the_others(tmp_path: Path) -> None:
    for number in (1, 2, 3):
        (tmp_path / f"model-0000{number}-of-00003.safetensors").write_bytes(weights({"a": ROWS["a"]}, 3 * number))
    (note,) = [note for note in hfmem.inspect(str(tmp_path)).notes if "truncated or corrupt" in note]
    assert "model-00001-of-00003.safetensors has" in note
    assert "and 2 more" in note


@pytest.mark.parametrize("name", ["config.json", "model.safetensors.index.json", "quantize_config.json"])
def test_a_long_json_file_is_not_read(tmp_path: Path, name: str) -> None:
    """Two gigabytes, and the process may have little more memory than it has."""
    (tmp_path / "config.json").write_text(json.dumps(CONFIG))
    with (tmp_path / name).open("wb") as file:
        file.write(b'{"a": "')
        file.truncate(2 * 2**30)
    with pytest.raises(InvalidConfigError, match=f"{name} is 2.00 GiB long"):
        fetch(ModelRef(model_id=str(tmp_path)), Access(offline=True))
    command = [sys.executable, "-m", "hfmem", str(tmp_path), "--offline"]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        told = process.stderr.read()
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    assert (process.returncode, "Traceback" in told) == (1, False)
    assert used.ru_maxrss < 2**20  # KiB: a gigabyte


def test_weights_are_counted_beside_a_long_config(tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").write_bytes(weights())
    with (tmp_path / "config.json").open("wb") as file:
        file.truncate(2**26)
    found = hfmem.inspect(str(tmp_path))
    assert found.parameters.total == 8
    assert any("config.json is 0.06 GiB long" in note for note in found.notes)


def make(kind: str, path: Path) -> socket.socket | None:
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "device":
        path.symlink_to("/dev/zero")
    elif kind == "folder":
        path.mkdir()
    else:
        server = socket.socket(socket.AF_UNIX)
        server.bind(str(path))
        return server
    return None


@pytest.mark.parametrize("kind", ["pipe", "device", "socket", "folder"])
def test_what_is_no_file_is_refused_at_once(kind: str, tmp_path: Path) -> None:
    kept = make(kind, tmp_path / "x")
    with pytest.raises(OSError):  # noqa: PT011 - sockets cannot even be opened
        read_bytes(tmp_path / "x", 100)
    if kept:
        kept.close()


@pytest.mark.parametrize("kind", ["pipe", "device", "folder"])
@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "model.safetensors.index.json"])
def test_a_model_of_what_is_no_file(kind: str, name: str, tmp_path: Path) -> None:
    make(kind, tmp_path / name)
    with pytest.raises(HfmemError):
        fetch(ModelRef(model_id=f"{tmp_path}/"), Access(offline=True))
    with pytest.raises(HfmemError):
        fetch(ModelRef(model_id=str(tmp_path / name)), Access(offline=True))


@pytest.mark.parametrize("kind", ["pipe", "device", "folder"])
def test_what_is_left_out_is_named(kind: str, tmp_path: Path) -> None:
    make(kind, tmp_path / "config.json")
    (tmp_path / "model.safetensors").write_bytes(weights())
    (tmp_path / "old.safetensors").symlink_to("nothing")
    found = fetch(ModelRef(model_id=str(tmp_path)), Access(offline=True))
    assert (found.config, len(found.tensors)) == (None, 2)
    assert found.notes == ("config.json, old.safetensors are not readable files, and are ignored.",)


def test_a_file_that_grows_is_read_to_its_limit(tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.write_bytes(bytes(100))
    assert len(read_bytes(path, 100)) == 100
    with pytest.raises(OSError, match="longer than"):
        read_bytes(path, 99)


LONG: dict[str, tuple[dict[str, Any] | None, dict[str, Any] | None]] = {
    "the name of a tensor": (None, {"n" * 9_000_000: ROWS["a"]}),
    "the name of a broken tensor": (None, {"n" * 60_000: {"dtype": "BF16", "shape": [-1], "data_offsets": [0, 8]}}),
    "a dtype that is a list": (None, {"a": {"dtype": list(range(500_000)), "shape": [1], "data_offsets": [0, 2]}}),
    "an unknown dtype": (CONFIG, {"a": {"dtype": "Z" * 100_000, "shape": [4], "data_offsets": [0, 8]}}),
    "a quantiser": (CONFIG | {"quantization_config": {"quant_method": "u" * 100_000}}, None),
    "a quantiser that is a mapping": (CONFIG | {"quantization_config": {"quant_method": {"a b": "x y " * 9999}}}, None),
    "a type": (CONFIG | {"model_type": "m" * 1_000_000}, None),
    "classes": (CONFIG | {"architectures": [f"A{i}" for i in range(100_000)]}, None),
    "a size that is a list": (CONFIG | {"hidden_size": list(range(200_000))}, None),
    "a size that is a text": (CONFIG | {"hidden_size": "z" * 1_000_000}, None),
}


@pytest.mark.parametrize("what", LONG)
def test_no_answer_is_as_long_as_a_name(what: str, tmp_path: Path) -> None:
    config, header = LONG[what]
    if config is not None:
        (tmp_path / "config.json").write_text(json.dumps(config))
    if header is not None:
        text = json.dumps(header).encode()
        (tmp_path / "model.safetensors").write_bytes(len(text).to_bytes(8, "little") + text + bytes(8))
    for more in ([], ["--format", "json"]):
        done = run(str(tmp_path), "--offline", *more)
        assert 0 < len(done.stdout + done.stderr) < 10_000
