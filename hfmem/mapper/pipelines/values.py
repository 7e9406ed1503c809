"""A diffusion pipeline as values: its components, each with its own class, config, dtype and quantisation."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from hfmem.mapper.values import Architecture, Certainty, ParameterTable, Quantisation

__all__ = ["Component", "Kind", "Pipeline"]

Kind = Literal[
    "denoiser", "vae", "text_encoder", "image_encoder", "safety_checker", "controlnet", "upsampler", "adapter", "other"
]


@dataclass(frozen=True, kw_only=True, repr=False)
class Component:
    """A component with weights.

    Attributes:
        name: its key in model_index.json (`transformer`, `text_encoder_2`).
        kind: what it does in a run.
        library: the library of its class, or the module of a custom one.
        class_name: its class.
        config: its own config.json; empty if unknown. Keys that are absent have the default of the class.
        parameters: its parameters, whose groups have the component's name; None if unknown.
        stored_dtype: the floating-point dtype of most of them (PyTorch's name); None if unknown.
        quantisation: how it is quantised; None if it is not.
        file_bytes: bytes of its weight files, used if `parameters` is None; None if unknown.
        architecture: of a class of transformers that has a reader, its layers and sizes; else None.
        certainty: of the parameters.
        source: where the parameters are from.
        unknown: why parameters are unknown; "" if they are known.
    """

    name: str
    kind: Kind
    library: str
    class_name: str
    config: Mapping[str, Any] = field(default_factory=dict)
    parameters: ParameterTable | None = None
    stored_dtype: str | None = None
    quantisation: Quantisation | None = None
    file_bytes: int | None = None
    architecture: Architecture | None = None
    certainty: Certainty = "unknown"
    source: str = ""
    unknown: str = ""

    def __repr__(self) -> str:
        count = "unknown size" if self.parameters is None else f"{self.parameters.total:,} parameters"
        return f"<Component {self.name}: {self.class_name}, {count}>"

    @property
    def encodes_text(self) -> bool:
        """Whether it is a text encoder."""
        return self.kind == "text_encoder"


@dataclass(frozen=True, kw_only=True, repr=False)
class Pipeline:
    """Components that run as one.

    Attributes:
        class_name: the pipeline's class; "" if unknown.
        components: the components that are loaded, in the order of model_index.json.
        settings: the other keys of model_index.json.
        missing: components that a run needs besides, and that are not in these files; not counted.
        custom: whether the pipeline's class is code in the repository, which is not run.
        base: where a LoRA is on it, the repository that the pipeline itself is from; else "".
        control: the repository of a ControlNet that was put beside it; else "".
    """

    class_name: str
    components: tuple[Component, ...]
    settings: Mapping[str, Any] = field(default_factory=dict)
    missing: tuple[Component, ...] = ()
    custom: bool = False
    base: str = ""
    control: str = ""

    def __repr__(self) -> str:
        return f"<Pipeline {self.class_name}: {', '.join(component.name for component in self.components)}>"

    def find(self, name: str) -> Component | None:
        """The component of a name; None for none."""
        return next((component for component in self.components if component.name == name), None)

    def of(self, kind: Kind) -> tuple[Component, ...]:
        """The components of a kind."""
        return tuple(component for component in self.components if component.kind == kind)

    @property
    def denoisers(self) -> tuple[Component, ...]:
        """UNets and transformers that remove noise; of two, one runs at a time."""
        return self.of("denoiser")

    @property
    def denoiser(self) -> Component | None:
        """The first of them."""
        return next(iter(self.denoisers), None)

    @property
    def vae(self) -> Component | None:
        """What decodes the latents; None for a pipeline in pixels. Others beside it are for sound."""
        found = self.of("vae")
        return next((one for one in found if one.name == "vae"), next(iter(found), None))

    @property
    def text_encoders(self) -> tuple[Component, ...]:
        """What encodes the prompt, in order."""
        return self.of("text_encoder")
