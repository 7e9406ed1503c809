"""What an engine answers: the one interface through which the rest of the package speaks of software that runs models.

To add an engine: a folder here with an `Engine` and its options, and a row in `hfmem.engines.table`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol, runtime_checkable

from hfmem.estimator.cache.sizes import CacheSize
from hfmem.estimator.parallel import Parallel
from hfmem.estimator.split.rules import SplitRules
from hfmem.estimator.split.stages import Stage
from hfmem.estimator.values import Estimate, Group, Loading, Margin, Offload, Scenario, Serving, Settings, Term
from hfmem.estimator.weights.formats import FormatRow
from hfmem.estimator.weights.kept import Kept
from hfmem.hardware.values import Accelerator
from hfmem.mapper.interpret import Model
from hfmem.mapper.values import Architecture
from hfmem.options.words import Attention
from hfmem.unknown import Unknown

__all__ = [
    "Attending",
    "Attends",
    "Engine",
    "Found",
    "Offloads",
    "Pads",
    "RankMemory",
    "Ranked",
    "Sizes",
    "Suggestions",
    "Trains",
    "Whole",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """Terms of one rank, the groups of which a part is not known, with the reason, and the bytes by which these terms
    are fewer at least, where what was asked stands for several things."""

    terms: tuple[Term, ...] = ()
    unknown: tuple[tuple[Group, str], ...] = ()
    spared: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class RankMemory:
    """One rank under one batch and length: everything known of it, and its cache (or why that is not known)."""

    terms: tuple[Term, ...]
    cache: CacheSize | Unknown


@dataclass(frozen=True, slots=True, kw_only=True)
class Suggestions:
    """Number formats that the engine can be asked for where a model does not fit.

    Attributes:
        dtypes: words of `--dtype`, the largest first.
        kv_dtype: a word of `--kv-dtype`; "" for none.
        others: further changes: how each is written, and the fields it sets.
    """

    dtypes: tuple[str, ...] = ()
    kv_dtype: str = ""
    others: tuple[tuple[str, tuple[tuple[str, Any], ...]], ...] = ()


class Engine(Protocol):
    """Software that runs a model: what is asked of all, whether they are `Ranked` or estimated as a `Whole`.

    Attributes:
        title: its name in sentences.
        split: how it lays a model on ranks: what it repeats, pads and refuses.
        profiled: whether activations and overhead follow from its settings alone, not from batch and length.
        suggestions: what it can be asked for to need less.
    """

    title: str
    split: SplitRules
    profiled: bool
    suggestions: Suggestions

    def check_split(self, architecture: Architecture, parallel: Parallel) -> None:
        """Refuse a split that the engine would refuse.

        Raises:
            InvalidScenarioError: with the sizes that do not go together.
        """

    def run_dtype(
        self, dtype: str | None, architecture: Architecture, gpu: Accelerator | None
    ) -> tuple[str | None, str]:
        """The dtype that a checkpoint of `dtype` runs in by default, and why it differs; "" where it
        does not."""

    def settings(self, options: object, gpu: Accelerator | None, length: int) -> Settings | None:
        """Its own options with every default made, for requests of up to `length` tokens; None where it has none.

        Raises:
            InvalidScenarioError: a value that it does not know.

        Args:
            options: what was asked, with the fields of the engine's option class.
            gpu: the accelerator, where one is named.
            length: tokens.
        """

    def kept(self, model: Model, scenario: Scenario) -> tuple[Kept, ...]:
        """How it holds the weights on the scenario's hardware: one per recipe that the requested quantisation may
        mean, at least one."""

    def refused(self, model: Model, scenario: Scenario) -> str:
        """Why it would not run or start with this, however much memory there is; "" where it would. `model` is the
        whole one."""

    def loading(self, model: Model, scenario: Scenario, weights: int) -> Loading | None:
        """The peak while the whole `model` is loaded, of which the most loaded accelerator holds `weights` bytes; None
        where no source tells."""

    def usable(self, terms: Sequence[Term], scenario: Scenario) -> int:
        """Bytes of the scenario's accelerator that an estimate of these terms may take, without what other programs
        hold (`scenario.available`); 0 where none is named."""

    def margin(self, estimate: Estimate, scenario: Scenario) -> Margin:
        """What should stay free of `usable`: an estimate that leaves less fits, but tight."""

    def notes(self, model: Model, scenario: Scenario) -> tuple[str, ...]:
        """Remarks for the reader."""


@runtime_checkable
class Ranked(Engine, Protocol):
    """An engine that is estimated part by part, on each distinct rank; `model` is what one rank holds."""

    def weights(self, model: Model, scenario: Scenario) -> Found:
        """The weights as they are loaded."""

    def layout(self, model: Model, scenario: Scenario) -> object:
        """What of the cache neither batch nor length changes, for `cache`."""

    def cache(self, model: Model, layout: object, scenario: Scenario) -> CacheSize | Unknown:
        """The cache that the asked batch needs; or why it is not known."""

    def activations(self, model: Model, scenario: Scenario, stage: Stage) -> Found:
        """The peak above weights and cache."""

    def overhead(self, model: Model, scenario: Scenario) -> Found:
        """What no formula of the model gives: contexts, workspaces, graphs."""

    def serving(self, ranks: Sequence[RankMemory], scenario: Scenario, model: Model) -> Serving | None:
        """What a server has left for its cache, and the line to start it; None for an engine that is none."""


@runtime_checkable
class Whole(Engine, Protocol):
    """An engine that shares a model over accelerators and the host in a way of its own, and is estimated as a whole."""

    def estimate(self, model: Model, scenario: Scenario) -> Estimate:
        """The estimate: terms of the most loaded accelerator, each accelerator's, and the host's."""


@runtime_checkable
class Sizes(Protocol):
    """An engine with options of its own for what batch and length say."""

    def sizes(self, options: Any) -> tuple[int, int | None]:
        """Batch and tokens per sequence as the options have them; None for the default."""


@runtime_checkable
class Offloads(Protocol):
    """An engine that leaves a part of a model in the host's memory where it does not fit. Its launch line is that of
    what it chooses."""

    def offload(self, model: Model, scenario: Scenario) -> Offload | None:
        """The most of the model that fits on the scenario's accelerators, with room to spare; None where nobody asked
        for a choice, or not even a part is of use."""


@runtime_checkable
class Pads(Protocol):
    """An engine that rounds contexts up."""

    def padded(self, batch: int, seq: int) -> int:
        """Tokens of the longest sequences that take exactly as much as `batch` of `seq` tokens."""


@runtime_checkable
class Trains(Protocol):
    """An engine whose models are trained, which may hold them otherwise then."""

    def trained(self, model: Model, gpu: Accelerator | None) -> FormatRow:
        """What becomes of the checkpoint's own packed weights in training."""


class Attending(NamedTuple):
    """Which attention runs.

    Attributes:
        implementation: the word for it.
        told: a sentence where the person did not choose it, or where it has a name of its own; "" for none.
        refused: why it does not run on the accelerator; "" where it does.
    """

    implementation: Attention
    told: str = ""
    refused: str = ""


@runtime_checkable
class Attends(Protocol):
    """An engine that runs attention as it is asked; one that chooses for itself has no such method."""

    def attention(self, asked: Attention, model: Model, gpu: Accelerator | None) -> Attending:
        """What runs where `asked` is asked.

        Raises:
            InvalidScenarioError: the model does not have it at all.
        """
