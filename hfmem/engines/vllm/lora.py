"""The slots for LoRA adapters: two matrices for each slice of each module that an adapter may change, whatever the
adapters that are loaded later do. They count as weights in the log ("Model loading took"). An adapter that is asked for
as a model gets the slot that it needs, in the base's dtype, whatever PEFT makes of it.

Source: vLLM 0.27.1 `lora/layers/{base_linear,column_parallel_linear,row_parallel_linear,replicated_linear}.py`,
`lora/layers/{vocal_parallel_embedding,logits_processor,fused_moe}.py`, `lora/utils.py::get_supported_lora_modules`.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from dataclasses import replace
from typing import Final

from hfmem.dtypes import find_dtype
from hfmem.engines.adapting import matrix_sides
from hfmem.engines.companions import RANKS
from hfmem.engines.vllm.classes import class_rule
from hfmem.engines.vllm.extras import DEFAULT_RANK
from hfmem.engines.vllm.settings import Settings, settings_of
from hfmem.estimator.scenario import Scenario
from hfmem.estimator.values import Term
from hfmem.mapper.interpret import Model
from hfmem.mapper.values import ParameterTable, TensorGroup

__all__ = ["adapters", "base_of", "lora_options", "lora_refusal", "lora_terms"]

_SOURCE: Final = "vLLM 0.27.1, lora/layers"
_DECODER: Final = ("attention", "mlp", "shared_experts", "state", "router")
_EXPERTS: Final = (0, 13)  # the first release whose experts may be adapted (lora/utils.py)


def adapters(model: Model, settings: Settings) -> tuple[int, int]:
    """Slots and their rank: the user's, or what the asked adapter needs; (0, 0) for none."""
    slots, rank = settings.extras.loras, settings.extras.lora_rank
    if model.adapted is None or not model.adapted.rank:
        return slots, rank
    own = next((each for each in RANKS if each >= (model.adapted.rank or 0)), RANKS[-1])
    return max(1, slots), max(rank, own)


def base_of(model: Model) -> Model:
    """The model without the weights that PEFT adds for an adapter, which vLLM keeps in slots."""
    if model.adapted is None or model.parameters is None:
        return model
    groups = tuple(group for group in model.parameters.groups if group.component != "adapter")
    return replace(model, parameters=ParameterTable(groups=groups))


def lora_options(model: Model, settings: Settings) -> list[str]:
    """The options of the launch line for an adapter that is asked for as a model."""
    if model.adapted is None:
        return []
    _, rank = adapters(model, settings)
    options = [] if settings.extras.loras else ["--enable-lora"]
    options += [f"--max-lora-rank {rank}"] if rank > max(settings.extras.lora_rank, DEFAULT_RANK) else []
    return [*options, f"--lora-modules {shlex.quote(f'adapter={model.checkpoint.ref.model_id}')}"]


def lora_terms(model: Model, scenario: Scenario) -> tuple[Term, ...]:
    """The slots on one rank; `model` is the part on that rank."""
    settings = settings_of(scenario)
    slots, rank = adapters(model, settings)
    dtype = find_dtype(scenario.compute_dtype) if scenario.compute_dtype else None
    if not slots or model.parameters is None or dtype is None:
        return ()
    sides = sum(_sides(model, scenario))
    how = f"{slots} adapters × rank {rank} × {sides:,} inputs and outputs × {dtype.nbytes(1)} B"
    return (
        Term(
            name="LoRA slots" if model.adapted is None else "adapter slots",
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
            yield group.count * matrix_sides(group, scenario.parallel.tp)
        elif group.component == "experts" and group.linear and settings.release >= _EXPERTS:
            yield _of_experts(group, model, scenario.parallel.ep)
    yield from _of_vocabulary(model, scenario)


def _of_experts(group: TensorGroup, model: Model, ranks: int) -> int:
    """Each expert's gate, up and down projection, as a slice each; a fused gate and up projection is two. Ranks divide
    the inner sides, and have all of the hidden size of every expert (`FusedMoEWithLoRA`); with expert parallelism, over
    `ranks`, whole experts."""
    fused = len(group.shape) == 3
    each = (model.architecture.experts or group.shape[0]) if fused else 1
    slices = 2 if fused and group.inward and group.packed_as is None else 1
    hidden = model.architecture.hidden_size or max(group.shape)
    matrices = -(-group.count * each * slices // ranks)
    return matrices * hidden + -(-group.parameters // hidden)


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
    settings, adapted = settings_of(scenario), model.adapted
    slots, _ = adapters(model, settings)
    if adapted is not None and adapted.kind not in ("LORA", ""):
        return f"vLLM serves LoRA adapters only, and this one is {adapted.kind}"
    if adapted is not None and (adapted.rank or 0) > RANKS[-1]:
        return f"the adapter's rank is {adapted.rank}, and vLLM accepts up to {RANKS[-1]}"
    if adapted is not None and any(not group.kept for group in adapted.parameters.groups):
        return "vLLM refuses adapters with whole copies of modules (modules_to_save)"
    if slots and (model.parameters is None or not model.parameters.groups):
        return "the modules that adapters may change are not known: LoRA slots cannot be counted"
    return ""
