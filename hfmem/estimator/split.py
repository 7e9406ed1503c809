"""What one rank of a parallel plan holds: its layers, and its part of each tensor and of each layer's cache.

Two engines, two rules: vLLM shards the vocabulary (padded to a multiple of 64) and repeats key/value heads when there
are fewer of them than ranks; transformers repeats the embedding and cannot repeat heads. Sources: vLLM 0.19.0
`model_executor/layers/{linear,vocab_parallel_embedding}.py`, `distributed/utils.py::get_pp_indices`; transformers 5
`base_model_tp_plan` of the configuration classes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Final

from hfmem.errors import InvalidScenarioError
from hfmem.estimator.parallel import Parallel
from hfmem.mapper.caches import KV, Cache, Combined, CrossKV, Indexed, Latent, Shared, State
from hfmem.mapper.interpret import Model
from hfmem.mapper.values import Architecture, Dense, Experts, Layer, ParameterTable, TensorGroup, known_component

__all__ = ["Stage", "check_split", "rank_model", "stages"]

VOCABULARY_PADDING: Final = 64
_WHOLE: Final = Fraction(1)
_LATENT: Final = (
    "kv_a_proj",
    "q_a_proj",
    "kv_a_proj_with_mqa",
    "fused_qkv_a_proj",
    "wk",
    "wq_b",
    "weights_proj",
    "wq_a",
    "wkv",
)
_KEYS_VALUES: Final = ("k_proj", "v_proj", "kv_proj", "wk_proj")
_FUSED: Final = ("qkv_proj", "query_key_value", "c_attn", "wqkv", "qkv", "w_pack")
_OUTPUTS: Final = ("o_proj", "out_proj", "dense", "c_proj", "down_proj", "wo", "w2", "fc2", "dense_4h_to_h")


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """A pipeline stage: the layers from `start` to `end` (exclusive), and whether it is the first or the last."""

    start: int
    end: int
    first: bool
    last: bool


def stages(layers: int, pp: int) -> tuple[Stage, ...]:
    """The layers of each stage. A remainder goes to the stages before the last, which has the head besides."""
    sizes = [layers // pp] * pp
    for index in range(layers % pp):
        sizes[-2 - index if pp > 1 else -1] += 1
    ends = [sum(sizes[: index + 1]) for index in range(pp)]
    return tuple(
        Stage(start=end - size, end=end, first=index == 0, last=index == pp - 1)
        for index, (size, end) in enumerate(zip(sizes, ends, strict=True))
    )


def check_split(architecture: Architecture, parallel: Parallel, runtime: str) -> None:
    """Refuse a split that the engine would refuse.

    Raises:
        InvalidScenarioError: with the sizes that do not go together.
    """
    if parallel.gpus == 1:
        return
    shared = parallel.tp * parallel.dp
    if parallel.ep not in (1, shared):
        raise InvalidScenarioError(
            "", f"--ep {parallel.ep} is not tp × dp = {shared}: experts are shared by all ranks of a stage or by none"
        )
    if architecture.layers is None:
        raise InvalidScenarioError("", "the layers of this model are not known, so it cannot be split over GPUs")
    if parallel.pp > len(architecture.layers):
        raise InvalidScenarioError("", f"--pp {parallel.pp} is more than the model's {len(architecture.layers)} layers")
    for layer in dict.fromkeys(architecture.layers):
        _check_heads(layer, parallel.tp, runtime)
        _check_ffn(layer, parallel, runtime)


def _check_heads(layer: Layer, tp: int, runtime: str) -> None:
    if layer.heads % tp:
        raise InvalidScenarioError("", f"--tp {tp} does not divide the model's {layer.heads} attention heads")
    for heads in _kv_heads(layer.cache):
        repeated = runtime == "vllm" and heads < tp and tp % heads == 0
        if heads % tp and not repeated:
            rest = "" if runtime == "vllm" else " (transformers cannot repeat them)"
            raise InvalidScenarioError("", f"--tp {tp} does not divide the model's {heads} key/value heads{rest}")


def _check_ffn(layer: Layer, parallel: Parallel, runtime: str) -> None:
    if isinstance(layer.ffn, Dense) and layer.ffn.intermediate % parallel.tp:
        raise InvalidScenarioError(
            "", f"--tp {parallel.tp} does not divide the {layer.ffn.intermediate} units of the MLP"
        )
    if not isinstance(layer.ffn, Experts):
        return
    if parallel.ep > layer.ffn.count:
        raise InvalidScenarioError("", f"--ep {parallel.ep} is more than the model's {layer.ffn.count} experts")
    parts = parallel.tp * (parallel.dp if runtime == "vllm" else 1)
    if parallel.ep == 1 and layer.ffn.intermediate % parts:
        raise InvalidScenarioError(
            "", f"{parts} ranks do not divide the {layer.ffn.intermediate} units of an expert; try --ep"
        )


def _kv_heads(cache: Cache) -> tuple[int, ...]:
    """Key/value heads of a layer; none for latents and states."""
    if isinstance(cache, KV | CrossKV):
        return (cache.heads,)
    if isinstance(cache, Indexed):
        return _kv_heads(cache.attention)
    if isinstance(cache, Combined):
        return tuple(heads for part in cache.caches for heads in _kv_heads(part))
    return ()


def rank_model(model: Model, parallel: Parallel, stage: Stage, runtime: str) -> Model:
    """The model as one rank of a stage holds it."""
    architecture = model.architecture
    if parallel.gpus == 1 or architecture.layers is None:
        return model
    mine = architecture.layers[stage.start : stage.end]
    layers = tuple(replace(layer, cache=_shard_cache(layer.cache, parallel.tp)) for layer in mine)
    table = model.parameters
    if table is not None:
        share = _Share(architecture=architecture, parallel=parallel, stage=stage, runtime=runtime)
        groups = (share.group(group) for group in table.groups)
        table = ParameterTable(groups=tuple(group for group in groups if group is not None))
    return replace(model, architecture=replace(architecture, layers=layers, layer_count=len(layers)), parameters=table)


def _shard_cache(cache: Cache, tp: int) -> Cache:
    """A layer's cache on one of `tp` ranks: heads are shared, latents and indexer keys are on every rank."""
    if isinstance(cache, KV | CrossKV | Latent):
        return replace(cache, heads=max(1, -(-cache.heads // tp)))
    if isinstance(cache, State):
        conv, recurrent, channels = (-(-n // tp) for n in (cache.conv, cache.recurrent, cache.channels))
        return replace(cache, conv=conv, recurrent=recurrent, channels=channels)
    if isinstance(cache, Indexed):
        return replace(cache, attention=_shard_cache(cache.attention, tp))
    if isinstance(cache, Shared):
        return replace(cache, source=replace(cache.source, heads=max(1, -(-cache.source.heads // tp))))
    if isinstance(cache, Combined):
        return replace(cache, caches=tuple(_shard_cache(part, tp) for part in cache.caches))
    return cache


@dataclass(frozen=True, slots=True, kw_only=True)
class _Share:
    """The part of each tensor group that one rank holds."""

    architecture: Architecture
    parallel: Parallel
    stage: Stage
    runtime: str

    def group(self, group: TensorGroup) -> TensorGroup | None:
        """What a rank holds of it; None for nothing."""
        layers = self._layers(group)
        if layers == 0:
            return None
        count = -(-group.count * layers.numerator // layers.denominator)
        part = self._part(group)
        shape = _divided(group.shape, part)
        whole = Fraction(count, group.count) * part
        return replace(
            group,
            count=count,
            shape=shape,
            stored_bytes=None
            if group.stored_bytes is None
            else -(-group.stored_bytes * whole.numerator // whole.denominator),
            parameters=int(group.parameters * whole),
            active=int(group.active * whole),
        )

    def _layers(self, group: TensorGroup) -> Fraction:
        """The share of the layers that have such tensors and stand in this stage."""
        ends = {"embedding": self.stage.first, "lm_head": self.stage.last}
        ends |= dict.fromkeys(("vision", "audio", "projector", "other", "mtp"), self.stage.first)
        if group.component == "embedding" and self.stage.last and self._tied:
            return _WHOLE
        component = known_component(group.component)
        if component in ends:
            return _WHOLE if ends[component] else Fraction(0)
        owns = _OWNERS.get(component, _any_layer)
        layers = self.architecture.layers or ()
        total = sum(owns(layer) for layer in layers)
        mine = sum(owns(layer) for layer in layers[self.stage.start : self.stage.end])
        return Fraction(mine, total) if total else _WHOLE

    @property
    def _tied(self) -> bool:
        return bool(self.architecture.tied_embeddings)

    def _part(self, group: TensorGroup) -> Fraction:
        """The share of one tensor that a tensor-parallel rank holds."""
        tp, component = self.parallel.tp, known_component(group.component)
        if component in ("embedding", "lm_head"):
            return self._vocabulary(group)
        if component == "experts" and (self.parallel.ep > 1 or self.runtime == "vllm"):
            return Fraction(1, tp * self.parallel.dp)  # whole experts, or a part of each: vLLM's replicas share them
        if component in ("vision", "audio"):
            split = self.runtime == "vllm" and group.linear and len(group.shape) == 2
            return Fraction(1, tp) if split else _WHOLE
        if component in ("norm", "router", "projector", "mtp", "other"):
            return _WHOLE
        base = _base(group.role)
        if base in _OUTPUTS and group.role.endswith("bias"):
            return _WHOLE  # added once, after the sum over ranks
        return self._attention(base) if component == "attention" else Fraction(1, tp)

    def _attention(self, base: str) -> Fraction:
        tp, kv = self.parallel.tp, self.architecture.kv_heads or 1
        if base in _LATENT:
            return _WHOLE
        if base in _KEYS_VALUES:
            return Fraction(1, min(tp, kv))
        if base in _FUSED:
            heads = self.architecture.attention_heads or kv
            return (Fraction(heads, tp) + Fraction(2 * kv, min(tp, kv))) / (heads + 2 * kv)
        return Fraction(1, tp)

    def _vocabulary(self, group: TensorGroup) -> Fraction:
        vocab, tp = self.architecture.vocab_size, self.parallel.tp
        rows = group.shape[0]
        if group.component == "embedding" and (self.runtime != "vllm" or rows != vocab):
            return _WHOLE
        padded = -(-rows // VOCABULARY_PADDING) * VOCABULARY_PADDING if self.runtime == "vllm" else rows
        return Fraction(padded, rows * tp)


def _any_layer(_: Layer) -> bool:
    return True


def _has_experts(layer: Layer) -> bool:
    return isinstance(layer.ffn, Experts)


def _has_state(cache: Cache) -> bool:
    return isinstance(cache, State) or (isinstance(cache, Combined) and any(map(_has_state, cache.caches)))


_OWNERS: Final[dict[str, Callable[[Layer], bool]]] = {
    "experts": _has_experts,
    "shared_experts": _has_experts,
    "router": _has_experts,
    "mlp": lambda layer: isinstance(layer.ffn, Dense),
    "attention": lambda layer: layer.heads > 0,
    "state": lambda layer: _has_state(layer.cache),
}


def _base(role: str) -> str:
    """The role of the matrix that a bias or scale belongs to."""
    return role.partition(".")[0].removesuffix("_blocks").removesuffix("_scales").removesuffix("_bias").lower()


def _divided(shape: tuple[int, ...], part: Fraction) -> tuple[int, ...]:
    """The shape with one dimension cut to its share: the first that divides evenly, else the first, rounded up."""
    if part == 1 or not shape:
        return shape
    axis = next((index for index, size in enumerate(shape) if (size * part).denominator == 1), 0)
    cut = -(-shape[axis] * part.numerator // part.denominator)
    return (*shape[:axis], cut, *shape[axis + 1 :])
