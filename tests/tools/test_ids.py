"""The ids of a task, from the pages of the Hub's listing."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest
from huggingface_hub import constants

from hfmem.errors import HfmemError, UnexpectedAnswerError
from hfmem.probe.ids import ids, main
from tests.fetcher.test_hub import CONFIG, ROWS
from tests.hub import Hub, html_page, single, status

NAMES = [f"org/model-{number}" for number in range(7)]


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    repos = [single(name, CONFIG, ROWS) for name in NAMES]
    others = [replace(single("org/embedding", CONFIG, ROWS), task="feature-extraction")]
    others.append(replace(single("org/secret", CONFIG, ROWS), private=True))
    with Hub([*repos[:3], *others, *repos[3:]]) as opened:
        monkeypatch.setattr(constants, "ENDPOINT", opened.url)
        opened.site.list_page = 2
        yield opened


def test_every_public_model_of_the_task_is_listed_once(hub: Hub) -> None:
    assert list(ids("text-generation")) == NAMES
    assert list(ids("feature-extraction")) == ["org/embedding"]
    assert len(hub.requests) == 4 + 1


def test_the_program_prints_them_and_tells_failures(hub: Hub, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["text-generation"]) == 0
    assert capsys.readouterr().out.split() == NAMES
    hub.fail("/api/models", status(403), times=None)
    assert main(["text-generation"]) == 1
    assert capsys.readouterr().err


def test_quotas_are_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    with Hub([single(name, CONFIG, ROWS) for name in NAMES], quotas={"api": 2}, window=1) as hub:
        hub.site.list_page = 2
        monkeypatch.setattr(constants, "ENDPOINT", hub.url)
        assert list(ids("text-generation")) == NAMES
        assert [request.status for request in hub.requests] == [200] * 4


def test_an_answer_that_is_no_listing(hub: Hub) -> None:
    hub.fail("/api/models", html_page(), times=None)
    with pytest.raises(HfmemError):
        list(ids("text-generation"))


def test_no_page_of_another_address_is_asked_for(hub: Hub) -> None:
    there = hub.site.url
    hub.site.url = "http://127.0.0.1:9"
    with pytest.raises(UnexpectedAnswerError):
        list(ids("text-generation"))
    hub.site.url = there
