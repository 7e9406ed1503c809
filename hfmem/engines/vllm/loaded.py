"""Memory in vLLM's log line "Model loading took" beyond the checkpoint's tensors: the rotary table, MLA projections in
the compute dtype, FlashInfer's workspace, padding of MXFP4 experts, expanded scales, and rounding by PyTorch's
allocator.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final

from hfmem.dtypes import find_dtype
from hfmem.engines.vllm.drafts import draft_layers
from hfmem.engines.vllm.formats import EXPANDS_SCALES
from hfmem.engines.vllm.mxfp4 import mxfp4_terms
from hfmem.engines.vllm.segments import unused
from hfmem.engines.vllm.settings import settings_of
from hfmem.estimator.values import Scenario, Term
from hfmem.estimator.weights.kept import Kept, is_packed
from hfmem.estimator.weights.loaded import code_bytes, group_bytes
from hfmem.mapper.caches import KV, Cache, Combined, Indexed, Latent
from hfmem.mapper.interpret import Model
from hfmem.mapper.values import Layer, TensorGroup
from hfmem.units import MIB

__all__ = ["layer_tensors", "loaded_terms"]

_ROTARY_SOURCE: Final = "vLLM 0.19.0, model_executor/layers/rotary_embedding: cos_sin_cache, counted with the model"
_LATENT_SOURCE: Final = (
    "vLLM 0.19.0, model_executor/layers/attention/mla_attention.py: W_UK_T and W_UV beside kv_b_proj, "
    "of which they are views where it is not quantised"
)
_WORKSPACE_SOURCE: Final = (
    "vLLM 0.11.1 to 0.24, platforms/cuda.py::get_valid_backends imports attention/backends/mla/flashinfer_mla.py, "
    "which allocates g_fi_workspace"
)
_WORKSPACE: Final = 128 * MIB
_WORKSPACE_SINCE: Final = (0, 11, 1)
_WORKSPACE_UNTIL: Final = (0, 25, 0)
_VIEWS_SINCE: Final = (0, 8, 0)
_SCALES_SOURCE: Final = "vLLM 0.9.2, model_loader/bitsandbytes_loader.py::dequantize_dq"
_FLOAT32_TABLE: Final = frozenset({"GptOssForCausalLM"})  # models/gpt_oss.py: get_rope(dtype=torch.float32)
_ALLOCATOR_SOURCE: Final = "PyTorch c10/cuda/CUDACachingAllocator: segments of 2 MiB, not split below 1 MiB"

_IN_LAYERS: Final = ("norm", "attention", "state", "mlp", "router", "experts", "shared_experts")


def loaded_terms(model: Model, scenario: Scenario, kept: Kept) -> tuple[Term, ...]:
    """The terms of one rank; `model` is the part on that rank."""
    dtype = find_dtype(scenario.compute_dtype) if scenario.compute_dtype else None
    if dtype is None or model.parameters is None:
        return ()
    groups = [group for group in model.parameters.groups if group.loaded]
    width = dtype.nbytes(1)
    return (
        *_rotary(model, groups, width),
        *_latents(model, groups, scenario, kept),
        *_expanded(model, groups, scenario),
        *(() if kept.rewritten else mxfp4_terms(model, groups, scenario)),
        *_rounding(groups, scenario, kept),
    )


def _term(name: str, nbytes: int, how: str, source: str) -> Term:
    return Term(name=name, group="weights", nbytes=nbytes, how=how, source=source, certainty="derived")


def _rotary(model: Model, groups: Iterable[TensorGroup], width: int) -> list[Term]:
    """The cos/sin table that all layers share, for models with rotary positions."""
    architecture = model.architecture
    positions = architecture.max_positions
    # an embedding with one row per position means learned positions, and no rotary table
    learned = any(group.component == "embedding" and group.shape[0] == positions for group in groups)
    size = max((_rotary_width(layer.cache) for layer in set(architecture.layers or ())), default=0)
    rows = architecture.rotary_rows
    if learned or not size or not rows:
        return []
    if _FLOAT32_TABLE.intersection(architecture.class_names):
        width = 4
    how = f"{rows:,} rows × {size} × {width} B"
    return [_term("rotary table", rows * size * width, how, _ROTARY_SOURCE)]


def _rotary_width(cache: Cache) -> int:
    if isinstance(cache, KV):
        return cache.key_dim
    if isinstance(cache, Latent):
        return cache.rope_dim
    if isinstance(cache, Indexed):
        return _rotary_width(cache.attention)
    if isinstance(cache, Combined):
        return max(map(_rotary_width, cache.caches), default=0)
    return 0


def _latents(model: Model, groups: Iterable[TensorGroup], scenario: Scenario, kept: Kept) -> list[Term]:
    """What MLA adds: copies of quantised projections, and the workspace of a kernel that is only imported to be asked
    whether it fits."""
    dtype = find_dtype(scenario.compute_dtype or "")
    layers = (*(model.architecture.layers or ()), *draft_layers(model, scenario))
    if dtype is None or not any(_latent(layer.cache) for layer in layers):
        return []
    version, gpu = settings_of(scenario).version, scenario.gpu
    attention = [group for group in groups if group.component == "attention" and group.linear]
    packed = any(is_packed(group) or kept.quantiser(group) is not None for group in attention)
    found = _projections(layers, dtype.nbytes(1)) if packed or version < _VIEWS_SINCE else []
    if _WORKSPACE_SINCE <= version < _WORKSPACE_UNTIL and (gpu is None or gpu.vendor == "nvidia"):
        found.append(_term("FlashInfer's workspace", _WORKSPACE, "a fixed buffer", _WORKSPACE_SOURCE))
    return found


def _expanded(model: Model, groups: Iterable[TensorGroup], scenario: Scenario) -> list[Term]:
    """Nested scales of a bitsandbytes checkpoint, which are expanded from one byte to float32."""
    own = model.quantisation
    if own is None or own.method != "bitsandbytes" or settings_of(scenario).version < EXPANDS_SCALES:
        return []
    scales = sum(group.elements for group in groups if group.scale and group.dtype == "U8")
    return [_term("expanded scales", 3 * scales, f"{scales:,} scales × 3 B", _SCALES_SOURCE)] if scales else []


def _projections(layers: Iterable[Layer], width: int) -> list[Term]:
    """MLA's up projections, which vLLM holds a second time in the compute dtype for decoding."""
    latents = [_latent(layer.cache) for layer in layers]
    elements = sum(
        latent.heads * (latent.key_dim - latent.rope_dim + latent.value_dim) * latent.rank
        for latent in latents
        if latent is not None
    )
    how = f"{elements:,} elements × {width} B"
    return [_term("latent projections", elements * width, how, _LATENT_SOURCE)] if elements else []


def _latent(cache: Cache) -> Latent | None:
    if isinstance(cache, Indexed):
        return _latent(cache.attention)
    return cache if isinstance(cache, Latent) else None


def _rounding(groups: Iterable[TensorGroup], scenario: Scenario, kept: Kept) -> list[Term]:
    """Rounding by the allocator: a tensor of 10 MiB or more gets its own segment, a multiple of 2 MiB; an unused rest
    below 1 MiB is not split off, and is lost."""
    waste = sum(count * unused(nbytes) for nbytes, count in _tensors(groups, scenario, kept))
    how = "unused rest of each large tensor's segment (a multiple of 2 MiB), where it is less than 1 MiB"
    return [_term("allocator's rounding", waste, how, _ALLOCATOR_SOURCE)] if waste else []


def layer_tensors(model: Model, scenario: Scenario, kept: Kept) -> Iterator[int]:
    """Bytes of the parameters of a rank's layers as vLLM allocates them, layer by layer: projections with the same
    input are fused, and so are all experts of a layer."""
    layers = len(model.architecture.layers or ())
    groups = model.parameters.groups if model.parameters else ()
    fused: dict[tuple[str, str], int] = {}
    for group in groups:
        nbytes = group_bytes(group, scenario, kept)
        if group.loaded and nbytes and group.component in _IN_LAYERS and layers:
            name = group.packed_as or ("inward" if group.inward else str(group.shape))
            fused[group.component, name] = fused.get((group.component, name), 0) + nbytes
    for _ in range(layers):
        yield from (nbytes // layers for nbytes in fused.values())


def _tensors(groups: Iterable[TensorGroup], scenario: Scenario, kept: Kept) -> list[tuple[int, int]]:
    """(bytes, count) of tensors as vLLM allocates them: projections with the same input are fused. Experts are left
    out, as their kernels repack them; scales are tensors of their own."""
    fused: dict[tuple[str, str, int], list[int]] = {}
    alone = []
    for group in groups:
        nbytes = code_bytes(group, scenario, kept)
        if nbytes is None or not group.count or group.scale or group.component == "experts":
            continue
        if group.packed_as is None:
            alone.append((nbytes // group.count, group.count))
        else:
            fused.setdefault((group.component, group.packed_as, group.count), []).append(nbytes // group.count)
    return alone + [(sum(parts), count) for (_, _, count), parts in fused.items()]
