"""Temporaries of sharding and of the optimizer step: gathered weights, gradient buckets, foreach lists."""

from __future__ import annotations

from fractions import Fraction
from math import ceil

from hfmem.dtypes import find_dtype
from hfmem.estimator.activations.closed_forms import widths
from hfmem.estimator.recipe.values import Training
from hfmem.estimator.split.share import place_of
from hfmem.estimator.training.gpu import Gpu
from hfmem.estimator.training.states import gradient_bytes
from hfmem.estimator.values import Term
from hfmem.estimator.weights.base import base_bytes, replaced
from hfmem.mapper.values import Experts

__all__ = ["frozen_gradients", "frozen_unit", "gathered", "optimizer_terms", "unit_gradient"]

_BUCKET = 500_000_000  # elements: DeepSpeed's default reduce_bucket_size
_SUB_GROUP = 10**9  # elements: DeepSpeed's default sub_group_size
_FSDP = (
    "docs.pytorch.org, FullyShardedDataParallel: BACKWARD_PRE gathers the next unit before the current one is freed; "
    "the root unit (embeddings, head) stays gathered"
)
_PEFT = "peft utils/other.py, fsdp_auto_wrap_policy: adapters are units of their own, between those of two layers"
_MIXED = (
    "torch FullyShardedDataParallel: a unit is one flat parameter with one gradient, which covers frozen weights too; "
    "no_sync keeps it unsharded between micro-batches"
)
_DDP = "docs.pytorch.org, DistributedDataParallel: buckets hold a copy of the gradients unless gradient_as_bucket_view"
_DEEPSPEED = "deepspeed runtime/zero/config.py: reduce_bucket_size 5e8"
_STEPPED = (
    "deepspeed 0.19.6, runtime/zero/stage3.py: step prepares, updates and releases one sub-group at a time "
    "(2629-2644), each closed in _create_fp16_sub_groups (1176); sub_group_size 1e9 (config.py:175)"
)
_FLAT = "deepspeed runtime/zero/stage_1_and_2.py, step: flatten(averaged_gradients).to(float32), released afterwards"
_LIVE = (
    "deepspeed docs, memory.rst: estimate_zero3_model_states_mem_needs counts 4 B per parameter of the largest layer"
)


def optimizer_terms(gpu: Gpu) -> list[Term]:
    """Temporaries of the optimizer step, besides gradients and states."""
    training = gpu.training
    precision, row = training.precision, training.optimizer
    terms = []
    # 16-bit gradients are cast to float32 to update the master weights
    if precision.master and precision.gradient < 4 and training.zero and training.offload == "none":
        terms += [*_flattened(gpu), _widened(gpu)]
    if precision.master or training.offload != "none":
        return terms  # DeepSpeed and Megatron step with a fused kernel, or on the host
    if row.lists:
        total = sum(
            row.lists * piece.kept.width * piece.elements * float(gpu.share(piece)) / gpu.over(piece.component, 1)
            for piece in gpu.pieces
        )
        how = f"{row.lists} × a tensor like each parameter (foreach)"
        terms.append(_term("optimizer's list", ceil(total), how, row.source))
    if any(row.tensor_bytes):
        wide, half = row.tensor_bytes
        # such optimizers update one tensor at a time, so the largest one counts, not their sum
        sizes = (piece.kept.elements * (wide if piece.kept.width > 2 else half) for piece in gpu.pieces)
        nbytes = ceil(max(sizes, default=0) / gpu.plan.tp / (training.shard if training.zero >= 1 else 1))
        terms.append(_term("optimizer's update", nbytes, "of the largest tensor, one at a time", row.source))
    return terms


def _flattened(gpu: Gpu) -> list[Term]:
    """ZeRO-1 and 2 join a rank's gradients into one flat tensor before they widen it, while the gradients are alive."""
    if gpu.training.zero >= 3:
        return []
    nbytes = sum((piece.elements * piece.gradient * gpu.share(piece, 1) for piece in gpu.pieces), Fraction(0))
    return [_term("flat gradients", ceil(nbytes), "a joined copy of this rank's gradients", _FLAT)]


def _widened(gpu: Gpu) -> Term:
    """Float32 copies of the gradients in DeepSpeed's step: of all gradients on this rank at once; with ZeRO-3, one
    sub-group at a time. A sub-group may exceed its size by the tensor that fills it."""
    whole = [piece.elements * gpu.share(piece, 1) for piece in gpu.pieces]
    elements, how = sum(whole, Fraction(0)), "4 B of each of this rank's parameters"
    if gpu.training.zero < 3 or gpu.training.fsdp:
        return _term("float32 gradients", ceil(4 * elements), how, "deepspeed docs, memory.rst")
    largest = max((each / piece.count for each, piece in zip(whole, gpu.pieces, strict=True)), default=Fraction(0))
    if _SUB_GROUP + largest < elements:
        elements, how = _SUB_GROUP + largest, f"4 B of each parameter of a sub-group: {_SUB_GROUP:,} and one tensor"
    return _term("float32 gradients", ceil(4 * elements), how, _STEPPED)


def gathered(gpu: Gpu, *, backward: bool) -> list[Term]:
    """Communication buffers while layers run."""
    exchanged = _exchanged(gpu) if backward else []
    return [*exchanged, *_data_parallel(gpu, backward=backward)]


def frozen_unit(gpu: Gpu) -> int | None:
    """Bytes of the weights of an FSDP unit that mixes frozen weights and adapters; None where none does."""
    return _units(gpu)[0] if _mixed(gpu.training) else None


def frozen_gradients(gpu: Gpu, layer: int | None, first: int) -> list[Term]:
    """Gradients of frozen weights that share an FSDP unit with adapters, for this GPU's layers from `first` on. One
    unit has `layer` bytes of weights (`frozen_unit`)."""
    training = gpu.training
    if layer is None:
        return []
    count = gpu.stage.depth - first
    ranks = 1 if training.accumulation > 1 else training.shard  # no_sync leaves gradients unsharded (`_MIXED`)
    spread = f", over {ranks} ranks" if ranks > 1 else ", whole on each rank"
    return [
        Term(
            name="gradients of frozen weights",
            group="gradients",
            nbytes=ceil(count * layer / ranks),
            how=f"of {count} units, as large as their weights{spread}",
            source=_MIXED,
            certainty="derived",
        )
    ]


def _mixed(training: Training) -> bool:
    """Whether FSDP units mix frozen weights and adapters."""
    return training.fsdp and training.lora is not None and training.stack.mixed_units


def _exchanged(gpu: Gpu) -> list[Term]:
    """Buffers exchanged between ranks within a layer: tokens routed to other ranks' experts (expert parallelism), keys
    and values of other parts of the sequence (context parallelism)."""
    hidden, layers = gpu.architecture.hidden_size or 0, gpu.architecture.layers or ()
    tokens = -(-gpu.scenario.batch * gpu.scenario.seq // (gpu.plan.cp * gpu.plan.tp))
    # layers run one after another, so the buffers of the largest one are enough
    used = max((layer.ffn.per_token for layer in layers if isinstance(layer.ffn, Experts)), default=0)
    terms = []
    if gpu.plan.ep > 1 and used:
        nbytes = 2 * 2 * used * tokens * hidden
        how = f"sent and received: 2 × {used} × {tokens:,} tokens × {hidden} × 2 B"
        terms.append(
            _term("tokens of other ranks' experts", nbytes, how, "Megatron Core, token_dispatcher.py (alltoall)")
        )
    if gpu.plan.cp > 1:
        width = max((sum(widths(layer)) - widths(layer)[0] for layer in layers), default=0)
        # ring attention computes on one part while it receives the next: two parts, keys and values, 2 B each
        nbytes = 2 * 2 * 2 * tokens * width
        how = f"two pieces: 2 × {tokens:,} tokens × 2 × {width} × 2 B"
        terms.append(_term("keys and values of other ranks", nbytes, how, "ring attention, arXiv 2310.01889"))
    return terms


def _data_parallel(gpu: Gpu, *, backward: bool) -> list[Term]:
    """Buffers of data parallelism: gradient buckets, and parameters gathered from other ranks."""
    training = gpu.training
    if gpu.plan.dp * gpu.plan.cp == 1 or training.stack.persistent_gradients:
        return []  # Megatron reduces in the gradients' own buffers
    if training.zero == 0:
        return [_term("buckets", gradient_bytes(gpu, gpu.pieces), "a copy of every gradient", _DDP)]
    if training.zero < 3:
        elements = min(_BUCKET, sum(piece.elements for piece in gpu.pieces))
        return [_term("bucket", elements * training.precision.gradient, f"{elements:,} elements", _DEEPSPEED)]
    layer, root = _units(gpu)
    if not training.fsdp:
        # DeepSpeed's 4 B per parameter in 16-bit training: 2 of weights, 2 of gradients
        return [_term("gathered layer", 2 * layer, "weights and gradients of the largest layer", _LIVE)]
    return [
        _gathered_unit(training, layer, backward=backward),
        _term("gathered root", root, "embeddings and head", _FSDP),
        *([_unshared(gpu, layer)] if backward else []),
    ]


def _gathered_unit(training: Training, layer: int, *, backward: bool) -> Term:
    """The weights of FSDP units that are unsharded at the same time; one unit has `layer` bytes."""
    if not backward:
        return _term("gathered unit", layer, "the last layer's weights", _FSDP)
    if training.lora is None or _mixed(training):
        return _term("gathered units", 2 * layer, "this layer's weights and the next one's", _FSDP)
    return _term("gathered unit", layer, "this layer's weights; its adapters are gathered before the next one", _PEFT)


def _unshared(gpu: Gpu, layer: int) -> Term:
    """The gradients of one layer before they are sharded; its weights take `layer` bytes."""
    training = gpu.training
    nbytes = unit_gradient(gpu)
    if _mixed(training):
        first = training.stack.longest_first and training.accumulation > 1
        nbytes = 0 if first else layer  # the first micro-batch's gradients are those that stay
    return _term("gradients to be shared", nbytes, "of one layer, before they are sharded", _FSDP)


def unit_gradient(gpu: Gpu) -> int:
    """Bytes of one layer's gradients before sharding, as the mean over this GPU's layers."""
    return gradient_bytes(gpu, gpu.inside, shard=False) // max(1, gpu.stage.depth)


def _units(gpu: Gpu) -> tuple[int, int]:
    """Bytes of one layer's weights, and of all weights outside the layers, in the dtype that layers compute in."""
    model, precision = gpu.model, gpu.training.precision
    nf4 = replaced(model, gpu.training)
    compute, weights = find_dtype(precision.compute), find_dtype(precision.weights)
    inside, outside = 0.0, 0.0
    for group in model.parameters.groups if model.parameters else ():
        if not group.loaded:
            continue
        nbytes = float(base_bytes(group, gpu.scenario, nf4) or 0)
        if id(group) not in nf4 and compute and weights:  # FSDP gathers in the compute dtype, but NF4 as it is
            nbytes *= float(compute.bytes_each / weights.bytes_each)
        nbytes *= float(gpu.share(group))
        if place_of(group.component, gpu.split.rules) == "inside":
            inside += nbytes
        else:
            outside += nbytes
    return ceil(inside / max(1, gpu.stage.depth)), ceil(outside)


def _term(name: str, nbytes: int, how: str, source: str) -> Term:
    return Term(name=name, group="temporary", nbytes=nbytes, how=how, source=source, certainty="typical")
