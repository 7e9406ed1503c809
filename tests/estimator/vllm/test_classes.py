"""A model that a release of vLLM has no class for is refused; the table is read from wheels."""

from __future__ import annotations

import json
import subprocess
import sys
import zipfile
from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest

from hfmem import Model, estimate, inspect
from hfmem.engines.vllm.classes import classless, releases
from hfmem.probe.vllm_classes import backend_classes, read, rows
from hfmem.report.result import to_result

LLAMA = "meta-llama/Llama-3.1-8B-Instruct"


@cache
def model(name: str) -> Model:
    return inspect(name, offline=True)


def named(*names: str, like: str = LLAMA) -> Model:
    """A model whose configuration names other classes."""
    found = model(like)
    return replace(found, architecture=replace(found.architecture, architectures=names))


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("google-t5/t5-small", "vLLM 0.27 has no class for T5ForConditionalGeneration, and its transformers backend"),
        ("hustvl/yolos-tiny", "vLLM 0.27 has no class for YolosForObjectDetection, and its transformers backend"),
        ("facebook/bart-base", "the plugin at https://github.com/vllm-project/bart-plugin provides one"),
        ("Qwen/Qwen-7B", "0.23.0 was the last release with one"),
    ],
)
def test_a_model_without_a_class_is_refused(name: str, words: str) -> None:
    found = to_result(estimate(model(name), runtime="vllm", gpu="H100", vllm_version="0.27"))
    (fit,) = found["fit"]
    assert words in fit["refused"]
    assert (fit["fits"], fit["gpus_needed"], found["serving"]["command"]) == (False, None, None)


@pytest.mark.parametrize(
    ("name", "release", "refused"),
    [
        ("google-t5/t5-small", (0, 33), "does not run encoder-decoders"),
        ("google-t5/t5-small", (0, 99), ""),  # newer than the table
        ("hustvl/yolos-tiny", (0, 33), "models with token inputs"),
        ("openai/whisper-tiny", (0, 27), ""),
        ("Qwen/Qwen-7B", (0, 23), ""),
        ("mosaicml/mpt-7b", (0, 28), ""),
        ("mosaicml/mpt-7b", (0, 33), "0.28.0 was the last"),
        ("deepseek-ai/DeepSeek-V4-Flash", (0, 19), ""),  # the transformers of the table has the class
        ("facebook/bart-base", (0, 8), ""),  # before the first release that was read
        ("Skywork/Skywork-Reward-Llama-3.1-8B-v0.2", (0, 27), ""),  # LlamaForSequenceClassification, by its other ends
        ("albert/albert-base-v1", (0, 27), ""),  # by the backend for transformers
        ("openai-community/openai-gpt", (0, 33), "does not accept it"),
    ],
)
def test_releases_differ(name: str, release: tuple[int, int], refused: str) -> None:
    found = classless(model(name), release)
    assert refused in found if refused else found == ""


def test_the_source_of_a_class_counts_since_0_28() -> None:
    """model_executor/models/registry.py: 0.27 asks `_supports_attention_backend` alone, which BioGPT's class leaves
    unsaid while its attention takes what it is given."""
    assert "its transformers backend does not accept it" in classless(named("BioGptForCausalLM"), (0, 27))
    assert classless(named("BioGptForCausalLM"), (0, 28)) == ""


def test_what_cannot_be_told_is_not_refused() -> None:
    """Code of the repository's own may fit the backend; a configuration may name nothing, or several."""
    assert classless(named("NobodyKnowsForCausalLM"), (0, 33)) == ""
    assert classless(named(), (0, 33)) == ""
    assert classless(named("T5ForConditionalGeneration", "LlamaForCausalLM"), (0, 33)) == ""
    between = (0, 25)
    assert releases()[0] < between < releases()[1]
    assert classless(named("OlmoHybridForCausalLM"), between) == ""


REGISTRY = """
_TEXT = {"OldForCausalLM": ("old", "Old"), "AForCausalLM": ("a", "A")}
_MORE = {**{k: v for k, v in _TEXT.items()}, "BModel": ("b", "B")}
_VLLM_MODELS = {**_TEXT, **_MORE}
_PREVIOUSLY_SUPPORTED_MODELS = {"GoneForCausalLM": "0.9.1"}
_OOT_SUPPORTED_MODELS = {"BartModel": "https://plugin"}
"""


def wheel(folder: Path, version: str, registry: str) -> Path:
    path = folder / f"vllm-{version}.whl"
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("vllm/model_executor/models/registry.py", registry)
        file.writestr("vllm/config/model.py", '_SUFFIX_TO_DEFAULTS: list = [("ForCausalLM", ("generate", "none"))]\n')
        file.writestr(f"vllm-{version}.dist-info/METADATA", f"Name: vllm\nVersion: {version}\n")
    return path


def test_the_table_is_read_from_wheels(tmp_path: Path) -> None:
    older = read(wheel(tmp_path, "0.19.0", REGISTRY))
    unpacked = tmp_path / "unpacked"
    with zipfile.ZipFile(wheel(tmp_path, "0.27.0", REGISTRY.replace('"OldForCausalLM": ("old", "Old"), ', ""))) as file:
        file.extractall(unpacked)
    head, *found = rows([read(unpacked), older], {"AForCausalLM": "flag", "CModel": ""})
    assert (head["releases"], head["suffixes"]) == (["0.19.0", "0.27.0"], ["ForCausalLM"])
    assert found == [
        {"class": "AForCausalLM", "since": "0.19.0"},
        {"class": "BModel", "since": "0.19.0"},
        {"class": "BartModel", "plugin": "https://plugin"},
        {"class": "GoneForCausalLM", "until": "0.9.1"},
        {"class": "OldForCausalLM", "since": "0.19.0", "until": "0.19.0"},
        {"backend": "flag", "classes": ["AForCausalLM"]},
        {"backend": "source", "classes": []},
        {"backend": "", "classes": ["CModel"]},
    ]


def test_classes_of_transformers_are_asked_as_vllm_asks_them(tmp_path: Path) -> None:
    sources = {
        "flagged": "class XPreTrainedModel(PreTrainedModel):\n    _supports_attention_backend = True\n"
        "class XModel(XPreTrainedModel):\n    pass\n__all__ = ['XModel', 'XPreTrainedModel']\n",
        "source": "class YAttention(nn.Module):\n    f = ALL_ATTENTION_FUNCTIONS.get_interface('x', y)\n"
        "class YModel(PreTrainedModel):\n    pass\nclass YHelper:\n    pass\n__all__ = ['YModel', 'YHelper']\n",
        "neither": "class ZAttention(nn.Module):\n    pass\n"
        "class ZModel(PreTrainedModel):\n    pass\n__all__ = ['ZModel']\n",
    }
    for name, source in sources.items():
        (tmp_path / "models" / name).mkdir(parents=True)
        (tmp_path / "models" / name / f"modeling_{name}.py").write_text(source)
    assert backend_classes(tmp_path) == {"XModel": "flag", "YModel": "source", "ZModel": ""}


def test_other_engines_do_not_load_the_table() -> None:
    code = (
        "import sys, json, hfmem\n"
        "hfmem.estimate('openai-community/gpt2', offline=True, gpu=('H100',))\n"
        "print(json.dumps([name for name in sys.modules if name.startswith('hfmem.engines.vllm.')]))"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert sorted(json.loads(run.stdout)) == [f"hfmem.engines.vllm.{name}" for name in ("options", "serving_options")]
