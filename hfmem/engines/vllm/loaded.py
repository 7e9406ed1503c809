"""Memory in vLLM's log line "Model loading took" beyond the checkpoint's tensors: the rotary table, MLA projections in
the compute dtype, FlashInfer's workspace, padding of MXFP4 experts, expanded scales, buffers for features of deep
blocks, and rounding by PyTorch's allocator.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final

from hfmem.dtypes import find_dtype
from hfmem.engines.beside import latent_of, lost, projections, rotary_table, unfilled
from hfmem.engines.vllm.drafts import draft_layers
from hfmem.engines.vllm.formats import EXPANDS_SCALES
from hfmem.engines.vllm.media import takes_media
from hfmem.engines.vllm.mxfp4 import mxfp4_terms
from hfmem.engines.vllm.settings import settings_of
from hfmem.estimator.activations.towers import handed
from hfmem.estimator.scenario import Scenario
from hfmem.estimator.values import Term
from hfmem.estimator.weights.kept import Kept, is_packed
from hfmem.estimator.weights.loaded import group_bytes
from hfmem.mapper.interpret import Model
from hfmem.mapper.values import TensorGroup
from hfmem.units import MIB

__all__ = ["layer_tensors", "loaded_terms"]

_ROTARY_SOURCE: Final = "vLLM 0.19.0, model_executor/layers/rotary_embedding: cos_sin_cache, counted with the model"
_SLOTS_SOURCE: Final = (
    "vLLM 0.19.0 to 0.33.0, models/gemma4.py: QKVParallelLinear in every layer, also where values are the keys and "
    "where the cache is another layer's"
)
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
_DEEP_SOURCE: Final = "vLLM 0.11.0 to 0.33.0, model_executor/models/qwen3_vl.py: deepstack_input_embeds"
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
        *_slots(model, scenario, kept),
        *_latents(model, groups, scenario, kept),
        *_expanded(model, groups, scenario),
        *_deep(model, scenario, width),
        *(() if kept.rewritten else mxfp4_terms(model, groups, scenario)),
        *_rounding(groups, scenario, kept),
    )


def _term(name: str, nbytes: int, how: str, source: str) -> Term:
    return Term(name=name, group="weights", nbytes=nbytes, how=how, source=source, certainty="derived")


def _rotary(model: Model, groups: Iterable[TensorGroup], width: int) -> list[Term]:
    """The cos/sin table that all layers share, for models with rotary positions."""
    rows, size = rotary_table(model.architecture, groups, model.architecture.longer_rotary_rows)
    if not rows:
        return []
    if _FLOAT32_TABLE.intersection(model.architecture.class_names):
        width = 4
    how = f"{rows:,} rows × {size} × {width} B"
    return [_term("rotary table", rows * size * width, how, _ROTARY_SOURCE)]


def _slots(model: Model, scenario: Scenario, kept: Kept) -> list[Term]:
    """Keys' and values' parts of fused projections that the checkpoint lacks."""
    elements, nbytes = unfilled(model, scenario, kept)
    how = f"{elements:,} elements, in the format of the keys' projections"
    return [_term("keys and values in fused projections", nbytes, how, _SLOTS_SOURCE)] if nbytes else []


def _latents(model: Model, groups: Iterable[TensorGroup], scenario: Scenario, kept: Kept) -> list[Term]:
    """What MLA adds: copies of quantised projections, and the workspace of a kernel that is only imported to be asked
    whether it fits."""
    dtype = find_dtype(scenario.compute_dtype or "")
    layers = (*(model.architecture.layers or ()), *draft_layers(model, scenario))
    if dtype is None or not any(latent_of(layer.cache) for layer in layers):
        return []
    version, gpu = settings_of(scenario).version, scenario.gpu
    attention = [group for group in groups if group.component == "attention" and group.linear]
    packed = any(is_packed(group) or kept.quantiser(group) is not None for group in attention)
    found = _projections(projections(layers), dtype.nbytes(1)) if packed or version < _VIEWS_SINCE else []
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


def _deep(model: Model, scenario: Scenario, width: int) -> list[Term]:
    """Where features of blocks within the tower are added in the decoder's first layers: those of a step, for each."""
    settings, hidden = settings_of(scenario), model.architecture.hidden_size
    blocks = handed(model.tower) - 1 if model.tower is not None and takes_media(model, settings) else 0
    if blocks < 1 or not hidden:
        return []
    tokens = settings.max_num_batched_tokens
    how = f"{blocks} × {tokens:,} tokens × {hidden} × {width} B"
    return [_term("features of deep blocks", blocks * tokens * hidden * width, how, _DEEP_SOURCE)]


def _projections(elements: int, width: int) -> list[Term]:
    """MLA's up projections, which vLLM holds a second time in the compute dtype for decoding."""
    how = f"{elements:,} elements × {width} B"
    return [_term("latent projections", elements * width, how, _LATENT_SOURCE)] if elements else []


def _rounding(groups: Iterable[TensorGroup], scenario: Scenario, kept: Kept) -> list[Term]:
    """Rounding by the allocator."""
    waste = lost(groups, scenario, kept)
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
