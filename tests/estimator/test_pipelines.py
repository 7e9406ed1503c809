"""Pipelines of diffusers: what calls of their components take, held against calls recorded elsewhere and by hand."""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from hfmem import HfmemError, estimate
from hfmem.engines.diffusers.calls import Call, Taken, rows, taken, unmeasured
from hfmem.engines.diffusers.decoding import Coder, tiling
from hfmem.engines.diffusers.pipelines import defaults_of, denoised, scale_of
from hfmem.mapper.pipelines.values import Component, Kind, Pipeline

ROOT = Path(__file__).parents[2]

WITHIN = {"denoise": 0.005, "decode": 0.01, "text": 0.25}
"""How far a call may be off, by stage; videos' VAEs 5 %. Text encoders take little beside their weights, and T5 takes
something else in float16, where it keeps a part in float32."""
TABLES = 5 << 20
"""Bytes of tables of positions, which the recording has for the first call only."""
VIDEO = 0.05


def component(name: str, config: dict[str, Any] | None = None, kind: Kind = "denoiser") -> Component:
    return Component(name="it", kind=kind, library="diffusers", class_name=name, config=config or {})


@cache
def recorded() -> dict[str, Any]:
    found: dict[str, Any] = json.loads((ROOT / "fixtures" / "oracle" / "pipeline_calls.json").read_text())
    return found


def measured() -> Iterator[dict[str, Any]]:
    """The recorded calls of classes and configs that the table has."""
    yield from (row for row in recorded()["rows"] if rows(row["class"]) and of(row) is not None)


def of(row: dict[str, Any]) -> Taken | None:
    batch, height, width, frames, text = row["call"]
    call = Call(batch=batch, height=height, width=width, frames=frames, text=text)
    single, stage = row["dtype"] == "float32", row["of"].split()[1]
    kind: Kind = "text_encoder" if stage == "text" else "vae" if stage == "decode" else "denoiser"
    subject = component(row["class"], recorded()["configs"][row["of"]], kind)
    if stage != "decode":
        return taken(subject, call, single=single)
    coder = Coder(
        vae=subject,
        single=single,
        method="decode",
        tiles=tiling(subject, scale_of(subject)),
        tiled=row["variant"] == "tiling",
        sliced=row["variant"] == "slicing",
    )
    return coder.taken(call)


def allowed(row: dict[str, Any]) -> float:
    stage = row["of"].split()[1]
    return VIDEO if stage == "decode" and row["call"][3] > 1 else WITHIN[stage]


def test_calls_are_as_recorded() -> None:
    """None of these calls was fitted: the probe's own are small, and of other configs."""
    off = {}
    count = 0
    for row in measured():
        count += 1
        found = of(row)
        error = 1.0 if found is None else abs(found.peak / row["peak"] - 1)
        near = found is not None and abs(found.peak - row["peak"]) < TABLES
        if error > allowed(row) and not near:
            off[f"{row['of']} {row['dtype']} {row['call']} {row['variant']}"] = round(100 * error, 2)
    assert count > 250
    assert off == {}


def test_a_call_of_flux_by_hand() -> None:
    """In the single blocks, 17 numbers of the hidden size for each token: at 1024 × 1024, 4096 of the image and 512."""
    found = taken(
        component("FluxTransformer2DModel", {"guidance_embeds": True}),
        Call(batch=1, height=128, width=128, text=512),
        single=False,
    )
    assert found is not None
    hidden, tokens = 3072, 4096 + 512
    assert found.peak == pytest.approx(34 * hidden * tokens, rel=0.02)
    assert found.certainty == "measured"
    assert found.outputs == 4096 * 64 * 2
    half = taken(
        component("FluxTransformer2DModel", {"num_attention_heads": 12}),
        Call(batch=1, height=128, width=128, text=512),
        single=False,
    )
    assert half is not None
    assert half.peak == pytest.approx(34 * hidden // 2 * tokens, rel=0.03)


def test_an_unknown_class_is_not_measured() -> None:
    assert taken(component("NobodysTransformer2DModel"), Call(batch=1), single=False) is None


def test_another_structure_is_not_guessed() -> None:
    """It may take much more or less than what was measured."""
    vae = component("AutoencoderKL", {"block_out_channels": [128, 256]}, "vae")
    assert taken(vae, Call(batch=1, height=64, width=64), single=False, method="decode") is None
    assert "block_out_channels" in unmeasured(vae, "decode")


def test_text_encoders_are_told_by_the_nearest() -> None:
    encoder = component("T5EncoderModel", {"d_model": 512, "num_heads": 6, "d_ff": 1024}, "text_encoder")
    found = taken(encoder, Call(batch=1, text=64), single=False)
    assert found is not None
    assert found.certainty == "typical"


_FLUX_VAE = {
    "block_out_channels": [128, 256, 512, 512],
    "down_block_types": ["DownEncoderBlock2D"] * 4,
    "up_block_types": ["UpDecoderBlock2D"] * 4,
    "layers_per_block": 2,
    "latent_channels": 16,
    "sample_size": 1024,
    "use_quant_conv": False,
    "use_post_quant_conv": False,
}


def decoded(call: Call, *, tiled: bool = False, sliced: bool = False) -> Taken:
    vae = component("AutoencoderKL", _FLUX_VAE, "vae")
    coder = Coder(vae=vae, single=False, method="decode", tiles=tiling(vae, (8, 1)), tiled=tiled, sliced=sliced)
    found = coder.taken(call)
    assert found is not None
    return found


def test_tiles_do_nothing_up_to_their_size_and_bound_the_peak_above() -> None:
    small, large = Call(batch=1, height=128, width=128), Call(batch=1, height=256, width=256)
    assert decoded(small, tiled=True) == decoded(small)
    kept = (1024 * 1024 * 3 + 1024 * 512) * 3 * 2  # the tiles before the last whole one
    assert decoded(large, tiled=True).peak == decoded(small).peak + kept
    assert decoded(large).peak == 4 * decoded(small).peak


def test_slices_keep_what_is_decoded() -> None:
    one, four = decoded(Call(batch=1, height=64, width=64)), decoded(Call(batch=4, height=64, width=64), sliced=True)
    assert four.peak == one.peak + 3 * 512 * 512 * 3 * 2
    assert four.outputs == 4 * one.outputs


@pytest.mark.parametrize(
    ("name", "sizes", "guided", "networks", "text"),
    [
        ("FluxPipeline", (1024, 1024, None), False, 1, 512),
        ("StableDiffusionXLPipeline", (1024, 1024, None), True, 2, 77),
        ("WanPipeline", (480, 832, 81), True, 1, 512),
        ("LTXPipeline", (512, 704, 161), True, 2, 128),
        ("HunyuanVideoPipeline", (720, 1280, 129), False, 1, 256),
        ("StableDiffusion3Pipeline", (1024, 1024, None), True, 2, 333),
    ],
)
def test_defaults_of_pipelines(
    name: str, sizes: tuple[int, int, int | None], guided: bool, networks: int, text: int
) -> None:
    vae = component("AutoencoderKL", {"block_out_channels": [128, 256, 512, 512]}, "vae")
    encoder = component("CLIPTextModel", kind="text_encoder")
    unet = component("UNet2DConditionModel", {"sample_size": 128})
    found = defaults_of(Pipeline(class_name=name, components=(encoder, unet, vae)))
    assert (found.height, found.width, found.frames) == sizes
    assert (found.guided, found.networks, found.text) == (guided, networks, text)
    assert found.known


def test_frames_are_padded_to_whole_patches() -> None:
    """CogVideoX 1.5 patches two frames of latents: of 81 frames 21 of latents become 22 (pipeline_cogvideox.py)."""
    model = "zai-org/CogVideoX1.5-5B"
    several = [
        next(
            phase
            for phase in estimate(model, num_frames=frames, offline=True).estimate.phases
            if phase.name == "denoise"
        )
        for frames in (81, 85, 89)
    ]
    first, second, third = (sum(term.nbytes for term in phase.terms) for phase in several)
    assert first == second < third


_HIDREAM = {
    "patch_size": 2,
    "in_channels": 16,
    "caption_channels": [4096, 4096],
    "axes_dims_rope": [64, 32, 32],
    "max_resolution": [128, 128],
    "llama_layers": [*range(32), *[31] * 16],
}


def test_hidream_pads_what_is_not_square() -> None:
    """To the tokens of its largest latents, which are square (`patchify` of its class)."""
    one, vae = component("HiDreamImageTransformer2DModel", _HIDREAM), component("AutoencoderKL", _FLUX_VAE, "vae")
    assert denoised(one, (768, 1360, None), vae) == (128, 128, 1)
    assert denoised(one, (512, 512, None), vae) == (64, 64, 1)
    other = component("FluxTransformer2DModel")
    assert denoised(other, (768, 1360, None), vae) == (96, 170, 1)
    found = taken(one, Call(batch=2, height=128, width=128, text=128), single=False)
    assert found is not None
    assert found.certainty == "measured"


def test_attention_with_a_mask_of_all_by_all_grows_with_the_square() -> None:
    """OmniGen's mask is in bfloat16 beside the float32 that it is made from: 2 and 4 bytes for each pair of tokens, and
    4 more while it is scaled."""
    config = {"rope_scaling": {"type": "su"}}
    one = component("OmniGenTransformer2DModel", config)
    tokens = [64 * 64 // 4, 128 * 128 // 4]
    peaks = [taken(one, Call(batch=2, height=side, width=side, text=0), single=False) for side in (64, 128)]
    assert all(found is not None for found in peaks)
    small, large = (found.peak for found in peaks if found is not None)
    assert large > 4 * small
    assert large - 4 * small == pytest.approx(2 * 2 * (tokens[1] ** 2 - 4 * tokens[0] ** 2), rel=0.1)


def test_older_releases_have_their_own_classes() -> None:
    """CogVideoX's VAE took less before 0.31, up to a size above which it cut its convolutions."""
    vae = component("AutoencoderKLCogVideoX", {"latent_channels": 16}, "vae")
    call = Call(batch=1, height=60, width=90, frames=13)
    of_0_30, of_0_31, newest = (
        taken(vae, call, single=False, method="decode", release=release) for release in ((0, 30), (0, 31), None)
    )
    assert of_0_30 is not None
    assert of_0_31 is not None
    assert newest is not None
    assert of_0_31 == newest
    assert newest.peak == pytest.approx(1.3 * of_0_30.peak, rel=0.01)
    larger = Call(batch=1, height=96, width=170, frames=13)
    assert taken(vae, larger, single=False, method="decode", release=(0, 30)) is None
    assert "5,760 latent pixels" in unmeasured(vae, "decode", (0, 30))
    assert taken(vae, larger, single=False, method="decode") is not None


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"dtype": "fp8"}, "does not have a quantised --dtype: 0.36 is the first that does"),
        ({"offload": "group"}, "does not have --offload group: 0.36 is the first that does"),
    ],
)
def test_older_releases_do_not_have_everything(options: dict[str, Any], said: str) -> None:
    with pytest.raises(HfmemError, match=said):
        estimate("zai-org/CogVideoX-5b", diffusers_version="0.35", offline=True, **options)


def test_dtypes_of_older_releases_are_set_after_loading() -> None:
    """`from_pretrained` takes a dict of them since 0.33."""
    old, new = (
        estimate("stabilityai/stable-diffusion-3.5-large", diffusers_version=version, offline=True).estimate.serving
        for version in ("0.32", "0.33")
    )
    assert old is not None
    assert new is not None
    assert "torch_dtype=torch.float16)\npipe.transformer.to(torch.bfloat16)\npipe.vae.to(torch.bfloat16)" in str(
        old.command
    )
    assert '{"transformer": torch.bfloat16, "vae": torch.bfloat16, "default": torch.float16}' in str(new.command)


def test_what_rises_in_stairs_is_never_too_low() -> None:
    """Mochi's VAE, which cuts convolutions of more than 2 GiB."""
    found = [row for row in recorded()["rows"] if row["of"] == "mochi decode AutoencoderKLMochi"]
    assert {row["variant"] for row in found} == {"", "tiling", "slicing"}
    for row in found:
        one = of(row)
        assert one is not None
        assert 0.999 < one.peak / row["peak"] < VIDEO + 1


def test_segments_of_wan_animate_are_measured_where_the_video_takes_more_than_the_faces() -> None:
    one = component("WanAnimateTransformer3DModel", {"added_kv_proj_dim": 5120, "num_layers": 40})
    found = taken(one, Call(batch=1, height=90, width=160, frames=20, text=512), single=False)
    assert found is not None
    assert found.certainty == "measured"
    assert found.outputs == 2 * 16 * 90 * 160 * 21  # a frame of the character before the 20 latent ones
    assert taken(one, Call(batch=1, height=32, width=32, frames=20, text=512), single=False) is None
    assert "above 30,000 latent pixels" in unmeasured(one)
