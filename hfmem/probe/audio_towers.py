"""Writes `hfmem/data/audio_towers.jsonl`: what the audio towers of the installed transformers need for a forward pass.

    python -m hfmem.probe.audio_towers [TYPE ...]

As `hfmem.probe.towers` does for pictures: the real class's `get_audio_features` (encoder and projector) runs at random
sizes under the tracer, on windows of sound of the encoder's full length.
"""

from __future__ import annotations

import random
import sys
from collections.abc import Mapping
from functools import cache, partial
from pathlib import Path
from typing import Any, Final

import torch
from transformers import AutoConfig

from hfmem.probe import tiny, towers
from hfmem.probe.tower_inputs import Layout
from hfmem.probe.tower_sizes import resize

__all__ = ["TARGET", "TYPES", "class_of", "inputs_of", "main", "run", "tried"]

TARGET: Final = Path(__file__).parent.parent / "data" / "audio_towers.jsonl"
TYPES: Final = ("audioflamingo3", "glmasr", "qwen2_audio", "voxtral")
"""Types with an encoder like Whisper's, whose windows all have the same number of positions."""

_WINDOWS: Final = (1, 2, 3, 4, 5)
_POSITIONS: Final = ("max_source_positions", "max_position_embeddings")
_STRIDE: Final = 2
"""Frames of a position: the second convolution's stride."""


def class_of(model_type: str) -> str:
    """The name of the class that writes text from sound."""
    group, name = tiny.types()[model_type]
    if group not in ("encoder-decoder", "speech", "causal"):
        raise ValueError(f"{model_type} takes no sound")
    return name


def run(
    model_type: str, seed: int, attention: str, depth: int = towers.DEPTHS[0], trace: towers.Trace | None = None
) -> towers.Run:
    """A forward pass at random sizes, or what `trace` runs instead."""
    name = class_of(model_type)
    rng = random.Random(f"{model_type} {seed} sound")  # noqa: S311 - sizes, no secrets
    config = tiny.build(_small(model_type, name))
    audio, text = config.audio_config, config.get_text_config()
    sizes = resize(audio, rng, depth)
    # some projectors take several positions as one vector of the feed-forward part's width
    inner = sizes["hidden"] * rng.choice((1, 2, 4))
    for key in ("intermediate_size", "encoder_ffn_dim"):
        if hasattr(audio, key):
            setattr(audio, key, inner)
    text.hidden_size = 16 * rng.randrange(3, 14)
    if hasattr(config, "hidden_size"):
        config.hidden_size = text.hidden_size
    mels, positions, windows = 8 * rng.randrange(2, 20), 4 * rng.randrange(5, 20), rng.choice(_WINDOWS)
    audio.num_mel_bins = mels
    for key in _POSITIONS:
        if hasattr(audio, key):
            setattr(audio, key, positions)
    config.audio_token_id = 5
    counts = {"b": windows, "s": positions, "mels": mels, "tokens": positions * sizes["hidden"] // inner}
    tracer, given = _traced(name, config, attention, counts, trace or towers.traced)
    return towers.Run(
        seed=seed,
        tracer=tracer,
        given=given,
        sizes={**sizes, "intermediate": inner, **counts, "out": text.hidden_size},
        packed=False,
        handed=1,
        extents={},
        depth=depth,
        told={"tower": audio.model_type} if config.sub_configs["audio_config"] is AutoConfig else {},
    )


def _traced(name: str, config: Any, attention: str, counts: Mapping[str, int], trace: towers.Trace) -> Any:
    """What a class allocates for windows in float32, as they are prepared, or in its own dtype, if it refuses those."""
    inputs = inputs_of(name, config, counts)
    try:
        return trace(name, config, attention, Layout(inputs=inputs, counts=counts, packed=False))
    except RuntimeError:
        half = {key: one.bfloat16() if one.is_floating_point() else one for key, one in inputs.items()}
        return trace(name, config, attention, Layout(inputs=half, counts=counts, packed=False))


@cache
def _small(model_type: str, name: str) -> Mapping[str, Any]:
    return tiny.shrunk(model_type, name)


def inputs_of(name: str, config: Any, counts: Mapping[str, int]) -> dict[str, torch.Tensor]:
    """Windows that are full of sound, and what a class asks beside them."""
    frames = _STRIDE * counts["s"]
    inputs = {"input_features": torch.randn(counts["b"], counts["mels"], frames)}
    parameters = towers.parameters_of(name, towers.SOUND)
    mask = torch.ones(counts["b"], frames, dtype=torch.long)
    if "input_features_mask" in parameters:
        inputs["input_features_mask"] = mask
    if not parameters:  # a class that has no method for it runs up to its decoder
        inputs["feature_attention_mask"] = mask
    if not parameters or "input_ids" in parameters:
        tokens = (counts["s"] - 2) // 2 + 1  # a pooling by 2
        inputs["input_ids"] = torch.full((counts["b"], tokens), config.audio_token_id)
    return inputs


def tried(model_type: str, seed: int, attention: str, depth: int = towers.DEPTHS[0]) -> towers.Run | None:
    """A forward pass at random sizes; None where the class does not take them together."""
    try:
        return run(model_type, seed, attention, depth)
    except towers.REFUSALS:
        return None


def main() -> int:
    """Measure the types that are named, or all; those that cannot be measured are told, and left out."""
    return towers.record(TARGET, sys.argv[1:] or TYPES, partial(towers.solve, attempt=tried))


if __name__ == "__main__":
    sys.exit(main())
