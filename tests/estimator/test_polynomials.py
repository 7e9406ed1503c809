"""Polynomials as text and as numbers."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hfmem.estimator.activations.polynomials import Polynomial

NAMES = ("b", "s", "heads", "hidden", "key_dim", "mamba_d_state")

factors = st.fractions(min_value=-50, max_value=50, max_denominator=64).filter(bool)
monomials = st.lists(st.sampled_from(NAMES), max_size=4).map(lambda names: tuple(sorted(names)))
polynomials = st.dictionaries(monomials, factors, max_size=5).map(Polynomial)
wholes = st.dictionaries(monomials, st.integers(-9, 9).filter(bool).map(Fraction), max_size=5).map(Polynomial)
sizes = st.fixed_dictionaries({name: st.integers(1, 4000) for name in NAMES})


@given(polynomials)
def test_text_and_back(polynomial: Polynomial) -> None:
    assert Polynomial.parse(str(polynomial)) == polynomial
    assert hash(Polynomial.parse(str(polynomial))) == hash(polynomial)


@given(wholes, wholes, sizes)
def test_sums_and_products_are_those_of_the_values(first: Polynomial, second: Polynomial, at: dict[str, int]) -> None:
    assert (first + second).at(at) == first.at(at) + second.at(at)
    assert (first - second).at(at) == first.at(at) - second.at(at)
    assert (first * second).at(at) == first.at(at) * second.at(at)
    assert (first * 3).at(at) == 3 * first.at(at)
    assert first - first == Polynomial({})


@given(wholes, sizes)
def test_what_grows_with_the_square_of_the_tokens(polynomial: Polynomial, at: dict[str, int]) -> None:
    square = polynomial.quadratic()
    assert square.quadratic() == square
    assert not (polynomial - square).quadratic().terms


@pytest.mark.parametrize(
    ("text", "value", "shown"),
    [
        ("", 0, ""),
        ("8", 8, "8"),
        ("1/2*b*s", 11, "b × s × (1/2)"),  # 10.5: a part of a byte takes a whole one
        ("16*b*hidden*s-4*s", 16 * 21 * 64 - 28, "b × s × (16 hidden) + s × (-4)"),
    ],
)
def test_values_and_words(text: str, value: int, shown: str) -> None:
    found = Polynomial.parse(text)
    assert found.at({"b": 3, "s": 7, "hidden": 64}) == value
    assert found.describe() == shown


def test_a_size_that_is_not_there_is_an_error() -> None:
    with pytest.raises(KeyError, match="hidden"):
        Polynomial.parse("2*hidden").at({"b": 1})
