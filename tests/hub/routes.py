"""Which repository, revision and file a path of the Hub speaks of."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal
from urllib.parse import unquote

__all__ = ["Kind", "Route", "parse"]

Kind = Literal["info", "tree", "headers", "file"]

_VERBS: Final[dict[str, Kind]] = {"revision": "info", "tree": "tree", "safetensors-metadata": "headers"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """A path that the Hub knows.

    Attributes:
        kind: model info, listing, all shard headers at once, or a file.
        repo_id: as it was asked, in any letter case.
        revision: decoded.
        rest: the file, or the folder to list.
        before: the encoded path up to the id, with its slash.
        behind: the encoded path from behind the id; with `before`, what a redirect keeps.
    """

    kind: Kind
    repo_id: str
    revision: str = "main"
    rest: str = ""
    before: str
    behind: str

    @property
    def needs_licence(self) -> bool:
        """Whether it shows the content of files, which a gated repository keeps from strangers."""
        return self.kind in ("file", "headers")


def parse(path: str) -> Route | None:
    """The route of an encoded path; None where the Hub has no such page."""
    raw = path.strip("/").split("/")
    if raw[:2] == ["api", "models"]:
        return _api(raw[2:])
    return _file(raw)


def _api(raw: list[str]) -> Route | None:
    for length in (1, 2):
        verb = unquote(raw[length]) if len(raw) > length + 1 else ""
        if verb in _VERBS:
            return _with_verb(_VERBS[verb], raw, length)
    if not raw or len(raw) > 2 or not raw[0]:
        return None
    return Route(kind="info", repo_id=unquote("/".join(raw)), before="/api/models/", behind="")


def _with_verb(kind: Kind, raw: list[str], length: int) -> Route | None:
    revision, rest = ("main", raw[length + 1 :]) if kind == "headers" else _revision(raw[length + 1 :])
    if kind == "info" and rest:
        return None
    return Route(
        kind=kind,
        repo_id=unquote("/".join(raw[:length])),
        revision=revision,
        rest=unquote("/".join(rest)),
        before="/api/models/",
        behind="/" + "/".join(raw[length:]),
    )


def _file(raw: list[str]) -> Route | None:
    for length in (1, 2):
        if len(raw) > length + 2 and raw[length] == "resolve":
            revision, rest = _revision(raw[length + 1 :])
            return Route(
                kind="file",
                repo_id=unquote("/".join(raw[:length])),
                revision=revision,
                rest=unquote("/".join(rest)),
                before="/",
                behind="/" + "/".join(raw[length:]),
            )
    return None


def _revision(raw: list[str]) -> tuple[str, list[str]]:
    """The revision at the front, and what follows. `refs/pr/7` is understood with and without percent signs."""
    if raw[0] == "refs" and len(raw) >= 3:
        return "/".join(raw[:3]), raw[3:]
    return unquote(raw[0]), raw[1:]
