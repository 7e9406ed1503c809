"""The real llama.cpp, asked again: its buffers on the CPU beside the engine's, and graphs beside those in `data/`.

npm pack @node-llama-cpp/linux-x64@3.22.1     # its package/bins/linux-x64 is HFMEM_LLAMACPP
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping
from itertools import product
from pathlib import Path
from typing import Any, Final

import pytest

import hfmem
from hfmem.engines.llamacpp.allocator import HOST, Device
from hfmem.engines.llamacpp.caches import kept
from hfmem.engines.llamacpp.compute import computed
from hfmem.engines.llamacpp.graphs import structures
from hfmem.engines.llamacpp.placement import Placement
from hfmem.engines.llamacpp.refusals import refusal
from hfmem.engines.llamacpp.settings import LlamaSettings, server
from hfmem.engines.llamacpp.weights import placed
from hfmem.engines.tracing import library_folder
from hfmem.mapper.gguf.layout import layout_of
from hfmem.mapper.gguf.reader import architecture_of
from hfmem.probe.llamacpp import specimens
from hfmem.probe.llamacpp.library import RELEASE, Asked, LlamaError, apart, library
from hfmem.probe.llamacpp.specimens import Specimen
from hfmem.scenario.options import Options
from hfmem.unknown import Unknown
from tests.hub import Hub, Repo, virtual_file
from tests.mapper.gguf_models import MODELS, model
from tests.test_gguf import made

pytestmark = [
    pytest.mark.oracle,
    pytest.mark.skipif(library_folder() is None, reason="no library of llama.cpp is here (HFMEM_LLAMACPP)"),
]

GRAPHS: Final = Path(specimens.__file__).parents[2] / "data" / "llamacpp_graphs.jsonl"

SETTINGS: Final = {
    "usual": Asked(n_ctx=8192),
    "without flash attention": Asked(n_ctx=8192, flash="off"),
    "quantised": Asked(n_ctx=8192, type_k="q8_0", type_v="q8_0"),
    "quantised keys, without flash attention": Asked(n_ctx=8192, type_k="q4_0", flash="off"),
    "four sequences": Asked(n_ctx=16384, n_seq_max=4, n_outputs_max=4, kv_unified=False),
    "four sequences in one cache": Asked(n_ctx=16384, n_seq_max=4, n_outputs_max=4),
    "a large batch": Asked(n_ctx=8192, n_ubatch=2048),
    "a long context": Asked(n_ctx=131072, n_ubatch=1024, n_outputs_max=64),
}


def smallest() -> dict[str, str]:
    """The file of each architecture that holds least."""
    found: dict[str, str] = {}
    for file, row in sorted(MODELS.items(), key=lambda item: item[1]["loaded"] or 0):
        if row["loaded"] is not None:
            found.setdefault(row["kv"]["general.architecture"], file)
    return found


FILES: Final = smallest()


def specimen_of(file: str, path: Path) -> Specimen:
    """A file of the fixture with all its sizes, its weights in float32; llama.cpp tells the types of its keys."""
    row = MODELS[file]
    architecture = row["kv"]["general.architecture"]
    own = {key.removeprefix(f"{architecture}."): value for key, value in row["kv"].items()}
    keys = {key: value for key, value in own.items() if not key.startswith("general.")}
    tensors = {tensor.name: tensor.shape[::-1] for tensor in model(file).tensors}
    if "token_types.weight" in tensors:  # a count of the vocabulary, which the fixture leaves out
        keys["tokenizer.ggml.token_type_count"] = tensors["token_types.weight"][-1]
    return apart(lambda: specimens.discovered(architecture, keys, path, specimens.loads, tensors=tensors))


def ours(specimen: Specimen, asked: Asked) -> dict[str, int]:
    checkpoint = specimen.checkpoint()
    architecture = architecture_of(checkpoint)
    blocks = layout_of(checkpoint, architecture)
    assert blocks is not None
    settings = LlamaSettings(
        n_ctx=asked.n_ctx,
        n_ubatch=asked.n_ubatch,
        n_seq_max=asked.n_seq_max,
        n_outputs=asked.n_outputs_max,
        flash=asked.flash == "on",
        type_k=asked.type_k,
        type_v=asked.type_v,
        unified=asked.kv_unified,
        n_gpu_layers=0,
    )
    placement = Placement(blocks=blocks, settings=settings)
    compute = computed(placement, ())
    assert not isinstance(compute, Unknown), compute
    layers = (architecture.layers or ())[: blocks.loaded]
    return {
        "model": placed(placement, Device())[HOST].nbytes,
        "context": sum(part.nbytes for parts in kept(layers, blocks.kernel, settings) for part in parts),
        "compute": compute.host,
    }


def test_there_are_enough_architectures() -> None:
    assert sum(bool(structures(architecture)) for architecture in FILES) >= 12


@pytest.mark.parametrize("architecture", FILES)
def test_buffers_are_those_that_llama_cpp_tells(architecture: str, tmp_path: Path) -> None:
    if not structures(architecture):
        pytest.skip("no graph is recorded")
    path = tmp_path / "specimen.gguf"
    specimen = specimen_of(FILES[architecture], path)
    errors: dict[str, float] = {}
    for word, asked in SETTINGS.items():
        try:
            (told,) = apart(lambda asked=asked: library().buffers(path, asked)).values()  # type: ignore[misc]
        except LlamaError:
            continue  # the architecture does not run so
        found = ours(specimen, asked)
        assert (found["model"], found["context"]) == (told["model"], told["context"]), word
        errors[word] = abs(found["compute"] - told["compute"]) / told["compute"]
    path.unlink()
    assert len(errors) >= 4
    assert max(errors.values()) <= 0.05, errors
    assert sum(error == 0 for error in errors.values()) >= 0.75 * len(errors), errors


@pytest.mark.parametrize("architecture", ["qwen2", "phi2", "deepseek2", "gpt2", "falcon"])
def test_cache_types_are_refused_as_llama_cpp_does(architecture: str, tmp_path: Path) -> None:
    path = tmp_path / "specimen.gguf"
    blocks = specimen_of(FILES[architecture], path).blocks()
    assert blocks is not None
    for flash, keys, values in product(("on", "off"), ("f16", "q8_0"), ("f16", "q8_0", "q5_1")):
        asked = Asked(n_ctx=512, flash=flash, type_k=keys, type_v=values)
        options = Options(flash_attn=flash, cache_type_k=keys, cache_type_v=values)
        try:
            apart(lambda asked=asked: library().buffers(path, asked))  # type: ignore[misc]
            told = False
        except LlamaError:
            told = True
        assert bool(refusal(blocks, server(options), 1)) is told, asked


# --- --trace ---------------------------------------------------------------------------------------------------------

TRACED: Final = {
    "Qwen2.5-0.5B.Q4_K_M.gguf": {},
    "DeepSeek-V2-Lite.Q4_K_M.gguf": {"flash_attn": "off"},
    "gpt2.F16.gguf": {},
}


@pytest.mark.parametrize("file", TRACED)
@pytest.mark.parametrize("asked", [{}, {"seq": 1000, "batch": 4}, {"ctx_size": 8192, "ubatch_size": 1024}], ids=str)
def test_a_file_is_traced(file: str, asked: dict[str, Any], tmp_path: Path) -> None:
    report = hfmem.estimate(str(made(tmp_path, file)), trace=True, n_gpu_layers=0, **TRACED[file], **asked)
    trace = report.trace
    assert trace is not None
    assert trace.groups == trace.estimate
    assert trace.groups["weights"] == report.estimate.group("weights") == MODELS[file]["loaded"]
    assert trace.groups["kv_cache"] == report.estimate.group("kv_cache")
    assert trace.source == f"llama.cpp {RELEASE}"


def test_of_a_remote_file_the_header_is_fetched_and_no_more(hub: Hub, tmp_path: Path) -> None:
    path = made(tmp_path, "Qwen2.5-0.5B.Q4_K_M.gguf")
    with path.open("rb") as file:
        head = file.read(1_000_000)
    hub.put(Repo(id="org/m-GGUF", files=(virtual_file("m-Q4_K_M.gguf", head, size=path.stat().st_size),)))
    command = [sys.executable, "-m", "hfmem", "org/m-GGUF", "--trace", "--format", "json"]
    process = subprocess.run(command, capture_output=True, text=True, check=True)
    (result,) = json.loads(process.stdout)["results"]
    assert result["trace"]["weights"] == MODELS[path.name]["loaded"]
    assert result["trace"]["difference"] == 0
    assert sum(request.sent for request in hub.requests) < 9_000_000, "the header of any vocabulary, in one request"


def test_what_llama_cpp_refuses_is_a_sentence(tmp_path: Path) -> None:
    """The estimate says it too, in its own words."""
    path = made(tmp_path, "DeepSeek-V2-Lite.Q4_K_M.gguf")
    command = [sys.executable, "-m", "hfmem", str(path), "--trace", "-ctk", "q8_0"]
    process = subprocess.run(command, capture_output=True, text=True, check=False)
    assert process.returncode == 1
    assert f"{path} cannot be traced (llama.cpp: " in process.stderr
    assert "does not support different K (q8_0) and V (f16) cache types" in process.stderr
    assert "Traceback" not in process.stderr


# --- graphs ----------------------------------------------------------------------------------------------------------


def structures_of(text: str, architecture: str) -> dict[str, Any]:
    """The structures of an architecture by their variants, each part spelled out."""
    rows = [json.loads(line) for line in text.splitlines()]
    parts = {row["part"]: row["steps"] for row in rows if "part" in row}
    return {
        row["variant"]: (row["kinds"], row["layers"], {word: _spelled(graph, parts) for word, graph in settings(row)})
        for row in rows
        if row.get("architecture") == architecture
    }


def settings(row: Mapping[str, Any]) -> list[tuple[str, Any]]:
    return [
        (word, row["settings"].get(graph, graph) if isinstance(graph, str) else graph)
        for word, graph in row["settings"].items()
    ]


def _spelled(graph: Mapping[str, Any], parts: Mapping[int, list[str]]) -> tuple[list[str], list[list[str]]]:
    return graph["inputs"], [parts[number] for number in graph["parts"]]


@pytest.mark.parametrize("architecture", ["qwen2", "gpt2", "olmoe"])
def test_graphs_are_recorded_as_they_were(architecture: str) -> None:
    command = [sys.executable, "-m", "hfmem.probe.llamacpp", architecture]
    process = subprocess.run(command, capture_output=True, text=True, check=True)
    again = structures_of(process.stdout, architecture)
    before = structures_of(GRAPHS.read_text(encoding="utf-8"), architecture)
    assert {variant: again.get(variant) for variant in before} == before
