"""A LoRA on a pipeline, as one model.

`load_lora_weights` of diffusers (0.42, `loaders/peft.py`) puts the matrices beside those of the pipeline, in their
dtype; scalars named `alpha` only scale them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from hfmem.fetcher.pipelines import Listed
from hfmem.fetcher.values import Checkpoint, TensorInfo
from hfmem.mapper.interpret import Model
from hfmem.mapper.pipelines.reader import as_model, component_of

if TYPE_CHECKING:
    from hfmem.mapper.pipelines.values import Component

__all__ = ["with_lora"]

_DOWN: Final = (".lora_A.weight", ".lora_down.weight", ".lora.down.weight")
_LISTED: Final = Listed(name="adapter", library="peft", class_name="LoRA")


def with_lora(base: Model, checkpoint: Checkpoint, merged: Checkpoint) -> Model:
    """The pipeline `base` with the LoRA of a checkpoint.

    Args:
        base: the model of a pipeline.
        checkpoint: the LoRA's own.
        merged: the files of both, under the LoRA's name.
    """
    pipeline = base.pipeline
    if pipeline is None:
        return base
    weights = tuple(tensor for tensor in checkpoint.tensors if not tensor.name.endswith((".alpha", "_alpha")))
    adapter = _component(checkpoint, weights, pipeline.denoiser)
    whole = replace(pipeline, components=(*pipeline.components, adapter), base=base.checkpoint.ref.model_id)
    rank = max((tensor.shape[0] for tensor in weights if tensor.name.endswith(_DOWN) and tensor.shape), default=0)
    count = adapter.parameters.total if adapter.parameters is not None else 0
    ranked = f" of rank {rank}" if rank else ""
    note = (
        f"A LoRA{ranked} with {count:,} parameters, on {base.checkpoint.ref.model_id}; they are in the dtype of what "
        "they adapt. Fused into it (`fuse_lora`), they would take nothing."
    )
    return as_model(merged, whole, (note, *checkpoint.notes))


def _component(checkpoint: Checkpoint, weights: Sequence[TensorInfo], denoiser: Component | None) -> Component:
    found = component_of(checkpoint, _LISTED, {}, weights)
    dtype = denoiser.stored_dtype if denoiser is not None else None
    return replace(found, kind="adapter", stored_dtype=dtype or found.stored_dtype)
