"""Ways to need less memory in training, each computed as a scenario of its own."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

from hfmem.estimator.optimizers import find_optimizer
from hfmem.estimator.training_values import Lora, Training
from hfmem.estimator.values import Saving, Scenario
from hfmem.mapper.interpret import Model
from hfmem.mapper.lora import ALL_LINEAR, default_targets

__all__ = ["savings"]


def savings(model: Model, scenario: Scenario, total: int) -> tuple[Saving, ...]:
    """What would help, the largest saving first; what would not is left out."""
    from hfmem.estimator.training import estimate  # it asks for advice in turn

    training, plan = scenario.training, scenario.parallel
    if training is None:
        return ()
    found = []
    for option, what, other in _alternatives(model, scenario, training, plan.dp * plan.cp):
        new = estimate(model, other, advise=False).total
        if 0 < new < total:
            found.append(Saving(option=option, what=what, total=new))
    return tuple(sorted(found, key=lambda item: item.total))


def _alternatives(
    model: Model, scenario: Scenario, training: Training, replicas: int
) -> Iterator[tuple[str, str, Scenario]]:
    def with_(**changes: object) -> Scenario:
        return replace(scenario, training=replace(training, **changes))  # type: ignore[arg-type] # fields of Training

    if training.checkpointing != "full":
        yield "--gradient-checkpointing", "layers computed anew in backward", with_(checkpointing="full")
    if not training.fused_loss and not training.stack.fused_loss:
        yield "--fused-loss", "head and loss by pieces (Liger)", with_(fused_loss=True)
    for name, what in (("adamw-fused", "no list of roots"), ("adamw-8bit", "8-bit moments"), ("adafactor", "factored")):
        row = find_optimizer(name)
        if row is not None and row is not training.optimizer and training.optimizer.name.startswith(("adamw", "paged")):
            yield f"--optimizer {name}", what, with_(optimizer=row)
    yield from _adapters(model, training, with_)
    for stage in range(training.zero + 1, 4) if replicas > 1 and not training.fsdp else ():
        yield f"--zero {stage}", f"shared over {replicas} ranks", with_(zero=stage, shard=replicas)
    if scenario.batch > 1:
        yield f"--batch {scenario.batch // 2}", "half the micro-batch", replace(scenario, batch=scenario.batch // 2)


def _adapters(model: Model, training: Training, with_: Callable[..., Scenario]) -> Iterator[tuple[str, str, Scenario]]:
    """Adapters in place of all weights, where the stack has them."""
    if training.stack.layers != "transformers":
        return
    if training.method == "full":
        yield "--train lora", "adapters instead of all weights", with_(method="lora", lora=_lora(model))
    if training.method != "qlora":
        lora = training.lora or _lora(model)
        yield "--train qlora", "adapters on a 4-bit base", with_(method="qlora", lora=lora)


def _lora(model: Model) -> Lora:
    targets = default_targets(model.architecture.model_type or "") or (ALL_LINEAR,)
    return Lora(rank=8, targets=targets, dropout=0.0, dtype="float32", dora=False, saved_modules=())
