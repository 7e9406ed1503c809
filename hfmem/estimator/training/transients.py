"""What sharding and the optimizer's step make for a moment: gathered weights, buckets, roots of moments."""

from __future__ import annotations

from math import ceil

from hfmem.dtypes import find_dtype
from hfmem.estimator.activations.closed_forms import widths
from hfmem.estimator.training.base import base_bytes, replaced
from hfmem.estimator.training.slices import Slice
from hfmem.estimator.training.states import gradient_bytes, sharded
from hfmem.estimator.training.trained import Piece, place_of
from hfmem.estimator.training.values import Training
from hfmem.estimator.values import Scenario, Term
from hfmem.mapper.interpret import Model
from hfmem.mapper.values import Experts

__all__ = ["frozen_gradients", "gathered", "optimizer_terms"]

_BUCKET = 500_000_000
_FSDP = (
    "docs.pytorch.org, FullyShardedDataParallel: BACKWARD_PRE gathers the next unit before the current one is freed; "
    "the root unit (embeddings, head) stays gathered"
)
_PEFT = "peft utils/other.py, fsdp_auto_wrap_policy: adapters are units of their own, between those of two layers"
_MIXED = (
    "torch FullyShardedDataParallel: a unit's parameters are one, with one gradient, of the frozen ones too; no_sync "
    "keeps it whole between micro-batches"
)
_DDP = "docs.pytorch.org, DistributedDataParallel: buckets hold a copy of the gradients unless gradient_as_bucket_view"
_DEEPSPEED = "deepspeed runtime/zero/config.py: reduce_bucket_size 5e8"
_LIVE = "deepspeed docs, memory.rst: estimate_zero3_model_states_mem_needs counts 4 B a parameter of the largest layer"


def optimizer_terms(model: Model, training: Training, part: Slice, pieces: tuple[Piece, ...]) -> list[Term]:
    """What the step makes besides gradients and states."""
    terms = []
    if training.precision.master and training.precision.gradient < 4 and training.zero and training.offload == "none":
        total = sum(
            4 * piece.elements * float(_share(model, part, piece)) / sharded(training, 1, piece.component, part)
            for piece in pieces
        )
        terms.append(
            _term(
                "float32 gradients", ceil(total), "4 B of each of this rank's parameters", "deepspeed docs, memory.rst"
            )
        )
    row = training.optimizer
    if training.precision.master or training.offload != "none":
        return terms  # DeepSpeed and Megatron step with a fused kernel, or on the host
    if row.lists:
        total = sum(
            row.lists
            * piece.kept.width
            * piece.elements
            * float(_share(model, part, piece))
            / sharded(training, 1, piece.component, part)
            for piece in pieces
        )
        how = f"{row.lists} × a tensor like each parameter (foreach)"
        terms.append(_term("optimizer's list", ceil(total), how, row.source))
    if any(row.tensor_bytes):
        wide, half = row.tensor_bytes
        largest = max((piece.kept.elements * (wide if piece.kept.width > 2 else half) for piece in pieces), default=0)
        nbytes = ceil(largest / part.plan.tp / (training.shard if training.zero >= 1 else 1))
        terms.append(_term("optimizer's update", nbytes, "of the largest tensor, one at a time", row.source))
    return terms


def gathered(  # noqa: PLR0913 - the parts of one step
    model: Model,
    scenario: Scenario,
    training: Training,
    part: Slice,
    pieces: tuple[Piece, ...],
    *,
    backward: bool,
) -> list[Term]:
    """Buffers of parallelism while layers run."""
    exchanged = _exchanged(model, scenario, part) if backward else []
    return [*exchanged, *_data_parallel(model, scenario, training, part, pieces, backward=backward)]


def frozen_gradients(model: Model, scenario: Scenario, training: Training, part: Slice, first: int) -> list[Term]:
    """Gradients that frozen weights get, of the layers from `first` of this GPU on: those in a unit with adapters."""
    if not _mixed(training):
        return []
    layer, _ = _units(model, scenario, training, part)
    count = part.stop - part.start - first
    ranks = 1 if training.accumulation > 1 else training.shard
    how = (
        f"of {count} units, as large as their weights{f', over {ranks} ranks' if ranks > 1 else ', whole on each rank'}"
    )
    return [
        Term(
            name="gradients of frozen weights",
            group="gradients",
            nbytes=ceil(count * layer / ranks),
            how=how,
            source=_MIXED,
            certainty="derived",
        )
    ]


def _mixed(training: Training) -> bool:
    return training.fsdp and training.lora is not None and training.stack.mixed_units


def _exchanged(model: Model, scenario: Scenario, part: Slice) -> list[Term]:
    """What goes between the ranks of one layer: tokens on their way to experts, keys and values of other parts of the
    sequence."""
    hidden, layers = model.architecture.hidden_size or 0, model.architecture.layers or ()
    tokens = -(-scenario.batch * scenario.seq // (part.plan.cp * part.plan.tp))
    used = max((layer.ffn.per_token for layer in layers if isinstance(layer.ffn, Experts)), default=0)
    terms = []
    if part.plan.ep > 1 and used:
        nbytes = 2 * 2 * used * tokens * hidden
        how = f"sent and received: 2 × {used} × {tokens:,} tokens × {hidden} × 2 B"
        terms.append(
            _term("tokens of other ranks' experts", nbytes, how, "Megatron Core, token_dispatcher.py (alltoall)")
        )
    if part.plan.cp > 1:
        width = max((sum(widths(layer)) - widths(layer)[0] for layer in layers), default=0)
        nbytes = 2 * 2 * 2 * tokens * width
        how = f"two pieces: 2 × {tokens:,} tokens × 2 × {width} × 2 B"
        terms.append(_term("keys and values of other ranks", nbytes, how, "ring attention, arXiv 2310.01889"))
    return terms


def _data_parallel(  # noqa: PLR0913 - the parts of one step
    model: Model,
    scenario: Scenario,
    training: Training,
    part: Slice,
    pieces: tuple[Piece, ...],
    *,
    backward: bool,
) -> list[Term]:
    if part.plan.dp * part.plan.cp == 1 or training.stack.persistent_gradients:
        return []  # Megatron reduces in the gradients' own buffers
    if training.zero == 0:
        nbytes = gradient_bytes(model, training, part, pieces)
        return [_term("buckets", nbytes, "a copy of every gradient", _DDP)]
    if training.zero < 3:
        elements = min(_BUCKET, sum(piece.elements for piece in pieces))
        return [_term("bucket", elements * training.precision.gradient, f"{elements:,} elements", _DEEPSPEED)]
    layer, root = _units(model, scenario, training, part)
    if not training.fsdp:
        return [_term("gathered layer", 2 * layer, "weights and gradients of the largest layer", _LIVE)]
    ahead = backward and (training.lora is None or _mixed(training))
    terms = [
        _term("gathered units", 2 * layer, "this layer's weights and the next one's", _FSDP)
        if ahead
        else _term("gathered unit", layer, "this layer's weights; its adapters are gathered before the next one", _PEFT)
        if backward
        else _term("gathered unit", layer, "the last layer's weights", _FSDP),
        _term("gathered root", root, "embeddings and head", _FSDP),
    ]
    if backward:
        inside = [piece for piece in pieces if piece.place == "layers"]
        depth = max(1, part.stop - part.start)
        nbytes = gradient_bytes(model, training, part, inside, shard=False) // depth
        if _mixed(training):
            first = training.stack.longest_first and training.accumulation > 1
            nbytes = 0 if first else layer  # the first micro-batch's gradients are those that stay
        terms.append(_term("gradients to be shared", nbytes, "of one layer, before they are sharded", _FSDP))
    return terms


def _units(model: Model, scenario: Scenario, training: Training, part: Slice) -> tuple[int, int]:
    """Bytes of one layer's weights, and of what lies outside the layers, as layers compute with them."""
    nf4 = replaced(model, training)
    compute, weights = find_dtype(training.precision.compute), find_dtype(training.precision.weights)
    inside, outside = 0.0, 0.0
    for group in model.parameters.groups if model.parameters else ():
        if not group.loaded:
            continue
        nbytes = float(base_bytes(group, scenario, nf4) or 0)
        if id(group) not in nf4 and compute and weights:
            nbytes *= float(compute.bytes_each / weights.bytes_each)
        place = place_of(group.component)
        split = group.linear or group.component in ("embedding", "lm_head")
        nbytes *= float(part.part(model.architecture, group.component, place, split=split))
        if place == "layers":
            inside += nbytes
        else:
            outside += nbytes
    return ceil(inside / max(1, part.stop - part.start)), ceil(outside)


def _share(model: Model, part: Slice, piece: Piece) -> float:
    return float(part.part(model.architecture, piece.component, piece.place, split=piece.split))


def _term(name: str, nbytes: int, how: str, source: str) -> Term:
    return Term(name=name, group="temporary", nbytes=nbytes, how=how, source=source, certainty="typical")
