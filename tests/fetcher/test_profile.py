"""`--gpu me`: the hardware saved on the user's Hub profile, over real HTTP.

The answers are those documented at https://huggingface.co/docs/hub/hardware; names of cards are those that the Hub
offers (packages/tasks/src/hardware.ts of huggingface.js).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

import hfmem
from hfmem.hardware.detect import machine
from hfmem.refusals.options import ProfileGpuError
from tests.command import run
from tests.hub.faults import Fault
from tests.hub.responses import text_response
from tests.hub.server import Hub

LLAMA = "meta-llama/Llama-2-7b-hf"
TOKEN = "hf_mine"  # not a secret: the local Hub's


def item(kind: str, maker: str, name: str, mem: object, num: object = 1, **more: object) -> dict[str, Any]:
    return {"sku": [kind, maker, name], "mem": mem, "num": num, **more}


def saved(hub: Hub, *items: Any) -> None:
    hub.site.tokens[TOKEN] = set()
    hub.site.owners[TOKEN] = "somebody"
    hub.site.hardware["somebody"] = list(items)


def fits(hub_env: Mapping[str, str], *words: str) -> list[dict[str, Any]]:
    done = run(LLAMA, "--gpu", "me", *words, "--json", env={**hub_env, "HF_TOKEN": TOKEN})
    assert done.returncode == 0, done.stderr
    (result,) = json.loads(done.stdout)["results"]
    return list(result["fit"])


def test_the_saved_hardware_is_what_is_asked_about(hub: Hub, hub_env: dict[str, str]) -> None:
    saved(
        hub,
        item("GPU", "NVIDIA", "RTX 3060", 12),
        item("GPU", "NVIDIA", "RTX 4090", 24, 2, isPrimary=True),
        item("Apple Silicon", "-", "Apple M2 Max", 64),
        item("CPU", "AMD", "Ryzen Zen4 7000 (Ryzen 9)", 128),
    )
    rows = fits(hub_env)
    assert [(row["gpu"], row["asked"]) for row in rows] == [
        ("RTX 4090", "2x RTX 4090 24GB"),
        ("RTX 3060", "RTX 3060 12GB"),
        ("M2 Max 64GB", "Apple M2 Max 64GB"),
    ]
    done = run(LLAMA, "--gpu", "me", env={**hub_env, "HF_TOKEN": TOKEN})
    words = " ".join(done.stdout.split())
    assert (
        "--gpu me: 2x RTX 4090 24GB, RTX 3060 12GB, Apple M2 Max 64GB, as saved on the Hub profile of somebody" in words
    )


def test_the_name_is_asked_once_and_the_token_stays_with_the_hub(hub: Hub, hub_env: dict[str, str]) -> None:
    saved(hub, item("GPU", "NVIDIA", "RTX 4090", 24))
    fits(hub_env, "--no-cache")
    asked = [request for request in hub.requests if "/users/" in request.path or "whoami" in request.path]
    assert [request.path for request in asked] == ["/api/whoami-v2", "/api/users/somebody/overview"]
    assert {request.authorization for request in asked} == {f"Bearer {TOKEN}"}


def test_a_redirect_to_another_host_does_not_get_the_token(hub: Hub, hub_env: dict[str, str]) -> None:
    with Hub() as elsewhere:
        saved(hub, item("GPU", "NVIDIA", "RTX 4090", 24))
        there = text_response(307, "", ("Location", f"{elsewhere.url}/api/whoami-v2"))
        hub.fail("/api/whoami-v2", Fault(kind="answer", response=there))
        done = run(LLAMA, "--gpu", "me", env={**hub_env, "HF_TOKEN": TOKEN})
        assert done.returncode == 2
        assert [request.authorization for request in elsewhere.requests] == [None]


@pytest.mark.parametrize(
    ("given", "taken"),
    [
        (item("GPU", "NVIDIA", "A100", 40), "A100 40GB"),
        (item("GPU", "NVIDIA", "A100", 80), "A100 80GB"),
        (item("GPU", "NVIDIA", "RTX 3080", 12, 4), "RTX 3080 12GB"),
        (item("GPU", "AMD", "MI300", 192), None),
        (item("GPU", "NVIDIA", "RTX 9999", 31), "31 GiB"),
        (item("CPU", "Intel", "Intel Core 13th Generation (i9)", 64), "CPU 64 GiB"),
        (item("Apple Silicon", "-", "Apple M3 Max", 128), "M3 Max 128GB"),
    ],
)
def test_names_of_the_hub_are_found(
    given: dict[str, Any], taken: str | None, hub: Hub, hub_env: dict[str, str]
) -> None:
    saved(hub, given)
    (row,) = fits(hub_env)
    if taken is not None:
        assert row["gpu"] == taken
    assert machine(row["asked"]).accelerator.name == row["gpu"]


@pytest.mark.parametrize(
    "odd",
    [
        "text", None, 7, {}, {"sku": ["GPU", "NVIDIA"], "mem": 24, "num": 1}, item("GPU", "NVIDIA", "RTX 4090", -1),
        item("GPU", "NVIDIA", "RTX 4090", True), item("GPU", "NVIDIA", "RTX 4090", 24, 10**12),
        item("GPU", "NVIDIA", "RTX 4090", float("1e300")), item("TPU", "x", "y", 3),
    ],
)  # fmt: skip
def test_items_that_are_not_as_documented_are_left_out(odd: Any, hub: Hub, hub_env: dict[str, str]) -> None:
    saved(hub, odd, item("GPU", "NVIDIA", "RTX 3060", 12))
    assert [row["gpu"] for row in fits(hub_env)] == ["RTX 3060"]


def refused(hub_env: Mapping[str, str], *words: str, token: str = TOKEN) -> str:
    done = run(LLAMA, "--gpu", "me", *words, env={**hub_env, **({"HF_TOKEN": token} if token else {})})
    assert done.returncode == 2
    assert done.stdout == ""
    return done.stderr


def test_what_cannot_be_read_is_a_sentence_with_a_next_step(hub: Hub, hub_env: dict[str, str]) -> None:
    assert "nobody is logged in: run `hf auth login`" in refused(hub_env, token="")
    assert "the Hub does not know the token" in refused(hub_env)
    assert "cannot be read offline" in refused(hub_env, "--offline")
    saved(hub)
    assert "finds no public hardware on the Hub profile of somebody" in refused(hub_env)
    del hub.site.hardware["somebody"]
    assert "https://huggingface.co/settings/hardware" in refused(hub_env)
    saved(hub, item("Apple Silicon", "-", "Apple M9", 3))
    assert "(Apple M9 with 3 GB)" in refused(hub_env)
    hub.site.owners[TOKEN] = "../models/org/name"
    assert "no user's name" in refused(hub_env)
    assert "--gpu 'RTX 4090', or use --gpu auto" in refused(hub_env)


def test_nothing_is_asked_of_the_hub_without_it(hub: Hub, hub_env: dict[str, str]) -> None:
    run(LLAMA, "--gpu", "4090", env={**hub_env, "HF_TOKEN": TOKEN})
    assert not [request for request in hub.requests if "whoami" in request.path or "/users/" in request.path]


def test_from_python(hub: Hub) -> None:
    saved(hub, item("GPU", "NVIDIA", "RTX 4090", 24))
    report = hfmem.estimate(LLAMA, gpu=("me",), token=TOKEN)
    assert [fit.gpu.name for fit in report.fits] == ["RTX 4090"]
    with pytest.raises(ProfileGpuError, match="takes no count"):
        hfmem.estimate(LLAMA, gpu=("2x me",), token=TOKEN)


def test_it_may_be_a_default_of_ones_own(hub: Hub, hub_env: dict[str, str], tmp_path: Path) -> None:
    saved(hub, item("GPU", "NVIDIA", "RTX 4090", 24))
    file = tmp_path / "hfmem" / "config.toml"
    file.parent.mkdir()
    file.write_text('gpu = "me"')
    done = run(LLAMA, env={**hub_env, "HF_TOKEN": TOKEN, "XDG_CONFIG_HOME": str(tmp_path)})
    assert done.returncode == 0
    words = " ".join(done.stdout.split())
    assert "1 × RTX 4090" in words
    assert "--gpu me: the default in" in words
    assert "--gpu me: RTX 4090 24GB, as saved on the Hub profile of somebody" in words
