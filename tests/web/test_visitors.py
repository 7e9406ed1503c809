"""What a visitor may ask of a page that anyone can open, and what of the machine that serves it nobody is told."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from hfmem.errors import InvalidScenarioError, ModelNotFoundError
from hfmem.fetcher.identity import reference
from hfmem.fetcher.search import public_ids
from hfmem.fetcher.sources import fetch
from hfmem.fetcher.values import Access, Visitor
from hfmem.report.errors import explain
from hfmem.web.models import Models
from hfmem.web.question import LONGEST, MOST_MODELS, MOST_RANKS, MOST_VALUES, Question
from hfmem.web.service import Answer, Service
from tests.hub import Hub, adapter, single

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
ROWS = [("model.embed_tokens.weight", "BF16", (10, 8)), ("lm_head.weight", "BF16", (10, 8))]
OPEN = single("org/open", CONFIG, ROWS)
SECRET = "hf_" + "x" * 20
OTHERS = "hf_" + "y" * 20


@pytest.fixture
def private(hub: Hub) -> Hub:
    """A Hub with a private model, which one of two tokens may read."""
    hub.put(replace(single("org/hidden", CONFIG, ROWS), private=True), OPEN)
    hub.site.tokens.update({SECRET: {"org/hidden"}, OTHERS: set()})
    return hub


def ask(service: Service, *models: str, token: str | None = None, **options: str) -> Answer:
    pairs = [("model", model) for model in models]
    return service.answer(Question.of([*pairs, *options.items()]), token)


def codes(answer: Answer) -> list[str]:
    return [problem.code for problem in answer.problems]


def test_a_private_model_is_shown_to_its_token_and_to_no_other(private: Hub, tmp_path: Path) -> None:
    service = Service()
    assert codes(ask(service, "org/hidden")) == ["model_not_found_error"]
    mine = ask(service, "org/hidden", token=SECRET)
    assert [report.estimate.group("weights") for report in mine.reports] == [320]
    for token in (None, OTHERS):
        assert codes(ask(service, "org/hidden", token=token)) == ["model_not_found_error"]
    assert SECRET not in repr(service)
    assert not list(tmp_path.rglob("*.json")), "nothing of it is written to the machine"


def test_what_a_token_reads_is_not_taken_from_answers_without_one(private: Hub) -> None:
    service = Service()
    ask(service, "org/open")
    before = len(private.requests)
    ask(service, "org/open")
    assert len(private.requests) == before, "without a token it is kept for a while"
    ask(service, "org/open", token=OTHERS)
    sent = {request.authorization for request in private.requests[before:] if request.port == "hub"}
    assert sent == {f"Bearer {OTHERS}"}


def test_a_token_that_the_hub_does_not_know_has_a_next_step(private: Hub) -> None:
    answer = ask(Service(), "org/hidden", token="hf_wrong")
    assert codes(answer) == ["invalid_token_error"]
    assert "settings/tokens" in answer.problems[0].hint


def test_the_machines_own_token_is_not_used(private: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", SECRET)
    assert fetch(reference("org/hidden"), Access(use_cache=False)).source == "hub"
    before = len(private.requests)
    assert codes(ask(Service(), "org/hidden")) == ["model_not_found_error"]
    assert {request.authorization for request in private.requests[before:]} == {None}


def test_the_machines_caches_and_downloads_are_not_read(private: Hub, tmp_path: Path) -> None:
    fetch(reference("org/hidden"), Access(token=SECRET))
    folder = tmp_path / "hf-home" / "hub" / "models--org--secret" / "snapshots" / ("0" * 40)
    folder.mkdir(parents=True)
    (folder.parents[1] / "refs").mkdir()
    (folder.parents[1] / "refs" / "main").write_text("0" * 40)
    (folder / "config.json").write_text(json.dumps(CONFIG))
    with pytest.raises(ModelNotFoundError) as caught:
        fetch(reference("org/hiden"), Access())
    assert caught.value.near == ("org/hidden",), "the owner is told"
    for name in ("org/hidden", "org/secret", "org/hiden"):
        (problem,) = ask(Service(), name).problems
        assert problem.code == "model_not_found_error"
        assert "Did you mean" not in problem.hint


def test_the_owner_of_a_private_page_has_what_the_command_line_has(
    private: Hub, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("HF_TOKEN", SECRET)
    service = Service(models=Models(private=True))
    assert ask(service, "org/hidden").reports
    folder = tmp_path / "mine"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(CONFIG))
    (report,) = ask(service, str(folder), gpu="cpu").reports
    assert report.checkpoint.source == "local"


@pytest.mark.parametrize("word", ["/etc/passwd", "./model", "../x", "~/x", "~root", "C:\\x", "a/b/c", "file:///etc/x"])
def test_paths_are_refused(word: str) -> None:
    answer = ask(Service(models=Models(offline=True)), word)
    assert codes(answer) == ["invalid_scenario_error"]
    assert "is not the id of a model on the Hub" in answer.problems[0].message


def test_a_folder_of_the_same_name_is_not_read(hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "org" / "model"
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(CONFIG))
    monkeypatch.chdir(tmp_path)
    assert fetch(reference("org/model"), Access()).source == "local"
    assert codes(ask(Service(), "org/model")) == ["model_not_found_error"]
    with pytest.raises(ModelNotFoundError):
        fetch(reference("org/model"), Visitor())
    with pytest.raises(ModelNotFoundError, match="path"):
        fetch(reference(str(folder)), Visitor())


@pytest.mark.parametrize("base", ["org/hidden", "org/folder"])
def test_the_base_of_an_adapter_is_read_as_its_visitor_may(
    private: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, base: str
) -> None:
    """The name in an adapter's file is a stranger's: neither the machine's login, caches nor folders are for it."""
    rows = [("base_model.model.model.embed_tokens.lora_embedding_A", "F32", (4, 10))]
    private.put(adapter("org/lora", {"base_model_name_or_path": base, "r": 4, "peft_type": "LORA"}, rows))
    monkeypatch.setenv("HF_TOKEN", SECRET)
    fetch(reference("org/hidden"), Access())  # in the machine's cache now
    (tmp_path / "org" / "folder").mkdir(parents=True)
    (tmp_path / "org" / "folder" / "config.json").write_text(json.dumps(CONFIG))
    monkeypatch.chdir(tmp_path)
    before = len(private.requests)
    (report,) = ask(Service(), "org/lora").reports
    assert any(f"Its base model {base} could not be read" in note for note in report.notes)
    assert {request.authorization for request in private.requests[before:]} == {None}
    private.site.tokens[SECRET].add("org/lora")
    (mine,) = ask(Service(), "org/lora", token=SECRET).reports
    assert (mine.model.adapted is not None) == (base == "org/hidden")


@pytest.mark.parametrize("name", ["auto", "me", "cpu", "AUTO", "2x auto"])
def test_the_machine_is_not_looked_at(name: str) -> None:
    answer = ask(Service(models=Models(offline=True)), "openai-community/gpt2", gpu=name)
    assert codes(answer) == ["invalid_scenario_error"]
    assert "about the machine that serves this page" in answer.problems[0].message


def test_a_gated_model_tells_how_to_get_in(hub: Hub) -> None:
    hub.put(replace(OPEN, gated="manual", parameters={}))
    hub.site.tokens[SECRET] = {"org/open"}
    (problem,) = ask(Service(), "org/open").problems
    assert problem.code == "gated_model_error"
    assert problem.hint.endswith("then give a token under “A private or gated model”.")
    assert ask(Service(), "org/open", token=SECRET).reports


def test_a_gated_model_of_known_totals_is_answered_and_told(hub: Hub) -> None:
    hub.put(replace(OPEN, gated="manual"))
    (report,) = ask(Service(), "org/open").reports
    assert any("ask with a token of your account" in note for note in report.notes)


@pytest.mark.parametrize(
    ("pairs", "message"),
    [
        ([("model", "a/b")] * (MOST_MODELS + 1), "9 models are more than the 8"),
        ([("gpu", "T4")] * (MOST_VALUES + 1), "9 values of --gpu are more than the 8"),
        ([("dtype", "x" * (LONGEST + 1))], "--dtype has more than 200 characters"),
        ([("model", "x" * (LONGEST + 1))], "the name of a model has more than 200 characters"),
        ([("opimizer", "lion")], "'opimizer' is not an option of this page (did you mean 'optimizer'?)"),
        ([("unit", "TB")], "--unit 'TB' is not one of GiB, GB"),
        ([("tp", str(MOST_RANKS + 1))], "--tp is 1025, expected 1 to 1,024"),
        ([("tp", "64"), ("pp", "64")], "4,096 accelerators are more than the 1,024"),
        ([("gpu", "9999x H100")], "9,999 accelerators are more than the 1,024"),
        ([("batch", "many")], "--batch is 'many', expected a whole number"),
        ([("gradient_checkpointing", "maybe"), ("train", "full")], "--gradient-checkpointing is 'maybe'"),
        ([("optimizer", "./x"), ("train", "full")], "--optimizer './x' is about the machine"),
    ],
)
def test_questions_are_bounded(pairs: list[tuple[str, str]], message: str) -> None:
    with pytest.raises(InvalidScenarioError) as caught:
        Question.of(pairs).options()
    assert message in explain(caught.value).message


def test_keys_of_others_are_left_out() -> None:
    question = Question.of([("utm_source", "mail"), ("__theme", "dark"), ("model", " a/b "), ("gpu", ""), ("b", "1")])
    assert question == Question(models=("a/b",))


def test_keys_may_be_flags() -> None:
    question = Question.of([("kv-cache-dtype", "float16"), ("max_model_len", "8k")])
    options = question.options()
    assert (options.kv_dtype, options.seq) == ("float16", 8192)
    assert Question.of([("kv_dtype", "float16"), ("seq", "8k")]) == question


def test_ids_are_suggested(private: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", SECRET)
    assert public_ids("org/", 5) == ("org/open",)
    assert [request.authorization for request in private.requests] == [None]
    found = Models().suggested("llama-2-7b")
    assert found[0] == "meta-llama/Llama-2-7b-hf"
    assert Models(offline=True).suggested("org/open") == ()


def test_a_hub_that_is_not_there_costs_a_suggestion_nothing(alone: dict[str, str]) -> None:
    assert Models(offline=True).suggested("gpt2")[0] == "openai-community/gpt2"
