"""Memory of running a model, against figures worked out by hand."""

from __future__ import annotations

from typing import Any

import pytest

from hfmem.engines.inference import estimate
from hfmem.errors import InvalidScenarioError
from hfmem.estimator.values import GROUPS, Estimate
from hfmem.estimator.weights.quantisers import QUANTISERS
from hfmem.fetcher.values import Checkpoint, ModelRef
from hfmem.mapper.interpret import Model, interpret
from hfmem.scenario.check import check
from hfmem.scenario.options import Options
from hfmem.scenario.resolve import resolve

LLAMA_2_7B = {
    "model_type": "llama",
    "architectures": ["LlamaForCausalLM"],
    "hidden_size": 4096,
    "intermediate_size": 11008,
    "max_position_embeddings": 4096,
    "num_attention_heads": 32,
    "num_hidden_layers": 32,
    "num_key_value_heads": 32,
    "tie_word_embeddings": False,
    "torch_dtype": "float16",
    "vocab_size": 32000,
}
PARAMETERS = 6_738_415_616
LINEAR = 32 * (4 * 4096 * 4096 + 3 * 4096 * 11008)


def described(**changes: Any) -> Model:
    config = {key: value for key, value in (LLAMA_2_7B | changes).items() if value != "absent"}
    ref = ModelRef(model_id="org/m")
    return interpret(Checkpoint(ref=ref, commit=None, source="local", provenance="", config=config))


def run(model: Model | None = None, **asked: Any) -> Estimate:
    found = model or described()
    return estimate(found, resolve(Options(**asked), found))


def test_llama_2_7b_at_batch_4_and_4096_tokens() -> None:
    found = run(batch=4, seq=4096)
    assert found.group("weights") == 2 * PARAMETERS == 13_476_831_232
    assert found.group("kv_cache") == 8 * 2**30
    assert found.kv_cache_per_token == 32 * 2 * 32 * 128 * 2
    assert not found.is_lower_bound


def test_the_total_is_the_sum_of_groups_and_groups_are_sums_of_terms() -> None:
    found = run(batch=3, seq=77)
    assert found.total == sum(found.group(group) or 0 for group in GROUPS) == sum(term.nbytes for term in found.terms)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"num_key_value_heads": 8}, 32 * 2 * 1000 * 8 * 128 * 2),
        ({"num_key_value_heads": 1}, 32 * 2 * 1000 * 1 * 128 * 2),
        ({"num_key_value_heads": None}, 32 * 2 * 1000 * 32 * 128 * 2),
        ({"num_key_value_heads": "absent"}, 32 * 2 * 1000 * 32 * 128 * 2),
        ({"head_dim": 64}, 32 * 2 * 1000 * 32 * 64 * 2),
    ],
)
def test_heads(changes: dict[str, object], expected: int) -> None:
    assert run(described(**changes), seq=1000).group("kv_cache") == expected


@pytest.mark.parametrize(("seq", "kept"), [(100, 100), (4096, 4096), (32768, 4096)])
def test_a_window_bounds_the_cache(seq: int, kept: int) -> None:
    mistral = described(model_type="mistral", sliding_window=4096, max_position_embeddings=32768)
    found = run(mistral, seq=seq)
    assert found.group("kv_cache") == 32 * 2 * kept * 32 * 128 * 2
    assert (found.kv_cache_per_token, found.kv_cache_fixed) == ((0, 2**31) if seq >= 4096 else (524_288, 0))


@pytest.mark.parametrize(("kv_dtype", "width"), [("float32", 4), ("bf16", 2), ("fp8", 1), ("int8", 1)])
def test_the_dtype_of_the_cache(kv_dtype: str, width: int) -> None:
    assert run(seq=10, kv_dtype=kv_dtype).group("kv_cache") == 32 * 2 * 10 * 4096 * width


@pytest.mark.parametrize(("dtype", "width"), [("float32", 4), ("bf16", 2), ("torch.float16", 2)])
def test_run_dtypes(dtype: str, width: int) -> None:
    assert run(dtype=dtype).group("weights") == PARAMETERS * width


@pytest.mark.parametrize(
    ("dtype", "linear"),
    [
        ("int8", LINEAR + 4 * 32 * (5 * 4096 + 2 * 11008)),
        ("nf4", LINEAR // 2 + LINEAR // 64 * 4),
        ("int4", LINEAR // 2 + LINEAR // 128 * 4),  # torchao's, the largest recipe
        ("awq", LINEAR // 2 + LINEAR // 128 * 2 + LINEAR // 128 // 2),
        ("fp8", LINEAR + LINEAR // 128 // 128 * 4),
        ("mxfp4", 2 * LINEAR),  # transformers packs gpt-oss alone
        ("nvfp4", LINEAR // 2 + LINEAR // 16 * 2 + 4 * 32 * 7),  # its scales are held twice
    ],
)
def test_quantisations_to_try_leave_embeddings_head_and_norms(dtype: str, linear: int) -> None:
    assert run(dtype=dtype).group("weights") == linear + 2 * (PARAMETERS - LINEAR)
    assert run(dtype=dtype).group("kv_cache") == run().group("kv_cache")


@pytest.mark.parametrize("quantiser", QUANTISERS, ids=lambda row: row.name)
def test_quantisers_name_their_source(quantiser: object) -> None:
    assert quantiser.source


def test_an_unknown_dtype_gives_a_lower_bound_and_says_what_to_do() -> None:
    found = run(described(torch_dtype="absent"))
    assert found.group("weights") is None
    assert found.is_lower_bound
    assert any("--dtype" in reason for _, reason in found.unknown)


def test_an_unknown_architecture_keeps_what_is_known() -> None:
    found = run(described(model_type="a_type_nobody_knows"))
    assert found.group("kv_cache") is None
    assert found.is_lower_bound
    assert found.total > 0


@pytest.mark.parametrize(("longest", "seq"), [(4096, 4096), (2048, 2048), (131072, 4096), ("absent", 2048)])
def test_the_default_length(longest: object, seq: int) -> None:
    scenario = resolve(Options(), described(max_position_embeddings=longest))
    assert scenario.seq == seq
    assert any("--seq" in sentence for sentence in scenario.chosen)


@pytest.mark.parametrize("size", [1, 7, 100, 4095, 4096, 5000])
def test_memory_grows_with_batch_and_length(size: int) -> None:
    assert run(seq=size + 1).total > run(seq=size).total
    assert run(batch=size + 1, seq=10).total > run(batch=size, seq=10).total


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ({"batch": 0}, "--batch is 0"),
        ({"seq": 0}, "--seq is 0"),
        ({"dtype": "float99"}, "--dtype 'float99' is not one of"),
        ({"kv_dtype": "nf4"}, "--kv-dtype"),
        ({"optimizer": "adam"}, "--optimizer needs --train"),
        ({"method": "textbook", "train": "lora"}, "--train full"),
        ({"method": "textbook", "train": "full", "zero": 2}, "--zero cannot be used with --method textbook"),
        ({"method": "textbook", "dtype": "nf4"}, "float32, float16, bfloat16, int8, int4"),
        ({"method": "textbook", "train": "full", "optimizer": "lion"}, "adam, sgd"),
        ({"method": "textbook", "optimizer": "adam"}, "--optimizer needs --train"),
        ({"method": "textbook", "kv_dtype": "float16"}, "takes it from --dtype"),
    ],
)
def test_what_makes_no_sense_is_refused(asked: dict[str, Any], words: str) -> None:
    with pytest.raises(InvalidScenarioError, match=words):
        check(Options(**asked))


@pytest.mark.parametrize("dtype", ["nf4", "int8", "int4"])
def test_what_would_happen_is_counted_and_what_could_be_is_a_remark(dtype: str) -> None:
    mixture = described(model_type="mixtral", num_local_experts=4, num_experts_per_tok=2)
    experts = 32 * 4 * 3 * 4096 * 11008
    found = run(mixture, dtype=dtype)
    weights = found.group("weights")
    assert weights is not None
    assert 2 * experts < weights < 2 * experts + LINEAR + 2 * PARAMETERS  # nn.Linear alone is replaced
    assert any("leaves" in sentence and "the experts" in sentence for sentence in found.formats)
    assert any("would be" in sentence for sentence in found.formats)
    assert not any("would be" in sentence for sentence in run(mixture, dtype="fp8").formats)
    assert not any("would be" in sentence for sentence in run(dtype=dtype).formats)
