"""Files whose classes take one part of what they describe, or put any two models together; and layers with sizes of
their own under the numbers that `save_pretrained` writes."""

from __future__ import annotations

from typing import Any

import pytest

from hfmem.errors import InvalidConfigError
from hfmem.mapper.caches import KV, Combined, CrossKV
from hfmem.mapper.facts import Facts
from hfmem.mapper.families import reader
from hfmem.mapper.families._blocks import UndescribedError
from hfmem.mapper.families._heads import task
from hfmem.mapper.values import Dense, Layer
from tests.mapper.windows import elements


def total(config: dict[str, Any]) -> int | None:
    found = reader(config["model_type"])
    assert found is not None
    table = found(Facts(config)).parameters
    return None if table is None else table.total


def layers(config: dict[str, Any]) -> tuple[Layer, ...]:
    found = reader(config["model_type"])
    assert found is not None
    known = found(Facts(config)).architecture.layers
    assert known is not None
    return known


# (type of the whole, class of its text model alone, parameters that the class has on the meta device for the whole's
# defaults)
ALONE = [
    ("aria", "AriaTextForCausalLM", 18_517_069_824),
    ("dots3_note", "Dots3NoteForCausalLM", 279_551_718_016),
    ("emu3", "Emu3ForCausalLM", 8_492_011_520),
    ("gemma3", "Gemma3ForCausalLM", 2_628_658_432),
    ("gemma3n", "Gemma3nForCausalLM", 6_835_235_568),
    ("gemma4", "Gemma4ForCausalLM", 5_077_177_856),
    ("gemma4_unified", "Gemma4UnifiedForCausalLM", 3_010_758_400),
    ("inkling2", "Inkling2ForCausalLM", 593_718_478_848),
    ("inkling_mm_model", "InklingForCausalLM", 975_340_270_146),
    ("llama4", "Llama4ForCausalLM", 107_769_861_120),
    ("mllama", "MllamaForCausalLM", 9_775_192_080),
    ("qwen3_5", "Qwen3_5ForCausalLM", 8_953_803_264),
    ("qwen3_5_moe", "Qwen3_5MoeForCausalLM", 34_660_610_688),
]


@pytest.mark.parametrize(("model_type", "name", "parameters"), ALONE)
def test_the_class_of_the_text_model_alone_has_no_tower(model_type: str, name: str, parameters: int) -> None:
    assert total({"model_type": model_type, "architectures": [name]}) == parameters


_GPT2 = {"model_type": "gpt2", "n_layer": 2, "is_decoder": True, "add_cross_attention": True}
_MBART = {"model_type": "mbart", "decoder_layers": 2, "d_model": 64, "is_decoder": True, "add_cross_attention": True}
_TROCR = {"model_type": "trocr", "decoder_layers": 2, "d_model": 64, "cross_attention_hidden_size": 48}
_DONUT = {
    "model_type": "donut-swin",
    "embed_dim": 128,
    "depths": [2, 2, 14, 2],
    "num_heads": [4, 8, 16, 32],
    "window_size": 10,
    "image_size": [2560, 1920],
}
_SWIN = {"depths": [1, 2], "num_heads": [2, 4], "mlp_ratio": 2.0, "qkv_bias": False, "use_absolute_embeddings": True}
_VIT = {"model_type": "vit", "num_hidden_layers": 2}
_NARROW = {**_VIT, "hidden_size": 48, "qkv_bias": False, "num_attention_heads": 4}
_DECODES = {"num_hidden_layers": 2, "is_decoder": True, "add_cross_attention": True}

# (type, encoder, decoder, parameters that the class has on the meta device)
PAIRS = [
    ("vision-encoder-decoder", _NARROW, _TROCR, 5_033_952),
    ("vision-encoder-decoder", _VIT, _MBART, 19_966_848),
    ("vision-encoder-decoder", _VIT, _GPT2, 73_799_424),
    ("vision-encoder-decoder", {**_VIT, "model_type": "deit"}, _GPT2, 73_800_960),
    ("vision-encoder-decoder", {"model_type": "donut-swin"}, _MBART, 31_974_138),
    ("vision-encoder-decoder", _DONUT, _GPT2, 133_256_824),
    ("vision-encoder-decoder", {"model_type": "donut-swin", **_SWIN}, _GPT2, 59_486_746),
    (
        "encoder-decoder",
        {"model_type": "bert-generation", "num_hidden_layers": 2},
        {"model_type": "bert-generation", **_DECODES},
        163_022_006,
    ),
    (
        "encoder-decoder",
        {"model_type": "roberta", "num_hidden_layers": 2},
        {"model_type": "roberta", **_DECODES},
        112_311_897,
    ),
]


@pytest.mark.parametrize(("model_type", "encoder", "decoder", "parameters"), PAIRS)
def test_a_pair_has_the_parameters_of_both(
    model_type: str, encoder: dict[str, Any], decoder: dict[str, Any], parameters: int
) -> None:
    assert total({"model_type": model_type, "encoder": encoder, "decoder": decoder}) == parameters


def test_a_pair_keeps_the_encoders_keys_and_values_too() -> None:
    kept = layers({"model_type": "vision-encoder-decoder", "encoder": _VIT, "decoder": _GPT2})
    own, cross = KV(heads=12, key_dim=64, value_dim=64), CrossKV(heads=12, key_dim=64, value_dim=64)
    assert [layer.cache for layer in kept] == [Combined(caches=(own, cross))] * 2


def test_a_pair_whose_encoder_nobody_knows_has_layers_and_no_count() -> None:
    config = {"model_type": "vision-encoder-decoder", "encoder": {"model_type": "beit"}, "decoder": _GPT2}
    assert total(config) is None
    assert len(layers(config)) == 2


_T5 = {"model_type": "t5", "d_model": 64, "num_layers": 2, "vocab_size": 96, "d_ff": 80}
_LLAMA = {"model_type": "llama", "hidden_size": 64, "num_hidden_layers": 2, "vocab_size": 96, "intermediate_size": 80}

# (configuration, parameters that the class has on the meta device)
SPOKEN = [
    ({"model_type": "blip-2", "text_config": _T5}, 157_742_016),
    (
        {
            "model_type": "blip-2",
            "text_config": {**_T5, "feed_forward_proj": "gated-gelu", "tie_word_embeddings": False},
        },
        157_762_496,
    ),
    ({"model_type": "instructblip", "text_config": {**_LLAMA, "num_attention_heads": 4}}, 237_505_024),
]


@pytest.mark.parametrize(("config", "parameters"), SPOKEN)
def test_text_models_of_any_type_come_with_their_heads(config: dict[str, Any], parameters: int) -> None:
    assert total({**config, "vision_config": {"num_hidden_layers": 2}}) == parameters


def test_patches_and_frames_are_projected_without_towers() -> None:
    parts = {
        "vision_config": {"mm_embed_dim": 60, "output_proj_dims": 60},
        "audio_config": {"audio_embed_dim": 70},
    }
    assert total({"model_type": "gemma4_unified", **parts}) == 3_011_621_164


# Layers of full attention, as `save_pretrained` numbers them: with as many digits as the last has.
_WRITTEN = {
    "per_layer_config": {f"{index:02}": {"head_dim": 512} for index in range(5, 30, 6)},
    "num_key_value_heads": 8,
}


@pytest.mark.parametrize("model_type", ["gemma4", "gemma4_unified"])
def test_numbers_of_layers_may_be_padded_with_zeros(model_type: str) -> None:
    """3,000 tokens in bfloat16, as `DynamicCache` keeps them."""
    kept = layers({"model_type": model_type, "text_config": {**_WRITTEN, "sliding_window": 512}})
    assert 2 * sum(elements(kept, 3000, 0)) == 350_412_800


def test_layers_whose_heads_differ_are_those_of_the_numbers_too() -> None:
    kinds = ["full_attention", "sliding_attention"] * 6
    changed = {f"{index:02}": {"num_attention_heads": 8} for index in range(1, 12, 2)}
    sizes = {"num_hidden_layers": 12, "num_attention_heads": 4, "layer_types": kinds, "num_nextn_predict_layers": 0}
    found = layers({"model_type": "step3p5", **sizes, "per_layer_config": changed})
    assert [layer.heads for layer in found] == [4, 8] * 6


def test_layers_with_sizes_of_their_own_are_refused_where_no_reader_knows_them() -> None:
    sizes = {"num_hidden_layers": 2, "hidden_size": 64, "num_attention_heads": 4, "intermediate_size": 80}
    config = {"model_type": "llama", **sizes, "per_layer_config": {"1": {"num_key_value_heads": 2}}}
    with pytest.raises(InvalidConfigError, match="per_layer_config"):
        layers(config)
    assert len(layers({**config, "per_layer_config": {}})) == 2


def test_what_a_whole_assumes_for_a_part_may_be_null() -> None:
    """Mistral's own class has a window of 4,096 tokens, that of Mistral 3 none."""
    caches = {layer.cache for layer in layers({"model_type": "mistral3"})}
    assert caches == {KV(heads=8, key_dim=128, value_dim=128)}


@pytest.mark.parametrize(
    ("config", "sparse"),
    [
        ({"model_type": "gemma3n_text"}, [True] * 10 + [False] * 25),
        ({"model_type": "gemma3n_text", "num_hidden_layers": 10, "num_kv_shared_layers": 0}, [False] * 10),
        ({"model_type": "gemma4_text"}, [False] * 30),
    ],
)
def test_networks_of_which_few_units_go_on(config: dict[str, Any], sparse: list[bool]) -> None:
    """configuration_gemma3n.py: `[0.95] * num_sparse_layers + [0.0] * (num_hidden_layers - num_sparse_layers)`, where
    num_sparse_layers is 10 of more layers than 10, and none of fewer."""
    assert [isinstance(layer.ffn, Dense) and layer.ffn.sparse for layer in layers(config)] == sparse


def test_the_first_of_several_classes_is_the_model() -> None:
    assert task(Facts({"architectures": ["GPT2DoubleHeadsModel", "GPT2LMHeadModel"]}), "base") == ""
    assert task(Facts({"architectures": ["GPT2LMHeadModel", "GPT2DoubleHeadsModel"]}), "base") == "causal_lm"


def test_the_first_of_four_layers_has_no_window() -> None:
    """configuration_cwm.py: full attention where `i % window_pattern == 0`, with a pattern of 4."""
    found = layers({"model_type": "cwm", "num_hidden_layers": 9})
    assert [index for index, layer in enumerate(found) if layer.kind == "full_attention"] == [0, 4, 8]


@pytest.mark.parametrize(
    ("model_type", "name", "labels", "parameters"),
    [
        ("bert", "BertForPreTraining", 2, 110_106_428),
        ("bert", "BertForPreTraining", 5, 110_106_428),
        ("albert", "AlbertForPreTraining", 2, 223_158_450),
        ("albert", "AlbertForPreTraining", 5, 223_170_741),
        ("bert", "BertForMultipleChoice", 5, 109_483_009),
    ],
)
def test_outputs_that_labels_are_not(model_type: str, name: str, labels: int, parameters: int) -> None:
    """transformers 5.24 on the meta device: of BERT's pre-training two, of ALBERT's as many as there are labels; one
    for a choice, however many there are."""
    assert total({"model_type": model_type, "architectures": [name], "num_labels": labels}) == parameters


@pytest.mark.parametrize("hidden", [1024, 1536, 2048])
def test_a_head_of_another_width_than_the_text_model_is_not_described(hidden: int) -> None:
    """modeling_ovis2.py: the head has the whole's own sizes, its input those of the text model."""
    config = {"model_type": "ovis2", "architectures": ["Ovis2ForConditionalGeneration"], "hidden_size": hidden}
    text = {"model_type": "qwen2", "hidden_size": 1536, "vocab_size": 1000}
    found = {**config, "tie_word_embeddings": False, "vocab_size": 1000, "text_config": text}
    try:
        known = total(found)
    except UndescribedError:
        known = None
    assert (known is not None) == (hidden == 1536)
