"""What a configuration's quantisation says of the files, against catalog models whose tensors are known."""

from __future__ import annotations

import itertools
import json
import re
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings, strategies

import hfmem
from hfmem.fetcher.catalog import find
from hfmem.fetcher.values import Checkpoint, ModelRef
from hfmem.mapper.declared import as_stored
from hfmem.mapper.expressions import Budget, Expression
from hfmem.mapper.interpret import Model, interpret
from hfmem.mapper.packing import declared_quantisation, quantisation_of
from tests.catalog import configs
from tests.command import run


def checkpoint(name: str) -> Checkpoint:
    found = find(ModelRef(model_id=name))
    assert found is not None
    return found


def without_headers(name: str, **changes: Any) -> Model:
    """A model of the catalog with nothing but its configuration."""
    return bare(checkpoint(name), **changes)


def bare(known: Checkpoint, **changes: Any) -> Model:
    return interpret(replace(known, tensors=(), totals=None, config={**(known.config or {}), **changes}))


def stored(model: Model) -> int:
    assert model.parameters is not None
    loaded = [group for group in model.parameters.groups if group.loaded]
    return sum(2 * group.elements if group.stored_bytes is None else group.stored_bytes for group in loaded)


QUANTISED = [name for name, config in configs().items() if quantisation_of(config)]


@pytest.mark.parametrize("name", QUANTISED)
def test_without_its_headers_a_model_takes_the_same(name: str) -> None:
    known = checkpoint(name)
    model = bare(known)
    assert stored(model) == pytest.approx(stored(interpret(known)), rel=0.01)
    assert not any("without the files" in note for note in model.notes)


def test_there_are_enough_of_them() -> None:
    assert len(QUANTISED) >= 20


LLAMA: dict[str, Any] = {
    "model_type": "llama",
    "architectures": ["LlamaForCausalLM"],
    "hidden_size": 4096,
    "intermediate_size": 11008,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 32,
    "vocab_size": 32000,
    "tie_word_embeddings": False,
}
PLAIN = 2 * (2 * 32000 * 4096 + 65 * 4096)
LINEAR = 6_476_005_376
ROWS = 32 * (5 * 4096 + 2 * 11008)


def described(quantisation: Mapping[str, Any], **changes: Any) -> Model:
    base = checkpoint("meta-llama/Llama-2-7b-hf")
    config = {**LLAMA, **changes, "quantization_config": quantisation}
    return interpret(replace(base, tensors=(), totals=None, config=config))


def groups_of(**weights: Any) -> dict[str, Any]:
    return {"group_0": {"targets": ["Linear"], "weights": weights}}


@pytest.mark.parametrize(
    ("quantisation", "linear"),
    [
        ({"quant_method": "fp8", "weight_block_size": [128, 128]}, LINEAR + LINEAR // 128 // 128 * 4),
        ({"quant_method": "fp8", "activation_scheme": "static"}, LINEAR + 224 * 8),
        ({"quant_method": "fp8", "activation_scheme": "dynamic"}, LINEAR + 224 * 4),
        ({"quant_method": "fbgemm_fp8"}, LINEAR + 4 * ROWS),
        ({"quant_method": "mxfp8"}, LINEAR + LINEAR // 32),
        ({"quant_method": "awq", "bits": 4, "group_size": 128}, LINEAR // 2 + LINEAR // 128 * 5 // 2),
        (
            {"quant_method": "gptq", "bits": 4, "group_size": 128},
            LINEAR // 2 + LINEAR // 128 * 5 // 2 + 32 * (6 * 4096 + 11008) * 4,
        ),
        ({"quant_method": "auto-round", "bits": 8, "group_size": 32}, LINEAR + LINEAR // 32 * 3),
        ({"quant_method": "bitsandbytes", "load_in_4bit": True}, LINEAR // 2 + LINEAR // 64 * 4),
        ({"quant_method": "bitsandbytes", "load_in_8bit": True}, LINEAR + 4 * ROWS),
        ({"quant_algo": "FP8", "ignore": ["lm_head"]}, LINEAR + 224 * 8),
        ({"quant_algo": "NVFP4", "ignore": ["lm_head"]}, LINEAR // 2 + LINEAR // 16 + 224 * 8),
        (
            {
                "quant_method": "compressed-tensors",
                "config_groups": groups_of(num_bits=4, type="int", strategy="group", group_size=128),
                "ignore": ["lm_head"],
            },
            LINEAR // 2 + LINEAR // 128 * 2 + 224 * 16,
        ),
        (
            {
                "quant_method": "compressed-tensors",
                "config_groups": groups_of(num_bits=4, type="int", strategy="channel"),
                "ignore": ["lm_head"],
            },
            LINEAR // 2 + ROWS * 2 + 224 * 16,
        ),
        (
            {
                "quant_method": "compressed-tensors",
                "config_groups": groups_of(num_bits=8, type="int", strategy="channel"),
                "ignore": ["lm_head"],
            },
            LINEAR + ROWS * 2,
        ),
        (
            {
                "quant_method": "compressed-tensors",
                "config_groups": groups_of(num_bits=8, type="float", strategy="channel"),
                "ignore": ["re:.*lm_head"],
            },
            LINEAR + 2 * ROWS,
        ),
    ],
    ids=lambda value: str(value)[:50] if isinstance(value, dict) else "",
)
def test_schemes(quantisation: dict[str, Any], linear: int) -> None:
    assert stored(described(quantisation)) == linear + PLAIN


@pytest.mark.parametrize(
    ("method", "entries", "left"),
    [
        ("fp8", ["model.layers.0.mlp.up_proj", "model.layers.1.mlp.up_proj"], 2 * 4096 * 11008),
        ("fp8", ["model.layers.0.mlp"], 3 * 4096 * 11008),
        ("fp8", ["self_attn"], 32 * 4 * 4096 * 4096),
        ("modelopt", ["model.layers.3*", "lm_head"], 4 * 4096 * 4096 + 3 * 4096 * 11008),
        ("modelopt", ["*self_attn*"], 32 * 4 * 4096 * 4096),
        ("modelopt", ["*.down_proj"], 32 * 4096 * 11008),
        ("compressed-tensors", ["lm_head", r"re:.*self_attn\.q_proj"], 32 * 4096 * 4096),
        ("compressed-tensors", ["lm_head", r"re:.*layers\.(0|1)\.mlp\..*"], 2 * 3 * 4096 * 11008),
    ],
)
def test_lists_of_what_stays(method: str, entries: list[str], left: int) -> None:
    facts: dict[str, Any] = {"quant_method": method, "ignore": entries}
    if method == "modelopt":
        facts["quant_algo"] = "FP8"
    if method == "compressed-tensors":
        facts["config_groups"] = groups_of(num_bits=8, type="float", strategy="channel")
    table = described(facts).parameters
    assert table is not None
    packed = sum(group.parameters for group in table.groups if group.dtype == "F8_E4M3")
    assert packed == LINEAR - left


def test_without_a_list_compressed_tensors_packs_the_head() -> None:
    facts = {
        "quant_method": "compressed-tensors",
        "config_groups": groups_of(num_bits=8, type="float", strategy="channel"),
    }
    table = described(facts).parameters
    assert table is not None
    assert sum(group.parameters for group in table.groups if group.dtype == "F8_E4M3") == LINEAR + 32000 * 4096


def test_experts_of_deepseek_v4_are_fp4_where_it_says_so() -> None:
    packed = without_headers("deepseek-ai/DeepSeek-V4-Flash")
    wider = without_headers("deepseek-ai/DeepSeek-V4-Flash", expert_dtype="fp8")
    assert packed.parameters is not None
    experts = sum(group.parameters for group in packed.parameters.groups if group.dtype == "I8")
    assert experts > 0.9 * packed.parameters.total
    assert stored(packed) < 0.6 * stored(wider)


def test_a_folder_with_a_configuration_alone_is_answered(tmp_path: Path) -> None:
    config = dict(checkpoint("openai/gpt-oss-120b").config or {})
    assert "dtype" not in config
    (tmp_path / "config.json").write_text(json.dumps(config))
    done = run(str(tmp_path), "--format", "json")
    assert done.returncode == 0
    (result,) = json.loads(done.stdout)["results"]
    assert result["memory"]["weights"] == pytest.approx(60.77 * 2**30, rel=0.001)
    assert result["total_is_lower_bound"] is False


def test_the_dtype_of_a_thinker_is_read() -> None:
    base = checkpoint("meta-llama/Llama-2-7b-hf")
    config = {"model_type": "qwen2_5_omni", "thinker_config": {"torch_dtype": "bfloat16"}}
    assert interpret(replace(base, tensors=(), totals=None, config=config)).architecture.dtype == "bfloat16"


@pytest.mark.parametrize(
    "quantisation",
    [
        {"quant_method": "fp8", "weight_block_size": ["a", None]},
        {"quant_method": "fp8", "weight_block_size": [0, -1], "modules_to_not_convert": [1, None, "("]},
        {"quant_method": "gptq", "bits": "x", "group_size": 0},
        {"quant_method": "awq", "bits": 4, "group_size": -7},
        {"quant_method": "compressed-tensors", "config_groups": {"a": None, "b": {"weights": {"num_bits": "x"}}}},
        {"quant_method": "compressed-tensors", "config_groups": [], "ignore": {"a": 1}},
        {"quant_method": "modelopt", "quant_algo": ["x"], "quantized_layers": {"a": 3, "b": {"quant_algo": None}}},
        {"quant_method": ["x"]},
        {"quant_method": "fp8", "ignored_layers": [r"re:(a+)+$", r"re:(.*)*x", "re:" + ".*" * 200, "re:["]},
    ],
)
def test_nonsense_is_no_crash(quantisation: dict[str, Any]) -> None:
    assert stored(described(quantisation)) > 0


Q_PROJ, UP = 4096 * 4096, 4096 * 11008
HEAD = 32000 * 4096


def packed_of(model: Model) -> dict[str, int]:
    """Parameters by the bits that they are packed in (int32), and those that stay."""
    assert model.parameters is not None
    found: dict[str, int] = {}
    for group in model.parameters.groups:
        if group.role.endswith(".qweight"):
            bits = round(32 * group.elements / group.parameters)
            found[f"{bits} bits"] = found.get(f"{bits} bits", 0) + group.parameters
        elif group.linear or group.component == "lm_head":
            found["plain"] = found.get("plain", 0) + group.parameters
    return {kind: count for kind, count in found.items() if count}


ATTENTION_IN = [["self_attn.k_proj", "self_attn.v_proj"], ["self_attn.q_proj"]]
ROUND = {"quant_method": "auto-round"}
ROUNDED = {"model.layers.3.mlp.up_proj": {"bits": 16}, "lm_head": {"bits": 8, "group_size": 32}}


@pytest.mark.parametrize(
    ("facts", "expected"),
    [
        # `dynamic`: the first expression that fits a whole name holds (gptqmodel 7.7, quantization/config.py:2519-2610)
        ({"dynamic": {r"-:.*\.down_proj": {}}}, {"plain": 32 * UP + HEAD}),
        ({"dynamic": {r"-:model\.layers\.[0-3]\..*": {}}}, {"plain": LINEAR // 8 + HEAD}),
        ({"dynamic": {r"+:.*\.(?:1[0-5])\..*": {"bits": 8}}}, {"8 bits": LINEAR * 6 // 32, "plain": HEAD}),
        ({"dynamic": {r"model\.layers\.7\..*q_proj": {"bits": 8}}}, {"8 bits": Q_PROJ, "plain": HEAD}),
        (
            {"dynamic": {r"-:.*q_proj": {}, r"+:.*layers\.1\..*": {"bits": 8}}},
            {"8 bits": LINEAR // 32 - Q_PROJ, "plain": 32 * Q_PROJ + HEAD},
        ),
        ({"dynamic": {r"-:q_proj": {}}}, {"plain": HEAD}),
        ({"dynamic": {r"+:.*lm_head": {"bits": 8}}}, {"plain": HEAD}),
        ({"lm_head": True}, {}),
        ({"lm_head": True, "dynamic": {"lm_head": {"bits": 8}}}, {"8 bits": HEAD}),
        # transformers' GPTQConfig
        ({"modules_in_block_to_quantize": ATTENTION_IN}, {"plain": LINEAR - 96 * Q_PROJ + HEAD}),
        ({"block_name_to_quantize": "model.layers"}, {"plain": HEAD}),
        # auto-round's exporter
        ({**ROUND, "extra_config": ROUNDED}, {"8 bits": HEAD, "plain": UP}),
        ({**ROUND, "extra_config": {r"layers\.\d\..*up_proj": {"bits": 8}}}, {"8 bits": 10 * UP, "plain": HEAD}),
        ({"quant_method": "awq", "modules_to_not_convert": ["o_proj"]}, {"plain": 32 * Q_PROJ + HEAD}),
    ],
    ids=lambda value: str(value)[:60] if isinstance(value, dict) else "",
)
def test_which_modules_are_packed_and_how(facts: dict[str, Any], expected: dict[str, int]) -> None:
    model = described({"quant_method": "gptq", "bits": 4, "group_size": 128, **facts})
    rest = LINEAR + HEAD - sum(expected.values())
    assert packed_of(model) == {"4 bits": rest, **expected}
    assert model.certainty == "derived"
    assert not any("is not supported and is ignored" in note for note in model.notes)


COMPRESSED = {"quant_method": "compressed-tensors"}
INT8 = {"weights": {"num_bits": 8}}
MIXED = {"quant_method": "modelopt", "quant_algo": "MIXED_PRECISION"}


@pytest.mark.parametrize(
    ("facts", "named"),
    [
        ({"dynamic": {r"-:(": {}}}, "("),
        ({"dynamic": {r"+:.*q_proj": {"format": "marlin", "bits": 4}}}, "+:.*q_proj"),
        ({"dynamic": {r"+:.*q_proj": {"bits": "many"}}}, "+:.*q_proj"),
        ({"dynamic": {r"+:.*q_proj": 4}}, "+:.*q_proj"),
        ({"dynamic": ["q_proj"]}, "dynamic"),
        ({"modules_that_rest": ["self_attn.q_proj"]}, "modules_that_rest"),
        ({"layer_quant_config": {"*.q_proj": {"weight": {"dtype": "int8"}}}}, "layer_quant_config"),
        ({"quant_method": "auto-round", "extra_config": {"lm_head": {"bits": 8, "data_type": "odd"}}}, "lm_head"),
        ({**COMPRESSED, "config_groups": {"g": {"targets": ["Embedding"], **INT8}}}, "the target Embedding of g"),
        ({**COMPRESSED, "config_groups": groups_of(num_bits=8), "ignore": ["re:["]}, "["),
        ({**MIXED, "quantized_layers": {"a.up_proj": "FP8", "b.up_proj": "ODD"}}, "ODD of 1 quantized_layers"),
    ],
)
def test_what_is_not_understood_is_named_and_the_figures_are_not_derived(facts: dict[str, Any], named: str) -> None:
    model = described({"quant_method": "gptq", "bits": 4, "group_size": 128, **facts})
    assert any(f"'{named}'" in note for note in model.notes if "is not supported and is ignored" in note)
    assert model.certainty == "typical"


@pytest.mark.parametrize("method", ["hqq", "torchao", "quark", "quanto", "some_new_thing"])
def test_a_layout_that_is_not_known_is_not_derived(method: str) -> None:
    assert described({"quant_method": method, "exclude": ["lm_head"]}).certainty == "typical"


def test_a_tied_head_that_is_to_be_packed_is_named() -> None:
    model = described({"quant_method": "gptq", "bits": 4, "lm_head": True}, tie_word_embeddings=True)
    assert any("'lm_head of a model whose head is its embedding'" in note for note in model.notes)


def test_many_rules_take_no_longer_than_a_reader_waits() -> None:
    rules: dict[str, Any] = {rf"-:.*x{number}_proj": {} for number in range(5000)}
    started = time.process_time()
    model = described({"quant_method": "gptq", "bits": 4, "dynamic": rules}, num_hidden_layers=1000)
    assert time.process_time() - started < 30
    assert model.certainty == "typical"


def integers_of(entries: list[str]) -> dict[str, Any]:
    groups = groups_of(num_bits=4, type="int", strategy="group", group_size=128)
    return {"quant_method": "compressed-tensors", "config_groups": groups, "ignore": entries}


LONG_LISTS: dict[str, dict[str, Any]] = {
    "optional characters": integers_of(["re:" + ".?" * 60 + "~"]),
    "groups of two ways": integers_of(["re:" + "(.|.)" * 40 + "~"]),
    "references back": integers_of(["re:(.?)(.?)(.?)(.?)" + r"(\1|\2|\3|\4|.)" * 60 + "~"]),
    "empty groups": integers_of(["re:" + "(" * 15 + "){999}" * 15]),
    "a few repeats, often": integers_of([f"re:.*layers.*.*.*.*~{i}" for i in range(300)]),
    "many entries in layers": integers_of([f"model.layers.{i % 50}.x{i}*" for i in range(200_000)]),
    "many stars": integers_of([f"*x{i}*" for i in range(20_000)]),
    "many words": integers_of([f"zz{i}" for i in range(300_000)]),
    "many layers of formats": {
        "quant_method": "modelopt",
        "quant_algo": "MIXED_PRECISION",
        "quantized_layers": {f"model.layers.{i % 32}.mlp.u{i}": {"quant_algo": "NVFP4"} for i in range(200_000)},
    },
    "many formats": {
        "quant_method": "modelopt",
        "quant_algo": "MIXED_PRECISION",
        "quantized_layers": {f"model.layers.{i % 32}.mlp.u{i}": {"quant_algo": f"W4A{i}"} for i in range(20_000)},
    },
}


@pytest.mark.slow
@pytest.mark.parametrize("what", LONG_LISTS)
def test_no_list_takes_long(what: str) -> None:
    begun = time.process_time()
    assert stored(described(LONG_LISTS[what])) > 0
    assert time.process_time() - begun < 8


@pytest.mark.parametrize(
    "entry", ["model.layers." + "9" * 5000 + ".mlp", "model.layers." + "9" * 30 + ".mlp.gate_proj"]
)
def test_a_layer_of_a_number_that_no_layer_has_is_about_nothing(entry: str) -> None:
    assert stored(described(integers_of([entry]))) == stored(described(integers_of([])))


def test_a_list_of_every_expert_is_read_whole() -> None:
    """The last of 69,120 entries counts as the first does."""
    names = [
        f"model.layers.{layer}.mlp.experts.{expert}.{matrix}_proj"
        for layer in range(60)
        for expert in range(384)
        for matrix in ("gate", "up", "down")
    ]
    listed, short = integers_of([*names, "self_attn"]), integers_of(["self_attn"])
    assert stored(described(listed)) == stored(described(short)) > stored(described(integers_of([])))


@settings(max_examples=300, deadline=None)
@given(strategies.from_regex(r"([ab.1]|\\d|\[ab\]|\(a?\|b*\)|[*+?|]|\{1,2\}|\^|\$){0,9}", fullmatch=True))
def test_expressions_match_as_those_of_python(text: str) -> None:
    try:
        known = re.compile(text)
    except re.error:
        return
    ours = _by_states(text)
    if not ours.readable:
        return
    for length in range(5):
        for letters in itertools.product("ab1", repeat=length):
            name = "".join(letters)
            assert ours.matches(name, Budget(10**6)) == (known.match(name) is not None), name


def _by_states(text: str) -> Expression:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("hfmem.mapper.expressions._FEW_WAYS", 0)
        patch.setattr("hfmem.mapper.expressions._MOST_WAYS", 10**9)
        return Expression(text)


@pytest.mark.parametrize(
    ("text", "yes", "no"),
    [
        (r"^(?!.*experts).*", "model.layers.0.mlp", "model.layers.0.mlp.experts.0"),
        (
            r".*layers\.(" + "|".join(map(str, range(60))) + r")\.mlp\..*",
            "model.layers.59.mlp.up",
            "model.layers.60.mlp.up",
        ),
        (
            r".*\.layers\.\d+\..*\.experts\..*\.(gate|up)_proj$",
            "m.layers.7.mlp.experts.3.w.up_proj",
            "m.layers.7.up_proj",
        ),
    ],
)
def test_expressions_of_real_lists_are_kept(text: str, yes: str, no: str) -> None:
    found = Expression(text)
    assert [found.matches(name, Budget(10**6)) for name in (yes, no)] == [True, False]


def test_a_method_of_unknown_layout_changes_nothing_and_is_told() -> None:
    model = described({"quant_method": "some_new_thing"})
    assert model.parameters is not None
    assert all(group.dtype is None for group in model.parameters.groups)
    assert any("without the files" in note for note in model.notes)


@pytest.mark.parametrize(
    ("facts", "method", "scheme"),
    [
        ({"quant_method": "fp8"}, "fp8", "fp8"),
        ({"quant_method": "gptq", "bits": 3, "group_size": -1}, "gptq", "int3"),
        ({"quant_method": "gptq", "bits": 4, "group_size": 128, "desc_act": True}, "gptq", "reordered"),
        ({"quantization": {"quant_algo": "NVFP4"}}, "modelopt", "nvfp4"),
        ({"load_in_4bit": True}, "bitsandbytes", "nf4"),
        ({"bits": 4, "group_size": 64}, "mlx", "int4"),
    ],
)
def test_what_a_checkpoint_declares(facts: dict[str, Any], method: str, scheme: str) -> None:
    found = declared_quantisation({"quantization_config": facts})
    assert found is not None
    assert (found.method, found.scheme) == (method, scheme)


def test_a_plain_checkpoint_declares_none() -> None:
    model = hfmem.inspect("Qwen/Qwen3-8B", offline=True)
    assert model.quantisation is None
    assert model.parameters is not None
    assert as_stored(model.parameters, {}, model.architecture).table is model.parameters


def test_experts_are_within_the_network_unless_a_dense_one_is() -> None:
    """modeling_qwen3_moe.py: `mlp.experts` of each layer. Those of one that stay have a byte more an element."""
    mixture = {"model_type": "qwen3_moe", "architectures": ["Qwen3MoeForCausalLM"], "num_hidden_layers": 2}
    mixture |= {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 1024}
    packed = {"quant_method": "fp8", "activation_scheme": "dynamic"}
    all_, some = (
        stored(described({**packed, "modules_to_not_convert": [*left, "lm_head"]}, **mixture))
        for left in ((), ("model.layers.0.mlp.experts",))
    )
    assert some - all_ == pytest.approx(4 * 3 * 4096 * 1024, rel=1e-5)


@pytest.mark.parametrize(
    ("quantisation", "dtype"),
    [
        ({"quant_method": "gptq", "bits": 4, "group_size": 128}, "float16"),
        ({"quant_method": "awq", "bits": 4, "group_size": 128}, "float16"),
        ({"quant_method": "fp8", "weight_block_size": [128, 128]}, "bfloat16"),
        ({"quant_method": "bitsandbytes", "load_in_4bit": True}, "bfloat16"),
    ],
)
def test_what_a_quantised_model_runs_in_where_nothing_tells(quantisation: dict[str, Any], dtype: str) -> None:
    """transformers 5.24, quantizers: `update_dtype` of GPTQ and AWQ falls back to float16, of others to bfloat16."""
    assert described(quantisation).stored_dtype == dtype
