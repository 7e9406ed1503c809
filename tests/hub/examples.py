"""Two small repositories and a plain client, for the Hub's own tests."""

from __future__ import annotations

import http.client
from collections.abc import Mapping
from typing import Final
from urllib.parse import urlsplit

from hfmem.fetcher.patterns import Row
from tests.hub.repos import sharded, single

__all__ = ["CONFIG", "MANY", "ONE", "ROWS", "fetch"]

CONFIG: Final = {"architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": 4}
ROWS: Final[list[Row]] = [("model.layers.{0-9}.mlp.weight", "BF16", (10, 20)), ("lm_head.weight", "F32", (7,))]
ONE: Final = single("org/one", CONFIG, ROWS)
MANY: Final = sharded("org/many", CONFIG, ROWS, 4)


def fetch(
    url: str, headers: Mapping[str, str] | None = None, *, method: str = "GET"
) -> tuple[int, dict[str, str], bytes]:
    """Status, headers by lower-case name and body of one request; redirects are not followed."""
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.netloc, timeout=10)
    try:
        connection.request(method, f"{parts.path}?{parts.query}", headers=dict(headers or {}))
        answer = connection.getresponse()
        return answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read()
    finally:
        connection.close()
