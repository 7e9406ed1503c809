"""Which source tells the activations of which training software."""

from __future__ import annotations

from typing import Any

import pytest

from hfmem.api import inspect
from hfmem.estimator.activations.adapters import with_adapters
from hfmem.estimator.activations.closed_forms import ClosedForms
from hfmem.estimator.activations.source import TrainingActivations
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


NOTHING = TrainingActivations(
    outside=0,
    layers=(0,) * 32,
    logits=0,
    backward=(0,) * 32,
    begun=(0,) * 32,
    certainty="derived",
    how="",
    source="",
)
"""What stands for frozen layers that keep nothing, so that what adapters add is seen alone."""
TOKENS = 512


def added(name: str, **asked: Any) -> TrainingActivations:
    model = inspect(name, offline=True)
    asked = {"train": "lora", "lora_rank": 16, "lora_dtype": "bfloat16", "precision": "bf16", **asked}
    found = scenario(model, **asked)
    return with_adapters(model, found, NOTHING, source_of(found))


def test_the_gradients_of_a_modules_input_are_summed_beside_them() -> None:
    """PyTorch 2.13, torch.profiler: of an input of three dimensions, the first sum of two gradients is `aten::add`; so
    the module's, the adapter's and their sum are there at once, of 4,096 units in 2 B. Kept are 16 outputs of the first
    matrix, and the input itself, which a frozen module does not keep."""
    found = added("mistralai/Mistral-7B-v0.1", lora_targets=("v_proj",))
    assert found.layers == (TOKENS * 2 * (16 + 4096),) * 32
    assert found.backward == (TOKENS * 2 * 3 * 4096,) * 32


MATRIX = 8 * 14336 * 4096 * 2
READ, UNITS = TOKENS * 2 * 4096 * 2, TOKENS * 2 * 14336 * 2
"""Of a layer of Mixtral: 8 experts of 14,336 units with a gate; what they read, and their units, of 2 for a token."""


@pytest.mark.parametrize(
    ("targets", "kept", "gradient"),
    [
        (("w1", "w3"), 2 * MATRIX + READ, 2 * MATRIX + READ),
        (("w2",), MATRIX + UNITS, MATRIX + UNITS + READ),
        (("w1", "w2", "w3"), 3 * MATRIX + READ + UNITS, MATRIX + UNITS + READ),
    ],
)
def test_experts_are_made_anew_with_what_adapters_add(targets: tuple[str, ...], kept: int, gradient: int) -> None:
    """peft 0.21, tuners/lora/layer.py::ParamWrapper: what adapters add is added to a fused parameter, and the graph
    keeps the sum and what is multiplied with it. Its gradient is as large, of the way out first: with the gradients of
    the units and of the output, with those of the input after it."""
    found = added("mistralai/Mixtral-8x7B-v0.1", lora_targets=targets)
    assert found.layers == (kept,) * 32
    assert found.backward == (kept + gradient,) * 32
