"""One distinct GPU of a training run: what is computed of it starts from this value."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction

from hfmem.estimator.parallel import Parallel
from hfmem.estimator.recipe.values import Training, TrainingScenario
from hfmem.estimator.split.share import LayerShares, Share, Tensor
from hfmem.estimator.split.stages import Stage, stages
from hfmem.estimator.training.split import rules_of
from hfmem.estimator.training.trained import Piece, trained_pieces
from hfmem.mapper.interpret import Model
from hfmem.mapper.values import Architecture, Component

__all__ = ["Gpu", "gpus"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Gpu:
    """A GPU; others of its pipeline stage are like it.

    Attributes:
        model, scenario: of the whole.
        pieces: everything that gets a gradient, of the whole model.
        split: its share of each tensor.
        shares: what lies in which layers of the whole model.
    """

    model: Model
    scenario: TrainingScenario
    pieces: tuple[Piece, ...]
    split: Share
    shares: LayerShares

    @property
    def training(self) -> Training:
        """How the model is trained."""
        return self.scenario.training

    @property
    def plan(self) -> Parallel:
        """Sizes of the split."""
        return self.scenario.parallel

    @property
    def architecture(self) -> Architecture:
        """Of the whole model."""
        return self.model.architecture

    @property
    def stage(self) -> Stage:
        """Its pipeline stage."""
        return self.split.stage

    @property
    def inside(self) -> tuple[Piece, ...]:
        """The pieces that lie in layers."""
        return tuple(piece for piece in self.pieces if piece.place == "inside")

    @property
    def in_flight(self) -> Fraction:
        """Micro-batches whose saved tensors it holds at once, in units of all layers of its stage (1F1B, Megatron-LM
        arXiv 2104.04473, 2.2). A schedule has at least as many as there are stages, unless fewer make a step."""
        stages_, stage, training = self.plan.pp, self.stage.index, self.training
        if stages_ == 1:
            return Fraction(1)
        batches = training.accumulation if training.accumulation > 1 else stages_
        if training.virtual_stages == 1:
            return Fraction(min(batches, stages_ - stage))
        pieces = training.virtual_stages
        warm = 2 * (stages_ - stage - 1) + (pieces - 1) * stages_ + 1
        return Fraction(min(warm, batches * pieces), pieces)

    def over(self, component: Component, zero: int) -> int:
        """Over how many ranks a component's tensors are spread that ZeRO shares from stage `zero` on."""
        training = self.training
        if training.zero < zero:
            return 1
        if component == "experts" and self.plan.ep > 1:  # replicas of an expert are fewer
            return max(1, training.shard * self.plan.tp // self.plan.ep)
        return training.shard

    def share(self, tensor: Tensor, zero: int | None = None) -> Fraction:
        """How much of all tensors like this one it holds; with `zero`, after the sharding of that ZeRO stage."""
        held = self.split.of(tensor)
        return held if zero is None else held / self.over(tensor.component, zero)

    def share_of_layers(self, component: Component, first: int, count: int) -> Fraction:
        """How much of a component's tensors lies in so many layers, from the layer `first` of its own on."""
        start = self.stage.start + first
        return self.shares.of(component, start, start + count)


def gpus(model: Model, scenario: TrainingScenario) -> Iterator[Gpu]:
    """One a pipeline stage."""
    architecture, plan = model.architecture, scenario.parallel
    pieces, rules = trained_pieces(model, scenario.training), rules_of(scenario.training.stack)
    shares = LayerShares(architecture, rules)
    for stage in stages(architecture.depth or 0, plan, rules):
        share = Share(architecture=architecture, plan=plan, stage=stage, rules=rules)
        yield Gpu(model=model, scenario=scenario, pieces=pieces, split=share, shares=shares)
