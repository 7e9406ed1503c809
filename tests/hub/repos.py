"""Repositories as values: `single("org/name", config, rows)` is a model in one file, `replace(repo, gated="auto")` the
same one behind a licence."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any, Final, Literal

from hfmem.fetcher.patterns import Row, expand
from tests.hub.files import (
    File,
    element_count,
    gguf_file,
    json_file,
    safetensors_file,
    tensor_bytes,
    text_file,
    virtual_file,
)

__all__ = ["Config", "Repo", "adapter", "binary", "diffusers", "from_fixture", "gguf", "sharded", "single"]

Config = Mapping[str, Any] | bytes | None
"""config.json as a value, as raw bytes (for broken ones), or none."""

FIXTURES: Final = Path(__file__).parents[2] / "fixtures"
SINGLE: Final = "model.safetensors"
INDEX: Final = "model.safetensors.index.json"

_DIGITS: Final = re.compile(r"(\d+)")
_PUBLIC_CONFIG: Final = ("architectures", "auto_map", "model_type", "quantization_config")


@dataclass(frozen=True, kw_only=True)
class Repo:
    """A model repository.

    Attributes:
        id: its canonical name.
        files: what is on `main`.
        gated: how the licence is granted; False for open ones. Files need a token that may read them, the model info
            does not.
        private: exists only for tokens that may read it.
        disabled: switched off by the Hub.
        renamed_to: the id that requests for this one are redirected to; such a repository holds nothing itself.
        revisions: other branches, tags and `refs/pr/N`, each with what it holds; None is the same as `main`.
        commit: 40 hex digits; the hash of the content if not given.
        parameters: elements by dtype as the model info publishes them; counted from `files` if not given.
        total: `safetensors.total` of the model info; the sum if not given. The real Hub's may differ from it.
        library_name: as the model info has it.
        gguf: what the model info says of GGUF files.
        card: what the model card says at its beginning.
        task: what it is used for (`pipeline_tag`).
    """

    id: str
    files: tuple[File, ...] = ()
    gated: Literal["auto", "manual", False] = False
    private: bool = False
    disabled: bool = False
    renamed_to: str | None = None
    revisions: Mapping[str, Repo | None] = field(default_factory=dict)
    commit: str | None = None
    parameters: Mapping[str, int] | None = None
    total: int | None = None
    library_name: str | None = "transformers"
    gguf: Mapping[str, Any] | None = None
    card: Mapping[str, Any] | None = None
    task: str = "text-generation"

    def put(self, *files: File) -> Repo:
        """The same repository with these files added, or exchanged for those of the same name."""
        names = {file.name for file in files}
        return replace(self, files=(*(file for file in self.files if file.name not in names), *files))

    def without(self, *names: str) -> Repo:
        """The same repository without these files."""
        return replace(self, files=tuple(file for file in self.files if file.name not in names))

    def at(self, revision: str) -> Repo | None:
        """What a branch, tag, pull request or commit holds; None where there is no such revision."""
        if revision in ("main", self.sha):
            return self
        if revision in self.revisions:
            return self.revisions[revision] or self
        return next((repo for repo in self.revisions.values() if repo is not None and repo.sha == revision), None)

    def file(self, name: str) -> File | None:
        """The file of this name on `main`."""
        return self._by_name.get(name)

    @cached_property
    def sha(self) -> str:
        """The commit `main` points to."""
        content = "\n".join(f"{file.name} {file.sha256}" for file in self.files)
        return self.commit or hashlib.sha1(f"{self.id}\n{content}".encode()).hexdigest()

    @cached_property
    def counts(self) -> Mapping[str, int] | None:
        """Elements by dtype that the model info publishes: given, or counted from the headers."""
        if self.parameters is not None:
            return self.parameters
        counts: dict[str, int] = {}
        for file in self.files:
            for dtype, elements in _header_elements(file):
                counts[dtype] = counts.get(dtype, 0) + elements
        return counts or None

    @cached_property
    def tags(self) -> tuple[str, ...]:
        """What the Hub filters by: the base models that the card names, and what the repository is to them
        (huggingface.co/docs/hub/model-cards, "Specifying a base model")."""
        named = (self.card or {}).get("base_model") or ()
        bases = [named] if isinstance(named, str) else list(named)
        relation = (self.card or {}).get("base_model_relation") or self._relation(len(bases))
        return tuple(tag for base in bases for tag in (f"base_model:{base}", f"base_model:{relation}:{base}"))

    def _relation(self, bases: int) -> str:
        """What the Hub infers where the card does not say it."""
        names = [file.name for file in self.files]
        if bases > 1:
            return "merge"
        if "adapter_config.json" in names:
            return "adapter"
        packed = "quantization_config" in (self.public_config or {})
        return "quantized" if packed or any(name.endswith(".gguf") for name in names) else "finetune"

    @cached_property
    def public_config(self) -> dict[str, Any] | None:
        """The part of config.json that the model info repeats."""
        file = self.file("config.json")
        try:
            content = json.loads(file.head) if file else None
        except ValueError:
            return None
        if not isinstance(content, dict):
            return None
        return {key: content[key] for key in _PUBLIC_CONFIG if key in content}

    @cached_property
    def _by_name(self) -> dict[str, File]:
        return {file.name: file for file in self.files}


def single(repo_id: str, config: Config, rows: Iterable[Row], *, header_bytes: int | None = None) -> Repo:
    """A model in one `model.safetensors`, its header padded to `header_bytes` if given."""
    weights = safetensors_file(SINGLE, rows, header_bytes=header_bytes)
    return Repo(id=repo_id, files=(*_small_files(config), weights))


def sharded(repo_id: str, config: Config, rows: Iterable[Row], shards: int) -> Repo:
    """A model in so many shards of about the same size, layer after layer, with an index."""
    weights: list[File] = []
    weight_map: dict[str, str] = {}
    data = 0
    for number, part in enumerate(_split(_by_layer(expand(rows)), shards), start=1):
        name = f"model-{number:05}-of-{shards:05}.safetensors"
        weights.append(safetensors_file(name, part))
        weight_map.update((tensor, name) for tensor, _, _ in part)
        data += sum(tensor_bytes(dtype, shape) for _, dtype, shape in part)
    index = json_file(INDEX, {"metadata": {"total_size": data}, "weight_map": dict(sorted(weight_map.items()))})
    return Repo(id=repo_id, files=(*_small_files(config), *weights, index))


def binary(repo_id: str, config: Config, sizes: Sequence[int]) -> Repo:
    """A model that has PyTorch pickles of these sizes in bytes, and nothing else."""
    names = (
        ["pytorch_model.bin"]
        if len(sizes) == 1
        else [f"pytorch_model-{number:05}-of-{len(sizes):05}.bin" for number in range(1, len(sizes) + 1)]
    )
    weights = tuple(virtual_file(name, b"PK\x03\x04", size=size) for name, size in zip(names, sizes, strict=True))
    return Repo(id=repo_id, files=(*_small_files(config), *weights))


def gguf(repo_id: str, files: Mapping[str, Iterable[Row]], *, architecture: str = "llama") -> Repo:
    """A repository with GGUF files only."""
    facts: dict[str, str | int] = {"general.architecture": architecture, f"{architecture}.context_length": 4096}
    spelled = {name: list(expand(rows)) for name, rows in files.items()}
    weights = tuple(gguf_file(name, rows, facts) for name, rows in spelled.items())
    total = max(sum(element_count(shape) for _, _, shape in rows) for rows in spelled.values())
    info = {"total": total, "architecture": architecture, "context_length": 4096}
    return Repo(id=repo_id, files=(*_small_files(None), *weights), library_name="gguf", gguf=info)


def adapter(repo_id: str, config: Mapping[str, Any], rows: Iterable[Row]) -> Repo:
    """A PEFT adapter; `config` is its adapter_config.json."""
    files = (json_file("adapter_config.json", config), safetensors_file("adapter_model.safetensors", rows))
    return Repo(id=repo_id, files=(*_small_files(None), *files), library_name="peft")


def diffusers(
    repo_id: str,
    components: Mapping[str, Iterable[Row]],
    *,
    variants: Sequence[str] = ("",),
    class_name: str = "StableDiffusionPipeline",
) -> Repo:
    """A pipeline with one folder a component.

    Args:
        repo_id: the id.
        components: rows by folder; those named `text_encoder…` are called `model`, as transformers does.
        variants: each component is stored once a variant: "" is `…model.safetensors`, "fp16" `…model.fp16.safetensors`.
        class_name: the pipeline's class.
    """
    index: dict[str, Any] = {"_class_name": class_name, "_diffusers_version": "0.35.0"}
    files: list[File] = []
    for folder, rows in components.items():
        spelled = list(rows)
        from_transformers = folder.startswith("text_encoder")
        index[folder] = ["transformers", "CLIPTextModel"] if from_transformers else ["diffusers", "Component"]
        stem = "model" if from_transformers else "diffusion_pytorch_model"
        files.append(json_file(f"{folder}/config.json", {}))
        for variant in variants:
            suffix = f".{variant}" if variant else ""
            files.append(safetensors_file(f"{folder}/{stem}{suffix}.safetensors", spelled))
    listing = (*_small_files(None), json_file("model_index.json", index), *files)
    return Repo(id=repo_id, files=listing, library_name="diffusers")


@lru_cache(maxsize=32)
def from_fixture(folder: Path | str) -> Repo:
    """The repository that a folder of `fixtures/` describes; a name alone is looked up there."""
    path = FIXTURES / folder
    table = json.loads((path / "tensors.json").read_text(encoding="utf-8"))
    config = (path / "config.json").read_bytes()
    rows: list[Row] = [(name, dtype, tuple(shape)) for name, dtype, shape in table["tensors"]]
    repo_id = path.name.replace("--", "/")
    repo = single(repo_id, config, rows) if table["shards"] == 1 else sharded(repo_id, config, rows, table["shards"])
    return replace(repo, gated=table["gated"])


def _small_files(config: Config) -> tuple[File, ...]:
    files = [virtual_file(".gitattributes", b"*.safetensors filter=lfs diff=lfs merge=lfs -text\n")]
    files.append(text_file("README.md", "---\nlicense: other\n---\n"))
    if isinstance(config, bytes):
        files.append(virtual_file("config.json", config))
    elif config is not None:
        files.append(json_file("config.json", dict(config)))
    return tuple(files)


def _by_layer(rows: Iterable[Row]) -> list[Row]:
    """The tensors of a layer beside each other, as the shards of real models have them."""
    pieces = [(_DIGITS.split(row[0]), row) for row in rows]
    key = [(tuple(int(part) if part.isdigit() else part for part in name), row) for name, row in pieces]
    return [row for _, row in sorted(key, key=lambda pair: _comparable(pair[0]))]


def _comparable(parts: Iterable[int | str]) -> tuple[tuple[int, int, str], ...]:
    """Numbers compare as numbers, words as words, and numbers come first."""
    return tuple((0, part, "") if isinstance(part, int) else (1, 0, part) for part in parts)


def _split(rows: Sequence[Row], shards: int) -> list[list[Row]]:
    """So many parts in order, none empty, the bytes spread evenly."""
    if shards > len(rows):
        raise ValueError(f"{len(rows)} tensors do not fill {shards} shards")
    sizes = [tensor_bytes(dtype, shape) for _, dtype, shape in rows]
    whole = sum(sizes) or 1
    parts: list[list[Row]] = [[] for _ in range(shards)]
    number = done = 0
    for position, (row, size) in enumerate(zip(rows, sizes, strict=True)):
        fair = min(done * shards // whole, shards - 1)
        # The shards behind this one need a tensor each.
        last = position - (len(rows) - shards)
        if parts[number] and (fair > number or last > number):
            number += 1
        parts[number].append(row)
        done += size
    return parts


def _header_elements(file: File) -> Iterable[tuple[str, int]]:
    """Dtype and elements of each tensor in a safetensors file; nothing for other files and broken headers."""
    if not file.name.endswith(".safetensors"):
        return
    length = int.from_bytes(file.head[:8], "little")
    try:
        header = json.loads(file.head[8 : 8 + length])
    except ValueError:
        return
    for name, entry in header.items():
        if name != "__metadata__":
            yield entry["dtype"], element_count(entry["shape"])
