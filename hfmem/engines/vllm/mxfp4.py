"""What the kernels of MXFP4 experts need beyond the checkpoint's tensors.

* Marlin (NVIDIA's cards but Hopper and Blackwell modules, and all with the PyTorch 2.7 of 0.10) and FlashInfer (on
  Blackwell modules) round up sizes; so do AMD's kernels (`mxfp4_round_up_hidden_size_and_intermediate_size`).
* Triton (Hopper): the intermediate size is a multiple of 64. Its layouts have scales of 256 rows and an even number of
  columns beside the loaded scales, which stay registered, and biases in float32. Newer layouts also have values in
  multiples of 128 inputs and of 64 outputs: the logs of 0.11 and 0.14 show none of that, those of 0.19 do
  (triton_kernels, `tensor_details/layout_details/hopper_{value,scale}.py`; vLLM 0.19.0,
  `fused_moe/oracle/mxfp4.py::convert_to_mxfp4_moe_kernel_format`).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from hfmem.engines.segments import unused
from hfmem.engines.vllm.settings import Settings, settings_of
from hfmem.estimator.values import Scenario, Term
from hfmem.hardware.values import Accelerator
from hfmem.mapper.interpret import Model
from hfmem.mapper.values import Experts, TensorGroup

__all__ = ["mxfp4_terms"]

_SOURCE: Final = "vLLM 0.19.0, fused_moe/oracle/mxfp4.py; triton_kernels, tensor_details/layout_details"
_HOPPER: Final = "9.0"
_TRITON: Final = (0, 11)  # the first release with PyTorch 2.8, which Triton's kernel needs
_PADDED: Final = (0, 17)  # the first release with values that Triton pads
_SMALLER: Final = (0, 28)
_MARLIN: Final = (128, 256)
_FLASHINFER: Final = (256, 256)
_AMD: Final = (256, 256)
_BLOCK: Final = 32  # elements per scale
_ROWS: Final = 256  # of scales, for eight warps
_INNER: Final = 64
_INPUTS: Final = 128
_OUTPUTS: Final = 64


def mxfp4_terms(model: Model, groups: Iterable[TensorGroup], scenario: Scenario) -> list[Term]:
    """The term of one rank; none without such experts."""
    layer = next((layer for layer in model.architecture.layers or () if isinstance(layer.ffn, Experts)), None)
    stored = sum(
        group.stored_bytes or 0 for group in groups if group.component == "experts" and group.layout == "mxfp4"
    )
    hidden, parallel, settings = model.architecture.hidden_size, scenario.parallel, settings_of(scenario)
    if layer is None or not isinstance(layer.ffn, Experts) or not stored or not hidden:
        return []
    # expert parallelism keeps experts whole; otherwise each is split across all ranks of a stage
    inner = layer.ffn.intermediate // (1 if parallel.ep > 1 else parallel.tp * parallel.dp)
    multiples = _multiples(settings, scenario.gpu)
    if multiples is None:
        experts = stored // _expert(inner, hidden)
        kept = _swizzled(inner, hidden, settings)
        lost = _lost(experts, inner, hidden, model, settings)
        nbytes = experts * kept + lost - stored
        how = f"{experts:,} experts × {kept:,} B in Triton's layouts + {lost:,} B of segments - {stored:,} B"
    else:
        by_inner, by_hidden = _up(inner, multiples[0]), _up(hidden, multiples[1])
        nbytes = stored * by_inner * by_hidden // (inner * hidden) - stored
        how = f"{stored:,} B × ({by_inner} × {by_hidden} / ({inner} × {hidden}) - 1)"
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


def _expert(inner: int, hidden: int) -> int:
    """Bytes of an expert's values and scales in the checkpoint."""
    return 3 * inner * hidden // 2 + 3 * inner * hidden // _BLOCK


def _swizzled(inner: int, hidden: int, settings: Settings) -> int:
    """Bytes of an expert in Triton's layouts: gate and up projection in one matrix, and the down projection."""
    inner = _up(inner, _INNER)
    found = sum(_values(inner, hidden, settings))
    for into, out in ((hidden, 2 * inner), (inner, hidden)):
        found += _up(into // _BLOCK, 2) * _up(out, _ROWS) + into // _BLOCK * out
        found += 2 * out  # a bias in float32 in place of one in 16 bits
    return found


def _values(inner: int, hidden: int, settings: Settings) -> tuple[int, int]:
    """Bytes of an expert's values in either matrix."""
    inputs, outputs = (_INPUTS, _OUTPUTS) if settings.release >= _PADDED else (1, 1)
    first, second = (_up(into, inputs) // 2 * _up(out, outputs) for into, out in ((hidden, 2 * inner), (inner, hidden)))
    return first, second


def _lost(experts: int, inner: int, hidden: int, model: Model, settings: Settings) -> int:
    """Bytes that the allocator loses behind the values, which are one tensor per layer and matrix."""
    layers = sum(isinstance(layer.ffn, Experts) for layer in model.architecture.layers or ())
    sizes = _values(_up(inner, _INNER), hidden, settings)
    return layers * sum(unused(experts // layers * size) for size in sizes)


def _up(size: int, multiple: int) -> int:
    return -(-size // multiple) * multiple
