"""A local Hugging Face Hub over real HTTP, for tests and benchmarks."""

from tests.hub.faults import (
    crawling,
    cut,
    dropped,
    endless,
    html_page,
    ignored_range,
    rate_limited,
    stalled,
    status,
    trickling,
)
from tests.hub.files import File, json_file, safetensors_file, text_file, virtual_file
from tests.hub.repos import Repo, adapter, binary, diffusers, from_fixture, gguf, sharded, single
from tests.hub.requests import Request
from tests.hub.server import Hub

__all__ = [
    "File",
    "Hub",
    "Repo",
    "Request",
    "adapter",
    "binary",
    "crawling",
    "cut",
    "diffusers",
    "dropped",
    "endless",
    "from_fixture",
    "gguf",
    "html_page",
    "ignored_range",
    "json_file",
    "rate_limited",
    "safetensors_file",
    "sharded",
    "single",
    "stalled",
    "status",
    "text_file",
    "trickling",
    "virtual_file",
]
