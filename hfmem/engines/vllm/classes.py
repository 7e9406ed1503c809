"""Whether a vLLM release has a class for a model, from the table that `hfmem.probe.vllm_classes` writes, and what vLLM
sets for certain classes.

vLLM 0.33.0, 0.27.0 and 0.19.0 look up a class in this order (`model_executor/models/registry.py::inspect_model_cls`):
the registry; the registry with another suffix of the name (`_normalize_arch`); the transformers backend
(`_try_resolve_transformers`), if the class of `transformers` lets its attention be replaced. The backend keeps one KV
cache per layer and starts from token ids (`models/transformers/base.py`, `causal.py`), so it runs neither
encoder-decoders nor models without a vocabulary.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, Final

from hfmem.data import text as data_text
from hfmem.mapper.interpret import Model

__all__ = ["ClassRule", "class_rule", "classless", "releases"]

_Number = tuple[int, ...]

_BY_SOURCE: Final = (0, 28)
"""The first release that may inspect the source of a class's module; up to 0.27.0 only the class's flag counts."""


def classless(model: Model, release: _Number) -> str:
    """Why a release has no class for a model. "" where it has one, and where that is unknown, because the code is in
    the model's repository or the release is newer than the table."""
    table, names = _table(), model.architecture.class_names
    # a release newer than the table may have gained the class
    if not names or release > table.releases[-1] or any(table.runs(name, release) for name in names):
        return ""
    name, version = names[0], ".".join(map(str, release))
    why = table.backend_refuses(name, release) or _unfit(model, table.backend.get(name))
    return f"vLLM {version} has no class for {name}{why}" if why else ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ClassRule:
    """What vLLM itself sets for a class.

    Attributes:
        captured: tokens of the largest CUDA graph; 0 for the default.
        prefixed: whether its images attend in both directions, for which FlashAttention has no kernel.
        adapted: which of its embeddings adapters may change: `embedding`, or `both` it and the head; "" for none.
        shared: whether tensor-parallel ranks may share the images of a batch.
        twice: whether a head that is tied to the embedding is made first, and then let go.
        spared: whether an encoder none of whose inputs a prompt may have is not built.
    """

    captured: int = 0
    prefixed: bool = False
    adapted: str = ""
    shared: bool = False
    twice: bool = False
    spared: bool = False


def class_rule(model: Model, release: _Number) -> ClassRule:
    """The rule of a model's class in a release (`hfmem/data/vllm_class_rules.jsonl`). A row applies from the first
    release that was read with it, to the one before the next that was read without."""
    rows = (row for name in model.architecture.class_names for row in _class_rules().get(name, ()))
    return next((rule for since, until, rule in rows if since <= release <= until), ClassRule())


_ALWAYS: Final = (10**6,)


@cache
def _class_rules() -> dict[str, list[tuple[_Number, _Number, ClassRule]]]:
    text = data_text("vllm_class_rules.jsonl")
    _, *rows = (json.loads(line) for line in text.splitlines())
    found: dict[str, list[tuple[_Number, _Number, ClassRule]]] = {}
    for row in rows:
        until = _number(row.pop("until")) if "until" in row else _ALWAYS
        found.setdefault(row.pop("class"), []).append((_number(row.pop("since")), until, ClassRule(**row)))
    return found


def releases() -> tuple[_Number, ...]:
    """The releases in the table, oldest first."""
    return _table().releases


def _unfit(model: Model, taken: str | None) -> str:
    """Why the transformers backend cannot run a model although it accepts the class."""
    if not taken:
        return ""
    if model.architecture.source in ("encoder", "fixed"):
        return ", and its transformers backend does not run encoder-decoders"
    parts = model.parameters.by_component if model.parameters is not None else {}
    if not model.architecture.vocab_size or (parts and "embedding" not in parts):
        return ", and its transformers backend runs only models with token inputs"
    return ""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Table:
    """The model classes of vLLM releases.

    Attributes:
        releases: the releases that were read, oldest first.
        suffixes: interchangeable suffixes of class names.
        rows: the table's row for each class.
        backend: for each class of transformers, how the backend recognises it (`flag` or `source`).
    """

    releases: tuple[_Number, ...]
    suffixes: tuple[str, ...]
    rows: Mapping[str, Mapping[str, str]]
    backend: Mapping[str, str]

    def runs(self, name: str, release: _Number) -> bool:
        """Whether a release has a class for a name, or may have it: a release between two in the table is taken to have
        the classes of both."""
        return any(self._has(self.rows.get(each), release) for each in self._alike(name))

    def _alike(self, name: str) -> Iterator[str]:
        """A name, and the same name with each other suffix."""
        yield name
        end = next((suffix for suffix in self.suffixes if name.endswith(suffix)), None)
        if end is not None:
            yield from (name.removesuffix(end) + other for other in self.suffixes)

    def _has(self, row: Mapping[str, str] | None, release: _Number) -> bool:
        if row is None or ("until" in row and release > _number(row["until"])):
            return False
        if "since" not in row:  # removed before the first release of the table
            return "until" in row or release < self.releases[0]
        # between two releases of the table it is unknown when the class was added, so it may be there
        older = [each for each in self.releases if each < _number(row["since"])]
        return not older or release > older[-1]

    def backend_refuses(self, name: str, release: _Number) -> str:
        """Why the transformers backend does not accept a class; "" where it does, or where the class is not one of
        transformers and may be accepted."""
        row, taken = self.rows.get(name, {}), self.backend.get(name)
        if taken == "flag" or (taken == "source" and release >= _BY_SOURCE) or (taken is None and "until" not in row):
            return ""
        if "plugin" in row:
            return f"; the plugin at {row['plugin']} provides one"
        if "until" in row:
            return f": {row['until']} was the last release with one"
        return ", and its transformers backend does not accept it"


def _number(name: str) -> _Number:
    return tuple(map(int, re.findall(r"\d+", name)[:2]))


@cache
def _table() -> _Table:
    text = data_text("vllm_architectures.jsonl")
    head, *rows = (json.loads(line) for line in text.splitlines())
    named: dict[str, Any] = {row["class"]: row for row in rows if "class" in row}
    ways = [row for row in rows if "backend" in row]
    return _Table(
        releases=tuple(map(_number, head["releases"])),
        suffixes=tuple(head["suffixes"]),
        rows=named,
        backend={name: way["backend"] for way in ways for name in way["classes"]},
    )
