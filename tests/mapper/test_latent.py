"""Latent, indexed and compressed attention: totals of the large models, and what their layers keep."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

from hfmem.mapper.caches import COMPUTE, KV_DTYPE, Compressed, Seen
from hfmem.mapper.facts import Facts
from hfmem.mapper.families import reader

Config = dict[str, Any]

# The keys of the published files that are not the defaults of their class.
DEEPSEEK_V32: Config = {"model_type": "deepseek_v32", "tie_word_embeddings": False}
GLM_5: Config = {"model_type": "glm_moe_dsa", "num_hidden_layers": 78, "tie_word_embeddings": False}
GLM_52 = GLM_5 | {"index_topk_freq": 4, "index_skip_topk_offset": 3}
MINICPM3: Config = {"model_type": "minicpm3"}
DEEPSEEK_V4: Config = {
    "model_type": "deepseek_v4",
    "compress_ratios": [0, 0, *(4 if index % 2 == 0 else 128 for index in range(41)), 0],
}

# (name, config facts, parameters, where the total is from)
TOTALS = [
    ("DeepSeek-V3.2", DEEPSEEK_V32, 685_355_329_792 - 14_848 - 13_477_385_728, "the Hub's, less biases and prediction"),
    ("GLM-5", GLM_5, 753_864_139_008 - 9_952_920_576 - 19_200, "the Hub's, less biases and prediction"),
    ("GLM-5.2", GLM_52, 753_329_940_480 - 9_952_920_576 - 19_200, "the same; most layers share an indexer's choice"),
    ("MiniCPM3-4B", MINICPM3, 4_073_875_968, "the class on the meta device"),
    (
        "DeepSeek-V4-Flash",
        DEEPSEEK_V4,
        290_944_616_402 - 6_610_048_891 - 2_327_040 - 40 * 256,
        "the Hub's, less prediction, hash tables and the biases of 40 routers",
    ),
]


@pytest.mark.parametrize(("_name", "config", "parameters", "_source"), TOTALS)
def test_parameters(_name: str, config: Config, parameters: int, _source: str) -> None:
    found = reader(config["model_type"])
    assert found is not None
    table = found(Facts(config)).parameters
    assert table is not None
    assert table.total == parameters


def elements(config: Config, tokens: int) -> list[int]:
    found = reader(config["model_type"])
    assert found is not None
    return [layer.elements(tokens) for layer in found(Facts(config)).architecture.layers or ()]


def test_the_cache_keeps_latent_rotary_part_and_the_indexers_key() -> None:
    assert elements(DEEPSEEK_V32, 1) == [512 + 64 + 128] * 61
    full = [512 + 64 + 128 if index < 2 or (index - 2) % 4 == 0 else 512 + 64 for index in range(78)]
    assert elements(GLM_52, 1) == full


def test_deepseek_v4_keeps_a_window_and_an_entry_for_so_many_tokens() -> None:
    window = 128 * 512
    sparse = window + 1024 * 512 + 2 * 4 * 512 + 1024 * 128 + 2 * 4 * 128
    heavy = window + 32 * 512
    assert elements(DEEPSEEK_V4, 4096)[:4] == [2 * window, 2 * window, sparse, heavy]


# (cache, tokens, elements of the entries, of what waits for its entry, of the last window's gates in float32)
COMPRESSED = [
    (Compressed(dim=10, rate=4), 3, 0, 3 * 2 * 10, 0),
    (Compressed(dim=10, rate=4), 8, 20, 0, 0),
    (Compressed(dim=10, rate=4, overlapping=True), 3, 0, 3 * 2 * 20, 0),
    (Compressed(dim=10, rate=4, overlapping=True), 9, 20, 1 * 2 * 20 + 4 * 10, 4 * 10),
]


@pytest.mark.parametrize(("cache", "tokens", "entries", "waiting", "gates"), COMPRESSED)
def test_tokens_wait_until_their_entry_is_full(
    cache: Compressed, tokens: int, entries: int, waiting: int, gates: int
) -> None:
    found = Counter[str]()
    for part in cache.parts(Seen(tokens=tokens)):
        found[part.dtype] += part.elements
    assert [found[dtype] for dtype in (KV_DTYPE, COMPUTE, "float32")] == [entries, waiting, gates]
