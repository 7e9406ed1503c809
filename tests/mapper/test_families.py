"""Readers of families, against recorded measurements of the classes they describe and against published figures."""

from __future__ import annotations

import json
from collections import Counter
from contextlib import suppress
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from hfmem.errors import InvalidConfigError
from hfmem.mapper.blueprint import Blueprint
from hfmem.mapper.caches import KV
from hfmem.mapper.defaults import config_class
from hfmem.mapper.facts import Facts, MissingFactError
from hfmem.mapper.families import known_types, llama, mixtral, multimodal, own_code, reader, types_of
from hfmem.mapper.values import ParameterTable

RECORDED = json.loads((Path(__file__).parents[2] / "fixtures" / "oracle" / "parameters.json").read_text())
ROWS = {row["model"]: row for row in RECORDED["models"]}


def read(config: dict[str, Any]) -> Blueprint:
    found = reader(config["model_type"])
    assert found is not None
    return found(Facts(config))


def blueprint(model: str, **changes: Any) -> Blueprint:
    return read(ROWS[model]["config"] | changes)


def table(model: str, **changes: Any) -> ParameterTable:
    found = blueprint(model, **changes).parameters
    assert found is not None
    return found


@pytest.mark.parametrize("model", ROWS)
def test_parameters_are_those_of_the_class(model: str) -> None:
    assert table(model).total == ROWS[model]["parameters"]


@pytest.mark.parametrize("model", ROWS)
def test_caches_are_those_of_the_class(model: str) -> None:
    layers = blueprint(model).architecture.layers
    assert layers is not None
    caches = [layer.cache for layer in layers if isinstance(layer.cache, KV)]
    kept = Counter("all" if cache.window is None else str(cache.window) for cache in caches)
    assert dict(kept) == (ROWS[model]["caches"] or {})


_HUB = "the Hub's safetensors.total"

# (model, parameters, where the figure is published)
PUBLISHED = [
    ("meta-llama/Llama-2-7b-hf", 6_738_417_664 - 32 * 64, f"{_HUB}, less 32 rotary buffers of 64"),
    ("HuggingFaceTB/SmolLM3-3B", 3_075_098_624, f"{_HUB} of its base model"),
    ("allenai/OLMo-2-1124-7B-Instruct", 7_298_617_344, f"{_HUB} of its base model"),
    ("mistralai/Mistral-7B-v0.1", 7_241_732_096, _HUB),
    ("mistralai/Mistral-7B-Instruct-v0.3", 7_248_023_552, _HUB),
    ("mistralai/Mixtral-8x7B-v0.1", 46_702_792_704, _HUB),
    ("mistralai/Devstral-Small-2507", 23_572_403_200, "its model.safetensors.index.json"),
    ("Qwen/Qwen2.5-7B-Instruct", 7_615_616_512, _HUB),
    ("Qwen/Qwen2.5-32B-Instruct", 32_763_876_352, _HUB),
    ("Qwen/Qwen3-8B", 8_190_735_360, _HUB),
    ("Qwen/Qwen3-30B-A3B", 30_532_122_624, _HUB),
    ("Qwen/Qwen3-Coder-480B-A35B-Instruct", 480_154_875_392, _HUB),
    ("CohereForAI/aya-23-8B", 8_028_033_024, f"{_HUB} of aya-expanse-8b, which has its sizes"),
    ("microsoft/Phi-3.5-mini-instruct", 3_821_079_552, _HUB),
    ("microsoft/Phi-4-mini-instruct", 3_836_021_760, _HUB),
    ("google/gemma-7b", 8_537_680_896, f"{_HUB} of a fine-tune"),
    ("google/gemma-2-27b-it", 27_227_128_320, f"{_HUB} of a copy"),
    ("google/gemma-3-4b-it", 4_300_079_472, f"{_HUB} of a copy"),
    ("google/gemma-3-27b-it", 27_432_406_640, f"{_HUB} of a copy"),
    ("openai/gpt-oss-20b", 20_914_757_184, f"{_HUB}, MXFP4 unpacked"),
    ("bigscience/bloom", 176_247_271_424, _HUB),
    ("FacebookAI/roberta-base", 124_697_433, "the Hub's count of its F32 tensors"),
    ("nvidia/MiniMax-M2.5-NVFP4", 228_689_764_864 - 62 * 256, f"{_HUB} of MiniMax-M2, less 62 router buffers of 256"),
]


@pytest.mark.parametrize(("model", "parameters", "_source"), PUBLISHED)
def test_parameters_are_as_published(model: str, parameters: int, _source: str) -> None:
    assert table(model).total == parameters


# (model, parameters that one token uses, how a person counts them)
ACTIVE = [
    ("mistralai/Mixtral-8x7B-v0.1", 46_702_792_704 - 32 * 6 * 3 * 4096 * 14336, "all but 6 of 8 experts a layer"),
    ("Qwen/Qwen3-30B-A3B", 30_532_122_624 - 48 * 120 * 3 * 2048 * 768, "all but 120 of 128 experts a layer"),
    ("sizes/qwen2_moe-9", 14_315_784_192 - 24 * 56 * 3 * 2048 * 1408, "all but 56 of 60 experts a layer"),
    (
        "openai/gpt-oss-20b",
        20_914_757_184 - 24 * 28 * (3 * 2880 * 2880 + 3 * 2880),
        "all but 28 of 32 experts a layer, with their biases",
    ),
    ("meta-llama/Llama-2-7b-hf", 6_738_415_616, "a dense model uses all"),
]


@pytest.mark.parametrize(("model", "active", "_how"), ACTIVE)
def test_a_token_uses_its_experts_and_everything_else(model: str, active: int, _how: str) -> None:
    assert table(model).active == active


# (model, key/value heads, elements that all layers keep of one token, how)
KEPT = [
    ("meta-llama/Llama-2-7b-hf", 32, 32 * 2 * 32 * 128, "multi-head"),
    ("meta-llama/Meta-Llama-3-8B-Instruct", 8, 32 * 2 * 8 * 128, "grouped-query"),
    ("sizes/falcon-10", 1, 32 * 2 * 1 * 64, "multi-query"),
    ("WizardLMTeam/WizardCoder-15B-V1.0", 1, 40 * 2 * 1 * 128, "multi-query"),
    ("tiiuae/falcon-40b", 8, 60 * 2 * 128 * 64, "grouped-query, repeated for each query head before it is kept"),
    ("google/gemma-2b-it", 1, 18 * 2 * 1 * 256, "head_dim is not hidden size / heads"),
    ("Qwen/Qwen3-30B-A3B", 4, 48 * 2 * 4 * 128, "head_dim is not hidden size / heads"),
    ("sizes/bert-7", 12, 0, "an encoder keeps nothing"),
    ("BAAI/bge-m3", 16, 0, "an encoder keeps nothing"),
]


@pytest.mark.parametrize(("model", "kv_heads", "elements", "_how"), KEPT)
def test_a_token_is_kept_once_a_layer_and_key_value_head(model: str, kv_heads: int, elements: int, _how: str) -> None:
    architecture = blueprint(model).architecture
    assert architecture.kv_heads == kv_heads
    assert sum(layer.elements(1) for layer in architecture.layers or ()) == elements


# (model, changed keys, layers by kind)
KINDS = [
    ("google/gemma-2-2b", {}, {"sliding_attention": 13, "full_attention": 13}),
    ("google/gemma-3-4b-it", {}, {"sliding_attention": 29, "full_attention": 5}),
    ("openai/gpt-oss-20b", {}, {"sliding_attention": 12, "full_attention": 12}),
    ("mistralai/Mistral-7B-v0.1", {}, {"sliding_attention": 32}),
    ("mistralai/Mistral-7B-v0.1", {"sliding_window": None}, {"full_attention": 32}),
    ("Qwen/Qwen2-7B", {}, {"full_attention": 28}),
    (
        "Qwen/Qwen2-7B",
        {"use_sliding_window": True, "max_window_layers": 20},
        {"full_attention": 20, "sliding_attention": 8},
    ),
    ("meta-llama/Llama-2-7b-hf", {"layer_types": ["full_attention"] * 32}, {"full_attention": 32}),
    ("sizes/bert-7", {}, {"none": 12}),
    ("sizes/bert-7", {"is_decoder": True}, {"full_attention": 12}),
]


@pytest.mark.parametrize(("model", "changes", "kinds"), KINDS)
def test_layers_by_kind(model: str, changes: dict[str, Any], kinds: dict[str, int]) -> None:
    assert blueprint(model, **changes).architecture.layer_kinds == kinds


# (class, parameters that its head adds to the base model of Llama-2-7b, kind of head)
HEADS = [
    ("LlamaForCausalLM", 32000 * 4096, "lm_head"),
    ("LlamaModel", 0, "none"),
    ("LlamaForSequenceClassification", 3 * 4096, "none"),
    ("LlamaForTokenClassification", 3 * 4096 + 3, "none"),
    ("LlamaForQuestionAnswering", 2 * 4096 + 2, "none"),
]


@pytest.mark.parametrize(("name", "added", "kind"), HEADS)
def test_the_class_tells_the_head(name: str, added: int, kind: str) -> None:
    found = blueprint("meta-llama/Llama-2-7b-hf", architectures=[name], num_labels=3)
    assert found.parameters is not None
    assert found.parameters.total == 6_738_415_616 - 32000 * 4096 + added
    assert found.architecture.head == kind


def test_a_tied_head_adds_nothing() -> None:
    untied = table("meta-llama/Llama-2-7b-hf").total
    assert untied - table("meta-llama/Llama-2-7b-hf", tie_word_embeddings=True).total == 32000 * 4096


def test_without_architectures_a_decoder_is_a_language_model_and_an_encoder_a_base_model() -> None:
    assert table("meta-llama/Llama-2-7b-hf", architectures=None).total == 6_738_415_616
    assert blueprint("sizes/bert-7", architectures=None).architecture.head == "none"
    assert table("sizes/bert-7", architectures=None).by_component["other"] == 768 * 768 + 768  # pooler


@pytest.mark.parametrize("name", ["LlamaForRewardModel", "SomethingElse"])
def test_an_unknown_class_leaves_the_weights_unknown_and_the_layers_known(name: str) -> None:
    found = blueprint("meta-llama/Llama-2-7b-hf", architectures=[name])
    assert found.parameters is None
    assert found.architecture.head is None
    assert len(found.architecture.layers or ()) == 32


def test_quantisers_replace_matrices_of_blocks_and_experts_only() -> None:
    components = {group.component for group in table("sizes/qwen2_moe-9").groups if group.linear}
    assert components == {"attention", "experts", "shared_experts"}


def test_layer_types_must_name_every_layer() -> None:
    with pytest.raises(InvalidConfigError, match="layer_types has 2 entries for 32 layers"):
        blueprint("meta-llama/Llama-2-7b-hf", layer_types=["full_attention"] * 2)


def test_layer_types_that_the_family_does_not_have_are_refused() -> None:
    with pytest.raises(InvalidConfigError, match="'linear_attention', which is not a layer type of llama"):
        blueprint("meta-llama/Llama-2-7b-hf", layer_types=["linear_attention"] * 32)


def test_sizes_of_a_nested_text_model_are_not_guessed_from_class_defaults() -> None:
    with pytest.raises(MissingFactError, match="hidden_size"):
        read({"model_type": "ministral3", "text_config": {"hidden_size": 3072}})


@pytest.mark.parametrize("module", [llama, mixtral, multimodal, own_code])
def test_a_type_is_known_by_its_row_alone(module: ModuleType) -> None:
    for model_type in module.TYPES:
        assert reader(model_type) is module.read


@pytest.mark.parametrize(
    ("model_type", "module"),
    [("opt", "opt"), ("deberta-v2", "deberta"), ("deberta", None), ("older", None), ("multimodal", None)]
    + [("_decoder", None), ("llama.x", None), ("", None), ("hfmem", None)],
)
def test_a_module_reads_the_type_of_its_name_unless_it_reads_others(model_type: str, module: str | None) -> None:
    found = reader(model_type)
    assert (found and found.__module__.rpartition(".")[2]) == module


# Types whose class has no default for a fact.
INCOMPLETE = {"deepseek_v2", "dots1", "lfm2_moe", "qwen4_exp", "qwen4_exp_text"}

# Types of several parts, of which one is not described: their weights are unknown.
UNDESCRIBED = {name for name, spec in multimodal.WHOLES.items() if spec.others is None}


# Types whose code lives in their repositories: there is no class, and test_own_code.py has them.
OWN_CODE = {model_type for model_type in known_types() if config_class(model_type) is None}
OWN_CODE = (OWN_CODE | types_of("own_code", "own_parts")) - {"deepseek_ref", "minimax_m3"}  # another's class has them

# A whole whose text model alone is described.
UNDESCRIBED |= {"step3p7"}


@pytest.mark.parametrize("model_type", sorted(known_types() - INCOMPLETE - OWN_CODE))
def test_a_type_alone_means_the_defaults_of_its_class(model_type: str) -> None:
    found = read({"model_type": model_type})
    assert found.architecture.layers or found.architecture.unknown
    if model_type in UNDESCRIBED:
        assert found.parameters is None
        return
    assert found.parameters is not None
    assert found.parameters.total > 0


# Values that no model has; what a reader may answer is a reason, which the mapper shows.
NONSENSE = [
    {"num_attention_heads": 0, "n_head": 0, "n_heads": 0, "num_heads": 0},
    {"num_hidden_layers": 10**15, "n_layer": 10**15, "n_layers": 10**15, "num_layers": 10**15},
    {"num_hidden_layers": 0, "n_layer": 0, "n_layers": 0, "num_layers": 0},
    {"vocab_size": "many"},
    {"vocab_size": -1},
    {"hidden_size": None, "n_embd": None, "d_model": None, "dim": None},
    {"tie_word_embeddings": "yes"},
    {"architectures": "LlamaForCausalLM"},
    {"architectures": [None]},
    {"architectures": []},
    {"layer_types": "full_attention"},
    {"layer_types": [{}]},
    {"text_config": [], "vision_config": "siglip"},
    {"num_experts_per_tok": 10**6},
    {"id2label": [], "num_labels": "two"},
]


@pytest.mark.parametrize("changes", NONSENSE, ids=str)
@pytest.mark.parametrize("model_type", sorted(known_types()))
def test_nonsense_is_a_reason_and_never_another_error(model_type: str, changes: dict[str, Any]) -> None:
    with suppress(MissingFactError, InvalidConfigError, ZeroDivisionError):
        found = read({"model_type": model_type} | changes)
        assert found.parameters is None or found.parameters.active <= found.parameters.total
