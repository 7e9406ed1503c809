"""Models of which no header is read: config.json and the Hub's public totals tell what the headers would."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from hfmem import Options
from hfmem.answers import report_on
from hfmem.fetcher import catalog
from hfmem.fetcher.identity import reference
from hfmem.fetcher.tensors import rows_of, stored_bytes
from hfmem.fetcher.values import Checkpoint, FileInfo
from hfmem.mapper.agreed import agrees, agrees_in_parts
from hfmem.mapper.interpret import interpret
from hfmem.report.result import to_result
from hfmem.scenario.sums import parts_suffice, sums_suffice
from tests.command import run
from tests.hub import Hub, from_fixture, sharded

SMOL = "HuggingFaceTB/SmolLM2-135M-Instruct"
ASKED = (
    Options(),
    Options(batch=4, seq=512, attention="eager"),
    Options(runtime="transformers", seq=2048),
)


def pairs(place: int) -> Iterator[tuple[Checkpoint, Checkpoint]]:
    """Some models of the catalog as a Hub would have them: with the headers of their files, and without."""
    for name in [name for name in catalog.originals() if "/" in name][place::8]:
        entry = catalog.find(reference(name, "main"))
        if entry is None or entry.config is None or entry.pipeline is not None or not entry.tensors:
            continue
        totals: Counter[str] = Counter()
        for row in rows_of(entry.tensors):
            totals[row.tensor.dtype] += row.tensor.elements * row.count
        file = FileInfo(name="model.safetensors", size=stored_bytes(entry.tensors) + 20_000)
        whole = replace(entry, source="hub", totals=dict(totals), files=(file,), weight_files=(file,))
        yield whole, replace(whole, tensors=(), agreed=True)


def answer(checkpoint: Checkpoint, options: Options) -> Any:
    result = to_result(report_on(interpret(checkpoint), options))
    kept = ("total", "active", "stored")
    parts = {key: result["parameters"][key] for key in kept}
    return result["memory"], parts, result["total_is_lower_bound"], result["kv_cache_per_token"], result["serving"]


@pytest.mark.parametrize("place", range(8))
def test_the_answer_is_that_of_the_headers(place: int) -> None:
    agreeing = [(whole, bare) for whole, bare in pairs(place) if agrees(bare)]
    assert len(agreeing) > 5
    for whole, bare in agreeing:
        for options in ASKED:
            assert answer(bare, options) == answer(whole, options), (whole.ref.model_id, options)


FITS = (
    Options(gpu=("RTX 4090", "A10")),
    Options(gpu=("4x L4",), batch=2, seq=1024),
    Options(gpu=("16GB",), reserve=1.0),
)


@pytest.mark.parametrize("place", range(8))
def test_where_it_fits_is_that_of_the_headers(place: int) -> None:
    """And what would help, how fast it is, and what loading takes: of language models of dense layers."""
    agreeing = [(whole, bare) for whole, bare in pairs(place) if agrees_in_parts(bare)]
    assert len(agreeing) > 5
    for whole, bare in agreeing[place % 8 :: 8]:
        for options in FITS:
            found, expected = (to_result(report_on(interpret(each), options)) for each in (bare, whole))
            for key in ("memory", "fit", "help", "load_peak", "per_gpu", "host"):
                assert found.get(key) == expected.get(key), (whole.ref.model_id, options, key)


@pytest.mark.parametrize("name", ["Qwen/Qwen3-VL-30B-A3B-Instruct", "zai-org/GLM-5", "OpenGVLab/InternVL2-2B"])
def test_experts_and_towers_are_known_as_sums_only(name: str) -> None:
    (bare,) = (bare for place in range(8) for _, bare in pairs(place) if bare.ref.model_id == name)
    assert agrees(bare)
    assert not agrees_in_parts(bare)


@pytest.mark.parametrize(
    "change",
    [
        {"totals": {"BF16": 134_515_007}},
        {"totals": {"BF16": 134_515_008, "F32": 1}},
        {"totals": {"F8_E4M3": 134_515_008}},
        {"totals": None},
        {"config": {"model_type": "nobody-knows"}},
        {"quantisation": {"quant_method": "gptq", "bits": 4}},
        {"weight_files": (FileInfo(name="model.safetensors", size=134_515_008),)},
        {"weight_files": (FileInfo(name="model.safetensors", size=None),)},
    ],
)
def test_headers_are_read_where_anything_differs(change: dict[str, Any]) -> None:
    entry = catalog.find(reference(SMOL, "main"))
    assert entry is not None
    file = FileInfo(name="model.safetensors", size=2 * 134_515_008 + 30_000)
    known = replace(entry, totals={"BF16": 134_515_008}, tensors=(), weight_files=(file,), agreed=True)
    assert agrees(known)
    assert not agrees(replace(known, **change))


@pytest.mark.parametrize(
    ("options", "suffice"),
    [
        *((options, True) for options in ASKED),
        (Options(gpu=("H100",)), False),
        (Options(dtype="nf4"), False),
        (Options(train="full"), False),
        (Options(tp=2), False),
        (Options(runtime="vllm"), False),
        (Options(runtime="sglang"), False),
        (Options(runtime="llamacpp"), False),
    ],
)
def test_what_single_tensors_are_needed_for(options: Options, suffice: bool) -> None:
    assert sums_suffice(options) == suffice


@pytest.mark.parametrize(
    ("options", "suffice"),
    [
        *((options, True) for options in (*ASKED, *FITS)),
        (Options(gpu=("H100",), dtype="nf4"), False),
        (Options(gpu=("H100",), train="lora"), False),
        (Options(gpu=("H100",), runtime="vllm"), False),
    ],
)
def test_what_matrices_are_needed_for(options: Options, suffice: bool) -> None:
    assert parts_suffice(options) == suffice


def test_no_header_is_read_for_a_fit(tmp_path: Any) -> None:
    """But of a model with experts, also where a plain run has kept what it knows without them."""
    experts = "Qwen/Qwen3-30B-A3B"
    with Hub([from_fixture(SMOL.replace("/", "--")), from_fixture(experts.replace("/", "--"))]) as hub:
        home = {"HF_HOME": str(tmp_path)}
        quick = answered(hub, SMOL, "--gpu", "H100", **home)
        assert [path for path in hub.asked("hub") if "safetensors" in path] == []
        whole = answered(hub, SMOL, "--gpu", "H100", "--headers", **home)
        assert quick["fit"] == whole["fit"]
        assert quick["memory"] == whole["memory"]
        assert answered(hub, experts, **home)["parameters"]["certainty"] == "derived"
        assert answered(hub, experts, "--gpu", "H100", **home)["parameters"]["certainty"] == "exact"
        assert any("safetensors" in path for path in hub.asked("hub"))


def answered(hub: Hub, *arguments: str, **env: str) -> Any:
    hub.reset()
    done = run(*arguments, "--format", "json", env={**os.environ, "HF_ENDPOINT": hub.url, **env})
    assert done.returncode == 0, done.stderr
    (result,) = json.loads(done.stdout)["results"]
    return result


@pytest.mark.parametrize(
    "name",
    [
        "deepseek-ai/DeepSeek-V3",  # FP8 in blocks, biases of routers, a layer that predicts, with an embedding
        "Qwen/Qwen3-8B-FP8",  # scales in bfloat16
        "zai-org/GLM-4.5-Air",  # biases of routers in float32, a layer that predicts without copies
        "Qwen/Qwen3-0.6B",  # the tied head is stored too
        "meta-llama/Llama-2-7b-hf",  # rotary frequencies
    ],
)
def test_what_files_have_beside_the_parameters(name: str) -> None:
    (whole, bare) = next(pair for place in range(8) for pair in pairs(place) if pair[0].ref.model_id == name)
    assert agrees(bare)
    stored = [interpret(each).parameters for each in (whole, bare)]
    assert len({table.total for table in stored if table}) == 1
    assert len({sum(group.stored_bytes or 0 for group in table.groups) for table in stored if table}) == 1
    assert bare.totals is not None
    for dtype, count in bare.totals.items():
        for more in (-1, 1):
            assert not agrees(replace(bare, totals={**bare.totals, dtype: count + more}))


def test_no_header_of_a_large_quantised_model_is_read(tmp_path: Any) -> None:
    name = "deepseek-ai/DeepSeek-V3"
    with Hub([from_fixture(name.replace("/", "--"))]) as hub:
        quick = answered(hub, name, HF_HOME=str(tmp_path))
        assert [path for path in hub.asked("hub") if "safetensors" in path] == []
        whole = answered(hub, name, "--headers", HF_HOME=str(tmp_path))
    assert quick["parameters"]["certainty"] == "derived"
    assert quick["memory"] == whole["memory"]
    assert quick["parameters"]["total"] == whole["parameters"]["total"]
    assert quick["download"] == whole["download"]


@pytest.mark.parametrize("shards", [1, 3])
def test_no_header_is_read(shards: int, tmp_path: Any) -> None:
    repo = from_fixture(SMOL.replace("/", "--"))
    if shards > 1:
        config = repo.file("config.json")
        assert config is not None
        rows = [(row.tensor.name, row.tensor.dtype, row.tensor.shape) for row in rows_of(_tensors(repo))]
        repo = sharded(SMOL, config.head, rows, shards)
    with Hub([repo]) as hub:
        home = {"HF_HOME": str(tmp_path)}
        quick = answered(hub, SMOL, **home)
        assert [path for path in hub.asked("hub") if "safetensors" in path] == []
        whole = answered(hub, SMOL, "--headers", **home)
        assert any("safetensors" in path for path in hub.asked("hub"))
        assert answered(hub, SMOL, **home)["parameters"]["certainty"] == "exact"  # what is kept of --headers
    assert quick["parameters"]["certainty"] == "derived"
    assert "public totals" in quick["parameters"]["source"]
    assert whole["parameters"]["certainty"] == "exact"
    assert quick["memory"] == whole["memory"]
    assert quick["download"] == whole["download"]


def _tensors(repo: Any) -> Any:
    from hfmem.fetcher.formats import safetensors

    file = repo.file("model.safetensors")
    length = int.from_bytes(file.head[:8], "little")
    return safetensors.contents_of(json.loads(file.head[8 : 8 + length]), file.name).tensors
