"""Measured coefficients at a model's sizes, against closed forms worked out by others, and what stands in for what."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hfmem.estimator.activations import coefficients, measured
from hfmem.estimator.activations.measured import Measured
from hfmem.estimator.activations.polynomials import Polynomial
from hfmem.estimator.activations.prefill import activation_terms
from hfmem.estimator.cache.sizes import layer_bytes, prompt_bytes
from hfmem.estimator.scenario import Scenario
from hfmem.estimator.values import Term
from hfmem.fetcher.values import Checkpoint, ModelRef
from hfmem.mapper.interpret import Model, interpret
from hfmem.mapper.sizes import decides
from hfmem.scenario.options import Options
from hfmem.scenario.resolve import resolve

FIXTURES = Path(__file__).parents[2] / "fixtures"
BATCH, SEQ = 3, 777


def described(**changes: Any) -> Model:
    """Llama-2-7B, changed."""
    config = json.loads((FIXTURES / "meta-llama--Llama-2-7b-hf" / "config.json").read_text()) | changes
    checkpoint = Checkpoint(ref=ModelRef(model_id="org/m"), commit=None, source="local", provenance="", config=config)
    return interpret(checkpoint)


def scenario(model: Model, **asked: Any) -> Scenario:
    return resolve(Options(**({"batch": BATCH, "seq": SEQ, "dtype": "bfloat16"} | asked)), model)


def found(model: Model, method: str, precision: str | None = None, **asked: Any) -> Measured:
    coefficients = measured.measured(model, scenario(model, **asked), method, precision)
    assert isinstance(coefficients, Measured), coefficients
    return coefficients


def kept(of: Measured) -> list[int]:
    """Bytes per token that each layer keeps."""
    return [of.value(of.applied.reduced[part].kept, part) // (of.batch * of.seq) for part in of.applied.structure.order]


# Bytes per token and layer of a SwiGLU decoder in transformers, bfloat16 (two rsqrt of 4 B, log-sum-exp: 4 B per head)
SHAPES = ({}, {"num_key_value_heads": 8}, {"hidden_size": 2048, "num_attention_heads": 16, "num_key_value_heads": 4})


@pytest.mark.parametrize("changes", SHAPES, ids=str)
def test_what_a_llama_layer_keeps_for_the_backward_pass(changes: dict[str, int]) -> None:
    model = described(**changes)
    config = model.checkpoint.config
    assert config is not None
    hidden, inner, heads = config["hidden_size"], config["intermediate_size"], config["num_attention_heads"]
    queries, keys = hidden, hidden // heads * config["num_key_value_heads"]
    expected = 16 * hidden + 4 * queries + 4 * keys + 8 * inner + 4 * heads + 8
    assert kept(found(model, "full")) == [expected] * 32
    frozen = 8 * hidden + 4 * queries + 4 * keys + 6 * inner + 4 * heads + 8
    assert kept(found(model, "frozen")) == [frozen] * 32


@pytest.mark.parametrize("changes", SHAPES, ids=str)
def test_eager_attention_keeps_scores_and_repeated_keys(changes: dict[str, int]) -> None:
    """float32 and bfloat16 of the scores, and keys and values of every query head, but no log-sum-exp."""
    model = described(**changes)
    config = model.checkpoint.config
    assert config is not None
    hidden, heads = config["hidden_size"], config["num_attention_heads"]
    more = 6 * heads * SEQ + 4 * (hidden - hidden // heads * config["num_key_value_heads"]) - 4 * heads
    one, other = found(model, "full", attention="eager"), found(model, "full")
    assert [a - b for a, b in zip(kept(one), kept(other), strict=True)] == [more] * 32


def test_the_head_keeps_float32_logits() -> None:
    of = found(described(), "full")
    head = of.value(of.applied.reduced[of.head].kept, of.head) / (BATCH * SEQ)
    assert head == pytest.approx(4 * 32000 + 8 * 4096, rel=0.001)


def test_with_checkpointing_a_layer_keeps_its_input() -> None:
    of = found(described(), "full")
    for number in of.applied.structure.order:
        leads = of.applied.reduced[number].input
        assert leads is not None
        assert of.value(leads, number) == 2 * 4096 * BATCH * SEQ


def test_its_own_coefficients_are_measured_and_say_with_what() -> None:
    of = found(described(), "full")
    assert of.applied.certainty == "measured"
    assert of.applied.source.startswith("hfmem.probe on llama (sdpa/bf16/full), transformers ")


def test_a_relative_stands_in_for_a_type_that_was_not_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    real = coefficients.find
    monkeypatch.setattr(measured, "find", lambda name, *a, **k: None if name == "mistral" else real(name, *a, **k))
    of = found(described(model_type="mistral", architectures=["MistralForCausalLM"], sliding_window=None), "full")
    assert of.applied.certainty == "typical"
    assert of.applied.why == "mistral was not measured"
    assert kept(of) == kept(found(described(), "full"))


def test_another_precision_stands_in_for_one_that_was_not_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    real = coefficients.find
    monkeypatch.setattr(measured, "find", lambda n, mode, **k: None if "fp32" in mode else real(n, mode, **k))
    of = found(described(), "full", dtype="float32")
    assert of.applied.certainty == "typical"
    assert of.applied.why == "fp32 was not measured"


@pytest.mark.parametrize(
    ("known", "asked", "first"),
    [
        ({"sdpa", "eager"}, "sdpa", "sdpa/bf16/full"),
        ({"eager"}, "sdpa", "eager/bf16/full"),  # the class has nothing else, and runs it whatever is asked
        ({"sdpa"}, "eager", "sdpa/bf16/full"),
        (set(), "sdpa", "sdpa/bf16/full"),
    ],
)
def test_a_class_runs_the_attention_that_it_has(known: set[str], asked: str, first: str) -> None:
    modes = [mode.name for mode in measured._modes(asked, "bf16", "full", frozenset(known))]
    assert modes[0] == first
    assert len({mode.partition("/")[0] for mode in modes}) == 1, "tokens × tokens on one side only"


def test_an_unknown_dtype_is_unknown() -> None:
    model = described(torch_dtype=None)
    unknown = replace(scenario(model), dtype=None, compute_dtype=None)
    terms, reasons = activation_terms(model, unknown)
    assert not terms
    assert reasons == [("activations", "the compute dtype is not known: use --dtype")]


def test_an_unknown_architecture_is_unknown() -> None:
    model = described(model_type="of_nobody", architectures=["OfNobody"])
    terms, reasons = activation_terms(model, scenario(model))
    assert not terms
    assert reasons[0][0] == "activations"


def term(model: Model, **asked: Any) -> Term:
    (only,), unknown = activation_terms(model, scenario(model, **asked))
    assert not unknown
    return only


MODELS = (described(), described(num_key_value_heads=2, num_hidden_layers=3))


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(MODELS), st.integers(1, 60), st.integers(1, 9000), st.sampled_from(["sdpa", "eager"]))
def test_more_sequences_or_tokens_never_take_less(model: Model, batch: int, seq: int, attention: str) -> None:
    here = term(model, batch=batch, seq=seq, attention=attention).nbytes
    assert 0 <= here <= term(model, batch=batch + 1, seq=seq, attention=attention).nbytes
    assert here <= term(model, batch=batch, seq=seq + 1, attention=attention).nbytes


def test_a_prefill_says_its_arithmetic_and_the_articles_beside_it() -> None:
    only = term(described())
    assert only.certainty == "measured"
    assert "That is alpha" in only.how
    assert "the article has 2 and 0" in only.how
    assert "the article has 34 and 5" in term(described(), attention="eager").how


def test_a_window_is_a_view_of_the_prompt() -> None:
    """transformers cuts the window out of keys and values of the whole prompt, which stay in memory until the next."""
    whole = described(model_type="mistral", architectures=["MistralForCausalLM"], sliding_window=None)
    windowed = described(model_type="mistral", architectures=["MistralForCausalLM"], sliding_window=512)
    (first, second), asked = (model.architecture.layers or () for model in (whole, windowed)), scenario(whole)
    assert layer_bytes(second[0], asked) < layer_bytes(first[0], asked)
    assert prompt_bytes(second[0], asked) == prompt_bytes(first[0], asked) == layer_bytes(first[0], asked)


def test_modes_of_long_and_short_prompts() -> None:
    """Where every window is longer than the tokens, no mask of tokens × tokens is kept."""
    config = {"model_type": "mistral", "architectures": ["MistralForCausalLM"], "sliding_window": 1024}
    model = described(**config, max_position_embeddings=32768)
    short, long = (found(model, "full", seq=seq) for seq in (512, 4096))
    quadratic = [of.applied.parts[0].kept.quadratic() for of in (short, long)]
    assert quadratic == [Polynomial({}), Polynomial.parse("2*b*s*s")]


@pytest.mark.parametrize(
    ("switched", "there", "row", "untold"),
    [
        ((), {"alibi"}, "falcon", ()),
        (("alibi",), {"alibi"}, "falcon alibi", ()),
        (("bias",), {"alibi"}, "falcon", ()),
        (("alibi", "parallel_attn"), {"alibi", "alibi+parallel_attn"}, "falcon alibi+parallel_attn", ()),
        (("alibi", "parallel_attn"), {"alibi"}, "falcon alibi", ("parallel_attn",)),
        (("hidden_act=relu2",), set(), "falcon", ("hidden_act=relu2",)),
    ],
)
def test_the_row_of_a_structure(
    switched: tuple[str, ...], there: set[str], row: str, untold: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Keys that were measured have a row; those whose name says that layers run otherwise, and that have none, are
    told; others change nothing."""
    monkeypatch.setattr(measured, "structures", lambda _: frozenset(there))
    assert measured._structured("falcon", switched, frozenset(filter(decides, switched))) == (row, untold)
