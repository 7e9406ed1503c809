"""The forms of a base model: what the Hub's listing names is read in two requests each, and has its exact bytes."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import pytest

from hfmem import HfmemError, Options, estimate, variants
from hfmem.fetcher.patterns import Row, expand
from hfmem.fetcher.values import Access
from hfmem.forms import forms_of
from hfmem.options.output import FormsOptions
from tests.command import run
from tests.fetcher.test_hub import CONFIG
from tests.gguf_repositories import data_of, head_of, name_of, repository
from tests.hub import Hub, Repo, adapter, sharded, single, status, virtual_file
from tests.hub.files import tensor_bytes
from tests.hub.repos import FIXTURES
from tests.test_cli import on_terminal

BASES = tuple(f"org/base-{number}" for number in range(5))
QUANTS = ("Q4_K_M", "Q8_0", "Q2_K")
VOCABULARY = 1000
ROWS: list[Row] = [
    ("model.embed_tokens.weight", "BF16", (10, 8)),
    ("model.layers.{0-1}.self_attn.{q|k|v|o}_proj.weight", "BF16", (8, 8)),
    ("model.layers.{0-1}.mlp.{up|gate}_proj.weight", "BF16", (16, 8)),
    ("model.layers.{0-1}.mlp.down_proj.weight", "BF16", (8, 16)),
    ("model.layers.{0-1}.{input|post_attention}_layernorm.weight", "BF16", (8,)),
    ("model.norm.weight", "BF16", (8,)),
    ("lm_head.weight", "BF16", (10, 8)),
]
LORA: list[Row] = [
    ("base_model.model.model.layers.{0-1}.self_attn.q_proj.lora_A.weight", "BF16", (2, 8)),
    ("base_model.model.model.layers.{0-1}.self_attn.q_proj.lora_B.weight", "BF16", (8, 2)),
]
ONNX = ("inline.onnx", "within.onnx")


def packed(method: str, **more: Any) -> Mapping[str, Any]:
    return CONFIG | {"quantization_config": {"quant_method": method, **more}}


def of(base: str, repo: Repo, relation: str = "") -> Repo:
    card = {"base_model": base} | ({"base_model_relation": relation} if relation else {})
    return replace(repo, card=card)


def eight_bit(rows: list[Row]) -> list[Row]:
    """The matrices of layers in FP8, each with a scale."""
    found: list[Row] = []
    for name, dtype, shape in expand(rows):
        if "_proj" not in name:
            found.append((name, dtype, shape))
            continue
        found += [(name, "F8_E4M3", shape), (f"{name}_scale_inv", "F32", (1, 1))]
    return found


def four_bit(rows: list[Row]) -> list[Row]:
    """The matrices of layers as AWQ packs them, in groups of 8."""
    found: list[Row] = []
    for name, dtype, shape in expand(rows):
        if "_proj" not in name:
            found.append((name, dtype, shape))
            continue
        stem, (out, wide) = name.removesuffix("weight"), shape
        found += [(f"{stem}qweight", "I32", (wide, out // 8)), (f"{stem}qzeros", "I32", (wide // 8, out // 8))]
        found.append((f"{stem}scales", "F16", (wide // 8, out)))
    return found


def family(base: str) -> list[Repo]:
    """A base model and ten repositories with thirteen forms of it."""
    name = base.rpartition("/")[2]
    contents = {file: (FIXTURES / "onnx" / file).read_bytes() for file in ONNX}
    files = [virtual_file(f"onnx/{file}", head, size=len(head)) for file, head in contents.items()]
    return [
        single(base, CONFIG, ROWS),
        of(base, repository(QUANTS, vocabulary=VOCABULARY, name=f"q/{name}-GGUF")),
        of(base, single(f"q/{name}-FP8", packed("fp8", weight_block_size=[128, 128]), eight_bit(ROWS))),
        of(base, single(f"q/{name}-AWQ", packed("awq", bits=4, group_size=8), four_bit(ROWS))),
        of(base, single(f"q/{name}-onnx", CONFIG, []).without("model.safetensors").put(*files), "quantized"),
        of(base, adapter(f"a/{name}-lora", {"base_model_name_or_path": base, "peft_type": "LORA", "r": 2}, LORA)),
        of(base, sharded(f"f/{name}-tune", CONFIG, ROWS, 3)),
        of(base, single(f"f/{name}-other", CONFIG, ROWS)),
        of(base, replace(single(f"f/{name}-gated", CONFIG, ROWS), gated="manual")),
        replace(single(f"m/{name}-merge", CONFIG, ROWS), card={"base_model": [base, "org/elsewhere"]}),
        of(base, single(f"f/{name}-broken", CONFIG, []).put(virtual_file("model.safetensors", b"\xff" * 64, size=64))),
    ]


@pytest.fixture(scope="module")
def hub() -> Iterator[Hub]:
    repos = [repo for base in BASES for repo in family(base)]
    with Hub(repos) as opened:
        opened.site.list_page = 2
        yield opened


def answered(hub: Hub, *arguments: str) -> Any:
    hub.reset()
    done = run(*arguments, "--no-cache", "--format", "json", env={**os.environ, "HF_ENDPOINT": hub.url})
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def data(repo: Repo, rows: list[Row]) -> int:
    """Bytes of the tensors, counted by hand."""
    assert any(file.name.endswith(".safetensors") for file in repo.files)
    return sum(tensor_bytes(dtype, shape) for _, dtype, shape in expand(rows))


@pytest.fixture(scope="module")
def listed(hub: Hub) -> Any:
    document = answered(hub, *BASES, "--variants", "--gpu", "8GB", "--gpu", "1GB", "--seq", "1024")
    return document, hub.requests


def test_every_form_is_listed_once(listed: Any) -> None:
    document, _ = listed
    assert [result["model"] for result in document["results"]] == list(BASES)
    for result in document["results"]:
        name = result["model"].rpartition("/")[2]
        found = Counter((row["relation"], row["model"]) for row in result["choices"])
        assert found == {
            ("base", result["model"]): 1,
            ("quantized", f"q/{name}-GGUF"): len(QUANTS),
            ("quantized", f"q/{name}-FP8"): 1,
            ("quantized", f"q/{name}-AWQ"): 1,
            ("quantized", f"q/{name}-onnx"): len(ONNX),
            ("adapter", f"a/{name}-lora"): 1,
            ("finetune", f"f/{name}-tune"): 1,
            ("finetune", f"f/{name}-other"): 1,
            ("finetune", f"f/{name}-gated"): 1,
            ("finetune", f"f/{name}-broken"): 1,
            ("merge", f"m/{name}-merge"): 1,
        }
        assert result["variants"] == {"source": "hub", "reason": None, "most": 100, "more": []}


def test_bytes_are_those_of_the_files(listed: Any) -> None:
    document, _ = listed
    for result in document["results"]:
        name = result["model"].rpartition("/")[2]
        found = {(row["model"], row["file"]): row["bytes"] for row in result["choices"]}
        repos = {repo.id: repo for repo in family(result["model"])}
        whole = data(repos[result["model"]], ROWS)
        expected = {
            **{
                (f"q/{name}-GGUF", name_of(quant)): len(head_of(quant, VOCABULARY)) + data_of(quant) for quant in QUANTS
            },
            (f"q/{name}-FP8", "model.safetensors"): data(repos[f"q/{name}-FP8"], eight_bit(ROWS)),
            (f"q/{name}-AWQ", "model.safetensors"): data(repos[f"q/{name}-AWQ"], four_bit(ROWS)),
            (f"a/{name}-lora", "adapter_model.safetensors"): data(repos[f"a/{name}-lora"], LORA),
            (f"f/{name}-tune", "model-00001-of-00003.safetensors"): whole,
            (f"f/{name}-other", "model.safetensors"): whole,
            (f"m/{name}-merge", "model.safetensors"): whole,
        }
        assert {key: found[key] for key in expected} == expected


def test_a_form_takes_two_requests_at_most(listed: Any) -> None:
    """To the Hub; what it redirects to its CDN, which has no quota, does not count. Listings and bases come on top."""
    document, requests = listed
    asked = Counter(
        repo.id
        for request in requests
        if request.port == "hub"
        for base in BASES
        for repo in family(base)[1:]
        if f"/{repo.id}" in request.decoded_path
    )
    forms = Counter(row["model"] for result in document["results"] for row in result["choices"])
    assert asked
    assert {name: count for name, count in asked.items() if count > 2 * forms[name]} == {}
    pages = [request for request in requests if request.decoded_path == "/api/models"]
    assert len(pages) == 5 * (2 + 1 + 2 + 1)  # of two rows each


@pytest.mark.parametrize(
    ("form", "words"),
    [
        ("q/base-0-GGUF", {"GGUF Q4_K_M", "GGUF Q8_0", "GGUF Q2_K"}),
        ("q/base-0-FP8", {"FP8"}),
        ("q/base-0-AWQ", {"AWQ int4"}),
        ("q/base-0-onnx", {"ONNX inline", "ONNX within"}),
        ("a/base-0-lora", {"LORA, rank 2"}),
        ("f/base-0-tune", {"bfloat16"}),
    ],
)
def test_a_form_is_named(listed: Any, form: str, words: set[str]) -> None:
    rows = listed[0]["results"][0]["choices"]
    assert {row["form"] for row in rows if row["model"] == form} == words


@pytest.mark.parametrize(
    "form", ["q/base-0-FP8", "q/base-0-AWQ", "a/base-0-lora", "f/base-0-tune", "m/base-0-merge", "q/base-0-GGUF:Q8_0"]
)
def test_a_row_is_the_answer_of_its_own_report(
    hub: Hub, listed: Any, form: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = answered(hub, form, "--gpu", "8GB", "--gpu", "1GB", "--seq", "1024")["results"][0]
    (row,) = (row for row in listed[0]["results"][0]["choices"] if form in (row["asked"], row["model"]))
    keys = ("fits", "verdict", "total", "headroom", "max_seq", "refused")
    if ":" in form:  # derived from another file's header, whose alignment differs by less than a MiB
        assert row["certainty"] == "derived"
        assert row["total"] == pytest.approx(own["memory"]["total"], abs=2**20)
        assert [fit["verdict"] for fit in row["fits"]] == [fit["verdict"] for fit in own["fit"]]
        return
    assert row["total"] == own["fit"][0]["total"]
    assert [[fit[key] for key in keys] for fit in row["fits"]] == [[fit[key] for key in keys] for fit in own["fit"]]


def test_failures_are_rows_with_their_reason(listed: Any) -> None:
    rows = {row["model"]: row for row in listed[0]["results"][0]["choices"]}
    broken, gated = rows["f/base-0-broken"], rows["f/base-0-gated"]
    assert broken["total"] is None
    assert "model.safetensors" in broken["unknown"]
    assert gated["total_is_lower_bound"]
    assert "gated" in gated["unknown"]
    assert [fit["fits"] for fit in gated["fits"]] == [None, None]


def test_more_than_asked_for_is_told(hub: Hub) -> None:
    env = {**os.environ, "HF_ENDPOINT": hub.url}
    done = run("org/base-0", "--variants", "--most-variants", "5", "--no-cache", env=env)
    assert "There are more finetunes and merges of org/base-0 on the Hub than the 5 repositories" in done.stderr
    assert "a/base-0-lora" in done.stdout
    assert "f/base-0-tune" not in done.stdout


def test_csv_and_markdown_have_every_form(hub: Hub) -> None:
    env = {**os.environ, "HF_ENDPOINT": hub.url}
    asked = ("org/base-1", "--variants", "--no-cache", "--gpu", "8GB")
    rows = list(csv.DictReader(run(*asked, "--format", "csv", env=env).stdout.splitlines()))
    assert len(rows) == 1 + 13
    assert {row["verdict: 8 GiB"] for row in rows if row["relation"] == "merge"} == {"fits"}
    table = run(*asked, "--format", "markdown", env=env).stdout
    assert table.count("q/base-1-GGUF") == len(QUANTS)
    assert "| f/base-1-tune " in table


def test_a_listing_that_fails(hub: Hub) -> None:
    hub.reset()
    hub.fail("/api/models", status(403), times=None)
    done = run("org/base-2", "--variants", "--no-cache", env={**os.environ, "HF_ENDPOINT": hub.url})
    hub.reset()
    assert done.returncode == 1
    assert "org/base-2" in done.stdout
    assert "refuses" in done.stderr or "access" in done.stderr


def test_offline_it_is_the_catalog() -> None:
    done = run("Qwen/Qwen3-8B", "--variants", "--offline", "--gpu", "12GB", "--format", "json")
    (result,) = json.loads(done.stdout)["results"]
    assert {row["model"] for row in result["choices"]} == {
        "Qwen/Qwen3-8B",
        "Qwen/Qwen3-8B-FP8",
        "Qwen/Qwen3-8B-GGUF",
        "unsloth/Qwen3-8B-GGUF",
    }
    assert result["variants"]["source"] == "catalog"
    assert "those in the bundled catalog (offline)" in done.stderr
    (own,) = estimate("Qwen/Qwen3-8B-FP8", offline=True, gpu=("12GB",)).fits
    (row,) = (row for row in result["choices"] if row["model"] == "Qwen/Qwen3-8B-FP8")
    assert (row["fits"][0]["verdict"], row["max_seq"]) == (own.verdict, own.max_seq)


def test_in_python_they_are_rows_too(hub: Hub, listed: Any) -> None:
    """Those of the command line; offline those of the catalog."""
    code = (
        "import hfmem, json\n"
        "found = hfmem.variants('org/base-0', gpu=('8GB', '1GB'), seq=1024, use_cache=False)\n"
        "told = lambda row: (row.model, row.relation, row.form, row.nbytes, [fit.fits for fit in row.fits])\n"
        "print(json.dumps([found.source, found.most, list(map(told, found.rows))]))"
    )
    hub.reset()
    env = {**os.environ, "HF_ENDPOINT": hub.url}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=env)
    source, most, rows = json.loads(done.stdout)
    shown = listed[0]["results"][0]["choices"]
    assert (source, most) == ("hub", 100)
    assert [row[:2] for row in rows] == [[row["model"], row["relation"]] for row in shown]
    assert [row[2] or None for row in rows] == [row["form"] or None for row in shown]
    assert [row[3] for row in rows] == [row["bytes"] for row in shown]
    assert [row[4] for row in rows] == [[fit["fits"] for fit in row["fits"]] for row in shown]
    found = variants("Qwen/Qwen3-8B", offline=True, most_variants=1)
    assert [row.model for row in found.rows] == ["Qwen/Qwen3-8B", "Qwen/Qwen3-8B-FP8"]
    assert (found.source, found.more) == ("catalog", ("quantized",))
    with pytest.raises(HfmemError, match="--most-variants is 0"):
        variants("Qwen/Qwen3-8B", offline=True, most_variants=0)


def test_a_bar_on_a_terminal_counts_them(hub: Hub) -> None:
    hub.reset()
    hub.latency = 0.3
    try:
        env = {**os.environ, "HF_ENDPOINT": hub.url}
        shown = on_terminal("org/base-0", "--variants", "--no-cache", "--jobs", "2", env=env, columns=100)
    finally:
        hub.latency = 0.0
    assert "forms:" in shown
    assert "no effect" not in shown
    assert "/10 [" in shown  # repositories
    assert "org/base-0: 13 forms" in shown


@dataclass(frozen=True, kw_only=True)
class Listed(FormsOptions, Access):
    """How forms are read."""


def test_forms_are_counted_while_they_are_read() -> None:
    told: list[list[str]] = []
    counted: list[str] = []

    def begun(names: Sequence[str]) -> Callable[[], object]:
        told.append(list(names))
        return lambda: counted.append("form")

    report = estimate("Qwen/Qwen3-8B", offline=True)
    asked = Listed(offline=True, most_variants=2)
    forms_of(report, Options(), asked, asked, begun)
    assert [len(names) for names in told] == [2]
    assert counted == ["form"] * 2
