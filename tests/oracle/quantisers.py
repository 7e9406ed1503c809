"""What real libraries make of matrices when they quantise, and which matrices of a model they take.

    python -m tests.oracle.quantisers        writes fixtures/oracle/quantisers.json

`layouts`: a matrix that a library packed on the processor, and the bytes of each tensor it is stored in. `recipes`: how
many parameters a library's own walk over a model of the bundled catalog (the class on the meta device) packs. What
needs a package that is not installed here stays as it was recorded.
"""

from __future__ import annotations

import json
import logging
import warnings
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from importlib.metadata import version
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Final
from unittest.mock import patch

import torch
from torch import nn

TARGET: Final = Path(__file__).parents[2] / "fixtures" / "oracle" / "quantisers.json"

SHAPES: Final = ((512, 1024), (256, 384), (1024, 640))
"""Outputs and inputs."""

MODELS: Final = ("Qwen/Qwen3-0.6B", "openai-community/gpt2", "Qwen/Qwen3-30B-A3B", "Qwen/Qwen3.5-27B")
GPT_OSS: Final = "openai/gpt-oss-20b"

Parts = dict[str, list[Any]]


def versions() -> dict[str, str]:
    """Of the packages that are installed."""
    found = {}
    for name in ("torch", "transformers", "bitsandbytes", "compressed-tensors", "torchao", "nvidia-modelopt"):
        try:
            found[name] = version(name)
        except ImportError:
            continue
    return found


# --- how a matrix is packed ------------------------------------------------------------------------------------------


def layouts() -> dict[str, tuple[str, Callable[[torch.Tensor], Mapping[str, torch.Tensor]]]]:
    """The packers that are installed, by their names: the layout's name, and the tensors that they make of a matrix."""
    found: dict[str, tuple[str, Callable[[torch.Tensor], Mapping[str, torch.Tensor]]]] = {
        "transformers FP8Linear, blocks of 128": ("fp8 blocks", lambda matrix: _fp8_linear(matrix, (128, 128))),
        "transformers FP8Linear": ("fp8 tensors", lambda matrix: _fp8_linear(matrix, None)),
    }
    if "bitsandbytes" in versions():
        found["bitsandbytes Int8Params"] = ("int8", _int8)
        found["bitsandbytes quantize_4bit"] = ("nf4", _nf4)
    if "compressed-tensors" in versions():
        for scheme, layout in _SCHEMES.items():
            found[f"compressed-tensors {scheme}"] = (
                layout,
                partial(_compressed, scheme=scheme),
            )
    if "torchao" in versions():
        found["torchao PrototypeInt4WeightOnlyConfig"] = ("int4 torchao", _torchao)
    return found


_SCHEMES: Final = {
    "W8A8": "int8",
    "FP8_DYNAMIC": "fp8",
    "FP8": "fp8 tensors",
    "FP8_BLOCK": "fp8 blocks",
    "W4A16": "int4 symmetric",
    "W4A16_ASYM": "int4",
    "MXFP4": "mxfp4",
    "NVFP4": "nvfp4",
}
"""Presets of compressed-tensors, and what they are here."""


def parts(made: Mapping[str, torch.Tensor]) -> Parts:
    """Dtype and bytes of each tensor; scales of activations, and shapes that are written out, are not the matrix's."""
    return {
        name: [str(tensor.dtype).removeprefix("torch."), tensor.numel() * tensor.element_size()]
        for name, tensor in made.items()
        if not name.startswith("input_") and name != "weight_shape"
    }


def _fp8_linear(matrix: torch.Tensor, block: tuple[int, int] | None) -> Mapping[str, torch.Tensor]:
    from transformers.integrations.finegrained_fp8 import FP8Linear

    outputs, inputs = matrix.shape
    with torch.device("meta"):
        return dict(FP8Linear(inputs, outputs, block_size=block).named_parameters())


def _int8(matrix: torch.Tensor) -> Mapping[str, torch.Tensor]:
    import bitsandbytes

    made = bitsandbytes.nn.Int8Params(matrix.half(), requires_grad=False, has_fp16_weights=False).to("cpu")
    return {"weight": made.data, "SCB": made.SCB}


def _nf4(matrix: torch.Tensor) -> Mapping[str, torch.Tensor]:
    from bitsandbytes.functional import quantize_4bit

    packed, state = quantize_4bit(matrix, blocksize=64, quant_type="nf4", compress_statistics=False)
    return {"weight": packed, "absmax": state.absmax}  # the code of 16 values is one for all


def _compressed(matrix: torch.Tensor, scheme: str) -> Mapping[str, torch.Tensor]:
    from compressed_tensors.compressors.model_compressors import ModelCompressor

    outputs, inputs = matrix.shape
    linear = nn.Linear(inputs, outputs, bias=False, dtype=matrix.dtype)
    linear.weight = nn.Parameter(matrix)
    whole = nn.Sequential(linear)
    _applied(whole, scheme, ())
    compressor = ModelCompressor.from_pretrained_model(whole)
    assert compressor is not None
    compressor.compress_model(whole)
    return dict(whole[0].named_parameters()) | dict(whole[0].named_buffers())


def _applied(model: nn.Module, scheme: str, ignored: tuple[str, ...]) -> None:
    from compressed_tensors.quantization import QuantizationConfig, apply_quantization_config, preset_name_to_scheme

    group = preset_name_to_scheme(scheme, ["Linear"])
    apply_quantization_config(model, QuantizationConfig(config_groups={"group_0": group}, ignore=list(ignored)))


def _torchao(matrix: torch.Tensor) -> Mapping[str, torch.Tensor]:
    from torchao.prototype.quantization.int4 import PrototypeInt4WeightOnlyConfig
    from torchao.quantization import quantize_

    outputs, inputs = matrix.shape
    whole = nn.Sequential(nn.Linear(inputs, outputs, bias=False, dtype=matrix.dtype))
    quantize_(whole, PrototypeInt4WeightOnlyConfig(group_size=128))
    weight: Any = whole[0].weight
    return {name: getattr(weight, name) for name in weight.tensor_data_names}


# --- which matrices are packed ---------------------------------------------------------------------------------------


def walks() -> dict[tuple[str, str], Callable[[str], int]]:
    """Name and dtype of each recipe whose library is installed, and how it counts what it packs of a model."""
    found: dict[tuple[str, str], Callable[[str], int]] = {
        ("FineGrainedFP8Config", "fp8"): _fine_grained,
        ("Mxfp4Config", "mxfp4"): _mxfp4,
        ("NVFP4Config", "nvfp4"): _nvfp4,
    }
    if "bitsandbytes" in versions():
        found["bitsandbytes", "nf4"] = lambda name: _bitsandbytes(name, load_in_4bit=True)
        found["bitsandbytes", "int8"] = lambda name: _bitsandbytes(name, load_in_8bit=True)
    if "torchao" in versions():
        found["torchao Int4WeightOnlyConfig", "int4"] = _torchao_walk
    if "compressed-tensors" in versions():
        for recipe, scheme, dtype in (
            ("compressed-tensors NVFP4", "NVFP4", "nvfp4"),
            ("compressed-tensors W4A16", "W4A16", "int4"),
            ("compressed-tensors FP8_DYNAMIC", "FP8_DYNAMIC", "fp8"),
            ("compressed-tensors W8A8", "W8A8", "int8"),
        ):
            found[recipe, dtype] = partial(_targets, scheme=scheme)
    if "nvidia-modelopt" in versions():
        found["ModelOpt NVFP4", "nvfp4"] = lambda name: _modelopt(name, "NVFP4_DEFAULT_CFG")
        found["ModelOpt FP8", "fp8"] = lambda name: _modelopt(name, "FP8_DEFAULT_CFG")
    return found


def models_of(recipe: str) -> tuple[str, ...]:
    """The models that a recipe is asked about: tools that write files take fused experts apart first, not so here."""
    if recipe == "Mxfp4Config":
        return (GPT_OSS,)
    writes = recipe.startswith(("compressed-tensors", "ModelOpt"))
    return tuple(name for name in MODELS if not (writes and "A3B" in name))


def on_meta(name: str) -> Any:
    """The class of a model of the catalog."""
    import transformers

    from hfmem import inspect
    from hfmem.probe import tiny
    from hfmem.probe.parameters import model_class

    config = dict(inspect(name, offline=True).checkpoint.config or {})
    config = {key: value for key, value in config.items() if key not in ("quantization_config", "auto_map")}
    with torch.device("meta"):
        found = getattr(transformers, model_class(config).__name__)(tiny.build(config))
    found.tie_weights()
    return found


def _weights(modules: Iterator[nn.Module]) -> int:
    return sum(module.weight.numel() for module in modules)


def _bitsandbytes(name: str, **asked: bool) -> int:
    from bitsandbytes.nn import Linear4bit, Linear8bitLt
    from transformers import BitsAndBytesConfig
    from transformers.integrations.bitsandbytes import replace_with_bnb_linear
    from transformers.quantizers.base import get_keys_to_not_convert

    model = on_meta(name)
    made = replace_with_bnb_linear(
        model, modules_to_not_convert=get_keys_to_not_convert(model), quantization_config=BitsAndBytesConfig(**asked)
    )
    return _weights(module for module in made.modules() if isinstance(module, Linear4bit | Linear8bitLt))


def _fine_grained(name: str) -> int:
    from transformers import FineGrainedFP8Config
    from transformers.integrations.finegrained_fp8 import Fp8Quantize, replace_with_fp8_linear
    from transformers.quantizers.base import get_keys_to_not_convert

    model = on_meta(name)
    config = FineGrainedFP8Config()
    replace_with_fp8_linear(model, modules_to_not_convert=get_keys_to_not_convert(model), quantization_config=config)
    quantise = Fp8Quantize(SimpleNamespace(quantization_config=config))
    packed = 0
    for key, parameter in model.named_parameters():
        if (
            parameter.dtype == torch.float8_e4m3fn
        ):  # what is loaded there, which stays as it is where 128 divides no side
            plain = torch.empty(parameter.shape, dtype=torch.bfloat16, device="meta")
            packed += parameter.numel() * (quantise.convert({key: plain})[key].dtype == torch.float8_e4m3fn)
    return packed


def _torchao_walk(name: str) -> int:
    from torchao.quantization import Int4WeightOnlyConfig
    from transformers import TorchAoConfig
    from transformers.quantizers.base import get_keys_to_not_convert
    from transformers.quantizers.quantizer_torchao import TorchAoHfQuantizer

    model = on_meta(name)
    quantizer = TorchAoHfQuantizer(TorchAoConfig(Int4WeightOnlyConfig(group_size=128)))
    quantizer.modules_to_not_convert = get_keys_to_not_convert(model)
    found = model.named_parameters()
    return sum(p.numel() for key, p in found if quantizer.param_needs_quantization(model, key))


def _mxfp4(name: str) -> int:
    from transformers import Mxfp4Config
    from transformers.integrations import hub_kernels, mxfp4

    with patch.object(hub_kernels, "get_kernel", lambda *_, **__: None):  # which runs them, on a GPU
        model = mxfp4.replace_with_mxfp4_linear(on_meta(name), quantization_config=Mxfp4Config())
    experts = [module for module in model.modules() if isinstance(module, mxfp4.Mxfp4GptOssExperts)]
    return sum(2 * p.numel() for module in experts for p in module.parameters() if p.dtype == torch.uint8)


def _nvfp4(name: str) -> int:
    from transformers.integrations import nvfp4
    from transformers.quantizers.base import get_keys_to_not_convert

    kernel = SimpleNamespace(swizzled_sf_shape=lambda *_: (1, 1))  # where scales lie is a kernel's business, for a GPU
    model = on_meta(name)
    with patch.object(nvfp4, "load_nvfp4_kernel", lambda: kernel):
        nvfp4.replace_with_nvfp4_linear(model, modules_to_not_convert=get_keys_to_not_convert(model))
    return _weights(module for module in model.modules() if isinstance(module, nvfp4.NVFP4Linear))


def _targets(name: str, scheme: str) -> int:
    model = on_meta(name)
    _applied(model, scheme, ("lm_head", "re:.*mlp.gate$", "re:.*visual.*"))
    return _weights(module for module in model.modules() if getattr(module, "quantization_scheme", None) is not None)


def _modelopt(name: str, config: str) -> int:
    import modelopt.torch.quantization as modelopt

    model = on_meta(name)
    try:
        modelopt.quantize(model, getattr(modelopt, config), forward_loop=None)
    except RuntimeError as error:
        if "no weight quantizer is enabled" not in str(error):
            raise
    return _weights(
        module
        for module in model.modules()
        if getattr(module, "weight", None) is not None and getattr(_quantizer(module), "is_enabled", False)
    )


def _quantizer(module: nn.Module) -> Any:
    return dict(module.named_children()).get("weight_quantizer")


# --- record ----------------------------------------------------------------------------------------------------------


def measured_layouts() -> list[dict[str, Any]]:
    """A row a packer and shape."""
    rows = []
    for by, (layout, pack) in layouts().items():
        for shape in SHAPES:
            torch.manual_seed(0)
            made = parts(pack(torch.randn(shape, dtype=torch.bfloat16)))
            rows.append({"layout": layout, "by": by, "shape": list(shape), "parts": made})
    return rows


def measured_recipes() -> list[dict[str, Any]]:
    """A row a recipe and model."""
    return [
        {"recipe": recipe, "dtype": dtype, "model": model, "packed": walk(model)}
        for (recipe, dtype), walk in walks().items()
        for model in models_of(recipe)
    ]


def main() -> None:
    """Measure and write."""
    logging.disable(logging.WARNING)
    warnings.simplefilter("ignore")
    known = json.loads(TARGET.read_text(encoding="utf-8")) if TARGET.exists() else {}
    layout_rows, recipe_rows = measured_layouts(), measured_recipes()
    now = {row["by"] for row in layout_rows}, {(row["recipe"], row["dtype"]) for row in recipe_rows}
    layout_rows += [row for row in known.get("layouts", ()) if row["by"] not in now[0]]
    recipe_rows += [row for row in known.get("recipes", ()) if (row["recipe"], row["dtype"]) not in now[1]]
    head = {"tool": "python -m tests.oracle.quantisers", "versions": known.get("versions", {}) | versions()}
    lines = {
        key: ",\n".join(f"  {json.dumps(row)}" for row in rows)
        for key, rows in (("layouts", layout_rows), ("recipes", recipe_rows))
    }
    body = ", ".join(f'"{key}": [\n{text}\n]' for key, text in lines.items())
    TARGET.write_text(f"{json.dumps(head)[:-1]}, {body}}}\n", encoding="utf-8")
    print(f"{len(layout_rows)} layouts, {len(recipe_rows)} recipes")


if __name__ == "__main__":
    main()
