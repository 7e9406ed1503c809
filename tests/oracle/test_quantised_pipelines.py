"""Quantised denoisers: the libraries' own layers, which modules are replaced, and the lines of Python that answers
have."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")
diffusers = pytest.importorskip("diffusers")

from hfmem import estimate as estimated  # noqa: E402 - after what it needs was asked for
from hfmem.errors import UntraceableError  # noqa: E402 - after what it needs was asked for
from hfmem.estimator.weights.packed import FORMATS, RUN_DTYPE, is_packed  # noqa: E402 - after what it needs was asked for
from hfmem.probe.diffusers.measuring import model_class  # noqa: E402 - after what it needs was asked for
from tests.oracle.small_pipelines import run_lines, tiny  # noqa: E402 - after what it needs was asked for

pytestmark = [pytest.mark.oracle, pytest.mark.filterwarnings("ignore")]

OUTPUTS, INPUTS = 192, 320


def layer(name: str) -> tuple[Any, int]:
    """A linear layer of the library, and the bytes that its weight takes."""
    plain = torch.nn.Linear(INPUTS, OUTPUTS, dtype=torch.bfloat16)
    if name == "nf4":
        bitsandbytes = pytest.importorskip("bitsandbytes")
        made = bitsandbytes.nn.Linear4bit(
            INPUTS, OUTPUTS, compute_dtype=torch.bfloat16, compress_statistics=False, quant_type="nf4"
        )
        made.weight = bitsandbytes.nn.Params4bit(
            plain.weight.data, requires_grad=False, quant_type="nf4", compress_statistics=False
        )
        made.bias = plain.bias
        made = made.to("cpu")
        state = made.weight.quant_state
        return made, sum(part.untyped_storage().nbytes() for part in (made.weight.data, state.absmax, state.code))
    quantization = pytest.importorskip("torchao.quantization")
    config = {"int8": "Int8WeightOnlyConfig", "fp8": "Float8WeightOnlyConfig"}[name]
    quantization.quantize_(plain, getattr(quantization, config)())
    parts = (plain.weight.qdata, plain.weight.scale)
    return plain, sum(part.untyped_storage().nbytes() for part in parts)


@pytest.mark.parametrize("row", FORMATS, ids=lambda row: row.name)
def test_a_layer_takes_what_the_format_says(row: Any) -> None:
    assert layer(row.name)[1] == row.matrix(OUTPUTS, INPUTS)


@pytest.mark.parametrize("row", FORMATS, ids=lambda row: row.name)
def test_hooks_move_what_is_a_parameter(row: Any) -> None:
    """`enable_sequential_cpu_offload` calls accelerate's `cpu_offload`."""
    accelerate = pytest.importorskip("accelerate")
    whole = torch.nn.Sequential(layer(row.name)[0])
    given = torch.randn(4, INPUTS, dtype=torch.bfloat16)
    expected = whole(given)

    def moved() -> Any:
        accelerate.cpu_offload(whole, torch.device("cpu"))
        return whole(given)

    if row.sequential:
        assert torch.equal(moved(), expected)
        return
    with pytest.raises(NotImplementedError, match="meta tensor"):
        moved()


@pytest.mark.parametrize(
    ("model", "name"),
    [
        ("black-forest-labs/FLUX.1-dev", "transformer"),
        ("Wan-AI/Wan2.1-T2V-1.3B-Diffusers", "transformer"),
        ("PixArt-alpha/PixArt-Sigma-XL-2-1024-MS", "transformer"),
        ("zai-org/CogVideoX-5b", "transformer"),
        ("Tongyi-MAI/Z-Image-Turbo", "transformer"),
        ("stabilityai/stable-diffusion-xl-base-1.0", "unet"),
    ],
)
def test_linear_layers_are_what_is_quantised(model: str, name: str) -> None:
    found = estimated(model, dtype="nf4", offline=True).model.pipeline
    assert found is not None
    component = found.find(name)
    assert component is not None
    assert component.parameters is not None
    cls = model_class(component.class_name)
    with torch.device("meta"):
        real = cls.from_config(dict(component.config))
    kept = tuple(getattr(cls, "_keep_in_fp32_modules", None) or ())
    expected = sum(
        module.weight.numel()
        for path, module in real.named_modules()
        if isinstance(module, torch.nn.Linear) and not any(part in path.split(".") for part in kept)
    )
    packed = sum(group.elements for group in component.parameters.groups if is_packed(group))
    assert packed == expected
    assert RUN_DTYPE == "bfloat16"


def test_the_lines_to_copy_quantise(tmp_path: Path) -> None:
    pytest.importorskip("torchao")
    tiny(tmp_path / "sd")
    report = estimated(str(tmp_path / "sd"), height=32, width=32, dtype="fp8")
    names = run_lines(report)
    assert len(names["made"].images) == 1
    weights = [each.weight for each in names["pipe"].unet.modules() if isinstance(each, torch.nn.Linear)]
    assert {type(weight).__name__ for weight in weights} == {"Float8Tensor"}
    assert {parameter.dtype for parameter in names["pipe"].vae.parameters()} == {torch.bfloat16}


def test_the_lines_for_nf4_are_a_config_of_the_library() -> None:
    """They load on a GPU only."""
    pytest.importorskip("bitsandbytes")
    report = estimated("black-forest-labs/FLUX.1-dev", dtype="nf4", offline=True)
    serving = report.estimate.serving
    assert serving is not None
    assert serving.command is not None
    names: dict[str, Any] = {}
    lines = serving.command.splitlines()
    exec("\n".join(lines[: next(n for n, line in enumerate(lines) if line.startswith("pipe ="))]), names)
    config = names["quantised"].quant_mapping["transformer"]
    assert (config.load_in_4bit, config.bnb_4bit_quant_type, config.bnb_4bit_use_double_quant) == (True, "nf4", False)


def test_pipelines_are_traced_but_not_quantised_ones(tmp_path: Path) -> None:
    tiny(tmp_path / "sd")
    plain = estimated(str(tmp_path / "sd"), height=64, width=64, trace=True)
    assert plain.trace is not None
    assert plain.trace.phase in ("denoise", "vae_decode")
    with pytest.raises(UntraceableError):
        estimated(str(tmp_path / "sd"), height=64, width=64, dtype="fp8", trace=True)
