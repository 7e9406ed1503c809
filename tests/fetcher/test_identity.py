"""What a person means by a word: addresses as pasted, what stands behind an id, misspelt ids, folders."""

from __future__ import annotations

from pathlib import Path

import pytest
from huggingface_hub import constants

from hfmem.errors import HfmemError, ModelNotFoundError, OfflineError
from hfmem.fetcher import catalog
from hfmem.fetcher.concurrent import fetch_all
from hfmem.fetcher.identity import reference, why_no_id
from hfmem.fetcher.nearby import near_ids
from hfmem.fetcher.sources import fetch
from hfmem.fetcher.values import Access, ModelRef
from hfmem.report.errors import explain
from tests.fetcher.test_hub import CONFIG, ROWS
from tests.hub import Hub, single

COMMIT = "01c7f73d771dfac7d292323805ebc428287df4f9"


@pytest.mark.parametrize(("word", "model", "revision", "quant", "file"), [
    ("org/name", "org/name", "main", "", ""),
    ("gpt2", "gpt2", "main", "", ""),
    (" org/name ", "org/name", "main", "", ""),
    ("org/name/", "org/name", "main", "", ""),
    ("\ufefforg/name\u200b", "org/name", "main", "", ""),
    ("org/name@v1.0", "org/name", "v1.0", "", ""),
    ("org/name@refs/pr/3", "org/name", "refs/pr/3", "", ""),
    ("org/name:Q4_K_M", "org/name", "main", "Q4_K_M", ""),
    ("org/name@v1.0:Q4_K_M", "org/name", "v1.0", "Q4_K_M", ""),
    ("org/name:Q4_K_M@v1.0", "org/name", "v1.0", "Q4_K_M", ""),
    ("https://huggingface.co/org/name", "org/name", "main", "", ""),
    ("https://huggingface.co/org/name/", "org/name", "main", "", ""),
    ("http://huggingface.co/org/name?library=x#usage", "org/name", "main", "", ""),
    ("HTTPS://HuggingFace.co/org/name", "org/name", "main", "", ""),
    ("huggingface.co/org/name", "org/name", "main", "", ""),
    ("hf.co/org/name:Q8_0", "org/name", "main", "Q8_0", ""),
    ("https://hf.co/org/name/tree/v1.0", "org/name", "v1.0", "", ""),
    ("https://huggingface.co/org/name/tree/refs%2Fpr%2F3", "org/name", "refs/pr/3", "", ""),
    ("https://huggingface.co/org/name/tree/refs/pr/3/folder", "org/name", "refs/pr/3", "", ""),
    ("https://huggingface.co/org/name/tree/a%2Fbranch", "org/name", "a/branch", "", ""),
    (f"https://huggingface.co/org/name/commit/{COMMIT}", "org/name", COMMIT, "", ""),
    ("https://huggingface.co/org/name/blob/main/model.safetensors", "org/name", "main", "", "model.safetensors"),
    ("https://huggingface.co/org/name/resolve/v2/a/b.gguf?download=true", "org/name", "v2", "", "a/b.gguf"),
    ("https://huggingface.co/org/name/discussions/4", "org/name", "main", "", ""),
    ("https://huggingface.co/gpt2", "gpt2", "main", "", ""),
    ("https://huggingface.co/gpt2/tree/v1", "gpt2", "v1", "", ""),
    ("https://huggingface.co/models/org/name", "org/name", "main", "", ""),
    ("https://huggingface.co/api/models/org/name/revision/main", "org/name", "main", "", ""),
    ("hf://org/name@v1.0", "org/name", "v1.0", "", ""),
    # none of these is split
    ("./org/name:Q4", "./org/name:Q4", "main", "", ""),
    ("C:\\models\\name", "C:\\models\\name", "main", "", ""),
    ("org/name@", "org/name@", "main", "", ""),
    ("https://example.org/org/name", "https://example.org/org/name", "main", "", ""),
    ("https://huggingface.co/datasets/org/name", "https://huggingface.co/datasets/org/name", "main", "", ""),
    ("", "", "main", "", ""),
])  # fmt: skip
def test_what_a_word_means(word: str, model: str, revision: str, quant: str, file: str) -> None:
    assert reference(word) == ModelRef(model_id=model, revision=revision, quant=quant, file=file)


def test_a_revision_in_the_word_wins() -> None:
    assert reference("org/name@v2", "v1").revision == "v2"
    assert reference("org/name", "v1").revision == "v1"


def test_addresses_of_the_endpoint_in_use(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "ENDPOINT", "https://mirror.example/hub")
    assert reference("https://mirror.example/hub/org/name/tree/v1") == ModelRef(model_id="org/name", revision="v1")
    assert "https://mirror.example/hub" in why_no_id("https://other.example/org/name")


def test_a_path_wins_before_anything_is_split_off(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("org/name@v1", "org/name:Q4", " padded "):
        Path(name).mkdir(parents=True)
        assert reference(name) == ModelRef(model_id=name)


@pytest.mark.parametrize(("word", "why"), [
    ("https://huggingface.co/datasets/org/name", "a data set"),
    ("https://huggingface.co/spaces/org/name", "a Space"),
    ("https://huggingface.co/docs/transformers/index", "not that of a model"),
    ("https://huggingface.co/", "not that of a model"),
    ("https://example.org/org/name", "not one of"),
    ("org/name/more", "neither a model id"),
])  # fmt: skip
def test_other_addresses_are_refused_with_the_reason(word: str, why: str) -> None:
    with pytest.raises(ModelNotFoundError, match=why) as error:
        fetch(reference(word), Access(offline=True))
    assert "address of its page" in explain(error.value).hint


@pytest.mark.parametrize(("word", "meant"), [
    ("meta-lama/Llama-2-7b-hf", "meta-llama/Llama-2-7b-hf"),
    ("Qwen3-8B", "Qwen/Qwen3-8B"),
    ("qwen/qwen3-8", "Qwen/Qwen3-8B"),
    ("Llama/Qwen3-8B", "Qwen/Qwen3-8B"),
    ("Qwen3-8", "Qwen/Qwen3-8B"),
])  # fmt: skip
def test_near_ids(word: str, meant: str) -> None:
    assert near_ids(word)[0] == meant


def test_nothing_is_near_to_nonsense_or_to_itself() -> None:
    assert near_ids("zzzz/qqqqqqqqqqqqq") == ()
    assert all(model not in near_ids(model) for model in catalog.model_ids()[:5])


def test_an_unknown_id_is_not_found_and_not_a_wrong_password(hub: Hub) -> None:
    """The Hub answers 401 where nobody is logged in, with words about a password that nobody gave."""
    with pytest.raises(ModelNotFoundError) as error:
        fetch(ModelRef(model_id="meta-lama/Llama-2-7b-hf"), Access())
    problem = explain(error.value)
    assert "password" not in problem.message + problem.hint
    assert "private" in problem.message
    assert "Did you mean meta-llama/Llama-2-7b-hf" in problem.hint
    assert "`hf auth login`" in problem.hint
    assert hub.url in problem.message


def test_offline_near_ids_are_named_too() -> None:
    with pytest.raises(OfflineError) as error:
        fetch(ModelRef(model_id="Qwen3-8B"), Access(offline=True))
    assert "Did you mean Qwen/Qwen3-8B" in explain(error.value).hint


def test_a_folder_that_is_no_model_is_not_asked_of_the_hub(
    hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.put(single("org/name", CONFIG, ROWS))
    (tmp_path / "org" / "name").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    Path("README.md").touch()
    for word in ("org/name", "./org/name", "org/name/", "./none", "org\\name", "README.md"):
        with pytest.raises(ModelNotFoundError, match=r"folder|file") as error:
            fetch(reference(word), Access())
        assert error.value.local
    assert hub.requests == []
    hint = explain(error.value).hint
    assert "folder with config.json" in hint
    found = fetch(reference(f"{hub.url}/org/name"), Access())  # the way that the hint tells
    assert found.source == "hub"


def test_links_follow_the_endpoint(hub: Hub) -> None:
    from hfmem import errors

    for kind in (errors.GatedModelError, errors.RevisionNotFoundError, errors.DisabledModelError, errors.NoWeightsError,
                 errors.AccessDeniedError):  # fmt: skip
        hint = explain(kind("org/name")).hint
        assert hub.url in hint
        assert "huggingface.co" not in hint


def test_a_file_that_an_address_names_and_that_is_not_counted_is_told(hub: Hub) -> None:
    hub.put(single("org/name", CONFIG, ROWS))
    address = f"{hub.url}/org/name/blob/main"
    assert any("other.bin" in note for note in fetch(reference(f"{address}/other.bin"), Access()).notes)
    assert not any("names" in note for note in fetch(reference(f"{address}/config.json"), Access()).notes)


def test_a_model_that_is_asked_for_twice_is_fetched_once(hub: Hub) -> None:
    hub.put(single("org/a", CONFIG, ROWS), single("org/b", CONFIG, ROWS))
    list(fetch_all([reference("org/a")], Access(use_cache=False), 4))
    once = len(hub.requests)
    done: list[int] = []
    words = ["org/a", "org/a/", f"{hub.url}/org/a", "org/none", "org/none"]
    found = list(
        fetch_all([reference(word) for word in words], Access(use_cache=False), 4, done=lambda: done.append(1))
    )
    assert [ref.model_id for ref, _ in found] == ["org/a"] * 3 + ["org/none"] * 2
    assert [isinstance(result, HfmemError) for _, result in found] == [False] * 3 + [True] * 2
    assert len([request for request in hub.requests[once:] if "org/a" in request.path]) == once
    assert len(done) == len(words)
