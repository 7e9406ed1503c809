"""Selects the moments of a part that can be its peak, for sizes of real models."""

from __future__ import annotations

import math
import random
from collections.abc import Iterator, Sequence

import numpy as np

from hfmem.estimator.activations.coefficients import Moment
from hfmem.estimator.activations.polynomials import Polynomial

__all__ = ["beyond", "highest"]

_SAMPLES = 160
_CLOSE = 0.9995  # of the highest value: a moment this close does not justify another entry
_NEARLY = 1.01  # how much higher the highest may be than an entry of the forward pass that stands for it
_NOTABLY = 1.005  # how much higher a moment of the forward pass must be to justify an entry


def highest(moments: Sequence[Moment], *, single: bool = False) -> tuple[Moment, ...]:
    """A small set of moments that contains the highest one at all sampled sizes; `single` if one token is run."""
    if not moments:
        return ()
    values = _values([moment.activations + moment.gradients for moment in moments], single=single)
    best = values.max(axis=0)
    order = sorted(range(len(moments)), key=lambda i: -int((values[i] >= best).sum()))
    chosen: list[int] = []
    covered = np.zeros(values.shape[1], dtype=bool)
    for index in order:
        wins = values[index] >= best * _CLOSE
        if (wins & ~covered).any():
            chosen.append(index)
            covered |= wins
    return tuple(moments[index] for index in chosen)


def beyond(moments: Sequence[Moment], others: Sequence[Moment]) -> tuple[Moment, ...]:
    """A small set of moments that contains the highest one, nearly, at all sampled sizes where that is notably higher
    than all others."""
    if not moments or not others:
        return tuple(moments)
    values = _values([moment.activations + moment.gradients for moment in (*moments, *others)], single=False)
    own, most = values[: len(moments)], values[len(moments) :].max(axis=0)
    best = own.max(axis=0)
    left = best > most * _NOTABLY
    chosen: list[int] = []
    while left.any():
        near = (own * _NEARLY >= best) & left
        index = int(near.sum(axis=1).argmax())
        chosen.append(index)
        left &= ~near[index]
    return tuple(moments[index] for index in chosen)


def _values(totals: Sequence[Polynomial], *, single: bool) -> np.ndarray:
    """The values of each polynomial (rows) at sampled sizes of real models (columns)."""
    names = sorted(frozenset().union(*(total.names for total in totals)))
    samples = list(_samples(names, single=single))
    columns = {name: np.array([sample[name] for sample in samples], dtype=float) for name in names}
    monomials = sorted(frozenset().union(*(total.terms for total in totals)))
    products = np.array([np.prod([columns[name] for name in m], axis=0) * np.ones(len(samples)) for m in monomials])
    factors = np.array([[float(total.terms.get(m, 0)) for m in monomials] for total in totals])
    return np.asarray(factors @ products)


def _samples(names: Sequence[str], *, single: bool) -> Iterator[dict[str, int]]:
    """Random sizes in the range of real models."""
    rng = random.Random(0)  # noqa: S311 - sizes, no secrets
    vision = random.Random(1)  # noqa: S311 - of its own, so that the sizes of text models stay as they are
    for _ in range(_SAMPLES):
        hidden = 128 * round(4 * 32 ** rng.random())
        key = rng.choice((64, 128, 256))
        heads = max(1, round(hidden / key * rng.choice((0.5, 1, 1, 2))))
        known = {
            "hidden": hidden,
            "key_dim": key,
            "value_dim": key,
            "heads": heads,
            "kv_heads": max(1, heads // rng.choice((1, 4, 8))),
            "intermediate": round(hidden * rng.choice((1, 2.7, 3.5, 4, 8))),
            "vocab": rng.choice((32000, 128256, 256000)),
            "b": rng.choice((1, 2, 4, 16)),
            "s": rng.choice((512, 2048, 8192, 32768)),
            "experts": rng.choice((8, 64, 128)),
            "per_token": rng.choice((2, 4, 8)),
            "expert_intermediate": round(hidden * rng.choice((0.25, 0.5, 2))),
            "shared": round(hidden * rng.choice((0.25, 0.5, 2))),
        }
        positions = vision.choice((16, 24, 27, 32, 37, 64)) ** 2
        known |= {"pixels": 3 * vision.choice((1, 2)) * vision.choice((14, 16)) ** 2, "positions": positions}
        known |= {"out": 128 * round(8 * 8 ** vision.random()), "side": round(math.sqrt(known["s"]))}
        encoder = {"source": vision.choice((128, 1500, 4096, 16384)), "encoder_ffn_dim": known["intermediate"]}
        known |= encoder | dict.fromkeys(("encoder_layers", "num_layers"), vision.choice((6, 12, 24, 32)))
        known |= {"encoder_attention_heads": heads}
        if {"past", "seen"} & {*names}:  # cached tokens, and their sum with the new ones
            past = known["s"] * rng.choice((1, 4, 16, 64))
            known["s"] = 1 if single else known["s"]
            known |= {"past": past, "seen": past + known["s"]}
        known |= dict.fromkeys(("grouped_heads", "repeated_heads"), heads if known["kv_heads"] < heads else 0)
        known |= {name: known["s"] // 64 for name in names if name.startswith("chunks_of_")}
        known |= {name: encoder["source"] // 64 for name in names if name.startswith("source_chunks_of_")}
        known |= {name: 64 for name in names if name.startswith("last_of_")}
        yield {name: known[name] if name in known else round(4 * 64 ** rng.random()) for name in names}
