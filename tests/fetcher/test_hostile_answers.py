"""Answers that no Hub gives: refusals with other bodies, impossible numbers and names, lists that fill the memory."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import hfmem
from hfmem.errors import (
    AccessDeniedError,
    HubUnreachableError,
    InvalidFileError,
    InvalidHeaderError,
    RateLimitedError,
    UnexpectedAnswerError,
)
from hfmem.fetcher import http
from hfmem.fetcher.catalog import model_ids
from hfmem.fetcher.formats.safetensors import parse_header
from hfmem.fetcher.selection import select
from hfmem.fetcher.values import FileInfo
from tests.fetcher.test_hostile_files import weights
from tests.fetcher.test_hub import CONFIG, large, read, small
from tests.hub import Hub, status, virtual_file
from tests.hub.faults import Fault
from tests.hub.responses import json_response

INFO = "/api/models/org/small"
BODIES = [
    b"[]",
    b"5",
    b'{"errors":5}',
    b'{"errors":[5]}',
    b'{"error":{"a":1}}',
    b"[[" * 30_000,
    b'{"error":1' + b"0" * 5000 + b"}",
    b"\xff\xfe\x00",
]


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http, "pause", lambda abandoned, _: abandoned.is_set())


def answer(code: int, body: bytes = b"{}", *headers: tuple[str, str]) -> Fault:
    return Fault(kind="answer", response=json_response(code, body, *headers))


def listing(files: list[dict[str, Any]], **more: Any) -> Fault:
    return answer(200, json.dumps({"id": "org/small", "sha": small().sha, "siblings": files, **more}).encode())


@pytest.mark.parametrize("body", BODIES, ids=lambda body: str(body[:12]))
def test_the_status_decides_whatever_a_refusal_says(hub: Hub, body: bytes) -> None:
    hub.put(small())
    hub.fail(INFO, answer(403, body), times=1)
    with pytest.raises(AccessDeniedError):
        read("org/small")
    hub.fail(INFO, answer(500, body), times=None)
    with pytest.raises(HubUnreachableError):
        read("org/small", use_cache=False)


@pytest.mark.parametrize("body", BODIES, ids=lambda body: str(body[:12]))
def test_a_server_error_with_an_odd_body_is_tried_again(hub: Hub, body: bytes) -> None:
    hub.put(small())
    hub.fail(INFO, answer(500, body), times=1)
    assert read("org/small").config == CONFIG


@pytest.mark.parametrize("body", BODIES, ids=lambda body: str(body[:12]))
def test_a_404_with_an_odd_body_is_no_file(hub: Hub, body: bytes) -> None:
    hub.put(small())
    hub.fail("*/resolve/*config.json", answer(404, body), times=None)
    found = read("org/small")
    assert found.config is None
    assert found.tensors


def test_a_refusal_with_an_odd_body_is_answered_from_the_catalog(hub: Hub) -> None:
    name = model_ids()[0]
    hub.fail(f"/api/models/{name}", answer(403, b"[]"), times=None)
    assert read(name).source == "catalog"


@pytest.mark.parametrize("seconds", ["9" * 5000, "9" * 30])
def test_a_quota_of_an_impossible_wait_is_not_believed(hub: Hub, seconds: str) -> None:
    hub.put(small())
    hub.fail(INFO, answer(429, b"{}", ("RateLimit", f'"api";r=0;t={seconds}')), times=None)
    with pytest.raises(RateLimitedError) as caught:
        read("org/small")
    assert caught.value.seconds is None


def test_names_that_cannot_be_asked_for_are_left_out(hub: Hub) -> None:
    hub.put(small())
    names = ["\ud800.safetensors", "x" * 5000 + ".safetensors", "config.json"]
    hub.fail(INFO, listing([{"rfilename": name, "size": 100} for name in names]), times=None)
    assert [file.name for file in read("org/small").files] == ["config.json"]


@pytest.mark.parametrize("digits", [18, 5000])
def test_shards_of_impossible_numbers_are_no_shards(digits: int) -> None:
    name = f"model-00001-of-{'9' * digits}.safetensors"
    assert select([FileInfo(name=name, size=5)]).layout == "several"


def test_impossible_sizes_are_not_told(hub: Hub) -> None:
    hub.put(small())
    files = [{"rfilename": "config.json", "size": -5}, {"rfilename": "pytorch_model.bin", "size": 10**400}]
    hub.fail(INFO, listing(files, safetensors={"parameters": {"BF16": 10**400}}), times=None)
    hub.fail("*model.safetensors", status(404), times=None)
    found = read("org/small")
    assert [file.size for file in found.files] == [None, None]
    assert found.totals is None


def test_a_listed_file_that_needs_a_login_is_no_missing_model(hub: Hub) -> None:
    hub.put(small())
    hub.fail("*/resolve/*config.json", status(401), times=None)
    with pytest.raises(AccessDeniedError, match="its files need a token or an accepted licence"):
        read("org/small")


LISTS = b'{"siblings":[],"a":[' + b"[]," * 5_000_000 + b"[]]}"


def test_json_of_nothing_but_lists_is_not_parsed(hub: Hub) -> None:
    hub.put(small())
    hub.fail("*/resolve/*config.json", answer(200, LISTS), times=1)
    found = read("org/small", use_cache=False)
    assert found.config is None
    assert any("more than 1,000,000 lists and objects" in note for note in found.notes)
    hub.fail(INFO, answer(200, LISTS), times=1)
    with pytest.raises(UnexpectedAnswerError, match="more than 1,000,000 lists and objects"):
        read("org/small", use_cache=False)
    with pytest.raises(InvalidHeaderError, match="too many lists and objects"):
        parse_header(LISTS, "x")


def test_a_configuration_of_the_hub_may_be_as_long_as_one_of_a_folder(hub: Hub) -> None:
    hub.put(small())
    hub.fail("*/resolve/*config.json", answer(200, json.dumps(CONFIG).encode() + b" " * 2**24), times=1)
    found = read("org/small")
    assert found.config is None
    assert "config.json exceeds the limit of 16 MiB; the weights are counted without it." in found.notes


def test_a_listing_of_many_files_is_read(hub: Hub) -> None:
    hub.put(small())
    files = [{"rfilename": f"d/f{i}.txt", "size": 1, "blobId": "0" * 40, "lfs": {"size": 1}} for i in range(100_000)]
    hub.fail(INFO, listing([*files, {"rfilename": "model.safetensors", "size": 1_616}]), times=None)
    assert len(read("org/small").files) == 100_001


def test_all_answers_of_a_model_have_an_end(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    hub.put(large())
    hub.site.sharded_endpoint = False
    monkeypatch.setattr(http, "_MOST_BYTES", 5_000)
    with pytest.raises(InvalidFileError, match="its headers take more than"):
        read("org/large")


def test_long_words_of_a_weight_file_are_not_kept() -> None:
    header = {"__metadata__": {"format": "pt", "log": "x" * 10_000, "a": [1], **{f"k{i}": "v" for i in range(1000)}}}
    metadata = parse_header(json.dumps(header).encode(), "x").metadata
    assert metadata["format"] == "pt"
    assert "log" not in metadata
    assert "a" not in metadata
    assert len(metadata) == 64


def shards(folder: Path, names: dict[int, str]) -> None:
    for number, name in names.items():
        row = {name: {"dtype": "BF16", "shape": [4], "data_offsets": [0, 8]}}
        header = json.dumps(row).encode()
        content = len(header).to_bytes(8, "little") + header + bytes(8)
        (folder / f"model-0000{number}-of-0000{len(names)}.safetensors").write_bytes(content)


def index(folder: Path, names: dict[str, int], count: int) -> None:
    weight_map = {name: f"model-0000{number}-of-0000{count}.safetensors" for name, number in names.items()}
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))


def test_a_tensor_in_two_shards_counts_once(tmp_path: Path, hub: Hub) -> None:
    shards(tmp_path, {1: "a", 2: "a"})
    index(tmp_path, {"a": 1, "x": 2}, 2)
    files = [virtual_file(path.name, path.read_bytes(), lfs=True) for path in tmp_path.iterdir()]
    hub.put(small().without("model.safetensors").put(*files))
    for name in (str(tmp_path), "org/small", "org/small"):
        found = hfmem.inspect(name)
        assert (found.parameters.total, found.certainty) == (4, "derived")
        (note,) = [note for note in found.notes if "do not agree" in note]
        assert "1 tensor is stored twice ('a' in model-00001-of-00002.safetensors and model-00002" in note
        assert ("the index names 1 tensor that no shard contains ('x')" in note) == (name == str(tmp_path))


def test_shards_that_agree_with_their_index_are_exact(tmp_path: Path) -> None:
    shards(tmp_path, {1: "a", 2: "b"})
    index(tmp_path, {"a": 1, "b": 2}, 2)
    found = hfmem.inspect(str(tmp_path))
    assert (found.parameters.total, found.certainty, found.checkpoint.doubts) == (8, "exact", ())


def test_an_empty_weight_file_beside_a_configuration_is_told(tmp_path: Path, hub: Hub) -> None:
    empty = (2).to_bytes(8, "little") + b"{}"
    (tmp_path / "config.json").write_text(json.dumps(CONFIG))
    path = tmp_path / "model.safetensors"
    path.write_bytes(empty)
    hub.put(small().put(virtual_file(path.name, empty, lfs=True)))
    for name in (str(tmp_path), str(path), "org/small", "org/small"):
        found = hfmem.inspect(name)
        words = "model.safetensors contains no tensors, so it is not counted."
        assert (found.certainty, words in found.notes) == ("derived", True)
    path.write_bytes(weights())
    assert not any("contains no tensors" in note for note in hfmem.inspect(str(tmp_path)).notes)


def test_shards_of_nothing_but_lists_take_little_memory(tmp_path: Path) -> None:
    """Three headers of 24 MB, of empty lists in their own words."""
    for number in (1, 2, 3):
        row = b'"w%d":{"dtype":"BF16","shape":[10],"data_offsets":[0,20]}' % number
        header = b'{"__metadata__":{"a":[' + b"[]," * 8_000_000 + b"[]]}," + row + b"}"
        content = len(header).to_bytes(8, "little") + header + bytes(20)
        (tmp_path / f"model-0000{number}-of-00003.safetensors").write_bytes(content)
    line = (
        "import resource,sys; from hfmem.__main__ import main; resource.setrlimit(resource.RLIMIT_AS, (2**30, 2**30));"
    )
    command = [sys.executable, "-c", f"{line} sys.argv[1:] = [{str(tmp_path)!r}, '--offline']; main()"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert "too many lists and objects" in done.stdout + done.stderr
    assert "Traceback" not in done.stderr
