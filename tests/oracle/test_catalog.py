"""The catalog's tables made again from the classes of `transformers`."""

from __future__ import annotations

import pytest

from hfmem.probe.catalog import entries

pytestmark = [pytest.mark.oracle, pytest.mark.filterwarnings("ignore")]

MODELS = [
    "meta-llama/Llama-2-7b-hf",  # buffers of the repository
    "Qwen/Qwen3-30B-A3B",  # experts split again
    "google/gemma-3-4b-it",  # prefixes of the vision tower put back
    "deepseek-ai/DeepSeek-V2-Lite",
    "deepseek-ai/DeepSeek-V3",  # prediction layer, FP8 blocks
    "openai/gpt-oss-20b",  # MXFP4
    "nvidia/NVIDIA-Nemotron-3-Nano-30B-A3B-NVFP4",
    "mistralai/Devstral-Small-2507",  # names recorded from an index
    "microsoft/Phi-3.5-vision-instruct",  # written out, no class
]


@pytest.mark.parametrize("model", MODELS)
def test_regenerating_gives_the_entry_back(model: str) -> None:
    pytest.importorskip("torch")
    from hfmem.probe.catalog import generate

    entry = entries.read()[model]
    assert generate.regenerate(entry) == entry
