"""The models among GGUF files: which files are one, which quantisation it is, which of several is meant."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from hfmem.fetcher.local import is_local, read
from hfmem.fetcher.quantisations import choices, choose, is_model
from hfmem.fetcher.selection import select
from hfmem.fetcher.sources import fetch
from hfmem.fetcher.values import Access, Checkpoint, FileInfo, ModelRef
from tests.fetcher.gguf_files import Array, Header, header
from tests.hub import Hub, Repo, json_file, virtual_file
from tests.hub.files import File

NAMES = (
    "Llama-3.1-8B-Instruct-F16-00002-of-00002.gguf",
    "Llama-3.1-8B-Instruct-F16-00001-of-00002.gguf",
    "Llama-3.1-8B-Instruct-IQ4_XS.gguf",
    "Llama-3.1-8B-Instruct-Q4_K_M.gguf",
    "Llama-3.1-8B-Instruct-Q4_K_S.gguf",
    "Llama-3.1-8B-Instruct-UD-Q4_K_XL.gguf",
    "Llama-3.1-8B-Instruct.Q8_0.gguf",
    "BF16/Llama-3.1-8B-Instruct-00001-of-00003.gguf",
    "BF16/Llama-3.1-8B-Instruct-00003-of-00003.gguf",
    "Llama-3.1-8B-Instruct-imatrix.gguf",
    "mmproj-model-f16.gguf",
    "mtp-Llama-3.1-8B.gguf",
    "config.json",
)
FILES = tuple(FileInfo(name=name, size=1000) for name in NAMES)


def test_models_of_a_repository() -> None:
    found = choices(FILES)
    assert [(choice.quant, len(choice.files), choice.missing, choice.size) for choice in found] == [
        ("BF16", 2, 1, 2000),
        ("F16", 2, 0, 2000),
        ("IQ4_XS", 1, 0, 1000),
        ("Q4_K_M", 1, 0, 1000),
        ("Q4_K_S", 1, 0, 1000),
        ("Q4_K_XL", 1, 0, 1000),
        ("Q8_0", 1, 0, 1000),
    ]
    assert [file.name for file in found[1].files] == [NAMES[1], NAMES[0]]


@pytest.mark.parametrize(
    ("quant", "name"),
    [
        ("Q4_K_M", "Llama-3.1-8B-Instruct-Q4_K_M"),
        ("q4_k_m", "Llama-3.1-8B-Instruct-Q4_K_M"),
        ("", "Llama-3.1-8B-Instruct-Q4_K_M"),
        ("Q8_0", "Llama-3.1-8B-Instruct.Q8_0"),
        ("bf16", "BF16/Llama-3.1-8B-Instruct"),
        ("f16", "Llama-3.1-8B-Instruct-F16"),
        ("UD-Q4_K_XL", "Llama-3.1-8B-Instruct-UD-Q4_K_XL"),
        ("llama-3.1-8b-instruct.q8_0.gguf", "Llama-3.1-8B-Instruct.Q8_0"),
        ("Q4_XS", None),
        ("Q3_K_M", None),
        (".*", None),
    ],
)
def test_the_quantisation_that_is_meant(quant: str, name: str | None) -> None:
    found = choose(choices(FILES), quant)
    assert (found.name if found else None) == name
    selection = select(FILES, quant)
    assert selection.layout == "gguf"
    assert selection.weights == (found.files if found else ())
    assert bool(selection.choices) == (found is None)
    assert select(FILES).choices == choices(FILES)
    assert select(FILES).weights == choices(FILES)[3].files


def test_the_default_is_what_llama_cpp_takes() -> None:
    for left_out, quant in (("Q4_K_M", "Q8_0"), ("Q8_0", "BF16")):
        files = tuple(file for file in FILES if "Q4_K_M" not in file.name and left_out not in file.name)
        found = choose(choices(files), "")
        assert found is not None
        assert found.quant == quant
    assert choose((), "") is None


def test_a_quantisation_is_asked_for_beside_other_weights() -> None:
    files = (*FILES, FileInfo(name="model.safetensors", size=1))
    assert select(files).layout == "single"
    assert select(files, "Q8_0").layout == "gguf"
    assert select(files[-1:], "Q8_0").layout == "none"


@pytest.mark.parametrize(
    ("name", "model"),
    [
        ("m.gguf", True),
        ("a/b/m-Q4_0.gguf", True),
        ("mmproj/m.gguf", True),
        ("mmproj-m.gguf", False),
        ("m.mmproj-F16.gguf", False),
        ("m-imatrix.gguf", False),
        ("eagle3-m.gguf", False),
        ("dflash-m.gguf", False),
        ("dspark-m.gguf", False),
        ("m-draft-Q8_0.gguf", False),
        ("drafting-Q8_0.gguf", True),
        ("m.safetensors", False),
    ],
)
def test_files_beside_a_model_are_none(name: str, model: bool) -> None:
    assert is_model(name) == model


KEYS = {
    "general.architecture": "llama",
    "llama.block_count": 1,
    "llama.embedding_length": 64,
    "llama.attention.head_count": 4,
}
FIRST = header(Header(KEYS, [("token_embd.weight", "Q4_0", (32, 64)), ("blk.0.attn_q.weight", "Q4_0", (64, 64))]))
SECOND = header(Header({"split.no": 1}, [("blk.0.attn_k.weight", "Q8_0", (64, 64))]))


def local(path: Path) -> Checkpoint:
    return read(ModelRef(model_id=str(path)))


@pytest.mark.parametrize("asked", ["m-00001-of-00002.gguf", "m-00002-of-00002.gguf", "."])
def test_shards_in_a_folder_are_one_model(tmp_path: Path, asked: str) -> None:
    (tmp_path / "m-00001-of-00002.gguf").write_bytes(FIRST)
    (tmp_path / "m-00002-of-00002.gguf").write_bytes(SECOND)
    assert is_local(str(tmp_path))
    found = local(tmp_path / asked)
    assert [tensor.name for tensor in found.tensors] == [
        "token_embd.weight",
        "blk.0.attn_q.weight",
        "blk.0.attn_k.weight",
    ]
    assert found.metadata["m-00001-of-00002.gguf"]["llama.block_count"] == 1
    assert found.missing == 0


def test_a_missing_shard_is_told(tmp_path: Path) -> None:
    (tmp_path / "m-00001-of-00003.gguf").write_bytes(FIRST)
    (tmp_path / "m-00003-of-00003.gguf").write_bytes(SECOND)
    for asked in ("m-00001-of-00003.gguf", "."):
        found = local(tmp_path / asked)
        assert found.missing == 1
        assert any("1 of 3 shards are not in the folder" in note for note in found.notes)


def test_one_of_several_files_of_a_folder_is_read_alone(tmp_path: Path) -> None:
    for quant in ("Q4_0", "Q8_0"):
        (tmp_path / f"m-{quant}.gguf").write_bytes(FIRST)
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "gpt2"}))
    assert len(local(tmp_path / "m-Q4_0.gguf").tensors) == 2
    assert local(tmp_path / "m-Q4_0.gguf").config is None
    assert [file.name for file in local(tmp_path).weight_files] == ["m-Q8_0.gguf"]


def files_of(*parts: tuple[str, bytes, int]) -> list[File]:
    return [virtual_file(name, head, size=size) for name, head, size in parts]


def large() -> bytes:
    """A header of the size of Llama-3.1-8B's, with its vocabulary."""
    tokens, merges = Array("string", ["Ġtok"] * 128_256), Array("string", ["Ġtok Ġenized"] * 280_147)
    keys = {**KEYS, "tokenizer.ggml.tokens": tokens, "tokenizer.ggml.merges": merges}
    return header(Header(keys, [("token_embd.weight", "Q4_K", (128_256, 4096))]))


def test_a_large_header_takes_three_requests_and_nine_megabytes(hub: Hub) -> None:
    """The listing, and the header in one piece, which is redirected: three in all."""
    head = large()
    assert 7_500_000 < len(head) < 8_000_000
    hub.put(Repo(id="org/m-GGUF", files=tuple(files_of(("m-Q4_K_M.gguf", head, 4_920_000_000)))))
    found = fetch(ModelRef(model_id="org/m-GGUF"), Access())
    assert [tensor.nbytes for tensor in found.tensors] == [128_256 * 4096 // 256 * 144]
    assert [path.split("/")[1] for path in hub.asked()] == ["api", "org", "repos"]
    assert sum(request.sent for request in hub.requests) < 9_000_000


def test_shards_and_a_configuration_on_the_hub(hub: Hub) -> None:
    parts = files_of(("m-00001-of-00002.gguf", FIRST, 10_000), ("m-00002-of-00002.gguf", SECOND, 10_000))
    config = json_file("config.json", {"model_type": "llama"})
    for name in ("org/m-gguf", "org/m"):
        hub.put(Repo(id=name, files=(config, *parts)))
        found = fetch(ModelRef(model_id=name), Access())
        assert len(found.tensors) == 3
        assert [file.name for file in found.weight_files] == [part.name for part in parts]


def test_what_was_read_is_kept(hub: Hub) -> None:
    hub.put(Repo(id="org/m-gguf", files=tuple(files_of(("m-Q4_0.gguf", FIRST, 10_000)))))
    first = fetch(ModelRef(model_id="org/m-gguf"), Access())
    again = fetch(ModelRef(model_id="org/m-gguf"), Access(offline=True))
    assert again.source == "cache"
    assert again.tensors == first.tensors
    assert again.metadata == first.metadata


def test_a_downloaded_file_answers_offline(hub: Hub) -> None:
    from huggingface_hub import hf_hub_download

    parts = files_of(("m-Q4_0.gguf", FIRST, 10_000), ("m-Q8_0.gguf", FIRST, 10_000))
    hub.put(Repo(id="org/m-gguf", files=tuple(parts)))
    hf_hub_download("org/m-gguf", "m-Q4_0.gguf")
    found = fetch(ModelRef(model_id="org/m-gguf"), Access(offline=True))
    assert (found.source, len(found.tensors)) == ("cache", 2)
