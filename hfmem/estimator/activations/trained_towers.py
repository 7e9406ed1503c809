"""What a vision tower that is trained saves for its backward pass, and needs while that runs.

The decoder's forward and backward passes run while all of it is saved; the tower's backward pass is the step's last. A
tower that is not trained saves nothing. Of a trained one, eager attention, autocast, evaluation and several
accelerators are not measured.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any, Final

from hfmem.data import text as data_text
from hfmem.estimator.activations.adapters import GRADIENTS_AT_ONCE, compute_bytes, linear_of, own_bytes, token_bytes
from hfmem.estimator.activations.polynomials import Polynomial
from hfmem.estimator.activations.source import TrainedTower
from hfmem.estimator.activations.towers import MEASURED_DEPTH, encoding, pixels_of, sizes_of, unlike
from hfmem.estimator.recipe.values import TrainingScenario
from hfmem.mapper.interpret import Model
from hfmem.mapper.lora import adapters
from hfmem.unknown import Unknown

if TYPE_CHECKING:
    from hfmem.mapper.inputs import Tower

__all__ = ["saved_and_peak", "trained_tower"]


def trained_tower(model: Model, scenario: TrainingScenario) -> TrainedTower | Unknown:
    """What the images of a micro-batch need, or why that is not known."""
    reason = Unknown("what the tower of images or sound needs while it runs is not measured yet")
    tower = model.tower
    if tower is None or not _as_measured(scenario):
        return reason
    trained = _trained_parts(model, scenario)
    if not trained:
        return _frozen(tower, scenario) or reason
    checkpointed = scenario.training.checkpointing == "full" and trained != "projector"
    row = _rows().get((tower.name, checkpointed, trained))
    each = scenario.patches or tower.patches
    if row is None or scenario.attention != "sdpa" or not each or (row["packed"] and not scenario.patches):
        return reason
    if unlike(row, tower):
        return reason
    sizes = sizes_of(tower, scenario, each, packed=row["packed"])
    saved, peak = saved_and_peak(row, sizes, tower)
    more = _adapters(model, scenario, each)
    pixels = pixels_of(tower, scenario, each)
    deeper = f"; + ({row['layer']}) for each of {_further(row, tower)} further layers" if row["layer"] else ""
    named = ", ".join(f"{name} {value:,}" for name, value in sizes.items() if value)
    frozen = _frozen(tower, scenario) if trained == "projector" else None
    return TrainedTower(
        saved=saved + pixels + more.kept,
        backward=max(0, peak - saved) + more.backward,
        forward=frozen.forward if frozen else 0,
        how=f"{row['saved']}{deeper}, with {named}; + {pixels:,} B of pixels{more.how}",
        source=f"hfmem.probe.tower_training on {tower.name} ({row['attention']}), {_lines()[0]['source']}",
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Adapted:
    """Bytes of adapters on top of a tower and projector that let gradients through: saved, and at the highest moment of
    the backward pass."""

    kept: int = 0
    backward: int = 0
    how: str = ""


def _adapters(model: Model, scenario: TrainingScenario, each: int) -> _Adapted:
    """What adapters save is as of a decoder's layers (`hfmem.estimator.activations.adapters`). Each is counted with an
    input of its own; adapters in the layers' dtype share it where modules have the same input, and save less."""
    training, tower = scenario.training, model.tower
    lora = training.lora
    if lora is None or tower is None:
        return _Adapted()
    of_tower = scenario.batch * scenario.pieces * each
    tokens = {"vision": of_tower, "projector": scenario.batch * scenario.image_tokens}
    kept = again = moment = 0
    for adapter in adapters(model, lora.targets):
        rows = tokens.get(adapter.group.component, 0)
        one = linear_of(adapter)
        nbytes = rows * token_bytes((one,), lora, training)
        recomputed = training.checkpointing == "full" and adapter.group.component == "vision"
        kept += 0 if recomputed else adapter.count * nbytes
        again += -(-adapter.count // tower.layers) * nbytes if recomputed else 0
        moment = max(moment, rows * one.inputs * max(GRADIENTS_AT_ONCE * compute_bytes(training), own_bytes(training)))
    how = f"; + {kept:,} B of adapters" if kept else ""
    return _Adapted(kept=kept, backward=again + moment, how=how)


def _trained_parts(model: Model, scenario: TrainingScenario) -> str:
    """What is trained of tower and projector: `all`, `projector`, `lora` for adapters; "" where both are frozen."""
    training = scenario.training
    if training.lora is not None:
        parts = {adapter.group.component for adapter in adapters(model, training.lora.targets)}
        return "lora" if parts & _PARTS else ""
    groups = model.parameters.groups if model.parameters is not None else ()
    left = {group.component for group in groups if group.loaded and group.component not in training.frozen} & _PARTS
    return "all" if "vision" in left else "projector" if left else ""


_PARTS: Final = frozenset({"vision", "projector"})


def _frozen(tower: Tower, scenario: TrainingScenario) -> TrainedTower | None:
    """A tower that is not trained saves nothing: it leaves pixels and features, and needs as much as to run."""
    found = encoding(tower, scenario)
    if isinstance(found, Unknown) or not found.measured:
        return None
    return TrainedTower(
        saved=found.kept,
        backward=0,
        forward=max(0, found.peak - found.kept),
        how="pixels and features of the images, of a tower that is not trained",
        source=found.source,
    )


def _further(row: Mapping[str, Any], tower: Tower) -> int:
    """Layers above those that were measured. Of last layers that run for nothing, nothing stays."""
    return tower.layers - tower.unused - (MEASURED_DEPTH - int(row.get("unused", 0)))


def saved_and_peak(row: Mapping[str, Any], sizes: Mapping[str, int], tower: Tower) -> tuple[int, int]:
    """Bytes where the backward pass begins, and at its peak."""
    further = Polynomial.parse(row["layer"]).at(sizes) * _further(row, tower) if row["layer"] else 0
    peak = max((Polynomial.parse(one).at(sizes) for one in row["backward"]), default=0)
    return Polynomial.parse(row["saved"]).at(sizes) + further, peak + further


def _as_measured(scenario: TrainingScenario) -> bool:
    """Whether weights or adapters are trained in bfloat16 on one accelerator, by transformers' own layers."""
    training = scenario.training
    plain = training.method in ("full", "lora") and training.tuning is None
    lora = training.lora
    plain = plain and (lora is None or not (lora.method or lora.dora or lora.saved_modules))
    simple = training.head == "lm" and training.evaluation is None
    alone = scenario.parallel.gpus == 1 and training.zero == 0 and not training.fsdp and training.offload == "none"
    precision = training.precision
    wide = precision.weights == precision.compute == "bfloat16" and not precision.autocast
    stack = training.stack.name == "transformers-5" and training.checkpointing in ("none", "full")
    images = scenario.pieces and not scenario.video_tokens and not scenario.audio_tokens
    return bool(plain and simple and alone and wide and stack and images)


@cache
def _lines() -> tuple[Mapping[str, Any], ...]:
    lines = data_text("towers_training.jsonl").splitlines()
    return tuple(json.loads(line) for line in lines)


@cache
def _rows() -> Mapping[tuple[str, bool, str], Mapping[str, Any]]:
    return {(row["type"], row["checkpointed"], row["trained"]): row for row in _lines()[1:]}
