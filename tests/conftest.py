"""Fixtures for all tests: a local Hub, and an environment that reaches no other."""

from __future__ import annotations

import gc
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from tests.command import NOWHERE, clients_environment
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


def pytest_configure() -> None:
    """Nobody's defaults count in tests."""
    os.environ["XDG_CONFIG_HOME"] = os.devnull


def pytest_collection_finish() -> None:
    """What was collected stays to the end: no collection of garbage looks at it again."""
    gc.collect()
    gc.freeze()


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """A Hub without repositories that `huggingface_hub` and processes started from here take for the real one.

    Nobody is logged in, offline mode is off and all caches are empty.
    """
    home = tmp_path / "hf-home"
    with Hub() as server:
        for name in _CLEARED:
            monkeypatch.delenv(name, raising=False)
        for name, value in _settings(server, home).items():
            monkeypatch.setenv(name, value)
        with clients_environment():
            yield server
            monkeypatch.undo()  # what a test changed of the client, before the client is as it was


@pytest.fixture
def alone(tmp_path: Path) -> dict[str, str]:
    """An environment without a Hub and with an empty cache."""
    return {**os.environ, **NOWHERE, "HF_HOME": str(tmp_path)}


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
