"""Several models that run as one: components of a pipeline, an adapter and its base model, a draft and its target."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from hfmem.mapper.interpret import Model
from hfmem.mapper.values import Certainty, ParameterTable, TensorGroup

__all__ = ["Bundle"]

_CERTAINTIES: Final[tuple[Certainty, ...]] = ("exact", "derived", "measured", "typical", "unknown")


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Bundle:
    """Models that run as one.

    Attributes:
        kind: how they belong together: `model` for a single one, else e.g. `pipeline`, `adapter`, `speculative`.
        models: the models, each from its own checkpoint. The first one names the bundle.
        roles: the unique role of each (`target` and `draft`; `transformer`, `vae`, `text_encoder`).
    """

    kind: str
    models: tuple[Model, ...]
    roles: tuple[str, ...]

    def __post_init__(self) -> None:
        if not self.models or len(self.models) != len(self.roles):
            raise ValueError(f"a bundle needs one role per model, and got {len(self.roles)} for {len(self.models)}")
        if len(set(self.roles)) < len(self.roles):
            raise ValueError(f"two models of a bundle have the same role: {', '.join(self.roles)}")

    def __repr__(self) -> str:
        parts = ", ".join(f"{role} {model.checkpoint.ref.model_id!r}" for role, model in self.parts)
        return f"<Bundle {self.kind}: {parts}>"

    @classmethod
    def of(cls, model: Model) -> Bundle:
        """A single model, as a bundle of one."""
        return cls(kind="model", models=(model,), roles=("model",))

    @property
    def first(self) -> Model:
        """The model that names the bundle."""
        return self.models[0]

    @property
    def parts(self) -> Iterator[tuple[str, Model]]:
        """Each role with its model."""
        return zip(self.roles, self.models, strict=True)

    @property
    def parameters(self) -> ParameterTable | None:
        """The parameters of all models; None where those of one are unknown."""
        groups: list[TensorGroup] = []
        for model in self.models:
            if model.parameters is None:
                return None
            groups += model.parameters.groups
        return ParameterTable(groups=tuple(groups))

    @property
    def certainty(self) -> Certainty:
        """The certainty of the parameters, the lowest over the models."""
        # certainties are listed from the highest to the lowest
        return max((model.certainty for model in self.models), key=_CERTAINTIES.index)

    @property
    def source(self) -> str:
        """Where the parameters are from."""
        return "; ".join(dict.fromkeys(model.source for model in self.models if model.source))

    @property
    def notes(self) -> tuple[str, ...]:
        """The remarks of the models, prefixed with the role where there are several."""
        if len(self.models) == 1:
            return self.first.notes
        return tuple(f"{role}: {note}" for role, model in self.parts for note in model.notes)
