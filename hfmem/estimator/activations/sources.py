"""The activation source of each training software, by `Stack.layers`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from hfmem.estimator.activations.adapters import with_adapters
from hfmem.estimator.activations.closed_forms import ClosedForms
from hfmem.estimator.activations.litgpt import LitGpt
from hfmem.estimator.activations.megatron import Megatron
from hfmem.estimator.activations.methods import with_method
from hfmem.estimator.activations.source import ActivationSource, Linear, TrainingActivations
from hfmem.estimator.activations.step import MeasuredClasses
from hfmem.estimator.parallel import Parallel
from hfmem.estimator.recipe.values import TrainingScenario
from hfmem.mapper.interpret import Model
from hfmem.unknown import Unknown

__all__ = ["SOURCES", "source_of", "step_activations"]


@dataclass(frozen=True, slots=True)
class _Preferred:
    """The first source, or the second where the first does not know the model. Both describe the same software."""

    first: ActivationSource
    second: ActivationSource

    @property
    def of_one_rank(self) -> bool:
        return self.first.of_one_rank

    @property
    def brings_adapters(self) -> bool:
        return self.first.brings_adapters

    @property
    def takes_adapters(self) -> bool:
        return self.first.takes_adapters

    def activations(self, model: Model, scenario: TrainingScenario, plan: Parallel) -> TrainingActivations | Unknown:
        found = self.first.activations(model, scenario, plan)
        return self.second.activations(model, scenario, plan) if isinstance(found, Unknown) else found

    def counts_encoder(self, model: Model, scenario: TrainingScenario) -> bool:
        return self.first.counts_encoder(model, scenario) or self.second.counts_encoder(model, scenario)

    def linears(self, model: Model, scenario: TrainingScenario, index: int) -> tuple[Linear, ...] | None:
        found = self.first.linears(model, scenario, index)
        return self.second.linears(model, scenario, index) if found is None else found


SOURCES: Final[dict[str, ActivationSource]] = {
    "measured": _Preferred(MeasuredClasses(), ClosedForms()),
    "megatron": Megatron(),
    "litgpt": LitGpt(),
}


def source_of(scenario: TrainingScenario) -> ActivationSource:
    """The source for the software that a scenario trains with."""
    return SOURCES[scenario.training.stack.layers]


def step_activations(model: Model, scenario: TrainingScenario, plan: Parallel) -> TrainingActivations | Unknown:
    """Bytes of one micro-batch including adapters, or why they are unknown."""
    source = source_of(scenario)
    found = source.activations(model, scenario, plan)
    if isinstance(found, Unknown) or source.brings_adapters:
        return found
    lora = scenario.training.lora
    if lora is not None and lora.method is not None:
        return with_method(model, scenario, found, source)
    return with_adapters(model, scenario, found, source)
