"""Pictures: what is in them is what the report says, and a file of each kind is whole by itself."""

from __future__ import annotations

import re
import struct
import sys
import xml.etree.ElementTree as ET
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import hfmem
from hfmem.options.words import PANELS
from hfmem.report.plots.panels import MOST_CURVES, Bars, Curves, panels
from hfmem.report.values import Report
from hfmem.scenario.options import Options
from hfmem.units import GIB
from tests.command import run

LLAMA = "meta-llama/Llama-2-7b-hf"
GPT = "openai-community/gpt2"


def made(*names: str, **options: Any) -> tuple[list[Report], Options]:
    found = hfmem.compare(names or (LLAMA,), offline=True, **options)
    return list(found.reports), Options(**options)


@pytest.mark.parametrize(
    ("names", "options", "shown"),
    [
        ((LLAMA,), {}, ["context", "batch"]),
        ((LLAMA,), {"train": "lora"}, ["context", "batch", "phases"]),
        ((LLAMA, GPT), {}, ["parts", "context", "batch"]),
        ((LLAMA, GPT), {"train": "full"}, ["parts", "context", "batch", "phases"]),
        ((LLAMA,), {"method": "textbook"}, ["context", "batch"]),
        (("black-forest-labs/FLUX.1-dev",), {}, ["batch", "phases"]),  # a pipeline has no context
    ],
)
def test_a_picture_has_what_there_is_to_say(names: tuple[str, ...], options: dict[str, Any], shown: list[str]) -> None:
    assert [panel.name for panel in panels(*made(*names, **options))] == shown


def test_only_the_panels_that_were_asked_for() -> None:
    reports, options = made(LLAMA, train="lora")
    for name in PANELS:
        assert [panel.name for panel in panels(reports, options, (name,))] == [name]
    assert [panel.name for panel in panels(reports, options, ("phases", "batch"))] == ["batch", "phases"]


def test_panels_say_what_reports_say() -> None:
    reports, options = made(LLAMA, GPT, gpu=("RTX 4090", "T4"), train="full")
    by_name = {panel.name: panel for panel in panels(reports, options)}
    parts, phases, context = by_name["parts"], by_name["phases"], by_name["context"]
    assert isinstance(parts, Bars)
    assert isinstance(phases, Bars)
    assert isinstance(context, Curves)
    assert [bar.total for bar in parts.bars] == [report.estimate.total for report in reports]
    assert [bar.total for bar in phases.bars] == [each.total for report in reports for each in report.estimate.phases]
    peaks = [bar.total for bar in phases.bars if bar.name.endswith(" (peak)")]
    assert peaks == [report.estimate.total for report in reports]
    for (name, curve), report in zip(context.curves, reports, strict=True):
        assert name == report.name
        assert next(point.total for point in curve.points if point.at == curve.at) == report.estimate.total
    for panel in by_name.values():
        assert [(line.accelerator.name, line.usable) for line in panel.lines] == [
            (fit.gpu.name, fit.usable) for fit in reports[0].fits
        ]


def test_what_is_unknown_is_drawn_as_a_lower_bound_or_not_at_all() -> None:
    reports, options = made(LLAMA)
    partly = replace(reports[0], estimate=replace(reports[0].estimate, unknown=(("activations", "nobody knows"),)))
    (bars,) = panels([partly], options, ("parts",))
    assert isinstance(bars, Bars)
    assert bars.bars[0].partly
    assert panels([], options) == []


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("--plot", "picture.pdf"), "--plot picture.pdf has to end with .png, .svg or .html."),
        (("--plot", "nowhere/picture.png"), "--plot nowhere/picture.png is in a folder that does not exist."),
        (("--plot-of", "batch"), "--plot-of needs --plot FILE."),
        (("--plot", "a.svg", "--plot-of", "pie"), "--plot-of 'pie' is not one of parts, context, batch, phases"),
    ],
)
def test_pictures_that_cannot_be(words: tuple[str, ...], sentence: str, tmp_path: Path) -> None:
    done = run(LLAMA, "--offline", *words, cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr.startswith(sentence)
    assert list(tmp_path.iterdir()) == []


def test_without_the_library_there_is_a_next_step(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("hfmem.report.options.find_spec", lambda name: None)
    done = run(LLAMA, "--offline", "--plot", "a.png", cwd=tmp_path)
    assert done.returncode == 2
    assert "pip install 'hfmem[plot]'" in done.stderr


@pytest.fixture
def drawn(tmp_path: Path) -> Any:
    """A picture of the command line, as bytes."""

    def draw(kind: str, *words: str, name: str = LLAMA) -> bytes:
        file = tmp_path / f"picture.{kind}"
        done = run(name, "--offline", "--plot", str(file), *words)
        assert done.returncode == 0, done.stderr
        assert f"{file}: " in done.stderr
        assert done.stdout == run(name, "--offline", *(word for word in words if "plot" not in word)).stdout
        return file.read_bytes()

    return draw


@pytest.mark.extras
@pytest.mark.parametrize("more", [(), ("--train", "lora"), (GPT, "--gpu", "T4")], ids=["one", "training", "several"])
def test_png(more: tuple[str, ...], drawn: Any) -> None:
    content = drawn("png", *more)
    assert content.startswith(b"\x89PNG\r\n\x1a\n")
    width, height = struct.unpack(">II", content[16:24])
    assert 1000 < width < 4000
    assert 300 < height < 3000
    assert content == drawn("png", *more), "the same question is the same file"


@pytest.mark.extras
def test_svg_has_its_words_as_text(drawn: Any) -> None:
    content = drawn("svg", "--gpu", "RTX 4090", "--unit", "GB")
    words = " ".join(element.text or "" for element in ET.fromstring(content).iter() if element.tag.endswith("text"))
    for word in (LLAMA, "tokens per sequence", "KV cache", "RTX 4090: 25.38 GB, up to 4,096", "GB"):
        assert word in words
    assert content == drawn("svg", "--gpu", "RTX 4090", "--unit", "GB")


@pytest.mark.extras
def test_html_is_whole_by_itself(drawn: Any) -> None:
    text = drawn("html", GPT, "--train", "full").decode()
    assert text.startswith("<!doctype html>")
    assert "default-src 'none'" in text
    assert "<script" not in text
    assert "<?xml" not in text
    assert not re.search(r"(?:src|href)=\"(?!#)", text)
    assert f"{hfmem.estimate(LLAMA, offline=True, train='full').estimate.total / GIB:.2f}" in text
    assert text.count("<details>") == 4


@pytest.mark.extras
def test_lines_stand_at_what_is_usable_and_curves_end_where_they_do() -> None:
    from hfmem.report.plots.draw import drawn as draw

    reports, options = made(LLAMA, GPT, gpu=("RTX 4090",))
    found = panels(reports, options)
    figure = draw(found, "title", "GiB")
    bars, context, _ = figure.axes
    usable = reports[0].fits[0].usable / GIB
    assert bars.lines[0].get_xdata()[0] == pytest.approx(usable)
    widths = sum(patch.get_width() for patch in bars.patches if patch.get_y() < 0)
    assert widths == pytest.approx(reports[0].estimate.total / GIB)
    curves = next(panel for panel in found if isinstance(panel, Curves))
    for line, (_, curve) in zip(context.lines, curves.curves, strict=False):
        assert list(line.get_xdata()) == [point.at for point in curve.points]
        assert line.get_ydata()[-1] == pytest.approx(curve.points[-1].total / GIB)
    assert context.lines[len(curves.curves)].get_ydata()[0] == pytest.approx(usable)


@pytest.mark.extras
def test_names_of_others_are_only_words() -> None:
    from hfmem.report.plots.file import picture

    reports, options = made(LLAMA)
    odd = "org/<script>alert(1)</script>$\\frac{1}{2}$\u202e\u6a21" + "x" * 200
    named = [replace(report, label=odd) for report in (*reports, *reports)]
    for kind in ("png", "svg", "html"):
        content = picture(panels(named, options), odd, kind, "GiB")
        assert b"<script" not in content or kind == "png"
        assert "\u202e".encode() not in content


@pytest.mark.extras
def test_a_picture_that_cannot_be_written_fails(tmp_path: Path) -> None:
    (tmp_path / "a.png").mkdir()
    done = run(LLAMA, "--offline", "--plot", "a.png", cwd=tmp_path)
    assert done.returncode == 1
    assert "a.png cannot be written: Is a directory." in done.stderr
    assert "weights" in done.stdout
    done = run("nobody/has-this", "--offline", "--plot", "b.png", cwd=tmp_path)
    assert done.returncode == 1
    assert not (tmp_path / "b.png").exists()


def test_a_plain_run_loads_no_library_of_an_extra() -> None:
    done = run(LLAMA, "--offline")
    assert done.returncode == 0
    import subprocess

    program = (
        "import sys; sys.argv = ['hfmem', sys.argv[1], '--offline']; import hfmem.__main__ as m; m.run(); "
        "print([name for name in ('matplotlib', 'pandas', 'polars', 'pyarrow', 'gradio', 'torch', 'numpy') "
        "if name in sys.modules], file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", program, LLAMA], capture_output=True, text=True, check=True)
    assert done.stderr.strip() == "[]"


def test_curves_of_more_models_than_can_be_told_apart_are_not_drawn() -> None:
    reports, options = made(GPT)
    many = [replace(reports[0], label=f"org/model-{number}") for number in range(MOST_CURVES + 1)]
    assert [panel.name for panel in panels(many, options)] == ["parts"]
    assert [panel.name for panel in panels(many[1:], options)] == ["parts", "context", "batch"]


@pytest.mark.extras
def test_lists_of_any_length_are_drawn() -> None:
    from hfmem.report.plots.file import picture

    reports, options = made(GPT)
    many = [replace(reports[0], label=f"org/model-{number}") for number in range(300)]
    content = picture(panels(many, options), "many", "png", "GiB")
    assert all(0 < side < 2**16 for side in struct.unpack(">II", content[16:24]))


@pytest.mark.extras
def test_several_with_a_failure_are_drawn_and_said(tmp_path: Path) -> None:
    done = run(LLAMA, GPT, "nobody/has-this", "--offline", "--plot", "a.svg", "--plot-of", "parts", cwd=tmp_path)
    assert done.returncode == 1
    assert "a.svg: parts." in done.stderr
    words = (tmp_path / "a.svg").read_text()
    assert LLAMA in words
    assert "nobody" not in words
