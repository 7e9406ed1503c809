"""How many requests of a mix of lengths run at once.

A request grows by a token per step, from its prompt to its prompt and answer. Over time, requests are in the pool in
proportion to their share and to the steps that they take. On a server that only prefills, a request holds its prompt
for one step, and its blocks until the other server has fetched them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from fractions import Fraction
from typing import Final

from hfmem.engines.vllm.extras import Request
from hfmem.engines.vllm.groups import Layout
from hfmem.engines.vllm.settings import Settings
from hfmem.estimator.scenario import Scenario
from hfmem.estimator.serving import Mix

__all__ = ["mix_of", "mix_refusal"]

_SAMPLES: Final = 64  # lengths of an answer that are evaluated; between them blocks grow evenly


def mix_of(layout: Layout, blocks: int, settings: Settings) -> Mix | None:
    """The requests of the server's mix that `blocks` hold; None without a mix, or without a KV cache."""
    kinds = settings.extras.mix
    if not kinds or not layout.groups:
        return None
    steps = [kind.share * _steps(kind, settings) for kind in kinds]
    average = _weighted(steps, [_average(layout, kind, settings) for kind in kinds])
    longest = [Fraction(layout.blocks(_longest(kind, settings), settings)) for kind in kinds]
    return Mix(
        on_average=float(min(blocks / average, Fraction(settings.max_num_seqs))),
        at_full_length=float(
            min(blocks / _weighted([kind.share for kind in kinds], longest), Fraction(settings.max_num_seqs))
        ),
        limited=blocks / average > settings.max_num_seqs,
        tokens=float(_weighted(steps, [kind.prompt + Fraction(_answer(kind, settings), 2) for kind in kinds])),
    )


def _weighted(weights: Sequence[Fraction], values: Sequence[Fraction]) -> Fraction:
    found = sum((weight * value for weight, value in zip(weights, values, strict=True)), Fraction(0))
    return found / sum(weights, Fraction(0))


def _answer(kind: Request, settings: Settings) -> int:
    return 0 if settings.extras.side == "producer" else kind.answer


def _longest(kind: Request, settings: Settings) -> int:
    return max(1, kind.prompt + _answer(kind, settings))


def _steps(kind: Request, settings: Settings) -> int:
    """Steps that a request is in the pool: one for its prompt, and one for each token of its answer."""
    return 1 + _answer(kind, settings)


def _average(layout: Layout, kind: Request, settings: Settings) -> Fraction:
    """Blocks of a request on average over its steps."""
    lengths = list(_lengths(kind, settings))
    return Fraction(sum(layout.blocks(length, settings) for length in lengths), len(lengths))


def _lengths(kind: Request, settings: Settings) -> Iterator[int]:
    answer = _answer(kind, settings)
    count = min(answer, _SAMPLES) + 1
    yield from (max(1, kind.prompt + answer * index // max(1, count - 1)) for index in range(count))


def mix_refusal(scenario: Scenario, settings: Settings) -> str:
    """Why the mix is refused; "" where it is not."""
    longest = max((kind.prompt + kind.answer for kind in settings.extras.mix), default=0)
    if longest <= scenario.seq:
        return ""
    return f"a request of the mix has {longest:,} tokens, and --max-model-len is {scenario.seq:,}"
