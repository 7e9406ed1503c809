"""Memory that SGLang's log line "Load weight end" counts beside the checkpoint's tensors: the rotary table, copies of
MLA's projections, prediction layers, and rounding by PyTorch's allocator."""

from __future__ import annotations

from typing import Final

from hfmem.dtypes import find_dtype
from hfmem.engines.beside import projections, rotary_table, segmented, unfilled
from hfmem.engines.sglang.drafts import draft_terms
from hfmem.engines.sglang.mxfp4 import mxfp4_terms
from hfmem.engines.sglang.settings import settings_of
from hfmem.estimator.scenario import Scenario
from hfmem.estimator.values import Term
from hfmem.estimator.weights.kept import Kept
from hfmem.estimator.weights.loaded import group_bytes
from hfmem.mapper.interpret import Model
from hfmem.mapper.values import Experts

__all__ = ["beside"]

_ROTARY: Final = "SGLang 0.5.23, srt/layers/rotary_embedding/base.py: cos_sin_cache, in float32 on CUDA"
_LATENT: Final = "SGLang 0.5.23, srt/models/deepseek_common: w_kc and w_vc, in the compute dtype beside kv_b_proj"
_SLOTS: Final = "SGLang 0.5.23, srt/models/gemma4_causal.py: QKVParallelLinear in every layer (should_dup_k_to_v)"
_ALLOCATOR: Final = "PyTorch c10/cuda/CUDACachingAllocator: segments of 2 MiB, not split below 1 MiB"


def beside(model: Model, scenario: Scenario, kept: Kept) -> tuple[Term, ...]:
    """The terms of one rank; `model` is the part on that rank."""
    dtype = find_dtype(scenario.compute_dtype or "")
    if dtype is None or model.parameters is None:
        return ()
    groups = [group for group in model.parameters.groups if group.loaded]
    rows, columns = rotary_table(model.architecture, groups)
    elements, width = projections(model.architecture.layers or ()), dtype.nbytes(1)
    slots, filled = unfilled(model, scenario, kept)
    found = (
        _term("rotary table", rows * columns * 4, f"{rows:,} rows × {columns} × 4 B", _ROTARY),
        _term("latent projections", elements * width, f"{elements:,} elements × {width} B", _LATENT),
        _term("keys and values in fused projections", filled, f"{slots:,} elements, as the keys' matrices", _SLOTS),
        *draft_terms(model, scenario, kept),
        *(() if kept.rewritten else mxfp4_terms(model, groups, scenario)),
        _towers(model, scenario, kept),
        _indices(model, scenario),
        _term("allocator's rounding", segmented(groups, scenario, kept), "unused rests of its segments", _ALLOCATOR),
    )
    return tuple(term for term in found if term.nbytes)


def _term(name: str, nbytes: int, how: str, source: str) -> Term:
    return Term(name=name, group="weights", nbytes=nbytes, how=how, source=source, certainty="derived")


_TOWER: Final = "SGLang, srt/models/{kimi_vl_moonvit,kimi_k3}.py: layers that are nn.Linear are not split over ranks"


def _towers(model: Model, scenario: Scenario, kept: Kept) -> Term:
    """The rest of a vision tower that every rank holds whole."""
    tp, groups = scenario.parallel.tp, model.parameters.groups if model.parameters else ()
    shard = 0
    if tp > 1 and settings_of(scenario).source.whole_towers.intersection(model.architecture.class_names):
        # what is divided on a rank: the matrices of the tower's layers
        towers = (g for g in groups if g.loaded and g.component == "vision" and g.linear and len(g.shape) == 2)
        shard = sum(group_bytes(group, scenario, kept) or 0 for group in towers)
    return _term("vision tower on every rank", shard * (tp - 1), f"{tp - 1} more of {tp} parts of {shard:,} B", _TOWER)


_INDICES: Final = (
    "SGLang 0.5.10 to 0.5.23, srt/layers/quantization/compressed_tensors/schemes/compressed_tensors_wNa16_moe.py: "
    "CompressedTensorsWNA16TritonMoE keeps w13_g_idx, w2_g_idx and their sort indices, which Marlin's layout drops"
)
_INDEX: Final = 4  # bytes: int32
_BLACKWELL: Final = (0, 5, 20)  # `use_blackwell_triton` (compressed_tensors.py)


def _indices(model: Model, scenario: Scenario) -> Term:
    """The indices of groups along the inputs of each expert's matrices, and their order, of packed experts with
    Triton's kernel: on ROCm, and since 0.5.20 on Blackwell modules."""
    own, gpu, asked, plan = model.quantisation, scenario.gpu, settings_of(scenario), scenario.parallel
    layers = [layer.ffn for layer in model.architecture.layers or () if isinstance(layer.ffn, Experts)]
    packed = own is not None and own.method == "compressed-tensors" and own.scheme == "int4"
    module = gpu is not None and gpu.vendor == "nvidia" and gpu.compute_capability.startswith("10.")
    triton = gpu is not None and (gpu.vendor == "amd" or (module and asked.release >= _BLACKWELL))
    if not layers or not packed or not triton:
        return _term("group indices of experts", 0, "", _INDICES)
    ranks = plan.tp * (plan.dp if asked.enable_dp_attention else 1)
    inner = layers[0].intermediate // max(1, ranks // asked.ep)
    experts = -(-layers[0].count // asked.ep)
    inputs = (model.architecture.hidden_size or 0) + inner
    nbytes = 2 * len(layers) * experts * inputs * _INDEX
    how = f"2 × {len(layers)} layers × {experts:,} experts × {inputs:,} inputs × {_INDEX} B"
    return _term("group indices of experts", nbytes, how, _INDICES)
