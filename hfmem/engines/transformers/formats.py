"""Number formats in transformers: how quantised checkpoints are held, and what `--dtype` quantises while loading.

From the sources of transformers 5.24 (paths below `transformers/`), bitsandbytes 0.50.2, torchao 0.18 and
compressed-tensors 0.20.
"""

from __future__ import annotations

from typing import Final

from hfmem.estimator.weights.formats import FormatRow, Hardware
from hfmem.estimator.weights.recipes import RECIPES as TOOLS
from hfmem.estimator.weights.recipes import Recipe, everything

__all__ = ["ANOTHER", "FORMATS", "GGUF", "RECIPES", "TRAINED"]

_FP8: Final = "quantizers/quantizer_finegrained_fp8.py:38-58"
_MXFP4: Final = "quantizers/quantizer_mxfp4.py:63-121"
_BNB: Final = "integrations/bitsandbytes.py:184-216: replaces nn.Linear and Conv1D; fused experts are neither"
_UNKNOWN: Final = "quantizers/auto.py:264-271, 358-361 (there is no quantiser named modelopt)"
_GPU_ONLY: Final[tuple[tuple[str, str, str], ...]] = (
    ("fbgemm_fp8", "using fbgemm fp8 quantization requires a GPU or XPU", "quantizers/quantizer_fbgemm_fp8.py:55-74"),
    ("eetq", "no GPU found, and a GPU is needed for this quantisation", "quantizers/quantizer_eetq.py:49-50"),
    ("spqr", "a GPU is required to run SpQR models", "quantizers/quantizer_spqr.py:42-56"),
    ("vptq", "a GPU is required to run VPTQ models", "quantizers/quantizer_vptq.py:47-48"),
    ("higgs", "HIGGS runs on a GPU only", "quantizers/quantizer_higgs.py:43-75"),
    ("fp_quant", "FPQuant runs on a GPU or Intel XPU only", "quantizers/quantizer_fp_quant.py:43-63"),
)
"""Quantisers that refuse CPUs and Apple GPUs: method, reason, source line."""

_WITHOUT_GPU: Final[tuple[Hardware, ...]] = ("mps", "cpu")

ANOTHER: Final = FormatRow(
    methods=(),
    outcome="refused",
    reason="the model is quantised already, and from_pretrained does not accept another quantization_config for it",
    source="quantizers/auto.py:259-266",
)
"""The result of `--dtype` where the checkpoint is quantised with another method."""

# `biased_experts` identifies gpt-oss, whose experts have biases: its GptOssMLP is the only class that Mxfp4Config
# replaces, and the one that FineGrainedFP8Config cannot replace.
FORMATS: Final[tuple[FormatRow, ...]] = (
    # packed weights of quantised checkpoints
    FormatRow(methods=("fp8", "mxfp8"), hardware=("cuda",), least=89, outcome="kept", source=_FP8),
    FormatRow(methods=("fp8", "mxfp8"), hardware=("rocm", "xpu"), outcome="kept", source=_FP8),
    FormatRow(
        methods=("fp8", "mxfp8"),
        hardware=("cuda", "mps", "cpu"),
        outcome="unpacked",
        stays=("embedding",),
        reason="unpacked below compute capability 8.9, on MPS and on CPU",
        source=_FP8,
    ),
    FormatRow(methods=("fbgemm_fp8",), hardware=("cuda",), least=90, outcome="kept", source=_GPU_ONLY[0][2]),
    FormatRow(
        methods=("fbgemm_fp8",),
        hardware=("cuda",),
        outcome="refused",
        reason="FP8 quantized models is only supported on GPUs with compute capability >= 9.0 (e.g H100)",
        source=_GPU_ONLY[0][2],
    ),
    FormatRow(
        methods=("mxfp4",),
        biased_experts=True,
        hardware=("cuda",),
        least=75,
        outcome="kept",
        reason="with Triton 3.4 and the package kernels, which are assumed",
        source=_MXFP4,
    ),
    FormatRow(
        methods=("mxfp4",),
        biased_experts=True,
        hardware=("rocm", "xpu"),
        outcome="kept",
        reason="with Triton 3.5 and the package kernels, which are assumed",
        source=_MXFP4,
    ),
    FormatRow(
        methods=("mxfp4",),
        biased_experts=True,
        hardware=("cpu",),
        outcome="unpacked",
        reason="unpacked on CPU unless from_pretrained has use_kernels=True",
        source="quantizers/quantizer_mxfp4.py:179-184, modeling_utils.py:4175",
    ),
    FormatRow(
        methods=("mxfp4",),
        biased_experts=True,
        hardware=("cuda", "mps"),
        outcome="unpacked",
        reason="unpacked below compute capability 7.5 and on MPS",
        source=_MXFP4,
    ),
    FormatRow(
        methods=("mxfp4",),
        outcome="refused",
        reason="its MXFP4 supports the experts of gpt-oss only, and cannot load blocks and scales of other models",
        source="integrations/mxfp4.py:517-535",
    ),
    FormatRow(
        methods=("exl2", "exl3"),
        outcome="refused",
        reason="it has no quantiser for the files of ExLlama, which only ExLlamaV2 and ExLlamaV3 load",
        source="quantizers/auto.py:264-271, 358-361 (there is no quantiser named exl2 or exl3)",
    ),
    FormatRow(
        methods=("modelopt",),
        schemes=("fp8", "mxfp8"),
        outcome="unpacked",
        reason="it has no such quantiser: after a warning, FP8 values are cast without their scales, which gives wrong "
        "outputs",
        source=_UNKNOWN,
    ),
    FormatRow(
        methods=("modelopt", "nvfp4"),
        schemes=("nvfp4",),
        outcome="refused",
        reason="no quantiser reads packed NVFP4 weights, and their shapes do not fit the class",
        source=f"{_UNKNOWN}; core_model_loading.py:1597-1603; quantizers/quantizer_nvfp4.py:53-54",
    ),
    FormatRow(
        methods=("modelopt",),
        outcome="refused",
        reason="it has no quantiser that reads ModelOpt's packed weights",
        source=_UNKNOWN,
    ),
    FormatRow(
        methods=("compressed-tensors",),
        outcome="unpacked",
        scales_stay=True,
        reason="packed only until the first forward pass, which unpacks the whole model and keeps the scales too",
        source="quantizers/quantizer_compressed_tensors.py:47-49, 115-119; compressed_tensors 0.20, "
        "model_compressor.py:177-180, 256-279",
    ),
    FormatRow(methods=("metal",), hardware=("mps",), outcome="kept", source="quantizers/quantizer_metal.py:47-54"),
    FormatRow(
        methods=("metal",),
        outcome="unpacked",
        reason="unpacked everywhere but on MPS",
        source="quantizers/quantizer_metal.py:47-54",
    ),
    *(
        FormatRow(methods=(method,), hardware=_WITHOUT_GPU, outcome="refused", reason=reason, source=source)
        for method, reason, source in _GPU_ONLY
    ),
    FormatRow(
        methods=("eetq", "spqr", "vptq", "higgs"),
        hardware=("xpu",),
        outcome="refused",
        reason="it runs on CUDA only",
        source="quantizers/quantizer_eetq.py:49-50, quantizer_spqr.py:42-56, quantizer_vptq.py:47-48, "
        "quantizer_higgs.py:43-75",
    ),
    # --dtype: quantisation while loading
    FormatRow(
        methods=("--dtype fp8",),
        biased_experts=True,
        outcome="refused",
        source="integrations/finegrained_fp8.py:729-731",
        reason="FP8Experts does not support bias for now",
    ),
    FormatRow(methods=("--dtype fp8",), hardware=("cuda",), least=89, outcome="kept", source=_FP8),
    FormatRow(methods=("--dtype fp8",), hardware=("rocm", "xpu"), outcome="kept", source=_FP8),
    FormatRow(
        methods=("--dtype fp8",),
        hardware=("cuda",),
        outcome="unpacked",
        reason="below compute capability 8.9 the model is not quantised",
        source=_FP8,
    ),
    FormatRow(
        methods=("--dtype fp8",),
        outcome="refused",
        reason="a GPU or XPU is needed for FP8 quantization",
        source=_FP8,
    ),
    FormatRow(
        methods=("--dtype mxfp4",),
        biased_experts=True,
        outcome="kept",
        source="integrations/mxfp4.py:517-528",
    ),
    FormatRow(
        methods=("--dtype mxfp4",),
        outcome="unpacked",
        reason="Mxfp4Config quantises the experts of gpt-oss only, and warns for other models",
        source="integrations/mxfp4.py:524-535",
    ),
    FormatRow(
        methods=("--dtype nvfp4",),
        hardware=("cuda",),
        least=100,
        outcome="kept",
        source="quantizers/quantizer_nvfp4.py:61-79",
    ),
    FormatRow(
        methods=("--dtype nvfp4",),
        outcome="refused",
        reason="NVFP4 requires Blackwell (compute capability 10.0 and newer)",
        source="quantizers/quantizer_nvfp4.py:61-79",
    ),
)
"""(Format, hardware) -> outcome, for inference."""

TRAINED: Final[tuple[FormatRow, ...]] = (
    FormatRow(
        methods=("mxfp4",),
        outcome="unpacked",
        reason="MXFP4 cannot be trained, so Mxfp4Config(dequantize=True) unpacks it",
        source="quantizers/quantizer_mxfp4.py:209-213",
    ),
    *(
        FormatRow(
            methods=(method,),
            schemes=schemes,
            outcome="refused",
            reason=f"its {method} does not support training",
            source="trainer_utils.py:133-139 and is_trainable of its quantizer",
        )
        for method, schemes in (
            ("auto-round", ()),
            ("fbgemm_fp8", ()),
            ("higgs", ()),
            ("metal", ()),
            ("nvfp4", ()),
            ("quark", ()),
            ("spqr", ()),
            ("torchao", ("int4",)),
            ("vptq", ()),
        )
    ),
    *FORMATS,
)
"""The same for training: formats that cannot be trained as stored come first, then the rows for inference."""

GGUF: Final = FormatRow(
    methods=("gguf",),
    outcome="unpacked",
    reason="transformers unpacks GGUF files while it loads them",
    source="modeling_utils.py:766-789 and 838 (gguf_file), modeling_gguf_pytorch_utils.py",
)
"""GGUF files, which have no quantiser."""

_FUSED: Final = ("experts",)

RECIPES: Final[tuple[Recipe, ...]] = (
    Recipe(name="bitsandbytes", dtype="nf4", packs=everything("nf4", but=_FUSED), loads=True, source=_BNB),
    Recipe(name="bitsandbytes", dtype="int8", packs=everything("int8", but=_FUSED), loads=True, source=_BNB),
    Recipe(
        name="FineGrainedFP8Config",
        dtype="fp8",
        packs=everything("fp8 blocks"),
        multiple=128,
        conv1d=False,
        loads=True,
        source="integrations/finegrained_fp8.py:956-1006: linear modules and fused experts, except the head and "
        "matrices with a dimension that is not a multiple of 128",
    ),
    Recipe(
        name="torchao Int4WeightOnlyConfig",
        dtype="int4",
        packs=everything("int4 torchao", but=_FUSED),
        words=("torchao",),
        conv1d=False,
        loads=True,
        source="quantizers/quantizer_torchao.py:109-134; torchao 0.18, quantization/quant_api.py:548-555",
    ),
    *(
        Recipe(
            name=row.name,
            dtype=row.dtype,
            packs=tuple((part, layout) for part, layout in row.packs if part not in _FUSED),
            multiple=row.multiple,
            conv1d=row.conv1d,
            words=row.words,
            source=f"{row.source}; only nn.Linear is replaced, so fused experts stay unquantised",
        )
        for row in TOOLS
        if row.dtype == "int4" and "w4a16" not in row.words
    ),
    Recipe(
        name="Mxfp4Config",
        dtype="mxfp4",
        packs=(("experts", "mxfp4"),),
        loads=True,
        source="integrations/mxfp4.py:517-528: the experts of gpt-oss",
    ),
    Recipe(
        name="NVFP4Config",
        dtype="nvfp4",
        packs=everything("nvfp4 twice", but=_FUSED),
        multiple=16,
        biased=False,
        loads=True,
        source="integrations/nvfp4.py:111-118, 159-177: linear modules without a bias, with two copies of the scales",
    ),
)
"""What `--dtype` stands for in transformers."""
