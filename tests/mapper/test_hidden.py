"""Caches of hidden states, and of prompts that a model brings itself."""

from __future__ import annotations

import pytest

from hfmem.mapper.caches import COMPUTE, KV, Hidden, Seen


@pytest.mark.parametrize(("tokens", "kept"), [(0, 0), (7, 7), (8, 8), (9, 8)])
def test_hidden_states_are_kept_up_to_the_window(tokens: int, kept: int) -> None:
    (part,) = Hidden(width=64, window=8).parts(Seen(tokens=tokens))
    assert (part.elements, part.how, part.dtype) == (kept * 64, f"{kept} tokens × 64", COMPUTE)


def test_hidden_states_without_a_window_are_all_kept() -> None:
    (part,) = Hidden(width=64).parts(Seen(tokens=1000))
    assert part.elements == 64_000


@pytest.mark.parametrize(("tokens", "hashed"), [(15, 0), (16, 0), (17, 17)])
def test_buckets_are_kept_of_all_tokens_once_they_are_hashed(tokens: int, hashed: int) -> None:
    parts = Hidden(width=64, buckets=8, hashed_beyond=16).parts(Seen(tokens=tokens))
    assert [(part.elements, part.dtype) for part in parts[1:]] == ([(hashed * 8, "int64")] if hashed else [])


@pytest.mark.parametrize(("window", "kept"), [(None, 25), (10, 10)])
def test_a_prompt_is_kept_with_the_text(window: int | None, kept: int) -> None:
    (part,) = KV(heads=2, key_dim=16, value_dim=16, window=window, prompt=5).parts(Seen(tokens=20))
    assert (part.elements, part.how) == (kept * 64, f"2 × {kept} tokens × 2 heads × 16")
