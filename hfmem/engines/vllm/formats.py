"""Number formats in vLLM: how quantised checkpoints are held, and what `--dtype` stands for.

From the sources of vLLM 0.33 (paths below `vllm/model_executor/layers/quantization/` unless stated otherwise).
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from hfmem.engines.capable import WORDS, capable
from hfmem.estimator.weights.formats import FormatRow
from hfmem.estimator.weights.recipes import RECIPES as TOOLS
from hfmem.estimator.weights.recipes import Recipe, everything

__all__ = ["ANOTHER", "EXPANDS_SCALES", "FORMATS", "RECIPES", "formats_of", "recipes_of"]

_LISTS: Final = "platforms/rocm.py:668-692, platforms/xpu.py:113-131"
_NO_METAL: Final = "platforms/: cuda, rocm, xpu, cpu, tpu"
_NO_GPU: Final = "vLLM has no platform for Apple GPUs; on a Mac it runs on the CPU"

ANOTHER: Final = FormatRow(
    methods=(),
    outcome="refused",
    reason="the quantization method in the model's configuration does not match the requested one",
    source="config/model.py:1456-1462",
)
"""The result of `--dtype` where the checkpoint is quantised with another method."""

# methods, schemes, minimum compute capability, source line (with the fallback on GPUs without native support)
_LEAST: Final[tuple[tuple[tuple[str, ...], tuple[str, ...], int, str], ...]] = (
    (("fp8",), (), 75, "fp8.py:146-147, utils/marlin_utils_fp8.py:30-31 (weights only, through Marlin, below 8.9)"),
    (("mxfp8",), (), 80, "modelopt.py:1230-1233 (through Marlin below 10.0)"),
    (("mxfp4",), (), 80, "mxfp4.py:71-80"),
    (("modelopt",), ("fp8",), 80, "modelopt.py:449-450"),
    (
        ("modelopt",),
        ("nvfp4", "mixed"),
        75,
        "modelopt.py:771-773, 1646-1655 (weights only, through Marlin, below 10.0)",
    ),
    (("modelopt",), ("mxfp8",), 80, "modelopt.py:1230-1233"),
    (("compressed-tensors",), ("fp8", "int8", "int4", "nvfp4", "mxfp8"), 75, "compressed_tensors/schemes/"),
    (("compressed-tensors",), ("mxfp4",), 80, "compressed_tensors/schemes/w4a4_mxfp4.py:46"),
    (("compressed-tensors",), (), 70, "compressed_tensors/compressed_tensors.py:123-124"),
    (("gptq",), (), 75, "auto_gptq.py:99-102, utils/marlin_utils.py:66-67"),
    (("awq",), (), 75, "auto_awq.py:232-234"),
    (("auto-round",), (), 60, "inc/inc.py:265-267"),
    (("torchao",), (), 75, "torchao.py:101-130"),
    (("fbgemm_fp8",), (), 80, "fbgemm_fp8.py of 0.19 (weights only, through Marlin, below 8.9)"),
    (("quark",), (), 70, "quark/quark.py:127-128"),
    (("bitsandbytes",), (), 70, "bitsandbytes.py of 0.27 (the plugin vllm-bnb-plugin since 0.28)"),
)

_ALL: Final = tuple(dict.fromkeys(name for names, _, _, _ in _LEAST for name in names))


_DEPRECATED: Final = FormatRow(
    methods=("fbgemm_fp8",),
    outcome="refused",
    reason="fbgemm_fp8 is deprecated: vLLM requires --allow-deprecated-quantization",
    source="config/model.py:1472-1483; in 0.19 already",
)
_DEPRECATED_SINCE: Final = (0, 17)

FORMATS: Final[tuple[FormatRow, ...]] = (
    *(
        FormatRow(
            methods=methods,
            hardware=("xpu",),
            outcome="refused",
            reason=f"{methods[0]} quantization is currently not supported in xpu",
            source="platforms/xpu.py:113-131, platforms/interface.py:963-969",
        )
        for methods in (("bitsandbytes", "--dtype nf4"), ("fbgemm_fp8",), ("quark",), ("torchao",))
    ),
    FormatRow(
        methods=("gptq",),
        schemes=("int2", "int3", "int5", "int6", "int7", "reordered", "asymmetric"),
        outcome="refused",
        reason="its GPTQ supports 4 and 8 bits, symmetric, without reordered groups (desc_act)",
        source="auto_gptq.py:152-155, utils/gptq_utils.py:29-37",
    ),
    FormatRow(
        methods=_ALL,
        hardware=("mps",),
        outcome="refused",
        reason=_NO_GPU,
        source=_NO_METAL,
    ),
    FormatRow(
        methods=("modelopt",),
        schemes=("nvfp4", "mixed"),
        hardware=("xpu",),
        outcome="refused",
        reason="modelopt_fp4 quantization is currently not supported in xpu",
        source=_LISTS,
    ),
    FormatRow(
        methods=("modelopt", "compressed-tensors"),
        schemes=("nvfp4",),
        hardware=("cpu",),
        outcome="refused",
        reason="there is no kernel for NVFP4 linear layers on CPU",
        source="../../kernels/linear/__init__.py:592-613",
    ),
    *(row for each in _LEAST for row in capable(*each, word=f"{each[0][0]} quantization", elsewhere=_LISTS)),
    FormatRow(
        methods=("modelopt",),
        outcome="refused",
        reason="ModelOpt currently only supports FP8, NVFP4, MXFP8 and MIXED_PRECISION in vLLM",
        source="modelopt.py:160, 396-402",
    ),
    FormatRow(
        methods=tuple(f"--dtype {word}" for word in WORDS),
        hardware=("mps",),
        outcome="refused",
        reason=_NO_GPU,
        source=_NO_METAL,
    ),
    *(
        row
        for word in WORDS
        for row in capable((f"--dtype {word}",), (), 75, "online/base.py:208-212", word=word, elsewhere=_LISTS)
    ),
    FormatRow(
        methods=("*",),
        outcome="refused",
        reason="unknown quantization method",
        source="__init__.py:15-49, config/model.py:1464-1469",
    ),
)
"""(Format, hardware) -> outcome, for releases in general; `formats_of` adds rows of single releases."""

RECIPES: Final[tuple[Recipe, ...]] = (
    Recipe(
        name="--quantization fp8 while loading",
        dtype="fp8",
        packs=everything("fp8 tensors"),
        loads=True,
        source="config/quantization.py:195-209, online/base.py:290-411: linear layers (also of vision towers), experts",
    ),
    Recipe(
        name="--quantization mxfp4 while loading",
        dtype="mxfp4",
        packs=everything("mxfp4"),
        loads=True,
        source="config/quantization.py:210-217: linear layers and experts",
    ),
    Recipe(
        name="bitsandbytes",
        dtype="nf4",
        packs=everything("nf4"),
        loads=True,
        source="bitsandbytes.py of vLLM 0.27, linear layers and experts; the plugin vllm-bnb-plugin since 0.28",
    ),
    *TOOLS,
)
"""What `--dtype` stands for: quantisation by the engine while loading, else checkpoints of offline tools."""


_MXFP4_SINCE: Final = (0, 33)
_WITHOUT_MXFP4: Final = FormatRow(
    methods=("--dtype mxfp4",),
    outcome="refused",
    reason="it does not quantise to MXFP4 while loading: its mxfp4 leaves linear layers unquantised",
    source="mxfp4.py of 0.27, get_quant_method; config/quantization.py:115-143 of 0.27 has no shorthand mxfp4",
)
_PLUGIN_SINCE: Final = (0, 28)
_ROCM_WITHOUT: Final = FormatRow(
    methods=("bitsandbytes", "--dtype nf4"),
    hardware=("rocm",),
    outcome="refused",
    reason="bitsandbytes quantization is currently not supported in rocm",
    source="platforms/rocm.py:668-692 of 0.33, platforms/interface.py:963-969",
)

EXPANDS_SCALES: Final = (0, 9, 2)
"""The first release whose bitsandbytes loader turns nested scales into float32 (`dequantize_dq`)."""


def recipes_of(version: tuple[int, int, int]) -> tuple[Recipe, ...]:
    """The recipes of a release."""
    if version >= EXPANDS_SCALES:
        return RECIPES
    source = "model_loader/loader.py of 0.8.3, _unquantized_generator: compress_statistics=True, kept as it is"
    return tuple(
        replace(each, packs=everything("nf4 nested"), source=source) if each.loads and each.dtype == "nf4" else each
        for each in RECIPES
    )


def formats_of(release: tuple[int, int]) -> tuple[FormatRow, ...]:
    """The rows that apply to a release."""
    # rows are tried in order, so those of single releases come before the general ones
    own = [_DEPRECATED] if release >= _DEPRECATED_SINCE else []
    own += [_WITHOUT_MXFP4] if release < _MXFP4_SINCE else []
    own += [_ROCM_WITHOUT] if release >= _PLUGIN_SINCE else []
    return (*own, *FORMATS)
