"""The bundled catalog: configs and tensors of well-known public models, for use without network or access.

`data/catalog.jsonl` has one model per line, written by `python -m hfmem.probe.catalog`. Only the requested line is
parsed. `data/gguf_repositories.jsonl` has repositories of GGUF files, each with the model that its files were made of.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cache
from typing import Any, Final, Literal

from hfmem.data import text as data_text
from hfmem.fetcher import network_catalog, pipeline_catalog
from hfmem.fetcher.tensors import Tensors, row
from hfmem.fetcher.values import Checkpoint, ModelRef, Names

__all__ = ["Provenance", "find", "forms_of", "model_ids", "originals", "quantised_of"]

_MADE: Final = {"class": "class on the meta device", "modules": "modules of its own code written out"}
_NAMES: Final = {
    "recorded": "names equal to its index",
    "derived": "renames reversed",
    "class": "the class's own names",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Provenance:
    """Where the facts of an entry come from.

    Attributes:
        repository: the public repository with its config; "" if that is elsewhere.
        path: path of the config there, or a description.
        inferred: how the model was identified, if the config's source does not state its id; "" if it does.
        note: a remark on the config.
        values: another model in the catalog from which the config's values are taken; "" for none.
        processor: where the settings of the processor are from; "" without any.
        made: whether the tensors are those of the transformers `class`, or of `modules` described here.
    """

    repository: str = ""
    path: str
    inferred: str = ""
    note: str = ""
    values: str = ""
    processor: str = ""
    made: Literal["class", "modules"]

    def sentence(self, names: Names) -> str:
        """The provenance as a sentence.

        Args:
            names: how the tensor names were obtained.
        """
        where = f"{self.repository} @ {self.path}" if self.repository else self.path
        inferred = f" (inferred ({self.inferred}))" if self.inferred else ""
        note = f" ({self.note})" if self.note else ""
        values = f"; values: those of {self.values} in this catalog" if self.values else ""
        values += f"; processor: {self.processor}" if self.processor else ""
        return f"config: {where}{inferred}{note}{values}; tensors: {_MADE[self.made]}, {_NAMES[names]}."


def find(ref: ModelRef) -> Checkpoint | None:
    """The catalog's checkpoint of a model; None if it has none. Ids are case-insensitive, as on the Hub."""
    entry = _entry(ref.model_id)
    if entry is None:
        return pipeline_catalog.find(ref) or network_catalog.find(ref) or _quantised(ref)
    published = entry.get("published") or {}
    return Checkpoint(
        ref=ref,
        commit=entry.get("commit"),
        source="catalog",
        provenance=Provenance(**entry["source"]).sentence(entry["names"]),
        config=entry["config"],
        processing=entry.get("processing", {}),
        tensors=Tensors(tuple(row(pattern, dtype, tuple(shape)) for pattern, dtype, shape in entry["tensors"])),
        names=entry["names"],
        totals=published.get("by_dtype"),
    )


def _quantised(ref: ModelRef) -> Checkpoint | None:
    """The checkpoint that a repository of GGUF files was made of; None where the name is not known."""
    of = quantised_of(ref.model_id)
    found = find(replace(ref, model_id=of)) if of else None
    if found is None:
        return None
    return replace(found, ref=ref, commit=None, totals=None, quantised_of=of)


def quantised_of(model_id: str) -> str:
    """The model that the files of a repository of GGUF files were made of; "" where the name is not known."""
    return _repositories().get(model_id.lower(), ("", ""))[1]


def forms_of(base: str) -> tuple[str, ...]:
    """The repositories in the catalog that are other forms of a model, as their names state: those of GGUF files, and
    models whose configs are quantised."""
    folded = base.lower()
    if folded not in map(str.lower, _own()):
        return ()
    name = folded.rpartition("/")[2]
    packed = (one for one in _own() if _FORM.sub("", one.rpartition("/")[2].lower()) == name and one.lower() != folded)
    ggufs = (one for one, of in _repositories().values() if of.lower() == folded)
    return (*(one for one in packed if "quantization_config" in ((_entry(one) or {}).get("config") or {})), *ggufs)


_FORM: Final = re.compile(r"-(?:fp8|nvfp4|mxfp4|awq|gptq(?:-int\d)?)$")


@cache
def model_ids() -> tuple[str, ...]:
    """All models in the catalog, in order, then pipelines, networks for images, and the repositories of GGUF files."""
    quantised = (name for name, _ in _repositories().values())
    return (*_own(), *pipeline_catalog.model_ids(), *network_catalog.model_ids(), *quantised)


def originals() -> tuple[str, ...]:
    """The models, pipelines and networks in the catalog, each once, without the repositories of GGUF files, which are
    forms of them."""
    return (*_own(), *pipeline_catalog.model_ids(aliases=False), *network_catalog.model_ids())


@cache
def _own() -> tuple[str, ...]:
    return tuple(json.loads(name) for name in re.findall(r'^{"model":("[^"]*")', _text(), re.MULTILINE))


@cache
def _repositories() -> Mapping[str, tuple[str, str]]:
    """The name of each repository of GGUF files and the model of its files, by the name in lower case."""
    lines = data_text("gguf_repositories.jsonl").splitlines()[1:]
    return {row["model"].lower(): (row["model"], row["of"]) for row in map(json.loads, lines)}


@cache
def _text() -> str:
    return data_text("catalog.jsonl")


@cache
def _folded() -> str:
    """The same in lower case, with every character at its place: ids are ASCII."""
    return _text().lower()


def _entry(model_id: str) -> dict[str, Any] | None:
    text, folded = _text(), _folded()
    start = folded.find(f'\n{{"model":{json.dumps(model_id.lower())}')
    if start < 0:
        start = _alias(folded, model_id.lower())
    if start < 0:
        return None
    entry: dict[str, Any] = json.loads(text[start + 1 : text.index("\n", start + 1)])
    return entry


def _alias(folded: str, model_id: str) -> int:
    """The offset of the line with the id among its `aliases`; -1 if there is none."""
    position = folded.find(json.dumps(model_id))
    while position >= 0:
        line = folded.rfind("\n", 0, position)
        if line >= 0 and model_id in json.loads(folded[line + 1 : folded.index("\n", position)]).get("aliases", ()):
            return line
        position = folded.find(json.dumps(model_id), position + 1)
    return -1
