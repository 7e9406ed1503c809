"""What of a list fits, and what holds a model: the answers are those of `--gpu` for each."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping
from typing import Any

import pytest

from hfmem import HfmemError, Options, Report, estimate
from hfmem.answers import report_all
from hfmem.fetcher.catalog import originals
from hfmem.fetcher.concurrent import fetch_all
from hfmem.fetcher.identity import reference
from hfmem.hardware.table import accelerators, instances
from hfmem.options.access import Access
from hfmem.report.fitting import fitting, left_out_dicts
from hfmem.report.result import to_result
from tests.command import run

ALONE = ("fits", "verdict", "tight", "headroom", "total", "usable", "max_seq", "max_batch", "gpus_needed", "refused")

VERDICT = ("fits", "verdict", "headroom", "refused")


def answered(*arguments: str) -> Any:
    done = run(*arguments, "--offline", "--format", "json")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def alone(model: str, **options: Any) -> list[Mapping[str, Any]]:
    """The fits that a model's own report has."""
    fits: list[Mapping[str, Any]] = estimate(model, offline=True, **options).to_dict()["fit"]
    return fits


@pytest.fixture(scope="module")
def catalog() -> Any:
    """What of the whole catalog fits on two machines."""
    access = Access(offline=True)
    models = fetch_all([reference(name, "main") for name in originals()], access, 4)
    answers = list(report_all(models, Options(gpu=("RTX 4090", "2xH100"), seq=8192), brief=True))
    found = fitting(answer for answer in answers if isinstance(answer, Report))
    return {
        "results": [to_result(report) for report in found.shown],
        "left_out": left_out_dicts(found.left),
        "errors": [{"model": answer.model} for answer in answers if isinstance(answer, HfmemError)],
    }


def test_every_model_of_the_catalog_has_an_answer(catalog: Any) -> None:
    named = [row["model"] for row in (*catalog["results"], *catalog["left_out"])]
    assert sorted(named) == sorted(set(originals()) - {row["model"] for row in catalog["errors"]})


def test_the_largest_come_first(catalog: Any) -> None:
    fitting = [row for row in catalog["results"] if any(fit["fits"] for fit in row["fit"])]
    assert fitting == catalog["results"][: len(fitting)]
    sizes = [row["parameters"]["total"] or 0 for row in fitting]
    assert sizes == sorted(sizes, reverse=True)
    assert all(None in [fit["fits"] for fit in row["fit"]] for row in catalog["results"][len(fitting) :])


def test_what_fits_has_the_answer_of_its_own_report(catalog: Any) -> None:
    for row in catalog["results"][::17]:
        own = alone(row["model"], gpu=("RTX 4090", "2xH100"), seq=8192)
        for fit, expected in zip(row["fit"], own, strict=True):
            told = ALONE if expected["fits"] else VERDICT
            assert [fit[key] for key in told] == [expected[key] for key in told]


def test_what_fits_nowhere_does_not_fit_in_its_own_report(catalog: Any) -> None:
    for row in catalog["left_out"][::17]:
        own = alone(row["model"], gpu=("RTX 4090", "2xH100"), seq=8192)
        told = ("verdict", "headroom", "refused")
        assert [[fit[key] for key in told] for fit in row["fit"]] == [[fit[key] for key in told] for fit in own]


def test_the_quantisation_of_a_repository_is_that_of_its_own_report() -> None:
    name = "Qwen/Qwen2.5-7B-Instruct-GGUF"
    for gpu in ("6GB", "24GB"):
        (row,) = answered(name, "--fits", "--gpu", gpu, "--seq", "8k")["results"]
        own = estimate(name, gpu=(gpu,), seq=8192, offline=True)
        assert row["memory"]["total"] == own.estimate.total
        assert row["fit"][0]["max_seq"] == own.fits[0].max_seq


def test_without_models_it_is_the_catalog() -> None:
    done = run("--fits", "--gpu", "1GB", "--offline", "-q")
    assert "sentence-transformers/all-MiniLM-L6-v2" in done.stdout
    assert f"of {len(originals()):,} models do not fit" in done.stderr


def test_a_list_of_ones_own_keeps_failures_and_unknown_rows() -> None:
    done = run(
        "openai-community/gpt2", "hustvl/yolos-tiny", "org/nowhere", "--fits", "--gpu", "8GB", "--offline", "--json"
    )
    found = json.loads(done.stdout)
    assert [row["model"] for row in found["results"]] == ["openai-community/gpt2", "hustvl/yolos-tiny"]
    assert [row["fit"][0]["fits"] for row in found["results"]] == [True, None]
    assert [row["model"] for row in found["errors"]] == ["org/nowhere"]
    assert done.returncode == 1


def test_the_table_tells_how_many_do_not_fit() -> None:
    names = ("openai-community/gpt2", "Qwen/Qwen3-8B", "deepseek-ai/DeepSeek-V3")
    done = run(*names, "--fits", "--gpu", "24GB", "--offline")
    assert "1 of 3 models does not fit." in done.stderr
    assert done.stdout.index("Qwen/Qwen3-8B") < done.stdout.index("openai-community/gpt2")
    assert "DeepSeek" not in done.stdout
    assert " 1,024 " in done.stdout  # the longest context of the smaller one: its own maximum


def test_nothing_fits() -> None:
    done = run("deepseek-ai/DeepSeek-V3", "--fits", "--gpu", "24GB", "--offline", "--require-fit")
    assert done.returncode == 3
    assert "1 of 1 model does not fit." in done.stderr


@pytest.fixture(scope="module")
def held() -> Any:
    """What holds a model of 70 B parameters under vLLM."""
    return answered("meta-llama/Llama-3.3-70B-Instruct", "--which-gpu", "--runtime", "vllm", "--seq", "32k")["results"][
        0
    ]


def test_machines_are_the_fewest_and_smallest_first(held: Any) -> None:
    for cloud in (False, True):
        rows = [row for row in held["holders"] if bool(row["instance"]) == cloud]
        assert rows
        sizes = [(row["gpus"], row["gpus"] * row["memory"]) for row in rows]
        assert sizes == sorted(sizes)


def test_machines_have_the_answer_of_gpu(held: Any) -> None:
    told = ("gpus", "usable", "total", "headroom", "fits", "verdict")
    for row in held["holders"][::29]:
        name = row["instance"] or f"{row['gpus']}x{row['gpu']}"
        (own,) = alone(held["model"], gpu=(name,), runtime="vllm", seq=32768)
        assert [row[key] for key in told] == [own[key] for key in told]


def test_one_fewer_is_not_enough(held: Any) -> None:
    rows = [row for row in held["holders"] if not row["instance"] and row["gpus"] > 1]
    for row in rows[::23]:
        for count in range(1, row["gpus"]):
            (own,) = alone(held["model"], gpu=(f"{count}x{row['gpu']}",), runtime="vllm", seq=32768)
            assert not own["fits"]


def test_what_is_not_named_does_not_hold_it(held: Any) -> None:
    cards = {row["gpu"] for row in held["holders"] if not row["instance"]}
    others = [row for row in accelerators() if row.name not in cards and row.kind == "discrete"]
    for card in others[::41]:
        for count in (1, 2, 4, 8):
            (own,) = alone(held["model"], gpu=(f"{count}x{card.name}",), runtime="vllm", seq=32768)
            assert not own["fits"], (card.name, count)
    clouds = {row["instance"] for row in held["holders"]}
    for cloud in [row for row in instances() if row.name not in clouds][::31]:
        (own,) = alone(held["model"], gpu=(cloud.name,), runtime="vllm", seq=32768)
        assert not own["fits"], cloud.name


def test_machines_in_other_formats() -> None:
    done = run("openai-community/gpt2", "--which-gpu", "--offline")
    assert "accelerators" in done.stdout
    assert "more: --format json or csv has them" in done.stdout
    rows = list(
        csv.DictReader(run("openai-community/gpt2", "--which-gpu", "--offline", "--format", "csv").stdout.splitlines())
    )
    assert {row["model"] for row in rows} == {"openai-community/gpt2"}
    assert {row["verdict"] for row in rows} <= {"fits", "tight"}
    assert "| accelerators" in run("openai-community/gpt2", "--which-gpu", "--offline", "--format", "markdown").stdout


def test_no_machine_is_named_where_part_of_the_total_is_unknown() -> None:
    done = run("hustvl/yolos-tiny", "--which-gpu", "--offline")
    assert "No machine can be named, as part of the total is unknown: activations" in done.stdout


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("--fits",), "--fits needs --gpu NAME"),
        (("openai-community/gpt2", "--fits", "--gpu", "24GB", "--out", "rows.csv"), "--fits cannot be used with --out"),
        (("openai-community/gpt2", "--which-gpu", "--gpu", "24GB"), "--which-gpu tells which ones"),
        (("openai-community/gpt2", "--which-gpu", "-q"), "--which-gpu is for --format table"),
        (("--which-gpu",), "No model given"),
    ],
)
def test_what_does_not_go_together(words: tuple[str, ...], told: str) -> None:
    done = run(*words, "--offline")
    assert done.returncode == 2
    assert told in done.stderr
