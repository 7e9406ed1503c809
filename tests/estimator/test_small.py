"""Measured coefficients against small whole classes of every type (`fixtures/oracle/small.json`): sizes that the
coefficients were not made from. Those of real sizes are in `test_recorded_activations.py`."""

from __future__ import annotations

from typing import Any, Final

import pytest

from tests.estimator.test_recorded_activations import PREFILL, SAVED
from tests.oracle.activations import kind, predicted_prefill, predicted_saved, scenario_of
from tests.oracle.small import model_of, recorded

ROWS: Final = [row for row in recorded() if "saved" in row]

# Rows that are further off than they may be. Nobody has looked into most of them yet: a row that is right by now fails
# here, and is taken away.
SAVED_APART: Final[frozenset[str]] = frozenset(
    {
        "big_bird",
        "bigbird_pegasus:BigBirdPegasusForConditionalGeneration",
        "ctrl",
        "florence2",
        "fsmt",
        "granite_speech",
        "granite_speech_plus",
        "hunyuan_v1_moe",
        "jetmoe",
        "pegasus_x",
        "qwen2_audio",
        "seamless_m4t",
        "seamless_m4t_v2",
        "stablelm qk_layernorm",
        "stablelm qk_layernorm+use_parallel_residual",
        "step3p7",
    }
)
PREFILL_APART: Final[frozenset[str]] = frozenset(
    {
        "aria_text",
        "aya_vision",
        "big_bird",
        "bitnet",
        "bloom apply_residual_connection_post_layernorm",
        "codegen",
        "cohere2",
        "cohere2_moe",
        "cohere2_vision",
        "ctrl",
        "florence2",
        "fsmt",
        "gpt2",
        "gpt2 reorder_and_upcast_attn",
        "gpt_bigcode",
        "granite4_vision",
        "kosmos-2.5",
        "marian",
        "opt do_layer_norm_before",
        "pegasus:PegasusForConditionalGeneration",
        "recurrent_gemma",
        "roc_bert",
        "roc_bert enable_pronunciation",
        "roc_bert enable_shape",
        "seamless_m4t",
        "seamless_m4t_v2",
        "stablelm",
        "stablelm qk_layernorm",
        "xlnet",
        "xlnet same_length",
        "xlnet use_mems_train",
    }
)


def cases(apart: frozenset[str]) -> list[Any]:
    mark = pytest.mark.xfail(reason="further off than it may be, not understood yet", strict=True)
    return [pytest.param(row, id=row["type"], marks=[mark] if row["type"] in apart else []) for row in ROWS]


def test_nearly_every_type_is_recorded_and_near() -> None:
    assert len(ROWS) >= 300
    names = {row["type"] for row in ROWS}
    assert names >= SAVED_APART | PREFILL_APART
    assert len(SAVED_APART) <= 0.06 * len(ROWS)
    assert len(PREFILL_APART) <= 0.1 * len(ROWS)


@pytest.mark.parametrize("row", cases(SAVED_APART))
def test_what_a_forward_pass_keeps(row: dict[str, Any]) -> None:
    model = model_of(row["config"])
    told = predicted_saved(model, scenario_of(model, row["batch"], row["seq"]))
    assert told == pytest.approx(row["saved"], rel=SAVED[kind(model)])


@pytest.mark.parametrize("row", cases(PREFILL_APART))
def test_the_peak_of_a_prefill(row: dict[str, Any]) -> None:
    model = model_of(row["config"])
    told = predicted_prefill(model, scenario_of(model, row["batch"], row["seq"]))
    assert told == pytest.approx(row["prefill"], rel=PREFILL)
