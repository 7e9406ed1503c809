"""What a forward pass of a network of timm needs above its weights, by batch and size of images.

`hfmem/data/timm_images.jsonl` is made by `python -m hfmem.probe.timm` from the real classes.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

from hfmem.data import text as data_text
from hfmem.dtypes import find_dtype
from hfmem.estimator.activations.grids import Grids, grids, parsed, parts
from hfmem.estimator.scenario import Scenario
from hfmem.unknown import Unknown

if TYPE_CHECKING:
    from hfmem.mapper.inputs import Network

__all__ = ["Pass", "forward", "size_refused"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Pass:
    """A forward pass.

    Attributes:
        peak: bytes at the highest moment, without copies that convolutions make on a GPU.
        once, copied: the same with one and with both copies that a convolution makes of its input and output.
        pixels: bytes of the images, which stay during the pass.
        buffers: bytes of the buffers that the class computes, and that no file has.
        how: the arithmetic of the highest moment.
        source: what was measured.
        measured: whether its class was measured as it is built.
    """

    peak: int
    once: int
    copied: int
    pixels: int
    buffers: int
    how: str
    source: str
    measured: bool


def forward(network: Network, scenario: Scenario) -> Pass | Unknown:
    """What the images of a batch need, or why that is not known."""
    dtype = find_dtype(scenario.compute_dtype or "")
    width = dtype.nbytes(1) if dtype is not None else 0
    row = _row(network, "single" if width == 4 else "half")
    if row is None or width not in (2, 4):
        return Unknown(f"a forward pass of timm's '{network.name}' is not measured")
    if reason := _unlike(network, row) or _unmeasured(row, scenario.image_height, scenario.image_width):
        return Unknown(reason)
    batch, height, wide = scenario.batch, scenario.image_height, scenario.image_width
    tables = row["lone"] if batch == 1 and "lone" in row else row
    values = {kind: [grids(one, batch, height, wide) for one in _tables(tables, kind)] for kind in _KINDS}
    peak = max(values["peak"])
    highest = _tables(tables, "peak")[values["peak"].index(peak)]
    once = max([peak, *values["once"]])
    return Pass(
        peak=peak,
        once=once,
        copied=max([once, *values["copied"]]),
        pixels=batch * network.channels * height * wide * width,
        buffers=row.get("buffers", 0),
        how=_words(highest, batch, height, wide),
        source=f"hfmem.probe.timm on {network.name}, {_source()}",
        measured=not network.dynamic,
    )


def size_refused(network: Network, height: int, width: int) -> bool:
    """Whether the class takes no images of a size: it is built for another one."""
    row = _row(network, "half")
    fixed = network.fixed if row is None else row["fixed"]
    other = (height, width) != (network.height, network.width)
    return bool(fixed) and other and not network.dynamic


_KINDS = ("peak", "once", "copied")


def _unlike(network: Network, row: Mapping[str, Any]) -> str:
    """In what a network differs from the one that was measured; "" where it does not matter."""
    if network.channels != 3:
        return f"images of {network.channels} channels are not measured"
    if network.changed:
        return f"its config builds '{row['network']}' otherwise ({', '.join(network.changed[:4])})"
    return ""


def _unmeasured(row: Mapping[str, Any], height: int, width: int) -> str:
    """Why the size was not measured; "" where it was."""
    size = f"{width} × {height}"
    if row.get("alone") and [height, width] != row["native"]:
        return f"images of {size} pixels are not measured with '{row['network']}', only {_native(row)}"
    if any(side % unit for side, unit in zip((height, width), row["unit"], strict=True)):
        return f"'{row['network']}' is measured for sides that are multiples of {row['unit'][0]} pixels only"
    if min(height, width) * _SMALLER < row["least"]:
        return f"images of {size} pixels are smaller than those that are measured"
    return ""


_SMALLER = 2
"""So much smaller than the smallest that were measured may sides be: deeper layers then have few positions, and are not
the peak."""


def _native(row: Mapping[str, Any]) -> str:
    height, width = row["native"]
    return f"{width} × {height}"


def _tables(row: Mapping[str, Any], kind: str) -> list[Grids]:
    return [parsed(one) for one in row[kind]]


def _words(polynomial: Grids, batch: int, height: int, width: int) -> str:
    """The parts that make the most of it."""
    found = sorted(parts(polynomial, batch, height, width), reverse=True)
    return " + ".join(_listed(found))


def _listed(found: Sequence[tuple[int, str]]) -> Iterator[str]:
    yield from (words for nbytes, words in found if nbytes)


def _row(network: Network, precision: str) -> Mapping[str, Any] | None:
    mark = f'{{"network":"{network.name}","precision":"{precision}",'
    return next((json.loads(line) for line in _lines() if line.startswith(mark)), None)


@cache
def _lines() -> tuple[str, ...]:
    return tuple(data_text("timm_images.jsonl").splitlines())


def _source() -> str:
    return str(json.loads(_lines()[0])["source"])
