"""The named sizes of a layer that measured coefficients are written in."""

from __future__ import annotations

import pytest

from hfmem.mapper.caches import KV, Combined, CrossKV, Nothing, Shared, State
from hfmem.mapper.sizes import layer_sizes, signature, switched_structure, token_sizes
from hfmem.mapper.values import Architecture, Dense, Layer

DENSE = Dense(intermediate=80, gated=True)
PLAIN = Architecture(model_type="plain", architectures=(), hidden_size=64, vocab_size=96)


def attention(kv_heads: int, window: int | None = None) -> KV:
    return KV(heads=kv_heads, key_dim=16, value_dim=16, window=window)


@pytest.mark.parametrize(("kv_heads", "grouped", "repeated"), [(8, 8, 8), (2, 8, 8), (1, 8, 1)])
def test_heads_that_keys_are_copied_for(kv_heads: int, grouped: int, repeated: int) -> None:
    layer = Layer(kind="full_attention", cache=attention(kv_heads), heads=8, ffn=DENSE)
    found = layer_sizes(PLAIN, layer)
    assert (found["grouped_heads"], found["repeated_heads"]) == (grouped, repeated)


@pytest.mark.parametrize(("window", "word"), [(None, "shared full_attention"), (8, "shared sliding_attention")])
def test_a_layer_that_reads_anothers_cache_has_its_sizes(window: int | None, word: str) -> None:
    layer = Layer(kind="shared", cache=Shared(source=attention(2, window)), heads=8, ffn=DENSE)
    assert signature(layer) == f"{word}, dense"
    assert layer.elements(100) == 0
    assert layer_sizes(PLAIN, layer)["key_dim"] == 16


def test_sparse_networks_are_a_kind_of_their_own() -> None:
    layer = Layer(
        kind="full_attention", cache=attention(2), heads=8, ffn=Dense(intermediate=80, gated=True, sparse=True)
    )
    assert signature(layer) == "full_attention, sparse dense"


def test_channels_of_a_state() -> None:
    layer = Layer(kind="linear_attention", cache=State(conv=512, recurrent=1280, channels=128), heads=0, ffn=None)
    found = layer_sizes(PLAIN, layer)
    assert found["channels"] == 128
    assert "repeated_heads" not in found
    assert "channels" not in layer_sizes(PLAIN, Layer(kind="none", cache=Nothing(), heads=0, ffn=None))


def test_a_decoder_beside_an_encoder_is_a_kind_of_its_own() -> None:
    cache = Combined(caches=(attention(8), CrossKV(heads=8, key_dim=16, value_dim=16)))
    layer = Layer(kind="full_attention", cache=cache, heads=8, ffn=DENSE)
    assert signature(layer) == "full_attention beside an encoder's, dense"


def test_an_encoders_tokens_are_a_size() -> None:
    assert token_sizes(2, 100, {}, source=30)["source"] == 30
    assert "source" not in token_sizes(2, 100, {})


def test_an_encoder_pads_its_tokens_to_whole_blocks() -> None:
    assert token_sizes(2, 100, {"block_size": 64}, source=130)["source_chunks_of_block_size"] == 3
    assert token_sizes(2, 100, {"block_size": 64}, source=128)["source_chunks_of_block_size"] == 2
    assert not [name for name in token_sizes(2, 100, {}, source=130) if name.startswith("source_")]


@pytest.mark.parametrize(
    ("config", "keys"),
    [
        ({"model_type": "falcon"}, ()),
        ({"model_type": "falcon", "new_decoder_architecture": True}, ("new_decoder_architecture",)),
        ({"model_type": "falcon", "parallel_attn": True}, ()),
        ({"model_type": "deepseek_v2", "q_lora_rank": None}, ("q_lora_rank",)),
        ({"model_type": "deepseek_v2", "q_lora_rank": 1536}, ()),
        ({"model_type": "opt", "hidden_size": 1024, "word_embed_proj_dim": 512}, ("word_embed_proj_dim",)),
        ({"model_type": "opt", "hidden_size": 1024, "word_embed_proj_dim": 1024}, ()),
        ({"model_type": "mbart", "activation_function": "relu"}, ("activation_function=relu",)),
        ({"model_type": "gemma", "hidden_act": "gelu"}, ()),
        ({"model_type": "t5", "feed_forward_proj": "gated-gelu"}, ("feed_forward_proj=gated-gelu",)),
        ({"model_type": "llava", "text_config": {"model_type": "gpt_neox", "use_parallel_residual": False}},
         ("use_parallel_residual",)),
    ],
)  # fmt: skip
def test_keys_that_decide_on_what_a_layer_runs(config: dict[str, object], keys: tuple[str, ...]) -> None:
    assert tuple(key for key in switched_structure(config) if key in (*keys, "parallel_attn", "hidden_act")) == keys
