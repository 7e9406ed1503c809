"""Estimates against what SGLang's servers printed: `python -m tests.measured.sglang` prints the table of
docs/sglang.md, with `--rows` every comparison.

`fixtures/measured/sglang.jsonl` has every reading with its source. `stands_for` names the model of the bundled catalog
whose sizes are the same; a reading that cannot be compared says why (`skipped`).
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from statistics import median
from typing import Any, Final

from hfmem import Model, inspect
from hfmem.engines.inference import Prepared
from hfmem.engines.sglang.fraction import fraction_of
from hfmem.engines.sglang.pools import Widths, divided, widths_of
from hfmem.engines.sglang.settings import settings_of
from hfmem.engines.sglang.split import RULES
from hfmem.engines.sglang.step import request_table, step_of
from hfmem.estimator.scenario import Scenario
from hfmem.estimator.split.ranks import rank_model
from hfmem.estimator.split.stages import stages
from hfmem.hardware.table import find
from hfmem.hardware.values import Machine
from hfmem.scenario.options import Options
from hfmem.scenario.resolve import resolve
from hfmem.units import GIB

__all__ = ["Comparison", "comparisons", "room", "rows", "table"]

FIXTURE: Final = Path(__file__).parents[2] / "fixtures" / "measured" / "sglang.jsonl"
Row = dict[str, Any]
_REQUESTS: Final = 2048  # at once by default, at least

KINDS: Final = {
    "weights": "weights",
    "bytes": "bytes of a pool, for its tokens",
    "free": "tokens of the pool, from the free memory that the log states",
    "line": "tokens of the pool, from the command line alone",
    "windows": "pools for sliding windows",
    "states": "pools for recurrent states",
    "fraction": "`mem_fraction_static` by default",
}
"""Kinds of comparisons, as the table has them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """A reading, and the estimate of it."""

    row: Row
    kind: str
    measured: float
    estimated: float

    @property
    def error(self) -> float:
        """The difference as a share of the reading."""
        return (self.estimated - self.measured) / self.measured


@cache
def rows() -> tuple[Row, ...]:
    """Every reading."""
    return tuple(json.loads(line) for line in FIXTURE.read_text(encoding="utf-8").splitlines())


@cache
def _model(name: str) -> Model:
    return inspect(name, offline=True)


def _options(row: Row, *, drafts: bool = True) -> Options:
    asked = dict(row.get("asked", {}))
    if row.get("speculative") and drafts and row["speculative"][0].startswith("EAGLE"):
        asked |= {"speculative_algorithm": "EAGLE", "speculative_num_draft_tokens": row["speculative"][1]}
    return Options(
        runtime="sglang",
        sglang_version=row.get("version"),
        seq=row.get("seq") or 4096,
        tp=row["tp"],
        kv_dtype=row.get("kv_dtype"),
        dtype=row.get("dtype"),
        **asked,
    )


def _scenario(row: Row, *, drafts: bool = True) -> tuple[Model, Scenario]:
    model = _model(row["stands_for"])
    machine = None
    if row.get("card"):
        card = find(row["card"]).accelerator
        if row.get("card_mib"):
            card = replace(card, memory=row["card_mib"] * 2**20)
        machine = Machine(accelerator=card)
    return model, resolve(_options(row, drafts=drafts), model, machine)


def _widths(row: Row, *, drafts: bool = True) -> Widths:
    model, scenario = _scenario(row, drafts=drafts)
    stage = stages(len(model.architecture.layers or ()), scenario.parallel, RULES)[0]
    found = widths_of(rank_model(model, scenario.parallel, stage, RULES), scenario)
    if not isinstance(found, Widths):
        raise TypeError(found.reason)
    return found


def compare(row: Row) -> Iterator[Comparison]:
    """The comparisons of a reading."""
    if row.get("skipped"):
        return
    found = {
        "weights": _weights,
        "kv_per_tokens": _pool,
        "swa_pool": _windows,
        "mamba_pool": _states,
        "mamba_spec_pool": _states,
        "default_mem_fraction": _fraction,
    }[row["kind"]]
    for kind, measured, estimated in found(row):
        yield Comparison(row=row, kind=kind, measured=measured, estimated=estimated)


_Found = Iterable[tuple[str, float, float]]


def _weights(row: Row) -> _Found:
    model, scenario = _scenario(row, drafts=False)
    known = Prepared.of(model, scenario).estimate(scenario).group("weights")
    yield "weights", row["value_gib"], (known or 0) / GIB


def _pool(row: Row) -> _Found:
    """A pool's line: of all tokens, of windows, or of drafts."""
    target, whole = _widths(row, drafts=False), _widths(row)
    pool = row.get("pool", "all")
    each = {"all": target.full + target.beyond, "windows": target.sliding, "drafts": whole.full - target.full}[pool]
    yield "windows" if pool == "windows" else "bytes", row["value_gib"], row["tokens"] * each / GIB
    if pool == "all" and not row.get("paired"):
        yield from _tokens(row, whole)


def _windows(row: Row) -> _Found:
    widths = _widths(row)
    nbytes = row["tokens"] * widths.full + row["swa_tokens"] * widths.sliding
    yield "windows", row["value_gib"], nbytes / GIB
    yield from _tokens(row, widths)


def _tokens(row: Row, widths: Widths) -> _Found:
    """The tokens of the pool, from the free memory in the log and from the command line."""
    model, scenario = _scenario(row)
    fraction = fraction_of(model, scenario)
    if row.get("free_before") and row.get("free_after") and fraction is not None:
        images = settings_of(scenario).source.images / 1024 if model.architecture.tower else 0
        rest = row["free_after"] - row["free_before"] * (1 - fraction) - images
        yield "free", row["tokens"], divided(int(rest * GIB), widths).tokens
    if row.get("card") and row.get("command_line", True):
        serving = Prepared.of(model, scenario).estimate(scenario).serving
        if serving is not None and serving.kv_tokens:
            yield "line", row["tokens"], serving.kv_tokens


def room(row: Row) -> Iterable[tuple[str, float, float]]:
    """The log, the GiB that a step, its graphs and the table of requests take, and those that the server left for them,
    where it was told the share and the free memory is known."""
    if row.get("free_before") and "mem_fraction_static" in row.get("asked", {}):
        model, scenario = _scenario(row)
        step, running = step_of(model, scenario), row["asked"].get("max_running_requests") or _REQUESTS
        needed = step.nbytes + request_table(scenario, running)
        yield row["log"], needed / GIB, row["free_before"] * (1 - row["asked"]["mem_fraction_static"])


def _states(row: Row) -> _Found:
    widths = _widths(row)
    if row["kind"] == "mamba_pool":
        yield "states", row["value_gib"], (row["tokens"] + 1) * widths.slot / GIB
    else:
        yield "states", row["value_gib"], (row["tokens"] + 1) * widths.drafts / GIB


def _fraction(row: Row) -> _Found:
    model, scenario = _scenario(row)
    found = fraction_of(model, scenario)
    if found is not None:
        yield "fraction", row["fraction"], found


@cache
def comparisons() -> tuple[Comparison, ...]:
    """Every comparison."""
    return tuple(found for row in rows() for found in compare(row))


def table() -> str:
    """The table of docs/sglang.md: readings and logs, how many are within 1 %, the median and the largest error."""
    lines = [
        "| what | readings | logs | within 1 % | median error | largest |",
        "|---|---|---|---|---|---|",
    ]
    for kind, words in KINDS.items():
        errors = [abs(found.error) for found in comparisons() if found.kind == kind]
        logs = {found.row["log"] for found in comparisons() if found.kind == kind}
        if errors:
            within = sum(error <= 0.01 for error in errors) / len(errors)
            lines.append(
                f"| {words} | {len(errors)} | {len(logs)} | {within:.0%} | {median(errors):.2%} | {max(errors):.1%} |"
            )
    return "\n".join(lines)


def main() -> None:
    """Print the table, or with `--rows` every comparison."""
    if "--rows" in sys.argv:
        for found in comparisons():
            print(
                f"{found.kind:9}{found.error:+8.2%}  {found.measured:12.6g} {found.estimated:12.6g}  {found.row['log']}"
            )
    print(table())


if __name__ == "__main__":
    main()
