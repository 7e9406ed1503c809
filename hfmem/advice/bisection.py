"""The largest number for which something still fits."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

__all__ = ["largest", "last_within"]

_GUESSES: Final = 14  # then halves: a curve that no line is close to
_TURNS: Final = 200


def largest(holds: Callable[[int], bool], most: int) -> int:
    """The largest number up to `most` for which `holds` is true, 0 for none; it must be true for all smaller ones."""
    # doubling first: most answers are far below `most`, and large cases are slow to evaluate
    low, high = 0, 1
    while high < most and holds(high):
        low, high = high, high * 2
    high = min(high, most)
    if high == most and holds(most):
        return most
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if holds(middle) else (low, middle)
    return low


def last_within(excess: Callable[[int], int], most: int) -> int:
    """The largest number up to `most` whose excess is not positive, 0 for none; the excess must not fall.

    Bytes grow almost in proportion to batch, length and rank, so that lines through two of them hit the answer after a
    few tries, where halves take twenty. What is returned was tried, and so was the next one.
    """
    known: dict[int, int] = {}

    def at(number: int) -> int:
        if number not in known:
            known[number] = excess(number)
        return known[number]

    if most < 1 or at(1) > 0:
        return 0
    before, low, high = 0, 1, most + 1
    for turn in range(_TURNS):
        if high - low <= 1:
            break
        beyond = high > most and high not in known
        if beyond or (turn < _GUESSES and turn % 2):
            # through the last two that fit: beyond the answer, where the curve bends upwards
            guess = _crossing(before, low, at) + 1 if before else 2 * low
        elif turn < _GUESSES:
            guess = max(low + 1, _crossing(low, high, at))  # between both ends: before the answer then
        else:
            guess = (low + high) // 2
        guess = min(max(guess, low + 1), high - 1)
        if at(guess) > 0:
            high = guess
        else:
            before, low = low, guess
    return low


def _crossing(first: int, second: int, at: Callable[[int], int]) -> int:
    """The last number before the line through two of them crosses zero; twice the second where it never does."""
    slope = at(second) - at(first)
    return 2 * second if slope <= 0 else first + (-at(first)) * (second - first) // slope
