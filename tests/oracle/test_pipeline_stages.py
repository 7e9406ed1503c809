"""Pipelines of diffusers: the real classes under fake tensors, and the lines of Python that answers have."""

from __future__ import annotations

import inspect
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")
diffusers = pytest.importorskip("diffusers")

from torch._subclasses.fake_tensor import FakeTensorMode  # noqa: E402 - after what it needs was asked for

from hfmem import estimate as estimated  # noqa: E402 - after what it needs was asked for
from hfmem.engines.diffusers.calls import Call, taken  # noqa: E402 - after what it needs was asked for
from hfmem.mapper.pipelines.values import Component, Kind  # noqa: E402 - after what it needs was asked for
from hfmem.probe.diffusers import __main__ as probe  # noqa: E402 - after what it needs was asked for
from hfmem.probe.diffusers.fitting import Call as Made  # noqa: E402 - after what it needs was asked for
from hfmem.probe.diffusers.measuring import call_class, defaults, model_class  # noqa: E402 - after what it needs was asked for
from hfmem.probe.diffusers.recipes import DENOISERS, VAES  # noqa: E402 - after what it needs was asked for
from hfmem.probe.diffusers.recording import build  # noqa: E402 - after what it needs was asked for
from hfmem.probe.diffusers.trace import traced  # noqa: E402 - after what it needs was asked for
from tests.measured.pipelines import model_of  # noqa: E402 - after what it needs was asked for
from tests.oracle.small_pipelines import run_lines, tiny  # noqa: E402 - after what it needs was asked for

pytestmark = pytest.mark.oracle


def test_a_trace_is_near_the_estimate() -> None:
    """FLUX.1 at its default size, whose text encoders are not held to their depth in the fixture."""
    report = estimated(model_of("black-forest-labs/FLUX.1-dev"), dtype="bfloat16", offline=True)
    found, estimate = traced(report.model, report.scenario), report.estimate
    assert found.phase == estimate.peak_phase == "vae_decode"
    assert found.groups["activations"] == pytest.approx(estimate.group("activations"), rel=0.01)
    assert found.seconds < 60


def test_a_trace_has_convolutions_in_pieces() -> None:
    """FLUX.1 with 16 images, whose VAE has tensors of more than 2^31 elements."""
    report = estimated(model_of("black-forest-labs/FLUX.1-dev"), dtype="bfloat16", batch=16, offline=True)
    found, estimate = traced(report.model, report.scenario), report.estimate
    assert found.phase == estimate.peak_phase == "vae_decode"
    assert found.groups["activations"] == pytest.approx(estimate.group("activations"), rel=0.01)


@pytest.mark.parametrize("options", [[], ["--catalog"]])
def test_a_probe_of_a_class_keeps_its_configs_of_the_catalog(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, options: list[str]
) -> None:
    """A class's own configs are measured unless only the catalog's are asked for, and those of the catalog that no row
    describes in any case; rows of other classes stay."""
    table = tmp_path / "calls.jsonl"
    table.write_text('{"class": "Another"}\n', encoding="utf-8")
    monkeypatch.setattr(probe, "_TABLE", table)
    monkeypatch.setattr(probe, "_REPORT", tmp_path / "report.jsonl")
    other = replace(VAES["AutoencoderKL"][0], config={"of": "the catalog"})
    monkeypatch.setattr(probe, "_of_catalog", lambda name, usual, described: [other] if len(described) != 1 else [])

    def row(name: str, kind: str, recipe: Any, **_options: Any) -> dict[str, Any]:
        return {
            "class": name,
            "call": recipe.method,
            "config": str(recipe.config),
            "worst": 0,
            "peak": [],
            "aligned": 1,
        }

    monkeypatch.setattr(probe, "measure", row)
    probe.main(["AutoencoderKL", "--half", *options])
    rows = [json.loads(line) for line in table.read_text(encoding="utf-8").splitlines()]
    assert {"class": "Another"} in rows
    assert sum(row.get("config") == "{'of': 'the catalog'}" for row in rows) == 1
    assert len(rows) == 2 + (0 if options else len(VAES["AutoencoderKL"]))


def test_a_trace_has_the_input_images() -> None:
    """FLUX.1 Kontext, whose transformer is given an image of 1024 × 1024 beside what it makes."""
    report = estimated("black-forest-labs/FLUX.1-Kontext-dev", offline=True)
    found = traced(report.model, report.scenario)
    groups = ("weights", "activations")
    own = {
        phase.name: sum(term.nbytes for term in phase.terms if term.group in groups) for phase in report.estimate.phases
    }
    assert own.keys() == found.phases.keys()
    assert all(found.phases[name] == pytest.approx(nbytes, rel=0.001) for name, nbytes in own.items())


@pytest.mark.filterwarnings("ignore")
def test_the_lines_to_copy_run(tmp_path: Path) -> None:
    tiny(tmp_path / "sd")
    report = estimated(str(tmp_path / "sd"), height=32, width=32, num_images=2, vae_tiling=True, vae_slicing=True)
    names = run_lines(report)
    assert len(names["made"].images) == 2
    assert names["pipe"].vae.use_tiling
    assert names["pipe"].vae.use_slicing


@pytest.mark.parametrize("how", ["model", "sequential", "group"])
def test_ways_of_offloading_are_methods_with_these_arguments(how: str) -> None:
    from hfmem.engines.diffusers.command import OFFLOADS

    name, _, arguments = OFFLOADS[how].removeprefix("pipe.").partition("(")
    signature = inspect.signature(getattr(diffusers.DiffusionPipeline, name))
    given = [part.partition("=")[0].strip() for part in arguments.removesuffix(")").split(", ") if "=" in part]
    assert set(given) <= set(signature.parameters)


@pytest.mark.parametrize(
    ("name", "kind", "changes", "sizes"),
    [
        (
            "WanTransformer3DModel",
            "denoiser",
            {"num_layers": 2, "num_attention_heads": 12, "ffn_dim": 8960},
            {"batch": 2, "height": 30, "width": 52, "frames": 4, "text": 100},
        ),
        (
            "GlmImageTransformer2DModel",
            "denoiser",
            {"num_layers": 2, "num_attention_heads": 32},
            {"batch": 1, "height": 96, "width": 128, "text": 300},
        ),
        (
            "OmniGenTransformer2DModel",
            "denoiser",
            {"num_layers": 2},
            {"batch": 2, "height": 96, "width": 64, "text": 77},
        ),
        ("ControlNetUnionModel", "denoiser", {}, {"batch": 2, "height": 96, "width": 128, "text": 77}),
        ("AutoencoderKLMochi", "vae", {}, {"batch": 1, "height": 40, "width": 60, "frames": 5}),
    ],
)
def test_a_row_of_the_table_holds(name: str, kind: Kind, changes: dict[str, Any], sizes: dict[str, int]) -> None:
    """Calls of the table with other sizes, measured again; a VAE that caches frames within what the probe allows."""
    recipe = (DENOISERS if kind == "denoiser" else VAES)[name][0]
    cls, mode = model_class(name), FakeTensorMode(allow_non_fake_inputs=True)
    config = {**defaults(cls), **recipe.config, **changes}
    model = build(cls, config, torch.bfloat16, mode)
    found = call_class(model, recipe, config, Made(**sizes), torch.bfloat16, mode)
    one = Component(name="it", kind=kind, library="diffusers", class_name=name, config=config)
    expected = taken(one, Call(**sizes), single=False, method=recipe.method)
    assert expected is not None
    assert found.peak == pytest.approx(expected.peak, rel=0.005 if kind == "vae" else 0.001)
