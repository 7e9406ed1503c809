"""Every text-generating type of `transformers`, held against the mapper.

    python -m tests.oracle.survey [TYPE…]        all types, or those named; writes fixtures/oracle/types.json

A row a type: whether its class runs (and how), whether what the mapper says of cache and parameters is what the
implementation has, for a small default configuration and for changes of it; or why it could not be built or run.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import torch
import transformers

from hfmem.dtypes import find_dtype
from hfmem.fetcher.values import Checkpoint, ModelRef
from hfmem.mapper.caches import COMPUTE, KV_DTYPE, Cache, Seen
from hfmem.mapper.families import reader
from hfmem.mapper.interpret import Model, interpret
from hfmem.probe import tiny
from hfmem.probe.parameters import count
from tests.oracle import measure

TARGET = Path(__file__).parents[2] / "fixtures" / "oracle" / "types.json"

Row = dict[str, Any]


def survey(model_type: str, *, changes: bool = True) -> Row:
    """The row of one type."""
    group, name = tiny.types()[model_type]
    row: Row = {"type": model_type, "group": group, "class": name}
    model_type = tiny.config_type(model_type.partition(":")[0], name)
    row["road"] = "reader" if reader(model_type) else "generic"
    try:
        config = tiny.shrunk(model_type, name)
    except Exception as error:  # whatever a class raises
        return row | {"runs": False, "why": f"no small configuration: {_sentence(error)}"}
    row |= compare(config)
    if row["runs"] and changes:
        found = [{"change": change, **compare(changed)} for change, changed in tiny.perturbed(config)]
        row["perturbed"] = [item for item in found if item["runs"]]
        row["refused"] = [item["change"] for item in found if not item["runs"]]
    return row


def compare(config: Mapping[str, Any]) -> Row:
    """What the class has and what the mapper says of one configuration."""
    try:
        kept, total = measure.cache(config), measure.parameters(config)
    except Exception as error:  # whatever a class raises
        return {"runs": False, "why": _sentence(error)}
    model = interpret(_checkpoint(config))
    architecture = model.architecture
    row: Row = {"runs": True, "how": kept.how, "bytes": kept.total, "parameters": total}
    if architecture.layers is None:
        row |= {"cache": None, "unknown": architecture.unknown}
    else:
        caches: list[Any] = [layer.cache for layer in architecture.layers]
        if "text model" in kept.how:  # whose encoder's tokens are as many as it was given
            caches = [_replaced(cache, "tokens", lambda _: None) for cache in caches]
        row |= _held(caches, kept)
    stated = None if model.parameters is None else model.parameters.total
    row["weights"] = None if stated is None else stated == total
    if stated not in (None, total):
        row["stated"] = stated
    if count(config) != total:
        row["probe"] = count(config)
    if not _written_out(config, model):
        row["written out"] = False
    return row


def _written_out(config: Mapping[str, Any], model: Model) -> bool:
    """Whether the file with every key, as `save_pretrained` writes it, means the same as the one of few keys."""
    full = tiny.jsonable(tiny.build(config)) | {key: config[key] for key in ("model_type", "architectures")}
    other = interpret(_checkpoint(full))
    pairs = [(item.architecture.layers, item.parameters and item.parameters.total) for item in (model, other)]
    return pairs[0] == pairs[1]


def _checkpoint(config: Mapping[str, Any]) -> Checkpoint:
    ref = ModelRef(model_id="org/tiny")
    return Checkpoint(ref=ref, commit=None, source="local", provenance="", config=dict(config))


def _held(caches: list[Cache], kept: measure.Kept) -> Row:
    """Whether every layer keeps what the mapper says, with the window as it is or one token less."""
    ours = [_bytes(cache, kept.dtype) for cache in caches]
    less = [_bytes(_one_less(cache), kept.dtype) for cache in caches]
    if len(ours) == len(kept.layers):
        equal = all(
            theirs in (mine, other) or (not sum(theirs.values()) and not sum(mine.values()))
            for mine, other, theirs in zip(ours, less, kept.layers, strict=True)
        )
    else:  # an encoder's layers, or the cache is not by layer
        equal = kept.total in (_total(ours), _total(less))
    if equal:
        return {"cache": True}
    return {"cache": False, "says": _compact(ours), "keeps": _compact(kept.layers)}


def _bytes(cache: Cache, compute: str) -> dict[str, int]:
    sums: dict[str, int] = {}
    for part in cache.parts(Seen(tokens=measure.TOKENS, source=measure.SOURCE)):
        name = compute if part.dtype in (KV_DTYPE, COMPUTE) else part.dtype
        dtype = find_dtype(name)
        assert dtype is not None
        if part.elements:
            sums[name] = sums.get(name, 0) + dtype.nbytes(part.elements) * measure.BATCH
    return sums


def _one_less(cache: Cache) -> Cache:
    """The cache with every window one token shorter: the implementation's, before the next token comes."""
    found: Cache = _replaced(cache, "window", lambda window: window - 1)
    return found


def _replaced(value: Any, key: str, change: Callable[[int], int | None]) -> Any:
    """A cache with each number at `key` changed, in whatever it is made of."""
    if isinstance(value, tuple):
        return tuple(_replaced(item, key, change) for item in value)
    if not dataclasses.is_dataclass(value) or isinstance(value, type):
        return value
    changes = {field.name: _replaced(getattr(value, field.name), key, change) for field in dataclasses.fields(value)}
    if isinstance(changes.get(key), int):
        changes[key] = change(changes[key])
    return dataclasses.replace(value, **changes)


def _total(layers: list[dict[str, int]]) -> int:
    return sum(sum(layer.values()) for layer in layers)


def _compact(layers: list[dict[str, int]]) -> list[str]:
    """Bytes by dtype, one word a layer, equal neighbours once with their number."""
    words = ["+".join(f"{size} {name}" for name, size in layer.items()) or "0" for layer in layers]
    found: list[list[Any]] = []
    for word in words:
        if found and found[-1][1] == word:
            found[-1][0] += 1
        else:
            found.append([1, word])
    return [f"{times} × {word}" for times, word in found]


def _sentence(error: Exception) -> str:
    words = " ".join(str(error).split())
    return f"{type(error).__name__}: {words}"[:300]


def held(row: Row) -> bool:
    """Whether the cache of a row and of all its changes is right."""
    return bool(row["runs"]) and all(item["cache"] is True for item in (row, *row.get("perturbed", ())))


def weighed(row: Row) -> bool | None:
    """Whether all parameters stated are right; None where the configuration alone tells none."""
    found = [item["weights"] for item in (row, *row.get("perturbed", ()))]
    return False if False in found else None if None in found else True


def main() -> None:
    """Survey, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("types", nargs="*")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--dry", action="store_true", help="do not write")
    arguments = parser.parse_args()
    started = time.monotonic()
    known = {row["type"]: row for row in recorded()}
    for row in run(arguments.types or sorted(tiny.generating()), arguments.jobs):
        print(line(row), flush=True)
        known[row["type"]] = row
    rows = [known[name] for name in sorted(tiny.generating()) if name in known]
    print(summary(rows), f"\n{time.monotonic() - started:.0f} s")
    if not arguments.dry:
        write(rows)


def recorded() -> list[Row]:
    """The rows that were written last."""
    rows: list[Row] = json.loads(TARGET.read_text())["types"] if TARGET.exists() else []
    return rows


def run(names: list[str], jobs: int) -> Iterator[Row]:
    """The rows of several types, in processes of their own."""
    if jobs == 1:
        yield from map(survey, names)
        return
    with ProcessPoolExecutor(jobs, mp_context=get_context("spawn")) as pool:
        yield from pool.map(survey, names)


def line(row: Row) -> str:
    """A row as a line of the table."""
    head = f"{row['type']:30} {row['group']:15} {row['road']:8}"
    if not row["runs"]:
        return f"{head} not run: {row['why']}"
    items = (row, *row["perturbed"])
    caches = f"cache {sum(item['cache'] is True for item in items)}/{len(items)}"
    weights = f"weights {sum(item['weights'] is True for item in items)}/{len(items)}"
    reason = next((item["unknown"] for item in items if item.get("unknown")), "")
    wrong = [item.get("change", "default") for item in items if item["cache"] is False]
    light = [item.get("change", "default") for item in items if item["weights"] is False]
    rest = [reason, f"cache differs: {', '.join(wrong)}" if wrong else ""]
    rest += [f"weights differ: {', '.join(light)}" if light else ""]
    return f"{head} {caches:12} {weights:14} {'; '.join(filter(None, rest))}"


def summary(rows: list[Row]) -> str:
    """Totals a group and road."""
    lines = [f"{'':26} types  run  cache right  unknown  wrong  weights right  none  wrong"]
    groups = [*tiny.GROUPS]
    parts = {
        f"{group} {road}": [r for r in rows if (r["group"], r["road"]) == (group, road)]
        for group in groups
        for road in ("reader", "generic")
    }
    parts |= {"causal and image-text": [r for r in rows if r["group"] in groups[:2]], "all": rows}
    for name, members in parts.items():
        ran = [row for row in members if row["runs"]]
        right = sum(held(row) for row in ran)
        unknown = sum(row["cache"] is None for row in ran)
        weights = [weighed(row) for row in ran]
        lines.append(
            f"{name:26} {len(members):5} {len(ran):4} {right:12} {unknown:8} {len(ran) - right - unknown:6} "
            f"{weights.count(True):14} {weights.count(None):5} {weights.count(False):6}"
        )
    return "\n".join(lines)


def write(rows: list[Row]) -> None:
    """fixtures/oracle/types.json: a line a type."""
    head = {"tool": "python -m tests.oracle.survey", "transformers": transformers.__version__}
    head["torch"] = torch.__version__.partition("+")[0]
    lines = ",\n".join(f"  {json.dumps(row, ensure_ascii=False)}" for row in rows)
    TARGET.write_text(f'{json.dumps(head)[:-1]}, "types": [\n{lines}\n]}}\n')


if __name__ == "__main__":
    main()
