"""Options that reduce the memory of training, each with the estimate of the scenario that it results in."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from hfmem.advice.fit import held, judged, more
from hfmem.advice.values import Saving
from hfmem.engines.inference import estimate
from hfmem.engines.protocol import Attends
from hfmem.engines.table import engine
from hfmem.errors import InvalidScenarioError
from hfmem.estimator.activations.sources import source_of
from hfmem.estimator.parallel import Parallel
from hfmem.estimator.recipe.optimizers import find_optimizer
from hfmem.estimator.recipe.values import Lora, Training, TrainingScenario
from hfmem.estimator.split.check import check_split
from hfmem.estimator.training.split import rules_of
from hfmem.estimator.values import Estimate
from hfmem.estimator.weights.base import stored_quantised
from hfmem.estimator.weights.quantisers import find_quantiser
from hfmem.mapper.interpret import Model
from hfmem.mapper.lora import ALL_LINEAR, adapters, default_targets
from hfmem.scenario.training import Sharding, usual_precision

if TYPE_CHECKING:
    from hfmem.hardware.values import Machine

__all__ = ["Saving", "savings"]


_Change = tuple[str, str, Training]
_Other = tuple[str, str, TrainingScenario]

_NODE: Final = 8  # accelerators per node
_COUNTS: Final = (2, 4, 8, 16, 32, 64, 128)
_SHARED: Final = (("--zero 3", "sharded (DeepSpeed)", False, 3), ("--fsdp", "sharded (FSDP)", True, 3))


def savings(
    model: Model,
    scenario: TrainingScenario,
    now: Estimate,
    machine: Machine | None = None,
    replicas: int | None = None,
) -> tuple[Saving, ...]:
    """Options that need less memory, the smallest total first, without those that the engine refuses.

    Args:
        model: the trained model.
        scenario: the training scenario.
        now: its estimate.
        machine: the accelerators, if given.
        replicas: the data-parallel size, if the user has set it.
    """
    training = scenario.training
    changes = [
        *_step(training),
        *_adapters(model, scenario, training),
        *_sharding(training, scenario.parallel.dp * scenario.parallel.cp),
        *_offloading(training),
    ]
    others = [(option, what, _trained(scenario, changed)) for option, what, changed in changes]
    half = scenario.batch // 2
    if half >= _least(training):
        others.append((f"--batch {half}", "half the micro-batch", replace(scenario, batch=half)))
    found = []
    for option, what, other in (*others, *_attention(model, scenario), *_more(model, scenario, machine, replicas)):
        new = estimate(model, other)
        if not new.refused and (0 < new.total < now.total or now.refused):
            verdict = judged(new, other) if machine is not None else None
            fits, tight = (verdict.fits, verdict.tight) if verdict else (None, False)
            found.append(Saving(option=option, what=what, total=new.total, fits=fits, tight=tight))
    return tuple(sorted(found, key=lambda item: item.total))


def _least(training: Training) -> int:
    """The fewest rows of a micro-batch: a trainer that generates takes whole groups, here of one micro-batch."""
    tuning = training.tuning
    return 1 if tuning is None else max(tuning.trainer.least, tuning.generations)


def _attention(model: Model, scenario: TrainingScenario) -> Iterator[_Other]:
    """An attention implementation that runs, if the requested one has no kernel there."""
    runs = engine(scenario.runtime)
    if scenario.unattended and isinstance(runs, Attends):
        word = runs.attention("sdpa", model, scenario.gpu).implementation
        yield (
            f"--attention {word}",
            "an attention implementation that runs there",
            replace(scenario, attention=word, unattended=""),
        )


def _more(model: Model, scenario: TrainingScenario, machine: Machine | None, replicas: int | None) -> Iterator[_Other]:
    """Sharding across more accelerators: the fewest that fit, otherwise 8."""
    training = scenario.training
    same = ("", "sharded", training.fsdp, training.zero)
    alone = (
        scenario.parallel.dp * scenario.parallel.cp == 1
    )  # otherwise sharding across the present replicas is advised first
    for words, what, fsdp, zero in (same,) if training.zero else _SHARED if alone else ():
        enough = (count for count in _COUNTS if machine is not None and count > scenario.parallel.gpus)
        others = {count: _over(scenario, count, fsdp=fsdp, zero=zero) for count in (*enough, _NODE)}
        fitting = (count for count, other in others.items() if other and _fits(model, other, machine))
        count = next(fitting, _NODE)
        other = others[count]
        if other is not None:
            sizes = f"--dp {other.parallel.dp}" if replicas is not None else ""
            option = " ".join(filter(None, (_named(machine, count), sizes, words)))
            yield option, f"{what} across {other.training.shard} ranks", other
    yield from _layers(model, scenario, machine)


def _over(scenario: TrainingScenario, count: int, *, fsdp: bool, zero: int) -> TrainingScenario | None:
    """The scenario with replicas added up to `count` accelerators; None if that is no more, or not divisible."""
    plan = scenario.parallel
    others = plan.gpus // plan.dp
    if count <= plan.gpus or count % others:
        return None
    shared = replace(scenario.training, fsdp=fsdp, zero=zero, shard=count // others * plan.cp)
    return replace(_trained(scenario, _as_chosen(shared)), parallel=replace(plan, dp=count // others))


def _fits(model: Model, scenario: TrainingScenario, machine: Machine | None) -> bool:
    return machine is not None and held(estimate(model, scenario), scenario)


def _layers(model: Model, scenario: TrainingScenario, machine: Machine | None) -> Iterator[_Other]:
    """Tensor parallelism within a node, if the model can be split that way."""
    plan = Parallel(tp=_NODE)
    if scenario.parallel.gpus > 1:
        return
    try:
        check_split(model.architecture, plan, rules_of(scenario.training.stack))
    except InvalidScenarioError:
        return
    named = f"{_named(machine, _NODE)} --tp {_NODE}" if machine is not None and machine.count else f"--tp {_NODE}"
    yield named, f"each layer split across {_NODE} GPUs", replace(scenario, parallel=plan)


def _named(machine: Machine | None, count: int) -> str:
    """The option for this number of accelerators."""
    return (more(machine, count)[0] if machine is not None else "") or f"--gpus {count}"


def _step(training: Training) -> Iterator[_Change]:
    """Changes of the step on one GPU: recomputation, loss and optimizer."""
    if training.checkpointing != "full" and not training.keeps_prefix:
        instead = " (instead of --selective-checkpointing)" if training.checkpointing == "selective" else ""
        what = f"recompute layers in backward{instead}"
        yield "--gradient-checkpointing", what, replace(training, checkpointing="full")
    if not training.fused_loss and not training.stack.fused_loss:
        yield "--fused-loss", "LM head and loss in chunks (Liger)", replace(training, fused_loss=True)
    for name, what in (
        ("adamw-fused", "no foreach temporaries"),
        ("adamw-8bit", "8-bit moments"),
        ("adafactor", "factored"),
    ):
        row = find_optimizer(name)
        if row is not None and row is not training.optimizer and training.optimizer.name.startswith(("adamw", "paged")):
            yield f"--optimizer {name}", what, replace(training, optimizer=row)


def _offloading(training: Training) -> Iterator[_Change]:
    """Offloading of sharded parts to host memory."""
    if not training.zero:
        return
    if training.offload == "none" and training.method == "full":
        yield "--offload optimizer", "optimizer states in host memory", replace(training, offload="optimizer")
    if training.offload != "parameters" and training.zero == 3:
        yield (
            "--offload parameters",
            "weights and optimizer states in host memory",
            replace(training, offload="parameters"),
        )


def _sharding(training: Training, replicas: int) -> Iterator[_Change]:
    """Sharding of parts that data-parallel ranks replicate."""
    if replicas == 1 or training.fsdp:
        return
    for stage in range(training.zero + 1, 4):
        yield f"--zero {stage}", f"sharded across {training.shard} ranks", _as_chosen(replace(training, zero=stage))
    if not training.zero:
        yield "--fsdp", f"sharded across {training.shard} ranks", _as_chosen(replace(training, zero=3, fsdp=True))


def _adapters(model: Model, scenario: TrainingScenario, training: Training) -> Iterator[_Change]:
    """Adapters instead of all weights, if the stack supports them, also on a quantized base if the model allows it."""
    lora = training.lora or _lora(model)
    if not source_of(scenario).takes_adapters or lora is None:
        return
    named = default_targets(model.architecture.model_type or "") == lora.targets or training.lora is not None
    targets = "" if named else f" --lora-targets {','.join(lora.targets)}"
    option = "--train" if training.tuning is None else "--train-method"
    if training.method == "full":
        changed = _as_chosen(_without_copy(replace(training, method="lora", lora=lora)))
        yield f"{option} lora{targets}", "adapters instead of all weights", changed
    quantised = find_quantiser(scenario.dtype or "")
    if training.method != "qlora" and not stored_quantised(model) and (quantised is None or quantised.name == "nf4"):
        changed = _as_chosen(_without_copy(replace(training, method="qlora", lora=lora)))
        yield f"{option} qlora{targets}", "adapters on a 4-bit base", changed


def _without_copy(training: Training) -> Training:
    """The same with adapters: their base is the reference model, so a trainer keeps no copy."""
    tuning = training.tuning
    if tuning is None or tuning.reference != "copy":
        return training
    return replace(training, tuning=replace(tuning, reference="adapters off"))


def _lora(model: Model) -> Lora | None:
    """LoRA on PEFT's default targets, otherwise on all linear modules; None if the model has neither."""
    if model.parameters is None:
        return None
    for targets in (default_targets(model.architecture.model_type or "") or (), (ALL_LINEAR,)):
        if targets and adapters(model, targets):
            return Lora(rank=8, targets=targets, dropout=0.0, dtype="float32", dora=False, saved_modules=())
    return None


def _trained(scenario: TrainingScenario, training: Training) -> TrainingScenario:
    """The scenario with another training, whose precision determines the dtypes."""
    weights = training.precision.weights
    dtype = scenario.dtype if find_quantiser(scenario.dtype or "") else weights
    return replace(scenario, training=training, dtype=dtype, compute_dtype=weights)


def _as_chosen(training: Training) -> Training:
    """The same with its default precision, unless the user has set one."""
    if training.precision_asked:
        return training
    sharding: Sharding = ""
    if training.zero and training.method == "full":
        sharding = "fsdp" if training.fsdp else "zero"
    if training.tuning is not None and sharding != "zero":
        return training
    row, _ = usual_precision(training.own_dtype, training.stack, sharding)
    return replace(training, precision=row)
