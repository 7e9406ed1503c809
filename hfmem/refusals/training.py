"""Models that cannot be trained as was asked."""

from __future__ import annotations

from collections.abc import Iterable

from hfmem.errors import InvalidScenarioError

__all__ = [
    "AdapterBaseError",
    "DtypeConflictError",
    "FrozenError",
    "GenerationsError",
    "NoTargetsError",
    "QuantisedError",
    "TrainerError",
    "UntrainableDtypeError",
]


class QuantisedError(InvalidScenarioError):
    """Weights that a quantiser has stored, and that are to be trained, or to be quantised once more.

    Attributes:
        stored: the dtypes that they are to be quantised from; empty where they are to be trained.
        trainer: whether a trainer of TRL was asked for, whose method has an option of its own.
    """

    def __init__(self, stored: Iterable[str] = (), *, trainer: bool = False) -> None:
        super().__init__()
        self.stored, self.trainer = tuple(stored), trainer


class FrozenError(InvalidScenarioError):
    """Nothing is left to train.

    Attributes:
        parts: what is frozen.
    """

    def __init__(self, parts: Iterable[str]) -> None:
        super().__init__()
        self.parts = tuple(parts)


class NoTargetsError(InvalidScenarioError):
    """Adapters of no module.

    Attributes:
        targets: names that no module has; empty where there are none of that kind at all, or none are known.
        unlisted: the type of a model that PEFT has no targets for; None where they were asked for.
    """

    def __init__(self, targets: Iterable[str] = (), *, unlisted: str | None = None) -> None:
        super().__init__()
        self.targets, self.unlisted = tuple(targets), unlisted


class DtypeConflictError(InvalidScenarioError):
    """A dtype of the weights that is not the precision's.

    Attributes:
        dtype, precision: what was asked.
        weights: the dtype that goes with that precision.
    """

    def __init__(self, dtype: str | None, precision: str, weights: str) -> None:
        super().__init__()
        self.dtype, self.precision, self.weights = dtype, precision, weights


class UntrainableDtypeError(InvalidScenarioError):
    """A dtype that weights cannot be trained in.

    Attributes:
        dtype: what was asked.
        usable: the dtypes that they can be trained in; empty for a quantiser's, which adapters can be put on.
    """

    def __init__(self, dtype: str | None, usable: Iterable[str] = ()) -> None:
        super().__init__()
        self.dtype, self.usable = dtype, tuple(usable)


class AdapterBaseError(InvalidScenarioError):
    """QLoRA on another quantiser than its own.

    Attributes:
        quantiser: what was asked.
        trainer: as in `QuantisedError`.
    """

    def __init__(self, quantiser: str, *, trainer: bool = False) -> None:
        super().__init__()
        self.quantiser, self.trainer = quantiser, trainer


class TrainerError(InvalidScenarioError):
    """A setting that a trainer of TRL does not take.

    Attributes:
        setting: `stack`, `completion`, or `encoder` for a model that is no causal one.
        value: what was asked; of `encoder`, the type of the model.
        title: the trainer's class.
        most: the tokens of a row, which the completion exceeds; 0 for others.
    """

    def __init__(self, setting: str, value: int | str, title: str, *, most: int = 0) -> None:
        super().__init__()
        self.setting, self.value, self.title, self.most = setting, value, title, most


class GenerationsError(InvalidScenarioError):
    """A batch that does not hold whole groups of completions.

    Attributes:
        batch: the batch.
        generations: the completions of a prompt.
    """

    def __init__(self, batch: int, generations: int) -> None:
        super().__init__()
        self.batch, self.generations = batch, generations
