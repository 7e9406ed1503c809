"""What is answered for llama.cpp: which engine a quantisation means, the line that fits, and options without effect."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest

import hfmem
from tests.command import run

BIG, SMALL = "meta-llama/Llama-3.3-70B-Instruct", "Qwen/Qwen3-8B"
GGUF = "bartowski/Meta-Llama-3.1-8B-Instruct-GGUF"
OF_LLAMA = ("--runtime", "llamacpp", "--quant", "Q4_K_M", "--offline")


@pytest.fixture
def env(hub_env: dict[str, str]) -> dict[str, str]:
    return {**hub_env, "HF_HUB_OFFLINE": "1"}


def lines(*arguments: str, env: dict[str, str], code: int = 0) -> list[str]:
    done = run(*arguments, env=env)
    assert done.returncode == code, done.stderr
    return (done.stdout + done.stderr).splitlines()


def answer(*arguments: str, env: dict[str, str]) -> dict[str, Any]:
    (result,) = json.loads(run(*arguments, "--format", "json", env=env).stdout)["results"]
    return result


def test_a_quantisation_of_a_plain_model_is_llama_cpps(env: dict[str, str]) -> None:
    """As `--quant` has it; of training and of other engines it says nothing."""
    found = answer(f"{SMALL}:Q4_K_M", env=env)
    assert found["scenario"]["runtime"] == "llamacpp"
    assert found["memory"] == answer(SMALL, *OF_LLAMA, env=env)["memory"]
    assert answer(f"{SMALL}:Q4_K_M", "--runtime", "vllm", env=env)["scenario"]["runtime"] == "vllm"
    assert answer(f"{SMALL}:nonsense", env=env)["scenario"]["runtime"] == "transformers"


def test_the_host_holds_what_the_line_leaves_to_it(env: dict[str, str]) -> None:
    found = lines(BIG, *OF_LLAMA, "--gpu", "RTX 3090", "--gpu", "RTX 4060", env=env)
    fit = next(line for line in found if "fits with" in line)
    option = fit.rpartition(": ")[2]
    held = fit.split(", ")[1].removesuffix(" in the host's memory: " + option)
    assert f"host memory: {held} with {option}" in found
    assert any(line.startswith("llama-server") and f" {option} " in line for line in found)


def test_accelerators_are_counted_for_the_layers_that_are_on_them(env: dict[str, str]) -> None:
    """30 of 81 layers of a 70B model are some 15 GiB: three cards of 8 GB, where all take six."""
    whole, some = (
        answer(BIG, *OF_LLAMA, "--gpu", "RTX 4060", *more, env=env)["fit"][0] for more in ((), ("-ngl", "30"))
    )
    assert (whole["gpus_needed"], some["gpus_needed"]) == (6, 3)
    fits = hfmem.estimate(BIG, runtime="llamacpp", quant="Q4_K_M", gpu="3x RTX 4060", n_gpu_layers=30, offline=True)
    assert fits.fits[0].fits
    short = hfmem.estimate(BIG, runtime="llamacpp", quant="Q4_K_M", gpu="2x RTX 4060", n_gpu_layers=30, offline=True)
    assert short.fits[0].fits is False


def test_a_type_of_the_cache_has_options_of_its_own(env: dict[str, str]) -> None:
    found = lines(SMALL, *OF_LLAMA, "--kv-dtype", "q8_0", env=env, code=2)
    assert "-ctk q8_0 -ctv q8_0" in found[0]


def test_the_heading_is_of_what_is_stored(env: dict[str, str]) -> None:
    assert "mostly Q4_K)" in lines(SMALL, *OF_LLAMA, "--dtype", "float16", env=env)[0]


def test_in_training_quantisations_have_no_totals(env: dict[str, str]) -> None:
    heading = next(line for line in lines(GGUF, "--train", "full", env=env) if "download" in line)
    assert heading.split() == ["quant", "bits", "download", "file"]


@pytest.mark.parametrize("asked", [(f"{SMALL}:Q8_0",), (SMALL, "--quant", "Q8_0")])
def test_what_has_no_effect_is_called_as_it_was_typed(asked: tuple[str, ...], env: dict[str, str]) -> None:
    """bert's conversion is not known, so that no file of it is."""
    words = tuple(word.replace(SMALL, "google-bert/bert-base-uncased") for word in asked)
    typed = "':Q8_0'" if len(asked) == 1 else "--quant Q8_0"
    found = answer(*words, "--runtime", "llamacpp", env=env)
    assert any(note.startswith(f"{typed} has no effect") for note in found["notes"])


@pytest.mark.parametrize(
    ("file", "words", "quant"),
    [
        ("Meta-Llama-3.1-8B-Instruct-Q6_K.gguf", "is taken as Q6_K", "Q6_K"),
        ("other.gguf", "is left out: the catalog does not list the files", "Q4_K_M"),
    ],
)
def test_a_file_that_the_catalog_cannot_list(file: str, words: str, quant: str, env: dict[str, str]) -> None:
    found = answer(GGUF, "--file", file, env=env)
    assert any(words in note for note in found["notes"])
    assert f":{quant} " in found["serving"]["command"]


def test_it_is_answered_in_a_moment(env: dict[str, str]) -> None:
    """34 quantisations with their layers on a card that none of the larger ones fits on."""
    arguments = ("openai/gpt-oss-20b", "--runtime", "llamacpp", "--offline", "--gpu", "RTX 3060")
    run(*arguments, env=env)
    begun = time.process_time()
    run(*arguments, env=env)
    assert time.process_time() - begun < 3  # about one second on a free core
