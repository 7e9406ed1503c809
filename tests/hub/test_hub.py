"""The local Hub held against the real client: what `huggingface_hub` understands is what the Hub says."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from huggingface_hub import HfApi, constants, hf_hub_download
from huggingface_hub.errors import (
    DisabledRepoError,
    GatedRepoError,
    HfHubHTTPError,
    RemoteEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from tests.hub import (
    Hub,
    Repo,
    single,
    text_file,
)
from tests.hub.examples import CONFIG, MANY, ONE, ROWS, fetch

READER = "hf_reader"
STRANGER = "hf_stranger"


@pytest.fixture
def api(hub: Hub) -> HfApi:
    """A client without a token."""
    return HfApi(endpoint=hub.url, token=False)


# What the client reads


def test_model_info_has_commit_sizes_and_counts(hub: Hub, api: HfApi) -> None:
    hub.put(MANY)
    info = api.model_info("org/many", files_metadata=True)
    assert (info.id, info.sha, info.gated, info.private) == ("org/many", MANY.sha, False, False)
    assert {file.rfilename: file.size for file in info.siblings or ()} == {file.name: file.size for file in MANY.files}
    assert info.safetensors is not None
    assert info.safetensors.parameters == {"BF16": 2000, "F32": 7}
    assert info.safetensors.total == 2007
    assert info.config == {"architectures": ["LlamaForCausalLM"], "model_type": "llama"}
    shard = next(file for file in info.siblings or () if file.rfilename == "model-00001-of-00004.safetensors")
    assert shard.lfs is not None
    assert shard.lfs.size == shard.size


def test_expand_returns_only_what_was_asked(hub: Hub, api: HfApi) -> None:
    hub.put(ONE)
    info = api.model_info("org/one", expand=["safetensors", "gated", "sha"])
    assert (info.sha, info.gated, info.siblings, info.config) == (ONE.sha, False, None, None)
    _, _, body = fetch(f"{hub.url}/api/models/org/one?expand[]=gated&expand[]=sha")
    assert json.loads(body) == {"_id": json.loads(body)["_id"], "id": "org/one", "gated": False, "sha": ONE.sha}
    assert fetch(f"{hub.url}/api/models/org/one?expand[]=nonsense")[0] == 400


def test_published_totals_can_differ_from_the_files(hub: Hub, api: HfApi) -> None:
    hub.put(replace(ONE, parameters={"U8": 5}, total=99))
    found = api.model_info("org/one").safetensors
    assert found is not None
    assert (found.parameters, found.total) == ({"U8": 5}, 99)


@pytest.mark.parametrize("repo", [ONE, MANY], ids=["single", "sharded"])
def test_client_reads_the_headers(hub: Hub, api: HfApi, repo: Repo) -> None:
    hub.put(repo)
    found = api.get_safetensors_metadata(repo.id)
    assert found.parameter_count == {"BF16": 2000, "F32": 7}
    assert len(found.weight_map) == 11


def test_one_request_gives_the_headers_of_all_shards(hub: Hub, api: HfApi) -> None:
    hub.put(MANY)
    each = api.get_safetensors_metadata("org/many")
    hub.reset()
    at_once = api.get_sharded_safetensors_metadata("org/many")
    assert at_once == each
    assert hub.asked() == ["GET /api/models/org/many/safetensors-metadata/model.safetensors.index.json"]


def test_older_server_has_no_request_for_all_headers(hub: Hub, api: HfApi) -> None:
    hub.put(MANY)
    hub.site.sharded_endpoint = False
    with pytest.raises(HfHubHTTPError, match="404") as error:
        api.get_sharded_safetensors_metadata("org/many")
    assert "x-error-code" not in error.value.response.headers


def test_download_of_a_small_file(hub: Hub) -> None:
    hub.put(ONE)
    path = Path(hf_hub_download("org/one", "config.json"))
    assert json.loads(path.read_text()) == CONFIG
    assert path.parent.name == ONE.sha
    assert not [request for request in hub.requests if request.port == "cdn"]


def test_download_of_a_weight_file_is_zeros_behind_the_header(hub: Hub) -> None:
    hub.put(ONE)
    content = Path(hf_hub_download("org/one", "model.safetensors")).read_bytes()
    weights = ONE.file("model.safetensors")
    assert weights is not None
    assert content == weights.head + bytes(10 * 10 * 20 * 2 + 7 * 4)


def test_listing_in_pages(hub: Hub, api: HfApi) -> None:
    hub.put(MANY.put(text_file("sub/deep/notes.txt", "x")))
    hub.site.tree_page = 3
    entries = list(api.list_repo_tree("org/many", recursive=True))
    paths = [entry.path for entry in entries]
    assert paths == sorted([file.name for file in MANY.files] + ["sub", "sub/deep", "sub/deep/notes.txt"])
    assert len(hub.requests) == 4
    assert all("recursive" in request.query for request in hub.requests)
    top = [entry.path for entry in api.list_repo_tree("org/many")]
    assert "sub" in top
    assert "sub/deep" not in top
    assert [entry.path for entry in api.list_repo_tree("org/many", path_in_repo="sub")] == ["sub/deep"]


def test_head_tells_size_and_commit_of_a_weight_file(hub: Hub, api: HfApi) -> None:
    hub.put(MANY)
    name = "model-00002-of-00004.safetensors"
    file = MANY.file(name)
    assert file is not None
    found = api.get_hf_file_metadata(url=f"{hub.url}/org/many/resolve/main/{name}")
    assert (found.size, found.commit_hash, found.etag) == (file.size, MANY.sha, file.sha256)
    assert found.location.startswith(hub.cdn_url)


# Revisions


def test_branches_tags_pull_requests_and_commits(hub: Hub, api: HfApi) -> None:
    other = single("org/one", {"model_type": "other"}, ROWS)
    hub.put(replace(ONE, revisions={"v1": None, "dev": other, "refs/pr/3": other}))
    assert api.model_info("org/one", revision="v1").sha == ONE.sha
    assert api.model_info("org/one", revision="refs/pr/3").sha == other.sha
    assert api.model_info("org/one", revision=other.sha).config == {"model_type": "other"}
    path = hf_hub_download("org/one", "config.json", revision="refs/pr/3")
    assert json.loads(Path(path).read_text()) == {"model_type": "other"}
    assert any("refs%2Fpr%2F3" in request.path for request in hub.requests)
    assert fetch(f"{hub.url}/org/one/resolve/refs/pr/3/config.json")[0] == 200


def test_a_push_moves_main_and_keeps_the_old_commit(hub: Hub, api: HfApi) -> None:
    hub.put(ONE)
    pushed = ONE.put(text_file("config.json", "{}"))
    hub.put(pushed)
    assert api.model_info("org/one").sha == pushed.sha != ONE.sha
    assert api.model_info("org/one", revision=ONE.sha).sha == ONE.sha


def test_unknown_revision_and_file(hub: Hub, api: HfApi) -> None:
    hub.put(ONE)
    with pytest.raises(RevisionNotFoundError):
        api.model_info("org/one", revision="nowhere")
    with pytest.raises(RevisionNotFoundError):
        api.get_hf_file_metadata(url=f"{hub.url}/org/one/resolve/nowhere/config.json")
    with pytest.raises(RemoteEntryNotFoundError) as error:
        api.get_hf_file_metadata(url=f"{hub.url}/org/one/resolve/main/nothing.json")
    assert error.value.response.headers["X-Repo-Commit"] == ONE.sha


# Who may read


@pytest.mark.parametrize(
    "url", ["/api/models/org/none", "/org/none/resolve/main/config.json", "/api/models/org/secret"]
)
def test_missing_or_private_looks_the_same_to_anonymous_readers(hub: Hub, url: str) -> None:
    hub.put(replace(ONE, id="org/secret", private=True))
    code, headers, _ = fetch(hub.url + url)
    assert (code, headers["x-error-message"]) == (401, "Invalid username or password.")
    assert "x-error-code" not in headers


def test_missing_with_a_token(hub: Hub, api: HfApi) -> None:
    hub.site.tokens[STRANGER] = set()
    with pytest.raises(RepositoryNotFoundError, match="404"):
        api.model_info("org/none", token=STRANGER)


def test_private_needs_its_token(hub: Hub, api: HfApi) -> None:
    hub.put(replace(ONE, private=True))
    hub.site.tokens.update({READER: {"org/one"}, STRANGER: set()})
    assert api.model_info("org/one", token=READER).private is True
    with pytest.raises(RepositoryNotFoundError, match="404"):
        api.model_info("org/one", token=STRANGER)


def test_unknown_token(hub: Hub, api: HfApi) -> None:
    hub.put(ONE)
    with pytest.raises(HfHubHTTPError) as error:
        api.model_info("org/one", token="hf_garbage")
    assert error.value.response.status_code == 401
    assert error.value.response.headers["X-Error-Message"] == "Invalid credentials in Authorization header"


@pytest.mark.parametrize(
    ("token", "code", "words"),
    [
        (False, 401, "Please log in."),
        ("hf_garbage", 401, "Please log in."),
        (STRANGER, 403, "you are not in the authorized list"),
    ],
)
def test_gated_files(hub: Hub, api: HfApi, token: str | bool, code: int, words: str) -> None:
    hub.put(replace(MANY, gated="manual"))
    hub.site.tokens[STRANGER] = set()
    with pytest.raises(GatedRepoError) as error:
        api.get_hf_file_metadata(url=f"{hub.url}/org/many/resolve/main/config.json", token=token)
    assert error.value.response.status_code == code
    assert words in error.value.response.headers["X-Error-Message"]
    with pytest.raises(GatedRepoError):
        api.get_sharded_safetensors_metadata("org/many", token=token)


def test_info_and_listing_of_a_gated_repository_are_public(hub: Hub, api: HfApi) -> None:
    hub.put(replace(ONE, gated="auto"))
    info = api.model_info("org/one")
    assert info.gated == "auto"
    assert info.safetensors is not None
    assert len(list(api.list_repo_tree("org/one"))) == len(ONE.files)


def test_gated_files_for_a_reader(hub: Hub) -> None:
    hub.put(replace(ONE, gated="auto"))
    hub.site.tokens[READER] = {"org/one"}
    assert hf_hub_download("org/one", "config.json", token=READER)


def test_disabled(hub: Hub, api: HfApi) -> None:
    hub.put(replace(ONE, disabled=True))
    assert api.model_info("org/one").disabled is True
    with pytest.raises(DisabledRepoError):
        api.get_hf_file_metadata(url=f"{hub.url}/org/one/resolve/main/config.json")


def test_credentials_never_reach_the_cdn(hub: Hub) -> None:
    hub.put(replace(ONE, gated="auto"))
    hub.site.tokens[READER] = {"org/one"}
    assert HfApi(token=READER).get_safetensors_metadata("org/one").parameter_count
    cdn = [request for request in hub.requests if request.port == "cdn"]
    assert [(request.authorization, request.status) for request in cdn] == [(None, 206)]
    assert all(request.authorization == f"Bearer {READER}" for request in hub.requests if request.port == "hub")


def test_the_cdn_refuses_credentials_and_unsigned_addresses(hub: Hub) -> None:
    hub.put(ONE)
    _, headers, _ = fetch(f"{hub.url}/org/one/resolve/main/model.safetensors")
    assert fetch(headers["location"], {"Authorization": f"Bearer {READER}"})[0] == 400
    assert fetch(headers["location"].partition("?")[0])[0] == 403
    assert fetch(headers["location"])[0] == 200


# Redirects


@pytest.mark.parametrize("asked", ["one", "Org/ONE"], ids=["renamed", "letter case"])
def test_redirects_are_relative_and_keep_the_rest(hub: Hub, api: HfApi, asked: str) -> None:
    hub.put(ONE, Repo(id="one", renamed_to="org/one"))
    code, headers, _ = fetch(f"{hub.url}/api/models/{asked}/revision/main?blobs=true")
    assert (code, headers["location"]) == (307, "/api/models/org/one/revision/main?blobs=true")
    code, headers, _ = fetch(f"{hub.url}/{asked}/resolve/refs%2Fpr%2F1/sub/a%20b.json", method="HEAD")
    assert (code, headers["location"]) == (307, "/org/one/resolve/refs%2Fpr%2F1/sub/a%20b.json")
    assert api.model_info(asked).id == "org/one"
    assert Path(hf_hub_download(asked, "config.json")).is_file()


def test_the_fixture_is_all_the_client_knows(hub: Hub) -> None:
    assert HfApi().endpoint == constants.ENDPOINT == hub.url
    # The client takes a 401 for "no such repository" only from an https address.
    with pytest.raises(HfHubHTTPError, match="401"):
        HfApi().model_info("openai-community/gpt2")
    assert hub.requests[-1].authorization is None
