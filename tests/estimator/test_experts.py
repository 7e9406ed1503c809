"""Copies of the selected experts while transformers generates, by hand from published sizes."""

from __future__ import annotations

from typing import Any

import pytest

import hfmem

NAME = "decode: copies of the selected experts"


def copies(model: str, **options: Any) -> int:
    """Bytes of the term; 0 without it."""
    report = hfmem.estimate(model, offline=True, **options)
    return sum(term.nbytes for term in report.estimate.terms if term.name == NAME)


def test_each_sequence_copies_the_experts_that_it_selects() -> None:
    """Mixtral: three matrices of 14,336 × 4,096 in an expert, two of eight for a token."""
    one = 3 * 14336 * 4096 * 2
    assert copies("mistralai/Mixtral-8x7B-v0.1", batch=16, seq=512) == 16 * 2 * one
    assert copies("mistralai/Mixtral-8x7B-v0.1", batch=4, seq=512, num_return_sequences=4) == 16 * 2 * one
    assert copies("mistralai/Mixtral-8x7B-v0.1", batch=16, seq=512, dtype="float32") == 2 * 16 * 2 * one


def test_two_accelerators_have_half_of_each_expert() -> None:
    one = 3 * (14336 // 2) * 4096 * 2
    assert copies("mistralai/Mixtral-8x7B-v0.1", batch=32, seq=256, gpu="2xH100") == 32 * 2 * one


def test_a_pass_that_verifies_copies_for_each_drafted_token() -> None:
    one = 3 * 14336 * 4096 * 2
    found = copies("mistralai/Mixtral-8x7B-v0.1", seq=512, assistant_model="mistralai/Mistral-7B-v0.1")
    assert found == 21 * 2 * one


@pytest.mark.parametrize(
    ("model", "options"),
    [
        ("meta-llama/Llama-2-7b-hf", {"batch": 16, "seq": 512}),
        ("openai/gpt-oss-20b", {"batch": 16, "seq": 512}),
        ("mistralai/Mixtral-8x7B-v0.1", {"batch": 16, "seq": 512, "dtype": "nf4"}),
        ("mistralai/Mixtral-8x7B-v0.1", {"batch": 16, "seq": 512, "runtime": "vllm", "gpu": "H200"}),
        ("mistralai/Mixtral-8x7B-v0.1", {"batch": 1, "seq": 8192}),
        ("mistralai/Mixtral-8x7B-v0.1", {"batch": 16, "seq": 512, "num_beams": 4}),
        ("mistralai/Mixtral-8x7B-v0.1", {"batch": 1, "seq": 512, "train": "lora"}),
    ],
)
def test_no_copies(model: str, options: dict[str, Any]) -> None:
    """Of dense models, packed experts, other engines, beams (`_beam_search` does not switch) and training; or less than
    the prompt takes."""
    assert copies(model, **options) == 0
