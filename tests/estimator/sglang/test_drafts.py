"""Drafts by other models: what SGLang loads, charges and allocates for them, by its source and logs."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from hfmem import estimate, inspect
from hfmem.errors import InvalidScenarioError
from hfmem.units import GIB

model = cache(lambda name: inspect(name, offline=True))
LLAMA_2 = "meta-llama/Llama-2-7b-hf"
LLAMA = "meta-llama/Llama-3.1-8B-Instruct"
SMALL = "meta-llama/Llama-3.2-1B-Instruct"
QWEN = "Qwen/Qwen3.5-27B"
DEEPSEEK = "deepseek-ai/DeepSeek-V3-0324"
FRACTION = {"mem_fraction_static": 0.85}


def server(name: str, **asked: Any) -> Any:
    asked = {"gpu": ("H100",), "seq": 4096, "sglang_version": "0.5.23", "offline": True} | asked
    return estimate(model(name), runtime="sglang", **asked).estimate


def head(folder: Path, *, hidden: int, heads: int, kv: int, inner: int, vocab: int, own: int = 0) -> str:
    """The checkpoint of an EAGLE head: one layer of heads of 128, and the projection of 2 streams (3 of EAGLE3, which
    has a head of its `own` vocabulary). The tensors are holes in the file."""
    folder.mkdir(parents=True)
    config = {
        "architectures": ["LlamaForCausalLMEagle3" if own else "LlamaForCausalLM"],
        "model_type": "llama",
        "hidden_size": hidden,
        "intermediate_size": inner,
        "num_attention_heads": heads,
        "num_key_value_heads": kv,
        "num_hidden_layers": 1,
        "vocab_size": vocab,
        "tie_word_embeddings": False,
        "torch_dtype": "float16",
        "max_position_embeddings": 4096,
    }
    (folder / "config.json").write_text(json.dumps(config))
    read = hidden * (2 if own else 1)
    sizes = {
        "embed_tokens.weight": (vocab, hidden),
        "fc.weight": (hidden, (3 if own else 2) * hidden),
        "layers.0.self_attn.q_proj.weight": (heads * 128, read),
        "layers.0.self_attn.k_proj.weight": (kv * 128, read),
        "layers.0.self_attn.v_proj.weight": (kv * 128, read),
        "layers.0.self_attn.o_proj.weight": (hidden, heads * 128),
        "layers.0.mlp.gate_proj.weight": (inner, hidden),
        "layers.0.mlp.up_proj.weight": (inner, hidden),
        "layers.0.mlp.down_proj.weight": (hidden, inner),
    }
    if own:
        sizes["lm_head.weight"] = (own, hidden)
    header, end = {}, 0
    for name, (rows, columns) in sizes.items():
        header[name] = {"dtype": "F16", "shape": [rows, columns], "data_offsets": [end, end + rows * columns * 2]}
        end += rows * columns * 2
    written = json.dumps(header).encode()
    with (folder / "model.safetensors").open("wb") as file:
        file.write(len(written).to_bytes(8, "little") + written)
        file.truncate(8 + len(written) + end)
    return str(folder)


def terms(found: Any) -> dict[str, int]:
    return {term.name: term.nbytes for term in found.terms}


def test_a_head_is_loaded_with_an_embedding_and_a_head_that_it_gives_back(tmp_path: Path) -> None:
    """SGLang's notebook on Llama-2-7b-chat with EAGLE-llama2-chat-7B: "mem usage=0.93 GB" of the draft, and 10.00 and
    0.32 GB of pools for 20,480 tokens."""
    draft = head(tmp_path / "eagle", hidden=4096, heads=32, kv=32, inner=11_008, vocab=32_000)
    asked = FRACTION | {"speculative_algorithm": "EAGLE"}
    found, alone = server(LLAMA_2, spec_model=draft, **asked), server(LLAMA_2, **FRACTION)
    given_back = terms(found)["embedding and head of the draft, until the pools are sized"]
    assert given_back == 2 * 32_000 * 4096 * 2
    assert (terms(found)["draft model"] + given_back) / GIB == pytest.approx(0.93, abs=0.005)
    assert 20_480 * alone.kv_cache_per_token == 10 * GIB
    assert 20_480 * (found.kv_cache_per_token - alone.kv_cache_per_token) / GIB == pytest.approx(0.32, abs=0.01)
    assert alone.serving.kv_pool - found.serving.kv_pool == terms(found)["draft model"] + given_back
    assert f"--speculative-algorithm EAGLE --speculative-draft-model-path {draft}" in found.serving.command


def test_eagle3_has_a_head_of_its_own(tmp_path: Path) -> None:
    draft = head(tmp_path / "eagle3", hidden=4096, heads=32, kv=8, inner=14_336, vocab=128_256, own=32_000)
    found = server(LLAMA, speculative_algorithm="EAGLE3", spec_model=draft)
    layer = 2 * 4096 * (4096 + 2 * 1024) + 4096 * 4096 + 3 * 14_336 * 4096
    assert terms(found)["draft model"] == 2 * (layer + 3 * 4096 * 4096 + 32_000 * 4096)
    lent = terms(found)["embedding and head of the draft, until the pools are sized"]
    assert lent == 128_256 * 4096 * 2


def test_a_whole_model_is_charged_as_layers_of_the_other() -> None:
    """16 layers of 8 × 64 keys and values are charged as 16 of the 32 layers of 8 × 128."""
    found = server(LLAMA, speculative_algorithm="STANDALONE", spec_model=SMALL)
    alone = estimate(model(SMALL), runtime="sglang", gpu=("H100",), seq=4096).estimate
    assert found.kv_cache_per_token == 131_072 + 131_072 // 2
    weights = {"rotary table", "allocator's rounding"}
    small = sum(t.nbytes for t in alone.terms if t.group == "weights" and t.name not in weights)
    assert terms(found)["draft model"] == pytest.approx(small, rel=1e-6)
    assert "embedding and head of the draft, until the pools are sized" not in terms(found)


def test_a_pool_beyond_what_is_charged_comes_out_of_what_is_left(tmp_path: Path) -> None:
    """A layer of DeepSeek's latents is 1,152 B a token, and 56 heads of 128 keys and values, whole on one of 8 ranks 7
    of them, are 3,584."""
    draft = head(tmp_path / "eagle3", hidden=7168, heads=56, kv=56, inner=18_432, vocab=129_280, own=32_000)
    asked: dict[str, Any] = {"gpu": ("8xH200",), "tp": 8, "speculative_algorithm": "EAGLE3", "spec_model": draft}
    found = server(DEEPSEEK, batch=4, **asked)
    assert found.kv_cache_per_token == 62 * 1152
    assert terms(found)["token pool"] == 4 * 4096 * (61 * 1152 + 3584)
    assert found.refused == ""
    high = server(DEEPSEEK, mem_fraction_static=0.98, **asked)
    assert "the draft and the table of requests take" in high.refused
    assert "the draft" not in server(DEEPSEEK, gpu=("8xH200",), tp=8, mem_fraction_static=0.99).refused


def test_phrases_need_no_weights() -> None:
    found, alone = server(LLAMA, speculative_algorithm="NGRAM"), server(LLAMA)
    assert found.group("weights") == alone.group("weights")
    assert found.kv_cache_per_token == alone.kv_cache_per_token
    assert found.serving.max_concurrency <= 48
    hybrid = server(QWEN, speculative_algorithm="NGRAM", gpu=("B300",))
    assert "12 tokens" in next(term.how for term in hybrid.terms if term.name == "states of drafts")


def test_before_0_5_14_a_draft_came_out_of_what_is_left(tmp_path: Path) -> None:
    draft = head(tmp_path / "eagle", hidden=4096, heads=32, kv=32, inner=11_008, vocab=32_000)
    old = {"sglang_version": "0.5.13", "spec_model": draft, "speculative_algorithm": "EAGLE"}
    found, alone = server(LLAMA_2, **FRACTION, **old), server(LLAMA_2, **FRACTION, sglang_version="0.5.13")
    assert found.serving.kv_tokens == alone.serving.kv_tokens
    assert found.group("weights") - alone.group("weights") == terms(found)["draft model"]
    left = "left for activations and CUDA graphs"
    assert terms(alone)[left] - terms(found)[left] == terms(found)["draft model"]


@pytest.mark.parametrize(("algorithm", "gib"), [("EAGLE3", 4), ("STANDALONE", 6), ("NGRAM", 0)])
def test_what_the_share_leaves_for_drafts(algorithm: str, gib: int) -> None:
    """server_args.py of 0.5.13: `reserved_mem += 6 * 1024` for STANDALONE, 4 for what is not NGRAM; shares are rounded
    to three decimals."""
    old = {"sglang_version": "0.5.13"}
    draft = {} if algorithm == "NGRAM" else {"spec_model": SMALL}
    found, alone = terms(server(LLAMA, speculative_algorithm=algorithm, **draft, **old)), terms(server(LLAMA, **old))
    left = "left for activations and CUDA graphs"
    assert found[left] + found.get("draft model", 0) - alone[left] == pytest.approx(gib * GIB, abs=0.1 * GIB)


@pytest.mark.parametrize(
    ("name", "asked", "reason"),
    [
        (LLAMA, {"speculative_algorithm": "EAGLE"}, "needs a model with prediction layers or a draft (--spec-model)"),
        (LLAMA, {"speculative_algorithm": "EAGLE3"}, "--speculative-algorithm EAGLE3 needs --spec-model"),
        (LLAMA, {"speculative_algorithm": "STANDALONE"}, "STANDALONE needs --spec-model"),
        (DEEPSEEK, {"speculative_algorithm": "NGRAM"}, "does not run with --enable-dp-attention"),
    ],
)
def test_refused_drafts(name: str, asked: dict[str, Any], reason: str) -> None:
    split = {"gpu": ("8xH200",), "tp": 8, "dp": 8, "enable_dp_attention": True} if name == DEEPSEEK else {}
    found = server(name, **asked, **split)
    assert reason in found.refused
    assert found.serving.command is None


def test_a_draft_without_an_algorithm_is_told() -> None:
    for asked in ({}, {"speculative_algorithm": "NGRAM"}):
        with pytest.raises(InvalidScenarioError) as caught:
            server(LLAMA, spec_model=SMALL, **asked)
        assert "--spec-model needs" in caught.value.reason
