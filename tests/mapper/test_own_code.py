"""Readers of models whose code lives in their repositories: published totals, and what a token keeps."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from hfmem.mapper.blueprint import Blueprint
from hfmem.mapper.caches import Latent, State
from hfmem.mapper.facts import Facts, MissingFactError
from hfmem.mapper.families import reader
from hfmem.mapper.values import Layer

Config = dict[str, Any]


def read(config: Config) -> Blueprint:
    found = reader(config["model_type"])
    assert found is not None
    return found(Facts(config))


def total(config: Config) -> int | None:
    table = read(config).parameters
    return None if table is None else table.total


def a_token(config: Config, tokens: int = 4096) -> int:
    """Elements that one more token adds."""
    layers = read(config).architecture.layers or ()
    return sum(layer.elements(tokens + 1) - layer.elements(tokens) for layer in layers)


def sizes(model_type: str, *, hidden: int, layers: int, heads: int, vocab: int, inner: int, **more: Any) -> Config:
    return {
        "model_type": model_type,
        "hidden_size": hidden,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "vocab_size": vocab,
        "intermediate_size": inner,
        **more,
    }


BAICHUAN2 = sizes("baichuan", hidden=4096, layers=32, heads=32, vocab=125696, inner=11008)
INTERNLM2 = sizes(
    "internlm2", hidden=4096, layers=32, heads=32, vocab=92544, inner=14336, num_key_value_heads=8, bias=False
)
INTERNLM = sizes("internlm", hidden=4096, layers=32, heads=32, vocab=103168, inner=11008)
EXAONE = sizes(
    "exaone",
    hidden=4096,
    layers=32,
    heads=32,
    vocab=102400,
    inner=14336,
    num_layers=32,
    num_key_value_heads=8,
    head_dim=128,
    tie_word_embeddings=False,
)
PHI3_SMALL = sizes("phi3small", hidden=4096, layers=32, heads=32, vocab=100352, inner=0, num_key_value_heads=8) | {
    "ff_intermediate_size": 14336
}
MIMO = sizes(
    "mimo",
    hidden=4096,
    layers=36,
    heads=32,
    vocab=151680,
    inner=11008,
    num_key_value_heads=8,
    head_dim=128,
    attention_bias=True,
    sliding_window=32768,
    use_sliding_window=False,
)
MINICPM_MOE = sizes(
    "minicpm", hidden=2304, layers=40, heads=36, vocab=122753, inner=5760, num_experts=8, num_experts_per_tok=2
)
KIMI_K2 = sizes(
    "kimi_k2",
    hidden=7168,
    layers=61,
    heads=64,
    vocab=163840,
    inner=18432,
    kv_lora_rank=512,
    q_lora_rank=1536,
    qk_nope_head_dim=128,
    qk_rope_head_dim=64,
    v_head_dim=128,
    moe_intermediate_size=2048,
    n_routed_experts=384,
    n_shared_experts=1,
    num_experts_per_tok=8,
    first_k_dense_replace=1,
    tie_word_embeddings=False,
    attention_bias=False,
)


# (name, config facts, parameters, elements that one more token adds): of whole models that people printed or the Hub
# counted, with the source of each total
PUBLISHED = [
    (row["model"], row["config"], row["parameters"], row["elements"])
    for row in map(json.loads, (Path(__file__).parents[2] / "fixtures" / "measured" / "published.jsonl").open())
]

# … and of modules that are summed here, or derived from another
MODELS = [
    *PUBLISHED,
    ("Baichuan2-7B", BAICHUAN2, 7_505_973_248, 32 * 2 * 4096),
    (
        "internlm2-7b-reward",  # a head of one output in place of the vocabulary's
        INTERNLM2 | {"architectures": ["InternLM2ForRewardModel"]},
        7_737_708_544 - 92544 * 4096 + 4096,
        32 * 2 * 8 * 128,
    ),
    (  # its attention has biases where the file does not say
        "internlm-7b",
        INTERNLM,
        2 * 103168 * 4096 + 32 * (4 * 4096 * 4096 + 4 * 4096 + 3 * 4096 * 11008 + 2 * 4096) + 4096,
        32 * 2 * 4096,
    ),
    ("EXAONE-3.5-7.8B", EXAONE, 7_818_448_896, 32 * 2 * 8 * 128),
    ("Phi-3-small-8k", PHI3_SMALL, 7_392_272_384, 32 * 2 * 8 * 128),
    ("MiMo-7B", MIMO, 7_622_619_136, 36 * 2 * 8 * 128),  # without prediction layers
    ("MiniCPM-MoE-8x2B", MINICPM_MOE, 13_873_291_776, 40 * 2 * 2304),
    (  # the same without experts; its head is the embedding
        "MiniCPM-2B",
        sizes("minicpm", hidden=2304, layers=40, heads=36, vocab=122753, inner=5760),
        122753 * 2304 + 40 * (4 * 2304 * 2304 + 3 * 2304 * 5760 + 2 * 2304) + 2304,
        40 * 2 * 2304,
    ),
]


@pytest.mark.parametrize(("_name", "config", "parameters", "_elements"), MODELS)
def test_parameters(_name: str, config: Config, parameters: int, _elements: int) -> None:
    assert total(config) == parameters


@pytest.mark.parametrize(("_name", "config", "_parameters", "elements"), MODELS)
def test_what_a_token_keeps(_name: str, config: Config, _parameters: int, elements: int) -> None:
    assert a_token(config) == elements


def _blocks(*blocks: tuple[int | None, float | None]) -> list[Config]:
    """(query heads a key/value head, or None without attention; the feed-forward's factor, or None without one)."""
    return [
        {
            "attention": {"n_heads_in_group": group, "no_op": group is None, "replace_with_linear": False},
            "ffn": {"ffn_mult": factor, "no_op": factor is None, "replace_with_linear": False},
        }
        for group, factor in blocks
    ]


NAS: Config = {
    "model_type": "nemotron-nas",
    "hidden_size": 512,
    "num_attention_heads": 8,
    "num_hidden_layers": 4,
    "vocab_size": 100,
    "intermediate_size": None,
    "num_key_value_heads": None,
    "block_configs": _blocks((4, 2.625), (None, 1.0), (8, None), (None, None)),
}


def test_layers_without_attention_keep_nothing_and_groups_differ() -> None:
    layers = read(NAS).architecture.layers or ()
    assert [layer.kind for layer in layers] == ["full_attention", "none", "full_attention", "none"]
    assert [layer.elements(1) for layer in layers] == [2 * 2 * 64, 0, 2 * 64, 0]


def test_units_are_rounded_up_to_256_and_a_part_that_is_missing_has_no_norm() -> None:
    hidden, first, second = 512, 1024, 512  # 2 × 2.625 × 512 / 3 = 896, 2 × 1.0 × 512 / 3 = 341
    attention = 2 * hidden * hidden + 2 * hidden * 128, 2 * hidden * hidden + 2 * hidden * 64
    expected = 2 * 100 * hidden + sum(attention) + 3 * hidden * (first + second) + hidden * 5
    assert total(NAS) == expected


def test_blocks_that_say_nothing_are_a_reason() -> None:
    with pytest.raises(MissingFactError, match="block_configs"):
        read({key: value for key, value in NAS.items() if key != "block_configs"})


def test_rwkv5_keeps_a_matrix_a_head_however_long_the_text() -> None:
    config = {"model_type": "rwkv5", "hidden_size": 2560, "attention_hidden_size": 2560, "head_size": 64}
    config |= {"num_hidden_layers": 32, "vocab_size": 65536, "intermediate_size": None}
    layers = read(config).architecture.layers or ()
    assert len(layers) == 32
    assert layers[0].cache == State(conv=2 * 2560, recurrent=40 * 64 * 64, recurrent_dtype="float32")
    assert layers[0].elements(1) == layers[0].elements(10_000)


def test_own_code_with_latent_attention_keeps_the_heads() -> None:
    text = KIMI_K2 | {"model_type": "deepseek_v2", "n_routed_experts": 64}
    for config in (KIMI_K2, {"model_type": "deepseek_vl_v2", "language_config": text}):
        caches = [layer.cache for layer in read(config).architecture.layers or ()]
        assert all(isinstance(cache, Latent) and cache.expanded for cache in caches)
        assert caches


# (config, elements that one more token adds): the layers are known, not every weight
LAYERS_ONLY = [
    (
        {
            "model_type": "falcon_perception",
            "dim": 1024,
            "n_layers": 28,
            "n_heads": 16,
            "head_dim": 128,
            "n_kv_heads": 8,
            "vocab_size": 65536,
            "ffn_dim": 3072,
        },
        28 * 2 * 8 * 128,
    ),
    (
        {
            "model_type": "multi_modality",
            "language_config": sizes("llama", hidden=2048, layers=24, heads=16, vocab=102400, inner=5632),
        },
        24 * 2 * 2048,
    ),
    (
        {
            "model_type": "locateanything",
            "text_config": sizes(
                "qwen2", hidden=2048, layers=36, heads=16, vocab=152681, inner=11008, num_key_value_heads=2
            )
            | {"use_sliding_window": False},
        },
        36 * 2 * 2 * 128,
    ),
    (sizes("molmo", hidden=3584, layers=28, heads=28, vocab=152064, inner=37888, num_key_value_heads=4), 28 * 8 * 128),
    (
        sizes("minicpmv", hidden=3584, layers=28, heads=28, vocab=151666, inner=18944, num_key_value_heads=4),
        28 * 8 * 128,
    ),
]


@pytest.mark.parametrize(("config", "elements"), LAYERS_ONLY)
def test_layers_are_known_where_weights_are_not(config: Config, elements: int) -> None:
    assert a_token(config) == elements
    assert total(config) is None


@pytest.mark.parametrize("model_type", ["baichuan", "chatglm", "internvl_chat", "nemotron-nas", "phi3_v", "rwkv5"])
def test_a_file_of_own_code_that_lacks_facts_is_a_reason_and_no_guess(model_type: str) -> None:
    with pytest.raises(MissingFactError):
        read({"model_type": model_type})


def test_a_whole_around_kimi_linear_keeps_states_and_latents() -> None:
    text = {
        "model_type": "kimi_linear",
        "vocab_size": 100,
        "hidden_size": 64,
        "intermediate_size": 128,
        "num_hidden_layers": 4,
        "num_attention_heads": 2,
        "num_key_value_heads": 2,
        "kv_lora_rank": 16,
        "qk_rope_head_dim": 8,
        "qk_nope_head_dim": 16,
        "v_head_dim": 16,
        "num_experts": 4,
        "num_experts_per_token": 2,
        "num_shared_experts": 1,
        "moe_intermediate_size": 32,
        "linear_attn_config": {
            "num_heads": 2,
            "head_dim": 16,
            "short_conv_kernel_size": 4,
            "full_attn_layers": [4],
            "kda_layers": [1, 2, 3],
        },
    }
    layers = interpret_config({"model_type": "kimi_k3", "text_config": text})
    assert [layer.kind for layer in layers] == ["linear_attention"] * 3 + ["full_attention"]
    assert layers[3].elements(10) == 10 * (16 + 8)
    assert layers[0].elements(10) == layers[0].elements(1000)


def interpret_config(config: dict[str, object]) -> tuple[Layer, ...]:
    """The layers that the reader of a configuration gives."""
    read = reader(str(config["model_type"]))
    assert read is not None
    layers = read(Facts(config)).architecture.layers
    assert layers is not None
    return layers
