"""The fetcher against a Hub over real HTTP, through the real client."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from hfmem.errors import (
    AccessDeniedError,
    DisabledModelError,
    GatedModelError,
    HfmemError,
    HubUnreachableError,
    InvalidFileError,
    InvalidHeaderError,
    InvalidTokenError,
    ModelNotFoundError,
    OfflineError,
    RateLimitedError,
    RevisionNotFoundError,
    UnexpectedAnswerError,
)
from hfmem.fetcher import http
from hfmem.fetcher import hub as module
from hfmem.fetcher.identity import reference
from hfmem.fetcher.sources import fetch
from hfmem.fetcher.values import Access, Checkpoint, FileInfo, ModelRef
from hfmem.report.errors import explain
from tests.hub import (
    Hub,
    Repo,
    adapter,
    binary,
    cut,
    dropped,
    endless,
    gguf,
    html_page,
    ignored_range,
    json_file,
    rate_limited,
    sharded,
    single,
    stalled,
    status,
    text_file,
)

CONFIG = {
    "model_type": "llama",
    "architectures": ["LlamaForCausalLM"],
    "hidden_size": 8,
    "intermediate_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "vocab_size": 10,
    "tie_word_embeddings": False,
    "torch_dtype": "bfloat16",
}
ROWS = [
    ("model.embed_tokens.weight", "BF16", (10, 8)),
    ("model.layers.{0-1}.self_attn.q_proj.weight", "BF16", (8, 8)),
    ("model.layers.{0-1}.mlp.up_proj.weight", "BF16", (16, 8)),
    ("lm_head.weight", "BF16", (10, 8)),
]
NAMES = {
    "model.embed_tokens.weight",
    "lm_head.weight",
    *(f"model.layers.{i}.{part}.weight" for i in (0, 1) for part in ("self_attn.q_proj", "mlp.up_proj")),
}
SECRET = "hf_" + "x" * 20


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Waits of a person's length become short; what decides on them stays."""
    monkeypatch.setattr(http, "TIMEOUT", 0.5)
    monkeypatch.setattr(http, "pause", lambda abandoned, _: abandoned.is_set())


def record_pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The waits of this thread from now on; other threads may still be giving up earlier requests."""
    slept: list[float] = []

    def pause(abandoned: threading.Event, seconds: float) -> bool:
        if threading.current_thread() is threading.main_thread():
            slept.append(seconds)
        return abandoned.is_set()

    monkeypatch.setattr(http, "pause", pause)
    return slept


def read(name: str, revision: str = "main", **access: Any) -> Checkpoint:
    return fetch(ModelRef(model_id=name, revision=revision), Access(**access))


def small(name: str = "org/small") -> Repo:
    return single(name, CONFIG, ROWS)


def large(name: str = "org/large", shards: int = 5) -> Repo:
    rows = [("model.embed_tokens.weight", "BF16", (10, 8)), ("model.layers.{0-9}.mlp.up_proj.weight", "BF16", (16, 8))]
    return sharded(name, CONFIG, rows, shards)


def test_a_single_file_takes_three_requests_and_few_bytes(hub: Hub) -> None:
    hub.put(small())
    found = read("org/small")
    assert (found.source, found.config, found.gated) == ("hub", CONFIG, False)
    assert {tensor.name for tensor in found.tensors} == NAMES
    assert found.commit == small().sha
    assert len(hub.asked("hub")) == 3
    assert sum(request.sent for request in hub.requests) < 150_000


def test_a_sharded_model_takes_one_request_for_all_headers(hub: Hub) -> None:
    hub.put(large())
    found = read("org/large")
    assert len(found.tensors) == 11
    assert len({tensor.file for tensor in found.tensors}) == 5
    assert len(hub.asked("hub")) <= 4
    assert hub.asked("cdn") == []


@pytest.mark.parametrize("why", ["missing", "refuses", "garbage", "revision"])
def test_a_sharded_model_without_the_one_request_endpoint(hub: Hub, why: str) -> None:
    hub.put(large())
    hub.site.sharded_endpoint = why != "missing"
    if why == "refuses":
        hub.fail("*/safetensors-metadata/*", status(403), times=None)
    if why == "garbage":
        hub.fail("*/safetensors-metadata/*", html_page(), times=None)
    found = read("org/large", revision=large().sha if why == "revision" else "main")
    assert len(found.tensors) == 11
    assert len(hub.asked("hub")) <= 5 + 4


def test_irregular_shard_names_are_looked_up_in_the_index(hub: Hub) -> None:
    repo = large()
    renamed = [replace(file, name=file.name.replace("model-", "part-")) for file in repo.files]
    index = next(file for file in renamed if file.name.endswith(".index.json"))
    content = json.loads(index.head)
    content["weight_map"] = {name: shard.replace("model-", "part-") for name, shard in content["weight_map"].items()}
    files = [json_file(index.name, content) if file is index else file for file in renamed]
    hub.put(replace(repo, files=tuple(files)))
    hub.site.sharded_endpoint = False
    assert len(read("org/large").tensors) == 11


@pytest.mark.parametrize("endpoint", [True, False])
@pytest.mark.parametrize("stem", ["model-", "part-"])
def test_a_shard_that_the_index_names_and_nobody_uploaded(hub: Hub, stem: str, endpoint: bool) -> None:
    repo = large()
    renamed = [replace(file, name=file.name.replace("model-", stem)) for file in repo.files]
    index = next(file for file in renamed if file.name.endswith(".index.json"))
    content = json.loads(index.head.decode().replace("model-", stem))
    gone = f"{stem}00002-of-00005.safetensors"
    files = [json_file(index.name, content) if file is index else file for file in renamed if file.name != gone]
    hub.put(replace(repo, files=tuple(files)))
    hub.site.sharded_endpoint = endpoint
    found = read("org/large")
    there = {name for name, shard in content["weight_map"].items() if shard != gone}
    assert {tensor.name for tensor in found.tensors} == there
    assert found.missing == 1
    assert found.absence == "1 weight file is missing"
    assert "1 of 5 shards are not in the repository; their weights are not counted." in found.notes


def test_an_index_of_nothing(hub: Hub) -> None:
    repo = large()
    hub.put(repo.without(*(file.name for file in repo.files if file.name.endswith(".safetensors"))))
    with pytest.raises(InvalidFileError, match="names 5 files, and none of them is there"):
        read("org/large")


def test_no_token_reaches_the_other_host(hub: Hub) -> None:
    hub.put(replace(small(), gated="manual"))
    hub.site.tokens[SECRET] = {"org/small"}
    assert read("org/small", token=SECRET).tensors
    seen = {request.port: request.authorization for request in hub.requests}
    assert seen["hub"] == f"Bearer {SECRET}"
    assert seen["cdn"] is None


def test_the_token_of_the_environment_is_used(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    hub.put(replace(small(), gated="auto"))
    hub.site.tokens[SECRET] = {"org/small"}
    monkeypatch.setenv("HF_TOKEN", SECRET)
    assert read("org/small").tensors


def test_revisions(hub: Hub) -> None:
    first = small()
    hub.put(first)
    hub.put(first.put(json_file("config.json", CONFIG | {"num_hidden_layers": 1})))
    assert read("org/small").config["num_hidden_layers"] == 1
    assert read("org/small", revision=first.sha).config["num_hidden_layers"] == 2
    with pytest.raises(RevisionNotFoundError):
        read("org/small", revision="v9")


def test_a_rename_is_followed_and_told(hub: Hub) -> None:
    hub.put(small("new/name"), replace(small("old/name"), renamed_to="new/name"))
    found = read("old/name")
    assert found.tensors
    assert any("old/name is now new/name" in note for note in found.notes)


@pytest.mark.parametrize(
    ("token", "kind"), [(None, ModelNotFoundError), (SECRET, ModelNotFoundError), ("hf_wrong", InvalidTokenError)]
)
def test_missing_models_and_tokens(hub: Hub, token: str | None, kind: type[HfmemError]) -> None:
    hub.site.tokens[SECRET] = set()
    with pytest.raises(kind):
        read("org/nothing", token=token)


def test_a_private_model_looks_missing_to_others(hub: Hub) -> None:
    hub.put(replace(small(), private=True))
    with pytest.raises(ModelNotFoundError):
        read("org/small")


def test_a_disabled_model(hub: Hub) -> None:
    hub.put(replace(small(), disabled=True))
    with pytest.raises(DisabledModelError):
        read("org/small")


def test_a_gated_model_gives_its_public_totals(hub: Hub) -> None:
    hub.put(replace(small(), gated="manual"))
    found = read("org/small")
    assert (found.gated, found.tensors, found.source) == (True, (), "hub")
    assert found.totals == {"BF16": 80 + 2 * 64 + 2 * 128 + 80}


def test_a_gated_model_without_totals_is_an_error(hub: Hub) -> None:
    hub.put(replace(binary("org/bin", CONFIG, [100]), gated="manual"))
    with pytest.raises(GatedModelError):
        read("org/bin")


def test_a_gated_model_is_completed_by_the_catalog(hub: Hub) -> None:
    hub.put(replace(single("meta-llama/Llama-2-7b-hf", CONFIG, ROWS), gated="manual"))
    found = read("meta-llama/Llama-2-7b-hf")
    assert (found.source, found.gated, len(found.tensors)) == ("catalog", True, 291 + 32)
    assert any("differ" in note for note in found.notes)


@pytest.mark.parametrize(
    "length", [*range(99_900, 100_101, 4), 99_992, 99_993, 99_994, 99_999, 100_000, 100_001, 250_000]
)
def test_header_lengths_around_the_first_range(hub: Hub, length: int) -> None:
    hub.put(single("org/small", CONFIG, ROWS, header_bytes=length))
    assert {tensor.name for tensor in read("org/small").tensors} == NAMES
    assert len(hub.asked("hub")) <= 4


@pytest.mark.parametrize("length", [0, 1, 25_000_001, 2**63])
def test_impossible_header_lengths(hub: Hub, length: int) -> None:
    head = length.to_bytes(8, "little") + b" " * 64
    repo = small()
    weights = next(file for file in repo.files if file.name == "model.safetensors")
    hub.put(repo.put(replace(weights, head=head, size=len(head))))
    with pytest.raises(InvalidHeaderError, match=r"model\.safetensors"):
        read("org/small")


def test_a_server_that_ignores_ranges_is_cut_off(hub: Hub) -> None:
    hub.put(single("org/small", CONFIG, [*ROWS, ("big", "F32", (10**9,))], header_bytes=250_000))
    hub.fail("*model.safetensors", ignored_range(), times=None, port="cdn")
    assert {tensor.name for tensor in read("org/small").tensors} == NAMES | {"big"}
    assert sum(request.sent for request in hub.requests) < 8_000_000


def test_an_endless_answer_is_cut_off(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_LONGEST_LISTING", 100_000)
    monkeypatch.setattr(module, "LONGEST_CONFIG", 100_000)
    hub.put(small())
    hub.fail("*/config.json", endless(), times=None)
    assert read("org/small").config is None


@pytest.mark.parametrize("fault", [status(500), status(502), status(503), dropped(), stalled(), cut(), rate_limited(1)])
@pytest.mark.parametrize("pattern", ["/api/models/*", "*/config.json", "*model.safetensors"])
def test_one_fault_is_retried(hub: Hub, fault: object, pattern: str) -> None:
    hub.put(small())
    hub.fail(pattern, fault, times=1)
    assert read("org/small").tensors


@pytest.mark.parametrize(
    ("fault", "kind"),
    [
        (status(500), HubUnreachableError),
        (dropped(), HubUnreachableError),
        (stalled(), HubUnreachableError),
        (status(403), AccessDeniedError),
        (html_page(), UnexpectedAnswerError),
        (status(418), UnexpectedAnswerError),
        (rate_limited(55), RateLimitedError),
    ],
)
def test_a_lasting_fault_is_told(hub: Hub, fault: object, kind: type[HfmemError]) -> None:
    hub.put(small())
    hub.fail("/api/models/*", fault, times=None)
    with pytest.raises(kind) as caught:
        read("org/small")
    assert caught.value.model == "org/small"


@pytest.mark.parametrize(
    ("fault", "waits", "tries"),
    [
        (rate_limited(20), [21.0, 21.0], 3),
        (rate_limited(None, retry_after=7), [8.0, 8.0], 3),
        (rate_limited(None), [0.5, 1.0], 3),
        (rate_limited(290), [], 1),
    ],
)
def test_quotas_are_waited_for_as_long_as_told_within_reason(
    hub: Hub, monkeypatch: pytest.MonkeyPatch, fault: object, waits: list[float], tries: int
) -> None:
    slept = record_pauses(monkeypatch)
    hub.put(small())
    hub.fail("/api/models/*", fault, times=None)
    with pytest.raises(RateLimitedError):
        read("org/small")
    assert slept == waits
    assert sum("/api/models" in asked for asked in hub.asked("hub")) == tries


def test_an_unreachable_hub_answers_from_the_catalog_at_once(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import constants

    slept = record_pauses(monkeypatch)
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    found = read("meta-llama/Llama-2-7b-hf")
    assert found.source == "catalog"
    assert "cannot be reached" in found.notes[0]
    assert slept == []
    with pytest.raises(HubUnreachableError):
        read("org/nothing")


def test_the_cache_costs_one_request_and_none_offline(hub: Hub) -> None:
    hub.put(small())
    first = read("org/small")
    hub.reset()
    again = read("org/small")
    assert (again.source, again.commit, again.tensors) == ("cache", first.commit, first.tensors)
    assert len(hub.requests) == 1
    hub.reset()
    assert read("org/small", offline=True).tensors == first.tensors
    assert read("org/small", revision=first.commit).tensors == first.tensors
    assert hub.requests == []


def test_a_state_that_is_not_kept_is_told_from_those_that_are(hub: Hub) -> None:
    """By revision and by quantisation, of our cache and of the Hugging Face cache."""
    from huggingface_hub import snapshot_download

    files = {"a-Q4_K_M.gguf": [("a", "F16", (4,))], "a-Q8_0.gguf": [("a", "F16", (4,))]}
    hub.put(replace(small("org/one"), revisions={"v9": None, "v3": None}), gguf("org/g-gguf", files))
    read("org/one")
    read("org/one", "v3")
    fetch(reference("org/g-gguf:Q8_0"), Access())
    for word, kept in (("org/one@v9", "org/one@main, org/one@v3"), ("org/g-gguf:Q4_K_M", "org/g-gguf@main:q8_0")):
        with pytest.raises(OfflineError) as caught:
            fetch(reference(word), Access(offline=True))
        problem = explain(caught.value)
        asked = word if "@" in word else word.replace(":", "@main:")
        assert problem.message == f"Offline mode is on, and the cache has {kept}, not {asked}."
        assert problem.hint.startswith(f"Use {kept.split(',')[0]}, which is cached. Run once without --offline")
        fetch(reference(kept.split(",")[0]), Access(offline=True))
    hub.put(small("org/two"))
    snapshot_download("org/two")
    with pytest.raises(OfflineError) as caught:
        fetch(reference("org/two@v9"), Access(offline=True))
    assert caught.value.kept == ("org/two@main",)


def test_a_push_is_seen(hub: Hub) -> None:
    hub.put(small())
    read("org/small")
    hub.put(small().put(json_file("config.json", CONFIG | {"vocab_size": 11})))
    found = read("org/small")
    assert (found.source, found.config["vocab_size"]) == ("hub", 11)


def test_without_cache(hub: Hub) -> None:
    hub.put(small())
    read("org/small", use_cache=False)
    with pytest.raises(OfflineError):
        read("org/small", offline=True)


def test_a_broken_cache_is_no_cache(hub: Hub, tmp_path: Path) -> None:
    hub.put(small())
    read("org/small")
    (kept,) = tmp_path.rglob("*" + small().sha + ".json")
    kept.write_text("{")
    assert read("org/small").source == "hub"


def test_many_processes_share_the_cache(hub: Hub, hub_env: dict[str, str]) -> None:
    hub.put(*(small(f"org/m{i}") for i in range(3)))
    command = [sys.executable, "-m", "hfmem", "org/m0", "org/m1", "org/m2", "--format", "quiet"]

    def run(_: int) -> subprocess.CompletedProcess[str]:
        return subprocess.run(command, env=hub_env, capture_output=True, text=True, check=False)

    with ThreadPoolExecutor(6) as pool:
        runs = list(pool.map(run, range(6)))
    assert {(process.returncode, process.stdout, process.stderr) for process in runs} == {(0, runs[0].stdout, "")}


def test_a_downloaded_snapshot_answers_offline(hub: Hub) -> None:
    from huggingface_hub import snapshot_download

    hub.put(single("org/small", CONFIG, [("a.weight", "F16", (4, 4))]))
    snapshot_download("org/small")
    found = read("org/small", offline=True)
    assert (found.source, found.commit, len(found.tensors)) == ("cache", found.commit, 1)


def test_other_layouts_are_read_as_far_as_they_go(hub: Hub) -> None:
    hub.put(
        binary("org/bin", CONFIG, [1000, 500]),
        gguf("org/gguf", {"m-Q8_0.gguf": [("a", "F16", (4,))]}),
        adapter("org/lora", {"base_model_name_or_path": "org/small"}, [("lora_A", "F32", (8, 4))]),
    )
    assert sum(file.size or 0 for file in read("org/bin").weight_files) == 1500
    assert len(read("org/gguf").weight_files) == 1
    assert len(read("org/lora").tensors) == 1
    assert not any("weights" in path for path in hub.asked())


def test_a_repository_without_config(hub: Hub) -> None:
    hub.put(small().without("config.json"))
    found = read("org/small")
    assert found.config is None
    assert found.tensors


def test_nothing_of_the_weights_is_downloaded(hub: Hub) -> None:
    hub.put(single("org/small", CONFIG, [("big", "F32", (10**9,))]))
    started = time.monotonic()
    assert read("org/small").tensors[0].nbytes == 4 * 10**9
    assert time.monotonic() - started < 5
    assert sum(request.sent for request in hub.requests) < 150_000


def test_a_text_that_is_no_config_leaves_the_weights(hub: Hub) -> None:
    hub.put(small().put(text_file("config.json", "nonsense")))
    found = read("org/small")
    assert (found.config, len(found.tensors)) == (None, 6)
    assert any("config.json is not JSON" in note for note in found.notes)


@pytest.mark.parametrize("file", ["hf_quant_config.json", "quantize_config.json"])
def test_a_quantisation_in_a_file_of_its_own(hub: Hub, file: str) -> None:
    content = {"quantization": {"quant_algo": "NVFP4"}}
    hub.put(small().put(json_file(file, content)))
    assert read("org/small").quantisation == content
    assert read("org/small", offline=True).quantisation == content
    hub.put(small("org/own").put(json_file("config.json", CONFIG | {"quantization_config": {"bits": 4}})))
    assert read("org/own").quantisation is None


def test_the_files_of_a_processor(hub: Hub) -> None:
    """They are read if the repository has them, kept, and without the filter banks of older ones."""
    own = {"patch_size": 14, "min_pixels": 3136, "mel_filters": [[0.0] * 201] * 80}
    repo = small().put(json_file("preprocessor_config.json", own)).put(text_file("processor_config.json", "[1]"))
    hub.put(repo)
    kept = {"preprocessor_config.json": {"patch_size": 14, "min_pixels": 3136}}
    assert read("org/small").processing == kept
    assert read("org/small", offline=True).processing == kept


def test_a_repository_without_a_processor_takes_no_request_more(hub: Hub) -> None:
    hub.put(small())
    assert read("org/small").processing == {}
    assert not [request for request in hub.requests if "processor" in request.path]


def test_a_push_between_two_answers_does_not_mix_commits(hub: Hub) -> None:
    """The header that was asked for before the listing is of the old commit: it is asked again."""
    old, new = small(), single("org/small", CONFIG, [("only.weight", "BF16", (3, 3))])
    hub.put(old)
    ref = ModelRef(model_id="org/small")
    client = http.client_for("org/small", None, patient=lambda: True)
    early = module.pool().submit(module.read_file, client, ref, "model.safetensors")
    early.result()
    hub.put(new)
    pinned = ModelRef(model_id="org/small", revision=new.sha)
    assert [tensor.name for tensor in module.checked(client, pinned, early).tensors] == ["only.weight"]


@pytest.mark.parametrize("spoil", ["fewer shards", "other sizes"])
def test_an_answer_with_all_headers_of_another_commit_is_not_taken(hub: Hub, spoil: str) -> None:
    repo = large()
    hub.put(repo)
    listed = {file.name: file for file in repo.files if file.name.endswith(".safetensors")}
    headers = {
        name: json.loads(file.head[8 : 8 + int.from_bytes(file.head[:8], "little")]) for name, file in listed.items()
    }
    shards = [FileInfo(name=name, size=file.size) for name, file in listed.items()]
    assert module.fits(headers, shards)
    if spoil == "fewer shards":
        headers.popitem()
    else:
        next(iter(headers.values()))["late.weight"] = {"dtype": "F32", "shape": [9**9], "data_offsets": [0, 4 * 9**9]}
    assert not module.fits(headers, shards)


def test_tensors_of_odd_sizes_and_dtypes_are_cached_too(hub: Hub) -> None:
    header = {
        "odd": {"dtype": "BF16", "shape": [4], "data_offsets": [0, 3]},
        "new": {"dtype": "F3_NEW", "shape": [4], "data_offsets": [3, 7]},
        "brace{0-9}": {"dtype": "BF16", "shape": [2], "data_offsets": [7, 11]},
    }
    text = json.dumps(header).encode()
    weights = next(file for file in small().files if file.name == "model.safetensors")
    head = len(text).to_bytes(8, "little") + text
    hub.put(small().put(replace(weights, head=head, size=len(head) + 11)))
    first = read("org/small")
    assert [tensor.nbytes for tensor in first.tensors] == [3, 4, 4]
    assert set(read("org/small", offline=True).tensors) == set(first.tensors)


@pytest.mark.parametrize(
    "damage",
    [
        {"tensors": [["f", [["a.{0-9999999999}.{0-99999999}", "F32", [1]]], []]]},
        {"tensors": [["f", [["a", "F32", [-5]]], []]]},
        {"tensors": [["f", [["a", 5, [1]]], []]]},
        {"config": [1]},
        {"files": [[1]]},
        {"commit": "0" * 40},
        {"schema": 1},
    ],
)
def test_a_damaged_cache_is_asked_again(hub: Hub, tmp_path: Path, damage: dict[str, object]) -> None:
    hub.put(small())
    read("org/small")
    (kept,) = tmp_path.rglob("*" + small().sha + ".json")
    kept.write_text(json.dumps(json.loads(kept.read_text()) | damage))
    assert read("org/small").source == "hub"


@pytest.mark.parametrize("token", ["hf_secret\x00", "hf_secrét", "hf_se\ncret"])
def test_a_token_that_cannot_be_one_is_not_repeated(hub: Hub, token: str) -> None:
    hub.put(small())
    with pytest.raises(InvalidTokenError) as caught:
        read("org/small", token=token)
    assert "secr" not in str(caught.value)
    assert read("org/small", token=f"{SECRET}\r\n", use_cache=False) if SECRET in hub.site.tokens else True


def test_an_endless_refusal_is_cut_off(hub: Hub) -> None:
    hub.put(small())
    hub.fail("/api/models/*", replace(endless(), response=replace(endless().response, status=500)), times=None)
    started = time.monotonic()
    with pytest.raises(HubUnreachableError):
        read("org/small")
    assert time.monotonic() - started < 20


def test_a_listed_file_that_is_not_there(hub: Hub) -> None:
    hub.put(small())
    hub.fail("*model.safetensors", status(404), times=None)
    with pytest.raises(InvalidFileError, match="listed but missing"):
        read("org/small")


def test_a_gated_answer_tells_the_way_in(hub: Hub) -> None:
    hub.put(replace(small(), gated="manual"))
    assert any("accept its licence" in note and "hf auth login" in note for note in read("org/small").notes)
    hub.site.tokens[SECRET] = set()
    assert any("with this account" in note for note in read("org/small", token=SECRET).notes)


@pytest.mark.parametrize(("seconds", "words"), [(1, "in 1 second;"), (2, "in 2 seconds;"), (None, "in a few minutes;")])
def test_a_quota_tells_when(seconds: int | None, words: str) -> None:
    assert words in explain(RateLimitedError("org/a", seconds=seconds)).hint
