"""`hfmem-web`, and `python -m hfmem.web`: serve the page."""

from __future__ import annotations

from argparse import ArgumentParser
from collections.abc import Sequence
from importlib.util import find_spec

from hfmem import __version__

__all__ = ["main"]


def main(arguments: Sequence[str] | None = None) -> None:
    """Serve the page until it is interrupted."""
    asked = _parser().parse_args(arguments)
    if find_spec("gradio") is None:
        raise SystemExit("hfmem-web needs Gradio: pip install 'hfmem[web]'")
    from hfmem.web.server import launch  # takes a second

    launch(host=asked.host, port=asked.port, offline=asked.offline, private=asked.private, browser=asked.open)


def _parser() -> ArgumentParser:
    parser = ArgumentParser(
        prog="hfmem-web",
        description="The memory that a Hugging Face model needs, as a page, an API and a tool for agents.",
    )
    parser.add_argument(
        "--host", default="127.0.0.1", help="address to listen at; 0.0.0.0 for all (default: %(default)s)"
    )
    parser.add_argument("--port", type=int, help="port (default: the first free one from 7860)")
    parser.add_argument("--offline", action="store_true", help="do not ask the Hub: only models of the bundled catalog")
    parser.add_argument(
        "--private",
        action="store_true",
        help="nobody but you can open the page: it may use this machine's Hub login, caches, files and accelerators",
    )
    parser.add_argument("--open", action="store_true", help="open the page in the browser")
    parser.add_argument("--version", action="version", version=f"hfmem {__version__}")
    return parser


if __name__ == "__main__":
    main()
