"""Estimates of pipelines against peaks that others read on GPUs: `python -m tests.measured.pipelines` prints the table;
`--write` puts it into `docs/diffusers.md`.

`fixtures/measured/pipelines.jsonl` has the readings with their addresses, `pipeline_models.jsonl` the components of the
models. A reading that is not compared says why (`skipped`). `loaded` is what was allocated after loading: where weights
were quantised or projections fused, the weights are taken from it, and the rest of the peak is what is compared.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from statistics import median
from typing import Any, Final

from hfmem.engines.diffusers.engine import ENGINE
from hfmem.engines.diffusers.settings import PipelineSettings
from hfmem.engines.protocol import Whole
from hfmem.estimator.values import Estimate, Scenario
from hfmem.fetcher.values import Checkpoint, ModelRef
from hfmem.mapper.interpret import Model
from hfmem.mapper.pipelines.values import Component, Pipeline
from hfmem.mapper.values import Architecture, ParameterTable, TensorGroup
from hfmem.units import GIB

__all__ = ["FIXTURES", "PAGE", "Compared", "compared", "model_of", "rows", "scenario_of", "summary", "table"]

ROOT: Final = Path(__file__).parents[2]
FIXTURES: Final = ROOT / "fixtures" / "measured"
PAGE: Final = ROOT / "docs" / "diffusers.md"
WIDEST: Final = 0.10
"""A range that is wider than this share of its middle counts as no answer."""

Row = dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Compared:
    """A reading and the estimate of it, in bytes."""

    row: Row
    low: int
    high: int

    @property
    def measured(self) -> int:
        """The reading."""
        return int(self.row["peak"])

    @property
    def wide(self) -> bool:
        """Whether the range is too wide to be an answer."""
        return self.high - self.low > WIDEST * (self.high + self.low) / 2

    @property
    def error(self) -> float:
        """How far the reading is outside of the range, as a share of it; of one number, how far it is off."""
        if self.low <= self.measured <= self.high:
            return 0.0
        nearest = self.low if self.measured < self.low else self.high
        return abs(nearest / self.measured - 1)

    @property
    def close(self) -> bool:
        """Whether it is an answer within 5 %."""
        return not self.wide and self.error <= 0.05


@cache
def rows() -> tuple[Row, ...]:
    """Every reading."""
    return tuple(json.loads(line) for line in (FIXTURES / "pipelines.jsonl").read_text(encoding="utf-8").splitlines())


@cache
def _models() -> dict[str, Row]:
    lines = (FIXTURES / "pipeline_models.jsonl").read_text(encoding="utf-8").splitlines()
    return {row["model"]: row for row in map(json.loads, lines)}


def model_of(name: str) -> Model:
    """A model of the fixtures."""
    row = _models()[name]
    components = tuple(_component(part) for part in row["components"])
    groups = [group for part in components if part.parameters is not None for group in part.parameters.groups]
    checkpoint = Checkpoint(
        ref=ModelRef(model_id=name), commit=None, source="local", provenance="fixtures", config=None
    )
    return Model(
        checkpoint=checkpoint,
        architecture=Architecture(model_type=None, architectures=(row["pipeline"],), layers=()),
        parameters=ParameterTable(groups=tuple(groups)),
        certainty="exact",
        source="fixtures",
        stored_dtype="bfloat16",
        file_bytes=None,
        notes=(),
        pipeline=Pipeline(class_name=row["pipeline"], components=components),
    )


def _component(row: Row) -> Component:
    groups = [
        TensorGroup(
            component=row["name"],
            role="weight",
            shape=(count,),
            count=1,
            dtype=dtype,
            stored_bytes=2 * count,
            parameters=count,
            active=count,
            full_in=tuple(full[0]) if full else (),
        )
        for dtype, count, *full in row["groups"]
    ]
    return Component(
        name=row["name"],
        kind=row["kind"],
        library=row["library"],
        class_name=row["class_name"],
        config=row["config"],
        parameters=ParameterTable(groups=tuple(groups)),
        stored_dtype=row["dtype"],
        certainty="exact",
        source="fixtures",
    )


def scenario_of(row: Row) -> Scenario:
    """The run of a reading."""
    values: dict[str, Any] = {
        "height": row.get("height"),
        "width": row.get("width"),
        "num_frames": row.get("frames"),
        "offload": row.get("offload", "none"),
        "vae_tiling": row.get("vae") == "tiling",
        "vae_slicing": row.get("vae") == "slicing",
    }
    return Scenario(
        mode="inference",
        batch=row["batch"],
        seq=1,
        dtype=row["dtype"],
        compute_dtype=row["dtype"],
        kv_dtype=None,
        runtime="diffusers",
        attention="sdpa",
        method="exact",
        word=row["dtype"],
        serving=PipelineSettings(**values),
    )


def _estimate(row: Row) -> Estimate:
    if not isinstance(ENGINE, Whole):
        raise TypeError("not an engine that is estimated as a whole")
    return ENGINE.estimate(model_of(row["model"]), scenario_of(row))


def compared() -> tuple[Compared, ...]:
    """Every reading that is compared."""
    return tuple(_compared(row) for row in rows() if not row.get("skipped"))


def _compared(row: Row) -> Compared:
    found = _estimate(row)
    context = sum(term.nbytes for term in found.terms if not term.allocated)
    low, high = found.low - context, found.total - context
    weights = sum(term.nbytes for term in found.terms if term.group == "weights" and term.phase is None)
    replaced = row.get("quantisation") or "fuse_qkv True" in row.get("note", "")
    if replaced and "loaded" in row:
        low, high = low - weights + row["loaded"], high - weights + row["loaded"]
    if row.get("quantisation") and row["model"].endswith("FLUX.1-dev"):  # quantised on the card
        low, high = max(low, weights), max(high, weights)
    return Compared(row=row, low=low, high=high)


def _names() -> Iterator[str]:
    yield from dict.fromkeys(row["model"] for row in rows())


def table() -> str:
    """The table in Markdown."""
    lines = ["| model | run | measured | estimate | off |", "|---|---|---:|---:|---:|"]
    for found in compared():
        row = found.row
        run = [f"{row['height']} × {row['width']}"]
        run += [f"{row['frames']} frames"] if row.get("frames") else []
        run += [f"batch {row['batch']}"] if row["batch"] > 1 else []
        run += [row["dtype"], *filter(None, [row.get("quantisation")])]
        run += [f"offload {row['offload']}"] if row.get("offload", "none") != "none" else []
        low, high = found.low / GIB, found.high / GIB
        shown = f"{high:.2f}" if high - low < 0.005 else f"{low:.2f} to {high:.2f}"
        off = "too wide" if found.wide else f"{100 * found.error:.1f} %"
        lines.append(f"| {row['model']} | {', '.join(run)} | {found.measured / GIB:.2f} | {shown} | {off} |")
    return "\n".join(lines)


def summary() -> str:
    """The medians by model, and how many are close."""
    found = compared()
    lines = []
    for name in _names():
        errors = [each.error for each in found if each.row["model"] == name]
        if errors:
            lines.append(f"{name}: {len(errors)} readings, median {100 * median(errors):.1f} % off")
    close = sum(each.close for each in found)
    lines.append(f"{close} of {len(found)} readings are within 5 %, or in a range of at most 10 %")
    return "\n".join(lines)


def main() -> None:
    """Print the table, or write it into the page."""
    if "--write" not in sys.argv:
        print(table())
        print(summary())
        return
    text = PAGE.read_text(encoding="utf-8")
    begin, end = "<!-- measured -->\n", "<!-- end -->"
    head, _, rest = text.partition(begin)
    tail = rest.partition(end)[2]
    items = "\n".join(f"* {line}" for line in summary().splitlines())
    PAGE.write_text(f"{head}{begin}{items}\n\n{table()}\n{end}{tail}", encoding="utf-8")


if __name__ == "__main__":
    main()
