"""The slots for LoRA adapters: two matrices for each slice of each module that an adapter may change, whatever the
adapters that are loaded later do. They count as weights in the log ("Model loading took").

Source: vLLM 0.27.1 `lora/layers/{base_linear,column_parallel_linear,row_parallel_linear,replicated_linear}.py`,
`lora/layers/{vocal_parallel_embedding,logits_processor,fused_moe}.py`, `lora/utils.py::get_supported_lora_modules`.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from hfmem.dtypes import find_dtype
from hfmem.engines.vllm.classes import class_rule
from hfmem.engines.vllm.settings import settings_of
from hfmem.estimator.values import Scenario, Term
from hfmem.mapper.interpret import Model
from hfmem.mapper.values import TensorGroup

__all__ = ["lora_refusal", "lora_terms"]

_SOURCE: Final = "vLLM 0.27.1, lora/layers"
_DECODER: Final = ("attention", "mlp", "shared_experts", "state", "router")
_EXPERTS: Final = (0, 13)  # the first release whose experts may be adapted (lora/utils.py)


def lora_terms(model: Model, scenario: Scenario) -> tuple[Term, ...]:
    """The slots on one rank; `model` is the part on that rank."""
    settings = settings_of(scenario)
    slots, rank = settings.extras.loras, settings.extras.lora_rank
    dtype = find_dtype(scenario.compute_dtype) if scenario.compute_dtype else None
    if not slots or model.parameters is None or dtype is None:
        return ()
    sides = sum(_sides(model, scenario))
    how = f"{slots} adapters × rank {rank} × {sides:,} inputs and outputs × {dtype.nbytes(1)} B"
    return (
        Term(
            name="LoRA slots",
            group="weights",
            nbytes=dtype.nbytes(slots * rank * sides),
            how=how,
            source=_SOURCE,
            certainty="derived",
        ),
    )


def _sides(model: Model, scenario: Scenario) -> Iterator[int]:
    """Inputs plus outputs of the slices on this rank."""
    settings, groups = settings_of(scenario), model.parameters.groups if model.parameters else ()
    for group in groups:
        if not group.loaded or group.scale or group.bias:
            continue
        if group.component in _DECODER and len(group.shape) == 2 and (group.linear or group.component == "router"):
            yield group.count * _of_matrix(group, scenario.parallel.tp)
        elif group.component == "experts" and group.linear and settings.release >= _EXPERTS:
            yield _of_experts(group)
    yield from _of_vocabulary(model, scenario)


def _of_matrix(group: TensorGroup, tp: int) -> int:
    """Column-parallel: all inputs, the rank's outputs; row-parallel: the rank's inputs, all outputs."""
    out, into = group.shape
    # the shape on a rank has the first dimension divided, whichever one vLLM divides
    return out * tp + -(-into // tp) if group.writes_stream else out + into


def _of_experts(group: TensorGroup) -> int:
    """Each expert's gate, up and down projection, as a slice each; a fused gate and up projection is two."""
    if len(group.shape) == 3:
        experts, *sides = group.shape
    else:
        experts, sides = 1, list(group.shape)
    fused = 2 if group.inward and sides and group.packed_as is None and len(group.shape) == 3 else 1
    extra = (fused - 1) * min(sides, default=0)  # the inputs of the second slice
    return group.count * experts * (sum(sides) + extra)


def _of_vocabulary(model: Model, scenario: Scenario) -> Iterator[int]:
    """Embedding and head, of classes that allow it; neither is split."""
    architecture = model.architecture
    adapted = class_rule(model, settings_of(scenario).release).adapted
    hidden, vocabulary = architecture.hidden_size or 0, architecture.vocab_size or 0
    first = any(group.component == "embedding" for group in (model.parameters.groups if model.parameters else ()))
    if adapted and first:
        yield vocabulary + hidden
    if adapted == "both" and architecture.head == "lm_head":
        yield vocabulary + hidden


def lora_refusal(model: Model, scenario: Scenario) -> str:
    """Why adapters are refused; "" where they are not."""
    settings = settings_of(scenario)
    if settings.extras.loras and (model.parameters is None or not model.parameters.groups):
        return "the modules that adapters may change are not known: LoRA slots cannot be counted"
    return ""
