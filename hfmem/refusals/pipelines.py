"""What is not done with diffusion pipelines, or only with them."""

from __future__ import annotations

from typing import Literal

from hfmem.errors import InvalidScenarioError

__all__ = ["PipelineClassError", "PipelineError"]


class PipelineError(InvalidScenarioError):
    """A way of running a model that does not go with its kind.

    Attributes:
        why: whether a pipeline was to be trained, to be computed by the textbook's formulas, or to be run by an engine
            that runs none, or with an option of such; or whether the model is no pipeline, which the engine needs.
        runtime: the engine's name in sentences.
        runs: the value of `--runtime` that runs it.
        option: its flag.
        owners: the engines that have it, by their names in sentences.
    """

    def __init__(
        self,
        why: Literal["training", "textbook", "engine", "option", "model"],
        runtime: str = "",
        runs: str = "",
        option: str = "",
        owners: tuple[str, ...] = (),
    ) -> None:
        super().__init__()
        self.why, self.runtime, self.runs = why, runtime, runs
        self.option, self.owners = option, owners


class PipelineClassError(InvalidScenarioError):
    """Something that the class of a pipeline does not do.

    Attributes:
        why: it makes no `frames`, or a video whose `length` is that of what it is given, is given no `images` or only
            `one`, makes one result of `each` prompt, has no order for model `offload`, takes only sides that are
            multiples of its `edge`, its VAE (`coder`) has no tiles or slices, diffusers has no class for it with such
            a ControlNet (`control`); pipelines are not given such `media`; or a model is `controlless`, no ControlNet.
        subject: the class; "" where the pipeline has no VAE; of `controlless`, the model.
        option: the option that it does not go with; of `control`, the class of the ControlNet.
        given: its value.
        multiple: what it has to be a multiple of.
    """

    def __init__(
        self,
        why: Literal[
            "frames",
            "length",
            "images",
            "one",
            "each",
            "offload",
            "edge",
            "coder",
            "media",
            "control",
            "controlless",
        ],
        subject: str = "",
        option: str = "",
        given: int = 0,
        multiple: int = 1,
    ) -> None:
        super().__init__()
        self.why, self.subject, self.option = why, subject, option
        self.given, self.multiple = given, multiple
