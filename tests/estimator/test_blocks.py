"""Encoders that attend in blocks of tokens: sources that are no multiple of a block, and those too short for blocks."""

from __future__ import annotations

from typing import Any, Final, Literal

import pytest

from tests.measured.training import from_config
from tests.oracle.step_cases import Case, ours

PEGASUS_X: Final[dict[str, Any]] = {
    "model_type": "pegasus_x",
    "architectures": ["PegasusXForConditionalGeneration"],
    "d_model": 1024,
    "encoder_layers": 4,
    "decoder_layers": 2,
    "encoder_ffn_dim": 4096,
    "decoder_ffn_dim": 4096,
    "encoder_attention_heads": 16,
    "decoder_attention_heads": 16,
    "vocab_size": 96103,
    "block_size": 512,
    "num_global_tokens": 128,
    "max_position_embeddings": 16384,
    "is_encoder_decoder": True,
    "pad_token_id": 0,
    "decoder_start_token_id": 0,
}
"""The sizes of google/pegasus-x-large, with a quarter of its layers."""


# Peaks of `tests.oracle.steps.peaks`, full training of 2 x 127 tokens in bf16 with SGD.
@pytest.mark.parametrize(
    ("source", "checkpointing", "nbytes"),
    [
        (1000, False, 1663194548),
        (3001, False, 2728341836),
        (4096, False, 3261691892),
        (3001, True, 1341866884),
        (4096, True, 1526764020),
    ],
)
def test_a_source_is_padded_to_whole_blocks(source: int, checkpointing: bool, nbytes: int) -> None:
    case = Case(method="full", attention="eager", checkpointing=checkpointing, batch=2, seq=127, source=source)
    assert ours(PEGASUS_X, case, "sgd") == pytest.approx(nbytes, rel=0.02)


BIGBIRD: Final = {
    **{key: value for key, value in PEGASUS_X.items() if key != "num_global_tokens"},
    "model_type": "bigbird_pegasus",
    "architectures": ["BigBirdPegasusForConditionalGeneration"],
    "block_size": 64,
    "num_random_blocks": 3,
}


@pytest.mark.parametrize(("source", "attention_type", "whole"), [(704, None, True), (705, None, False)])
def test_an_encoder_attends_to_all_of_a_short_source(source: int, attention_type: Literal[None], whole: bool) -> None:
    """Eleven blocks of 64: `BigBirdPegasusEncoder.forward` of transformers 5 changes the attention up to there."""
    assert from_config("bigbird", BIGBIRD).structure.hears_whole(source) is whole
    full = from_config("bigbird", {**BIGBIRD, "attention_type": "original_full"})
    assert full.structure.hears_whole(source)
    assert from_config("pegasus-x", PEGASUS_X).structure.hears_whole(source)
