"""Every size of every type with a reader, changed one at a time: what the class of the installed `transformers` has.

    python -m tests.oracle.perturbed [TYPE…]     all types, or those named; writes fixtures/oracle/perturbed.json

A row a type: its small configuration (`hfmem.probe.tiny`), the parameters of the class, and for each change of one key
of it, or of a part of it, the parameters then. Changes that the class refuses are left out.
"""

from __future__ import annotations

import copy
import json
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from transformers import PreTrainedConfig

from hfmem.mapper.families import reader
from hfmem.probe import tiny
from tests.oracle.measure import parameters
from tests.oracle.rows import head, rows_asked

TARGET = Path(__file__).parents[2] / "fixtures" / "oracle" / "perturbed.json"

Row = dict[str, Any]

# Keys that name a token, a rate or a way of running, of which no size depends.
_OTHER: Final = ("token", "dropout", "_eps", "initializer", "theta", "seed", "label", "dtype", "output_", "return_dict")
_OWN: Final = ("use_cache", "torchscript", "is_encoder_decoder", "chunk_size_feed_forward", "use_prompt")

# Parts of a name that tells of a size which the class computes where the file has none.
_SIZES: Final = ("size", "dim", "heads", "num_", "rank", "width", "hidden")

# More than one that gives no count: what is left out of the record.
_MOST_PARAMETERS: Final = 10**12


# Classes of types that generate no text.
_ENCODERS: Final = {
    "deit": "DeiTForImageClassification",
    "donut-swin": "DonutSwinModel",
    "modernbert": "ModernBertForMaskedLM",
    "mpnet": "MPNetForMaskedLM",
    "nomic_bert": "NomicBertForMaskedLM",
}


def classes() -> dict[str, str]:
    """The class of each type."""
    return {**tiny.generating(), **_ENCODERS}


def names() -> list[str]:
    """The types whose class is built here and described by a reader."""
    found = []
    for name, class_name in sorted(classes().items()):
        if reader(tiny.config_type(name.partition(":")[0], class_name)):
            found.append(name)
    return found


def row(name: str) -> Row | None:
    """The row of one type; None where its class cannot be built small."""
    class_name = classes()[name]
    try:
        config = tiny.shrunk(tiny.config_type(name.partition(":")[0], class_name), class_name)
        total = parameters(config)
    except Exception:  # whatever a class raises
        return None
    changed = []
    for path, values in changes(config):
        for value in values:
            count = _count(put(config, path, value))
            if count is not None:
                changed.append([".".join(path), value, count])
                break
    return {"type": name, "config": config, "parameters": total, "changed": changed}


def changes(config: Mapping[str, Any]) -> Iterator[tuple[tuple[str, ...], list[Any]]]:
    """Each key of the configuration and of its parts that can be another size, and what to try."""
    for path, part in _parts(tiny.build(config)):
        for key, field in tiny.fields_of(part).items():
            if key in part.sub_configs or key in _OWN or any(word in key for word in _OTHER):
                continue
            values = _values(key, tiny.value(part, key), field.default)
            if values:
                yield (*path, key), values


def put(config: Mapping[str, Any], path: tuple[str, ...], value: Any) -> dict[str, Any]:
    """The configuration with one key changed."""
    changed = copy.deepcopy(dict(config))
    part, built = changed, tiny.build(config)
    for key in path[:-1]:
        built = getattr(built, key)
        part = part.setdefault(key, {"model_type": built.model_type} if built.model_type else {})
    part[path[-1]] = value
    return changed


def _parts(built: PreTrainedConfig, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], PreTrainedConfig]]:
    yield path, built
    for key in built.sub_configs:
        part = getattr(built, key, None)
        if isinstance(part, PreTrainedConfig):
            yield from _parts(part, (*path, key))


def _values(key: str, value: Any, default: Any) -> list[Any]:
    if isinstance(value, bool):
        return [not value]
    if isinstance(value, int):
        return [other for other in (2 * value, value + 1, value // 2, value - 1) if other > 0] if value > 0 else [1]
    if isinstance(value, float) and ("ratio" in key or "factor" in key):
        return [2 * value]
    if isinstance(value, list | tuple) and value and all(type(item) is int for item in value):
        return [[2 * item for item in value], list(value)[:-1], list(value)[::-1]]
    if value is None and default is None and any(word in key for word in _SIZES):
        return [24, 8, 2]
    return []


def _count(config: Mapping[str, Any]) -> int | None:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            total = parameters(config)
    except Exception:  # whatever a class raises
        return None
    return total if total < _MOST_PARAMETERS else None


def recorded() -> list[Row]:
    """The rows that were written last."""
    rows: list[Row] = json.loads(TARGET.read_text())["types"] if TARGET.exists() else []
    return rows


def main() -> None:
    """Count, write."""
    known = {item["type"]: item for item in recorded()}
    known |= {found["type"]: found for found in rows_asked(__doc__, row, names()) if found is not None}
    rows = [known[name] for name in names() if name in known]
    lines = ",\n".join(f"  {json.dumps(item, separators=(',', ':'))}" for item in rows)
    TARGET.write_text(f'{json.dumps(head("tests.oracle.perturbed"))[:-1]}, "types": [\n{lines}\n]}}\n')
    print(f"{len(rows)} types, {sum(len(item['changed']) for item in rows)} changes, {TARGET.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
