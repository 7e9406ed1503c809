"""What a vision tower that is trained saves for its backward pass, and needs while that runs.

The decoder's forward and backward passes run while all of it is saved; the tower's backward pass is the step's last.
Frozen towers, adapters in them, eager attention, autocast, evaluation and several accelerators are not measured.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from typing import Any

from hfmem.estimator.activations.polynomials import Polynomial
from hfmem.estimator.activations.source import TrainedTower
from hfmem.estimator.activations.towers import MEASURED_DEPTH, PIXEL, sizes_of
from hfmem.estimator.recipe.values import TrainingScenario
from hfmem.mapper.values import Tower
from hfmem.unknown import Unknown

__all__ = ["saved_and_peak", "trained_tower"]


def trained_tower(tower: Tower | None, scenario: TrainingScenario) -> TrainedTower | Unknown:
    """What the images of a micro-batch need, or why that is not known."""
    reason = Unknown("what the tower of images or sound needs while it runs is not measured yet")
    row = _rows().get((tower.name, scenario.training.checkpointing == "full")) if tower is not None else None
    if row is None or tower is None or not _as_measured(scenario):
        return reason
    each = scenario.patches or tower.patches
    if not each or (row["packed"] and not scenario.patches):
        return reason
    sizes = sizes_of(tower, scenario, each, packed=row["packed"])
    saved, peak = saved_and_peak(row, sizes, tower.layers)
    pixels = scenario.batch * scenario.pieces * each * tower.sizes["pixels"] * PIXEL
    more = f"; + ({row['layer']}) for each of {tower.layers - MEASURED_DEPTH} further layers"
    named = ", ".join(f"{name} {value:,}" for name, value in sizes.items() if value)
    return TrainedTower(
        saved=saved + pixels,
        backward=max(0, peak - saved),
        how=f"{row['saved']}{more}, with {named}; + {pixels:,} B of pixels",
        source=f"hfmem.probe.tower_training on {tower.name} ({row['attention']}), {_lines()[0]['source']}",
    )


def saved_and_peak(row: Mapping[str, Any], sizes: Mapping[str, int], layers: int) -> tuple[int, int]:
    """Bytes where the backward pass begins, and at its peak, of a tower with so many layers."""
    further = Polynomial.parse(row["layer"]).at(sizes) * (layers - MEASURED_DEPTH)
    peak = max(Polynomial.parse(one).at(sizes) for one in row["backward"])
    return Polynomial.parse(row["saved"]).at(sizes) + further, peak + further


def _as_measured(scenario: TrainingScenario) -> bool:
    """Whether all weights are trained in bfloat16 on one accelerator, by transformers' own layers with SDPA."""
    training = scenario.training
    plain = training.method == "full" and not training.frozen and training.tuning is None
    simple = training.head == "lm" and training.evaluation is None
    alone = scenario.parallel.gpus == 1 and training.zero == 0 and not training.fsdp and training.offload == "none"
    precision = training.precision
    wide = precision.weights == precision.compute == "bfloat16" and not precision.autocast
    stack = training.stack.name == "transformers-5" and training.checkpointing in ("none", "full")
    images = scenario.pieces and not scenario.video_tokens and not scenario.audio_tokens
    return bool(plain and simple and alone and wide and stack and images and scenario.attention == "sdpa")


@cache
def _lines() -> tuple[Mapping[str, Any], ...]:
    lines = files("hfmem.data").joinpath("towers_training.jsonl").read_text(encoding="utf-8").splitlines()
    return tuple(json.loads(line) for line in lines)


@cache
def _rows() -> Mapping[tuple[str, bool], Mapping[str, Any]]:
    return {(row["type"], row["checkpointed"]): row for row in _lines()[1:]}
