"""What a GGUF answers, from the command line and Python: exact weights, and why the rest is not known."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import hfmem
from tests.command import run
from tests.fetcher.gguf_files import Header, header
from tests.hub import Hub, Repo, virtual_file
from tests.mapper.gguf_models import MODELS, model


def made(folder: Path, file: str) -> Path:
    """The file of a real model: its header, and a hole where the data would be."""
    row, tensors = MODELS[file], model(file).tensors
    keys = {key: item for key, item in row["kv"].items() if isinstance(item, int | float | str)}
    head = header(Header(keys, [(tensor.name, tensor.dtype, tensor.shape) for tensor in tensors]))
    path = folder / file
    with path.open("wb") as out:
        out.write(head)
        out.truncate(len(head) + sum(tensor.nbytes for tensor in tensors) + 4096)
    return path


@pytest.mark.parametrize("file", ["Llama-3.1-8B-Instruct.Q4_K_M.gguf", "DeepSeek-V2-Lite.Q4_K_M.gguf"])
def test_a_file_is_estimated_for_llama_cpp(tmp_path: Path, file: str) -> None:
    done = run(str(made(tmp_path, file)), "-ngl", "0", "--format", "json")
    assert (done.returncode, done.stderr) == (0, "")
    (result,) = json.loads(done.stdout)["results"]
    assert result["scenario"]["runtime"] == "llamacpp"
    assert result["memory"]["weights"] == MODELS[file]["loaded"]
    assert None not in result["memory"].values()
    assert (result["total_is_lower_bound"], result["host"]["total"]) == (False, result["memory"]["total"])
    assert result["parameters"]["certainty"] == "exact"
    assert result["parameters"]["source"] == "GGUF headers"
    assert result["scenario"]["dtype"] is None
    terms = [term for term in result["terms"] if term["group"] == "weights"]
    assert {term["certainty"] for term in terms} == {"exact"}


@pytest.mark.parametrize("options", [{"dtype": "bfloat16"}, {"dtype": "int8"}, {"runtime": "vllm"}, {"gpus": 2}])
def test_other_engines_keep_the_weights_as_they_are_stored(tmp_path: Path, options: dict[str, object]) -> None:
    file = "Qwen2.5-0.5B.Q4_K_M.gguf"
    report = hfmem.estimate(str(made(tmp_path, file)), **{"runtime": "transformers"} | options)
    if "gpus" not in options:
        assert report.estimate.group("weights") == MODELS[file]["loaded"]
    assert {group for group, _ in report.estimate.unknown} >= {"kv_cache", "activations"}


def test_a_card_that_is_too_small_for_the_weights(tmp_path: Path) -> None:
    report = hfmem.estimate(str(made(tmp_path, "Mixtral-8x7B-v0.1.F16.gguf")), gpu=("RTX 4090", "B200"))
    assert [fit.fits for fit in report.fits] == [False, True]


def test_a_quantisation_of_a_repository_is_chosen_behind_its_name(hub: Hub, hub_env: dict[str, str]) -> None:
    heads = {
        quant: header(Header({"general.architecture": "llama"}, [("a", quant, (4, 32))])) for quant in ("Q4_0", "Q8_0")
    }
    files = [virtual_file(f"m-{quant}.gguf", head, size=2**30) for quant, head in heads.items()]
    hub.put(Repo(id="org/m", files=(virtual_file("model.safetensors", b"", size=0), *files)))
    for _ in range(2):  # from the Hub, and from the cache
        for asked, nbytes in (("org/m:q4_0", 72), ("org/m:Q8_0", 136), ("org/m:m-Q4_0.gguf", 72)):
            done = run(asked, "--format", "json", env=hub_env)
            assert done.returncode == 0
            (result,) = json.loads(done.stdout)["results"]
            assert result["memory"]["weights"] == nbytes
            assert not any("no effect" in note for note in result["notes"])
    done = run("org/m:Q3_K_M", "--format", "json", env=hub_env)
    assert done.returncode == 1
    assert "None of them is 'Q3_K_M'. It holds 2 models in GGUF files" in done.stdout


def test_a_broken_file_is_a_sentence(tmp_path: Path) -> None:
    path = tmp_path / "m.gguf"
    path.write_bytes(b"GGUF" + bytes(96))
    done = run(str(path), cwd=tmp_path)
    assert done.returncode == 1
    assert "m.gguf is of version 0 of GGUF; 2 and 3 are read" in done.stderr


def test_shares_of_accelerators_are_taken_as_they_are_written(tmp_path: Path) -> None:
    path = str(made(tmp_path, "Llama-3.1-8B-Instruct.Q4_K_M.gguf"))
    process = run(path, "-ts", "3,1", "--gpu", "2x RTX 4090")
    assert (process.returncode, process.stderr) == (0, "")
    ours = hfmem.estimate(path, tensor_split=(3.0, 1.0), gpu=("2x RTX 4090",))
    first, second = (rank.total for rank in ours.estimate.ranks)
    assert first > 2 * second
    with pytest.raises(hfmem.HfmemError, match="--tensor-split"):
        hfmem.estimate(path, tensor_split=("a",), gpu=("2x RTX 4090",))  # type: ignore[arg-type] # what is refused


def test_training_unpacks_a_file_to_float32_or_to_the_dtype_that_is_asked(tmp_path: Path) -> None:
    path = str(made(tmp_path, "Llama-3.1-8B-Instruct.Q4_K_M.gguf"))
    weights = {
        dtype: hfmem.estimate(path, train="lora", dtype=dtype).estimate.group("weights") or 0
        for dtype in (None, "float32", "bfloat16")
    }
    adapters = 3_407_872 * 4
    assert weights[None] == weights["float32"]
    assert weights["float32"] - adapters == pytest.approx(4 * 8_030_261_248, rel=1e-3)
    assert weights["bfloat16"] - adapters == pytest.approx(2 * 8_030_261_248, rel=1e-3)
