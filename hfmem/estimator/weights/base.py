"""The base model's weights in training: in the precision's dtype, as stored, or in NF4."""

from __future__ import annotations

from dataclasses import replace

from hfmem.dtypes import find_dtype, stored_dtype
from hfmem.estimator.recipe.values import Training, TrainingScenario
from hfmem.estimator.weights.kept import PLAIN, Kept
from hfmem.estimator.weights.loaded import group_bytes
from hfmem.estimator.weights.nf4 import nf4_bytes
from hfmem.estimator.weights.quantisers import find_quantiser
from hfmem.estimator.weights.recipes import Recipe, everything
from hfmem.mapper.interpret import Model
from hfmem.mapper.lora import linear_modules
from hfmem.mapper.values import TensorGroup

__all__ = ["base_bytes", "largest_linear", "replaced", "stored_quantised", "untied"]


def replaced(model: Model, training: Training) -> frozenset[int]:
    """`id()`s of the groups that bitsandbytes quantises: linear modules, the head where the stack includes it, experts
    where they are linear modules."""
    if training.method != "qlora" or model.parameters is None:
        return frozenset()
    found = {id(group) for group in linear_modules(model.parameters) if group.component != "projector"}
    if training.stack.quantised_head:
        found |= {
            id(group) for group in model.parameters.groups if group.component == "lm_head" and len(group.shape) == 2
        }
    if not training.stack.fused_experts:
        found |= {id(group) for group in model.parameters.groups if group.linear and group.component == "experts"}
    return frozenset(found)


def stored_quantised(model: Model) -> tuple[str, ...]:
    """Dtypes below 16 bits in which the checkpoint stores layer weights, i.e. it is quantised already."""
    groups = model.parameters.groups if model.parameters is not None else ()
    matrices = [group for group in groups if group.loaded and not group.scale and (group.linear or _is_expert(group))]
    return tuple(dict.fromkeys(group.dtype for group in matrices if group.dtype and not _is_floating(group)))


def _is_expert(group: TensorGroup) -> bool:
    return group.component == "experts" and len(group.shape) > 1


def _is_floating(group: TensorGroup) -> bool:
    stored = stored_dtype(group.dtype) if group.dtype else None
    return stored is None or stored.is_wide_float


def base_bytes(group: TensorGroup, scenario: TrainingScenario, nf4: frozenset[int]) -> int | None:
    """Bytes of all tensors of a group; None where the dtype is unknown."""
    training = scenario.training
    floating = _is_floating(group)
    if training.method == "full" and not floating:
        # full training needs floating-point weights: packed ones are dequantised to the precision's dtype, scales go
        dtype = find_dtype(training.precision.weights)
        return dtype.nbytes(group.parameters) if dtype else 2 * group.parameters
    if id(group) in nf4 and floating:
        return group.count * nf4_bytes(group.elements // group.count, training.double_quant)
    return group_bytes(group, scenario, base_kept(scenario))


def base_kept(scenario: TrainingScenario) -> Kept:
    """How the base is quantised where `--dtype` names a quantiser: all linear modules, and experts where they are
    linear modules."""
    asked = find_quantiser(scenario.dtype or "")
    if asked is None:
        return PLAIN
    parts = everything(asked.name, but=("experts",) if scenario.training.stack.fused_experts else ())
    return Kept(recipe=Recipe(name=asked.name, dtype=asked.name, packs=parts, source=asked.source))


def largest_linear(model: Model, nf4: frozenset[int]) -> int:
    """Elements of the largest NF4 matrix of a layer, which is dequantised for each multiplication."""
    groups = model.parameters.groups if model.parameters is not None else ()
    inside = [group for group in groups if id(group) in nf4 and group.component != "lm_head"]
    return max((group.elements // group.count for group in inside), default=0)


def untied(model: Model) -> Model:
    """The model with a separate head, as large as the embedding, for software that never ties them."""
    architecture, table = model.architecture, model.parameters
    if table is None or architecture.tied_embeddings is not True or architecture.head != "lm_head":
        return model
    rows = {(architecture.vocab_size, architecture.hidden_size)}
    found = [group for group in table.groups if group.component == "embedding" and group.shape in rows]
    heads = tuple(group.as_head() for group in found[:1])
    return replace(
        model,
        architecture=replace(architecture, tied_embeddings=False),
        parameters=replace(table, groups=(*table.groups, *heads)),
    )
