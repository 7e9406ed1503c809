"""Files of `torch.save` and `torch.jit.save`, written by PyTorch (`python -m tests.oracle.pickles`), read as data."""

from __future__ import annotations

import builtins
import io
import json
import os
import pickle
import random
import struct
import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import hfmem
from hfmem.errors import InvalidFileError
from hfmem.fetcher.formats.pickled.format import FORMAT
from hfmem.fetcher.formats.pickled.opcodes import PickleError, load
from hfmem.fetcher.formats.pickled.reader import read as read_pickled
from hfmem.fetcher.formats.protocol import FileContents
from hfmem.fetcher.formats.reading import Piece, read_contents
from hfmem.fetcher.hub import connect
from hfmem.fetcher.sources import fetch
from hfmem.fetcher.values import Access, ModelRef
from hfmem.report.result import to_result
from tests.hub import Hub, Repo, json_file, virtual_file

# pickletools decodes the escapes of a name as Python does, and warns of unknown ones
pytestmark = pytest.mark.filterwarnings("ignore:invalid escape sequence:DeprecationWarning")

FOLDER = Path(__file__).parents[2] / "fixtures" / "pickles"
EXPECTED: dict[str, list[list[Any]]] = json.loads((FOLDER / "expected.json").read_text())["files"]


def contents(data: bytes, name: str = "x.pt", log: list[tuple[int, int]] | None = None) -> FileContents:
    """The contents of a file, fetched in ranges."""

    def fetch_(start: int, stop: int) -> Piece:
        if log is not None:
            log.append((start, stop))
        return Piece(content=data[start:stop], size=len(data))

    return read_contents(FORMAT, name, fetch_)


def strictly(data: bytes) -> FileContents:
    """As `contents`, but what cannot be read raises."""
    from dataclasses import replace

    return read_contents(
        replace(FORMAT, read=read_pickled, optional=False),
        "x.pt",
        lambda start, stop: Piece(content=data[start:stop], size=len(data)),
    )


@pytest.mark.parametrize("name", EXPECTED)
def test_the_tensors_are_those_that_pytorch_loads(name: str) -> None:
    found = contents((FOLDER / name).read_bytes(), name)
    rows = sorted([tensor.dtype, list(tensor.shape), tensor.nbytes] for tensor in found.tensors)
    assert rows == EXPECTED[name]
    assert (found.faults, found.unread) == ((), "")


@pytest.mark.parametrize("name", ["state.bin", "state-legacy.bin", "protocol-5.pt"])
def test_names_are_the_keys_of_the_state(name: str) -> None:
    found = contents((FOLDER / name).read_bytes())
    assert [tensor.name for tensor in found.tensors] == ["embed.weight", "norm.weight", "scalar"]


@pytest.mark.parametrize("name", ["checkpoint.ckpt", "checkpoint-legacy.pth", "module.pt", "script.pt", "traced.pt"])
def test_a_module_within_a_file_is_named_as_if_it_stood_alone(name: str) -> None:
    found = contents((FOLDER / name).read_bytes())
    assert {tensor.name for tensor in found.tensors} == {
        *("0.weight", "0.bias", "1.weight", "1.bias", "1.running_mean", "1.running_var", "1.num_batches_tracked")
    }


def test_optimizer_states_are_named_and_left_out(tmp_path: Path) -> None:
    # of each of four weights two moments and a step: (12 + 3 + 3 + 3) × 2 × 4 B, and 4 × 4 B
    states = {"tensors": 12, "bytes": 21 * 2 * 4 + 4 * 4}
    for name in ("checkpoint.ckpt", "optimizer.pt"):
        assert contents((FOLDER / name).read_bytes()).metadata["optimizer"] == states
    path = tmp_path / "run.ckpt"
    path.write_bytes((FOLDER / "checkpoint.ckpt").read_bytes())
    notes = " ".join(hfmem.inspect(str(path)).notes)
    assert "run.ckpt also has an optimizer's state (12 tensors, " in notes


def test_a_tied_tensor_counts_once_and_views_each(tmp_path: Path) -> None:
    (tmp_path / "odd.pt").write_bytes((FOLDER / "odd.pt").read_bytes())
    found = hfmem.inspect(str(tmp_path / "odd.pt"))
    names = [tensor.name for tensor in found.checkpoint.tensors]
    assert {"w", "view", "second view", "expanded"} <= set(names)
    assert not {"tied", "transposed", "parameter"} & set(names)


class _Malicious:
    """What runs a command when it is unpickled."""

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return os.system, ("touch /tmp/hfmem-was-called; exit 1",)


def test_nothing_in_a_file_is_called(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A real file with a call put into its pickle: read as data, with a warning that torch.load refuses it."""
    called: list[object] = []
    alone = _archived(pickle.dumps(_Malicious(), protocol=2))
    evil = pickle.dumps(_Malicious(), protocol=2)[2:-1]
    monkeypatch.setattr(os, "system", called.append)
    monkeypatch.setattr(builtins, "exec", lambda *words: called.append(words))
    path = tmp_path / "model.pt"
    path.write_bytes(_repacked((FOLDER / "state.bin").read_bytes(), lambda data: data[:2] + evil + b"0" + data[2:]))
    found = hfmem.inspect(str(path))
    assert len(found.checkpoint.tensors) == 3
    assert contents(alone).metadata["refused"] == [f"{os.name}.system"]
    assert called == []


def _archived(data: bytes, records: dict[str, int] | None = None, method: int = zipfile.ZIP_STORED) -> bytes:
    """An archive as `torch.save` writes it, with this pickle and storages of these bytes."""
    whole = io.BytesIO()
    with zipfile.ZipFile(whole, "w", method) as archive:
        archive.writestr("x/data.pkl", data)
        for name, size in (records or {}).items():
            archive.writestr(f"x/data/{name}", bytes(size))
        archive.writestr("x/version", b"3\n")
    return whole.getvalue()


def _repacked(data: bytes, change: Callable[[bytes], bytes], method: int = zipfile.ZIP_STORED) -> bytes:
    """An archive with another pickle."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        names = archive.namelist()
        pickled = next(name for name in names if name.endswith("data.pkl"))
        sizes = {name.rpartition("/")[2]: archive.getinfo(name).file_size for name in names if "/data/" in name}
        return _archived(change(archive.read(pickled)), sizes, method)


def test_a_packed_archive_is_read_too() -> None:
    packed = _repacked((FOLDER / "state.bin").read_bytes(), lambda data: data, zipfile.ZIP_DEFLATED)
    assert len(contents(packed).tensors) == 3


def test_a_pickle_that_unpacks_to_more_than_it_says_is_cut() -> None:
    data = bytearray(_archived(b"\x80\x02" + b"(" * 2**20, method=zipfile.ZIP_DEFLATED))
    assert contents(bytes(data)).unread


def test_an_archive_without_a_storage_is_told() -> None:
    whole = (FOLDER / "state.bin").read_bytes()
    with zipfile.ZipFile(io.BytesIO(whole)) as archive:
        pickled = archive.read(next(name for name in archive.namelist() if name.endswith("data.pkl")))
    assert "is missing" in contents(_archived(pickled)).faults[0]
    assert "larger than its data" in contents(_archived(pickled, {"0": 95, "1": 8, "2": 8})).faults[0]
    assert contents(_archived(pickled, {"0": 96, "1": 8, "2": 8})).faults == ()


def test_a_legacy_file_that_was_cut_is_told() -> None:
    whole = (FOLDER / "state-legacy.bin").read_bytes()
    assert contents(whole).faults == ()
    assert "has 729 bytes, but 730 by its header" in contents(whole[:-1]).faults[0]


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "is not a file of torch.save"),
        (b"\x06\x00\x00\x00 as CTranslate2 begins", "is not a file of torch.save"),
        (b"PK\x03\x04 cut", "no directory at its end"),
        (_archived(b"")[:-4], "no directory at its end"),
        (_archived(b"\x80\x02}"), "before seeing STOP"),
        (_archived(b"\x80\x02R."), "more from its stack than it has"),
    ],
)
def test_files_of_other_kinds_count_by_their_size(tmp_path: Path, data: bytes, words: str) -> None:
    path = tmp_path / "odd.pt"
    path.write_bytes(data)
    assert words in contents(data, "odd.pt").unread
    if data:
        report = hfmem.estimate(str(path))
        assert report.estimate.group("weights") == len(data)
        assert "odd.pt" in " ".join(report.notes)


def test_shared_parts_are_visited_once() -> None:
    """Forty tuples, each of two times the one before: 2^40 paths, and no work."""
    body = b"\x80\x02)" + b"".join(b"q%c2\x86" % number for number in range(40)) + b"."
    began = time.process_time()
    assert contents(_archived(body)).tensors == ()
    assert time.process_time() - began < 1


def test_a_number_of_many_digits_is_no_size() -> None:
    with pytest.raises(PickleError):
        load(b"I" + b"9" * 100_000 + b"\n.")


def mutated(whole: bytes, seed: int) -> bytes:
    """A file with some bytes changed, put in, taken out, or numbers made large."""
    draw = random.Random(seed)
    data = bytearray(whole)
    for _ in range(draw.choice((1, 1, 2, 4, 16))):
        at = draw.randrange(len(data)) if data else 0
        match draw.randrange(6):
            case 0 | 1 | 2:
                data[at : at + 1] = draw.randbytes(1)
            case 3:
                data[at : at + 8] = struct.pack("<Q", draw.choice((2**60, 2**31, 2**64 - 1, 0, 255)))
            case 4:
                del data[at : at + draw.randint(1, 64)]
            case _:
                data[at:at] = draw.randbytes(draw.randint(1, 16))
    return bytes(data)


def survives(count: int) -> tuple[int, float]:
    """Reads so many mutated files: how many gave contents (the others a sentence), and how long the longest took."""
    bases = [(FOLDER / name).read_bytes() for name in EXPECTED]
    bases += [_repacked(base, lambda data: data) for base in bases if base.startswith(b"PK")]
    whole, sentences, longest = 0, 0, 0.0
    for seed in range(count):
        data = mutated(bases[seed % len(bases)], seed)
        began = time.process_time()
        try:
            found = strictly(data)
            json.dumps(found.metadata, allow_nan=False)
            assert sum(tensor.nbytes for tensor in found.tensors) < 2**70
            whole += 1
        except InvalidFileError as error:
            sentences += "x.pt" in error.reason
        longest = max(longest, time.process_time() - began)
    assert whole + sentences == count
    return whole, longest


def test_mutated_files_give_contents_or_a_sentence() -> None:
    whole, longest = survives(2_000)
    assert 100 < whole < 1_900
    assert longest < 1


@pytest.mark.slow
def test_many_mutated_files() -> None:
    """`fixtures/pickles/mutations.json` keeps the record of the last run."""
    count = 50_000
    whole, longest = survives(count)
    assert longest < 1
    kept = json.loads((FOLDER / "mutations.json").read_text())
    assert (kept["files"], kept["other"]) == (count, 0)
    assert whole == pytest.approx(kept["contents"], rel=0.01), "other releases of Python read a few more opcodes"


CONFIG = {"model_type": "a type of nobody"}


def test_the_hub_is_asked_for_ranges_only(hub: Hub) -> None:
    """A repository of shards of 1 GB each, whose pickles are at their beginning and directories at their end."""
    connect()
    names = [f"pytorch_model-{number:05}-of-00003.bin" for number in (1, 2, 3)]
    data = (FOLDER / "state.bin").read_bytes()
    hub.put(Repo(id="org/bin", files=(json_file("config.json", CONFIG), *(virtual_file(name, data) for name in names))))
    found = fetch(ModelRef(model_id="org/bin"), Access())
    assert len(found.tensors) == 9
    assert len([request for request in hub.requests if ".bin" in request.path and request.status == 206]) == 3


@pytest.mark.parametrize("count", [900, 3_000])
def test_a_shard_takes_three_requests_and_a_megabyte(count: int) -> None:
    log: list[tuple[int, int]] = []
    found = contents(_large(count), log=log)
    assert len(found.tensors) == count
    assert len(log) <= 3
    assert sum(stop - start for start, stop in log) <= 2**20 + 10**5


def _large(count: int) -> bytes:
    """An archive of so many tensors of 4 KiB, as `torch.save` writes it."""
    body = b"\x80\x02}("
    for number in range(count):
        key = str(number).encode()
        name = b"model.layers.%d.mlp.up_proj.weight" % number
        body += b"X" + struct.pack("<I", len(name)) + name
        body += b"ctorch._utils\n_rebuild_tensor_v2\n(("
        body += b"X\x07\x00\x00\x00storagectorch\nHalfStorage\nX" + struct.pack("<I", len(key)) + key
        body += b"X\x03\x00\x00\x00cpuM\x00\x08tQK\x00M\x00\x08\x85K\x01\x85\x89ccollections\nOrderedDict\n)RtR"
    return _archived(body + b"u.", {str(number): 4096 for number in range(count)})


def test_a_model_of_pickles_is_exact(tmp_path: Path) -> None:
    """No configuration, no safetensors: names, parameters and dtypes from the pickle."""
    (tmp_path / "pytorch_model.bin").write_bytes(_large(3))
    (tmp_path / "config.json").write_text(json.dumps(CONFIG))
    result = to_result(hfmem.estimate(str(tmp_path)))
    assert result["parameters"]["total"] == 3 * 2048
    assert result["parameters"]["certainty"] == "exact"
    assert result["memory"]["weights"] == 2 * 3 * 2048
