"""The interface of engines, through which the rest of the package uses the software that runs models.

To add an engine: a package here with an `Engine` and its options, and a row in `hfmem.engines.table`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Protocol, runtime_checkable

from hfmem.estimator.cache.sizes import CacheSize
from hfmem.estimator.parallel import Parallel
from hfmem.estimator.placement import Placement
from hfmem.estimator.scenario import Generation, Placing, Scenario, Settings
from hfmem.estimator.split.rules import SplitRules
from hfmem.estimator.split.stages import Stage
from hfmem.estimator.values import Estimate, Group, Loading, Margin, Term
from hfmem.estimator.weights.formats import FormatRow
from hfmem.estimator.weights.kept import Kept
from hfmem.mapper.interpret import Model
from hfmem.mapper.values import Architecture
from hfmem.options.words import Attention
from hfmem.unknown import Unknown

if TYPE_CHECKING:
    from hfmem.estimator.serving import Offload, Serving
    from hfmem.hardware.values import Accelerator

__all__ = [
    "Attending",
    "Attends",
    "Engine",
    "Found",
    "Generates",
    "Grows",
    "Laid",
    "Limits",
    "Offloads",
    "Packs",
    "Pads",
    "Part",
    "Places",
    "Profiles",
    "RankMemory",
    "Ranked",
    "Regroups",
    "Settles",
    "Shape",
    "Shaped",
    "Sizes",
    "Splits",
    "Suggestions",
    "Tailors",
    "Trains",
    "Whole",
]


class Found(NamedTuple):
    """Terms of one rank.

    Attributes:
        terms: the known terms.
        unknown: (group, reason) for each group with an unknown part.
        spared: bytes between the highest and the lowest result, where `--dtype` may stand for several recipes.
        host: terms in the host's memory, of all ranks together.
        encoded: whether what the towers of images or sound need is among the terms.
        convolved: whether `spared` is for want of knowing how cuDNN runs convolutions.
    """

    terms: tuple[Term, ...] = ()
    unknown: tuple[tuple[Group, str], ...] = ()
    spared: int = 0
    host: tuple[Term, ...] = ()
    encoded: bool = False
    convolved: bool = False


class RankMemory(NamedTuple):
    """One rank for one batch and length: all known terms, and its cache (or why that is unknown)."""

    terms: tuple[Term, ...]
    cache: CacheSize | Unknown


class Suggestions(NamedTuple):
    """Number formats to suggest where a model does not fit.

    Attributes:
        dtypes: values of `--dtype`, the largest first.
        kv_dtype: a value of `--kv-dtype`; "" for none.
        others: further changes: how each is written, and the fields it sets.
    """

    dtypes: tuple[str, ...] = ()
    kv_dtype: str = ""
    others: tuple[tuple[str, tuple[tuple[str, Any], ...]], ...] = ()


class Engine(Protocol):
    """Software that runs a model: the methods of every engine, be it `Ranked` or `Whole`.

    Attributes:
        title: its name in sentences.
        split: how it splits a model over ranks: what it replicates, pads and refuses.
        profiled: whether activations and overhead depend on its settings only, not on batch and length.
        suggestions: number formats that need less memory.
    """

    title: str
    split: SplitRules
    profiled: bool
    suggestions: Suggestions

    def check_split(self, architecture: Architecture, parallel: Parallel) -> None:
        """Refuse a split that the engine would refuse.

        Raises:
            InvalidScenarioError: with the sizes that do not fit together.
        """

    def run_dtype(
        self, dtype: str | None, architecture: Architecture, gpu: Accelerator | None
    ) -> tuple[str | None, str]:
        """The dtype that a checkpoint of `dtype` runs in by default, and why if that differs ("" if not)."""

    def settings(self, options: object, gpu: Accelerator | None, length: int) -> Settings | None:
        """Its own options with all defaults resolved, for requests of up to `length` tokens; None if it has none.

        Raises:
            InvalidScenarioError: a value that it does not know.

        Args:
            options: the user's options, with the fields of the engine's option class.
            gpu: the accelerator, if given.
            length: tokens.
        """

    def kept(self, model: Model, scenario: Scenario) -> tuple[Kept, ...]:
        """How it holds the weights on the scenario's hardware: one result per recipe that `--dtype` may stand for, at
        least one."""

    def refused(self, model: Model, scenario: Scenario) -> str:
        """Why it would refuse to run this, whatever the memory; "" where it would run. `model` is the whole model."""

    def loading(self, model: Model, scenario: Scenario, weights: int) -> Loading | None:
        """The peak while the whole `model` is loaded, with `weights` bytes on the most loaded accelerator; None where
        no source documents it."""

    def usable(self, terms: Sequence[Term], scenario: Scenario) -> int:
        """Bytes of the scenario's accelerator that an estimate with these terms may use, out of `scenario.available`; 0
        where no accelerator is given."""

    def margin(self, estimate: Estimate, scenario: Scenario) -> Margin:
        """The part of `usable` that should stay free: an estimate that leaves less is a tight fit."""

    def notes(self, model: Model, scenario: Scenario) -> tuple[str, ...]:
        """Remarks for the reader."""


@runtime_checkable
class Ranked(Engine, Protocol):
    """An engine that is estimated term by term on each distinct rank; `model` is the part on one rank."""

    def weights(self, model: Model, scenario: Scenario) -> Found:
        """The weights as they are loaded."""

    def layout(self, model: Model, scenario: Scenario) -> object:
        """The part of the cache computation that does not depend on batch and length, passed to `cache`."""

    def cache(self, model: Model, layout: object, scenario: Scenario) -> CacheSize | Unknown:
        """The cache for the scenario's batch and length, or why it is unknown."""

    def activations(self, model: Model, scenario: Scenario, stage: Stage) -> Found:
        """The peak on top of weights and cache."""

    def overhead(self, model: Model, scenario: Scenario) -> Found:
        """Memory that does not depend on the model: contexts, workspaces, CUDA graphs."""

    def serving(self, ranks: Sequence[RankMemory], scenario: Scenario, model: Model) -> Serving | None:
        """What a server has left for its KV cache, and its launch line; None for an engine that is not a server."""


@runtime_checkable
class Whole(Engine, Protocol):
    """An engine that distributes a model over accelerators and the host in its own way, and is estimated as a whole."""

    def estimate(self, model: Model, scenario: Scenario) -> Estimate:
        """The estimate: terms of the most loaded accelerator, each accelerator's, and the host's."""


@runtime_checkable
class Cuts(Protocol):
    """An engine that is estimated as a whole, and may cut each matrix instead of sharing out whole layers."""

    def cuts(self, options: Any) -> bool:
        """Whether it cuts with these options."""


@runtime_checkable
class Sizes(Protocol):
    """An engine with options of its own for what batch and length say."""

    def sizes(self, options: Any) -> tuple[int, int | None]:
        """Batch and tokens per sequence as the options have them; None for the default."""


class Shape(NamedTuple):
    """A size of what is made, that may be searched for the largest that fits.

    Attributes:
        most: the largest number to try.
        at: the scenario with that number.
        sizes: the sizes that it stands for, by name.
    """

    most: int
    at: Callable[[int], Scenario]
    sizes: Callable[[int], tuple[tuple[str, int], ...]]


@runtime_checkable
class Shaped(Protocol):
    """An engine whose runs have sizes other than batch and length."""

    def shapes(self, model: Model, scenario: Scenario) -> tuple[Shape, ...]:
        """Those sizes."""


@runtime_checkable
class Tailors(Protocol):
    """An engine whose own options have defaults that depend on the model."""

    def settings_for(self, model: Model, options: object, gpu: Accelerator | None, length: int) -> Settings | None:
        """What `settings` gives, for a model; raises as that does."""


@runtime_checkable
class Settles(Protocol):
    """An engine some of whose settings have defaults that depend on the model."""

    def settled(self, settings: Settings, model: Model, scenario: Scenario) -> Settings:
        """The settings with the defaults for a model."""


@runtime_checkable
class Offloads(Protocol):
    """An engine that leaves a part of a model in the host's memory where it does not fit. Its launch line is that of
    what it chooses."""

    def offload(self, model: Model, scenario: Scenario) -> Offload | None:
        """The most of the model that fits on the scenario's accelerators, with room to spare; None where nobody asked
        for a choice, or not even a part is of use."""


@runtime_checkable
class Regroups(Protocol):
    """An engine whose replicas may share their ranks: attention is replicated, and the rest is split over all."""

    def regrouped(self, options: Any) -> tuple[int, int] | None:
        """Tensor-parallel ranks of a replica, and ranks over which experts are split; None where replicas share
        nothing."""


@runtime_checkable
class Packs(Protocol):
    """An engine with formats of its own for the KV cache.

    Attributes:
        cache_formats: values of `--kv-dtype`, of those in `PACKED_KV`.
    """

    cache_formats: tuple[str, ...]


@runtime_checkable
class Pads(Protocol):
    """An engine that rounds up context lengths."""

    def padded(self, batch: int, seq: int) -> int:
        """The longest sequence length that takes exactly as much memory as `seq`."""


@runtime_checkable
class Generates(Protocol):
    """An engine that lets the user choose beams, and the kind of the cache."""

    def generation(self, options: Any) -> Generation | None:
        """How sequences are made and cached; None where the user chose nothing."""


class Part(NamedTuple):
    """What of a model is on one accelerator, where whole modules are put on devices.

    Attributes:
        model: its weights, and the layers whose cache it holds.
        acting: the layers that run on it; None if nothing does.
        brought: further weights, which are there only while they run.
        host: what the host's memory holds of the model; given with one of the parts.
    """

    model: Model
    acting: Model | None
    brought: tuple[Term, ...] = ()
    host: tuple[Term, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Laid:
    """A model whose modules are put on devices.

    Attributes:
        parts: of each accelerator, in order.
        placement: where each module lies.
        notes: remarks for the reader.
        refused: why it would not run on the accelerators; "" where it does.
    """

    parts: tuple[Part, ...]
    placement: Placement
    notes: tuple[str, ...] = ()
    refused: str = ""


@runtime_checkable
class Places(Protocol):
    """An engine that can put whole modules on accelerators, the host and the disk."""

    def placing(self, options: Any) -> Placing | None:
        """How modules are put on devices; None if they are not."""

    def laid(self, model: Model, scenario: Scenario) -> Laid:
        """The parts of a model on the devices of a scenario with a `placing`.

        Raises:
            DeviceMapError: the modules of the model, or their sizes, are not known.
        """


@runtime_checkable
class Splits(Protocol):
    """An engine whose settings change how it splits a model."""

    def split_of(self, model: Model, scenario: Scenario) -> SplitRules:
        """The rules for a scenario of the whole `model`."""


@runtime_checkable
class Profiles(Protocol):
    """An engine that profiles its peak once at start-up, with inputs that the longest request lets in."""

    def profiled_with(self, model: Model, scenario: Scenario) -> object:
        """The inputs of the profile run: where they are equal, its peak is."""


@runtime_checkable
class Limits(Protocol):
    """An engine that runs no more sequences at once than its settings let it."""

    def most_at_once(self, scenario: Scenario) -> int | None:
        """The sequences that the user's own limit allows; None without one."""


@runtime_checkable
class Grows(Protocol):
    """An engine whose memory grows almost in proportion to batch and length, and takes long to tell."""

    grows: Literal[True]


@runtime_checkable
class Trains(Protocol):
    """An engine that also trains models, for which it may hold them in another format."""

    def trained(self, model: Model, gpu: Accelerator | None) -> FormatRow:
        """The format row for the checkpoint's own packed weights in training."""


class Attending(NamedTuple):
    """The attention implementation that runs.

    Attributes:
        implementation: its name.
        told: a remark where it differs from the user's choice, or has a more specific name; "" for none.
        refused: why it does not run on the accelerator; "" where it does.
    """

    implementation: Attention
    told: str = ""
    refused: str = ""


@runtime_checkable
class Attends(Protocol):
    """An engine that lets the user choose the attention implementation."""

    def attention(self, asked: Attention, model: Model, gpu: Accelerator | None) -> Attending:
        """The implementation that runs if the user asks for `asked`.

        Raises:
            InvalidScenarioError: the model's class does not support it at all.
        """
