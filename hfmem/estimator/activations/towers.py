"""What a vision tower needs for its forward pass, before the prompt runs: measured polynomials in images and patches.

The peak is above the weights. While the tower runs there is no cache yet, so what it needs above the final cache is
less by that cache; what it hands over, and the pixels, stay while the prompt runs.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from math import isqrt
from typing import TYPE_CHECKING, Any, Final

from hfmem.data import text as data_text
from hfmem.dtypes import find_dtype
from hfmem.estimator.activations.polynomials import Polynomial
from hfmem.estimator.scenario import Scenario
from hfmem.estimator.values import Term, total_of
from hfmem.unknown import Unknown

if TYPE_CHECKING:
    from hfmem.mapper.inputs import Tower

__all__ = [
    "MEASURED_DEPTH",
    "PIXEL",
    "Batch",
    "Encoding",
    "encoding",
    "evaluated",
    "handed",
    "highest_of",
    "named_in",
    "pixels_of",
    "sizes_of",
    "unlike",
    "with_encoding",
]

MEASURED_DEPTH: Final = 3
"""Layers of the towers that were measured; what each further one adds is a polynomial of its own."""

PIXEL: Final = 4
"""Bytes of a value of a pixel: processors hand them over in float32."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Encoding:
    """The forward pass of a tower.

    Attributes:
        peak: bytes above weights, pixels included.
        kept: bytes that stay while the prompt runs: pixels, and the features for the decoder.
        how: the arithmetic.
        source: where the polynomials are from.
        measured: whether they were measured in this number format and attention.
        sound: whether it is a tower of sound.
    """

    peak: int
    kept: int
    how: str
    source: str
    measured: bool = field(default=True)
    sound: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """What a tower runs at once.

    Attributes:
        sizes: by name, of the tower and of the batch.
        features: that the decoder is handed.
        given: bytes of pixels or frames, in float32.
        what: what these are: pixels, frames.
        source: what was measured.
    """

    sizes: Mapping[str, int]
    features: int
    given: int
    what: str
    source: str


def encoding(tower: Tower | None, scenario: Scenario) -> Encoding | Unknown:
    """What the images of a batch need, or why that is not known."""
    reason = Unknown("what the tower of images or sound needs while it runs is not measured yet")
    if scenario.video_tokens or scenario.audio_tokens or not scenario.pieces or tower is None:
        return reason
    row = _rows().get((tower.name, "eager" if scenario.attention == "eager" else "sdpa"))
    each = scenario.patches or tower.patches
    dtype = find_dtype(scenario.compute_dtype or "")
    if row is None or not each or dtype is None or (row["packed"] and not scenario.patches):
        return reason
    if unlike(row, tower) or not named_in(row) <= sizes_of(tower, scenario, each, packed=row["packed"]).keys():
        return reason
    batch = Batch(
        sizes=sizes_of(tower, scenario, each, packed=row["packed"]),
        features=scenario.batch * scenario.image_tokens,
        given=pixels_of(tower, scenario, each),
        what="pixels",
        source=f"hfmem.probe.towers on {tower.name} ({row['attention']}), {_source()}",
    )
    return evaluated(row, tower, scenario, batch, dtype.nbytes(1))


def handed(tower: Tower) -> int:
    """Rows of features that a tower hands over for each token of an image: more than one where features of blocks
    within it go to the decoder, too; 1 where it was not measured."""
    row = _rows().get((tower.name, "sdpa"))
    return int(row["handed"]) if row is not None else 1


def unlike(row: Mapping[str, Any], tower: Tower) -> bool:
    """Whether a class runs another tower than the one that was measured, or takes the states of more layers, or
    fewer."""
    return bool(row.get("tower", tower.kind) != tower.kind or row.get("taken", tower.taken) != tower.taken)


def named_in(row: Mapping[str, Any]) -> set[str]:
    """The sizes that a row's polynomials follow."""
    return {name for one in (*row["peaks"], *filter(None, [row["layer"]])) for name in Polynomial.parse(one).names}


def highest_of(row: Mapping[str, Any], sizes: Mapping[str, int], layers: int) -> tuple[Polynomial, int, int]:
    """The highest moment of a row, its bytes with so many layers, and what each further layer adds to them."""
    highest = max((Polynomial.parse(one) for one in row["peaks"]), key=lambda one: one.at(sizes))
    deeper = Polynomial.parse(row["layer"]).at(sizes) if row["layer"] else 0
    return highest, highest.at(sizes) + max(0, layers - MEASURED_DEPTH) * deeper, deeper


def sizes_of(tower: Tower, scenario: Scenario, each: int, *, packed: bool) -> dict[str, int]:
    """The sizes of a batch's images, of so many patches each: apart, or packed into one sequence."""
    images = scenario.batch * scenario.pieces
    tokens = {"b": 1, "s": images * each} if packed else {"b": images, "s": each}
    if packed:  # of tokens, as of squares side by side
        rows = images * (isqrt(scenario.image_tokens // max(1, scenario.pieces)) + 1)
        tokens |= {"rows": rows, "columns": rows}
    return {**tower.sizes, **tokens, "tiles": max(0, images - scenario.batch * scenario.images)}


def pixels_of(tower: Tower, scenario: Scenario, each: int) -> int:
    """Bytes of the pixels of a batch's images, of so many patches each."""
    return scenario.batch * scenario.pieces * each * tower.sizes["pixels"] * PIXEL


def evaluated(row: Mapping[str, Any], tower: Tower, scenario: Scenario, batch: Batch, width: int) -> Encoding:
    """What a tower of a row needs for a batch, in a number format of so many bytes."""
    sizes = batch.sizes
    highest, nbytes, deeper = highest_of(row, sizes, tower.layers)
    wider = max(1, width // 2)  # measured in bfloat16
    peak = nbytes * wider
    named = ", ".join(f"{name} {sizes[name]:,}" for name in sorted(highest.names, key=lambda n: (n not in "bs", n)))
    how = f"{highest.describe()} bytes with {named}; + {batch.given:,} B of {batch.what}"
    if wider > 1:
        how += f"; × {wider} for {scenario.compute_dtype}"
    if deeper:
        how += f"; + {deeper:,} B of states kept for each further layer of {tower.layers}"
    features = batch.features * tower.sizes["out"] * width * row["handed"]
    return Encoding(
        peak=peak + batch.given,
        kept=features + batch.given,
        how=how,
        source=batch.source,
        measured=wider == 1 and scenario.attention != "flash",
        sound=batch.what == "frames",
    )


def with_encoding(terms: Sequence[Term], found: Encoding, unfilled: int) -> list[Term]:
    """The terms of the prompt with what the tower leaves, or of the tower, if its peak is higher.

    Args:
        terms: activations of the prompt, above the final cache.
        found: of the tower.
        unfilled: bytes of the final cache, which is empty while the tower runs.
    """
    certainty = "measured" if found.measured else "typical"
    above = found.peak - unfilled
    if above > total_of(terms) + found.kept:
        how = f"{found.how}; - {unfilled:,} B of cache, which is empty then"
        name = f"encode: the {'audio' if found.sound else 'vision'} tower"
        return [_term(name, above, how, found.source, certainty)]
    what, of = ("frames", "sound") if found.sound else ("pixels", "images")
    how = f"{what} and features of the {of}, which stay while the prompt runs"
    return [*terms, _term(f"prefill: {of}", found.kept, how, found.source, certainty)]


def _term(name: str, nbytes: int, how: str, source: str, certainty: Any) -> Term:
    return Term(name=name, group="activations", nbytes=nbytes, how=how, source=source, certainty=certainty)


@cache
def _lines() -> tuple[Mapping[str, Any], ...]:
    lines = data_text("towers.jsonl").splitlines()
    return tuple(json.loads(line) for line in lines)


def _source() -> str:
    return str(_lines()[0]["source"])


@cache
def _rows() -> Mapping[tuple[str, str], Mapping[str, Any]]:
    return {(row["type"], row["attention"]): row for row in _lines()[1:]}
