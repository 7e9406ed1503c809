"""Coefficients against the implementation: derived again, and held against whole models without weights."""

from __future__ import annotations

import json
from typing import Any

import pytest

pytest.importorskip("torch")

from hfmem.estimator.activations.coefficients import find
from hfmem.probe.__main__ import TARGET as TABLE
from hfmem.probe.__main__ import measure as derived
from hfmem.probe.activations.store import read
from tests.oracle import small
from tests.oracle.activations import TARGET, measure

pytestmark = [pytest.mark.oracle, pytest.mark.filterwarnings("ignore")]

# One of each kind: plain, tied, windows, two attentions, experts, latents, states, images, encoders.
SAMPLE = (
    "gpt2",
    "llama",
    "qwen3",
    "gemma3_text",
    "gpt_neox",
    "opt",
    "qwen3_moe",
    "granitemoe",
    "deepseek_v3",
    "lfm2",
    "falcon_mamba",
    "qwen2_vl",
)
MODELS = ("Qwen/Qwen3-0.6B", "openai-community/gpt2", "google/gemma-3-4b-it", "mistralai/Mixtral-8x7B-v0.1")
ROWS: list[dict[str, Any]] = json.loads(TARGET.read_text())["rows"]


def opened(row: dict[str, Any]) -> dict[str, Any]:
    """What a row says of each mode."""
    return {
        f"{regime} {mode}": row["blocks"][number]
        for regime in ("modes", "within")
        for mode, number in row[regime].items()
    }


@pytest.mark.parametrize("model_type", SAMPLE)
def test_deriving_again_gives_what_is_stored(model_type: str) -> None:
    """The modes that were measured within the time; one that was not is no difference."""
    again = derived(model_type)
    assert again["seconds"] < 120
    row = read(TABLE)[model_type]
    if "same_as" in row:
        assert again.get("same_as") == row["same_as"]
        return
    there, here = opened(row), opened(dict(again))
    both = there.keys() & here.keys()
    assert len(both) >= 2
    assert {mode: here[mode] for mode in both} == {mode: there[mode] for mode in both}
    assert again["residual"] < 0.001


@pytest.mark.parametrize("row", [row for row in ROWS if row["model"] in MODELS], ids=lambda row: f"{row['model']}")
def test_whole_models_still_keep_what_was_recorded(row: dict[str, Any]) -> None:
    again = measure(row["model"], row["batch"], row["seq"])
    assert {key: again[key] for key in ("saved", "prefill")} == pytest.approx(
        {key: row[key] for key in ("saved", "prefill")}, rel=1e-4
    )


@pytest.mark.parametrize("model_type", [*SAMPLE, "xlm", "hy_v4", "bart:BartForConditionalGeneration"])
def test_small_classes_still_keep_what_was_recorded(model_type: str) -> None:
    assert small.row(model_type) == next(row for row in small.recorded() if row["type"] == model_type)


def test_checkpointing_follows_from_what_is_kept_without() -> None:
    """A layer keeps its input; its backward pass has the moments that it has without, beside that input."""
    import torch

    from hfmem.probe.activations.probes import probes
    from hfmem.probe.activations.reading import Reading
    from hfmem.probe.activations.step import Mode
    from hfmem.probe.activations.variants import variants

    torch.set_num_threads(1)
    coefficients = find("llama", "sdpa/bf16/full")
    assert coefficients is not None
    for probe in probes(variants("llama", "LlamaForCausalLM")[:2]):
        reading = Reading(probe.run(Mode(checkpointing=True)), Mode(checkpointing=True))
        for index in range(len(probe.layers)):
            (part,) = coefficients.layers.values()
            assert part.input is not None
            assert reading.bytes(reading.kept_in(("forward", index))) == part.input.at(probe.sizes(index, Mode()))
