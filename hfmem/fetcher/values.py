"""What the fetcher returns: what a repository, folder, cache or catalog entry holds, before any interpretation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from huggingface_hub.constants import DEFAULT_REVISION

from hfmem.options.access import Access

__all__ = ["Access", "Checkpoint", "FileInfo", "ModelRef", "Names", "Source", "TensorInfo"]

Source = Literal["hub", "cache", "local", "catalog"]
Names = Literal["recorded", "derived", "class"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelRef:
    """What was asked for.

    Attributes:
        model_id: a Hub id, or a local path as the user wrote it.
        revision: branch, tag, commit or `refs/pr/N`.
        quant: the quantisation that stood behind the id (`:Q4_K_M`), for repositories with a file of each; "" for none.
        file: the file that the address named; "" for none.
        hub: whether an address was given, so that the folder of the same name on this machine is not meant.
        own: whether the revision is the word's own, so that no other holds.
        beside: the revision that was asked for beside a word that has another of its own; "" for none.
        asked: the word as it was written; two spellings of one model are one model.
    """

    model_id: str
    revision: str = DEFAULT_REVISION
    quant: str = ""
    file: str = ""
    hub: bool = False
    own: bool = field(default=False, compare=False)
    beside: str = ""
    asked: str = field(default="", compare=False)

    @property
    def named(self) -> str:
        """The id with what is asked behind it: a revision, a quantisation or a file."""
        revision = "" if self.revision == "main" else f"@{self.revision}"
        behind = self.quant or self.file
        return self.model_id + revision + (f":{behind}" if behind else "")

    def at(self, revision: str) -> ModelRef:
        """The same at another revision, where none is asked for."""
        return self if self.own or self.revision != DEFAULT_REVISION else replace(self, revision=revision)


@dataclass(frozen=True, slots=True, kw_only=True)
class TensorInfo:
    """One tensor of a checkpoint.

    Attributes:
        name: the name in the file.
        dtype: the name that the file's format has for its number format (`BF16`, `Q4_K`).
        shape: elements a dimension.
        nbytes: stored bytes, as the file's header places them.
        file: the file it lies in ("" where only the catalog knows it).
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
    """One file of a repository. `size` is in bytes, None where the listing does not tell."""

    name: str
    size: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint:
    """What is there. Equal ones have equal hashes, of what is not a mapping.

    Attributes:
        ref: what was asked.
        commit: the commit the facts belong to; None for local folders and catalog entries without one.
        source: where the facts come from.
        provenance: the same in words a person can follow ("huggingface.co", a path, a catalog's source).
        config: the parsed config.json; None where there is none.
        quantisation: the parsed hf_quant_config.json or quantize_config.json, where the quantisation stands there and
            not in config.json; None otherwise.
        adapter: the parsed adapter_config.json of an adapter; None where there is none.
        tensors: every tensor of the files that a run would load; empty where no header could be read.
        names: for a catalog entry, whether the tensor names were recorded from the files, derived from the class by
            reversing its renames, or are the class's own; `recorded` for all other sources.
        files: the repository's files.
        weight_files: those of `files` that a run would load.
        metadata: what the weight files say of themselves besides their tensors, by file; files that say nothing are
            left out.
        faults: how weight files contradict themselves, a clause each: the tensors are then no exact count.
        doubts: how weight files or their index contradict each other, a clause each: the tensors are then no exact
            count, and loaders take them all the same.
        missing: how many weight files are promised and not there: the weights are then a lower bound.
        unread: why files that hold the model as well could not be read, by their names.
        totals: elements by safetensors dtype as the Hub publishes them; None where unknown.
        gated: whether the files need an accepted licence that this user lacks.
        notes: remarks for the reader, one sentence each.
    """

    ref: ModelRef
    commit: str | None
    source: Source
    provenance: str
    config: Mapping[str, Any] | None = field(hash=False)
    quantisation: Mapping[str, Any] | None = field(default=None, hash=False)
    adapter: Mapping[str, Any] | None = field(default=None, hash=False)
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
    notes: tuple[str, ...] = ()

    def __repr__(self) -> str:
        commit = f" at {self.commit[:12]}" if self.commit else ""
        return (
            f"<Checkpoint {self.ref.model_id!r} from {self.source}{commit}: {len(self.tensors):,} tensors in "
            f"{len(self.weight_files):,} weight files>"
        )
