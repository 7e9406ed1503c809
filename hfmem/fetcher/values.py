"""The fetcher's results: contents of a repository, folder, cache or catalog entry, before interpretation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Literal, NamedTuple

from huggingface_hub.constants import DEFAULT_REVISION

from hfmem.options.access import Access

__all__ = ["Access", "Checkpoint", "FileInfo", "Info", "ModelRef", "Names", "Source", "TensorInfo", "Visitor"]

Source = Literal["hub", "cache", "local", "catalog"]
Names = Literal["recorded", "derived", "class"]


@dataclass(frozen=True, kw_only=True, repr=False, eq=False)
class Visitor(Access):
    """Access for someone who asks from elsewhere, as on a public page: only the Hub, with the visitor's own token or
    none, and the catalog. Nothing that is this machine's is read or told: no paths, no login, no caches, no downloads;
    and nothing that the token may read is kept."""

    mine: ClassVar[bool] = False


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelRef:
    """A requested model.

    Attributes:
        model_id: a Hub id, or a local path as the user wrote it.
        revision: branch, tag, commit or `refs/pr/N`.
        quant: the quantisation after the id (`:Q4_K_M`), for repositories with one GGUF file per quantisation; "" for
            none.
        file: the file in the URL, or of `--file`; "" for none.
        picked: whether `file` was chosen by `--file`, and is the only one to count.
        hub: whether a Hub URL was given, so that a local folder of the same name is not used.
        own: whether the revision was given in the argument itself, and takes precedence.
        beside: the `--revision` that was overridden by the argument's own; "" for none.
        asked: the argument as written; not compared, as two spellings may stand for the same model.
    """

    model_id: str
    revision: str = DEFAULT_REVISION
    quant: str = ""
    file: str = ""
    picked: bool = False
    hub: bool = False
    own: bool = field(default=False, compare=False)
    beside: str = ""
    asked: str = field(default="", compare=False)

    @property
    def named(self) -> str:
        """The id with its revision, and quantisation or file."""
        revision = "" if self.revision == "main" else f"@{self.revision}"
        behind = self.quant or self.file
        return self.model_id + revision + (f":{behind}" if behind else "")

    def at(self, revision: str) -> ModelRef:
        """The same model at another revision, unless it has a revision already."""
        return self if self.own or self.revision != DEFAULT_REVISION else replace(self, revision=revision)


@dataclass(frozen=True, slots=True, kw_only=True)
class TensorInfo:
    """One tensor of a checkpoint.

    Attributes:
        name: its name in the file.
        dtype: its dtype as named in the file format (`BF16`, `Q4_K`).
        shape: its shape.
        nbytes: stored bytes, from the offsets in the file's header.
        file: its file ("" for tensors from the catalog).
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    nbytes: int
    file: str

    @property
    def elements(self) -> int:
        """Product of the shape; 1 for a scalar."""
        count = 1
        for size in self.shape:
            count *= size
        return count


@dataclass(frozen=True, slots=True, kw_only=True)
class FileInfo:
    """One file of a repository. `size` is in bytes; None if the listing has none."""

    name: str
    size: int | None


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Checkpoint:
    """The facts about a model's files. The hash covers only fields that are not mappings.

    Attributes:
        ref: the requested model.
        commit: its commit; None for local folders and catalog entries without one.
        source: where the facts come from.
        provenance: the same in words ("huggingface.co", a path, a catalog entry's source).
        config: the parsed config.json; None if there is none.
        quantisation: the parsed hf_quant_config.json or quantize_config.json, if config.json has no quantisation
            config; None otherwise.
        adapter: the parsed adapter_config.json; None if there is none.
        card_base: `base_model` of the model card; "" for none.
        processing: the parsed files of the processor, which prepares images and sound, by name; those that are missing
            or invalid are absent.
        pipeline: the parsed model_index.json of a diffusion pipeline; None if there is none.
        configs: the parsed config.json of its components, by name.
        base: the checkpoint of the adapter's base model; None for other models, and where it cannot be had.
        tensors: all tensors in the files to load; empty if no header could be read.
        names: for a catalog entry, whether the tensor names were recorded from the files, derived from the class by
            reversing its renames, or are the class's own; `recorded` for all other sources.
        files: the repository's files.
        weight_files: the files to load.
        metadata: metadata of weight files, by file name; files without any are absent.
        faults: clauses on inconsistent weight files, which loaders refuse; the tensor count is then not exact.
        doubts: clauses on contradictions between weight files or with their index, which loaders accept; the tensor
            count is then not exact.
        missing: number of missing weight files; the weights are then a lower bound.
        unread: why other files of the model could not be read, by file name.
        totals: elements by safetensors dtype as published by the Hub; None if unknown.
        gated: whether the files require an accepted licence that this user lacks.
        without_hub: in place of the Hub, which was not asked or not reached: a few words on that; "" where it answered,
            or where a note says what it refused.
        notes: remarks for the reader, one sentence each.
        agreed: whether no header was read, as config.json and the Hub's public totals by dtype tell the same.
        quantised_of: for a repository of GGUF files that were not read, the model that they were made of, whose facts
            these are; "" otherwise.
    """

    ref: ModelRef
    commit: str | None
    source: Source
    provenance: str
    config: Mapping[str, Any] | None = field(hash=False)
    quantisation: Mapping[str, Any] | None = field(default=None, hash=False)
    adapter: Mapping[str, Any] | None = field(default=None, hash=False)
    card_base: str = ""
    processing: Mapping[str, Mapping[str, Any]] = field(default_factory=dict, hash=False)
    pipeline: Mapping[str, Any] | None = field(default=None, hash=False)
    configs: Mapping[str, Mapping[str, Any]] = field(default_factory=dict, hash=False)
    base: Checkpoint | None = None
    tensors: Sequence[TensorInfo] = ()
    names: Names = "recorded"
    files: tuple[FileInfo, ...] = ()
    weight_files: tuple[FileInfo, ...] = ()
    metadata: Mapping[str, Mapping[str, Any]] = field(default_factory=dict, hash=False)
    faults: tuple[str, ...] = ()
    doubts: tuple[str, ...] = ()
    missing: int = 0
    unread: Mapping[str, str] = field(default_factory=dict, hash=False)
    totals: Mapping[str, int] | None = field(default=None, hash=False)
    gated: bool = False
    without_hub: str = ""
    notes: tuple[str, ...] = ()
    agreed: bool = False
    quantised_of: str = ""

    @property
    def absence(self) -> str:
        """A clause on missing weight files."""
        return "1 weight file is missing" if self.missing == 1 else f"{self.missing} weight files are missing"

    def __repr__(self) -> str:
        commit = f" at {self.commit[:12]}" if self.commit else ""
        return (
            f"<Checkpoint {self.ref.model_id!r} from {self.source}{commit}: {len(self.tensors):,} tensors in "
            f"{len(self.weight_files):,} weight files>"
        )


class Info(NamedTuple):
    """The Hub's public information about a repository.

    Attributes:
        model_id: the canonical id (differs from the requested one after a rename).
        commit: the commit of the revision.
        files: the file listing.
        totals: elements by safetensors dtype as counted by the Hub; None if it has none.
        config: the part of config.json in the Hub's answer (`model_type`, `architectures`).
        card_base: `base_model` of the model card; "" for none.
    """

    model_id: str
    commit: str | None
    files: tuple[FileInfo, ...]
    totals: Mapping[str, int] | None
    config: Mapping[str, Any] | None
    card_base: str = ""
