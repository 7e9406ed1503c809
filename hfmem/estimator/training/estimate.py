"""The estimate of a training run: each distinct GPU at the peak of its step, and the most loaded of them."""

from __future__ import annotations

from dataclasses import dataclass, replace

from hfmem.estimator.activations.sources import source_of
from hfmem.estimator.recipe.values import TrainingScenario
from hfmem.estimator.training.activity import activity
from hfmem.estimator.training.class_heads import with_head
from hfmem.estimator.training.gpu import Gpu, gpus
from hfmem.estimator.training.outcome import facts_of
from hfmem.estimator.training.phases import phases_of
from hfmem.estimator.training.states import Held, held
from hfmem.estimator.values import Estimate, Group, Loading, Phase, Rank, total_of
from hfmem.estimator.weights.base import base_bytes, untied
from hfmem.estimator.weights.loading import file_bytes, mapped
from hfmem.estimator.weights.nf4 import nf4_bytes
from hfmem.mapper.interpret import Model
from hfmem.units import format_bytes
from hfmem.unknown import Unknown

__all__ = ["estimate"]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Loaded:
    """One GPU with its phases; `reason` says why its activations are unknown, None where they are known."""

    gpu: Gpu
    stays: Held
    phases: tuple[Phase, ...]
    reason: str | None

    @property
    def peak(self) -> Phase:
        return max(self.phases, key=lambda phase: phase.total)


def estimate(model: Model, scenario: TrainingScenario) -> Estimate:
    """The estimate of the most loaded GPU at the step's peak, with all phases and all distinct GPUs."""
    if model.parameters is None:
        why = model.architecture.unknown or "neither the files nor the configuration determine the size of the model"
        groups: tuple[Group, ...] = ("weights", "activations", "gradients", "optimizer")
        return Estimate(terms=(), unknown=tuple((group, why) for group in groups))
    model = with_head(model, scenario)
    model = untied(model) if scenario.training.stack.untied else model
    found = [_loaded(gpu) for gpu in gpus(model, _forward(scenario))]
    # pipeline stages may peak in different phases: an early one holds more micro-batches, the last one the logits
    worst = max(found, key=lambda one: one.peak.total)
    ranks = tuple(Rank(ranks=one.gpu.stage.ranks, terms=one.peak.terms) for one in found)
    return Estimate(
        terms=worst.peak.terms,
        unknown=_unknown(model, scenario, found),
        notes=_notes(model, scenario),
        phases=worst.phases,
        peak_phase=worst.peak.name,
        ranks=ranks if scenario.parallel.gpus > 1 else (),
        training=facts_of(worst.gpu, worst.stays, worst.phases),
        host=worst.stays.host,
        spared=total_of(term for term in worst.peak.terms if term.kind == "managed"),
        loading=_loading(model, scenario),
    )


def _forward(scenario: TrainingScenario) -> TrainingScenario:
    """The scenario as a forward pass has it: with all rows of a pair or prompt, and with virtual tokens before each."""
    tuning, lora = scenario.training.tuning, scenario.training.lora
    if lora is not None and lora.method is not None and lora.method.kind in ("prompt", "encoded prompt"):
        scenario = replace(scenario, seq=scenario.seq + lora.tokens)
    return scenario if tuning is None else replace(scenario, batch=scenario.batch * tuning.trainer.rows)


def _loaded(gpu: Gpu) -> _Loaded:
    stays, active = held(gpu), activity(gpu)
    if isinstance(active, Unknown):
        return _Loaded(gpu=gpu, stays=stays, phases=phases_of(gpu, stays, None), reason=active.reason)
    return _Loaded(gpu=gpu, stays=stays, phases=phases_of(gpu, stays, active), reason=None)


def _loading(model: Model, scenario: TrainingScenario) -> Loading | None:
    """Peak host memory while the weights are loaded: with DeepSpeed's ZeRO-3 the first rank reads all of them."""
    training, from_files = scenario.training, mapped(model)
    if from_files is None:
        return None
    whole = training.zero == 3 and not training.fsdp
    host = file_bytes(model) if whole or not from_files else 0
    how = "the first rank reads the whole checkpoint" if whole else "memory-mapped files, whose pages can be reclaimed"
    return Loading(
        host=host,
        gpu=None,
        how=how if from_files or whole else "all pickled files together",
        source="transformers 5.24.0, modeling_utils.py::_load_pretrained_model",
    )


def _unknown(model: Model, scenario: TrainingScenario, found: list[_Loaded]) -> tuple[tuple[Group, str], ...]:
    """Groups that are not counted in full, and why."""
    unknown: list[tuple[Group, str]] = []
    if model.checkpoint.missing:
        unknown.append(("weights", model.checkpoint.absence))
    tuning = scenario.training.tuning
    if tuning is not None and tuning.vllm == "colocate" and scenario.gpu is None:
        unknown.append(("overhead", "vLLM's share of the accelerator is not known: name it with --gpu"))
    reasons = [one.reason for one in found if one.reason is not None]
    unknown += [("activations", reason) for reason in reasons[-1:]]  # the stages of a model share one reason
    if scenario.source_seq and not source_of(scenario).counts_encoder(model, scenario):
        tokens = f"{scenario.source_seq:,} tokens"
        unknown.append(("activations", f"activations of the encoder's {tokens} are not measured and not counted"))
    return tuple(unknown)


def _notes(model: Model, scenario: TrainingScenario) -> tuple[str, ...]:
    training = scenario.training
    notes = []
    longest = model.architecture.max_positions
    if longest is not None and scenario.seq > longest:
        notes.append(f"{scenario.seq:,} tokens exceed the model's maximum of {longest:,}.")
    if training.precision.name == "fp16" and training.method == "full":
        notes.append("Pure float16 training is unstable and GradScaler refuses it: --precision autocast-fp16 is usual.")
    if training.optimizer.paged:
        notes.append(
            "Paged optimizer states are managed memory: the driver pages them out to the host where the GPU has "
            "no room. The low end of the range is without them."
        )
    notes += _experts_note(model, scenario)
    return tuple(notes)


def _experts_note(model: Model, scenario: TrainingScenario) -> list[str]:
    """A note on how much smaller a 4-bit base would be if experts were linear modules; in transformers 5 they are one
    fused parameter."""
    training = scenario.training
    if training.method != "qlora" or not training.stack.fused_experts or model.parameters is None:
        return []
    experts = [group for group in model.parameters.groups if group.loaded and group.component == "experts"]
    kept = [base_bytes(group, scenario, frozenset()) for group in experts]
    packed = sum(group.count * nf4_bytes(group.elements // group.count, training.double_quant) for group in experts)
    saved = sum(size or 0 for size in kept) - packed
    if saved <= 0:
        return []
    return [
        "bitsandbytes leaves experts unquantised: it replaces linear modules only, and transformers 5 fuses experts "
        f"into plain parameters. In NF4 they would take {format_bytes(saved)} less."
    ]
