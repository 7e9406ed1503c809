"""Image and audio towers beside a model: which file llama-server takes, and what it adds."""

from __future__ import annotations

from dataclasses import replace

import pytest

import hfmem
from hfmem.errors import InvalidScenarioError
from hfmem.fetcher.quantisations import tower_for
from hfmem.fetcher.values import FileInfo
from hfmem.mapper.interpret import Model, interpret
from tests.mapper.gguf_models import model


def files(*names: str) -> tuple[FileInfo, ...]:
    return tuple(FileInfo(name=name, size=1000 + number) for number, name in enumerate(names))


@pytest.mark.parametrize(
    ("file", "names", "expected"),
    [
        ("m-Q4_K_M.gguf", ("m-Q4_K_M.gguf", "mmproj-F32.gguf", "mmproj-F16.gguf"), "mmproj-F16.gguf"),
        ("m-F32.gguf", ("mmproj-F32.gguf", "mmproj-F16.gguf"), "mmproj-F32.gguf"),
        ("Q8_0/m.gguf", ("mmproj-F16.gguf", "Q8_0/mmproj-F32.gguf"), "Q8_0/mmproj-F32.gguf"),
        ("Q8_0/m.gguf", ("mmproj-F16.gguf", "BF16/mmproj-BF16.gguf"), "mmproj-F16.gguf"),
        ("m-Q4_K_M.gguf", ("mmproj/mmproj-F16.gguf",), None),
        ("m-Q4_K_M.gguf", ("m-Q4_K_M.gguf", "mmproj.txt"), None),
    ],
)
def test_the_nearest_tower_is_taken(file: str, names: tuple[str, ...], expected: str | None) -> None:
    found = tower_for(file, files(*names))
    assert (found.name if found else None) == expected


def multimodal(source: str = "hub") -> Model:
    """A file of a repository that has two towers, too."""
    read = model("gemma-3-4b-it.Q4_0.gguf")
    sizes = {"mmproj-F16.gguf": 851_251_104, "mmproj-F32.gguf": 1_679_000_000}
    beside = tuple(FileInfo(name=name, size=size) for name, size in sizes.items())
    return interpret(replace(read, source=source, files=(*read.weight_files, *beside)))


def terms(**options: object) -> dict[str, int]:
    report = hfmem.estimate(multimodal(), gpu=("24GB",), **options)  # type: ignore[arg-type]
    return {term.name: term.nbytes for term in report.estimate.terms}


def test_the_tower_of_a_repository_counts_on_the_accelerator() -> None:
    """llama.cpp says 851,226,048 B of weights for this file, whose header is the rest."""
    with_it, without = terms(), terms(mmproj="none")
    assert with_it["mmproj"] == 851_251_104
    assert 0 <= with_it["mmproj"] - 851_226_048 < 100_000
    assert with_it["mmproj compute buffer"] >= 127_139_840  # what it says of this tower
    assert {name: size for name, size in with_it.items() if "mmproj" not in name} == without
    assert terms(flash_attn="off")["mmproj compute buffer"] >= 1_186_988_032


def test_another_tower_can_be_named() -> None:
    assert terms(mmproj="mmproj-F32.gguf")["mmproj"] == 1_679_000_000
    with pytest.raises(InvalidScenarioError, match=r"'mmproj-F8\.gguf': no such file is here.*mmproj-F16\.gguf"):
        terms(mmproj="mmproj-F8.gguf")


@pytest.mark.parametrize(
    ("name", "told"),
    [
        # of the tensors that convert_hf_to_gguf --mmproj --outtype f16 writes: 1,354,131,456 B; 851,226,048 B, some in
        # 32 bits that are here taken with 16
        ("Qwen/Qwen2.5-VL-7B-Instruct", "some 1.26 GiB"),
        ("google/gemma-3-4b-it", "some 0.78 GiB"),
    ],
)
def test_a_tower_that_is_still_to_be_made_is_told(name: str, told: str) -> None:
    notes = hfmem.estimate(name, runtime="llamacpp", quant="Q4_K_M", offline=True).notes
    assert any("--mmproj FILE" in note and told in note for note in notes)
    plain = hfmem.estimate("Qwen/Qwen3-8B", runtime="llamacpp", quant="Q4_K_M", offline=True).notes
    assert not any("tower" in note for note in plain)


def test_the_line_tells_of_towers_what_llama_server_does_not_do_itself() -> None:
    def line(found: Model, **options: str) -> str:
        serving = hfmem.estimate(found, **options).estimate.serving  # type: ignore[arg-type]
        assert serving is not None
        return serving.command or ""

    assert "mmproj" not in line(multimodal())
    assert line(multimodal(), mmproj="none").endswith(" --no-mmproj")
    assert line(multimodal(), mmproj="mmproj-F32.gguf").endswith(" --mmproj mmproj-F32.gguf")
    assert "mmproj" not in line(multimodal("local"))
    assert line(multimodal("local"), mmproj="mmproj-F16.gguf").endswith(" --mmproj mmproj-F16.gguf")


def test_a_tower_in_a_folder_is_not_loaded_with_a_file_alone() -> None:
    names = {term.name for term in hfmem.estimate(multimodal("local")).estimate.host}
    assert not any("mmproj" in name for name in names)
