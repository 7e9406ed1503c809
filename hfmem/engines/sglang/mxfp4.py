"""What becomes of MXFP4 experts in SGLang, by card and release: its kernels round up sizes or have layouts of their
own, and without a kernel the experts are unpacked to bfloat16.

Source: SGLang 0.5.3 to 0.5.23 `srt/layers/quantization/mxfp4.py::Mxfp4MoEMethod`, and for the kernel of GPT-OSS
`srt/server_args.py`, `srt/arg_groups/model_overrides/gpt_oss.py`.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from hfmem.engines.mxfp4 import Packed, packed
from hfmem.engines.sglang.settings import Settings, settings_of
from hfmem.estimator.scenario import Scenario
from hfmem.estimator.values import Term
from hfmem.hardware.values import Accelerator
from hfmem.mapper.interpret import Model
from hfmem.mapper.values import TensorGroup

__all__ = ["mxfp4_terms"]

_SOURCE: Final = "SGLang 0.5.23, srt/layers/quantization/mxfp4.py; triton_kernels, tensor_details/layout_details"
_HOPPER: Final = "9.0"
_NARROWER: Final = (0, 5, 18)  # FlashInfer's units in multiples of 128 instead of 256
_OWN: Final = (0, 5, 14)  # Blackwell's workstation cards get a kernel other than Triton's
_HIDDEN: Final = 256  # layers/moe/fused_moe_triton/layer.py, for FlashInfer's kernels
_TRITON: Final = (64, 1)
_AITER: Final = (256, 256)
_WITH_TRITON: Final = frozenset({"GptOssForCausalLM"})
"""Classes for which SGLang chooses a kernel (`_gpt_oss_overrides`); others have none unless the user names it."""


def mxfp4_terms(model: Model, groups: Iterable[TensorGroup], scenario: Scenario) -> tuple[Term, ...]:
    """The term of one rank; none without such experts."""
    asked, plan = settings_of(scenario), scenario.parallel
    ranks = plan.tp * (plan.dp if asked.enable_dp_attention else 1)
    found = packed(model, groups, max(1, ranks // asked.ep))
    if found is None:
        return ()
    name, nbytes, how = _kept(found, model, asked, scenario.gpu)
    if nbytes <= 0:
        return ()
    return (Term(name=name, group="weights", nbytes=nbytes, how=how, source=_SOURCE, certainty="derived"),)


def _kept(found: Packed, model: Model, asked: Settings, gpu: Accelerator | None) -> tuple[str, int, str]:
    """The name of the term, bytes beyond the stored ones, and the arithmetic."""
    name, chosen = "padding of experts", bool(_WITH_TRITON.intersection(model.architecture.class_names))
    capability = gpu.compute_capability if gpu is not None else _HOPPER
    if gpu is not None and gpu.vendor != "nvidia":
        return (name, *found.rounded(*_AITER))
    if chosen and capability.startswith("10."):
        return (name, *found.rounded(128 if asked.release >= _NARROWER else 256, _HIDDEN))
    if chosen and capability.startswith("12.") and asked.release >= _OWN:
        return (name, *found.rounded(128, _HIDDEN))
    if chosen and asked.ep == 1:  # Triton's kernel is for experts of tensor parallelism only
        return (name, *(found.swizzled(padded=True) if capability == _HOPPER else found.rounded(*_TRITON)))
    how = f"{found.elements:,} weights × 2 B - {found.stored:,} B: no kernel multiplies by MXFP4 there"
    return "experts in bfloat16", 2 * found.elements - found.stored, how
