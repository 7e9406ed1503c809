"""Small models of a type, built, and how the mapper reads them; and how far coefficients are off for one."""

from __future__ import annotations

import gc
from collections.abc import Sequence
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
from hfmem.probe.activations.attempts import hears
from hfmem.probe.activations.flash import take_flash
from hfmem.probe.activations.reading import Reading
from hfmem.probe.activations.step import PAST, Mode, Timeline, find_layers, run
from hfmem.probe.activations.tracer import Segment
from hfmem.probe.activations.variants import Variant

__all__ = ["Probe", "ProbeError", "deviation", "probes"]

_KINDS: Final = ("mm_token_type_ids", "token_type_ids")
"""Inputs that say of each token what it is (0 for text), for classes that refuse to go without."""

_SOURCES: Final = {16: 28, 20: 38, 24: 18, 28: 34, 32: 12, 36: 22, 40: 14}
"""Tokens of an encoder for the decoder's."""

_PASTS: Final = {16: 31, 24: 53, 36: 59, 20: 43, 32: 73, 28: 47, 40: 61}
"""Tokens whose cache a step goes on from, for those that it runs; of other numbers half as many more."""


class ProbeError(Exception):
    """Coefficients that cannot be told, and why."""


@dataclass(slots=True)
class Probe:
    """A variant, built, and how the mapper reads it."""

    variant: Variant
    device: str = "cpu"
    model: Any = field(init=False)
    layers: list[Any] = field(init=False)
    architecture: Architecture = field(init=False)
    inputs: dict[str, Any] = field(init=False)
    source: int = field(init=False)

    def __post_init__(self) -> None:
        config, batch, tokens = self.variant
        torch.manual_seed(0)
        built = tiny.build(config)
        with torch.device(self.device):
            self.model = getattr(transformers, config["architectures"][0])._from_config(built, dtype=torch.bfloat16)
        ref = ModelRef(model_id="probe")
        checkpoint = Checkpoint(
            ref=ref, commit=None, source="local", provenance="", config=config, tensors=(), files=()
        )
        self.architecture = interpret(checkpoint).architecture
        if self.architecture.layers is None:
            raise ProbeError(f"its layers are unknown: {self.architecture.unknown}")
        self.layers = find_layers(self.model, len(self.architecture.layers))
        self.inputs = {"input_ids": torch.randint(3, 90, (batch, tokens)).to(self.device)}
        self.source = 0
        if hears(config):
            self.source = _SOURCES.get(tokens, tokens // 2 + 7)
            heard = torch.randint(3, 90, (batch, self.source)).to(self.device)
            self.inputs = {"decoder_input_ids": self.inputs["input_ids"], "input_ids": heard}

    def run(self, mode: Mode) -> Timeline:
        """The timeline of a step.

        Raises:
            ProbeError: a step that goes on from a cache, of a class with an encoder.
        """
        dtype = torch.bfloat16 if mode.precision == "bf16" else torch.float32
        self.model.to(dtype)
        self._attend(mode.attention)
        torch.manual_seed(0)
        gc.collect()
        gc.freeze()  # what earlier runs left: the collection before each step need not look at it again
        try:
            return run(self.model, self.layers, self._inputs(mode), mode, sums_in_place=True)
        except ValueError as error:
            named = [key for key in _KINDS if key in str(error) and key not in self.inputs]
            if not named:
                raise
        self.inputs |= dict.fromkeys(named, torch.zeros_like(self.inputs["input_ids"]))
        return self.run(mode)

    def _inputs(self, mode: Mode) -> dict[str, Any]:
        """What the model is called with; and the tokens before that, where a step goes on from their cache."""
        if not mode.continues:
            return self.inputs
        if self.source:
            raise ProbeError("an encoder's class is not run in pieces")
        batch, past, tokens = self.variant[1], self.past(mode), 1 if mode.method == "decode" else self.variant[2]
        found = {PAST: torch.randint(3, 90, (batch, past)), **self.inputs}
        return {name: value.to(self.device)[:, : past if name == PAST else tokens] for name, value in found.items()}

    def past(self, mode: Mode) -> int:
        """Tokens whose cache a step goes on from; 0 where there are none."""
        tokens = self.variant[2]
        return _PASTS.get(tokens, tokens + tokens // 2 + 1) if mode.continues else 0

    def _attend(self, attention: str) -> None:
        """Sets the attention; of the decoder only, where another part does not have it."""
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

    def sizes(self, index: int, mode: Mode) -> dict[str, int]:
        """The named sizes for a layer, sequences and tokens included."""
        config, batch, tokens = self.variant
        sizes = model_sizes(config, self.architecture, index)
        tokens = 1 if mode.method == "decode" else tokens
        return {**token_sizes(batch, tokens, sizes, self.source, self.past(mode)), **sizes}


def probes(variants: Sequence[Variant], device: str = "cpu") -> list[Probe]:
    """The variants, built."""
    found = [Probe(variant, device) for variant in variants]
    gc.collect()
    gc.freeze()  # what is there now stays: collections before each step need not look at it again
    return found


def deviation(probe: Probe, mode: Mode, told: Coefficients) -> float:
    """The largest error of coefficients at a probe that took no part in them, of what is kept and of the highest moment
    of each part, in parts of all that is alive then; 1 where there are layers that they do not know."""
    reading = Reading(probe.run(mode), mode)
    layers = probe.architecture.layers or ()
    if not {signature(layer) for layer in layers} <= told.layers.keys():
        return 1.0
    parts = {name: (index, told.layers[name]) for index, name in enumerate(map(signature, layers))}
    kept = told.before.at(probe.sizes(0, mode)) + sum(
        told.layers[name].kept.at(probe.sizes(index, mode)) for index, name in enumerate(map(signature, layers))
    )
    segments: list[Segment] = [("before", 0), *(("forward", index) for index in range(len(layers)))]
    held = sum(reading.bytes(reading.kept_in(segment)) for segment in segments)
    head, end = reading.bytes(reading.kept_in(("head", 0))), len(layers)
    pairs = [(kept, held), (told.head.kept.at(probe.sizes(end, mode)), head)]
    places: list[tuple[Segment, int, Part]] = [(("head", 0), end, told.head)]
    places += [((reading.layer_phase, index), index, part) for index, part in parts.values()]
    for segment, index, part in places:
        sizes = probe.sizes(index, mode)
        most = max((m.activations.at(sizes) + m.gradients.at(sizes) for m in part.moments), default=0)
        pairs.append((most, reading.bytes(reading.peak(segment))))
    if not mode.trains and layers:
        pairs.append(_first(probe, reading, told))
    whole = held + max(measured for _, measured in pairs)
    return max(abs(one - other) / whole for one, other in pairs)


def _first(probe: Probe, reading: Reading, told: Coefficients) -> tuple[int, int]:
    """The highest moment of a prefill before its layers, where that can be the highest of all, as told and as measured;
    else the higher one of that and of the first layer's, as it is in small sizes."""
    sizes, part = probe.sizes(0, reading.mode), told.layers[signature((probe.architecture.layers or ())[0])]
    before = reading.bytes(reading.peak(("before", 0)))
    if told.entry:
        return max(moment.activations.at(sizes) for moment in told.entry), before
    layer = told.before.at(sizes) + max((moment.activations.at(sizes) for moment in part.moments), default=0)
    measured = reading.bytes(reading.kept_in(("before", 0))) + reading.bytes(reading.peak(("forward", 0)))
    return layer, max(before, measured)
