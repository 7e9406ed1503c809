"""What the kernels of MXFP4 experts need beyond the checkpoint's tensors.

* Marlin (NVIDIA's cards but Hopper and Blackwell modules, and all with the PyTorch 2.7 of 0.10) and FlashInfer (on
  Blackwell modules) round up sizes; so do AMD's kernels (`mxfp4_round_up_hidden_size_and_intermediate_size`).
* Triton (Hopper): layouts of its own; the logs of 0.11 and 0.14 show no padding of values, those of 0.19 do
  (vLLM 0.19.0, `fused_moe/oracle/mxfp4.py::convert_to_mxfp4_moe_kernel_format`).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from hfmem.engines.mxfp4 import packed
from hfmem.engines.vllm.settings import Settings, settings_of
from hfmem.estimator.scenario import Scenario
from hfmem.estimator.values import Term
from hfmem.hardware.values import Accelerator
from hfmem.mapper.interpret import Model
from hfmem.mapper.values import TensorGroup

__all__ = ["mxfp4_terms"]

_SOURCE: Final = "vLLM 0.19.0, fused_moe/oracle/mxfp4.py; triton_kernels, tensor_details/layout_details"
_HOPPER: Final = "9.0"
_TRITON: Final = (0, 11)  # the first release with PyTorch 2.8, which Triton's kernel needs
_PADDED: Final = (0, 17)  # the first release with values that Triton pads
_SMALLER: Final = (0, 28)
_MARLIN: Final = (128, 256)
_FLASHINFER: Final = (256, 256)
_AMD: Final = (256, 256)


def mxfp4_terms(model: Model, groups: Iterable[TensorGroup], scenario: Scenario) -> list[Term]:
    """The term of one rank; none without such experts."""
    parallel, settings = scenario.parallel, settings_of(scenario)
    # expert parallelism keeps experts whole; otherwise each is split across all ranks of a stage
    found = packed(model, groups, 1 if parallel.ep > 1 else parallel.tp * parallel.dp)
    if found is None:
        return []
    multiples = _multiples(settings, scenario.gpu)
    if multiples is None:
        nbytes, how = found.swizzled(padded=settings.release >= _PADDED)
    else:
        nbytes, how = found.rounded(*multiples)
    if not nbytes:
        return []
    return [
        Term(name="padding of experts", group="weights", nbytes=nbytes, how=how, source=_SOURCE, certainty="derived")
    ]


def _multiples(settings: Settings, gpu: Accelerator | None) -> tuple[int, int] | None:
    """The multiples of intermediate and hidden size; None for Triton's layouts."""
    release, capability = settings.release, gpu.compute_capability if gpu is not None else _HOPPER
    if gpu is not None and gpu.vendor != "nvidia":
        return _AMD
    if capability.startswith("10."):
        return _FLASHINFER if release < _SMALLER else _MARLIN
    return _MARLIN if capability != _HOPPER or release < _TRITON else None
