"""Small models of a type with the mapper's view of them, and the error of coefficients at one."""

from __future__ import annotations

import gc
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Final

import torch
import transformers

from hfmem.estimator.activations.coefficients import Coefficients, Part
from hfmem.fetcher.values import Checkpoint, ModelRef
from hfmem.mapper.interpret import interpret
from hfmem.mapper.sizes import model_sizes, signature, token_sizes
from hfmem.mapper.values import Architecture
from hfmem.probe import tiny
from hfmem.probe.activations.attempts import hearing, hears, inputs_of
from hfmem.probe.activations.flash import take_flash
from hfmem.probe.activations.reading import Reading
from hfmem.probe.activations.step import PAST, Mode, Timeline, find_encoder, find_layers, run
from hfmem.probe.activations.tracer import Segment
from hfmem.probe.activations.variants import Variant

__all__ = ["Probe", "ProbeError", "deviation", "heard", "probes"]

_KINDS: Final = ("mm_token_type_ids", "token_type_ids")
"""Inputs with the kind of each token (0 for text), which some classes require."""

_SOURCES: Final = {16: 28, 20: 38, 24: 18, 28: 34, 32: 12, 36: 22, 40: 14}
"""Encoder tokens by decoder tokens; unrelated numbers, so that the two can be distinguished."""

_SOURCES_IN_BLOCKS: Final = {210: 521, 270: 647, 350: 583, 230: 719, 290: 557, 200: 613, 410: 541}
"""The same for encoders that attend in blocks of tokens: more than the 504 that BigBird, with the largest blocks that
are drawn and the most random ones, attends to without blocks."""

_PASTS: Final = {16: 31, 24: 53, 36: 59, 20: 43, 32: 73, 28: 47, 40: 61}
"""Cached tokens by new tokens; for numbers not listed, one and a half times the new tokens."""


def heard(tokens: int) -> int:
    """Encoder tokens beside so many of the decoder."""
    return {**_SOURCES, **_SOURCES_IN_BLOCKS}.get(tokens, tokens // 2 + 7)


class ProbeError(Exception):
    """There are no coefficients; the message says why."""


@dataclass(slots=True)
class Probe:
    """A variant as a model, with the mapper's architecture of it."""

    variant: Variant
    device: str = "cpu"
    model: Any = field(init=False)
    layers: list[Any] = field(init=False)
    encoder: list[Any] = field(init=False)
    architecture: Architecture = field(init=False)
    inputs: dict[str, Any] = field(init=False)
    source: int = field(init=False)

    def __post_init__(self) -> None:
        config, batch, tokens = self.variant
        self.source = heard(tokens) if hears(config) else 0
        config = hearing(config, self.source)
        self.variant = (config, batch, tokens)
        self.model = self._built()
        ref = ModelRef(model_id="probe")
        checkpoint = Checkpoint(
            ref=ref, commit=None, source="local", provenance="", config=config, tensors=(), files=()
        )
        self.architecture = interpret(checkpoint).architecture
        if self.architecture.layers is None:
            raise ProbeError(f"its layers are unknown: {self.architecture.unknown}")
        self._find()
        inputs = inputs_of(config, batch, tokens, self.source)
        self.inputs = {name: value.to(self.device) for name, value in inputs.items()}

    def _find(self) -> None:
        """Find the layers in the model."""
        self.layers = find_layers(self.model, len(self.architecture.layers or ()))
        self.encoder = find_encoder(self.model, self.layers) if self.source else []

    def _built(self, **asked: str) -> Any:
        config = self.variant[0]
        torch.manual_seed(0)
        built = tiny.build(config)
        with torch.device(self.device):
            return getattr(transformers, config["architectures"][0])._from_config(built, dtype=torch.bfloat16, **asked)

    def run(self, mode: Mode) -> Timeline:
        """The timeline of a step.

        Raises:
            ProbeError: the mode continues from a cache, and the class has an encoder.
        """
        dtype = torch.bfloat16 if mode.precision == "bf16" else torch.float32
        self._attend(mode.attention)
        self.model.to(dtype)
        torch.manual_seed(0)
        gc.collect()
        gc.freeze()  # excludes remains of earlier runs from the collection before each step
        try:
            inputs = self._cast(self._inputs(mode), dtype)
            return run(self.model, self.layers, inputs, mode, encoder=self.encoder, sums_in_place=True)
        except ValueError as error:
            named = [key for key in _KINDS if key in str(error) and key not in self.inputs]
            if not named:
                raise
        self.inputs |= dict.fromkeys(named, torch.zeros_like(self.inputs["input_ids"]))
        return self.run(mode)

    @staticmethod
    def _cast(inputs: dict[str, Any], dtype: torch.dtype) -> dict[str, Any]:
        """Sound in the number format of the weights, as a class wants it."""
        return {key: value.to(dtype) if value.is_floating_point() else value for key, value in inputs.items()}

    def _inputs(self, mode: Mode) -> dict[str, Any]:
        """The inputs of the model; if the step continues from a cache, also the tokens before it."""
        if not mode.continues:
            return self.inputs
        if self.source:
            raise ProbeError("classes with an encoder are not run in chunks")
        batch, past, tokens = self.variant[1], self.past(mode), 1 if mode.method == "decode" else self.variant[2]
        found = {PAST: torch.randint(3, 90, (batch, past)), **self.inputs}
        return {name: value.to(self.device)[:, : past if name == PAST else tokens] for name, value in found.items()}

    def past(self, mode: Mode) -> int:
        """Number of cached tokens that a step continues from; 0 without a cache."""
        tokens = self.variant[2]
        return _PASTS.get(tokens, tokens + tokens // 2 + 1) if mode.continues else 0

    def _attend(self, attention: str) -> None:
        """Set the attention implementation, or only the decoder's if another part does not support it."""
        if attention == "flash":
            take_flash(self.model)
            return
        try:
            self.model.set_attn_implementation(attention)
        except ValueError:
            decoder = self.model.get_decoder() if hasattr(self.model, "get_decoder") else self.model
            if decoder is self.model:
                raise
            decoder.set_attn_implementation(attention)
        if self.model.config._attn_implementation == attention:
            return
        with suppress(ValueError):  # it does not support it, and runs what it has
            # some classes choose their attention where they are made, and only there (Falcon)
            self.model = self._built(attn_implementation=attention)
            self._find()

    def sizes(self, index: int, mode: Mode) -> dict[str, int]:
        """The named sizes for a layer, including batch and tokens."""
        config, batch, tokens = self.variant
        sizes = model_sizes(config, self.architecture, index)
        tokens = 1 if mode.method == "decode" else tokens
        return {**token_sizes(batch, tokens, sizes, self.source, self.past(mode)), **sizes}


def probes(variants: Sequence[Variant], device: str = "cpu") -> list[Probe]:
    """The variants as models."""
    found = [Probe(variant, device) for variant in variants]
    gc.collect()
    gc.freeze()  # the models stay, so the collection before each step can skip them
    return found


def deviation(probe: Probe, mode: Mode, row: Coefficients) -> float:
    """The largest error of coefficients at a probe not used for them: of saved bytes and of the peak of each part,
    relative to all bytes alive then; 1 if the coefficients lack a kind of layer."""
    reading = Reading(probe.run(mode), mode)
    layers = probe.architecture.layers or ()
    if not {signature(layer) for layer in layers} <= row.layers.keys():
        return 1.0
    parts = {name: (index, row.layers[name]) for index, name in enumerate(map(signature, layers))}
    kept = row.before.at(probe.sizes(0, mode)) + sum(
        row.layers[name].kept.at(probe.sizes(index, mode)) for index, name in enumerate(map(signature, layers))
    )
    segments: list[Segment] = [("before", 0), *(("forward", index) for index in range(len(layers)))]
    held = sum(reading.bytes(reading.kept_in(segment)) for segment in segments)
    head, end = reading.bytes(reading.kept_in(("head", 0))), len(layers)
    pairs = [(kept, held), (row.head.kept.at(probe.sizes(end, mode)), head)]
    places: list[tuple[Segment, int, Part]] = [(("head", 0), end, row.head)]
    places += [((reading.layer_phase, index), index, part) for index, part in parts.values()]
    for segment, index, part in places:
        sizes = probe.sizes(index, mode)
        most = max((m.activations.at(sizes) + m.gradients.at(sizes) for m in part.moments), default=0)
        pairs.append((most, reading.bytes(reading.peak(segment))))
    if not mode.trains and layers:
        pairs.append(_first(probe, reading, row))
    whole = held + max(measured for _, measured in pairs)
    return max(abs(one - other) / whole for one, other in pairs)


def _first(probe: Probe, reading: Reading, row: Coefficients) -> tuple[int, int]:
    """The peak of a prefill before its layers by the coefficients, and as measured. Coefficients without such moments
    are compared at the first layer, whose moments are higher except possibly at small sizes."""
    sizes, part = probe.sizes(0, reading.mode), row.layers[signature((probe.architecture.layers or ())[0])]
    before = reading.bytes(reading.peak(("before", 0)))
    if row.entry:
        return max(moment.activations.at(sizes) for moment in row.entry), before
    layer = row.before.at(sizes) + max((moment.activations.at(sizes) for moment in part.moments), default=0)
    measured = reading.bytes(reading.kept_in(("before", 0))) + reading.bytes(reading.peak(("forward", 0)))
    return layer, max(before, measured)
