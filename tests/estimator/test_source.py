"""Tokens of an encoder: what a person asks, what a model fixes, and what follows for the cache."""

from __future__ import annotations

from typing import Any

import pytest

from hfmem.errors import InvalidScenarioError
from hfmem.estimator.cache.sizes import CacheSize, cache_size
from hfmem.fetcher.values import Checkpoint, ModelRef
from hfmem.mapper.interpret import Model, interpret
from hfmem.scenario.options import Options
from hfmem.scenario.resolve import resolve

BART = {"model_type": "bart", "torch_dtype": "bfloat16", "max_position_embeddings": 1024}
WHISPER = {"model_type": "whisper", "torch_dtype": "bfloat16"}
T5 = {"model_type": "t5", "torch_dtype": "bfloat16"}
MLLAMA = {"model_type": "mllama", "torch_dtype": "bfloat16"}
LED = {"model_type": "led", "torch_dtype": "bfloat16"}
LLAMA = {"model_type": "llama", "torch_dtype": "bfloat16", "hidden_size": 64, "vocab_size": 10}


def model(config: dict[str, Any]) -> Model:
    ref = ModelRef(model_id="org/m")
    return interpret(Checkpoint(ref=ref, commit=None, source="hub", provenance="", config=config, tensors=()))


# (config, --seq, --source-seq, tokens of the encoder, why)
CASES = [
    (BART, 100, None, 100, "the same as --seq"),
    (BART, 5000, None, 1024, "the encoder's maximum"),
    (BART, 100, 300, 300, "as asked"),
    (T5, 5000, None, 5000, "relative positions have no maximum"),
    (WHISPER, 100, None, 1500, "always as many"),
    (WHISPER, 100, 300, 1500, "always as many"),
    (MLLAMA, 100, None, 0, "no images"),
    (MLLAMA, 100, 6404, 6404, "as asked"),
    (LED, 100, None, 100, "whatever road its layers came by"),
    (LLAMA, 100, 300, None, "no encoder"),
]


@pytest.mark.parametrize(("config", "seq", "asked", "tokens", "_why"), CASES)
def test_tokens_of_the_encoder(config: dict[str, Any], seq: int, asked: int | None, tokens: int, _why: str) -> None:
    scenario = resolve(Options(seq=seq, source_seq=asked), model(config))
    assert scenario.source_seq == tokens
    chosen = any("--source-seq" in sentence for sentence in scenario.chosen)
    assert chosen == (tokens != asked)


@pytest.mark.parametrize("tokens", [0, -1])
def test_no_tokens_are_refused(tokens: int) -> None:
    with pytest.raises(InvalidScenarioError, match="--source-seq"):
        resolve(Options(source_seq=tokens), model(BART))


def test_cross_attention_is_a_term_of_its_own_that_does_not_grow() -> None:
    found = model(BART)
    size = cache_size(found.architecture, resolve(Options(seq=100, source_seq=300, batch=2), found))
    assert isinstance(size, CacheSize)
    own, cross = size.terms
    assert "cross attention" in cross.name
    assert own.nbytes == 2 * 12 * 2 * 100 * 1024 * 2
    assert cross.nbytes == size.fixed * 2 == 2 * 12 * 2 * 300 * 1024 * 2
    assert size.per_token == 12 * 2 * 1024 * 2
