"""Several quantisations: the table of all, which one is taken, and how little is asked for it."""

from __future__ import annotations

import csv
import io
import json
import os
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import hfmem
from hfmem.advice.fit import Case, machines
from hfmem.advice.values import Candidate
from hfmem.errors import HfmemError
from hfmem.fetcher.quantisations import Choice
from hfmem.fetcher.values import FileInfo
from hfmem.mapper.gguf.resized import resized
from hfmem.mapper.interpret import Model, interpret
from hfmem.report.choices import choice_lines, placed
from hfmem.report.formats import Style, render
from hfmem.report.values import Report
from hfmem.scenario.options import Options
from tests.command import run
from tests.gguf_repositories import QUANTS, data_of, file_of, folder, head_of, name_of, repository
from tests.hub import Hub, Repo, status, virtual_file
from tests.mapper.gguf_models import model

FEW = ("Q4_K_M", "Q8_0", "F16", "F32")
PAGE = Path(__file__).parents[1] / "docs" / "formats.md"
GOLDEN = Path(__file__).parent / "report" / "golden"


def answer(*arguments: str, env: dict[str, str], code: int = 0) -> dict[str, Any]:
    """The RESULT of a run."""
    done = run(*arguments, "--format", "json", env=env)
    assert done.returncode == code, done.stderr
    (result,) = json.loads(done.stdout)["results"]
    return result


def by_quant(result: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {row["quant"]: row for row in result["choices"]}


def chosen(result: dict[str, Any]) -> dict[str, Any]:
    (row,) = (row for row in result["choices"] if row["chosen"])
    return row


@pytest.fixture
def few(hub: Hub) -> Hub:
    """A Hub with a repository of four quantisations."""
    hub.put(repository(FEW, vocabulary=100))
    return hub


def test_25_files_take_three_requests_and_little_time(hub: Hub, hub_env: dict[str, str]) -> None:
    """The listing, and the header of one file in one piece, which is redirected."""
    hub.put(repository())
    run("org/m-GGUF", "--no-cache", env=hub_env)  # what is imported is imported once
    hub.latency, taken = 0.04, []
    for _ in range(3):
        hub.reset()
        begun = time.perf_counter()
        result = answer("org/m-GGUF", "--no-cache", env=hub_env)
        taken.append(time.perf_counter() - begun)
        assert [path.split("/")[1] for path in hub.asked()] == ["api", "org", "repos"]
        assert sum(request.sent for request in hub.requests) < 9_000_000
    assert len(result["choices"]) == 25 == len(QUANTS)
    assert min(taken) < 1.2


def test_totals_without_a_header_are_those_of_the_files(few: Hub, hub_env: dict[str, str]) -> None:
    result = answer("org/m-GGUF", "--gpu", "24GB", env=hub_env)
    rows = by_quant(result)
    assert {quant: row["certainty"] for quant, row in rows.items()} == {
        quant: "exact" if quant == "Q4_K_M" else "derived" for quant in FEW
    }
    for quant, row in rows.items():
        own = answer(f"org/m-GGUF:{quant}", "--gpu", "24GB", env=hub_env)
        assert own["choices"] is None
        assert row["total"] == own["memory"]["total"]  # the format that their names tell explains their sizes
        assert row["bytes"] == len(head_of(quant, 100)) + data_of(quant)
        assert row["bits_per_weight"] == pytest.approx(8 * row["bytes"] / own["parameters"]["total"], rel=1e-4)
        assert row["fits"][0]["fits"] == own["fit"][0]["fits"]
        assert row["max_seq"] == own["fit"][0]["max_seq"]
        assert row["total"] == row["fits"][0]["total"]
    assert rows["Q4_K_M"]["total"] == answer("org/m-GGUF:Q4_K_M", "--gpu", "24GB", env=hub_env)["memory"]["total"]


def test_of_a_mixed_quantisation_it_is_near(few: Hub, hub_env: dict[str, str]) -> None:
    """What has several formats shares what is left of the file as the file that was read does."""
    few.put(repository(("F16", "Q4_K_M"), vocabulary=100, name="org/a-GGUF").without(name_of("F16")))
    whole = answer("org/a-GGUF", env=hub_env)
    assert whole["choices"] is None
    few.put(replace(repository(("Q8_0", "Q4_K_M"), vocabulary=100), id="org/b-GGUF"))
    read = interpret(hfmem.inspect("org/b-GGUF:Q8_0").checkpoint)
    choice = Choice(name="m", quant="Q4_K_M", files=hfmem.inspect("org/b-GGUF:Q4_K_M").checkpoint.weight_files)
    made = resized(read, choice, "Q4_K_M")
    assert made is not None
    total = hfmem.estimate(made).estimate.total
    assert total == pytest.approx(whole["memory"]["total"], rel=0.02)
    assert made.parameters is not None
    assert (made.parameters.stored, made.certainty) == ({}, "derived")
    assert made.parameters.total == whole["parameters"]["total"]


def test_the_largest_that_fits_whole_with_room_is_taken(few: Hub, hub_env: dict[str, str]) -> None:
    result = answer("org/m-GGUF", "--gpu", "24GB", "--gpu", "12GB", env=hub_env)
    row = chosen(result)
    assert row["quant"] == "F16"
    assert row["asked"] == "org/m-GGUF:F16"
    assert (row["total"], row["fits"]) == (result["memory"]["total"], result["fit"])
    assert "org/m-GGUF:F16" in result["serving"]["command"]
    assert result["download"]["bytes"] == row["bytes"]
    assert {term["certainty"] for term in result["terms"] if term["group"] == "weights"} == {"derived"}
    assert any("m-GGUF:Q8_0" in note and "largest that fits whole" in note for note in result["notes"])
    large = by_quant(result)["F32"]
    assert [fit["fits"] for fit in large["fits"]] == [False, False]
    assert [fit["offload"]["n_gpu_layers"] for fit in large["fits"]] == sorted(
        (fit["offload"]["n_gpu_layers"] for fit in large["fits"]), reverse=True
    )
    assert 0 < large["n_gpu_layers"] < 33
    assert by_quant(result)["Q8_0"]["n_gpu_layers"] == 33
    assert by_quant(result)["F16"]["fits"][1]["fits"] is False


def test_where_none_fits_it_is_the_default(few: Hub, hub_env: dict[str, str]) -> None:
    result = answer("org/m-GGUF", "--gpu", "3GB", env=hub_env)
    assert chosen(result)["quant"] == "Q4_K_M"
    assert result["fit"][0]["fits"] is False
    assert 0 < chosen(result)["n_gpu_layers"] < 33
    without = repository(("F16", "F32"), vocabulary=100, name="org/wide-GGUF")
    few.put(without)
    assert chosen(answer("org/wide-GGUF", env=hub_env))["quant"] == "F16"


def test_the_exit_code_is_about_the_one_that_is_taken(few: Hub, hub_env: dict[str, str]) -> None:
    answer("org/m-GGUF", "--gpu", "12GB", "--require-fit", env=hub_env)
    answer("org/m-GGUF", "--gpu", "3GB", "--require-fit", env=hub_env, code=3)
    answer("org/m-GGUF:F32", "--gpu", "12GB", "--require-fit", env=hub_env, code=3)


def test_the_contract_of_json(few: Hub, hub_env: dict[str, str]) -> None:
    for arguments in ((), ("--gpu", "RTX 4090")):
        result = answer("org/m-GGUF", *arguments, env=hub_env)
        for row in result["choices"]:
            assert row.keys() >= {
                "model", "file", "quant", "bits_per_weight", "bytes", "total", "fits", "max_seq", "n_gpu_layers",
            }  # fmt: skip
            assert row["model"] == "org/m-GGUF"
            assert len(row["fits"]) == len(arguments) // 2
            assert all(fit.keys() == result["fit"][0].keys() for fit in row["fits"])
        sizes = [row["bytes"] for row in result["choices"]]
        assert sizes == sorted(sizes)
    assert "choices" in answer("Qwen/Qwen3-8B", "--offline", env=hub_env)


def test_other_formats_are_about_the_one_that_is_taken(few: Hub, hub_env: dict[str, str]) -> None:
    done = run("org/m-GGUF", "--gpu", "12GB", "--format", "quiet", env=hub_env)
    total = answer("org/m-GGUF", "--gpu", "12GB", env=hub_env)["memory"]["total"]
    assert done.stdout == f"org/m-GGUF\t{total}\tfits\n"
    assert "this is Llama-3.1-8B-Instruct-Q8_0.gguf" in done.stderr
    (row,) = csv.DictReader(io.StringIO(run("org/m-GGUF", "--gpu", "12GB", "--format", "csv", env=hub_env).stdout))
    assert row["total"] == str(total)
    (line,) = run("org/m-GGUF", "--gpu", "12GB", "--format", "jsonl", env=hub_env).stdout.splitlines()
    assert json.loads(line)["memory"]["total"] == total
    markdown = run("org/m-GGUF", "--gpu", "12GB", "--format", "markdown", env=hub_env).stdout
    assert "| \\* " in markdown
    assert all(name_of(quant) in markdown for quant in FEW)


def test_from_the_cache_it_is_the_same(few: Hub, hub_env: dict[str, str]) -> None:
    first = answer("org/m-GGUF", "--gpu", "12GB", env=hub_env)
    again = answer("org/m-GGUF", "--gpu", "12GB", "--offline", env=hub_env)
    assert again["source"] == "cache"
    assert again["choices"] == first["choices"]
    assert again["memory"] == first["memory"]


def test_a_gated_one_is_a_sentence(few: Hub, hub_env: dict[str, str]) -> None:
    few.put(replace(repository(FEW, vocabulary=100, name="org/shut-GGUF"), gated="auto"))
    done = run("org/shut-GGUF", env=hub_env)
    assert done.returncode == 1
    assert "org/shut-GGUF is gated" in done.stderr


def test_a_file_that_cannot_be_read_costs_its_own_row(hub: Hub, hub_env: dict[str, str], tmp_path: Path) -> None:
    broken = virtual_file(name_of("Q4_K_M"), b"no GGUF" * 10, size=5 * 10**9)
    hub.put(Repo(id="org/m-GGUF", files=(broken, *repository(FEW[1:], vocabulary=100).files)))
    for arguments in ((), ("--offline",)):  # the cache knows it too
        result = answer("org/m-GGUF", *arguments, env=hub_env)
        assert chosen(result)["quant"] == "Q8_0"
        assert result["memory"]["total"] == chosen(result)["total"]
        row = by_quant(result)["Q4_K_M"]
        assert (row["total"], row["certainty"], row["bytes"]) == (None, "unknown", 5 * 10**9)
        assert any("cannot be read" in note and "is no GGUF" in note for note in result["notes"])
    folder(tmp_path, FEW[1:])
    (tmp_path / name_of("Q2_K")).write_bytes(b"GGUF" + bytes(96))
    rows = by_quant(answer(str(tmp_path), env=hub_env))
    assert rows["Q2_K"]["total"] is None
    assert "version 0" in rows["Q2_K"]["unknown"]
    assert rows["F16"]["certainty"] == "exact"
    for quant in FEW[1:]:
        (tmp_path / name_of(quant)).write_bytes(b"")
    assert run(str(tmp_path), env=hub_env).returncode == 1


def test_each_file_of_a_folder_is_read(hub: Hub, hub_env: dict[str, str], tmp_path: Path) -> None:
    path = folder(tmp_path, FEW)
    result = answer(str(path), "--gpu", "12GB", env=hub_env)
    for quant, row in by_quant(result).items():
        own = answer(str(path / name_of(quant)), "--gpu", "12GB", env=hub_env)
        assert (row["certainty"], row["total"]) == ("exact", own["memory"]["total"])
        assert row["n_gpu_layers"] == own["fit"][0]["offload"]["n_gpu_layers"]
        named = answer(str(path), "--quant", quant.lower(), "--gpu", "12GB", env=hub_env)
        assert named["memory"] == own["memory"]
        assert named["choices"] is None
    assert chosen(result)["quant"] == "Q8_0"
    assert f"-m {path / name_of('Q8_0')}" in result["serving"]["command"]
    assert any("--quant Q4_K_M" in note for note in result["notes"])
    ollama = answer(str(path), "--gpu", "12GB", "--runtime", "ollama", env=hub_env)
    assert ollama["serving"]["command"].startswith(f"FROM {path / name_of('Q8_0')}\n")
    assert hub.requests == []


def test_shards_are_one_choice(few: Hub, hub_env: dict[str, str]) -> None:
    whole = file_of("F16", 100)
    head = head_of("Q8_0", 0)
    first = virtual_file("F16/m-8B-00001-of-00002.gguf", head_of("F16", 100), size=10**10)
    second = virtual_file("F16/m-8B-00002-of-00002.gguf", head[:100], size=whole.size - 10**10)
    lost = virtual_file("BF16/m-8B-00002-of-00003.gguf", head[:100], size=10**10)
    files = (*repository(("Q4_K_M",), vocabulary=100).files, first, second, lost)
    few.put(Repo(id="org/shards-GGUF", files=files))
    rows = by_quant(answer("org/shards-GGUF", "--gpu", "24GB", env=hub_env))
    assert (rows["F16"]["file"], rows["F16"]["bytes"]) == (first.name, whole.size)
    single = by_quant(answer("org/m-GGUF", "--gpu", "24GB", env=hub_env))
    assert rows["F16"]["total"] == single["F16"]["total"]
    assert rows["BF16"]["total"] is None
    assert rows["BF16"]["unknown"] == "2 of its 3 files are missing"


def test_files_of_another_size_are_not_taken_for_it(few: Hub, hub_env: dict[str, str]) -> None:
    other = virtual_file("Llama-3.1-70B-Instruct-Q8_0.gguf", b"", size=75 * 10**9)
    few.put(Repo(id="org/two-GGUF", files=(*repository(("Q4_K_M", "Q8_0"), vocabulary=100).files, other)))
    rows = {row["file"]: row for row in answer("org/two-GGUF", env=hub_env)["choices"]}
    assert rows[other.name]["total"] is None
    assert rows[other.name]["asked"] == "org/two-GGUF:Q8_0"  # as llama.cpp would take it
    assert rows[name_of("Q8_0")]["asked"] == "org/two-GGUF:Llama-3.1-8B-Instruct-Q8_0"
    assert "states another size" in rows[other.name]["unknown"]
    assert rows[name_of("Q8_0")]["total"] is not None


def test_a_quantisation_is_named_with_an_option_too(few: Hub, hub_env: dict[str, str]) -> None:
    named = answer("org/m-GGUF:Q8_0", env=hub_env)["memory"]
    for arguments in (
        ("org/m-GGUF", "--quant", "q8_0"),
        ("org/m-GGUF:Q8_0", "--quant", "Q8_0"),
        ("hf.co/org/m-GGUF:Q8_0",),
    ):
        assert answer(*arguments, env=hub_env)["memory"] == named
    both = run("org/m-GGUF:Q8_0", "--quant", "F16", env=hub_env)
    assert (both.returncode, "contradicts org/m-GGUF:Q8_0" in both.stderr) == (2, True)
    assert run("org/m-GGUF", "--quant", "../x", env=hub_env).returncode == 2
    assert run("org/m-GGUF", "--quant", "Q8_0", "--runtime", "vllm", env=hub_env).returncode == 2
    missed = run("org/m-GGUF", "--quant", "Q3_K_M", env=hub_env)
    assert missed.returncode == 1
    assert "None of them is 'Q3_K_M'. It holds 4 models in GGUF files" in missed.stderr


def test_of_one_file_there_is_nothing_to_name(hub_env: dict[str, str], tmp_path: Path) -> None:
    path = folder(tmp_path, ("Q8_0",)) / name_of("Q8_0")
    for word in ("Q8_0", "Q4_K_M"):
        result = answer(str(path), "--quant", word, env=hub_env)
        assert result["choices"] is None
        assert any(f"--quant {word} has no effect" in note for note in result["notes"])
    assert run(str(tmp_path), "--quant", "Q4_K_M", env=hub_env).returncode == 1


def test_python_has_the_choices_too(few: Hub) -> None:
    report = hfmem.estimate("org/m-GGUF", gpu=("12GB",))
    assert [row.quant for row in report.choices] == ["Q4_K_M", "Q8_0", "F16", "F32"]
    assert [row.quant for row in report.choices if row.chosen] == ["Q8_0"]
    exact = hfmem.estimate("org/m-GGUF", quant="Q8_0", gpu=("12GB",))
    assert exact.choices == ()
    assert exact.estimate.total == pytest.approx(report.estimate.total, rel=0.02)
    both = hfmem.compare(["org/m-GGUF", "org/m-GGUF:Q4_K_M"], quant="Q8_0")
    assert isinstance(both[0], Report)
    assert isinstance(both[1], HfmemError)
    assert hfmem.inspect("org/m-GGUF").checkpoint.weight_files[0].name == name_of("Q4_K_M")


def test_what_is_no_run_of_it_has_sizes_alone(few: Hub, hub_env: dict[str, str]) -> None:
    result = answer("org/m-GGUF", "--method", "textbook", "--dtype", "float16", env=hub_env)
    assert chosen(result)["quant"] == "Q4_K_M"
    assert {row["total"] for row in result["choices"]} == {None}
    trained = answer("org/m-GGUF", "--train", "lora", "--dtype", "bfloat16", env=hub_env)
    assert {row["total"] for row in trained["choices"]} == {None}
    assert chosen(trained)["quant"] == "Q4_K_M"
    assert all(row["bytes"] for row in result["choices"])


def test_other_engines_compare_them_too(few: Hub, hub_env: dict[str, str]) -> None:
    rows = by_quant(answer("org/m-GGUF", "--runtime", "transformers", env=hub_env))
    assert all(row["total_is_lower_bound"] for row in rows.values())
    assert rows["Q4_K_M"]["total"] < rows["Q8_0"]["total"] < rows["F16"]["total"]


def test_on_one_memory_for_both_sides(few: Hub, hub_env: dict[str, str]) -> None:
    rows = by_quant(answer("org/m-GGUF", "--gpu", "M2 Max", env=hub_env))
    own = answer("org/m-GGUF:Q8_0", "--gpu", "M2 Max", env=hub_env)
    assert rows["Q8_0"]["total"] == pytest.approx(own["memory"]["total"], rel=0.001)
    cpu = by_quant(answer("org/m-GGUF", "--gpu", "cpu", env=hub_env))
    assert cpu["F16"]["total"] > cpu["Q8_0"]["total"]


def test_names_of_ollamas_library_are_told_so(few: Hub, hub_env: dict[str, str]) -> None:
    for arguments in (("llama3.2:3b",), ("llama3.2:3b", "--offline")):
        done = run(*arguments, env=hub_env)
        assert done.returncode == 1
        assert "Ollama's own library: that library cannot be queried" in done.stderr
        assert "hf.co/OWNER/NAME-GGUF:Q4_K_M" in done.stderr
    assert "Ollama" not in run("org/missing:Q4_K_M", env=hub_env).stderr


def test_an_address_that_has_expired_is_asked_for_again(hub: Hub, hub_env: dict[str, str]) -> None:
    """The second piece of a long header comes from where the first one came from, as long as that may be read."""
    hub.put(repository(("Q4_K_M", "Q8_0"), vocabulary=300_000))
    hub.fail("/repos/*", status(403), times=1)
    assert run("org/m-GGUF", "--no-cache", env=hub_env).returncode == 1  # the first: nothing else can be tried
    hub.reset()
    seen = iter(range(10))

    class Second:
        """A fault that befalls the second request alone."""

        kind, response, bare, after, every, piece = "status", status(403).response, False, None, 0.0, 0

        def applies(self, request: object) -> bool:
            return next(seen) == 1

    hub.fail("/repos/*", Second(), times=None)  # type: ignore[arg-type]
    assert answer("org/m-GGUF", "--no-cache", env=hub_env)["choices"]
    assert [path.split("/")[1] for path in hub.asked()] == ["api", "org", "repos", "repos", "org", "repos"]


def hold(name: str, text: str) -> None:
    path = GOLDEN / f"{name}.txt"
    if os.environ.get("HFMEM_UPDATE_GOLDEN"):
        path.write_text(text + "\n", encoding="utf-8")
    assert text + "\n" == path.read_text(encoding="utf-8")


@pytest.mark.parametrize("width", [80, 100])
def test_the_card(few: Hub, width: int) -> None:
    few.put(repository(("Q2_K", "Q4_K_M", "Q5_K_M", "Q6_K", "Q8_0", "F16", "F32"), vocabulary=100))
    report = hfmem.estimate("org/m-GGUF", gpu=("RTX 4090", "RTX 3060"))
    text = render("table", [report], [], Style(width=width)).replace(few.url.partition("://")[2], "huggingface.co")
    assert max(map(len, text.splitlines())) <= width
    hold(f"card-choices-{width}", text)


def mixture() -> Model:
    """A mixture in two quantisations, of which one header was read."""
    read = model("Qwen3-30B-A3B.Q4_K_M.gguf")
    data = sum(tensor.nbytes for tensor in read.tensors)
    sizes = {"Q4_K_M": data, "Q2_K": data * 3 // 5}
    files = tuple(FileInfo(name=f"Qwen3-30B-A3B.{quant}.gguf", size=size) for quant, size in sizes.items())
    return interpret(replace(read, files=files, weight_files=files[:1]))


def test_a_mixture_leaves_experts_on_the_host() -> None:
    small, large = hfmem.estimate(mixture(), gpu=("12GB", "24GB")).choices
    assert (small.quant, large.quant) == ("Q2_K", "Q4_K_M")
    first, second = large.fits
    assert first.offload is not None
    assert placed(first) == f"experts of {first.offload.experts_on_host} layers in RAM"
    assert (placed(second), large.n_gpu_layers) == ("whole", first.offload.of)
    assert small.fits[0].offload is not None
    assert small.fits[0].offload.experts_on_host < first.offload.experts_on_host
    assert placed(hfmem.estimate(mixture(), gpu=("1GB",)).choices[1].fits[0]) == "no"
    assert hfmem.estimate(mixture(), gpu=("1GB",)).choices[1].n_gpu_layers == 0


def test_the_memory_of_the_host_is_a_limit() -> None:
    """What the accelerator leaves over has to lie somewhere."""
    free = hfmem.estimate(mixture(), gpu=("12GB",), host_memory=64).choices[1].fits[0]
    assert free.offload is not None
    assert free.offload.held
    rest = free.offload.host
    short = hfmem.estimate(mixture(), gpu=("12GB",), host_memory=rest / 2**30 - 0.1)
    row = short.choices[1]
    assert (placed(row.fits[0]), row.n_gpu_layers) == ("no, RAM too small", 0)
    exact = hfmem.estimate(mixture(), gpu=("12GB",), host_memory=rest / 2**30)
    assert placed(exact.choices[1].fits[0]) == placed(free)


def test_what_does_not_follow_from_sizes_is_not_told() -> None:
    read = mixture()
    choice = Choice(name="m-F16", quant="F16", files=(FileInfo(name="m-F16.gguf", size=None),))
    assert resized(read, choice, "F16") is None
    tiny = replace(choice, files=(FileInfo(name="m-F16.gguf", size=1000),))
    assert resized(read, tiny, "F16") is None
    assert resized(read, replace(choice, missing=1), "F16") is None
    same = resized(read, replace(choice, files=read.checkpoint.weight_files), "Q4_K_M")
    assert same is not None
    assert same.checkpoint.tensors == tuple(read.checkpoint.tensors)


@pytest.mark.parametrize("batch", [1, 3])
def test_lengths_that_share_an_estimate_take_the_same(batch: int) -> None:
    case = Case.of(mixture(), Options(), machines(Options(gpu=("24GB",)))[0])
    for seq in (1, 255, 256, 257, 4000, 40_000):
        estimate, _ = case.taken(batch, seq)
        assert estimate.total == case.estimate(case.at(batch, seq)).total


def test_its_page_shows_it(few: Hub) -> None:
    rows = hfmem.estimate("org/m-GGUF", gpu=("RTX 4090", "RTX 3060")).choices
    assert "\n".join(choice_lines(rows, "GiB", 90)).rpartition("columns left out")[0] in PAGE.read_text(
        encoding="utf-8"
    )


@pytest.mark.parametrize("width", [32, 40, 60, 80, 100, 140, None])
def test_the_table_fits_the_terminal(few: Hub, width: int | None) -> None:
    rows: tuple[Candidate, ...] = hfmem.estimate("org/m-GGUF", gpu=("RTX 4090", "8GB")).choices
    lines = list(choice_lines(rows, "GiB", width))
    assert width is None or max(map(len, lines)) <= max(width, 40)
    assert sum("F16" in line for line in lines) >= 1
    assert any(line.startswith("*") for line in lines)
    assert ("whole" in "".join(lines)) == (width is None or width >= 40)
