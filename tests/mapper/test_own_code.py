"""Readers of models whose code lives in their repositories: published totals, and what a token keeps."""

from __future__ import annotations

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


CHATGLM: Config = {
    "model_type": "chatglm",
    "architectures": ["ChatGLMModel"],
    "add_bias_linear": False,
    "add_qkv_bias": True,
    "multi_query_attention": True,
    "hidden_size": 4096,
    "kv_channels": 128,
    "multi_query_group_num": 2,
    "num_attention_heads": 32,
    "ffn_hidden_size": 13696,
}
CHATGLM2 = CHATGLM | {"num_layers": 28, "padded_vocab_size": 65024}
GLM4 = CHATGLM | {"num_layers": 40, "padded_vocab_size": 151552}
BAICHUAN2 = sizes("baichuan", hidden=4096, layers=32, heads=32, vocab=125696, inner=11008)
QWEN = sizes("qwen", hidden=4096, layers=32, heads=32, vocab=151936, inner=22016, kv_channels=128, no_bias=True)
INTERNLM2 = sizes(
    "internlm2", hidden=4096, layers=32, heads=32, vocab=92544, inner=14336, num_key_value_heads=8, bias=False
)
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
DEEPSEEK_MOE = sizes(
    "deepseek",
    hidden=2048,
    layers=28,
    heads=16,
    vocab=102400,
    inner=10944,
    num_key_value_heads=16,
    moe_intermediate_size=1408,
    n_routed_experts=64,
    n_shared_experts=2,
    num_experts_per_tok=6,
    first_k_dense_replace=1,
    moe_layer_freq=1,
)
PHI = {
    "model_type": "phi-msft",
    "architectures": ["PhiForCausalLM"],
    "n_embd": 2048,
    "n_head": 32,
    "n_head_kv": None,
    "n_inner": None,
    "n_layer": 24,
    "vocab_size": 51200,
}
PHI3_SMALL = sizes("phi3small", hidden=4096, layers=32, heads=32, vocab=100352, inner=0, num_key_value_heads=8) | {
    "ff_intermediate_size": 14336
}
PHI3_VISION = sizes("phi3_v", hidden=3072, layers=32, heads=32, vocab=32064, inner=8192, num_key_value_heads=32) | {
    "img_processor": {"model_name": "openai/clip-vit-large-patch14-336", "image_dim_out": 1024},
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

_SMALL_VISION: Config = {
    "model_type": "intern_vit_6b",
    "hidden_size": 1024,
    "intermediate_size": 4096,
    "num_hidden_layers": 24,
    "num_channels": 3,
    "image_size": 448,
    "patch_size": 14,
    "qkv_bias": True,
    "qk_normalization": False,
    "norm_type": "layer_norm",
}


def internvl(text: Config) -> Config:
    return {
        "model_type": "internvl_chat",
        "architectures": ["InternVLChatModel"],
        "downsample_ratio": 0.5,
        "llm_config": text,
        "vision_config": _SMALL_VISION,
    }


_LARGE_VISION: Config = _SMALL_VISION | {
    "hidden_size": 3200,
    "intermediate_size": 12800,
    "num_hidden_layers": 45,
    "qkv_bias": False,
    "qk_normalization": True,
    "norm_type": "rms_norm",
}


def qwen2(*, hidden: int, layers: int, heads: int, inner: int, kv_heads: int) -> Config:
    more = {"num_key_value_heads": kv_heads, "tie_word_embeddings": False, "use_sliding_window": False}
    return sizes("qwen2", hidden=hidden, layers=layers, heads=heads, vocab=151674, inner=inner, **more)


INTERNVL_1B = internvl(qwen2(hidden=896, layers=24, heads=14, inner=4864, kv_heads=2))
INTERNVL_4B = internvl(qwen2(hidden=2048, layers=36, heads=16, inner=11008, kv_heads=2))
INTERNVL_26B = internvl(
    sizes("internlm2", hidden=6144, layers=48, heads=48, vocab=92553, inner=16384, num_key_value_heads=8, bias=False)
) | {"vision_config": _LARGE_VISION}
INTERNVL_78B = internvl(qwen2(hidden=8192, layers=80, heads=64, inner=29568, kv_heads=8)) | {
    "vision_config": _LARGE_VISION
}
INTERNVL_2B = internvl(
    sizes("internlm2", hidden=2048, layers=24, heads=16, vocab=92553, inner=8192, num_key_value_heads=8, bias=False)
)
INTERNVL_8B = internvl(INTERNLM2 | {"vocab_size": 92553})

# (name, config facts, parameters, elements that one more token adds, where the total is from)
MODELS = [
    ("chatglm2-6b", CHATGLM2, 6_243_584_032 - 32, 28 * 2 * 2 * 128, "as users print it, less 32 of inv_freq"),
    ("glm-4-9b", GLM4, 9_399_951_392 - 32, 40 * 2 * 2 * 128, "as users print it, less 32 of inv_freq"),
    ("Baichuan2-7B", BAICHUAN2, 7_505_973_248, 32 * 2 * 4096, "the sum of the modules"),
    ("Qwen-7B", QWEN, 7_721_324_544, 32 * 2 * 4096, "as users print it"),
    ("internlm2-7b", INTERNLM2, 7_737_708_544, 32 * 2 * 8 * 128, "the published total"),
    (
        "internlm2-7b-reward",
        INTERNLM2 | {"architectures": ["InternLM2ForRewardModel"]},
        7_737_708_544 - 92544 * 4096 + 4096,
        32 * 2 * 8 * 128,
        "the language model's, with a head of one output in place of the vocabulary's",
    ),
    ("EXAONE-3.5-7.8B", EXAONE, 7_818_448_896, 32 * 2 * 8 * 128, "the sum of the modules"),
    ("deepseek-moe-16b", DEEPSEEK_MOE, 16_375_728_128, 28 * 2 * 2048, "the Hub's safetensors.total of the base model"),
    ("phi-1_5", PHI, 1_418_270_720, 24 * 2 * 2048, "as users print it, and the Hub's safetensors.total"),
    ("Phi-3-small-8k", PHI3_SMALL, 7_392_272_384, 32 * 2 * 8 * 128, "the sum of the modules"),
    ("Phi-3.5-vision", PHI3_VISION, 4_146_621_440, 32 * 2 * 3072, "the Hub's safetensors.total"),
    ("MiMo-7B", MIMO, 7_622_619_136, 36 * 2 * 8 * 128, "the sum of the modules, without prediction layers"),
    ("MiniCPM-MoE-8x2B", MINICPM_MOE, 13_873_291_776, 40 * 2 * 2304, "the sum of the modules"),
    (
        "Kimi-K2",
        KIMI_K2,
        1_026_879_376_368 - 60 * 384 - 471_143_920,
        61 * 64 * (192 + 128),
        "the Hub's safetensors.total of Kimi-K2.5, less router biases, tower and projector",
    ),
    ("InternVL2.5-1B", INTERNVL_1B, 938_193_024, 24 * 2 * 2 * 64, "get_safetensors_metadata"),
    ("InternVL2.5-4B", INTERNVL_4B, 3_712_637_952, 36 * 2 * 2 * 128, "get_safetensors_metadata"),
    ("InternVL2.5-26B", INTERNVL_26B, 25_514_186_112, 48 * 2 * 8 * 128, "get_safetensors_metadata"),
    ("InternVL2.5-78B", INTERNVL_78B, 78_408_318_336, 80 * 2 * 8 * 128, "get_safetensors_metadata"),
    ("InternVL2.5-2B", INTERNVL_2B, 2_205_754_368, 24 * 2 * 8 * 128, "get_safetensors_metadata"),
    ("InternVL2.5-8B", INTERNVL_8B, 8_075_365_376, 32 * 2 * 8 * 128, "get_safetensors_metadata"),
]


@pytest.mark.parametrize(("_name", "config", "parameters", "_elements", "_source"), MODELS)
def test_parameters(_name: str, config: Config, parameters: int, _elements: int, _source: str) -> None:
    assert total(config) == parameters


@pytest.mark.parametrize(("_name", "config", "_parameters", "elements", "_source"), MODELS)
def test_what_a_token_keeps(_name: str, config: Config, _parameters: int, elements: int, _source: str) -> None:
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
