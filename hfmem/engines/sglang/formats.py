"""Number formats in SGLang: how quantised checkpoints are held, and what `--dtype` stands for.

From the source of SGLang 0.5.23 (paths below `srt/layers/quantization/`): each format's `get_min_capability`.
"""

from __future__ import annotations

from typing import Final

from hfmem.engines.capable import WORDS, capable
from hfmem.estimator.weights.formats import FormatRow
from hfmem.estimator.weights.recipes import RECIPES as TOOLS
from hfmem.estimator.weights.recipes import Recipe, everything

__all__ = ["ANOTHER", "FORMATS", "RECIPES"]

ANOTHER: Final = FormatRow(
    methods=(),
    outcome="refused",
    reason="the quantization method in the model's configuration does not match the requested one",
    source="../../configs/model_config.py::_verify_quantization",
)
"""The result of `--dtype` where the checkpoint is quantised with another method."""

# methods, schemes, minimum compute capability, source
_LEAST: Final[tuple[tuple[tuple[str, ...], tuple[str, ...], int, str], ...]] = (
    (("fp8",), (), 80, "fp8.py, Fp8Config (through Marlin below 8.9)"),
    (("mxfp4",), (), 80, "mxfp4.py:339"),
    (("modelopt",), ("fp8",), 89, "modelopt_quant.py:463"),
    (("modelopt",), ("nvfp4", "mixed"), 100, "modelopt_quant.py, ModelOptFp4Config"),
    (("compressed-tensors",), ("nvfp4",), 100, "compressed_tensors/schemes/"),
    (("compressed-tensors",), (), 70, "compressed_tensors/compressed_tensors.py:161"),
    (("gptq",), (), 60, "gptq/gptq.py:140"),
    (("awq",), (), 75, "awq/awq.py (through Marlin from 8.0)"),
    (("auto-round",), (), 60, "auto_round.py:132"),
    (("torchao",), (), 80, "torchao_utils.py"),
    (("bitsandbytes",), (), 70, "bitsandbytes.py:101"),
    (("quark",), (), 70, "quark/quark.py:399"),
)


_METHODS: Final = tuple(dict.fromkeys(name for names, _, _, _ in _LEAST for name in names))

FORMATS: Final[tuple[FormatRow, ...]] = (
    FormatRow(
        methods=(*_METHODS, *(f"--dtype {word}" for word in WORDS)),
        hardware=("mps",),
        outcome="refused",
        reason="SGLang's formats are not for Apple GPUs",
        source="__init__.py",
    ),
    *(row for each in _LEAST for row in capable(*each, word=each[0][0], elsewhere=each[3])),
    *(
        row
        for word in WORDS
        for row in capable(
            (f"--dtype {word}",),
            (),
            100 if word == "nvfp4" else 80,
            "__init__.py",
            word=word,
            elsewhere="__init__.py",
        )
    ),
    FormatRow(
        methods=("*",),
        outcome="refused",
        reason="unknown quantization method",
        source="__init__.py, get_quantization_config",
    ),
)
"""(Format, hardware) -> outcome."""

RECIPES: Final[tuple[Recipe, ...]] = (
    Recipe(
        name="--quantization fp8 while loading",
        dtype="fp8",
        packs=everything("fp8 tensors"),
        loads=True,
        source="fp8.py: linear layers and experts, from weights in 16 bits",
    ),
    *TOOLS,
)
"""What `--dtype` stands for: quantisation by the engine while loading, else checkpoints of offline tools."""
