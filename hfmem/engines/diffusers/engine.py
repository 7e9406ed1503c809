"""diffusers as an engine: the weights of all components together; what its stages take besides is not known yet."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from hfmem.engines.protocol import Engine, Suggestions
from hfmem.engines.transformers.split import RULES
from hfmem.estimator.overheads import overhead_terms
from hfmem.estimator.parallel import Parallel
from hfmem.estimator.values import Estimate, Loading, Margin, Scenario, Settings, Term
from hfmem.estimator.weights.components import component_terms
from hfmem.estimator.weights.kept import PLAIN, Kept
from hfmem.hardware.values import Accelerator
from hfmem.mapper.interpret import Model
from hfmem.mapper.values import Architecture

__all__ = ["ENGINE", "Diffusers"]

_STAGES: Final = "the stages of pipelines are not measured yet"


class Diffusers:
    """The pipelines of diffusers, called from Python."""

    title = "diffusers"
    split = RULES
    profiled = False
    suggestions = Suggestions()

    def check_split(self, architecture: Architecture, parallel: Parallel) -> None:
        """A pipeline is on one accelerator."""

    def run_dtype(
        self, dtype: str | None, architecture: Architecture, gpu: Accelerator | None
    ) -> tuple[str | None, str]:
        return dtype, ""

    def settings(self, options: object, gpu: Accelerator | None, length: int) -> Settings | None:
        return None

    def kept(self, model: Model, scenario: Scenario) -> tuple[Kept, ...]:
        return (PLAIN,)

    def refused(self, model: Model, scenario: Scenario) -> str:
        return ""

    def loading(self, model: Model, scenario: Scenario, weights: int) -> Loading | None:
        return None

    def usable(self, terms: Sequence[Term], scenario: Scenario) -> int:
        return scenario.available

    def margin(self, estimate: Estimate, scenario: Scenario) -> Margin:
        return Margin(nbytes=0, why="", source="")

    def notes(self, model: Model, scenario: Scenario) -> tuple[str, ...]:
        return ()

    def estimate(self, model: Model, scenario: Scenario) -> Estimate:
        """The weights of all components; the rest is unknown."""
        if model.pipeline is None:
            return Estimate(terms=(), unknown=(("weights", "this is no diffusion pipeline"),))
        terms, unknown = component_terms(model.pipeline, scenario)
        return Estimate(
            terms=(*terms, *overhead_terms(scenario.gpu, scenario.parallel)),
            unknown=(*unknown, ("activations", _STAGES)),
            kv_cache_per_token=0,
            kv_cache_fixed=0,
        )


ENGINE: Final[Engine] = Diffusers()
