"""Holds the activations of every type against its whole class, small, and writes `fixtures/oracle/small.json`.

    python -m tests.oracle.small             every type of hfmem/data/activations.jsonl
    python -m tests.oracle.small gpt2 ...    these alone; the others stay as they are

A row is a type (with what is switched, as the table has it), a configuration whose sizes are drawn anew, none of them
those that the coefficients were made from, sequences and their tokens, and in bytes what the class keeps at the end of
a forward pass of full fine-tuning beyond weights and inputs (`saved`), and the highest moment of a prefill beyond
weights (`prefill`), with bfloat16 and the attention that the class has. A type that does not run so says `why`.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Mapping
from itertools import product
from pathlib import Path
from typing import Any, Final, Literal

from hfmem.fetcher.values import Checkpoint, ModelRef
from hfmem.mapper.interpret import Model, interpret
from tests.oracle.activations import predicted_prefill, predicted_saved, scenario_of
from tests.oracle.rows import head, rows_asked

ROOT: Final = Path(__file__).parents[2]
TABLE: Final = ROOT / "hfmem" / "data" / "activations.jsonl"
TARGET: Final = ROOT / "fixtures" / "oracle" / "small.json"

Row = dict[str, Any]

Attention = Literal["sdpa", "eager"]

_WAYS: Final[tuple[tuple[bool, Attention], ...]] = ((False, "sdpa"), (True, "sdpa"), (True, "eager"))
"""Ways to run a class, in the order they are tried: whether tensors have content, and the attention."""

_DRAW: Final = 9
"""The number of a draw that the coefficients were not made from."""


def names() -> list[str]:
    """Every type of the table, with what is switched."""
    rows = map(json.loads, TABLE.read_text(encoding="ascii").splitlines())
    return [row["type"] for row in rows if "type" in row]


def recorded() -> list[Row]:
    """The rows that were written last."""
    rows: list[Row] = json.loads(TARGET.read_text(encoding="utf-8"))["rows"] if TARGET.exists() else []
    return rows


def model_of(config: Mapping[str, Any]) -> Model:
    """The model that a configuration describes."""
    ref = ModelRef(model_id="org/small")
    return interpret(Checkpoint(ref=ref, commit=None, source="local", provenance="", config=dict(config)))


def measure(
    config: Mapping[str, Any], batch: int, seq: int, *, content: bool = False, attention: Attention = "sdpa"
) -> dict[str, int]:
    """`saved` and `prefill` of a configuration's class; with `content` for those that do not run without."""
    import torch

    from hfmem.probe.activations.probes import Probe
    from hfmem.probe.activations.step import Mode
    from hfmem.probe.trace import Step, timeline

    model = model_of(config)
    source = scenario_of(model, batch, seq).source_seq
    if content:
        probe = Probe((dict(config), batch, seq))
        if source and "input_ids" in probe.inputs:
            probe.inputs["input_ids"] = torch.randint(3, 90, (batch, source))
        steady = probe.run(Mode(attention=attention))
        run = probe.run(Mode(attention=attention, method="prefill"))
    else:
        steady = timeline(model, Step(mode=Mode(), batch=batch, seq=seq, source_seq=source))
        run = timeline(model, Step(mode=Mode(method="prefill"), batch=batch, seq=seq, source_seq=source))
    saved = sum(steady.allocations[number].nbytes for number in steady.kept)
    total = highest = 0
    for allocated, number, _ in run.events:
        if number not in run.given:
            total += run.allocations[number].nbytes * (1 if allocated else -1)
            highest = max(highest, total)
    return {"saved": saved, "prefill": highest}


def row(name: str) -> Row:
    """The row of a type, measured."""
    import torch

    from hfmem.probe import tiny
    from hfmem.probe.activations.attempts import hearing
    from hfmem.probe.activations.probes import heard
    from hfmem.probe.activations.structures import plain, without_class
    from hfmem.probe.activations.variants import variants

    torch.set_num_threads(1)
    why = ""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for few, (content, attention) in product((True, False), _WAYS):
            try:
                class_name = tiny.types()[plain(name)][1]
                config, batch, seq = variants(without_class(name), class_name, few=few, attempt=_DRAW)[2]
                config = hearing(config, heard(seq))
                found: Row = {"type": name, "config": config, "batch": batch, "seq": seq}
                found |= measure(config, batch, seq, content=content, attention=attention)
                return found | ({"content": True} if content else {})
            except Exception as error:  # whatever a class raises
                why = why or f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
    return {"type": name, "why": why}


def line(found: Row) -> str:
    """A row beside what the coefficients say, for people."""
    if "why" in found:
        return f"{found['type']:60} {found['why']}"
    words = [f"{found['type']:60} {found['batch']} x {found['seq']:4}"]
    for key, told in told_of(found).items():
        words.append(f"{key} {told}" if isinstance(told, str) else f"{key} {told / found[key] - 1:+8.3%}")
    return "  ".join(words)


def told_of(found: Row) -> dict[str, int | str]:
    """What the coefficients say of a row, or why they do not."""
    model = model_of(found["config"])
    scenario = scenario_of(model, found["batch"], found["seq"])
    return {"saved": predicted_saved(model, scenario), "prefill": predicted_prefill(model, scenario)}


def main() -> None:
    """Measure, compare, write."""
    known = {item["type"]: item for item in recorded()}
    for found in rows_asked(__doc__, row, names()):
        known[found["type"]] = found
        write(known)
        print(line(found), flush=True)


def write(known: Mapping[str, Row]) -> None:
    """fixtures/oracle/small.json: a line a type."""
    lines = ",\n".join(f"  {json.dumps(known[name], separators=(',', ':'))}" for name in names() if name in known)
    TARGET.write_text(f'{json.dumps(head("tests.oracle.small"))[:-1]}, "rows": [\n{lines}\n]}}\n', encoding="utf-8")


if __name__ == "__main__":
    main()
