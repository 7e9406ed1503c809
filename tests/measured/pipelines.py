"""Estimates of pipelines against peaks that others read on GPUs: `python -m tests.measured.pipelines` prints the table;
`--write` puts it into `docs/diffusers.md`.

`fixtures/measured/pipelines.jsonl` has the readings with their addresses, `pipeline_models.jsonl` the components of the
models that the catalog does not have. A reading that is not compared says why (`skipped`). There are two kinds:

* `whole`: the peak, against the product's own total without what is not allocated by PyTorch (the CUDA context);
* `part`: of runs whose weights the product has no answer for (activations quantised too, fused projections, `cast` to
  another dtype after loading), what was allocated besides what there was after loading (`loaded`), against the
  product's own activations: the share is one of that part.

Readings with a `release` are estimated for it (`--diffusers-version`).
"""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from statistics import median
from typing import Any, Final, Literal

import hfmem
from hfmem.estimator.values import Estimate
from hfmem.fetcher.values import Checkpoint, ModelRef
from hfmem.mapper.interpret import Model
from hfmem.mapper.pipelines.values import Component, Pipeline
from hfmem.mapper.values import Architecture, ParameterTable, TensorGroup
from hfmem.units import GIB

__all__ = ["FIXTURES", "PAGE", "Compared", "compared", "model_of", "rows", "summary", "table"]

ROOT: Final = Path(__file__).parents[2]
FIXTURES: Final = ROOT / "fixtures" / "measured"
PAGE: Final = ROOT / "docs" / "diffusers.md"
WIDEST: Final = 0.10
"""A range that is wider than this share of its middle counts as no answer."""

Row = dict[str, Any]
Kind = Literal["whole", "part"]


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


_OWN: Final = {"torchao fp8wo": "fp8", "torchao int8wo": "int8"}
"""What quantises only weights, and the product's word for it."""


_RENAMED: Final = {"THUDM/CogVideoX-5b": "zai-org/CogVideoX-5b"}
"""Repositories that have another name now."""


def _fused(row: Row) -> bool:
    return "fuse_qkv True" in row.get("note", "")


def _whole(row: Row) -> bool:
    """Whether the product has an answer for the weights too."""
    found = row.get("quantisation")
    own = found in _OWN and "release" not in row  # older releases quantise after loading
    return (
        not _fused(row)
        and "cast" not in row
        and (found is None or own or ("release" not in row and row["model"] not in _models()))
    )


def _estimate(row: Row) -> Estimate:
    """The product's answer."""
    name = row["model"]
    name = _RENAMED.get(name, name)
    fixed = name in _models() and row.get("quantisation") not in _OWN  # which needs the shapes of the catalog's tensors
    asked: dict[str, Any] = {
        "dtype": _OWN.get(row.get("quantisation", ""), row["dtype"]) if _whole(row) else row["dtype"],
        "batch": row["batch"],
        "height": row["height"],
        "width": row["width"],
        "num_frames": row.get("frames"),
        "offload": row["offload"],
        "vae_tiling": row.get("vae") == "tiling",
        "vae_slicing": row.get("vae") == "slicing",
        "diffusers_version": row.get("release"),
        "gpu": ("T4",) if "T4" in (row.get("gpu") or "") else (),
        "runtime": "diffusers",
        "offline": True,
    }
    return hfmem.estimate(model_of(name) if fixed else name, **asked).estimate


def compared() -> tuple[Compared, ...]:
    """Every reading that is compared."""
    return tuple(_compared(row) for row in rows() if not row.get("skipped"))


def _compared(row: Row) -> Compared:
    found = _estimate(row)
    kind: Kind = "whole" if _whole(row) else "part"
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
        run += [f"VAE {row['vae']}"] if row.get("vae") else []
        run += [f"diffusers {row['release']}"] if "release" in row else []
        low, high = found.low / GIB, found.high / GIB
        shown = f"{high:.2f}" if high - low < 0.005 else f"{low:.2f} to {high:.2f}"
        off = f"{100 * found.error:+.1f} %" + (", too wide" if found.wide else "")
        cells = [row["model"], ", ".join(run), _WORDS[found.kind], f"{found.measured / GIB:.2f}", shown, off]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


_WORDS: Final[dict[Kind, str]] = {"whole": "peak", "part": "above the weights"}
_TOLD: Final[dict[Kind, str]] = {
    "whole": "the whole peak",
    "part": "what is above the weights of runs with fused or quantised ones, as a share of that part",
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


def left_out() -> str:
    """How many readings of each model are not compared, with the reason, in Markdown."""
    found = Counter((row["model"], row["skipped"]) for row in rows() if row.get("skipped"))
    lines = [f"| {model} | {count} | {reason} |" for (model, reason), count in found.items()]
    return "\n".join(["| left out | readings | because |", "|---|---:|---|", *lines])


def main() -> None:
    """Print the table, or write it into the page."""
    if "--write" not in sys.argv:
        print(table())
        print(summary())
        print(left_out())
        return
    text = PAGE.read_text(encoding="utf-8")
    begin, end = "<!-- measured -->\n", "<!-- end -->"
    head, _, rest = text.partition(begin)
    tail = rest.partition(end)[2]
    items = "\n".join(f"* {line}" for line in summary().splitlines())
    PAGE.write_text(f"{head}{begin}{items}\n\n{table()}\n\n{left_out()}\n{end}{tail}", encoding="utf-8")


if __name__ == "__main__":
    main()
