"""Folders and files on this machine, written as the real safetensors library writes them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from hfmem.errors import InvalidConfigError, InvalidHeaderError, ModelNotFoundError
from hfmem.fetcher.sources import fetch
from hfmem.fetcher.values import Access, Checkpoint, ModelRef
from hfmem.report.errors import explain

CONFIG = {"model_type": "llama", "hidden_size": 4}


def write(path: Path, names: dict[str, list[int]]) -> None:
    """A real file of float16 tensors."""
    save_file({name: np.zeros(shape, np.float16) for name, shape in names.items()}, path)


def read(path: Path) -> Checkpoint:
    return fetch(ModelRef(model_id=str(path)), Access(offline=True))


def test_a_folder_with_one_file(tmp_path: Path) -> None:
    write(tmp_path / "model.safetensors", {"a.weight": [4, 4], "b": []})
    (tmp_path / "config.json").write_text(json.dumps(CONFIG))
    found = read(tmp_path)
    assert (found.source, found.commit, found.config) == ("local", None, CONFIG)
    assert {tensor.name: (tensor.shape, tensor.nbytes) for tensor in found.tensors} == {
        "a.weight": ((4, 4), 32),
        "b": ((), 2),
    }


def test_a_sharded_folder_and_a_missing_shard(tmp_path: Path) -> None:
    shards = ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"]
    write(tmp_path / shards[0], {"a": [4]})
    write(tmp_path / shards[1], {"b": [4]})
    index = {"metadata": {"total_size": 0}, "weight_map": {"a": shards[0], "b": shards[1], "ghost": shards[1]}}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
    assert [tensor.name for tensor in read(tmp_path).tensors] == ["a", "b"]
    (tmp_path / shards[1]).unlink()
    found = read(tmp_path)
    assert [tensor.name for tensor in found.tensors] == ["a"]
    assert "1 of 2 shards" in found.notes[0]


def test_an_index_cannot_name_files_elsewhere(tmp_path: Path) -> None:
    index = {"weight_map": {"a": "../../etc/passwd.safetensors"}}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(InvalidConfigError, match="same folder"):
        read(tmp_path)


def test_a_folder_with_a_config_alone(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps(CONFIG))
    found = read(tmp_path)
    assert (found.config, found.tensors) == (CONFIG, ())


def test_one_file_with_the_config_beside_it(tmp_path: Path) -> None:
    write(tmp_path / "weights.safetensors", {"a": [4]})
    assert read(tmp_path / "weights.safetensors").config is None
    (tmp_path / "config.json").write_text(json.dumps(CONFIG))
    found = read(tmp_path / "weights.safetensors")
    assert found.config == CONFIG
    assert "next to" in found.notes[0]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "0 bytes long"),
        (b"\x00" * 8, "header of 0 bytes"),
        ((1).to_bytes(8, "little") + b"{", "header of 1 bytes"),
        ((25_000_001).to_bytes(8, "little"), "25,000,001"),
        ((100).to_bytes(8, "little") + b"{}", "ends inside its header"),
        ((2).to_bytes(8, "little") + b"[]", "not a JSON object"),
    ],
)
def test_broken_files_are_refused_with_a_sentence(tmp_path: Path, content: bytes, words: str) -> None:
    (tmp_path / "model.safetensors").write_bytes(content)
    with pytest.raises(InvalidHeaderError, match=words):
        read(tmp_path)


@pytest.mark.parametrize("text", ["", "[1]", "{", "nonsense", "\x00"])
def test_a_broken_config_is_refused_with_a_sentence(tmp_path: Path, text: str) -> None:
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(InvalidConfigError, match=r"config\.json is not"):
        read(tmp_path)


@pytest.mark.parametrize(
    ("text", "where"),
    [
        ('{"model_type": "llama", "hidden_size":', "config.json is not JSON: expecting value at its end"),
        ('{"a": 1,\n  "b": tru}', "config.json is not JSON: expecting value in line 2, column 8"),
        ('\n\n {"a" 1}', "config.json is not JSON: expecting ':' delimiter in line 3, column 7"),
        (" ", "config.json is not JSON: it is empty"),
        ("[1]", "config.json is not a JSON object"),
    ],
)
def test_a_broken_config_of_a_folder_is_to_be_corrected_there(tmp_path: Path, text: str, where: str) -> None:
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(InvalidConfigError) as refused:
        read(tmp_path)
    problem = explain(refused.value)
    assert f"({where})" in problem.message
    assert problem.hint == f"Correct the file in {tmp_path}."


def test_a_broken_file_of_weights_is_to_be_replaced_there(tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").write_bytes(b"abc")
    for path in (tmp_path, tmp_path / "model.safetensors"):
        with pytest.raises(InvalidHeaderError) as refused:
            read(path)
        assert explain(refused.value).hint == f"Replace the file in {tmp_path}."


def test_odd_configs_that_are_read(tmp_path: Path) -> None:
    for text in ('{"a": NaN, "b": Infinity}', '{"a": 1}{"a": 2}', '\ufeff{"a": 1}'):
        (tmp_path / "config.json").write_text(text, encoding="utf-8")
        assert "a" in read(tmp_path).config


@pytest.mark.parametrize(
    ("name", "words"), [("/etc/hostname", "neither .safetensors"), ("/etc", "neither config.json")]
)
def test_paths_that_hold_no_model(name: str, words: str) -> None:
    with pytest.raises(ModelNotFoundError, match=words):
        fetch(ModelRef(model_id=name), Access(offline=True))


@pytest.mark.parametrize("name", ["./nowhere", "../up", "/nowhere/model", "~/nowhere", "models\\mine"])
def test_paths_that_are_not_there(name: str) -> None:
    with pytest.raises(ModelNotFoundError, match="there is no such folder or file"):
        fetch(ModelRef(model_id=name), Access(offline=True))


@pytest.mark.parametrize("name", ["a/b/c", "org/na me", "", "a" * 300])
def test_words_that_are_neither_path_nor_id(name: str) -> None:
    with pytest.raises(ModelNotFoundError, match="neither" if name else "the name is empty"):
        fetch(ModelRef(model_id=name), Access(offline=True))


def test_a_comma_between_ids_is_a_space_that_was_meant() -> None:
    with pytest.raises(ModelNotFoundError) as caught:
        fetch(ModelRef(model_id="org/a,org/b"), Access(offline=True))
    assert "For several models, leave a space between them: org/a org/b." in explain(caught.value).hint


def test_a_path_wins_over_a_hub_id_and_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "openai-community" / "gpt2"
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(CONFIG))
    monkeypatch.chdir(tmp_path)
    found = fetch(ModelRef(model_id="openai-community/gpt2"), Access(offline=True))
    assert found.source == "local"
    assert any("path on this machine" in note for note in found.notes)


def test_a_weight_file_is_no_hub_id(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "folder").mkdir()
    save_file({"w": np.zeros((2, 2), np.float16)}, tmp_path / "folder" / "m.safetensors")
    monkeypatch.chdir(tmp_path)
    found = fetch(ModelRef(model_id="folder/m.safetensors"), Access(offline=True))
    assert not any("path on this machine" in str(note) for note in found.notes)


def test_a_quantisation_in_a_file_of_its_own(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps(CONFIG))
    (tmp_path / "hf_quant_config.json").write_text('{"quantization": {"quant_algo": "FP8"}}')
    assert read(tmp_path).quantisation == {"quantization": {"quant_algo": "FP8"}}
