"""Serve repositories of `fixtures/` until standard input closes.

    python -m tests.hub openai-community--gpt2 deepseek-ai--DeepSeek-V3 --latency 0.04

The first line on standard output is JSON: `{"url": …, "cdn_url": …}`. A line on standard input is answered with a line
of JSON, the number of requests since the last one: `{"hub": 3, "cdn": 1}`.
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import replace
from pathlib import Path

from tests.hub.repos import from_fixture
from tests.hub.server import Hub


def main() -> None:
    """Read the arguments and serve."""
    parser = argparse.ArgumentParser(prog="python -m tests.hub", description="A local Hugging Face Hub.")
    parser.add_argument("fixtures", nargs="*", type=Path, help="folders of fixtures/")
    parser.add_argument("--latency", type=float, default=0.0, help="seconds before each answer")
    parser.add_argument("--alias", action="append", default=[], metavar="ID=FOLDER", help="the same under another id")
    parser.add_argument("--open", action="store_true", help="no repository is gated")
    parser.add_argument("--no-sharded-endpoint", action="store_true", help="no request for all shard headers at once")
    parser.add_argument("--compress", action="store_true", help="gzip text")
    args = parser.parse_args()
    repos = [from_fixture(folder) for folder in args.fixtures]
    repos += [
        replace(from_fixture(folder), id=name) for name, _, folder in (text.partition("=") for text in args.alias)
    ]
    if args.open:
        repos = [replace(repo, gated=False) for repo in repos]
    settings = {"sharded_endpoint": not args.no_sharded_endpoint, "compress": args.compress}
    with Hub(repos, latency=args.latency, **settings) as hub:
        print(json.dumps({"url": hub.url, "cdn_url": hub.cdn_url}), flush=True)
        for _ in sys.stdin:
            ports = [request.port for request in hub.requests]
            hub.reset()
            print(json.dumps({"hub": ports.count("hub"), "cdn": ports.count("cdn")}), flush=True)


if __name__ == "__main__":
    main()
