"""Derives polynomials from recorded calls: each moment in the sizes of a call and of the config.

A moment is a sum over monomials of the call (batch, latent pixels, frames, text tokens), whose coefficients are linear
in sizes of the config and products of two of them. It is fitted moment by moment, over calls with the same operations,
so it does not matter which moment is the highest in a probe. Only moments that are the highest for some call are kept.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np

from hfmem.probe.diffusers.cutting import columns, cut
from hfmem.probe.diffusers.recording import COPIES, Recorded

__all__ = [
    "IMAGE",
    "SQUARED",
    "STAIRS",
    "STILL",
    "TEXT",
    "VIDEO",
    "Call",
    "Fitted",
    "Sizes",
    "deviation",
    "fit",
    "monomials",
    "raised",
    "value",
]

IMAGE: Final = ("1", "B", "N", "BN", "T", "BT")
VIDEO: Final = (*IMAGE, "F", "BF", "P", "BP")
SQUARED: Final = (*IMAGE, "NN", "BNN", "NT", "BNT", "TT", "BTT")
STILL: Final = ("1", "B", "P", "BP")
STAIRS: Final = ("BP", "BN", "BPBN")
"""Of a call that is cut in as many parts as it is large, which overlap by some frames each."""
TEXT: Final = ("1", "B", "T", "BT", "TT", "BTT")


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """Sizes of a call.

    Attributes:
        batch: sequences or images that the network computes at once.
        height, width, frames: of the latents.
        text: tokens of the text.
    """

    batch: int
    height: int
    width: int
    frames: int = 1
    text: int = 0


_Run = tuple[Mapping[str, float], Call, Recorded]


def value(monomial: str, call: Call) -> float:
    """A monomial of a call: B batch, P latent pixels of a frame, F frames, N = P * F, T text tokens."""
    parts = {
        "B": call.batch,
        "P": call.height * call.width,
        "F": call.frames,
        "N": call.height * call.width * call.frames,
        "T": call.text,
        "1": 1,
    }
    found = 1.0
    for letter in monomial:
        found *= parts[letter]
    return found


def monomials(names: Sequence[str], calls: Sequence[Call]) -> np.ndarray:
    """A row for each call."""
    return np.array([[value(name, call) for name in names] for call in calls])


@dataclass(frozen=True, slots=True, kw_only=True)
class Fitted:
    """What was found.

    Attributes:
        keys: the sizes of the config that matter.
        sizes: names of the sizes of the config: "1", a key, or two keys and "*".
        names: the monomials.
        plain, once, copied: candidates for the highest moment without, with one and with both copies of a convolution:
            coefficients by monomial and size.
        widened: likewise with both copies and the output in float32; none where that is not higher.
        inputs, outputs: bytes that a call is given and returns, likewise.
        pieces: of convolutions that may run in pieces, the facts of `cutting`, likewise.
        worst: the largest deviation of the highest moment from a recorded one.
        aligned: whether single moments were fitted, and not only the highest.
        refused: sizes of the config that could not be varied.
    """

    keys: tuple[str, ...]
    sizes: tuple[str, ...]
    names: tuple[str, ...]
    plain: np.ndarray
    once: np.ndarray
    copied: np.ndarray
    widened: np.ndarray
    inputs: np.ndarray
    outputs: np.ndarray
    pieces: tuple[np.ndarray, ...]
    worst: float
    aligned: bool
    refused: tuple[str, ...] = ()


def size_of(name: str, sizes: Mapping[str, float]) -> float:
    """A size of a config by its name."""
    found = 1.0
    for key in name.split("*"):
        found *= 1.0 if key == "1" else sizes[key]
    return found


@dataclass(frozen=True, slots=True, kw_only=True)
class Sizes:
    """What the polynomials are in.

    Attributes:
        keys: sizes of the config that were varied.
        pairs: sizes of the config that were varied together as well.
        names: the monomials.
        shares: whether what is off is a share of each call, and not bytes.
    """

    keys: Sequence[str]
    pairs: Sequence[tuple[str, str]]
    names: Sequence[str]
    shares: bool = False


def fit(runs: Sequence[_Run], checks: Sequence[_Run], of: Sizes, realistic: Sequence[Call]) -> Fitted:
    """Polynomials of recorded calls.

    Args:
        runs: sizes of the config, the call and what was recorded.
        checks: more of them, which are compared with the result but not fitted.
        of: what they are in.
        realistic: calls for which the highest moments are kept.
    """
    keys, pairs, names = of.keys, of.pairs, of.names
    sizes = ("1", *keys, *("*".join(pair) for pair in pairs))
    design = _products(((have, call) for have, call, _ in runs), names, sizes)
    alike, plain, *more = _columns(runs)
    solve = _solver(design, np.array([1 / value("BN", call) if of.shares else 1.0 for _, call, _ in runs]))
    found_plain, found_ends = solve(plain), solve(np.array([[run.inputs, run.outputs] for *_, run in runs]))
    found_once, found_copied, found_widened = (solve(x) if x.size else np.zeros((0, design.shape[1])) for x in more)
    grid = _grid(runs, keys, [*realistic, *dict.fromkeys(call for _, call, _ in [*runs, *checks])])
    samples = _products(grid, names, sizes)
    found_plain = _highest(found_plain, samples)
    floor = (samples @ found_plain.T).max(axis=1)
    found_once, found_copied = (_highest(x, samples, floor) for x in (found_once, found_copied))
    top = np.vstack([found_plain, found_once, found_copied]) @ samples.T
    found_widened = _highest(found_widened, samples, top.max(axis=0))
    pieces = _pieces(runs, solve, (names, sizes), _grid(runs, keys, _larger(realistic)), found_plain) if alike else []
    shape = (-1, len(names), len(sizes))
    result = Fitted(
        keys=tuple(keys),
        sizes=sizes,
        names=tuple(names),
        plain=found_plain.reshape(shape),
        once=found_once.reshape(shape),
        copied=found_copied.reshape(shape),
        widened=found_widened.reshape(shape),
        inputs=found_ends[0].reshape(shape[1:]),
        outputs=found_ends[1].reshape(shape[1:]),
        pieces=tuple(facts.reshape(shape) for facts in pieces),
        worst=0.0,
        aligned=alike,
    )
    return replace(result, worst=deviation(result, [*runs, *checks]))


def _products(
    calls: Iterable[tuple[Mapping[str, float], Call]], names: Sequence[str], sizes: Sequence[str]
) -> np.ndarray:
    """What each coefficient is multiplied by, a row a call."""
    rows = [[value(name, call) * size_of(size, have) for name in names for size in sizes] for have, call in calls]
    return np.array(rows)


def _columns(runs: Sequence[_Run]) -> tuple[Any, ...]:
    """Whether all runs did the same operations, and their moments without copies and with each kind of them: one column
    for each moment, or the highest only."""
    if len({tuple(run.ops) for _, _, run in runs}) != 1:
        more = (np.array([[_peak(run, kind)] for *_, run in runs]) for kind in COPIES)
        return False, np.array([[run.peak] for *_, run in runs]), *more
    ops = runs[0][2].ops
    return True, *(
        np.unique([[n for op, n in zip(ops, run.moments, strict=True) if op in kinds] for *_, run in runs], axis=1)
        for kinds in ({*ops} - {*COPIES}, *({kind} for kind in COPIES))
    )


def deviation(result: Fitted, runs: Sequence[_Run]) -> float:
    """How far the highest moment is off, at most."""
    worst = 0.0
    for have, call, run in runs:
        row = np.array([value(name, call) * size_of(size, have) for name in result.names for size in result.sizes])
        plain = result.plain.reshape(len(result.plain), -1)
        worst = max(worst, abs(float((plain @ row).max()) / run.peak - 1))
    return worst


def raised(result: Fitted, runs: Sequence[_Run], checks: Sequence[_Run]) -> Fitted:
    """What was found, raised so that no recorded call is above it."""
    every = [*runs, *checks]
    design = np.array(
        [
            [value(name, call) * size_of(size, have) for name in result.names for size in result.sizes]
            for have, call, _ in every
        ]
    )

    def above(table: np.ndarray, peaks: Sequence[int]) -> np.ndarray:
        if not len(table):
            return table
        found = (design @ table.reshape(len(table), -1).T).max(axis=1)
        return np.asarray(table * max(1.0, float((np.array(peaks) / found).max())))

    once, copied, widened = (
        above(table, [_peak(run, kind) for *_, run in every])
        for table, kind in zip((result.once, result.copied, result.widened), COPIES, strict=True)
    )
    plain = above(result.plain, [run.peak for *_, run in every])
    found = replace(result, plain=plain, once=once, copied=copied, widened=widened)
    return replace(found, worst=deviation(found, every))


def _peak(run: Recorded, kind: str) -> int:
    return max([run.peak, *(n for op, n in zip(run.ops, run.moments, strict=True) if op == kind)])


def _solver(design: np.ndarray, weights: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
    scale = np.abs(design).max(axis=0)
    scale[scale == 0] = 1
    weighed = weights[:, None]

    def solve(values: np.ndarray) -> np.ndarray:
        found, *_ = np.linalg.lstsq(design / scale * weighed, values.astype(float) * weighed, rcond=1e-12)
        found = (found / scale[:, None]).T
        found[np.abs(found * scale) < 0.5] = 0  # less than a byte
        return np.asarray(np.round(found, 6))

    return solve


def _grid(
    runs: Sequence[_Run], keys: Sequence[str], realistic: Sequence[Call]
) -> list[tuple[Mapping[str, float], Call]]:
    configs = list({tuple(sorted(have.items())): have for have, *_ in runs}.values())
    base = runs[0][0]
    more = [{**base, key: base[key] * factor} for key in keys for factor in (0.5, 1.5)]
    return list(itertools.product([*configs, *more], realistic))


_MANY: Final = (16, 32, 64)
"""Images at once, of which a tensor may have too many elements for one piece."""


def _larger(realistic: Sequence[Call]) -> list[Call]:
    return list(dict.fromkeys(replace(call, batch=batch) for call in realistic for batch in _MANY))


def _pieces(
    runs: Sequence[_Run],
    solve: Callable[[np.ndarray], np.ndarray],
    of: tuple[Sequence[str], Sequence[str]],
    grid: Sequence[tuple[Mapping[str, float], Call]],
    plain: np.ndarray,
) -> list[np.ndarray]:
    """Of each convolution that may run in pieces and be the highest moment of a call, its facts: a row a fact."""
    found = columns([run for *_, run in runs])
    if not found.size or "B" not in of[0]:
        return []
    facts = np.array([solve(found[:, number, :]) for number in range(found.shape[1])])
    samples = _products(grid, *of)
    kept = cut(np.einsum("cfp,sp->scf", facts, samples), (samples @ plain.T).max(axis=1), _needed)
    return [facts[number] for number in kept]


def _highest(rows: np.ndarray, samples: np.ndarray, floor: Any = None) -> np.ndarray:
    return rows[_needed(rows @ samples.T, floor)] if len(rows) else rows


def _needed(values: np.ndarray, floor: Any = None) -> list[int]:
    """The moments that are the highest for some call, of their values by moment and call."""
    top = values.max(axis=0)
    needed = np.ones(len(top), bool) if floor is None else top > floor + 1
    kept: list[int] = []
    while needed.any():
        # the moment that is the highest for most calls, within a hundredth of a percent
        close = (values >= top - np.abs(top) * 1e-5) & needed
        best = int(close.sum(axis=1).argmax())
        kept.append(best)
        needed &= ~close[best]
    return kept
