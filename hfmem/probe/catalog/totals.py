"""Compares published totals with the tables: they must be equal, or differ by named parts.

The Hub publishes `safetensors.total`, the number of stored elements including buffers and MTP layers. Since 2026 it
counts packed 4-bit weights unpacked and omits scales; totals from before and after the change are in circulation.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from itertools import combinations
from math import prod
from pathlib import Path
from typing import Any, Final

from hfmem.fetcher.patterns import Row, expand_name
from hfmem.probe.catalog.entries import Entry

__all__ = ["DIFFERENCES", "by_dtype", "check", "explain", "parts", "read_rows", "with_published"]

DIFFERENCES: Final[dict[str, str]] = {
    "buffers": "stored buffers that are no parameters: rotary inv_freq, causal masks, position_ids",
    "router_biases": "e_score_correction_bias of the routers, a buffer that balances experts",
    "hash_tables": "token-to-expert tables of hash-routed layers, integers",
    "clip_ranges": "input and output ranges of clipped linear layers, scalars",
    "prediction_layers": "multi-token-prediction layers, stored beside the model and not built by its class",
    "scales": "scales of quantised weights, one per block, group or row",
    "scalar_scales": "scales of a whole weight or its input, one number each",
    "packing_data": "zero points, group indices and shapes that packed weights carry",
    "packing": "packed 4-bit weights counted as they lie in the file instead of unpacked (negative)",
}

_BUFFERS: Final = re.compile(
    r"(inv_freq|masked_bias|position_ids|num_batches_tracked|\.attention\.bias|^(transformer\.)?h\.\d+\.attn\.bias)$"
)
_CLIPS: Final = re.compile(r"\.(input|output)_(min|max)$")
_SCALES: Final = re.compile(
    r"(weight_scale|weight_scale_inv|_scales|\.scales|\.scale|_scale_inv|weight_scale_2|input_scale|k_scale|v_scale|input_scale_ub)$"
)
_PACKING_DATA: Final = re.compile(r"\.(qzeros|g_idx|weight_shape)$")
_LAYER: Final = re.compile(r"^model\.layers\.(\d+)\.")


def parts(entry: Entry) -> dict[str, int]:
    """Elements by part: `weights`, counted unpacked and without the parts in `DIFFERENCES`, and each of these parts."""
    found = dict.fromkeys(("weights", *DIFFERENCES), 0)
    layers = entry.config.get("num_hidden_layers") or 0
    for name, dtype, shape, count in _by_layer(entry.tensors):
        part = _part(name, shape, layers)
        stored = count * prod(shape)
        factor = _unpacked(name, dtype, entry.config) if part in ("weights", "prediction_layers") else 1
        found[part] += int(stored * factor)
        found["packing"] -= int(stored * factor) - stored
    return {part: count for part, count in found.items() if count}


def _by_layer(rows: Iterable[Row]) -> Iterator[tuple[str, str, tuple[int, ...], int]]:
    """One name per pattern and layer, with the number of tensors that it represents, as the experts of a layer all
    belong to the same part."""
    for pattern, dtype, shape in rows:
        head, brace, tail = pattern.partition("}")
        rest = list(expand_name(tail)) if brace else [""]
        for name in expand_name(head + brace):
            yield name + rest[0], dtype, shape, len(rest)


def _part(name: str, shape: tuple[int, ...], layers: int) -> str:
    layer = _LAYER.match(name)
    rules = (
        ("clip_ranges", _CLIPS.search(name)),
        ("buffers", _BUFFERS.search(name)),
        ("hash_tables", name.endswith("tid2eid")),
        ("packing_data", _PACKING_DATA.search(name)),
        ("scalar_scales", _SCALES.search(name) and prod(shape) == 1 and "mtp" not in name and _quantised(name)),
        ("scales", _SCALES.search(name) and _quantised(name)),
        ("router_biases", name.endswith("e_score_correction_bias") and not (layer and int(layer.group(1)) >= layers)),
        ("prediction_layers", ("mtp" in name) or (layer is not None and int(layer.group(1)) >= layers > 0)),
    )
    return next((part for part, holds in rules if holds), "weights")


def _quantised(name: str) -> bool:
    """Whether a scale belongs to a quantized weight; the routers of Gemma 4 have a parameter with such a name."""
    return "router" not in name


def _unpacked(name: str, dtype: str, config: Mapping[str, Any]) -> float:
    """The number of weights per stored element; more than 1 for packed tensors."""
    if dtype == "U8" and (name.endswith((".weight", "_blocks"))):
        return 2
    if dtype == "I8" and name.endswith(".weight"):
        return 2
    if dtype == "I32" and name.endswith((".qweight", ".weight_packed")):
        quantization = config.get("quantization_config") or config["text_config"]["quantization_config"]
        groups = quantization.get("config_groups")
        return float(32 / (groups["group_0"]["weights"]["num_bits"] if groups else quantization["bits"]))
    return 1


def explain(found: Mapping[str, int], total: int) -> dict[str, int] | None:
    """The parts that add up to the total with the weights, as many as possible; None if no choice does."""
    named = {part: count for part, count in found.items() if part != "weights"}
    for size in range(len(named), -1, -1):
        for chosen in combinations(named, size):
            if found["weights"] + sum(named[part] for part in chosen) == total:
                return {part: named[part] for part in chosen}
    return None


def with_published(entry: Entry, rows: Iterable[Mapping[str, Any]] = ()) -> Entry:
    """The entry with the published totals of its model, including those already in the catalog.

    Raises:
        ValueError: a total that is no sum of the entry's parts.
    """
    known = [*_figures(entry), *({key: row[key] for key in _KEPT if row.get(key)} for row in rows)]
    found = parts(entry)
    figures: dict[int, dict[str, Any]] = {}
    for row in known:
        differences = explain(found, row["total"])
        if differences is None:
            raise ValueError(f"{entry.model}: {row['total']} is not {found}")
        figure = {**figures.get(row["total"], {}), **row}
        figures[row["total"]] = {**figure, "weights": found["weights"], "differences": differences}
    if not figures:
        return entry
    first, *others = figures.values()
    return replace(entry, published={**first, **({"others": others} if others else {})})


def by_dtype(entry: Entry, figure: Mapping[str, Any]) -> dict[str, int]:
    """Elements by dtype, with the parts that the published figure includes, and packed weights counted as it does."""
    layers = entry.config.get("num_hidden_layers") or 0
    found: dict[str, int] = {}
    for name, dtype, shape, count in _by_layer(entry.tensors):
        part = _part(name, shape, layers)
        if part == "weights" or part in figure["differences"]:
            factor = 1 if "packing" in figure["differences"] else _unpacked(name, dtype, entry.config)
            found[dtype] = found.get(dtype, 0) + int(count * prod(shape) * factor)
    return found


_KEPT: Final = ("total", "by_dtype", "kind", "as_of", "source")


def _figures(entry: Entry) -> Iterator[dict[str, Any]]:
    for figure in _all_figures(entry):
        yield {key: figure[key] for key in _KEPT if key in figure}


def read_rows(path: Path) -> dict[str, list[dict[str, Any]]]:
    """Published rows by model, from a JSON-lines file with `model`, `total_parameters`, `kind`."""
    result: dict[str, list[dict[str, Any]]] = {}
    for row in map(json.loads, path.read_text(encoding="utf-8").splitlines()):
        if "total_parameters" in row:
            figure = {"total": row["total_parameters"], "by_dtype": row.get("parameters_by_dtype"), **row}
            result.setdefault(row["model"], []).append(figure)
    return result


def check(catalog: Mapping[str, Entry]) -> Iterator[str]:
    """A sentence for each total that does not add up."""
    for entry in catalog.values():
        found = parts(entry)
        for figure in _all_figures(entry):
            differences = figure["differences"]
            if figure["weights"] != found["weights"] or any(found.get(part) != n for part, n in differences.items()):
                yield f"{entry.model}: {figure['weights']} and {differences} are not those of the table, {found}"
            if figure["weights"] + sum(differences.values()) != figure["total"]:
                yield f"{entry.model}: {figure['weights']} + {differences} is not {figure['total']}"
            if "by_dtype" in figure and figure["by_dtype"] != by_dtype(entry, figure):
                yield f"{entry.model}: dtypes {by_dtype(entry, figure)} are not those published, {figure['dtypes']}"


def _all_figures(entry: Entry) -> list[Mapping[str, Any]]:
    return [entry.published, *entry.published.get("others", ())] if entry.published else []
