"""Pipelines whose denoiser is quantised while it is loaded: readings, arithmetic by hand, and what is refused."""

from __future__ import annotations

import pytest

from hfmem import estimate
from hfmem.refusals.quantised import PipelineQuantisationError
from hfmem.units import GIB

FLUX = "black-forest-labs/FLUX.1-dev"

# GiB that torch.cuda.memory_allocated tells after loading (H100 and A100; sayakpaul/diffusers-torchao, README.md): the
# transformer by torchao, what else there is in bfloat16
LOADED = [
    (FLUX, "int8", 20.385),
    (FLUX, "fp8", 20.363),
]


@pytest.mark.parametrize(("model", "dtype", "read"), LOADED)
def test_weights_are_near_readings(model: str, dtype: str, read: float) -> None:
    found = estimate(model, dtype=dtype, offline=True).estimate
    assert found.group("weights") == pytest.approx(read * GIB, rel=0.005)


def test_a_reading_is_in_the_range() -> None:
    """max_memory_allocated of eight images, which quantising before does not reach: 36.434 GiB."""
    found = estimate(FLUX, dtype="fp8", batch=8, offline=True).estimate
    context = sum(term.nbytes for term in found.terms if not term.allocated)
    assert found.peak_phase == "vae_decode"
    assert found.low - context < 36.434 * GIB < found.total - context


def test_nf4_by_hand() -> None:
    """FLUX.1: 11,901,408,320 parameters, of which biases, norms of heads and nothing else are no linear weight."""
    found = estimate(FLUX, dtype="nf4", offline=True).estimate
    own = next(term for term in found.terms if term.name == "transformer")
    width, mlp = 3072, 12_288
    double = 2 * 6 * width + 8 * width + 2 * (mlp + width) + 4 * 128  # modulation, attention, two MLPs, norms
    single = 3 * width + 3 * width + mlp + width + 2 * 128
    outside = width * (2 + 2 + 2 + 1 + 1) + 2 * width + 64  # three embedders of two layers, two of one; the end
    plain = 19 * double + 38 * single + outside
    packed = 11_901_408_320 - plain
    matrices = 19 * (2 + 8 + 4) + 38 * (1 + 3 + 2) + 3 * 2 + 2 + 2
    assert own.nbytes == packed // 2 + packed // 64 * 4 + 64 * matrices + 2 * plain


def test_the_largest_layer_bounds_the_network() -> None:
    """Beside the network's call as it is in bfloat16: a copy of the largest weight, 18432 x 3072, by the formats' own
    arithmetic (NF4 one in bfloat16, float8 two in float32 as well)."""
    plain = estimate(FLUX, dtype="bfloat16", offline=True).estimate
    for dtype, each in (("nf4", 2), ("fp8", 10)):
        found = estimate(FLUX, dtype=dtype, offline=True).estimate
        more = [
            sum(term.nbytes for term in phase.terms if term.group == "activations")
            for one in (found, plain)
            for phase in one.phases
            if phase.name == "denoise"
        ]
        assert more[0] - more[1] == each * 18_432 * 3072


def test_both_denoisers_are_quantised_and_the_lines_say_so() -> None:
    found = estimate("Wan-AI/Wan2.2-T2V-A14B-Diffusers", dtype="nf4", offline=True).estimate
    own = {term.name: term.nbytes for term in found.terms if term.group == "weights"}
    assert own["transformer"] == own["transformer_2"] < 14_288_491_584 * 0.6
    assert found.serving is not None
    assert found.serving.command is not None
    assert '"transformer": BitsAndBytesConfig(' in found.serving.command
    assert '"transformer_2": BitsAndBytesConfig(' in found.serving.command
    assert "torch_dtype=torch.bfloat16, quantization_config=quantised" in found.serving.command


@pytest.mark.parametrize(
    ("model", "asked", "why"),
    [
        (FLUX, {"dtype": "int4"}, "format"),
        (FLUX, {"dtype": "mxfp4"}, "format"),
        (FLUX, {"dtype": "nf4", "offload": "sequential"}, "offload"),
        (FLUX, {"dtype": "nf4", "offload": "group"}, "offload"),
        ("stabilityai/stable-diffusion-xl-base-1.0", {"dtype": "int8"}, "convolutions"),
    ],
)
def test_what_is_not_covered_is_refused(model: str, asked: dict[str, str], why: str) -> None:
    with pytest.raises(PipelineQuantisationError) as caught:
        estimate(model, offline=True, **asked)
    assert caught.value.why == why


@pytest.mark.parametrize("offload", ["model", "sequential", "group"])
def test_torchao_goes_with_every_way_of_offloading(offload: str) -> None:
    found = estimate(FLUX, dtype="int8", offload=offload, offline=True).estimate
    assert found.total < estimate(FLUX, dtype="int8", offline=True).estimate.total
