"""Memory that SGLang's log line "Load weight end" counts beside the checkpoint's tensors: the rotary table, copies of
MLA's projections, prediction layers, and rounding by PyTorch's allocator."""

from __future__ import annotations

from typing import Final

from hfmem.dtypes import find_dtype
from hfmem.engines.beside import projections, rotary_table, segmented
from hfmem.engines.sglang.drafts import draft_terms
from hfmem.engines.sglang.mxfp4 import mxfp4_terms
from hfmem.estimator.values import Scenario, Term
from hfmem.estimator.weights.kept import Kept
from hfmem.estimator.weights.loaded import group_bytes
from hfmem.mapper.interpret import Model

__all__ = ["beside"]

_ROTARY: Final = "SGLang 0.5.23, srt/layers/rotary_embedding/base.py: cos_sin_cache, in float32 on CUDA"
_LATENT: Final = "SGLang 0.5.23, srt/models/deepseek_common: w_kc and w_vc, in the compute dtype beside kv_b_proj"
_ALLOCATOR: Final = "PyTorch c10/cuda/CUDACachingAllocator: segments of 2 MiB, not split below 1 MiB"


def beside(model: Model, scenario: Scenario, kept: Kept) -> tuple[Term, ...]:
    """The terms of one rank; `model` is the part on that rank."""
    dtype = find_dtype(scenario.compute_dtype or "")
    if dtype is None or model.parameters is None:
        return ()
    groups = [group for group in model.parameters.groups if group.loaded]
    rows, columns = rotary_table(model.architecture, groups)
    elements, width = projections(model.architecture.layers or ()), dtype.nbytes(1)
    found = (
        _term("rotary table", rows * columns * 4, f"{rows:,} rows × {columns} × 4 B", _ROTARY),
        _term("latent projections", elements * width, f"{elements:,} elements × {width} B", _LATENT),
        *draft_terms(model, scenario, kept),
        *(() if kept.rewritten else mxfp4_terms(model, groups, scenario)),
        _towers(model, scenario, kept),
        _term("allocator's rounding", segmented(groups, scenario, kept), "unused rests of its segments", _ALLOCATOR),
    )
    return tuple(term for term in found if term.nbytes)


def _term(name: str, nbytes: int, how: str, source: str) -> Term:
    return Term(name=name, group="weights", nbytes=nbytes, how=how, source=source, certainty="derived")


_WHOLE_TOWERS: Final = frozenset({"KimiK25ForConditionalGeneration", "KimiVLForConditionalGeneration"})
_TOWER: Final = "SGLang 0.5.23, srt/models/kimi_vl_moonvit.py: its layers are nn.Linear, which are not split over ranks"


def _towers(model: Model, scenario: Scenario, kept: Kept) -> Term:
    """The rest of a vision tower that every rank holds whole."""
    tp, groups = scenario.parallel.tp, model.parameters.groups if model.parameters else ()
    shard = 0
    if tp > 1 and _WHOLE_TOWERS.intersection(model.architecture.class_names):
        towers = (group for group in groups if group.loaded and group.component in ("vision", "projector"))
        shard = sum(group_bytes(group, scenario, kept) or 0 for group in towers)
    return _term("vision tower on every rank", shard * (tp - 1), f"{tp - 1} more of {tp} parts of {shard:,} B", _TOWER)
