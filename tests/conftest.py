"""Fixtures for all tests: a local Hub, and an environment that reaches no other."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from huggingface_hub import close_session, constants
from hypothesis import HealthCheck, settings

from tests.hub.server import Hub

# A loaded machine is slow at times: how long an example takes says nothing of the code.
settings.register_profile("any machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("any machine")

_CLEARED = (
    "HF_ASSETS_CACHE",
    "HF_HUB_CACHE",
    "HF_HUB_OFFLINE",
    "HF_STORED_TOKENS_PATH",
    "HF_TOKEN",
    "HF_TOKEN_PATH",
    "HF_XET_CACHE",
    "HUGGINGFACE_ASSETS_CACHE",
    "HUGGINGFACE_HUB_CACHE",
    "HUGGING_FACE_HUB_TOKEN",
    "TRANSFORMERS_OFFLINE",
)


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """A Hub without repositories that `huggingface_hub` and processes started from here take for the real one.

    Nobody is logged in, offline mode is off and all caches are empty. `huggingface_hub` reads its environment once,
    when it is imported, so its constants are changed beside the environment.
    """
    home = tmp_path / "hf-home"
    with Hub() as server:
        for name in _CLEARED:
            monkeypatch.delenv(name, raising=False)
        for name, value in _settings(server, home).items():
            monkeypatch.setenv(name, value)
        for name, constant in _constants(server, home).items():
            monkeypatch.setattr(constants, name, constant)
        close_session()
        yield server
        close_session()


@pytest.fixture
def hub_env(hub: Hub) -> dict[str, str]:
    """The environment for a process that is to use the local Hub. A copy: a test may change it."""
    return dict(os.environ)


def _settings(hub: Hub, home: Path) -> dict[str, str]:
    return {
        "HF_ENDPOINT": hub.url,
        "HF_HOME": str(home),
        # Telemetry makes one request a day on its own account, and tests count requests.
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "NO_PROXY": "127.0.0.1",
        "no_proxy": "127.0.0.1",
    }


def _constants(hub: Hub, home: Path) -> dict[str, object]:
    return {
        "AGENT_HARNESSES_PATH": str(home / ".agent_harnesses.json"),
        "ENDPOINT": hub.url,
        "HF_ASSETS_CACHE": str(home / "assets"),
        "HF_HOME": str(home),
        "HF_HUB_CACHE": str(home / "hub"),
        "HF_HUB_DISABLE_TELEMETRY": True,
        "HF_HUB_OFFLINE": False,
        "HF_STORED_TOKENS_PATH": str(home / "stored_tokens"),
        "HF_TOKEN_PATH": str(home / "token"),
        "HF_XET_CACHE": str(home / "xet"),
        "HUGGINGFACE_CO_URL_TEMPLATE": f"{hub.url}/{{repo_id}}/resolve/{{revision}}/{{filename}}",
        "HUGGINGFACE_HUB_CACHE": str(home / "hub"),
    }
