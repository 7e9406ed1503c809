"""Several models that run as one: the components of a pipeline, an adapter on its base, a draft beside its target."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from hfmem.mapper.interpret import Model
from hfmem.mapper.values import Certainty, ParameterTable, TensorGroup

__all__ = ["Bundle"]

_CERTAINTIES: Final[tuple[Certainty, ...]] = ("exact", "derived", "measured", "typical", "unknown")


@dataclass(frozen=True, slots=True, kw_only=True)
class Bundle:
    """Models that run as one.

    Attributes:
        kind: what makes them one: `model` for a single one, else a word such as `pipeline`, `adapter`, `speculative`.
        models: each a checkpoint of its own. The first is the one that the bundle is called by.
        roles: what each is to the others (`target` and `draft`; `transformer`, `vae`, `text_encoder`), all different.
    """

    kind: str
    models: tuple[Model, ...]
    roles: tuple[str, ...]

    def __post_init__(self) -> None:
        if not self.models or len(self.models) != len(self.roles):
            raise ValueError(f"{len(self.models)} models with {len(self.roles)} roles are no bundle")
        if len(set(self.roles)) < len(self.roles):
            raise ValueError(f"two models of a bundle have the same role: {', '.join(self.roles)}")

    @classmethod
    def of(cls, model: Model) -> Bundle:
        """A single model, as a bundle of one."""
        return cls(kind="model", models=(model,), roles=("model",))

    @property
    def first(self) -> Model:
        """The model that the bundle is called by."""
        return self.models[0]

    @property
    def parts(self) -> Iterator[tuple[str, Model]]:
        """Each role with its model."""
        return zip(self.roles, self.models, strict=True)

    @property
    def parameters(self) -> ParameterTable | None:
        """The parameters of all models; None where those of one are not known."""
        groups: list[TensorGroup] = []
        for model in self.models:
            if model.parameters is None:
                return None
            groups += model.parameters.groups
        return ParameterTable(groups=tuple(groups))

    @property
    def certainty(self) -> Certainty:
        """Of the parameters: that of the model that is least certain."""
        return max((model.certainty for model in self.models), key=_CERTAINTIES.index)

    @property
    def source(self) -> str:
        """Where the parameters are from."""
        return "; ".join(dict.fromkeys(model.source for model in self.models if model.source))

    @property
    def notes(self) -> tuple[str, ...]:
        """The remarks of the models, each with the role it is about where there are several."""
        if len(self.models) == 1:
            return self.first.notes
        return tuple(f"{role}: {note}" for role, model in self.parts for note in model.notes)
