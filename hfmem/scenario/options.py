"""Everything that a scenario is asked by, as one value; the declarations are those of its bases."""

from __future__ import annotations

from dataclasses import dataclass

from hfmem.scenario.asked import Asked, extended

__all__ = ["Options", "options_type"]


@dataclass(frozen=True, kw_only=True)
class Options(Asked):
    """What a person asks for; None leaves the choice to the model.

    The fields are those of `RunOptions`, `TransformersOptions`, `VllmOptions`, `EngineOptions`, `TrainingOptions`,
    `AdapterOptions` and `ParallelOptions`, each explained where it is declared, and by `hfmem --help-all`.

    Attributes:
        remarks: sentences for the report about where options are from.
    """

    remarks: tuple[str, ...] = ()


def options_type() -> type[Options]:
    """`Options`, or a subclass of it with the options of engines and sets that were registered later."""
    return extended(Options)
