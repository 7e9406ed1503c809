"""All options of a scenario as one value; they are declared in its base classes."""

from dataclasses import dataclass
from typing import Any

from hfmem.options.option import declared, value_of
from hfmem.scenario.asked import Asked, extended

__all__ = ["Options", "options_type"]


@dataclass(frozen=True, kw_only=True, repr=False, eq=False)
class Options(Asked):
    """The user's options; None leaves the choice to the model.

    The fields are those of `RunOptions`, `MediaOptions`, `TransformersOptions`, `VllmOptions`, `EngineOptions`,
    `TrainingOptions`, `AdapterOptions` and `ParallelOptions`, each explained where it is declared, and by
    `hfmem --help-all`.

    Attributes:
        remarks: sentences for the report on where options come from.
        stored_dtype: whether a training file says that weights are loaded in the checkpoint's own dtype.
        companions: models that run beside the asked one, by what they do: (`draft`, the model).
    """

    remarks: tuple[str, ...] = ()
    stored_dtype: bool = False
    companions: tuple[tuple[str, Any], ...] = ()

    def __post_init__(self) -> None:
        for option in declared(type(self)):
            given = getattr(self, option.name)
            if given is not option.default:
                object.__setattr__(self, option.name, value_of(option, given))

    def __eq__(self, other: object) -> bool:
        return vars(self) == vars(other) if type(other) is type(self) else NotImplemented

    def __hash__(self) -> int:
        return hash(tuple(vars(self).values()))

    def __repr__(self) -> str:
        asked = [option.name for option in declared(type(self)) if option.asked(self)]
        return f"{type(self).__name__}({', '.join(f'{name}={getattr(self, name)!r}' for name in asked)})"


def options_type() -> type[Options]:
    """`Options`, or a subclass of it with options registered later."""
    return extended(Options)
