"""What one call of a component takes above its weights: the measured polynomials of its class.

`hfmem/data/diffusers_calls.jsonl` is made by `python -m hfmem.probe.diffusers` from the real classes.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, Final

from hfmem.data import text as data_text
from hfmem.engines.convolutions import Convolution
from hfmem.mapper.pipelines.sizes import sizes, unlike
from hfmem.mapper.pipelines.values import Component
from hfmem.mapper.values import Certainty

__all__ = ["Call", "Release", "Taken", "rows", "taken", "tiles_of", "unmeasured"]

Release = tuple[int, int]
"""A release without its patch."""

_HALVES: Final = 2  # float32 is twice as large where it was not measured


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """Sizes of a call: batch of the network, latents, text tokens, and latent pixels of input images joined to them."""

    batch: int
    height: int = 1
    width: int = 1
    frames: int = 1
    text: int = 0
    joined: int = 0

    @property
    def pixels(self) -> int:
        """Latent pixels of a frame, with those that are joined to them."""
        return self.height * self.width + self.joined


@dataclass(frozen=True, slots=True, kw_only=True)
class Taken:
    """Bytes of a call above the weights.

    Attributes:
        peak: the highest moment, without copies that convolutions make on a GPU.
        once, copied: the highest moment with one and with both copies that a half-precision convolution makes of its
            input and output (NHWC).
        widened: likewise with both, and with a 3D convolution's output in float32, where that is higher.
        inputs, outputs: bytes that the call is given and returns.
        how: the largest parts, in words.
        certainty: `measured`, or `typical` for a config that differs from all measured ones.
        source: the versions that were measured.
        odd: keys of the config that differ from the measured ones.
    """

    peak: int
    once: int
    copied: int
    widened: int
    inputs: int
    outputs: int
    how: str
    certainty: Certainty
    source: str
    odd: tuple[str, ...] = ()


@cache
def rows(name: str) -> tuple[Mapping[str, Any], ...]:
    """The rows of a class."""
    text = data_text("diffusers_calls.jsonl")
    mark = f'{{"class": "{name}",'
    return tuple(json.loads(line) for line in text.splitlines() if line.startswith(mark))


def _row(
    component: Component, method: str, *, single: bool, release: Release | None, call: Call | None = None
) -> tuple[Mapping[str, Any] | None, tuple[str, ...]]:
    """The row whose structure is the nearest, and what differs; of a release before which the class took something
    else, one of those; of a call, one that holds for it, if there is one."""
    wanted = ("single", "half") if single else ("half",)
    every = [row for row in rows(component.class_name) if row["call"] == method and row["precision"] in wanted]
    newest = [row for row in every if "before" not in row]
    found = [row for row in every if "before" in row and release is not None and release < _number(row["before"])]
    found = found or newest
    if call is not None:
        found = [row for row in found if not _beyond(row, call)] or found

    def distance(row: Mapping[str, Any]) -> tuple[int, int, float]:
        have = sizes(component, row)
        return (
            len(unlike(component, row)),
            wanted.index(row["precision"]),
            sum(abs(have[key] / value - 1) for key, value in row["sizes"].items() if value),
        )

    best = min(found, key=distance, default=None)
    return best, () if best is None else unlike(component, best)


def _number(release: str) -> Release:
    first, second = release.split(".")[:2]
    return int(first), int(second)


def taken(
    component: Component, call: Call, *, single: bool, method: str = "forward", release: Release | None = None
) -> Taken | None:
    """What a call takes; None for a class that is not measured, or not with sizes of this config or call. Text
    encoders, which take little beside their weights, are told by the nearest that is.

    Args:
        component: what is called.
        call: its sizes.
        single: whether it runs in float32.
        method: what of it is called.
        release: of diffusers; None for the one that was measured.
    """
    row, odd = _row(component, method, single=single, release=release, call=call)
    if row is None or (odd and not component.encodes_text) or _beyond(row, call):
        return None
    have = sizes(component, row)
    factor = _HALVES if single and row["precision"] == "half" else 1
    tables = row["alone"] if call.batch == 1 and "alone" in row else row
    moments = [_sum(table, have, call) for table in tables["peak"]]
    peak = max(moments)
    highest = tables["peak"][moments.index(peak)]
    once, copied = _ends(tables, have, call, single=single)
    widened = max((_sum(table, have, call) for table in tables.get("widened", ())), default=0)
    return Taken(
        peak=round(peak * factor),
        once=round(max(peak, once) * factor),
        copied=round(max(peak, once, copied) * factor),
        widened=round(max(peak, once, copied, 0 if single else widened) * factor),
        inputs=round(_sum(row["inputs"], have, call) * factor),
        outputs=round(_sum(row["outputs"], have, call) * factor),
        how=_words(highest, have, call),
        certainty="typical" if odd or factor > 1 else "measured",
        source=f"hfmem/data/diffusers_calls.jsonl: {row['versions']}",
        odd=odd,
    )


def _ends(tables: Mapping[str, Any], have: Mapping[str, float], call: Call, *, single: bool) -> tuple[float, float]:
    """The highest moment with one and with both copies of a convolution."""
    found = [
        Convolution(**{fact: _sum(table, have, call) for fact, table in facts.items()})
        for facts in tables.get("pieces", ())
    ]
    if any(each.share < 1 for each in found):
        return max(each.least(single=single) for each in found), max(each.most for each in found)
    one, both = ([_sum(table, have, call) for table in tables[kind]] for kind in ("once", "copied"))
    return max(one, default=0), max(both, default=0)


def _beyond(row: Mapping[str, Any], call: Call) -> bool:
    """Whether a call is larger than what its row holds for, or smaller."""
    return (
        call.batch > row.get("batch", call.batch)
        or any(_monomial(name, call) > most for name, most in row.get("most", {}).items())
        or any(_monomial(name, call) <= least for name, least in row.get("over", {}).items())
    )


def unmeasured(component: Component, method: str = "forward", release: Release | None = None) -> str:
    """Why it is not known what a call takes."""
    row, odd = _row(component, method, single=False, release=release)
    if row is not None and not odd and "batch" in row:
        return f"calls of {component.class_name} are measured for one at a time only"
    if row is not None and not odd and "most" in row:
        most = " and ".join(f"{count:,} {_LIMITS[name]}" for name, count in row["most"].items())
        return f"calls of {component.class_name} are measured up to {most}"
    if row is not None and not odd and "over" in row:
        least = " and ".join(f"{count:,} {_LIMITS[name]}" for name, count in row["over"].items())
        return f"calls of {component.class_name} are measured above {least}"
    config = f" with this config ({', '.join(odd[:4])})" if odd else ""
    return f"calls of {component.class_name}{config} are not measured"


_LIMITS: Final = {"BP": "latent pixels of a frame", "BN": "latent pixels"}


def tiles_of(component: Component) -> Mapping[str, Any]:
    """The sizes of tiles that the class has by default."""
    row, _ = _row(component, "decode", single=False, release=None)
    return {} if row is None else row.get("tiles", {})


def _sum(table: Mapping[str, Mapping[str, float]], have: Mapping[str, float], call: Call) -> float:
    return sum(_monomial(name, call) * _linear(row, have) for name, row in table.items())


def _linear(row: Mapping[str, float], have: Mapping[str, float]) -> float:
    total = 0.0
    for name, coefficient in row.items():
        value = coefficient
        for key in name.split("*"):
            value *= 1.0 if key == "1" else have[key]
        total += value
    return total


def _monomial(name: str, call: Call) -> float:
    pixels = call.pixels
    parts = {"1": 1, "B": call.batch, "P": pixels, "F": call.frames, "N": pixels * call.frames, "T": call.text}
    found = 1.0
    for letter in name:
        found *= parts[letter]
    return found


_LETTERS: Final = {"B": "batch", "P": "latent pixels", "F": "latent frames", "N": "latent pixels", "T": "text tokens"}


def _words(table: Mapping[str, Mapping[str, float]], have: Mapping[str, float], call: Call) -> str:
    """The parts that make the most of it."""
    parts = sorted(_parts(table, have, call), reverse=True)
    return " + ".join(text for share, text in parts[:3] if share > 0.01 * parts[0][0])


def _parts(
    table: Mapping[str, Mapping[str, float]], have: Mapping[str, float], call: Call
) -> Iterator[tuple[float, str]]:
    values = {"B": call.batch, "P": call.pixels, "F": call.frames, "T": call.text}
    values["N"] = values["P"] * values["F"]
    for name, row in table.items():
        each = _linear(row, have)
        letters = [f"{values[letter]:,} {_LETTERS[letter]}" for letter in name if letter != "1"]
        yield each * _monomial(name, call), " × ".join([f"{each:,.6g} B", *letters])
