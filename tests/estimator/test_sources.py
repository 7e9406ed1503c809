"""Which source tells the activations of which training software."""

from __future__ import annotations

from typing import Any

from hfmem.api import inspect
from hfmem.estimator.activations.closed_forms import ClosedForms
from hfmem.estimator.activations.sources import SOURCES, source_of, step_activations
from hfmem.estimator.activations.step import MeasuredClasses
from hfmem.estimator.recipe.values import TrainingScenario
from hfmem.fetcher.values import Checkpoint, ModelRef
from hfmem.mapper.interpret import Model, interpret
from hfmem.scenario.options import Options
from hfmem.scenario.resolve import resolve
from hfmem.unknown import Unknown


def scenario(model: Model, **asked: Any) -> TrainingScenario:
    found = resolve(Options(seq=512, dtype="bfloat16", **asked), model)
    assert isinstance(found, TrainingScenario)
    return found


def test_closed_forms_stand_in_where_nothing_was_measured() -> None:
    """A stack that keeps the residual stream in float32 is none that was measured."""
    model = inspect("Qwen/Qwen3-0.6B", offline=True)
    for stack, source in (("transformers-5", MeasuredClasses()), ("transformers-4.48-kbit", ClosedForms())):
        asked = scenario(model, train="full", stack=stack)
        expected = source.activations(model, asked, asked.parallel)
        assert not isinstance(expected, Unknown)
        assert SOURCES["measured"].activations(model, asked, asked.parallel) == expected
        assert SOURCES["measured"].linears(model, asked, 0) == source.linears(model, asked, 0)


def test_a_source_that_brings_adapters_gets_none_on_top() -> None:
    model = inspect("Qwen/Qwen3-0.6B", offline=True)
    for stack, brings in (("litgpt", True), ("transformers-5", False)):
        asked = scenario(model, train="lora", stack=stack, lora_targets=("q_proj",))
        source = source_of(asked)
        plain = source.activations(model, asked, asked.parallel)
        assert (step_activations(model, asked, asked.parallel) == plain) is brings


def test_coefficients_know_whether_they_count_an_encoder() -> None:
    t5 = {"model_type": "t5", "architectures": ["T5ForConditionalGeneration"], "torch_dtype": "bfloat16"}
    checkpoint = Checkpoint(ref=ModelRef(model_id="org/t5"), commit=None, source="local", provenance="", config=t5)
    for model, counts in ((interpret(checkpoint), True), (inspect("Qwen/Qwen3-0.6B", offline=True), False)):
        asked = scenario(model, train="full")
        assert source_of(asked).counts_encoder(model, asked) is counts
