"""The reference model of DPO, KTO, GRPO and RLOO: its weights, and its forward pass without gradients.

A copy keeps `requires_grad`, so autocast keeps a cast of each of its float32 matrices to the end of the forward pass,
also without gradients (`cached_cast` of PyTorch's autocast_mode.cpp asks for the leaf's flag). With adapters the policy
itself is the reference, its adapters switched off; frozen matrices are cast one at a time.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from math import ceil

from hfmem.estimator.activations.measured import measured
from hfmem.estimator.cache.sizes import layer_bytes
from hfmem.estimator.training.casts import Casts
from hfmem.estimator.training.gpu import Gpu
from hfmem.estimator.training.tiles import tiled_head
from hfmem.estimator.values import Term
from hfmem.unknown import Unknown

__all__ = ["forward_terms", "layer_peak", "reference_weights", "stream"]

_COPY = (
    "trl 1.16.0, dpo_trainer.py:908-929, kto_trainer.py:918-940, grpo_trainer.py:983-1003: a second model, loaded in "
)
_COPY += "the policy's dtype, and prepared for evaluation (sharded by ZeRO-3 and FSDP, replicated otherwise)"
_FORWARD = "trl 1.16.0, dpo_trainer.py:1327-1338, kto_trainer.py (_compute_loss), grpo_trainer.py:2710"


def reference_weights(gpu: Gpu, policy: tuple[Term, ...]) -> Iterator[Term]:
    """The weights of a copy: as many as the policy's, without its adapters."""
    tuning = gpu.training.tuning
    if tuning is None or tuning.reference != "copy":
        return
    nbytes = sum(term.nbytes for term in policy if term.group == "weights" and term.name != "adapters")
    yield Term(
        name="reference model",
        group="weights",
        nbytes=nbytes,
        how=f"as the policy: {nbytes:,} B",
        source=_COPY,
        certainty="derived",
    )


def forward_terms(gpu: Gpu) -> list[Term]:
    """What a forward pass of the reference holds at its peak, besides weights."""
    training = gpu.training
    tuning = training.tuning
    if tuning is None or tuning.reference == "none":
        return []
    copied = tuning.reference == "copy"
    made = Casts.of(gpu)
    casts = made.of_layers(0, gpu.stage.depth) if copied else made.of_largest()
    terms = [replace(term, name="cast weights of the reference") for term in casts]
    head = tiled_head(gpu)
    inside, source = layer_peak(gpu)
    nbytes = max(inside, head.forward if head is not None else 0) + stream(gpu)
    terms.append(
        Term(
            name="forward pass of the reference",
            group="activations",
            nbytes=nbytes,
            how=f"without gradients: one layer of {inside:,} B, or the head, and the hidden states",
            source=f"{_FORWARD}; {source}",
            certainty="measured" if source else "typical",
        )
    )
    return terms


def stream(gpu: Gpu) -> int:
    """Bytes of the hidden states between layers."""
    width = 2 if gpu.training.precision.weights != "float32" else 4
    return gpu.scenario.batch * gpu.scenario.seq * (gpu.architecture.hidden_size or 0) * width


def layer_peak(gpu: Gpu) -> tuple[int, str]:
    """The peak of one layer's forward pass without a cache, and where that is from."""
    precision = gpu.training.precision
    scenario = replace(gpu.scenario, kv_dtype=precision.compute, compute_dtype=precision.compute)
    found = measured(gpu.model, scenario, "prefill")
    if isinstance(found, Unknown):
        return 0, ""
    layers = found.applied.structure.layers
    most = 0
    for number, layer in enumerate(layers):
        moments = found.applied.reduced[number].moments
        peak = max((found.value(moment.activations, number) for moment in moments), default=0)
        most = max(most, peak - layer_bytes(layer, scenario))
    if precision.autocast and precision.weights == "float32":  # the norms' tensors have 4 B for 2
        most += 4 * scenario.batch * scenario.seq * (gpu.architecture.hidden_size or 0)
    return ceil(most / gpu.plan.tp), found.applied.source
