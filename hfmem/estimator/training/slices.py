"""Which part of the model, and which share of it, each GPU holds."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction

from hfmem.errors import InvalidScenarioError
from hfmem.estimator.parallel import Parallel
from hfmem.estimator.recipe.values import Training
from hfmem.estimator.training.trained import Place, share_of_layers
from hfmem.mapper.caches import KV
from hfmem.mapper.values import Architecture, Component, Dense, Experts, Layer

__all__ = ["Slice", "check_spread", "slices"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Slice:
    """One distinct GPU.

    Attributes:
        ranks: numbers of the GPUs that are like it.
        start, stop: its layers.
        first, last: whether it holds what comes before the layers, and after them.
        in_flight: micro-batches whose saved tensors it holds at once (1F1B, Megatron-LM arXiv 2104.04473, 2.2).
        plan: sizes of the whole.
    """

    ranks: tuple[int, ...]
    start: int
    stop: int
    first: bool
    last: bool
    in_flight: Fraction
    plan: Parallel

    def part(self, architecture: Architecture, component: Component, place: Place, *, split: bool) -> Fraction:
        """The share of a component's tensors that it holds; `split` ones are shared by tensor-parallel ranks."""
        if place != "layers":
            tied = architecture.tied_embeddings is True and component == "embedding" and self.last
            held = Fraction(self.first or tied) if place == "first" else Fraction(self.last)
        else:
            held = share_of_layers(architecture, component, self.start, self.stop)
        if component == "experts" and self.plan.ep > 1:
            return held / self.plan.ep
        return held / self.plan.tp if split else held


def slices(architecture: Architecture, training: Training, plan: Parallel) -> Iterator[Slice]:
    """One a pipeline stage: ranks of a stage are alike."""
    depth = architecture.depth or 0
    for stage in range(plan.pp):
        start, stop = depth * stage // plan.pp, depth * (stage + 1) // plan.pp
        alike = plan.gpus // plan.pp
        yield Slice(
            ranks=tuple(range(stage * alike, (stage + 1) * alike)),
            start=start,
            stop=stop,
            first=stage == 0,
            last=stage == plan.pp - 1,
            in_flight=_in_flight(stage, plan.pp, training),
            plan=plan,
        )


def _in_flight(stage: int, stages: int, training: Training) -> Fraction:
    """Micro-batches, in units of all layers of the stage. A schedule has at least as many as there are stages, unless
    fewer make a step."""
    if stages == 1:
        return Fraction(1)
    batches = training.accumulation if training.accumulation > 1 else stages
    if training.virtual_stages == 1:
        return Fraction(min(batches, stages - stage))
    pieces = training.virtual_stages
    warm = 2 * (stages - stage - 1) + (pieces - 1) * stages + 1
    return Fraction(min(warm, batches * pieces), pieces)


def check_spread(architecture: Architecture, plan: Parallel, virtual_stages: int) -> None:
    """Refuse a split that training frameworks would refuse (Megatron-LM, megatron/training/arguments.py and
    megatron/core/transformer/transformer_config.py).

    Raises:
        InvalidScenarioError: with the sizes that do not go together.
    """
    layers = architecture.layers
    if layers is None:
        if plan.pp > 1 or plan.ep > 1:
            raise InvalidScenarioError("", "the layers of this model are not known: neither --pp nor --ep can be")
        return
    pieces = plan.pp * virtual_stages
    if plan.pp > 1 and pieces > len(layers):
        times = f" × --virtual-stages {virtual_stages}" if virtual_stages > 1 else ""
        raise InvalidScenarioError("", f"--pp {plan.pp}{times} is more than the model's {len(layers)} layers")
    if plan.ep > 1 and not any(isinstance(layer.ffn, Experts) for layer in layers):
        raise InvalidScenarioError("", f"--ep {plan.ep} shares experts, and the model has none")
    for layer in dict.fromkeys(layers):
        _check_layer(layer, plan)


def _check_layer(layer: Layer, plan: Parallel) -> None:
    tp, ffn, cache = plan.tp, layer.ffn, layer.cache
    if layer.heads % tp:
        raise InvalidScenarioError("", f"--tp {tp} does not divide the model's {layer.heads} attention heads")
    if isinstance(cache, KV) and cache.heads % tp and tp % cache.heads:
        raise InvalidScenarioError("", f"--tp {tp} does not divide the model's {cache.heads} key/value heads")
    if isinstance(ffn, Dense) and ffn.intermediate % tp:
        raise InvalidScenarioError("", f"--tp {tp} does not divide the {ffn.intermediate} units of the MLP")
    if isinstance(ffn, Experts) and ffn.count % plan.ep:
        raise InvalidScenarioError("", f"--ep {plan.ep} does not divide the model's {ffn.count} experts")
    if isinstance(ffn, Experts) and plan.ep == 1 and ffn.intermediate % tp:
        raise InvalidScenarioError("", f"--tp {tp} does not divide the {ffn.intermediate} units of an expert; try --ep")
