"""Number formats: what an engine keeps, unpacks or refuses on which hardware, and what recipes leave."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import hfmem
from hfmem.engines.transformers.formats import FORMATS as TRANSFORMERS
from hfmem.engines.transformers.formats import RECIPES as OF_TRANSFORMERS
from hfmem.engines.vllm.formats import FORMATS as VLLM
from hfmem.engines.vllm.formats import RECIPES as OF_VLLM
from hfmem.estimator.weights.formats import FormatRow, row_of
from hfmem.estimator.weights.quantisers import find_quantiser, layout
from hfmem.estimator.weights.recipes import Recipe
from hfmem.hardware.detect import cpu
from hfmem.hardware.table import find
from hfmem.options.otherwise import Detail
from hfmem.units import GIB
from tests.command import run

GPT_OSS = "openai/gpt-oss-20b"
EXPERTS = "Qwen/Qwen3-30B-A3B"


def weights(model: str, **asked: Any) -> float:
    """GiB of the weights."""
    found = hfmem.estimate(model, offline=True, **asked).estimate.group("weights")
    assert found is not None
    return found / GIB


@pytest.mark.parametrize(
    ("model", "dtype", "gib"),
    [
        (EXPERTS, "nf4", 55.66),
        (EXPERTS, "int8", 56.03),
        (EXPERTS, "fp8", 29.03),
        (EXPERTS, "mxfp4", 56.87),
        ("mistralai/Mixtral-8x7B-v0.1", "nf4", 85.19),
    ],
)
def test_fused_experts_stay_where_linear_modules_alone_are_replaced(model: str, dtype: str, gib: float) -> None:
    assert weights(model, dtype=dtype) == pytest.approx(gib, abs=0.01)


def test_a_fit_counts_what_would_happen() -> None:
    done = run(EXPERTS, "--dtype", "nf4", "--gpu", "RTX 4090", "--require-fit", "--offline")
    assert done.returncode == 3
    assert "does not fit" in done.stdout
    assert "would be 16.85 GiB" in " ".join(done.stdout.split())


def test_tables_of_several_models_tell_it_too() -> None:
    several = [EXPERTS, "Qwen/Qwen3-8B", "--dtype", "nf4", "--offline"]
    for asked in (several, [*several, "--gpu", "H100"]):
        lines = " ".join(run(*asked).stdout.split())
        assert f"{EXPERTS}: --dtype nf4 with bitsandbytes leaves unquantised: the head, the experts" in lines


@pytest.mark.parametrize(
    ("model", "gpu", "gib", "fits"),
    [
        ("Qwen/Qwen3-30B-A3B-FP8", "A100 40GB", 56.87, False),
        ("Qwen/Qwen3-30B-A3B-FP8", "RTX 4090", 29.03, False),
        ("Qwen/Qwen3-30B-A3B-FP8", "H100", 29.03, True),
        ("Qwen/Qwen3-30B-A3B-FP8", "MI300X", 29.03, True),
        ("Qwen/Qwen3-30B-A3B-FP8", "M3 Max 128GB", 56.87, True),
        ("Qwen/Qwen3-30B-A3B-FP8", "40GB", 29.03, True),
        (GPT_OSS, "M3 Max 36GB", 38.96, False),
        (GPT_OSS, "T4", 12.82, False),
        (GPT_OSS, "V100 32GB", 38.96, False),
        (GPT_OSS, "RTX 4090", 12.82, True),
        (GPT_OSS, "MI300X", 12.82, True),
        ("nvidia/Llama-3.1-70B-Instruct-FP8", "H100", 131.42, False),
    ],
)
def test_what_hardware_does_not_compute_is_unpacked(model: str, gpu: str, gib: float, fits: bool) -> None:
    report = hfmem.estimate(model, gpu=(gpu,), offline=True)
    assert (report.estimate.group("weights") or 0) / GIB == pytest.approx(gib, abs=0.01)
    assert report.fits is not None
    assert report.fits[0].fits is fits


def test_without_hardware_the_unpacked_total_stands_beside() -> None:
    report = hfmem.estimate(GPT_OSS, offline=True)
    (sentence,) = report.estimate.formats
    assert "kernels, which are assumed" in sentence
    assert "38.96 GiB" in sentence
    report = hfmem.estimate("Qwen/Qwen3-30B-A3B-FP8", offline=True)
    assert any("56.87 GiB" in sentence for sentence in report.notes)


def test_no_note_contradicts_a_number() -> None:
    """Of unpacked weights no sentence says that they are kept, and the reverse."""
    for gpu, outcome, other in (("A100 40GB", "unpacked", "kept"), ("H100", "kept", "unpacked below")):
        notes = hfmem.estimate("Qwen/Qwen3-30B-A3B-FP8", gpu=(gpu,), offline=True).estimate.formats
        assert not any(other in note for note in notes), outcome


@pytest.mark.parametrize(
    ("model", "asked", "reason"),
    [
        ("nvidia/GLM-5-NVFP4", {"gpu": ("H100",)}, "no quantiser reads packed NVFP4"),
        ("Qwen/Qwen3-8B", {"gpu": ("H100",), "dtype": "nvfp4"}, "requires Blackwell"),
        ("Qwen/Qwen3-8B", {"gpu": ("M3 Max",), "dtype": "fp8"}, "a GPU or XPU is needed"),
        (GPT_OSS, {"gpu": ("T4",), "runtime": "vllm"}, "compute capability 8.0"),
        (GPT_OSS, {"gpu": ("M3 Max",), "runtime": "vllm"}, "no platform"),
        ("nvidia/MiniMax-M2.5-NVFP4", {"gpu": ("cpu",), "runtime": "vllm"}, "no kernel"),
    ],
)
def test_what_is_refused_does_not_fit_and_is_still_estimated(model: str, asked: dict[str, Any], reason: str) -> None:
    report = hfmem.estimate(model, offline=True, **asked)
    (fit,) = report.fits
    assert fit.fits is False
    assert reason in fit.refused
    assert fit.estimate is not None
    assert fit.estimate.group("weights")
    assert any(reason in note for note in report.notes)


@pytest.mark.parametrize("gpu", ["T4", "A100 40GB", "RTX 3090", "H100"])
def test_vllm_keeps_fp8_through_marlin(gpu: str) -> None:
    assert weights("Qwen/Qwen3-8B-FP8", gpu=(gpu,), runtime="vllm") < 9


def test_what_first_matches_holds() -> None:
    about = [row for row in TRANSFORMERS if row.speaks_of("fp8", "fp8", biased_experts=False)]
    found = {gpu: row_of(about, find(gpu).accelerator).outcome for gpu in ("H100", "L4", "A100", "MI210", "M2 Ultra")}
    assert found == {"H100": "kept", "L4": "kept", "A100": "unpacked", "MI210": "kept", "M2 Ultra": "unpacked"}
    about = [row for row in TRANSFORMERS if row.speaks_of("fbgemm_fp8", "fp8", biased_experts=False)]
    assert row_of(about, find("L4").accelerator).outcome == "refused"
    assert row_of(about, find("H100").accelerator).outcome == "kept"


@pytest.mark.parametrize("algorithm", ["INT4_AWQ", "W8A16", "MXFP4", "NVFP4_AWQ", "W8A8_SQ_PER_CHANNEL", "FOO"])
@pytest.mark.parametrize("gpu", [(), ("H100",), ("24GB",)], ids=str)
def test_algorithms_of_modelopt_are_refused_for_what_they_are(
    algorithm: str, gpu: tuple[str, ...], tmp_path: Path
) -> None:
    config = dict(hfmem.inspect("Qwen/Qwen3-8B", offline=True).checkpoint.config or {})
    config["quantization_config"] = {"quant_method": "modelopt", "quant_algo": algorithm}
    (tmp_path / "config.json").write_text(json.dumps(config))
    for runtime, reason in (
        ("vllm", "ModelOpt currently only supports FP8"),
        ("transformers", "quantiser that reads ModelOpt"),
    ):
        found = hfmem.estimate(str(tmp_path), gpu=gpu, offline=True, runtime=runtime)
        assert reason in found.estimate.refused


@pytest.mark.parametrize("table", [TRANSFORMERS, VLLM], ids=["transformers", "vllm"])
def test_without_hardware_no_row_is_taken_that_no_hardware_has(table: tuple[FormatRow, ...]) -> None:
    """What is taken for granted where no accelerator is named happens on one of them at least."""
    named = ("B200", "H100", "L4", "A100", "V100 32GB", "MI300X", "Max 1550", "M3 Max")
    hardware = [cpu().accelerator, *(find(name).accelerator for name in named)]
    formats = {(method, scheme) for row in table for method in row.methods for scheme in (*row.schemes, "other")}
    for method, scheme in formats:
        for biased in (False, True):
            about = [row for row in table if row.speaks_of(method, scheme, biased_experts=biased)]
            outcomes = [row_of(about, gpu) for gpu in hardware]
            taken = row_of(about, None)
            assert taken in outcomes, (method, scheme)
            assert taken.outcome != "refused" or all(row.outcome != "kept" for row in outcomes), (method, scheme)


@pytest.mark.parametrize("row", [*TRANSFORMERS, *VLLM])
def test_rows_name_their_source_and_reason(row: FormatRow) -> None:
    assert row.source
    assert row.reason or row.outcome == "kept"


@pytest.mark.parametrize("recipe", [*OF_TRANSFORMERS, *OF_VLLM], ids=lambda row: row.name)
def test_recipes_name_their_source_and_known_layouts(recipe: Recipe) -> None:
    assert recipe.source
    assert find_quantiser(recipe.dtype) is not None
    assert all(layout(name).source for _, name in recipe.packs)


@pytest.mark.parametrize(
    ("measured", "asked"),
    [
        (19.75, {"dtype": "nvfp4"}),
        (12.02, {"dtype": "nvfp4", "tp": 2}),
        (17.41, {"dtype": "int4"}),  # 18.23 in the file, of which 0.82 are prediction layers that are not loaded
    ],
)
def test_recipes_that_differ_give_a_range(measured: float, asked: dict[str, Any]) -> None:
    """Qwen3.8-27B has the layers of Qwen3.5-27B; figures of quantised checkpoints of it under vLLM."""
    report = hfmem.estimate("Qwen/Qwen3.5-27B", runtime="vllm", offline=True, **asked)
    high = (report.estimate.group("weights") or 0) / GIB
    # the figures are of files and of tensors, which the allocator does not round
    rounding = sum(term.nbytes for term in report.estimate.terms if term.name == "allocator's rounding") / GIB
    low = high - rounding - report.estimate.spared / GIB
    assert low * 0.99 <= measured <= high * 1.01
    assert 0 < report.estimate.low < report.estimate.total


def test_a_fit_within_the_range_is_neither_yes_nor_no() -> None:
    asked = {"runtime": "vllm", "dtype": "nvfp4", "offline": True, "enforce_eager": True, "max_num_seqs": 8}
    asked["language_model_only"] = True  # without its processor's files, the tower is not known
    found = {}
    for gpu in ("16GB", "24GB", "48GB"):
        (fit,) = hfmem.estimate("Qwen/Qwen3.5-27B", gpu=(gpu,), **asked).fits
        found[gpu] = fit.fits
    assert found == {"16GB": False, "24GB": None, "48GB": True}


@pytest.mark.parametrize(
    ("model", "asked", "gib"),
    [
        ("deepseek-ai/DeepSeek-V3", {"dtype": "int4", "runtime": "vllm"}, 329.3),  # 671 B parameters of 4 bits and more
        ("deepseek-ai/DeepSeek-V3", {"dtype": "fp8", "runtime": "vllm"}, 628.85),  # as stored
        ("Qwen/Qwen3-8B-FP8", {"dtype": "awq", "runtime": "vllm"}, 5.68),  # of Qwen/Qwen3-8B it is the same
        ("Qwen/Qwen3-8B", {"dtype": "awq", "runtime": "vllm"}, 5.68),
        (GPT_OSS, {"dtype": "w4a16", "runtime": "vllm"}, 11.68),  # no longer MXFP4, whose kernels pad
    ],
)
def test_a_quantised_checkpoint_is_packed_anew_by_tools(model: str, asked: dict[str, Any], gib: float) -> None:
    assert weights(model, **asked) == pytest.approx(gib, abs=0.02)


def test_loading_takes_no_other_quantiser_than_the_checkpoints() -> None:
    for runtime, reason in (
        ("transformers", "does not accept another quantization_config"),
        ("vllm", "does not match"),
    ):
        report = hfmem.estimate("Qwen/Qwen3-30B-A3B-FP8", runtime=runtime, dtype="nf4", gpu=("H100",), offline=True)
        (fit,) = report.fits
        assert fit.fits is False
        assert reason in fit.refused
        assert sum(reason in note for note in report.notes) == 1


def test_the_launch_line_makes_what_was_asked() -> None:
    lines = {}
    for dtype in ("fp8", "mxfp4", "nf4", "int8", "awq", None):
        release = "0.33" if dtype == "mxfp4" else "0.27"
        asked = {"runtime": "vllm", "vllm_version": release, "gpu": ("H100",), "offline": True}
        report = hfmem.estimate("Qwen/Qwen3-8B", dtype=dtype, **asked)
        assert report.estimate.serving is not None
        assert bool(report.estimate.serving.command) != bool(report.estimate.serving.lineless)
        lines[dtype] = (report.estimate.serving.command or "").partition(" --quantization ")[2]
    assert lines == {"fp8": "fp8", "mxfp4": "mxfp4", "nf4": "bitsandbytes", "int8": "", "awq": "", None: ""}


def test_json_has_the_range() -> None:
    from hfmem.report.result import to_result

    result = to_result(hfmem.estimate("Qwen/Qwen3.5-27B", runtime="vllm", dtype="nvfp4", offline=True))
    assert result["range"]["high"] == result["memory"]["total"] > result["range"]["low"]
    assert to_result(hfmem.estimate("Qwen/Qwen3-8B", offline=True))["range"] is None


def test_a_word_that_names_a_tool_is_one_recipe() -> None:
    for word in ("awq", "gptq", "autoround", "w4a16"):
        report = hfmem.estimate(EXPERTS, runtime="vllm", dtype=word, offline=True)
        assert report.estimate.spared == 0
        said, source = report.estimate.formats
        assert "leaves unquantised" in said
        assert isinstance(source, Detail)
        assert said not in source


def test_the_head_of_a_tied_checkpoint_is_counted_once_and_of_an_untied_one_twice() -> None:
    """The configuration decides, not the release: transformers 4.51 and 5.24 share the storage of tied heads."""
    tied = hfmem.inspect("Qwen/Qwen3-4B", offline=True)
    assert tied.architecture.tied_embeddings is True
    assert tied.parameters is not None
    assert not any(group.component == "lm_head" and group.loaded for group in tied.parameters.groups)
    untied = hfmem.inspect("Qwen/Qwen3-8B-FP8", offline=True)
    assert untied.parameters is not None
    assert any(group.component == "lm_head" and group.loaded for group in untied.parameters.groups)
