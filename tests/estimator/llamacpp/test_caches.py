"""What each kind of layer keeps under llama.cpp, by hand."""

from __future__ import annotations

from typing import Any

import pytest

from hfmem.engines.llamacpp.caches import Kept, kept, row_bytes
from hfmem.engines.llamacpp.settings import LlamaSettings
from hfmem.mapper.caches import KV, Cache, Combined, Compressed, Indexed, Latent, Nothing, Shared, State
from hfmem.mapper.values import Layer

FULL = KV(heads=2, key_dim=128, value_dim=64)
WINDOWED = KV(heads=2, key_dim=128, value_dim=64, window=1024)


def parts(*caches: Cache, kernel: int = 0, **settings: Any) -> list[tuple[Kept, ...]]:
    layers = [Layer(kind="full_attention", cache=cache, heads=4, ffn=None) for cache in caches]
    return list(kept(layers, kernel, LlamaSettings(**settings)))


def size(*caches: Cache, kernel: int = 0, **settings: Any) -> int:
    return sum(part.nbytes for each in parts(*caches, kernel=kernel, **settings) for part in each)


@pytest.mark.parametrize(
    ("kind", "nbytes"),
    [
        ("f32", 512),
        ("f16", 256),
        ("bf16", 256),
        ("q8_0", 4 * 34),
        ("q5_1", 4 * 24),
        ("q5_0", 4 * 22),
        ("q4_1", 4 * 20),
        ("q4_0", 4 * 18),
        ("iq4_nl", 4 * 18),
    ],
)
def test_rows_are_of_blocks_of_32(kind: str, nbytes: int) -> None:
    assert row_bytes(128, kind) == nbytes
    assert size(KV(heads=1, key_dim=128, value_dim=128), n_ctx=256, type_k=kind) == 256 * (nbytes + 128 * 2)
    assert size(KV(heads=1, key_dim=128, value_dim=128), n_ctx=256, type_v=kind) == 256 * (nbytes + 128 * 2)


def test_a_row_that_blocks_do_not_fill_has_a_whole_one_more() -> None:
    assert row_bytes(33, "q8_0") == 2 * 34


def test_keys_and_values_of_every_token() -> None:
    assert size(FULL, n_ctx=4096) == 4096 * (2 * 128 + 2 * 64) * 2
    assert size(FULL, FULL, n_ctx=4096) == 2 * 4096 * 384 * 2


@pytest.mark.parametrize(
    ("settings", "cells"),
    [
        ({"n_ctx": 1}, 256),
        ({"n_ctx": 5000}, 5120),
        ({"n_ctx": 5000, "n_seq_max": 4}, 4 * 1280),
        # 5,120 in three are 1,706.7, of which each stream has 1,792
        ({"n_ctx": 5000, "n_seq_max": 3}, 3 * 1792),
        ({"n_ctx": 5000, "n_seq_max": 4, "unified": True}, 5120),
        ({"n_ctx": 5000, "n_seq_max": 3, "unified": True}, 5120),
    ],
)
def test_contexts_are_padded_and_each_sequence_has_a_stream(settings: dict[str, Any], cells: int) -> None:
    assert size(FULL, **settings) == cells * 384 * 2


@pytest.mark.parametrize(
    ("settings", "cells"),
    [
        ({"n_ctx": 8192}, 1024 + 512),
        ({"n_ctx": 8192, "n_ubatch": 600}, 1792),  # 1,624, padded
        ({"n_ctx": 1024}, 1024),  # no more than there are
        ({"n_ctx": 1300}, 1536),
        ({"n_ctx": 8192, "swa_full": True}, 8192),
        ({"n_ctx": 8192, "n_seq_max": 2}, 2 * 1536),
        ({"n_ctx": 8192, "n_seq_max": 2, "unified": True}, 2 * 1024 + 512),
        ({"n_ctx": 8192, "n_seq_max": 16, "unified": True}, 8192),
    ],
)
def test_windows_keep_what_is_computed_at_once_beside_them(settings: dict[str, Any], cells: int) -> None:
    assert size(WINDOWED, **settings) == cells * 384 * 2


def test_without_flash_attention_values_are_as_wide_as_the_widest() -> None:
    wide = KV(heads=8, key_dim=128, value_dim=128)
    assert size(FULL, wide, n_ctx=256) == 256 * 2 * ((256 + 128) + (1024 + 1024))
    assert size(FULL, wide, n_ctx=256, flash=False) == 256 * 2 * ((256 + 1024) + (1024 + 1024))


def test_a_latent_keeps_keys_alone() -> None:
    latent = Latent(rank=512, rope_dim=64, heads=128, key_dim=192, value_dim=128)
    assert size(latent, n_ctx=256) == 256 * 576 * 2
    assert size(latent, n_ctx=256, type_k="q8_0", type_v="q8_0") == 256 * 576 // 32 * 34


def test_an_indexer_has_keys_of_its_own() -> None:
    latent = Latent(rank=512, rope_dim=64, heads=128, key_dim=192, value_dim=128)
    ((own, indexer),) = parts(Indexed(attention=latent, index_dim=128), n_ctx=256)
    assert own.nbytes == 256 * 576 * 2
    assert (indexer.name, indexer.nbytes) == ("indexer keys", 256 * 128 * 2)


def test_compressed_entries_are_of_so_many_tokens() -> None:
    assert size(Compressed(dim=512, rate=4), n_ctx=1000) == 1024 // 4 * 512 * 2
    assert size(Compressed(dim=512, rate=128), n_ctx=256, type_k="q8_0") == 2 * 512 // 32 * 34


def test_states_are_float32_of_each_sequence_whatever_the_context() -> None:
    state = State(conv=4 * 3072, recurrent=128 * 2048)
    # of a window of four tokens, three are kept
    one = (3 * 3072 + 128 * 2048) * 4
    assert size(state, kernel=4, n_ctx=256) == one
    assert size(state, kernel=4, n_ctx=65536, type_k="q8_0", type_v="q8_0") == one
    assert size(state, kernel=4, n_ctx=65536, n_seq_max=3) == 3 * one
    assert size(State(recurrent=100)) == 400


def test_a_layer_may_keep_several_things_or_none() -> None:
    state = State(conv=4 * 64, recurrent=1024)
    both = Combined(caches=(FULL, state))
    assert size(both, kernel=4, n_ctx=256) == 256 * 384 * 2 + (3 * 64 + 1024) * 4
    assert parts(Nothing(), Shared(source=FULL)) == [(), ()]


def test_the_arithmetic_is_shown() -> None:
    (((part,),)) = parts(FULL, n_ctx=512, n_seq_max=2, type_k="q8_0")
    assert part.how == "256 cells × 2 sequences × (256 in q8_0 + 128 in f16)"
