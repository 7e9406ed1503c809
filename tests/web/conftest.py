"""A page for the tests of this folder that ask a real server."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.web.serving import Served, serving


@pytest.fixture(scope="session")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A page that runs without the Hub."""
    with serving(tmp_path_factory.mktemp("page")) as page:
        yield page
