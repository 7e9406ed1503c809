"""The head of TRL's trainers on one GPU."""

from __future__ import annotations

from hfmem.estimator.activations.tiles import TiledHead
from hfmem.estimator.training.gpu import Gpu

__all__ = ["scored", "tiled_head"]


def tiled_head(gpu: Gpu) -> TiledHead | None:
    """The head, if it runs in tiles; None if it does not."""
    training, architecture = gpu.training, gpu.architecture
    tuning = training.tuning
    hidden, vocabulary = architecture.hidden_size or 0, architecture.vocab_size or 0
    if tuning is None or tuning.head != "fused" or architecture.head != "lm_head" or not hidden or not vocabulary:
        return None
    heads = ("lm_head", "embedding") if architecture.tied_embeddings else ("lm_head",)
    frozen = training.lora is not None or any(name in training.frozen for name in heads[-1:])
    return TiledHead(
        scored=scored(gpu),
        hidden=hidden,
        vocabulary=vocabulary,
        weight=4 if training.precision.weights == "float32" else 2,
        compute=4 if training.precision.compute == "float32" else 2,
        trained=not frozen,
    )


def scored(gpu: Gpu) -> int:
    """Tokens that reach the head: those with a label. The first of a row has none."""
    tuning, seq = gpu.training.tuning, gpu.scenario.seq
    completion = seq if tuning is None else min(tuning.completion, seq)
    return gpu.scenario.batch * max(1, min(completion, seq - 1))
