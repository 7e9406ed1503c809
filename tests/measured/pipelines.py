"""Estimates of pipelines against peaks that others read on GPUs: `python -m tests.measured.pipelines` prints the table;
`--write` puts it into `docs/diffusers.md`.

`fixtures/measured/pipelines.jsonl` has the readings with their addresses, `pipeline_models.jsonl` the components of the
models. A reading that is not compared says why (`skipped`). There are three kinds:

* `whole`: the peak, against the product's own total without what is not allocated by PyTorch (the CUDA context);
* `part`: of runs whose weights the product has no answer for (torchao, fused projections), what was allocated besides
  what there was after loading (`loaded`), against the product's own activations: the share is one of that part;
* `older`: the same of a release of diffusers whose VAE decodes otherwise (`vae_decode`).
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from statistics import median
from typing import Any, Final, Literal

from hfmem.engines.diffusers.engine import ENGINE
from hfmem.engines.diffusers.settings import PipelineSettings
from hfmem.engines.protocol import Whole
from hfmem.estimator.values import Estimate, Scenario
from hfmem.fetcher.values import Checkpoint, ModelRef
from hfmem.hardware.table import find
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

_MACHINE: Final = find("T4")
_T4: Final = _MACHINE.accelerator if _MACHINE is not None else None

Row = dict[str, Any]
Kind = Literal["whole", "part", "older"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Compared:
    """A reading and the product's own estimate of it, in bytes.

    Attributes:
        row: the reading.
        kind: what of it is compared.
        measured, low, high: of the whole, or of the part above the weights.
    """

    row: Row
    kind: Kind
    measured: int
    low: int
    high: int

    @property
    def wide(self) -> bool:
        """Whether the range is too wide to be an answer."""
        return self.high - self.low > WIDEST * (self.high + self.low) / 2

    @property
    def error(self) -> float:
        """How far the estimate is from the reading, as a share of it: negative if it is too low; 0 in the range."""
        if self.low <= self.measured <= self.high:
            return 0.0
        nearest = self.low if self.measured < self.low else self.high
        return nearest / self.measured - 1

    @property
    def close(self) -> bool:
        """Whether it is an answer within 5 %."""
        return not self.wide and abs(self.error) <= 0.05


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
        gpu=_T4 if "T4" in row.get("gpu", "") else None,
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
    if "vae_decode" in row:
        kind: Kind = "older"
    else:
        kind = "part" if row.get("quantisation") or "fuse_qkv True" in row.get("note", "") else "whole"
    if kind == "whole":
        context = sum(term.nbytes for term in found.terms if not term.allocated)
        return Compared(row=row, kind=kind, measured=row["peak"], low=found.low - context, high=found.total - context)
    high = sum(term.nbytes for term in found.terms if term.phase is not None)
    return Compared(row=row, kind=kind, measured=row["peak"] - row["loaded"], low=high - found.spared, high=high)


def _names() -> Iterator[str]:
    yield from dict.fromkeys(row["model"] for row in rows())


def table() -> str:
    """The table in Markdown."""
    lines = ["| model | run | compared | measured | estimate | off |", "|---|---|---|---:|---:|---:|"]
    for found in compared():
        row = found.row
        run = [f"{row['height']} × {row['width']}"]
        run += [f"{row['frames']} frames"] if row.get("frames") else []
        run += [f"batch {row['batch']}"] if row["batch"] > 1 else []
        run += [row["dtype"], *filter(None, [row.get("quantisation")])]
        run += [f"offload {row['offload']}"] if row.get("offload", "none") != "none" else []
        low, high = found.low / GIB, found.high / GIB
        shown = f"{high:.2f}" if high - low < 0.005 else f"{low:.2f} to {high:.2f}"
        off = f"{100 * found.error:+.1f} %" + (", too wide" if found.wide else "")
        cells = [row["model"], ", ".join(run), _WORDS[found.kind], f"{found.measured / GIB:.2f}", shown, off]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


_WORDS: Final[dict[Kind, str]] = {"whole": "peak", "part": "above the weights", "older": "above, older release"}
_TOLD: Final[dict[Kind, str]] = {
    "whole": "the whole peak",
    "part": "what is above the weights of runs with torchao's or fused ones, as a share of that part",
    "older": "the same, of releases of diffusers whose VAE decodes otherwise",
}


def summary() -> str:
    """By kind: the medians by model, how many are close, and the lowest and highest."""
    lines = []
    for kind, words in _TOLD.items():
        found = [each for each in compared() if each.kind == kind]
        close, errors = sum(each.close for each in found), [100 * each.error for each in found]
        lines.append(
            f"{words}: {close} of {len(found)} readings are within 5 % and in a range of at most 10 %; the estimate is "
            f"{min(errors):+.1f} to {max(errors):+.1f} % off"
        )
        for name in _names():
            of = [100 * abs(each.error) for each in found if each.row["model"] == name]
            if of:
                lines.append(f"{name} ({_WORDS[kind]}): {len(of)} readings, median {median(of):.1f} % off")
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
