"""Readers against the classes they describe: every class of every type, each flag of its configuration both ways."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Iterator
from typing import Any

import pytest

pytest.importorskip("torch")

from transformers.models.auto.configuration_auto import CONFIG_MAPPING

from hfmem.mapper.blueprint import Blueprint
from hfmem.mapper.caches import Nothing
from hfmem.mapper.facts import Facts
from hfmem.mapper.families import known_types, reader, types_of
from tests.oracle.reference import cached_elements, classes, configuration, parameters, small_config
from tests.oracle.states import CONFIGS
from tests.oracle.test_multimodal import MODULES

pytestmark = [pytest.mark.oracle, pytest.mark.filterwarnings("ignore")]

# Types with tests of their own: test_states.py, test_multimodal.py, test_hidden.py, and tests/mapper/test_parts.py.
# Step-3.7 is only known by its text model, step3p5; deepseek_ref is deepseek_v4.
ELSEWHERE = (
    set(CONFIGS)
    | types_of(*MODULES, "donut_swin", "moonshine", "pairs", "reformer", "trocr", "xlnet")
    | {"shieldgemma2", "step3p7"}
)
TYPES = sorted((known_types() & set(CONFIG_MAPPING)) - ELSEWHERE)
TOKENS = 20

# Classes whose heads are not described; their weights are unknown, not wrong.
UNDESCRIBED = {"OpenAIGPTDoubleHeadsModel", "GPT2DoubleHeadsModel", "ElectraForMultipleChoice"}

# Flags that change nothing in memory, or not the model itself.
IGNORED = {"is_encoder_decoder", "use_cache", "is_decoder", "add_cross_attention", "return_dict", "torchscript"}

# Flags that the class of the type refuses to have the other way round.
REFUSED = {"internlm3": {"attention_bias", "mlp_bias"}, "laguna": {"moe_apply_router_weight_on_input"}}

# Changes beyond flags, each with what of the type it reaches.
VARIANTS: dict[str, list[dict[str, Any]]] = {
    "afmoe": [{"num_dense_layers": 3, "global_attn_every_n_layers": 3}],
    "doge": [{"is_moe": True, "num_experts": 50}, {"sliding_window": None}],
    "exaone_moe": [{"sliding_window_pattern": 3}, {"mlp_layer_types": ["dense", "sparse"] * 3}],
    "flint": [{"mlp_only_layers": [3], "decoder_sparse_step": 2}],
    "granite_swa": [{"layer_types": ["full_attention"] * 6}],
    "hunyuan_v1_moe": [{"head_dim": 16, "num_experts": 3}],
    "laguna": [
        {"num_attention_heads_per_layer": [4, 8, 2, 4, 8, 8], "gating": "per-element"},
        {"layer_types": ["full_attention", "sliding_attention"] * 3, "mlp_layer_types": ["sparse"] * 6},
    ],
    "mellum": [
        {"layer_types": ["full_attention", "sliding_attention"] * 3, "mlp_layer_types": ["dense", "sparse"] * 3}
    ],
    "mimo_v2_flash": [{"sliding_window_size": 6}, {"mlp_layer_types": ["dense", "sparse"] * 3, "head_dim": 24}],
    "minimax_m3_vl_text": [
        {"layer_types": ["full_attention", "minimax_m3_sparse"] * 3, "mlp_layer_types": ["dense", "sparse"] * 3},
        {
            "sparse_attention_config": {
                "sparse_attention_freq": [0, 1, 1, 0, 1, 1],
                "sparse_index_dim": 12,
                "sparse_num_index_heads": 2,
            },
            "moe_layer_freq": [0, 0, 1, 1, 1, 1],
        },
    ],
    "albert": [{"num_hidden_groups": 2, "inner_group_num": 2}, {"embedding_size": 64}],
    "apertus": [{"hidden_act": "silu"}],
    "bloom": [{"n_embed": 32}],
    "cohere2": [{"sliding_window_pattern": 3}, {"layer_types": ["full_attention"] * 6}],
    "deberta-v2": [
        {"relative_attention": True, "pos_att_type": ["c2p", "p2c"], "position_buckets": 5, "type_vocab_size": 0},
        {"relative_attention": True, "pos_att_type": "p2c|c2p", "norm_rel_ebd": "layer_norm", "share_att_key": True},
        {"relative_attention": True, "max_relative_positions": 9, "pos_att_type": "c2p", "embedding_size": 40},
        {"conv_kernel_size": 3, "conv_groups": 2, "position_biased_input": False},
    ],
    "deepseek_v2": [{"q_lora_rank": None}],
    "deepseek_v3": [{"q_lora_rank": None}],
    "deepseek_v32": [{"first_k_dense_replace": 4}, {"mlp_layer_types": ["dense", "sparse"] * 3}],
    "dots3_note_text": [
        {"use_dsa": False, "moe_layer_freq": [1, 0, 1, 0, 1, 1]},
        {"swa_kv_lora_rank": 30, "swa_num_attention_heads": 8, "swa_num_key_value_heads": 8, "swa_v_head_dim": 10},
        {"layer_types": ["full_attention", "sliding_attention"] * 3, "moe_shared_expert_intermediate_size": 40},
        {
            "layer_types": ["full_attention", "sliding_attention"] * 3,
            "per_layer_config": {str(index): {"kv_lora_rank": 30, "head_dim": 20} for index in (1, 3, 5)},
        },
    ],
    "axk1": [{"first_k_dense_replace": 3, "moe_layer_freq": 2}],
    "axk2": [{"first_k_dense_replace": 2}],
    "deepseek_v4": [
        {"compress_ratios": [0, 4, 128, 4, 0, 4], "compress_rate_hca": 8},
        {"compress_rates": {"compressed_sparse_attention": 3, "heavily_compressed_attention": 6}, "o_groups": 4},
    ],
    "glm4_moe_lite": [{"mlp_layer_types": ["sparse"] * 6}, {"q_lora_rank": None}],
    "glm_moe_dsa": [
        {"index_topk_pattern": "FFSSFS"},
        {"index_topk_freq": 3, "index_skip_topk_offset": 1},
        {"indexer_types": ["full", "shared", "shared", "full", "shared", "full"]},
    ],
    "hy_v4": [{"hc_mult": 3}, {"indexer_types": ["full", "shared", "shared", "full", "shared", "full"]}],
    "minicpm3": [{"v_head_dim": None}, {"q_lora_rank": None}],
    "youtu": [{"q_lora_rank": None}],
    "electra": [{"embedding_size": 64}],
    "ernie4_5_moe": [{"moe_layer_interval": 2, "moe_layer_start_index": 1, "moe_layer_end_index": 3}],
    "exaone4": [{"sliding_window_pattern": 2}, {"sliding_window": None, "layer_types": ["full_attention"] * 6}],
    "falcon": [
        {"new_decoder_architecture": True, "num_ln_in_parallel_attn": 1},
        {"new_decoder_architecture": True, "num_kv_heads": 4, "bias": True},
        {
            "multi_query": False,
            "num_kv_heads": 4,
            "alibi": True,
            "parallel_attn": False,
            "bias": True,
            "ffn_hidden_size": 96,
        },
    ],
    "gemma3_text": [{"sliding_window_pattern": 4}, {"layer_types": ["full_attention"] * 6, "head_dim": 24}],
    "gpt2": [{"n_inner": None}],
    "granitemoeshared": [{"shared_intermediate_size": 40}],
    "llama": [{"head_dim": 24}, {"num_key_value_heads": 1, "id2label": {"0": "a", "1": "b", "2": "c"}}],
    "mistral": [{"sliding_window": None}, {"head_dim": 24}],
    "modernbert": [{"num_labels": 5}],
    "opt": [{"word_embed_proj_dim": 40, "do_layer_norm_before": False}, {"_remove_final_layer_norm": True}],
    "qwen2": [{"use_sliding_window": True}, {"use_sliding_window": True, "sliding_window": None}],
    "qwen2_moe": [
        {"use_sliding_window": True},
        {"decoder_sparse_step": 2},
        {"mlp_only_layers": [0, 3]},
        {"num_experts": 0},
    ],
    "qwen3": [{"use_sliding_window": True, "head_dim": 24}],
    "qwen3_moe": [{"use_sliding_window": True}, {"decoder_sparse_step": 2, "mlp_only_layers": [1]}, {"head_dim": 24}],
    "smollm3": [{"use_sliding_window": True, "no_rope_layer_interval": 3}],
    "stablelm": [{"qk_layernorm": True, "use_parallel_residual": True}],
}


# Keys without which the class of the type cannot be built, or not so small.
NEEDED: dict[str, dict[str, Any]] = {
    "glm5_next_text": {"qk_rope_head_dim": 0, "index_kpool": 2},
    "longcat_flash": {"num_layers": 3, "num_key_value_heads": 4, "head_dim": 8},
    "minimax_m3_vl_text": {"index_n_heads": 2},
    "hunyuan_v1_moe": {"head_dim": 24, "num_experts": 6, "moe_topk": 2},
    "codegen": {"rotary_dim": 8},
    "cpmant": {"prompt_types": 3, "prompt_length": 5, "segment_types": 7, "dim_head": 24, "dim_ff": 88},
    "deepseek_v4": {"head_dim": 32},
    "gpt_neo": {"attention_types": [[["global", "local"], 3]]},
    "gptj": {"rotary_dim": 8},
    "helium": {"head_dim": 16},
    "hunyuan_v1_dense": {"head_dim": 24},
    "ministral": {"head_dim": 24},
}


def blueprint(config: dict[str, Any]) -> Blueprint:
    read = reader(config["model_type"])
    assert read is not None
    return read(Facts(config))


def as_implemented(cache: Any) -> Any:
    """The cache with windows of one token less, as the implementation keeps them."""
    if isinstance(cache, tuple):
        return tuple(as_implemented(part) for part in cache)
    if not dataclasses.is_dataclass(cache):
        return cache
    changes = {field.name: as_implemented(getattr(cache, field.name)) for field in dataclasses.fields(cache)}
    if changes.get("window") is not None:
        changes["window"] -= 1
    return dataclasses.replace(cache, **changes)


def whole(model_type: str, **changes: Any) -> dict[str, Any]:
    """A small config.json; of multimodal types, with small parts."""
    if model_type != "gemma3":
        return small_config(model_type, **{**NEEDED.get(model_type, {}), **changes})
    vision = small_config("siglip_vision_model", image_size=28, patch_size=7, hidden_size=48)
    text = small_config("gemma3_text")
    return {"model_type": "gemma3", "mm_tokens_per_image": 4, "text_config": text, "vision_config": vision, **changes}


def flipped(model_type: str) -> Iterator[dict[str, Any]]:
    """Each flag of the configuration class, the other way round."""
    for field in dataclasses.fields(CONFIG_MAPPING[model_type]):
        if field.name in REFUSED.get(model_type, ()):
            continue
        if isinstance(field.default, bool) and field.name not in IGNORED and not field.name.startswith("output_"):
            yield {field.name: not field.default}


@pytest.mark.parametrize("model_type", TYPES)
def test_every_class_of_the_type_has_as_many_parameters(model_type: str) -> None:
    names = classes(model_type)
    assert names
    for name in names:
        labels = 2 if name == "DistilBertForQuestionAnswering" else 3  # whose class takes no other number
        config = whole(model_type, architectures=[name], num_labels=labels)
        found = blueprint(config).parameters
        assert (found is None) == (name in UNDESCRIBED), name
        if found is not None:
            assert found.total == parameters(config), name


@pytest.mark.parametrize("model_type", TYPES)
def test_every_flag_and_variant_has_as_many_parameters(model_type: str) -> None:
    names = [name for name in classes(model_type) if name.endswith(("ForCausalLM", "LMHeadModel", "ForMaskedLM"))]
    names += [name for name in classes(model_type) if name.endswith("ForConditionalGeneration")]
    for changes in [{}, *flipped(model_type), *VARIANTS.get(model_type, [])]:
        for name in names:
            config = whole(model_type, architectures=[name], **changes)
            if blueprint(config).parameters is None:
                assert model_type == "deberta-v2", (name, changes)
                continue
            assert blueprint(config).parameters.total == parameters(config), (name, changes)


@pytest.mark.parametrize("model_type", TYPES)
def test_a_file_that_says_everything_and_one_that_leaves_out_defaults_agree(model_type: str) -> None:
    config = whole(model_type, architectures=[classes(model_type)[0]])
    full = configuration(config).to_dict()
    assert blueprint(full).groups == blueprint(config).groups
    assert blueprint(full).architecture.layers == blueprint(config).architecture.layers


@pytest.mark.parametrize("model_type", TYPES)
def test_the_cache_holds_as_much(model_type: str) -> None:
    """The implementation keeps one token less than the window: the next one takes its place."""
    names = [name for name in classes(model_type) if name.endswith(("ForCausalLM", "LMHeadModel"))]
    if "base" in model_type or not names:
        names = [name for name in classes(model_type) if name.endswith("ForConditionalGeneration")]
    for changes in [{}, *VARIANTS.get(model_type, [])]:
        for name in names:
            config = whole(model_type, architectures=[name], **changes)
            layers = blueprint(copy.deepcopy(config)).architecture.layers
            if layers is None or isinstance(layers[0].cache, Nothing):
                continue
            kept = [dataclasses.replace(layer, cache=as_implemented(layer.cache)) for layer in layers]
            expected = [layer.elements(TOKENS) for layer in kept]
            assert cached_elements(config, TOKENS) == expected, (name, changes)


@pytest.mark.parametrize("model_type", ["bert", "roberta", "xlm-roberta", "camembert", "electra"])
def test_an_encoder_that_is_made_a_decoder_has_a_cache(model_type: str) -> None:
    name = next(name for name in classes(model_type) if name.endswith(("ForCausalLM", "LMHeadModel")))
    config = whole(model_type, architectures=[name], is_decoder=True)
    found = blueprint(config)
    assert found.architecture.layers is not None
    assert cached_elements(config, TOKENS) == [layer.elements(TOKENS) for layer in found.architecture.layers]
    assert found.parameters is not None
    assert found.parameters.total == parameters(config)
