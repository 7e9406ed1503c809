"""Weights that the classes of transformers do not load: told by kind and size, never answered as if they were."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

import hfmem
from hfmem.errors import InvalidHeaderError
from hfmem.fetcher.foreign import foreign
from hfmem.fetcher.values import FileInfo
from hfmem.report.result import to_result
from tests.command import run
from tests.fetcher.gguf_files import Header, header

CONFIG = (Path(__file__).parents[2] / "fixtures" / "HuggingFaceTB--SmolLM2-135M-Instruct" / "config.json").read_text()


def folder(path: Path, files: dict[str, int], *, config: bool = True) -> str:
    """A folder with files of so many bytes."""
    for name, size in files.items():
        file = path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        with file.open("wb") as opened:
            opened.truncate(size)
    if config:
        (path / "config.json").write_text(CONFIG)
    return str(path)


def told(path: str, **asked: Any) -> dict[str, Any]:
    """The answer as JSON."""
    return to_result(hfmem.estimate(path, **asked))


@pytest.mark.parametrize(
    ("files", "words"),
    [
        ({"onnx/model.onnx": 2**29, "onnx/model_q4.onnx": 2**27}, "ONNX weights for ONNX Runtime (2 files, 0.62 GiB"),
        ({"model.onnx": 2**20, "model.onnx_data": 2**30}, "ONNX weights for ONNX Runtime (2 files, 1.00 GiB"),
        ({"openvino_model.bin": 2**28, "openvino_model.xml": 9}, "OpenVINO weights for OpenVINO (1 file"),
        ({"flax_model.msgpack": 2**28}, "Flax weights for transformers up to 4 (1 file"),
        ({"tf_model.h5": 2**28}, "TensorFlow weights for transformers up to 4 (1 file"),
        ({"model.bin": 2**28}, "CTranslate2 weights for CTranslate2 (1 file"),
        ({"x.nemo": 2**28}, "NeMo weights for NeMo (1 file"),
        ({"consolidated.00.pth": 2**28}, "pickled weights for the program that wrote them (1 file"),
    ],
)
def test_files_beside_a_configuration_are_told_and_refused(tmp_path: Path, files: dict[str, int], words: str) -> None:
    result = told(folder(tmp_path, files), gpu="RTX 4090")
    notes = " ".join(result["notes"])
    assert words in notes
    assert "and not of these files" in notes
    assert "the class loads none of the files here" in result["parameters"]["source"]
    (fit,) = result["fit"]
    assert fit["fits"] is False
    assert "it loads none of the files here" in fit["refused"]


def test_a_server_finds_none_either(tmp_path: Path) -> None:
    result = told(folder(tmp_path, {"model.onnx": 2**28}), gpu="RTX 4090", runtime="vllm")
    assert result["serving"]["command"] is None
    assert "none of the files here" in result["serving"]["refused"]


def test_several_files_of_gguf_beside_a_configuration_are_what_is_there(tmp_path: Path) -> None:
    path = folder(tmp_path, {"m-Q4_K_M.gguf": 2**28, "m-Q8_0.gguf": 2**29})
    with pytest.raises(InvalidHeaderError, match=r"m-Q4_K_M\.gguf is no GGUF"):
        told(path)
    head = header(Header({"general.architecture": "llama"}, [("a", "Q4_0", (4, 32))]))
    for name in ("m-Q4_K_M.gguf", "m-Q8_0.gguf"):
        (tmp_path / name).write_bytes(head)
    result = told(path)
    assert [choice["file"] for choice in result["choices"]] == ["m-Q4_K_M.gguf", "m-Q8_0.gguf"]
    assert result["memory"]["weights"] == 72


def test_torch_weights_beside_them_win(tmp_path: Path) -> None:
    save_file({"model.embed_tokens.weight": np.zeros((49152, 576), np.float16)}, tmp_path / "model.safetensors")
    result = told(folder(tmp_path, {"onnx/model.onnx": 2**28}), gpu="RTX 4090")
    assert result["fit"][0]["refused"] in (None, "")
    assert "ONNX" not in " ".join(result["notes"])


def test_a_configuration_alone_is_what_its_class_would_be(tmp_path: Path) -> None:
    result = told(folder(tmp_path, {}), gpu="RTX 4090")
    assert result["fit"][0]["fits"] is True


def test_a_file_alone_is_taken_by_its_size(tmp_path: Path) -> None:
    result = told(folder(tmp_path, {"model.onnx": 2**28}, config=False))
    assert result["memory"]["weights"] == 2**28
    assert result["total_is_lower_bound"] is True


def test_of_a_repository_of_which_nothing_is_known_no_total_is_printed(tmp_path: Path) -> None:
    path = folder(tmp_path, {"a.onnx": 2**28, "b.onnx": 2**27}, config=False)
    assert told(path)["memory"]["total"] is None
    for format_ in ("table", "quiet"):
        done = run(path, "--format", format_)
        assert done.returncode == 1
        assert "GiB" not in done.stdout
        assert "ONNX weights for ONNX Runtime" in done.stderr


def test_an_adapter_beside_a_configuration_is_a_lower_bound(tmp_path: Path) -> None:
    (tmp_path / "adapter_config.json").write_text(json.dumps({"base_model_name_or_path": "org/base", "r": 8}))
    matrix = {"model.layers.0.self_attn.q_proj.lora_A.weight": np.zeros((8, 576), np.float32)}
    save_file(matrix, tmp_path / "adapter_model.safetensors")
    result = told(folder(tmp_path, {}), gpu="RTX 4090")
    assert result["memory"]["weights"] == 4 * 8 * 576, "as the file has it, not cast"
    assert result["total_is_lower_bound"] is True
    assert result["fit"][0]["fits"] is None
    assert "base model is also needed" in " ".join(result["notes"])


def test_what_is_no_model_is_left_out() -> None:
    names = ("training_args.bin", "optimizer.pt", "scheduler.pt", "rng_state_0.pth", "vocab.bin", "spiece.model")
    assert foreign([FileInfo(name=name, size=1) for name in names]) == ()
