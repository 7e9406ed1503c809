"""One distinct GPU of a training run; all of its memory terms are computed from this value."""

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
    """A GPU, which stands for all GPUs of its pipeline stage.

    Attributes:
        model, scenario: of the whole run.
        pieces: all trained tensors of the whole model.
        split: its share of each tensor.
        shares: how the tensors of the whole model are distributed over layers.
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
        """The parallel plan."""
        return self.scenario.parallel

    @property
    def architecture(self) -> Architecture:
        """The architecture of the whole model."""
        return self.model.architecture

    @property
    def stage(self) -> Stage:
        """Its pipeline stage."""
        return self.split.stage

    @property
    def inside(self) -> tuple[Piece, ...]:
        """The pieces inside the layers."""
        return tuple(piece for piece in self.pieces if piece.place == "inside")

    @property
    def in_flight(self) -> Fraction:
        """Micro-batches whose saved tensors it holds at once, in units of all layers of its stage (1F1B schedule,
        Megatron-LM arXiv 2104.04473, 2.2). At least as many micro-batches as stages are assumed, unless gradient
        accumulation has fewer."""
        stages_, stage, training = self.plan.pp, self.stage.index, self.training
        if stages_ == 1:
            return Fraction(1)
        batches = training.accumulation if training.accumulation > 1 else stages_
        if training.virtual_stages == 1:
            return Fraction(min(batches, stages_ - stage))
        pieces = training.virtual_stages
        # forward passes of model chunks before the first backward: Megatron's num_warmup_microbatches, plus one
        warm = 2 * (stages_ - stage - 1) + (pieces - 1) * stages_ + 1
        return Fraction(min(warm, batches * pieces), pieces)

    def over(self, component: Component, zero: int) -> int:
        """The number of ranks that ZeRO shards a component's tensors over, for tensors sharded from stage `zero` on."""
        training = self.training
        if training.zero < zero:
            return 1
        if component == "experts" and self.plan.ep > 1:  # expert parallelism leaves fewer replicas of each expert
            return max(1, training.shard * self.plan.tp // self.plan.ep)
        return training.shard

    def share(self, tensor: Tensor, zero: int | None = None) -> Fraction:
        """The fraction of all tensors of this kind on this GPU; with `zero`, after sharding by that ZeRO stage."""
        share = self.split.of(tensor)
        return share if zero is None else share / self.over(tensor.component, zero)

    def share_of_layers(self, component: Component, first: int, count: int) -> Fraction:
        """The fraction of a component's tensors in `count` layers, starting at layer `first` of its stage."""
        start = self.stage.start + first
        return self.shares.of(component, start, start + count)


def gpus(model: Model, scenario: TrainingScenario) -> Iterator[Gpu]:
    """One GPU per pipeline stage."""
    architecture, plan = model.architecture, scenario.parallel
    pieces, rules = trained_pieces(model, scenario.training), rules_of(scenario.training.stack)
    shares = LayerShares(architecture, rules)
    for stage in stages(architecture.depth or 0, plan, rules):
        share = Share(architecture=architecture, plan=plan, stage=stage, rules=rules)
        yield Gpu(model=model, scenario=scenario, pieces=pieces, split=share, shares=shares)
