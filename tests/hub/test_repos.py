"""Repositories as values, and the ones in `fixtures/`."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from huggingface_hub import HfApi

from hfmem.fetcher.patterns import Row
from tests.hub import (
    File,
    Hub,
    Repo,
    adapter,
    binary,
    diffusers,
    from_fixture,
    gguf,
    sharded,
    single,
    text_file,
)
from tests.hub.examples import CONFIG, ONE, ROWS, fetch
from tests.hub.make_fixtures import MODELS, Model, elements
from tests.hub.repos import FIXTURES


@pytest.fixture
def api(hub: Hub) -> HfApi:
    """A client without a token."""
    return HfApi(endpoint=hub.url, token=False)


# Builders


@pytest.mark.parametrize("shards", [1, 2, 3, 7, 11])
def test_shards_hold_every_tensor_once(shards: int) -> None:
    repo = sharded("org/many", CONFIG, ROWS, shards)
    parts = [json.loads(file.head[8:]) for file in repo.files if file.lfs]
    names = [name for part in parts for name in part if name != "__metadata__"]
    assert len(parts) == shards
    assert all(len(part) > 1 for part in parts)
    assert len(names) == len(set(names)) == 11
    index = repo.file("model.safetensors.index.json")
    assert index is not None
    assert json.loads(index.head)["metadata"]["total_size"] == 10 * 10 * 20 * 2 + 7 * 4


def test_more_shards_than_tensors() -> None:
    with pytest.raises(ValueError, match="do not fill"):
        sharded("org/many", CONFIG, ROWS, 12)


@pytest.mark.parametrize(
    ("repo", "names"),
    [
        (binary("org/x", CONFIG, [10**9]), {"config.json", "pytorch_model.bin"}),
        (binary("org/x", None, [5, 6]), {"pytorch_model-00001-of-00002.bin", "pytorch_model-00002-of-00002.bin"}),
        (gguf("org/x", {"x-Q8.gguf": [("token_embd.weight", "F16", (8, 32))]}), {"x-Q8.gguf"}),
        (adapter("org/x", {"peft_type": "LORA"}, ROWS), {"adapter_config.json", "adapter_model.safetensors"}),
        (
            diffusers("org/x", {"unet": ROWS, "text_encoder": ROWS}, variants=("", "fp16")),
            {
                "model_index.json",
                "unet/config.json",
                "unet/diffusion_pytorch_model.safetensors",
                "unet/diffusion_pytorch_model.fp16.safetensors",
                "text_encoder/config.json",
                "text_encoder/model.safetensors",
                "text_encoder/model.fp16.safetensors",
            },
        ),
    ],
    ids=["bin", "bins", "gguf", "adapter", "diffusers"],
)
def test_other_formats(hub: Hub, api: HfApi, repo: Repo, names: set[str]) -> None:
    hub.put(repo)
    info = api.model_info("org/x")
    assert {file.rfilename for file in info.siblings or ()} == names | {".gitattributes", "README.md"}


def test_a_broken_configuration_is_served_as_it_is(hub: Hub, api: HfApi) -> None:
    hub.put(single("org/one", b'{"model_type": NaN,', ROWS))
    assert fetch(f"{hub.url}/org/one/resolve/main/config.json")[2] == b'{"model_type": NaN,'
    assert api.model_info("org/one").config is None


def test_files_can_be_exchanged_and_left_out() -> None:
    changed = ONE.put(text_file("config.json", "{}")).without("README.md")
    names = [file.name for file in changed.files]
    assert sorted(names) == [".gitattributes", "config.json", "model.safetensors"]
    assert changed.file("config.json") == File(name="config.json", head=b"{}", size=2, lfs=False)
    assert changed.sha != ONE.sha
    assert replace(ONE, commit="ab" * 20).sha == "ab" * 20


# Fixtures


@pytest.mark.parametrize("model", MODELS, ids=lambda model: model.id)
def test_fixtures_add_up_to_what_the_hub_publishes(model: Model) -> None:
    folder = FIXTURES / model.id.replace("/", "--")
    table = json.loads((folder / "tensors.json").read_text())
    rows: list[Row] = [(name, dtype, tuple(shape)) for name, dtype, shape in table["tensors"]]
    assert rows == model.rows(json.loads((folder / "config.json").read_text()))
    assert elements(rows) == table["published"] == model.published


def test_deepseek_v3_has_its_real_size(hub: Hub, api: HfApi) -> None:
    repo = from_fixture("deepseek-ai--DeepSeek-V3")
    hub.put(repo)
    found = api.get_sharded_safetensors_metadata(repo.id)
    assert len(found.files_metadata) == 163
    assert sum(found.parameter_count.values()) == 684531386000  # safetensors.total of the Hub
    assert 688 * 10**9 < sum(file.size for file in repo.files) < 689 * 10**9
