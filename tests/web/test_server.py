"""The page as a server: what it lets through, its API and its tools for agents by their own clients, and many visitors
at once."""

from __future__ import annotations

import asyncio
import json
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest

import hfmem
from hfmem.units import format_bytes
from tests.hub import Hub, single
from tests.web.serving import ROOT, Served, serving

pytestmark = [
    pytest.mark.web,
    # the clients' own, of releases of what they use
    pytest.mark.filterwarnings("default::DeprecationWarning", "default::UserWarning"),
]

LLAMA = "meta-llama/Llama-2-7b-hf"
GPT2 = "openai-community/gpt2"
SECRET = "hf_" + "s" * 30
CONFIG = {
    "model_type": "llama",
    "architectures": ["LlamaForCausalLM"],
    "hidden_size": 8,
    "intermediate_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "vocab_size": 10,
    "torch_dtype": "bfloat16",
}
ROWS = [("model.embed_tokens.weight", "BF16", (10, 8)), ("lm_head.weight", "BF16", (10, 8))]


def of(**given: str) -> str:
    return urlencode(given)


def test_a_page_answers_what_its_address_asks(served: Served) -> None:
    status, headers, text = served.ask(f"?{of(model=LLAMA, gpu='RTX 4090')}")
    assert status == 200
    assert "Fits on RTX 4090" in text
    assert headers["cache-control"] == "no-store"
    assert "script-src 'self';" in headers["content-security-policy"]
    assert "frame-ancestors 'self' https://huggingface.co" in headers["content-security-policy"], "a Space is a frame"
    assert headers["x-content-type-options"] == "nosniff"
    assert not {"set-cookie", "server-timing"} & {*headers}


def test_what_a_page_does_not_need_is_closed(served: Served) -> None:
    for path in (
        "gradio_api/upload",
        "gradio_api/file=/etc/passwd",
        "gradio_api/proxy=http://127.0.0.1:1/",
        "gradio_api/runs",
        "gradio_api/deep_link",
        "file=/etc/passwd",
        "monitoring",
        "theme.css",
        "docs",
        "login",
        "../etc/passwd",
    ):
        assert served.ask(path)[0] == 404, path
        assert served.ask(path, "x=1")[0] in (404, 405), path
    assert served.ask("answer", "model=" + "x" * 70_000)[0] == 413
    assert served.ask("answer", "&".join(["model=a/b"] * 300))[0] == 200


def test_nothing_is_loaded_from_elsewhere(served: Served) -> None:
    text = served.ask(f"?{of(model=LLAMA)}")[2] + served.ask("page.css")[2] + served.ask("page.js")[2]
    loaded = re.findall(r"""(?:src|<link[^>]*href)=["']([^"']+)|url\(([^)]+)\)|@import""", text)
    assert loaded
    assert not [each for each in loaded if "//" in "".join(each) and "data:" not in "".join(each)]


def test_the_api_gives_the_document_of_the_command_line(served: Served) -> None:
    client = pytest.importorskip("gradio_client").Client(served.url, verbose=False)
    found = client.predict(GPT2, gpu=["T4"], batch="2", api_name="/estimate")
    (report,) = found["results"]
    assert report["memory"]["total"] == hfmem.estimate(GPT2, batch=2, gpu="T4", offline=True).estimate.total
    several = client.predict([GPT2, "no/such"], api_name="/compare")
    assert (len(several["results"]), len(several["errors"])) == (1, 1)
    assert client.predict("gpt2", api_name="/models")[0] == GPT2
    assert {"name", "memory"} <= {*client.predict(api_name="/accelerators")[0]}


def test_the_api_by_hand_as_the_docs_show_it(served: Served) -> None:
    body = json.dumps({"model": GPT2, "gpu": ["T4"]})
    status, _, text = served.ask("gradio_api/call/v2/estimate", body, {"Content-Type": "application/json"})
    assert status == 200
    _, _, stream = served.ask(f"gradio_api/call/v2/estimate/{json.loads(text)['event_id']}")
    (line,) = [line for line in stream.splitlines() if line.startswith("data:")]
    (document,) = json.loads(line.removeprefix("data:"))
    assert document["results"][0]["fit"][0]["verdict"] == "fits"


def test_agents_find_the_tools_and_what_each_option_means(served: Served) -> None:
    tools, called = asyncio.run(_agent(f"{served.url}gradio_api/mcp/"))
    assert {name.rpartition("hfmem_")[2] for name in tools} == {"estimate", "compare", "accelerators", "models"}
    estimate = next(tool for name, tool in tools.items() if name.endswith("estimate"))
    assert "before anything is downloaded" in estimate.description
    fields = estimate.inputSchema["properties"]
    assert "One of:" in fields["runtime"]["description"]
    assert "request" not in fields
    document = json.loads(called)
    assert document["results"][0]["fit"][0]["verdict"] == "no"
    assert document["results"][0]["help"]


async def _agent(url: str) -> tuple[dict[str, Any], str]:
    """What an agent's client is offered, and the answer to a call of `estimate`."""
    pytest.importorskip("mcp")
    from mcp import ClientSession
    from mcp.client.streamable_http import streamablehttp_client

    async with streamablehttp_client(url) as (read, write, _), ClientSession(read, write) as session:
        await session.initialize()
        tools = {tool.name: tool for tool in (await session.list_tools()).tools}
        name = next(name for name in tools if name.endswith("estimate"))
        result = await session.call_tool(name, {"model": LLAMA, "gpu": ["RTX 3060"]})
        return tools, result.content[0].text  # type: ignore[union-attr]


@pytest.fixture
def visited(hub: Hub, hub_env: dict[str, str], tmp_path: Path) -> Iterator[Served]:
    """A page that asks a Hub with a private model, which one token may read."""
    hub.put(replace(single("org/hidden", CONFIG, ROWS), private=True), single("org/open", CONFIG, ROWS))
    hub.site.tokens[SECRET] = {"org/hidden"}
    with serving(tmp_path, "--host", "127.0.0.1", env=hub_env) as page:
        yield page


def test_a_token_opens_a_model_and_is_nowhere_after(visited: Served, hub: Hub, tmp_path: Path) -> None:
    asked = of(model="org/hidden")
    _, _, without = visited.ask("answer", asked)
    assert 'class="problem"' in without
    _, headers, answer = visited.ask("answer", asked, {"X-Hub-Token": SECRET})
    assert "org/hidden: needs" in answer
    assert SECRET not in answer + json.dumps(headers)
    assert "org/hidden: needs" not in visited.ask("answer", asked)[2], "the next visitor is not shown it"
    document = json.loads(visited.ask(f"json?{asked}", headers={"X-Hub-Token": SECRET})[2])
    assert document["results"][0]["memory"]["weights"] == 320
    assert {request.authorization for request in hub.requests} == {None, f"Bearer {SECRET}"}
    held = [path for path in tmp_path.rglob("*") if path.is_file() and SECRET.encode() in path.read_bytes()]
    assert held == [], "neither in the log nor in a cache"


def test_suggestions_are_of_the_hub_too(visited: Served) -> None:
    assert "org/open" in json.loads(visited.ask("suggest?q=org/op")[2])
    assert "org/hidden" not in json.loads(visited.ask("suggest?q=org/hid")[2])


SEQS = [256 + 61 * number for number in range(30)]


def test_thirty_visitors_at_once_are_each_answered_right(served: Served) -> None:
    expected = {seq: hfmem.estimate(LLAMA, seq=seq, gpu="RTX 4090", offline=True).estimate.total for seq in SEQS}

    def visit(seq: int) -> tuple[int, int, int]:
        given = of(model=LLAMA, seq=str(seq), gpu="RTX 4090")
        status, _, html = served.ask(f"?{given}")
        shown = format_bytes(expected[seq] or 0)
        assert status == 200
        assert f"{seq:,} tokens" in html
        assert shown in html
        document = json.loads(served.ask(f"json?{given}")[2])
        return seq, document["results"][0]["scenario"]["seq"], document["results"][0]["memory"]["total"]

    with ThreadPoolExecutor(len(SEQS)) as pool:
        found = list(pool.map(visit, SEQS))
    assert found == [(seq, seq, expected[seq]) for seq in SEQS]


def test_calls_that_nobody_waits_for_are_bounded(served: Served) -> None:
    body = json.dumps({"model": LLAMA, "gpu": ["RTX 3060"]})

    def call(_: int) -> int:
        return served.ask("gradio_api/call/v2/estimate", body, {"Content-Type": "application/json"})[0]

    with ThreadPoolExecutor(32) as pool:
        found = list(pool.map(call, range(200)))
    assert {*found} == {200, 503}
    assert found.count(503) > 50
    assert served.ask(f"?{of(model=LLAMA)}")[0] == 200, "the page is answered meanwhile"


def test_memory_is_flat_over_two_thousand_requests(tmp_path: Path) -> None:
    with serving(tmp_path) as page:
        _ask_many(page, 400)  # caches of the program fill
        before = page.memory()
        _ask_many(page, 1000)
        between = page.memory()
        _ask_many(page, 1000)
        after = page.memory()
    print(f"{before / 2**20:.0f} MiB, after 1,000 {between / 2**20:.0f} MiB, after 2,000 {after / 2**20:.0f} MiB")
    assert after - before < 24 * 2**20
    assert after - between < 12 * 2**20


def _ask_many(page: Served, count: int) -> None:
    """Questions of every kind: of other sizes, several models, training, what fails, and what is refused."""
    kinds = (
        {"model": LLAMA, "gpu": "RTX 4090"},
        {"model": GPT2, "gpu": "T4", "train": "lora"},
        {"model": LLAMA, "runtime": "vllm", "gpu": "H100"},
        {"model": "no/such"},
        {"model": GPT2, "dtype": "nonsense"},
    )

    def one(number: int) -> int:
        kind = kinds[number % len(kinds)]
        given = of(**kind, seq=str(128 + number % 800))
        return page.ask("answer", given)[0] if number % 2 else page.ask(f"json?{given}")[0]

    with ThreadPoolExecutor(8) as pool:
        assert {*pool.map(one, range(count))} == {200}


def test_the_space_runs_as_it_is(tmp_path: Path) -> None:
    folder = tmp_path / "space"
    shutil.copytree(ROOT / "spaces" / "hfmem", folder)
    with serving(tmp_path, "--offline", command=(str(folder / "app.py"),)) as page:
        assert "Fits on RTX 4090" in page.ask(f"?{of(model=LLAMA, gpu='RTX 4090')}")[2]


def test_answers_are_quick(served: Served) -> None:
    """Measured by the median, on a machine that others use; the browser's own times are in docs/page.md."""
    took = []
    for number in range(15):
        began = time.perf_counter()
        served.ask("answer", of(model=LLAMA, gpu="RTX 4090", seq=str(1000 + number)))
        took.append(time.perf_counter() - began)
    assert sorted(took)[7] < 1


_WITHOUT = """
import importlib.util
find = importlib.util.find_spec
importlib.util.find_spec = lambda name, *rest: None if name == "gradio" else find(name, *rest)
from hfmem.web.__main__ import main
main(["--offline"])
"""


def test_without_gradio_the_next_step_is_told() -> None:
    process = subprocess.run([sys.executable, "-c", _WITHOUT], capture_output=True, text=True, check=False, timeout=60)
    assert process.returncode == 1
    assert process.stderr.strip() == "hfmem-web needs Gradio: pip install 'hfmem[web]'"
