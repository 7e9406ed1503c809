"""Compact tables stand for exactly the tensors they were made from."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hfmem.fetcher.patterns import compress, count_names, expand, expand_name, first_name

part = st.sampled_from(["layers", "experts", "fc1", "weight", "0", "1", "2", "7", "10", "03"])
names = st.lists(st.lists(part, min_size=1, max_size=5).map(".".join), unique=True, max_size=40)
rows = names.flatmap(
    lambda found: st.tuples(
        *(
            st.tuples(st.just(name), st.sampled_from(["F32", "BF16"]), st.sampled_from([(), (2,), (2, 3)]))
            for name in found
        )
    )
)


@given(rows.map(list))
def test_round_trip(table: list[tuple[str, str, tuple[int, ...]]]) -> None:
    assert sorted(expand(compress(table))) == sorted(table)


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("a", ["a"]),
        ("a.{0-2}.b", ["a.0.b", "a.1.b", "a.2.b"]),
        ("a.{0-1,5}", ["a.0", "a.1", "a.5"]),
        ("{0-1}.x.{3}", ["0.x.3", "1.x.3"]),
        ("l.{0-1}.e.{0-1}", ["l.0.e.0", "l.0.e.1", "l.1.e.0", "l.1.e.1"]),
    ],
)
def test_patterns(pattern: str, expected: list[str]) -> None:
    assert list(expand_name(pattern)) == expected
    assert (first_name(pattern), count_names(pattern)) == (expected[0], len(expected))


def test_a_pattern_of_more_names_than_there_is_memory_is_counted() -> None:
    pattern = "a.{0-9999999999}.{7-99999999}"
    assert (first_name(pattern), count_names(pattern)) == ("a.0.7", 10**10 * (10**8 - 7))


@pytest.mark.parametrize("pattern", ["a.{3-1}", "a.{,}", "a.{1--2}", "a.{-}"])
def test_no_pattern(pattern: str) -> None:
    with pytest.raises(ValueError, match=r"no range|invalid literal"):
        count_names(pattern)


def test_many_layers_become_one_row() -> None:
    table = [(f"m.layers.{i}.e.{j}.w", "BF16", (4, 4)) for i in range(61) for j in range(256)]
    assert compress(table) == [("m.layers.{0-60}.e.{0-255}.w", "BF16", (4, 4))]


def test_a_name_with_a_brace_is_refused() -> None:
    with pytest.raises(ValueError, match="brace"):
        compress([("evil.{0-999999999}", "F32", ())])
