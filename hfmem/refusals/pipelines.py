"""What is not done with diffusion pipelines, or only with them."""

from __future__ import annotations

from typing import Literal

from hfmem.errors import InvalidScenarioError

__all__ = ["PipelineError"]


class PipelineError(InvalidScenarioError):
    """A way of running a model that does not go with its kind.

    Attributes:
        why: whether a pipeline was to be trained, to be computed by the textbook's formulas, or to be run by an engine
            that runs none; or whether the model is no pipeline, which the engine needs.
        runtime: the engine's name in sentences.
        runs: the value of `--runtime` that runs it.
    """

    def __init__(
        self, why: Literal["training", "textbook", "engine", "model"], runtime: str = "", runs: str = ""
    ) -> None:
        super().__init__()
        self.why, self.runtime, self.runs = why, runtime, runs
