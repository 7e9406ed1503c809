"""What GitHub answers to `hf extensions install OWNER/hf-hfmem` (huggingface_hub 2.4, `cli/extensions.py`).

Run as a program, it is the real `hf` with the addresses of GitHub redirected: `python -m tests.tools.github SERVER …`.
Nothing else of the client is changed.
"""

from __future__ import annotations

import io
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from tests.tools.served import Answer, Asked

__all__ = ["COMMIT", "ROOT", "archive", "files", "repository"]

ROOT = Path(__file__).parents[2]
COMMIT = "0123456789abcdef0123456789abcdef01234567"
_GENERATED = {"__pycache__", "build", "dist", "node_modules"}
_HOSTS = ("https://github.com/", "https://raw.githubusercontent.com/", "https://api.github.com/")


def archive(root: Path = ROOT) -> bytes:
    """`archive/HEAD.zip`: the files of the checkout below one folder, named after repository and commit."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as file:
        for path in files(root):
            file.write(path, f"hf-hfmem-{COMMIT}/{path.relative_to(root).as_posix()}")
    return stream.getvalue()


def files(folder: Path = ROOT) -> Iterator[Path]:
    """What is under version control, nearly: neither hidden folders nor generated ones."""
    for path in sorted(folder.iterdir()):
        if path.is_dir():
            if not (path.name.startswith(".") or path.name in _GENERATED or path.name.endswith(".egg-info")):
                yield from files(path)
        elif path.name != ".git":  # a file in a work tree
            yield path


def repository(owner: str, root: Path = ROOT) -> Callable[[Asked], Answer]:
    """The answers of a public repository `hf-hfmem` with this checkout: its page, its raw files, its refs and the
    archive. It has no file `hf-hfmem`, so it is a Python package and no script."""
    page, raw = f"/github.com/{owner}/hf-hfmem", f"/raw.githubusercontent.com/{owner}/hf-hfmem/HEAD/"
    refs = f"001e# service=git-upload-pack\n0000{0:04x}{COMMIT} HEAD\0multi_ack\n".encode()

    def answer(asked: Asked) -> Answer:
        path = asked.path.partition("?")[0]
        if path == page:
            return Answer()
        if path == f"{page}.git/info/refs":
            return Answer(content=refs)
        if path == f"{page}/archive/HEAD.zip":
            return Answer(content=archive(root), headers={"Content-Type": "application/zip"})
        file = root / path.removeprefix(raw)
        if path.startswith(raw) and file.is_file():
            return Answer(content=file.read_bytes())
        return Answer(status=404)

    return answer


def _redirected(server: str, value: Any) -> Any:
    if isinstance(value, str) and value.startswith(_HOSTS):
        return f"{server}/{value.removeprefix('https://')}"
    return value


def main(server: str, arguments: list[str]) -> None:
    """The real client, which asks `server` for what it would ask GitHub."""
    from huggingface_hub.cli import extensions
    from huggingface_hub.cli.hf import main as hf

    request, run = extensions._github_request, subprocess.run

    def asked(method: str, url: str, **options: Any) -> Any:
        return request(method, _redirected(server, url), **options)

    def started(command: Any, **options: Any) -> Any:
        return run([_redirected(server, word) for word in command], **options)

    extensions._github_request = asked  # type: ignore[assignment]
    subprocess.run = started  # type: ignore[assignment]
    sys.argv = ["hf", *arguments]
    hf()


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
