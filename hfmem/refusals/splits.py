"""Splits over several accelerators that cannot be, or that software refuses."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from hfmem.errors import InvalidScenarioError

__all__ = [
    "DeviceMapError",
    "Divided",
    "ExpertRanksError",
    "IndivisibleError",
    "MachineError",
    "NoExpertsError",
    "NoPlanError",
    "SizesError",
    "TooManyRanksError",
    "UnknownLayersError",
    "Unplaced",
    "UnsupportedSizeError",
]

Divided = Literal["heads", "kv_heads", "experts", "units", "expert_units", "gpus", "replicas"]
"""What ranks share: attention heads, key/value heads or experts of the model, units of an MLP or of an expert, the
accelerators of a pipeline stage, replicas."""


Unplaced = Literal["layers", "class", "tensors", "dtype", "machine"]
"""What may be missing to put modules on devices."""


class IndivisibleError(InvalidScenarioError):
    """A size that does not divide what it is to share.

    Attributes:
        name: the size's option, without dashes; "" for ranks that are not of one option.
        size: the number of ranks.
        total: how many there are of what they share.
        of: what they share.
        replicated: whether the software would let several ranks have the same.
    """

    def __init__(self, name: str, size: int, total: int, of: Divided, *, replicated: bool = True) -> None:
        super().__init__()
        self.name, self.size, self.total, self.of, self.replicated = name, size, total, of, replicated


class TooManyRanksError(InvalidScenarioError):
    """More ranks than what they share has parts.

    Attributes:
        name: the size's option, without dashes.
        size: the number of ranks.
        most: the number of parts.
        of: what these are.
        pieces: parts that each rank has to have.
    """

    def __init__(self, name: str, size: int, most: int, of: Literal["layers", "experts"], *, pieces: int = 1) -> None:
        super().__init__()
        self.name, self.size, self.most, self.of, self.pieces = name, size, most, of, pieces


class NoExpertsError(InvalidScenarioError):
    """Experts of a model without any are to be shared.

    Attributes:
        size: the number of ranks.
    """

    def __init__(self, size: int) -> None:
        super().__init__()
        self.size = size


class ExpertRanksError(InvalidScenarioError):
    """Experts that are to be shared by some of the ranks of a stage, where software takes all or none.

    Attributes:
        size: the ranks that were asked for.
        ranks: those of a stage.
    """

    def __init__(self, size: int, ranks: int) -> None:
        super().__init__()
        self.size, self.ranks = size, ranks


class UnsupportedSizeError(InvalidScenarioError):
    """A way to split that the software does not have.

    Attributes:
        name: the size's option, without dashes.
        size: what was asked.
        software: its name in sentences.
    """

    def __init__(self, name: str, size: int, software: str) -> None:
        super().__init__()
        self.name, self.size, self.software = name, size, software


class NoPlanError(InvalidScenarioError):
    """A class that has no plan of how its tensors, or its experts, are shared.

    Attributes:
        name: the size's option, without dashes.
        size: what was asked.
        of: the class; "" where it is not known.
        source: the release that says so; "" where none is known.
    """

    def __init__(self, name: str, size: int, of: str, source: str) -> None:
        super().__init__()
        self.name, self.size, self.of, self.source = name, size, of, source


class UnknownLayersError(InvalidScenarioError):
    """A split of layers that are not known.

    Attributes:
        sizes: the sizes that need them.
    """

    def __init__(self, sizes: Mapping[str, int]) -> None:
        super().__init__()
        self.sizes = dict(sizes)


class SizesError(InvalidScenarioError):
    """Sizes whose product is another number of accelerators than was asked for.

    Attributes:
        sizes: the sizes.
        gpus: the number.
    """

    def __init__(self, sizes: Mapping[str, int], gpus: int) -> None:
        super().__init__()
        self.sizes, self.gpus = dict(sizes), gpus


class MachineError(InvalidScenarioError):
    """Sizes that the named machine does not have, or that do not divide its accelerators.

    Attributes:
        sizes: what was asked.
        count, accelerator: what there is.
        instance: the cloud's name of the machine; "" where it has none.
    """

    def __init__(self, sizes: Mapping[str, int], count: int, accelerator: str, instance: str) -> None:
        super().__init__()
        self.sizes, self.count, self.accelerator, self.instance = dict(sizes), count, accelerator, instance


class DeviceMapError(InvalidScenarioError):
    """Modules of which it is not known on which device they would be put.

    Attributes:
        missing: what is not known: the sizes of `layers`, the modules of a `class`, in which of them `tensors` are, the
            run `dtype`, or the memory of the `machine`.
        name: the class; "" where it is not known.
        failed: the exception with which the installed class could not be built; "" where that was not tried.
    """

    def __init__(self, missing: Unplaced, name: str = "", failed: str = "") -> None:
        super().__init__()
        self.missing, self.name, self.failed = missing, name, failed
