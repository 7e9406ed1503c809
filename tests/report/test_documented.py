"""docs/json.md names every key of a real answer, and no other."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest

import hfmem
from hfmem import errors
from hfmem.advice.values import VERDICTS, Variants
from hfmem.errors import GatedModelError
from hfmem.estimator.traced import Trace
from hfmem.estimator.values import GROUPS, Loading
from hfmem.fetcher.values import FileInfo
from hfmem.mapper.interpret import Adapted, interpret
from hfmem.report.errors import explain
from hfmem.report.formats import Style, render
from hfmem.report.values import Report
from tests.mapper.gguf_models import model

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "json.md").read_text(encoding="utf-8")
SECTIONS: dict[str, str] = dict(re.findall(r"^## (.+)\n((?:(?!## ).*\n)*)", PAGE, re.MULTILINE))
FREE = (
    "architecture.layer_kinds",
    "parameters.stored",
    "parameters.by_component",
    "trace.phases",
    "device_map.map",
    "scenario.max_memory",
)
"""Objects whose keys are words of the model, or devices."""


def documented(section: str) -> set[str]:
    """The words of the first column of a section's table."""
    found: set[str] = set()
    for cell in re.findall(r"^\| (?!-)(.*?) \|", SECTIONS[section], re.MULTILINE)[1:]:
        found |= set(re.findall(r"`([^`]+)`", cell)) | (set(GROUPS) if "groups" in cell else set())
    return found


ASKED: tuple[dict[str, Any], ...] = (
    {"seq": 65536},
    {"runtime": "vllm", "gpu": ("H100", "T4"), "tp": 2},
    {"train": "lora", "gpu": ("RTX 4090",)},
    {"gpu": ("T4",)},
    {"model": "Qwen/Qwen3-30B-A3B", "runtime": "vllm", "dtype": "nvfp4", "gpu": ("8GiB",)},
    {"train": "grpo"},
    {"model": "timm/resnet50.a1_in1k"},
    {"model": "Wan-AI/Wan2.1-T2V-1.3B-Diffusers", "gpu": ("A100 80GB",)},
    {"device_map": "auto", "max_memory": ("0=8GiB", "cpu=16GiB")},
)


@cache
def reports() -> tuple[Report, ...]:
    """Answers that together have every key: of what is asked, and one more."""
    made = [hfmem.estimate(**{"model": "Qwen/Qwen3-8B", "offline": True, **each}) for each in ASKED]
    groups = dict.fromkeys(GROUPS, 1)
    trace = Trace(phase="head", groups=groups, phases={"head": 1}, layers=1, seconds=1.0, source="")
    loading = Loading(host=1, gpu=1, how="", source="")  # the catalog does not tell in which files weights are
    last = replace(made[0], trace=trace, holders=made[4].fits, estimate=replace(made[0].estimate, loading=loading))
    file = interpret(model("Qwen3-30B-A3B.Q4_K_M.gguf"))
    infos = (*file.checkpoint.weight_files, FileInfo(name="Qwen3-30B-A3B.F32.gguf", size=None))
    checkpoint = replace(file.checkpoint, files=infos)
    several = hfmem.estimate(interpret(checkpoint), gpu=("16GB",))
    forms = Variants(rows=several.choices, more=(), source="hub", reason="", most=1)
    several = replace(several, variants=forms)
    base = made[0].model
    assert base.parameters
    adapted = replace(base, adapted=Adapted(base=base, kind="LORA", rank=8, parameters=base.parameters, trained=0))
    return (*made, last, several, replace(made[0], model=adapted))


def shown(value: Any, path: str = "RESULT") -> Iterator[tuple[str, str]]:
    """Every key of an answer, with the section that it belongs to."""
    if isinstance(value, Mapping):
        for key, inner in value.items():
            yield path, key
            below = key if path == "RESULT" else f"{path}.{key}"
            if below not in FREE:
                yield from shown(inner, below)
    elif isinstance(value, list):
        for each in value:
            yield from shown(each, f"{path}[]")


def keys() -> dict[str, set[str]]:
    document = json.loads(render("json", reports(), [explain(GatedModelError("org/gated"))], Style(fitting=True)))
    found: dict[str, set[str]] = {"Document": set(document), "ERROR": set(document["errors"][0])}
    for result in document["results"]:
        for section, key in shown(result):
            found.setdefault(section, set()).add(key)
    return found


def test_every_key_is_documented_and_no_other() -> None:
    found = keys()
    assert found.pop("memory_all_gpus") == documented("memory")
    assert found.pop("training.reserved") == {"low", "high", "source"}
    made = {"max_height", "max_width", "max_frames"}  # of pipelines, which have neither
    assert found.pop("choices[].fits[]") == found.pop("holders[]") == documented("fit[]") - made
    assert found.pop("choices[].fits[].offload") == documented("fit[].offload")
    for section, names in found.items():
        assert documented(section) == names, section
    others = {"Verdicts", "CSV", "Quiet"}
    assert set(SECTIONS) == found.keys() | others


def test_every_column_is_documented() -> None:
    text = render("csv", [reports()[4], reports()[2]], [], Style())
    columns = next(csv.reader(io.StringIO(text)))
    general = {re.sub(r": .*", ": NAME", column) for column in columns}
    assert documented("CSV") | {"master_weights", "temporary"} == general


def test_every_word_is_documented() -> None:
    assert documented("Verdicts") == set(VERDICTS)
    codes = set(re.findall(r"`(\w+_error)`", SECTIONS["ERROR"]))
    assert codes == {getattr(errors, name).code() for name in errors.__all__}


def test_the_readme_links_it() -> None:
    assert "(docs/json.md)" in (ROOT / "README.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("place", range(len(ASKED) + 1))
def test_whatever_was_asked_has_the_same_keys(place: int) -> None:
    """But for those that the page says are left out."""
    (result,) = json.loads(render("json", [reports()[place]], [], Style()))["results"]
    assert documented("RESULT") - {"device_map", "holders", "prefill_in_pieces", "trace", "variants"} <= result.keys()
