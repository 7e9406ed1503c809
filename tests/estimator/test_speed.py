"""What is read for a token, by hand."""

from __future__ import annotations

from typing import Any

import pytest

import hfmem
from hfmem.advice.values import Speed


def _speed(model: str, **asked: Any) -> Speed | None:
    return hfmem.estimate(model, offline=True, **{"gpu": ("RTX 4090",), **asked}).fits[0].speed


def test_a_dense_model_reads_all_but_its_embedding_and_the_cache() -> None:
    found = _speed("meta-llama/Llama-2-7b-hf", seq=1000)
    assert found is not None
    assert found.weights == (6_738_415_616 - 32_000 * 4096) * 2  # the head is a matrix of its own
    assert found.cache == 32 * 2 * 1000 * 4096 * 2
    assert found.most == pytest.approx(1008e9 / (found.weights + found.cache), abs=0.01)


def test_a_batch_reads_the_weights_once_and_each_cache() -> None:
    one, four = (_speed("meta-llama/Llama-2-7b-hf", seq=1000, batch=batch) for batch in (1, 4))
    assert one is not None
    assert four is not None
    assert (four.weights, four.cache) == (one.weights, 4 * one.cache)
    assert one.most / 4 < four.most < one.most


def test_of_experts_those_that_a_token_is_sent_to_are_read() -> None:
    found = _speed("Qwen/Qwen3-30B-A3B", seq=1000)
    experts = 48 * 8 * 3 * 2048 * 768
    attention = 48 * (2048 * 32 * 128 * 2 + 2048 * 4 * 128 * 2 + 2 * 128)
    routers, norms = 48 * 2048 * 128, (2 * 48 + 1) * 2048
    assert found is not None
    assert found.weights == 2 * (experts + attention + routers + norms + 151_936 * 2048)


def test_a_tied_head_reads_the_embedding() -> None:
    found = _speed("meta-llama/Llama-3.2-1B-Instruct", seq=1000)
    assert found is not None
    assert found.weights == 2 * 1_235_814_400  # all parameters, as published


def test_accelerators_that_split_each_layer_read_at_once_and_stages_one_after_the_other() -> None:
    model = "meta-llama/Llama-2-7b-hf"
    one = _speed(model, seq=1000)
    split = _speed(model, seq=1000, gpu=("2x RTX 4090",), tp=2)
    staged = _speed(model, seq=1000, gpu=("2x RTX 4090",), pp=2)
    assert one is not None
    assert split is not None
    assert staged is not None
    assert (split.at_once, staged.at_once) == (2, 1)
    assert split.most == pytest.approx(2 * one.most, rel=0.001)
    assert staged.most == pytest.approx(one.most, rel=0.001)


def test_what_the_host_holds_is_not_read_by_the_accelerator() -> None:
    asked: dict[str, Any] = {"runtime": "llamacpp", "quant": "Q8_0", "seq": 1000}
    whole, part = (_speed("Qwen/Qwen3-8B", **asked, **more) for more in ({}, {"n_gpu_layers": 10}))
    assert whole is not None
    assert part is not None
    assert not whole.hosted  # only the embedding, of which a row is read
    assert part.hosted
    assert part.weights < whole.weights / 2


@pytest.mark.parametrize(
    ("model", "asked"),
    [
        ("google-bert/bert-base-uncased", {}),  # no token is generated
        ("openai/whisper-large-v3", {}),  # the encoder runs once
        ("meta-llama/Llama-2-7b-hf", {"gpu": ("24GB",)}),  # a budget has no bandwidth
        ("meta-llama/Llama-2-7b-hf", {"train": "lora"}),
        ("meta-llama/Llama-2-7b-hf", {"method": "textbook"}),
    ],
)
def test_there_is_no_bound_where_nothing_is_generated_or_known(model: str, asked: dict[str, Any]) -> None:
    assert _speed(model, **asked) is None
