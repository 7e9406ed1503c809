"""What pipelines are not quantised to while they are loaded."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from hfmem.errors import InvalidScenarioError

__all__ = ["PipelineQuantisationError"]


class PipelineQuantisationError(InvalidScenarioError):
    """A quantisation of `--dtype` that does not go with a pipeline.

    Attributes:
        why: `format`: diffusers is not covered with it; `offload`: nor does that way of offloading go with it;
            `stored`: the denoiser is quantised in its files; `unknown`: its tensors are unknown; `none`: there is no
            denoiser; `convolutions`: the format is covered for transformers alone.
        dtype: the format.
        known: the formats that are covered.
        subject: the component, or the way of offloading.
    """

    def __init__(
        self,
        why: Literal["format", "offload", "stored", "unknown", "none", "convolutions"],
        dtype: str,
        *,
        known: Sequence[str] = (),
        subject: str = "",
    ) -> None:
        super().__init__()
        self.why, self.dtype, self.known, self.subject = why, dtype, tuple(known), subject
