"""The bucket of skills that `hf skills add` installs from (huggingface_hub 2.4, `cli/_skills.py`), with its storage.

The client reads `marketplace.json` and the files of a skill from the bucket `huggingface/skills`: paths from the Hub,
contents from a content-addressed store that answers with a file's chunks. One chunk, not compressed, holds a file.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from tests.tools.served import Answer, Asked

__all__ = ["bucket", "marketplace"]

_BUCKET = "/api/buckets/huggingface/skills"
_LONG_AFTER = 4_102_444_800  # seconds since 1970
_LARGEST_CHUNK = 128 * 1024  # of Xet


def marketplace(*skills: Path) -> dict[str, bytes]:
    """The files of a bucket with these folders as skills, as the repository huggingface/skills publishes its own."""
    plugins = [
        {"name": folder.name, "source": f"./skills/{folder.name}", "skills": "./", "description": folder.name}
        for folder in skills
    ]
    listing = {"name": "huggingface-skills", "owner": {"name": "Hugging Face"}, "plugins": plugins}
    files = {"marketplace.json": json.dumps(listing).encode()}
    for folder in skills:
        for path in sorted(folder.rglob("*")):
            if path.is_file():
                files[f"skills/{folder.name}/{path.relative_to(folder).as_posix()}"] = path.read_bytes()
    return files


def bucket(files: Mapping[str, bytes]) -> Callable[[Asked], Answer]:
    """The answers of the Hub and of its store for a bucket with these files."""
    contents = {_hash(content): content for content in files.values()}

    def answer(asked: Asked) -> Answer:
        path = unquote(asked.path.partition("?")[0])
        of_store = path.removeprefix("/store/")
        return _stored(contents, of_store, asked.server) if of_store != path else _listed(files, path, asked)

    return answer


def _listed(files: Mapping[str, bytes], path: str, asked: Asked) -> Answer:
    """What the Hub tells of files: their entries, and where the store is."""
    if path == f"{_BUCKET}/paths-info":
        return _json([_entry(name, files[name]) for name in json.loads(asked.body)["paths"] if name in files])
    if path.startswith(f"{_BUCKET}/tree"):
        prefix = path.removeprefix(f"{_BUCKET}/tree").removeprefix("/")
        return _json([_entry(name, content) for name, content in files.items() if name.startswith(prefix)])
    if path == f"{_BUCKET}/xet-read-token":
        store = {"accessToken": "-", "exp": _LONG_AFTER, "casUrl": f"{asked.server}/store"}
        return _json(store)
    content = files.get(path.removeprefix("/buckets/huggingface/skills/resolve/"))
    if content is None:
        return Answer(status=404)
    route = f"{asked.server}{_BUCKET}/xet-read-token"
    return Answer(headers={"X-Xet-Hash": _hash(content), "X-Xet-Refresh-Route": route, "ETag": _hash(content)})


def _stored(contents: Mapping[str, bytes], path: str, server: str) -> Answer:
    """What the store has of a file: how it is put together, and its only chunk."""
    kind, _, hashed = path.rpartition("/")
    if hashed not in contents:
        return Answer(status=404)
    if kind.endswith("reconstructions"):
        return _json(_reconstruction(hashed, contents[hashed], server))
    chunk = _chunk(contents[hashed])
    return Answer(status=206, content=chunk, headers={"Content-Range": f"bytes 0-{len(chunk) - 1}/{len(chunk)}"})


def _entry(name: str, content: bytes) -> dict[str, Any]:
    when = "2026-01-01T00:00:00.000Z"
    return {
        "type": "file",
        "path": name,
        "size": len(content),
        "xetHash": _hash(content),
        "mtime": when,
        "uploadedAt": when,
    }


def _reconstruction(hashed: str, content: bytes, server: str) -> dict[str, Any]:
    """How a file is put together: from the only chunk of the block of the same name."""
    one, length = {"start": 0, "end": 1}, len(_chunk(content))
    place = {"url": f"{server}/store/chunks/{hashed}"}
    return {
        "offset_into_first_range": 0,
        "terms": [{"hash": hashed, "unpacked_length": len(content), "range": one}],
        "xorbs": {hashed: [{**place, "ranges": [{"chunks": one, "bytes": {"start": 0, "end": length - 1}}]}]},
    }


def _chunk(content: bytes) -> bytes:
    """A chunk as it is stored: version, length, no compression, length before compression, content."""
    assert len(content) <= _LARGEST_CHUNK
    length = len(content).to_bytes(3, "little")
    return b"\0" + length + b"\0" + length + content


def _hash(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _json(value: Any, headers: Mapping[str, str] | None = None) -> Answer:
    return Answer(content=json.dumps(value).encode(), headers={"Content-Type": "application/json", **(headers or {})})
