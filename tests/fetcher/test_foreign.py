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
    models = [name for name in files if name.endswith((".onnx", ".bin", ".msgpack", ".h5", ".nemo", ".pth"))]
    sizes = sum(size for name, size in files.items() if not name.endswith(".xml"))
    assert result["memory"]["weights"] == (sizes if len(models) == 1 else None), "the files' own sizes"
    assert result["total_is_lower_bound"] is True
    assert result["kv_cache_per_token"] is None, "config.json is of another class"
    (fit,) = result["fit"]
    assert fit["fits"] is False
    assert "it loads none of the files here" in fit["refused"]


@pytest.mark.parametrize("config", [True, False])
def test_of_several_models_one_is_named(tmp_path: Path, config: bool) -> None:
    path = folder(
        tmp_path, {"onnx/model.onnx": 2**20, "onnx/model.onnx_data": 2**29, "onnx/q4.onnx": 2**27}, config=config
    )
    done = run(path)
    assert done.returncode == 1
    assert "count one with --file onnx/model.onnx: onnx/model.onnx 0.00098 GiB" in done.stderr
    assert told(path, file="onnx/q4.onnx")["memory"]["weights"] == 2**27
    assert told(path, file="q4.onnx")["memory"]["weights"] == 2**27
    result = told(path, file="onnx/model.onnx")
    assert result["memory"]["weights"] == 2**20 + 2**29, "with its external data"
    assert "Counted is onnx/model.onnx alone" in " ".join(result["notes"])
    assert "None of its files is 'x.onnx'" in run(path, "--file", "x.onnx").stderr


def matrices(path: Path, *names: str) -> str:
    for name in names:
        file = path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        save_file({"w": np.zeros((4, len(name)), np.float32)}, file)
    return str(path)


def test_files_in_folders_are_listed_and_one_is_picked(tmp_path: Path) -> None:
    first, second = "split_files/diffusion_models/a.safetensors", "split_files/vae/b.safetensors"
    path = matrices(tmp_path, first, second)
    done = run(path)
    assert done.returncode == 1
    assert "It has 2 weight files" in done.stderr
    assert second in done.stderr
    assert told(path, file="b.safetensors")["parameters"]["total"] == 4 * len(second)


def test_the_only_file_in_a_folder_is_the_model(tmp_path: Path) -> None:
    path = matrices(tmp_path, "split_files/vae/b.safetensors")
    assert told(path)["parameters"]["total"] == 4 * len("split_files/vae/b.safetensors")


def test_several_files_with_names_of_their_own(tmp_path: Path) -> None:
    path = matrices(tmp_path, "a.safetensors", "other.safetensors")
    assert "one with --file a.safetensors" in run(path).stderr
    assert told(path, file="other.safetensors")["parameters"]["total"] == 4 * len("other.safetensors")


def test_another_file_of_a_model_takes_its_place(tmp_path: Path) -> None:
    path = matrices(tmp_path, "model.safetensors", "model.fp16.safetensors")
    (tmp_path / "config.json").write_text(CONFIG)
    result = told(path, file="model.fp16.safetensors")
    assert result["parameters"]["total"] == 4 * len("model.fp16.safetensors")
    assert result["kv_cache_per_token"], "config.json describes it as well"


def test_shards_belong_together(tmp_path: Path) -> None:
    names = [f"fp32/model-0000{number}-of-00002.safetensors" for number in (1, 2)]
    path = matrices(tmp_path, "model.safetensors", *names)
    assert told(path, file=names[0])["download"]["files"] == 0
    assert told(path, file=names[0])["memory"]["weights"] == 2 * 4 * 4 * len(names[0])


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
        assert "It has 2 weight files; count one with --file a.onnx" in done.stderr


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
