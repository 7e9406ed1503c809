"""How the Hub answers: a function from a request to a response, over a set of repositories. No sockets here."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import parse_qs, quote, urlencode

from tests.hub.files import File
from tests.hub.repos import Repo
from tests.hub.requests import Request
from tests.hub.responses import Response, json_response, text_response
from tests.hub.routes import Route, parse

__all__ = ["Site", "bucket_of"]

POINTER_SIZE: Final = 135  # bytes of the pointer file that git holds for an LFS object
WINDOW: Final = 300  # seconds
_QUOTAS: Final = {"api": (500, 1000), "resolvers": (3000, 5000), "pages": (100, 200)}  # anonymous, free account
_RANGE: Final = re.compile(r"bytes=(\d*)-(\d*)")
_DATE: Final = "2026-01-01T00:00:00.000Z"

_EXPANDABLE: Final = frozenset(
    [
        "author",
        "baseModels",
        "cardData",
        "childrenModelCount",
        "config",
        "createdAt",
        "disabled",
        "downloads",
        "downloadsAllTime",
        "evalResults",
        "gated",
        "gguf",
        "inference",
        "inferenceProviderMapping",
        "lastModified",
        "library_name",
        "likes",
        "mask_token",
        "model-index",
        "pipeline_tag",
        "private",
        "resourceGroup",
        "safetensors",
        "sha",
        "siblings",
        "spaces",
        "tags",
        "transformersInfo",
        "trendingScore",
        "usedStorage",
        "widgetData",
    ]
)


@dataclass(slots=True, kw_only=True)
class Site:
    """The Hub's knowledge and manners.

    Attributes:
        url: address of the Hub, set when it opens.
        cdn_url: address of the server that has the large files.
        tokens: valid tokens, each with the gated and private repositories that it may read.
        owners: whose the tokens are, by token.
        hardware: saved hardware by user; a user who does not show it has none here.
        sharded_endpoint: whether there is the one request for all shard headers.
        tree_page: entries a page of a listing.
        list_page: repositories a page of a list of them.
        compress: gzip text for clients that accept it, as the real Hub's CDN does.
        left: requests left, seconds of the window, and quota, of each bucket that is counted.
        window: seconds of a window.
    """

    url: str = ""
    cdn_url: str = ""
    tokens: dict[str, set[str]] = field(default_factory=dict)
    owners: dict[str, str] = field(default_factory=dict)
    hardware: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    sharded_endpoint: bool = True
    tree_page: int = 1000
    list_page: int = 1000
    compress: bool = False
    left: dict[str, tuple[int, int, int]] = field(default_factory=dict)
    window: int = WINDOW
    _repos: dict[str, Repo] = field(default_factory=dict)
    _canonical: dict[str, str] = field(default_factory=dict)
    _commits: dict[tuple[str, str], Repo] = field(default_factory=dict)
    _objects: dict[str, File] = field(default_factory=dict)
    _bodies: dict[tuple[object, ...], bytes] = field(default_factory=dict)

    def put(self, repo: Repo) -> None:
        """Add a repository, or push to it: its earlier commits stay."""
        self._repos[repo.id] = repo
        self._canonical[repo.id.lower()] = repo.id
        for snapshot in (repo, *(other for other in repo.revisions.values() if other is not None)):
            self._commits[repo.id, snapshot.sha] = snapshot
            self._objects.update((_object_path(repo, file), file) for file in snapshot.files if file.lfs)
        self._bodies.clear()

    def answer(self, request: Request) -> Response:
        """What the Hub says."""
        response = self._answer(request)
        if self.compress and "gzip" in request.headers.get("accept-encoding", "") and response.status == 200:
            response = response.compressed()
        return response.plus(*self.limits(request))

    def deliver(self, request: Request, *, ignore_range: bool = False) -> Response:
        """What the CDN says. It refuses credentials beside the signature in the address, as S3 does."""
        file = self._objects.get(request.decoded_path)
        if request.authorization is not None:
            return _xml(400, "InvalidArgument", "Only one auth mechanism allowed")
        if file is None or f"Signature={_signature(request.path)}" not in request.query:
            return _xml(403, "AccessDenied", "Access Denied")
        headers = (("Content-Type", "application/octet-stream"), ("ETag", f'"{file.sha256}"'))
        return _content(file, None if ignore_range else request.range, headers)

    def _answer(self, request: Request) -> Response:
        if (beside := self._beside_repositories(request)) is not None:
            return beside
        route = parse(request.path)
        if route is None or (route.kind == "headers" and not self.sharded_endpoint):
            message = "Sorry, we can't find the page you are looking for."
            return json_response(404, json.dumps({"error": message}).encode())
        repo = self._repos.get(self._canonical.get(route.repo_id.lower(), ""))
        refusal = self._refusal(route, repo, request)
        if refusal is not None or repo is None:
            return refusal or _missing()
        target = repo.renamed_to or repo.id
        if target != route.repo_id:
            return _redirect(route, target, request)
        return self._from_repo(route, repo, request)

    def _beside_repositories(self, request: Request) -> Response | None:
        """What is about no repository; None for the rest."""
        if request.path == "/api/agent-harnesses":  # the client library asks for it once a day
            return json_response(200, b'{"standardEnvVars":[],"harnesses":{}}')
        if request.path == "/api/whoami-v2" or request.path.startswith("/api/users/"):
            return self._user(request)
        return self._found(request) if request.decoded_path == "/api/models" else None

    def _user(self, request: Request) -> Response:
        """Whose the token is, or a user's public profile (huggingface.co/docs/hub/hardware)."""
        reader = self._reader(request)
        if reader is None:
            message = "Invalid credentials in Authorization header"
            return json_response(401, json.dumps({"error": message}).encode(), ("X-Error-Message", message))
        if request.path == "/api/whoami-v2":
            return (
                _missing() if not reader else json_response(200, _dump({"type": "user", "name": self.owners[reader]}))
            )
        name = request.path.removeprefix("/api/users/").removesuffix("/overview")
        if name not in self.owners.values():
            return json_response(404, json.dumps({"error": "This user does not exist"}).encode())
        shown = {"hardwareItems": self.hardware[name]} if name in self.hardware else {}
        return json_response(200, _dump({"user": name, "type": "user", "isPro": False, "numModels": 0, **shown}))

    def _found(self, request: Request) -> Response:
        """The repositories with the searched words in their id and all tags of the filter, of those that who asks may
        see, in pages."""
        query, reader = parse_qs(request.query), self._reader(request)
        words, filters = query.get("search", [""])[0].lower(), set(query.get("filter", []))
        expand = query.get("expand", []) + query.get("expand[]", [])
        if unknown := [key for key in expand if key not in _EXPANDABLE]:
            return json_response(400, json.dumps({"error": f"Invalid expand: {unknown[0]}"}).encode())
        seen = [
            each
            for each in self._repos.values()
            if each.renamed_to is None and (not each.private or each.id in self.tokens.get(reader or "", ()))
        ]
        tasks = query.get("pipeline_tag", [])
        found = [
            each
            for each in seen
            if words in each.id.lower() and filters <= set(each.tags) and each.task in (tasks or [each.task])
        ]
        start = int(query.get("cursor", ["0"])[0])
        end = start + min(int(query.get("limit", [self.list_page])[0]), self.list_page)
        rows = [
            json.loads(_info(each, each, {}, expand)) if expand else {"id": each.id, "modelId": each.id}
            for each in found[start:end]
        ]
        response = json_response(200, json.dumps(rows).encode())
        if end >= len(found):
            return response
        kept = [(name, value) for name, values in query.items() for value in values if name != "cursor"]
        following = f"{self.url}{request.path}?{urlencode([*kept, ('cursor', str(end))])}"
        return response.plus(("Link", f'<{following}>; rel="next"'))

    def _refusal(self, route: Route, repo: Repo | None, request: Request) -> Response | None:
        """Who may see what: None lets the request through."""
        reader = self._reader(request)
        locked = repo is not None and bool(repo.gated) and route.needs_licence
        if reader is None and not (locked and repo is not None and not repo.private):
            return _refuse(route, 401, "Invalid credentials in Authorization header")
        may = repo is not None and reader is not None and repo.id in self.tokens.get(reader, ())
        if repo is None or (repo.private and not may):
            return _missing() if reader == "" else _refuse(route, 404, "Repository not found", "RepoNotFound")
        if repo.disabled and route.needs_licence:
            return _refuse(route, 403 if reader else 401, "Access to this resource is disabled.")
        if locked and not may:
            return _gated(route, repo, reader)
        return None

    def _reader(self, request: Request) -> str | None:
        """The token that came along: "" for anonymous requests, None for one that the Hub does not know."""
        if request.authorization is None:
            return ""
        token = request.authorization.removeprefix("Bearer ")
        return token if token in self.tokens else None

    def _from_repo(self, route: Route, repo: Repo, request: Request) -> Response:
        snapshot = repo.at(route.revision) or self._commits.get((repo.id, route.revision))
        if snapshot is None:
            return _refuse(route, 404, f"Invalid rev id: {route.revision}", "RevisionNotFound")
        if route.kind == "info":
            return self._info(repo, snapshot, request)
        if route.kind == "tree":
            return self._tree(repo, snapshot, route, request)
        if route.kind == "headers":
            return self._headers(repo, route)
        return self._file(repo, snapshot, route, request)

    def _info(self, repo: Repo, snapshot: Repo, request: Request) -> Response:
        query = parse_qs(request.query)
        expand = query.get("expand", []) + query.get("expand[]", [])
        if unknown := [key for key in expand if key not in _EXPANDABLE]:
            return json_response(400, json.dumps({"error": f"Invalid expand: {unknown[0]}"}).encode())
        key = ("info", repo.id, snapshot.sha, request.query)
        return json_response(200, self._body(key, lambda: _info(repo, snapshot, query, expand)))

    def _tree(self, repo: Repo, snapshot: Repo, route: Route, request: Request) -> Response:
        query = parse_qs(request.query)
        recursive = query.get("recursive", ["false"])[0].lower() in ("true", "1")
        entries = _entries(snapshot, route.rest, recursive)
        if route.rest and not entries:
            message = f"{route.rest} does not exist on '{route.revision}'"
            return _refuse(route, 404, message, "EntryNotFound")
        start = int(query.get("cursor", ["0"])[0])
        end = start + min(int(query.get("limit", [self.tree_page])[0]), self.tree_page)
        response = json_response(200, _dump(entries[start:end]))
        if end >= len(entries):
            return response
        kept = {name: values[0] for name, values in query.items()}
        following = f"{self.url}{request.path}?{urlencode({**kept, 'cursor': str(end)})}"
        return response.plus(("Link", f'<{following}>; rel="next"'))

    def _headers(self, repo: Repo, route: Route) -> Response:
        """The headers of all shards, of `main`."""
        index = repo.file(route.rest)
        if index is None:
            return _refuse(route, 404, "Entry not found", "EntryNotFound")
        try:
            body = self._body(("headers", repo.id, repo.sha, route.rest), lambda: _all_headers(repo, index))
        except (ValueError, KeyError, AttributeError):
            return _refuse(route, 422, f"{route.rest} is not a safetensors index")
        return json_response(200, body)

    def _file(self, repo: Repo, snapshot: Repo, route: Route, request: Request) -> Response:
        file = snapshot.file(route.rest)
        commit = ("X-Repo-Commit", snapshot.sha)
        if file is None:
            return _refuse(route, 404, "Entry not found", "EntryNotFound").plus(commit)
        if not file.lfs:
            content_type = "application/json" if file.name.endswith(".json") else "text/plain; charset=utf-8"
            headers = (("Content-Type", content_type), ("ETag", f'"{file.blob_id}"'), commit)
            return _content(file, request.range, headers)
        path = quote(_object_path(repo, file))
        name = quote(f"inline; filename*=UTF-8''{file.name}; filename=\"{file.name}\";", safe="")
        signed = f"response-content-disposition={name}&Expires=4070908800&Signature={_signature(path)}"
        location = f"{self.cdn_url}{path}?{signed}"
        return text_response(
            302,
            f"Found. Redirecting to {location}",
            ("Location", location),
            ("Accept-Ranges", "bytes"),
            ("X-Linked-Size", str(file.size)),
            ("X-Linked-ETag", f'"{file.sha256}"'),
            commit,
        )

    def limits(self, request: Request) -> tuple[tuple[str, str], ...]:
        """The quota headers of every answer. They say that hardly anything is used where it is not counted."""
        bucket = bucket_of(request.path)
        usual = _QUOTAS[bucket][self._reader(request) not in ("", None)]
        rest, seconds, quota = self.left.get(bucket, (usual - 1, WINDOW, usual))
        return (
            ("RateLimit", f'"{bucket}";r={rest};t={seconds}'),
            ("RateLimit-Policy", f'"fixed window";"{bucket}";q={quota};w={self.window}'),
        )

    def _body(self, key: tuple[object, ...], make: Callable[[], bytes]) -> bytes:
        if key not in self._bodies:
            self._bodies[key] = make()
        return self._bodies[key]


def bucket_of(path: str) -> str:
    """The quota that a request counts against."""
    if path.startswith("/api/"):
        return "api"
    return "resolvers" if "/resolve/" in path else "pages"


def _refuse(route: Route, status: int, message: str, code: str | None = None) -> Response:
    headers = [("X-Error-Code", code)] if code else []
    headers.append(("X-Error-Message", message))
    if route.kind == "file":
        return text_response(status, message, *headers)
    return json_response(status, json.dumps({"error": message}).encode(), *headers)


def _missing() -> Response:
    """A repository that does not exist, or that this anonymous reader may not know of."""
    message = "Invalid username or password."
    return json_response(401, json.dumps({"error": message}).encode(), ("X-Error-Message", message))


def _gated(route: Route, repo: Repo, reader: str | None) -> Response:
    """No licence: 401 for those who are not logged in (or with an unknown token), 403 for those who are."""
    if reader:
        message = (
            f"Access to model {repo.id} is restricted and you are not in the authorized list. "
            f"Visit https://huggingface.co/{repo.id} to ask for access."
        )
        return _refuse(route, 403, message, "GatedRepo")
    message = (
        f"Access to model {repo.id} is restricted. You must have access to it and be authenticated to access it. "
        "Please log in."
    )
    return _refuse(route, 401, message, "GatedRepo")


def _redirect(route: Route, target: str, request: Request) -> Response:
    """To the canonical id, with a location that names no host."""
    query = f"?{request.query}" if request.query else ""
    location = f"{route.before}{target}{route.behind}{query}"
    return text_response(307, f"Temporary Redirect. Redirecting to {location}", ("Location", location))


def _xml(status: int, code: str, message: str) -> Response:
    body = f'<?xml version="1.0" encoding="UTF-8"?>\n<Error><Code>{code}</Code><Message>{message}</Message></Error>'
    return text_response(status, body).plus(("Content-Type", "application/xml"))


def _content(file: File, asked: str | None, headers: tuple[tuple[str, str], ...]) -> Response:
    """A file, or the part of it that a Range header asks for."""
    headers = (("Accept-Ranges", "bytes"), *headers)
    span = _span(asked, file.size)
    if span is None:
        return Response(status=200, headers=headers, head=file.head, size=file.size)
    first, last = span
    if first > last:
        return Response(status=416, headers=(*headers, ("Content-Range", f"bytes */{file.size}")))
    part = ("Content-Range", f"bytes {first}-{last}/{file.size}")
    return Response(status=206, headers=(*headers, part), head=file.head[first : last + 1], size=last + 1 - first)


def _span(asked: str | None, size: int) -> tuple[int, int] | None:
    """First and last byte of a Range header; None to send all, (1, 0) where the range lies behind the end.

    Several ranges at once are answered with the whole file, which a server may do.
    """
    match = _RANGE.fullmatch(asked or "")
    if match is None or match.group() == "bytes=-":
        return None
    first, last = match.groups()
    if not first:
        return (max(size - int(last), 0), size - 1) if int(last) else (1, 0)
    start, end = int(first), min(int(last), size - 1) if last else size - 1
    return (start, end) if start < size else (1, 0)


def _object_path(repo: Repo, file: File) -> str:
    """Where the CDN has a file. The name at the end is for the eyes and for fault patterns."""
    return f"/repos/{repo.id}/{file.sha256}/{file.name}"


def _signature(path: str) -> str:
    return hashlib.sha256(b"signed " + path.encode()).hexdigest()[:32]


def _info(repo: Repo, snapshot: Repo, query: Mapping[str, list[str]], expand: Iterable[str]) -> bytes:
    """The model info. Access belongs to the repository, content to the revision."""
    blobs = query.get("blobs", ["false"])[0].lower() in ("true", "1")
    counts = snapshot.counts
    total = snapshot.total if snapshot.total is not None else sum((counts or {}).values())
    everything: dict[str, Any] = {
        "author": repo.id.partition("/")[0],
        "cardData": snapshot.card,
        "config": snapshot.public_config,
        "createdAt": _DATE,
        "disabled": repo.disabled,
        "downloads": 0,
        "gated": repo.gated,
        "gguf": snapshot.gguf,
        "lastModified": _DATE,
        "library_name": repo.library_name,
        "likes": 0,
        "pipeline_tag": repo.task,
        "private": repo.private,
        "safetensors": {"parameters": dict(counts), "total": total} if counts is not None else None,
        "sha": snapshot.sha,
        "siblings": [_sibling(file, blobs) for file in snapshot.files],
        "spaces": [],
        "tags": list(snapshot.tags),
        "usedStorage": sum(file.size for file in snapshot.files),
    }
    chosen = set(expand) or set(everything)
    known = {key: value for key, value in everything.items() if key in chosen and value is not None}
    names = {"_id": hashlib.sha1(repo.id.encode()).hexdigest()[:24], "id": repo.id}
    return _dump({**names, **({} if expand else {"modelId": repo.id}), **known})


def _sibling(file: File, blobs: bool) -> dict[str, Any]:
    if not blobs:
        return {"rfilename": file.name}
    sized = {"rfilename": file.name, "size": file.size, "blobId": file.blob_id}
    if not file.lfs:
        return sized
    return {**sized, "lfs": {"sha256": file.sha256, "size": file.size, "pointerSize": POINTER_SIZE}}


def _entries(snapshot: Repo, folder: str, recursive: bool) -> list[dict[str, Any]]:
    """Files and folders below a folder, in the order of their paths."""
    prefix = f"{folder.strip('/')}/" if folder else ""
    entries: dict[str, dict[str, Any]] = {}
    for file in snapshot.files:
        if not file.name.startswith(prefix):
            continue
        parts = file.name[len(prefix) :].split("/")
        for depth in range(1, len(parts) if recursive else min(len(parts), 2)):
            path = prefix + "/".join(parts[:depth])
            oid = hashlib.sha1(path.encode()).hexdigest()
            entries[path] = {"type": "directory", "oid": oid, "size": 0, "path": path}
        if recursive or len(parts) == 1:
            entries[file.name] = _entry(file)
    return [entries[path] for path in sorted(entries)]


def _entry(file: File) -> dict[str, Any]:
    entry: dict[str, Any] = {"type": "file", "oid": file.blob_id, "size": file.size, "path": file.name}
    if file.lfs:
        entry["lfs"] = {"oid": file.sha256, "size": file.size, "pointerSize": POINTER_SIZE}
    return entry


def _all_headers(repo: Repo, index: File) -> bytes:
    """The body with every shard's header, joined from the headers as they stand in the files."""
    content = json.loads(index.head)
    shards = [repo.file(name) for name in sorted(set(content["weight_map"].values()))]
    headers = [f"{json.dumps(file.name)}:".encode() + _header(file) for file in shards if file is not None]
    start = _dump({"index": {"metadata": content.get("metadata")}})[:-1]
    return start + b',"headers":{' + b",".join(headers) + b"}}"


def _header(file: File) -> bytes:
    header = file.head[8 : 8 + int.from_bytes(file.head[:8], "little")]
    json.loads(header)
    return header.strip()


def _dump(content: Any) -> bytes:
    return json.dumps(content, separators=(",", ":")).encode()
