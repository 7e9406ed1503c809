"""Ways to need less memory in training, each computed as the scenario that its option makes of this one."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from hfmem.advice.values import Saving
from hfmem.estimator.activations.sources import source_of
from hfmem.estimator.recipe.optimizers import find_optimizer
from hfmem.estimator.recipe.values import Lora, Training, TrainingScenario
from hfmem.estimator.training.estimate import estimate
from hfmem.estimator.weights.base import stored_quantised
from hfmem.estimator.weights.quantisers import find_quantiser
from hfmem.mapper.interpret import Model
from hfmem.mapper.lora import ALL_LINEAR, adapters, default_targets
from hfmem.scenario.training import usual_precision

__all__ = ["Saving", "savings"]


_Change = tuple[str, str, Training]


def savings(model: Model, scenario: TrainingScenario, total: int) -> tuple[Saving, ...]:
    """What would help, the largest saving first; what would not is left out."""
    training = scenario.training
    changes = [
        *_step(training),
        *_adapters(model, scenario, training),
        *_sharding(training, scenario.parallel.dp * scenario.parallel.cp),
    ]
    others = [(option, what, replace(scenario, training=changed)) for option, what, changed in changes]
    if scenario.batch > 1:
        half = scenario.batch // 2
        others.append((f"--batch {half}", "half the micro-batch", replace(scenario, batch=half)))
    found = []
    for option, what, other in others:
        new = estimate(model, other).total
        if 0 < new < total:
            found.append(Saving(option=option, what=what, total=new))
    return tuple(sorted(found, key=lambda item: item.total))


def _step(training: Training) -> Iterator[_Change]:
    """What one GPU does in its step: what it computes anew, its loss, its optimizer."""
    if training.checkpointing != "full":
        instead = " (instead of --selective-checkpointing)" if training.checkpointing == "selective" else ""
        what = f"layers computed anew in backward{instead}"
        yield "--gradient-checkpointing", what, replace(training, checkpointing="full")
    if not training.fused_loss and not training.stack.fused_loss:
        yield "--fused-loss", "head and loss by pieces (Liger)", replace(training, fused_loss=True)
    for name, what in (("adamw-fused", "no list of roots"), ("adamw-8bit", "8-bit moments"), ("adafactor", "factored")):
        row = find_optimizer(name)
        if row is not None and row is not training.optimizer and training.optimizer.name.startswith(("adamw", "paged")):
            yield f"--optimizer {name}", what, replace(training, optimizer=row)


def _sharding(training: Training, replicas: int) -> Iterator[_Change]:
    """More of what data-parallel ranks hold alike, shared."""
    if replicas == 1 or training.fsdp:
        return
    for stage in range(training.zero + 1, 4):
        yield f"--zero {stage}", f"shared over {training.shard} ranks", _as_chosen(replace(training, zero=stage))


def _adapters(model: Model, scenario: TrainingScenario, training: Training) -> Iterator[_Change]:
    """Adapters in place of all weights, where the stack has them and the base can be what they go on."""
    lora = training.lora or _lora(model)
    if not source_of(scenario).takes_adapters or lora is None:
        return
    named = default_targets(model.architecture.model_type or "") == lora.targets or training.lora is not None
    targets = "" if named else f" --lora-targets {','.join(lora.targets)}"
    if training.method == "full":
        changed = _as_chosen(replace(training, method="lora", lora=lora))
        yield f"--train lora{targets}", "adapters instead of all weights", changed
    quantised = find_quantiser(scenario.dtype or "")
    if training.method != "qlora" and not stored_quantised(model) and (quantised is None or quantised.name == "nf4"):
        changed = _as_chosen(replace(training, method="qlora", lora=lora))
        yield f"--train qlora{targets}", "adapters on a 4-bit base", changed


def _lora(model: Model) -> Lora | None:
    """PEFT's defaults, else all linear modules; None where neither are there."""
    if model.parameters is None:
        return None
    for targets in (default_targets(model.architecture.model_type or "") or (), (ALL_LINEAR,)):
        if targets and adapters(model, targets):
            return Lora(rank=8, targets=targets, dropout=0.0, dtype="float32", dora=False, saved_modules=())
    return None


def _as_chosen(training: Training) -> Training:
    """The same, in the precision that it has where a person names none."""
    if training.precision_asked:
        return training
    deepspeed = training.zero > 0 and not training.fsdp and training.method == "full"
    row, _ = usual_precision(training.precision.weights, training.stack, deepspeed=deepspeed)
    return replace(training, precision=row)
