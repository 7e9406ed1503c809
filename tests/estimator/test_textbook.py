"""The original article's formulas, as printed."""

from __future__ import annotations

import pytest

from hfmem.estimator.values import Estimate
from tests.estimator.test_inference import PARAMETERS, described, run


def book(**asked: object) -> Estimate:
    return run(described(), method="textbook", **asked)


@pytest.mark.parametrize(
    ("dtype", "precision"), [("float32", 4), ("float16", 2), ("bfloat16", 2), ("int8", 1), ("int4", 0.5)]
)
def test_model_and_cache(dtype: str, precision: float) -> None:
    found = book(dtype=dtype, batch=4, seq=4096)
    assert found.group("weights") == PARAMETERS * precision
    assert found.group("kv_cache") == 2 * 4 * 4096 * precision * 32 * 4096


@pytest.mark.parametrize(
    ("attention", "expected"),
    [
        ("eager", 34 * 2 * 100 * 4096 + 5 * 2 * 32 * 100**2),
        ("sdpa", 2 * 2 * 100 * 4096),
        ("flash", 2 * 2 * 100 * 4096),
    ],
)
def test_activations_have_no_factor_for_layers(attention: str, expected: int) -> None:
    found = book(batch=2, seq=100, attention=attention)
    assert found.group("activations") == expected
    assert any("no factor for the number of layers" in note for note in found.notes)


def test_inference_is_the_three_parts() -> None:
    found = book(batch=2, seq=100)
    parts = ("weights", "kv_cache", "activations")
    assert found.total == sum(found.group(group) or 0 for group in parts)
    assert found.group("overhead") == 0


@pytest.mark.parametrize(("optimizer", "state"), [("adam", 8), ("sgd", 4), (None, 8)])
def test_training_adds_optimizer_and_gradients(optimizer: str | None, state: int) -> None:
    running, training = book(seq=100), book(seq=100, train="full", optimizer=optimizer)
    assert training.group("optimizer") == PARAMETERS * state
    assert training.group("gradients") == PARAMETERS * 4
    assert training.total == running.total + PARAMETERS * (state + 4)


def test_the_cache_ignores_grouped_queries() -> None:
    grouped = run(described(num_key_value_heads=8), method="textbook", seq=100)
    assert grouped.group("kv_cache") == 2 * 100 * 2 * 32 * 4096


def test_the_rule_of_thumb_is_told() -> None:
    assert any("12.55 GiB to run" in note and "50.21 GiB to 75.31 GiB to train" in note for note in book().notes)
