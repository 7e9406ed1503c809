"""The peak of one step, measured on the real class at its real size, without weights, memory or a GPU.

The class named in a config.json is built under PyTorch's `FakeTensorMode`, where tensors have shapes but no data, and
runs the step under the tracer. Of identical layers, only a few are run: each additional layer of a kind before or after
a layer adds the same bytes to what is alive in that layer. So every part of the step is extrapolated to the full depth
separately, and the peak is taken *afterwards*, as the part with the peak changes with depth. If the extrapolation is
not exact, all layers are run.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any, Final, Literal
from unittest.mock import patch

import numpy as np
import torch
import transformers
from torch._subclasses.fake_tensor import FakeTensorMode
from transformers import masking_utils
from transformers.initialization import no_init_weights

from hfmem.errors import UntraceableError
from hfmem.estimator.recipe.values import Training, TrainingScenario
from hfmem.estimator.scenario import Scenario
from hfmem.estimator.traced import Trace
from hfmem.estimator.values import Group
from hfmem.fetcher.values import Checkpoint, ModelRef
from hfmem.mapper.interpret import Model, interpret
from hfmem.mapper.values import Layer
from hfmem.probe import tiny
from hfmem.probe.activations.step import Mode, Timeline, find_layers, run
from hfmem.probe.activations.tracer import Segment
from hfmem.probe.parameters import model_class
from hfmem.refusals.options import UntracedError
from hfmem.silence import quiet

__all__ = ["Step", "shortened", "step_of", "timeline", "trace", "traced", "unpadded"]

_GROUPS: Final[tuple[Group, ...]] = ("weights", "kv_cache", "activations", "gradients", "optimizer", "temporary")

_EXACT: Final = 1e-4  # of the largest value: maximum deviation from the linear fit

Config = dict[str, Any]
Bytes = np.ndarray
"""Bytes of each of `_GROUPS`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """The step to run.

    Attributes:
        mode: attention, precision, method and gradient checkpointing.
        batch, seq: sequences, and tokens per sequence.
        source_seq: tokens of the encoder; None without one.
        optimizer: in training, the name of the `torch.optim` class, whose step is then the last part. It runs with
            `foreach` as on a GPU, where that is PyTorch's default.
    """

    mode: Mode
    batch: int
    seq: int
    source_seq: int | None = None
    optimizer: str | None = None


@dataclass(frozen=True, slots=True)
class _Run:
    """The layers of a run, and the highest moment of each of its parts."""

    layers: tuple[Layer, ...]
    moments: Mapping[Segment, Bytes]


def traced(model: Model, scenario: Scenario) -> Trace:
    """The highest moment of the step that a scenario asks for.

    Raises:
        UntraceableError: the class cannot be built, or does not run without content.
        UntracedError: a step that the tracer does not run.
    """
    if scenario.parallel.gpus > 1:
        raise UntracedError(model.checkpoint.ref.model_id)
    return trace(model, step_of(model, scenario))


def step_of(model: Model, scenario: Scenario) -> Step:
    """The step of a scenario.

    Raises:
        UntraceableError: the dtype is unknown.
        UntracedError: a kind of training that the tracer does not support.
    """
    if isinstance(scenario, TrainingScenario):
        return _training_step(scenario, scenario.training)
    if scenario.compute_dtype is None:
        raise UntraceableError(model.checkpoint.ref.model_id, "the compute dtype is not known: use --dtype")
    mode = Mode(
        attention="eager" if scenario.attention == "eager" else "sdpa",
        precision="fp32" if scenario.compute_dtype == "float32" else "bf16",
        method="prefill",
    )
    return Step(mode=mode, batch=scenario.batch, seq=scenario.seq, source_seq=scenario.source_seq)


_OPTIMIZERS: Final = {"adamw": "AdamW", "adam": "Adam", "sgd": "SGD"}


def _training_step(scenario: Scenario, training: Training) -> Step:
    """A step of full training with one of PyTorch's optimizers."""
    optimizer = _OPTIMIZERS.get(training.optimizer.name)
    plain = training.method == "full" and training.precision.master == 0 and training.checkpointing != "selective"
    if not plain or optimizer is None or training.stack.name != "transformers-5" or training.fused_loss:
        raise UntracedError(optimizers=_OPTIMIZERS)
    precision: Literal["bf16", "fp32", "autocast"] = "fp32" if training.precision.compute == "float32" else "bf16"
    if training.precision.autocast:
        precision = "autocast"
    mode = Mode(
        attention="eager" if scenario.attention == "eager" else "sdpa",
        precision=precision,
        method="full",
        checkpointing=training.checkpointing == "full",
    )
    return Step(mode=mode, batch=scenario.batch, seq=scenario.seq, optimizer=optimizer)


def trace(model: Model, step: Step, *, whole: bool = False) -> Trace:
    """The peak of a step.

    Args:
        model: the model.
        step: the step to run.
        whole: whether to run all layers, even identical ones.

    Raises:
        UntraceableError: the class cannot be built, or does not run on tensors without data.
    """
    started = time.monotonic()
    name, config = model.checkpoint.ref.model_id, _plain(model)
    layers = model.architecture.layers
    if not layers:
        raise UntraceableError(name, "its layers are unknown")
    try:
        runs = () if whole else _samples(config, layers, step)
        extended = _extended(runs, layers) if runs else None
        count = len(layers) if extended is None else sum(len(part.layers) for part in runs)
        found = _run(config, layers, step).moments if extended is None else extended
    except Exception as error:  # a class may fail with any exception
        raise UntraceableError(name, f"{type(error).__name__}: {' '.join(str(error).split())[:200]}") from error
    segment = max(found, key=lambda part: int(found[part].sum()))
    return Trace(
        phase=_phase(segment, step),
        groups={group: round(n) for group, n in zip(_GROUPS, found[segment], strict=True)},
        phases=_highest(found, step),
        layers=count,
        seconds=round(time.monotonic() - started, 1),
        source=f"transformers {transformers.__version__}, PyTorch {torch.__version__.partition('+')[0]}",
    )


def _plain(model: Model) -> Config:
    """The config without keys that load or quantize weights, and with LayerDrop disabled.

    Raises:
        UntraceableError: there is no config, or `transformers` has no class for it.
    """
    dropped = ("quantization_config", "auto_map", "dtype", "torch_dtype")
    config = {key: value for key, value in (model.checkpoint.config or {}).items() if key not in dropped}
    try:
        found = model_class(config)
    except LookupError:
        kind = model.architecture.model_type or "a model without a config.json"
        raise UntraceableError(
            model.checkpoint.ref.model_id, f"transformers {transformers.__version__} has no class for {kind}"
        ) from None
    every = {key: 0.0 for key in config if "layerdrop" in key}
    return {**config, **every, "architectures": [found.__name__]}


def _phase(segment: Segment, step: Step) -> str:
    part = segment[0]
    if not step.mode.trains:
        return "head" if part == "head" else "layers"
    if part == "optimizer":
        return "optimizer"
    return "backward" if part in ("backward", "after") else "logits"


def _highest(found: Mapping[Segment, Bytes], step: Step) -> dict[str, int]:
    """The peak bytes of each phase."""
    sums: dict[str, int] = {}
    for segment, parts in found.items():
        phase = _phase(segment, step)
        sums[phase] = max(sums.get(phase, 0), round(parts.sum()))
    return sums


# --- running ---------------------------------------------------------------------------------------------------------


def timeline(model: Model, step: Step, keep: Sequence[int] | None = None) -> Timeline:
    """Everything that a step allocates and frees.

    Args:
        model: the model.
        step: the step to run.
        keep: the numbers of the layers to run, from `shortened`; None for all.

    Raises:
        Exception: whatever the class raises.
    """
    config, depth = _plain(model), len(model.architecture.layers or ())
    cut = _cut(config, keep, depth) if keep is not None and len(keep) < depth else None
    if keep is None or cut is None:
        return _timeline(config, depth, step)
    return _timeline(cut, len(keep), step)


def shortened(model: Model) -> tuple[int, ...]:
    """The numbers of layers that represent all: the first, and two more of each kind. All layers, if the config cannot
    be cut down to these, or if that would also cut an encoder."""
    layers = model.architecture.layers or ()
    if model.architecture.source == "encoder":
        return tuple(range(len(layers)))
    keep = sorted(set().union(*_cuts(layers))) if layers else []
    cut = _cut(_plain(model), keep, len(layers)) if len(keep) < len(layers) else None
    if cut is None or _layers_of(cut) != tuple(layers[index] for index in keep):
        return tuple(range(len(layers)))
    return tuple(keep)


def _run(config: Config, layers: Sequence[Layer], step: Step) -> _Run:
    """A run with these layers."""
    return _Run(tuple(layers), _moments(_timeline(config, len(layers), step)))


def _timeline(config: Config, depth: int, step: Step) -> Timeline:
    dtype = torch.bfloat16 if step.mode.precision == "bf16" else torch.float32
    built = tiny.build(config)
    with quiet(), unpadded(), FakeTensorMode(allow_non_fake_inputs=True):
        found = getattr(transformers, config["architectures"][0])
        # without a request, every part of the model uses SDPA if it supports it
        asked = {"attn_implementation": "eager"} if step.mode.attention == "eager" else {}
        with no_init_weights():
            model = found._from_config(built, dtype=dtype, **asked)
        model.tie_weights()
        inputs = {"input_ids": torch.ones((step.batch, step.seq), dtype=torch.long)}
        if built.is_encoder_decoder:
            source = torch.ones((step.batch, step.source_seq or step.seq), dtype=torch.long)
            inputs = {"decoder_input_ids": inputs["input_ids"], "input_ids": source}
        optimizer = None
        if step.optimizer:
            optimizer = getattr(torch.optim, step.optimizer)(model.parameters(), foreach=True)
        return run(model, find_layers(model, depth), inputs, step.mode, optimizer)


@contextmanager
def unpadded() -> Iterator[None]:
    """A context in which `transformers` assumes unpadded batches with one sequence per row, as the steps here have.

    It normally reads positions and masks to find out. As fake tensors have no data, it would create a mask of tokens ×
    tokens to be safe, which a real run does not have.
    """
    with ExitStack() as stack:
        for name, answer in (("find_packed_sequence_indices", None), ("fast_all", True), ("is_tracing", False)):
            stack.enter_context(patch.object(masking_utils, name, lambda *_, answer=answer, **__: answer))
        yield


def _moments(timeline: Timeline) -> dict[Segment, Bytes]:
    """The highest moment of each part, within the steady step (the second one, if there is an optimizer)."""
    owners = _owners(timeline)
    live = np.zeros(len(_GROUPS), dtype=np.int64)
    total = 0
    best: dict[Segment, tuple[int, Bytes]] = {}
    for position, (allocated, number, segment) in enumerate(timeline.events):
        nbytes = timeline.allocations[number].nbytes * (1 if allocated else -1)
        live[owners[number]] += nbytes
        total += nbytes
        if allocated and position >= timeline.steady and total > best.get(segment, (-1,))[0]:
            best[segment] = (total, live.copy())
    return {segment: parts for segment, (_, parts) in best.items()}


def _owners(timeline: Timeline) -> list[int]:
    """For each storage, the index of its group in `_GROUPS`."""
    groups: dict[Group, frozenset[int]] = {
        "weights": timeline.given,
        "kv_cache": timeline.cache,
        "gradients": timeline.gradients,
        "optimizer": timeline.optimizer,
    }
    found = []
    for number, allocation in enumerate(timeline.allocations):
        rest: Group = "temporary" if allocation.segment[0] == "optimizer" else "activations"
        name = next((name for name, numbers in groups.items() if number in numbers), rest)
        found.append(_GROUPS.index(name))
    return found


# --- fewer layers ----------------------------------------------------------------------------------------------------


def _samples(config: Config, layers: Sequence[Layer], step: Step) -> tuple[_Run, ...]:
    """Runs with few layers: one with the first layer and one of each kind, then the same with one more layer of each
    kind in turn. None if that would not be fewer layers than the model has, or if the config cannot be cut that way."""
    cuts = _cuts(layers)
    if sum(len(keep) for keep in cuts) >= len(layers):
        return ()
    found = []
    for keep in cuts:
        wanted = tuple(layers[index] for index in keep)
        cut = _cut(config, keep, len(layers))
        if cut is None or _layers_of(cut) != wanted:
            return ()
        found.append((cut, wanted))
    return tuple(_run(cut, wanted, step) for cut, wanted in found)


def _cuts(layers: Sequence[Layer]) -> list[list[int]]:
    """The numbers of the layers in each run."""
    kinds: dict[Layer, list[int]] = {}
    for index, layer in enumerate(layers[1:], 1):
        kinds.setdefault(layer, []).append(index)
    base = [0, *(indices[0] for indices in kinds.values())]
    more = [indices[1] for indices in kinds.values() if len(indices) > 1]
    return [sorted(base), *(sorted([*base, index]) for index in more)]


def _cut(config: Config, keep: Sequence[int], depth: int) -> Config | None:
    """The config with only these layers; lists with one entry per layer are cut, including those of class defaults."""
    built = tiny.build(config)
    path = tiny.text_path(built)
    text = tiny.at(built, path)
    changes: Config = {
        key: [value[index] for index in keep]
        for key in tiny.fields_of(text)
        if isinstance(value := vars(text).get(key), list | tuple) and len(value) == depth
    }
    name = text.attribute_map.get("num_hidden_layers", "num_hidden_layers")
    if getattr(text, name, None) != depth:
        return None
    return _changed(config, path, {**changes, name: len(keep)})


def _changed(config: Config, path: Sequence[str], changes: Config) -> Config:
    if not path:
        return {**config, **changes}
    return {**config, path[0]: _changed(dict(config.get(path[0]) or {}), path[1:], changes)}


def _layers_of(config: Config) -> tuple[Layer, ...] | None:
    checkpoint = Checkpoint(
        ref=ModelRef(model_id="trace"), commit=None, source="local", provenance="", config=config, tensors=(), files=()
    )
    return interpret(checkpoint).architecture.layers


def _extended(runs: Sequence[_Run], layers: Sequence[Layer]) -> dict[Segment, Bytes] | None:
    """The moments at full depth; None if the fit is not exact."""
    kinds = list(dict.fromkeys(layers[1:]))
    phases = dict.fromkeys(part for one in runs for part, index in one.moments if index)
    found = _ends(runs, layers)
    for phase in phases:
        rows = [
            (_row(one.layers, index, kinds), parts)
            for one in runs
            for (part, index), parts in one.moments.items()
            if part == phase and index
        ]
        matrix = np.array([row for row, _ in rows], dtype=float)
        values = np.array([parts for _, parts in rows], dtype=float)
        factors = np.linalg.lstsq(matrix, values, rcond=None)[0]
        if np.abs(matrix @ factors - values).max() > _EXACT * values.sum(axis=1).max():
            return None
        for index in range(1, len(layers)):
            found[phase, index] = np.array(_row(layers, index, kinds), dtype=float) @ factors
    return found


def _row(layers: Sequence[Layer], index: int, kinds: Sequence[Layer]) -> list[int]:
    """A row of the fit's matrix: the layer's kind (one-hot), and the number of layers of each kind before and after it,
    without the first layer, which is fitted separately."""
    own = [int(layers[index] == kind) for kind in kinds]
    before, after = layers[1:index], layers[index + 1 :]
    return [*own, *(before.count(kind) for kind in kinds), *(after.count(kind) for kind in kinds)]


def _ends(runs: Sequence[_Run], layers: Sequence[Layer]) -> dict[Segment, Bytes]:
    """The moments of parts that occur once at any depth: the first layer, and everything outside the layers."""
    base, *more = runs
    found = {}
    for segment, parts in base.moments.items():
        if segment[1]:
            continue
        total = parts.astype(float)
        for one in more:
            extra = next(kind for kind in one.layers if one.layers.count(kind) > base.layers.count(kind))
            missing = layers[1:].count(extra) - base.layers[1:].count(extra)
            total = total + missing * (one.moments[segment] - parts)
        found[segment] = total
    return found
