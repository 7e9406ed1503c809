"""Estimates against what servers on real GPUs printed: `python -m tests.measured.inference` prints the table, with
`--rows` every comparison, with `--encoders` those of models that take images or sound; `--write` keeps the table and
every comparison in `fixtures/measured/inference.md`.

`fixtures/measured/inference.jsonl` has every reading with its source; a reading that cannot be compared says why
(`skipped`). `stands_for` names the model of the bundled catalog (or of `configs.jsonl`, with its origin) whose sizes
are the same, `assumed_dtype` the quantisation of the checkpoint.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from statistics import median
from typing import Any, Final

from hfmem import Model, inspect
from hfmem.engines.inference import Prepared
from hfmem.engines.vllm.cache import cache_of, layout_of
from hfmem.engines.vllm.loading import second_head
from hfmem.engines.vllm.releases import read_of, runs_first_engine
from hfmem.engines.vllm.split import RULES
from hfmem.estimator.scenario import Scenario
from hfmem.estimator.split.ranks import rank_model
from hfmem.estimator.split.stages import stages
from hfmem.estimator.values import Estimate
from hfmem.fetcher.values import Checkpoint, ModelRef
from hfmem.hardware.table import find
from hfmem.hardware.values import Accelerator, Machine
from hfmem.mapper.caches import KV
from hfmem.mapper.interpret import interpret
from hfmem.scenario.options import Options
from hfmem.scenario.resolve import resolve
from hfmem.units import GIB

__all__ = ["Comparison", "compare", "comparisons", "rows", "table"]

FIXTURES: Final = Path(__file__).parents[2] / "fixtures" / "measured"
Row = dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """A reading, and the estimate of it, both in GiB (tokens for `end_to_end`)."""

    row: Row
    kind: str
    family: str
    measured: float
    estimated: float

    @property
    def difference(self) -> float:
        """Estimate less reading."""
        return self.estimated - self.measured

    @property
    def error(self) -> float:
        """The difference as a share of the reading."""
        return abs(self.difference) / abs(self.measured) if self.measured else float(self.difference != 0)


@cache
def rows() -> tuple[Row, ...]:
    """Every reading."""
    return tuple(json.loads(line) for line in (FIXTURES / "inference.jsonl").read_text(encoding="utf-8").splitlines())


@cache
def _configs() -> dict[str, dict[str, Any]]:
    lines = (FIXTURES / "configs.jsonl").read_text(encoding="utf-8").splitlines()
    return {entry["name"]: entry["config"] for entry in map(json.loads, lines)}


@cache
def _model(name: str) -> Model:
    config = _configs().get(name)
    if config is None:
        return inspect(name, offline=True)
    return interpret(
        Checkpoint(ref=ModelRef(model_id=name), commit=None, source="local", provenance="a fixture", config=config)
    )


_FIRST_ENGINE: Final = "0.7.3"


def _version(row: Row) -> str:
    """The release of a row; older than the rules is taken as the oldest, unknown as 0.11, and one that was told to run
    the first engine (VLLM_USE_V1=0, whose log counts blocks of the GPU and the CPU) as the last with it alone."""
    named = _named(row)
    chosen = row.get("first_engine") and not runs_first_engine(read_of(named), _machine(row).accelerator)
    return _FIRST_ENGINE if chosen else named


def _named(row: Row) -> str:
    found = re.match(r"0\.(\d+)(\.\d+)?", row.get("engine_version") or "")
    if found is None or row["engine"] != "vllm":
        return "0.11"
    return f"0.{found[1]}{found[2] or ''}" if int(found[1]) >= 6 else "0.6"


def _machine(row: Row) -> Machine:
    """The card, with the memory that the log gives where it does; its kind decides the engine's defaults."""
    text = row.get("gpu") or ""
    name = next((known for known in _CARDS if known in text), None)
    card = find(_CARDS[name]).accelerator if name else find("H100" if _large(row) else "L4").accelerator
    total = re.search(r"([\d.]+) GiB", text)
    if total:
        card = _with_memory(card, int(float(total[1]) * GIB))
    return Machine(accelerator=card)


_CARDS: Final = {
    "H100": "H100",
    "A100": "A100 80GB",
    "L40S": "L40S",
    "4060": "RTX 4060",
    "2060": "RTX 2060 12GB",
    "3090": "RTX 3090",
    "5090": "RTX 5090",
    "GB10": "DGX Spark",
    "total 39.5": "A100 40GB",
    "total 94.97": "RTX PRO 6000",
    "total 14.74": "T4",
}


def _large(row: Row) -> bool:
    return (row.get("max_num_batched_tokens") or 0) >= 8192


def _with_memory(card: Accelerator, memory: int) -> Accelerator:
    return replace(card, memory=memory)


_QUANTISED: Final = {"fp8": "fp8"}


def _options(row: Row) -> Options:
    kv = row.get("kv_cache_dtype")
    dtype = row.get("assumed_dtype")
    online = row.get("quantization") in _QUANTISED and "stands_for" not in row and "FP8" not in row["model"]
    plain = {"half": "float16"}.get(row.get("dtype") or "", row.get("dtype"))
    if dtype is None and online:
        dtype = _QUANTISED[row["quantization"]]
    if kv == "auto" and "stands_for" in row and plain not in (None, "auto"):
        kv = plain  # the checkpoint that stands for it may bring scales of its own
    own = dtype is None and plain not in (None, "auto") and not row.get("quantization")
    return Options(
        runtime="vllm",
        vllm_version=_version(row),
        seq=row.get("max_model_len") or 4096,
        dtype=plain if own else dtype,
        kv_dtype=None if kv in (None, "auto") else kv,
        tp=row["tp"],
        pp=row["pp"],
        max_num_seqs=row.get("max_num_seqs"),
        max_num_batched_tokens=row.get("max_num_batched_tokens"),
        gpu_memory_utilization=row.get("gpu_memory_utilization"),
        enforce_eager=bool(row.get("enforce_eager")),
        enable_prefix_caching=row.get("enable_prefix_caching"),
        enable_lora="max_lora_rank" in row,
        max_lora_rank=row.get("max_lora_rank"),
        limit_mm_per_prompt=row.get("limit_mm_per_prompt"),
    )


@cache
def _estimated(key: str) -> tuple[Model, Scenario, Estimate]:
    row = json.loads(key)
    model = _as_loaded(_model(row.get("stands_for") or row["model"]), row)
    scenario = resolve(_options(row), model, _machine(row))
    return model, scenario, Prepared.of(model, scenario).estimate(scenario)


def _as_loaded(model: Model, row: Row) -> Model:
    """Without a head where the reading is of an embedding model; without quantising what the checkpoint leaves."""
    left = set((row.get("unquantised") or "").split())
    if model.parameters is None or not (left or row.get("without")):
        return model
    groups = (g for g in model.parameters.groups if g.component != row.get("without"))
    kept = tuple(replace(g, linear=False) if g.component in left else g for g in groups)
    return replace(model, parameters=replace(model.parameters, groups=kept))


def _facts(row: Row) -> str:
    """What the estimate depends on, as a key."""
    left_out = {"id", "kind", "subkind", "value_gib", "tokens", "blocks", "derived_gib_per_max_len_request", "log"}
    return json.dumps({k: v for k, v in row.items() if k not in left_out and k != "source_url"}, sort_keys=True)


def _family(model: Model) -> str:
    kinds = set(model.architecture.layer_kinds)
    layers = model.architecture.layers or ()
    if any(type(layer.cache).__name__ == "Latent" for layer in layers):
        return "MLA"
    if len(kinds - {"none", "shared"}) > 1 or any(type(layer.cache).__name__ == "Combined" for layer in layers):
        return "hybrid"
    return "experts" if model.architecture.experts else "dense"


def _group(estimate: Estimate, group: str, row: Row) -> float:
    """GiB of a group on the rank that logs: the first, of a pipeline; the last where the peak is meant."""
    ranks = sorted(estimate.ranks, key=lambda rank: rank.ranks[0])
    rank = None if not ranks else ranks[-1 if group == "activations" else 0]
    return (estimate.group(group, rank) or 0) / GIB  # type: ignore[arg-type] # a group's name


def _weights(row: Row) -> float:
    return _group(_estimated(_facts(row))[2], "weights", row)


def _load_peak(row: Row) -> float:
    """Before modules are repacked: what is made, and what is not needed any more then."""
    model, scenario, _ = _estimated(_facts(row))
    return _weights(row) + second_head(model, scenario) / GIB


def _peak(row: Row) -> float:
    return _group(_estimated(_facts(row))[2], "activations", row)


def _overhead(row: Row, *kinds: str) -> float:
    return sum(term.nbytes for term in _estimated(_facts(row))[2].terms if term.kind in kinds) / GIB


def _non_torch(row: Row) -> float:
    """The context and communication at the start of a worker, or what appears during the profile run."""
    if row.get("subkind") == "init":
        return _overhead(row, "context", "communication")
    return _overhead(row, "libraries")


def _graphs(row: Row) -> float:
    """What capturing takes of the free memory, or what the profile run expects it to take."""
    return _overhead(row, "graphs", *(() if row.get("subkind") == "estimated" else ("graph activations",)))


def _cache(row: Row) -> Any:
    model, scenario, _ = _estimated(_facts(row))
    stage = stages(len(model.architecture.layers or ()), scenario.parallel, RULES)[0]
    return cache_of(layout_of(rank_model(model, scenario.parallel, stage, RULES), scenario), scenario), scenario


def _per_request(row: Row) -> float:
    """GiB that one request of the longest length is charged with."""
    found, scenario = _cache(row)
    return found.layout.blocks(scenario.seq, scenario.serving) * found.layout.block_bytes / GIB


def _per_token(row: Row) -> float:
    """GiB of the pool that so many tokens take."""
    found, _ = _cache(row)
    return row["tokens"] * found.layout.block_bytes / found.layout.block / GIB


def _blocks(row: Row) -> float:
    found, _ = _cache(row)
    return row["blocks"] * found.layout.block_bytes / GIB


def _self_size(row: Row) -> float:
    """llama.cpp: full and sliding layers in caches of their own, of so many cells, in float16."""
    layers = _model(row.get("stands_for") or row["model"]).architecture.layers or ()
    caches = [layer.cache for layer in layers if isinstance(layer.cache, KV)]
    for windowed in (False, True):
        mine = [cache for cache in caches if (cache.window is not None) == windowed]
        if len(mine) == row["layers"] and (windowed == (row["cells"] < 2048) or len(mine) == len(caches)):
            return row["streams"] * sum(2 * row["cells"] * c.heads * (c.key_dim + c.value_dim) for c in mine) / GIB
    raise LookupError("no such set of layers")


def _footprint(row: Row) -> float:
    model = _model(row.get("stands_for") or row["model"])
    dtype = {"bnb int8": "int8", "bnb int4": "nf4"}.get(row.get("quantization") or "", row["dtype"])
    scenario = resolve(Options(dtype=dtype, seq=256), model)
    estimate = Prepared.of(model, scenario).estimate(scenario)
    return (estimate.total - (estimate.group("overhead") or 0)) / GIB


_BY_KIND: Final[dict[str, Callable[[Row], float]]] = {
    "weights": _weights,
    "load_peak": _load_peak,
    "kv_needed": _per_request,
    "gpu_blocks": _blocks,
    "activation_peak": _peak,
    "non_torch": _non_torch,
    "cuda_graph": _graphs,
    "kv_self_size": _self_size,
    "footprint": _footprint,
}


def _kv(row: Row, family: str) -> tuple[float, float]:
    """Readings of the pool: tokens for caches of one type, charge of a request for hybrids."""
    if family == "hybrid":
        return row["derived_gib_per_max_len_request"], _per_request(row)
    return row["value_gib"], _per_token(row)


def compare(row: Row) -> Comparison:
    """The estimate of a reading."""
    family = _family(_model(row.get("stands_for") or row["model"]))
    kind = row["kind"]
    measured, estimated = _kv(row, family) if kind == "kv_per_tokens" else (row["value_gib"], _BY_KIND[kind](row))
    return Comparison(row=row, kind=kind, family=family, measured=measured, estimated=estimated)


@cache
def comparisons() -> tuple[Comparison, ...]:
    """Every reading that can be compared."""
    return tuple(compare(row) for row in rows() if "skipped" not in row)


def end_to_end() -> Iterator[Comparison]:
    """Tokens of the KV cache on an H100, from the command line alone."""
    for row in rows():
        whole = row["kind"] == "kv_per_tokens" and row.get("gpu_memory_utilization") and row["engine"] == "vllm"
        if not whole or row.get("skipped", "").startswith(("no public", "its quant")):
            continue
        model, _, estimate = _estimated(_facts({k: v for k, v in row.items() if k != "skipped"}))
        tokens = estimate.serving.kv_tokens if estimate.serving else None
        yield Comparison(
            row=row, kind="end_to_end", family=_family(model), measured=row["tokens"], estimated=tokens or 0
        )


def _share(found: list[Comparison], within: Callable[[Comparison], bool]) -> str:
    return f"{sum(map(within, found))}/{len(found)}"


def table() -> str:
    """Readings by kind and family: how many, the median error, and how many are close."""
    every = [*comparisons(), *end_to_end()]
    lines = ["| reading | family | compared | median error | within 1 % | within 5 % | within 0.5 GiB |"]
    lines.append("|---|---|---|---|---|---|---|")
    for kind, family in sorted({(found.kind, found.family) for found in every}):
        mine = [found for found in every if (found.kind, found.family) == (kind, family)]
        close = "" if kind == "end_to_end" else _share(mine, lambda c: abs(c.difference) <= 0.5)
        lines.append(
            f"| `{kind}` | {family} | {len(mine)} | {median(c.error for c in mine):.1%} "
            f"| {_share(mine, lambda c: c.error <= 0.01)} | {_share(mine, lambda c: c.error <= 0.05)} | {close} |"
        )
    return "\n".join(lines)


def listing(every: Sequence[Comparison] | None = None) -> str:
    """Every comparison, or those given, the largest error of a kind first."""
    lines = ["| reading | family | model | release | tp | pp | log | estimate | error | row |", "|---" * 10 + "|"]
    chosen = [*comparisons(), *end_to_end()] if every is None else every
    for found in sorted(chosen, key=lambda c: (c.kind, -c.error, c.row["id"])):
        row, digits = found.row, 0 if found.kind == "end_to_end" else 2
        kind = f"{found.kind} {row['subkind']}" if "subkind" in row else found.kind
        lines.append(
            f"| {kind} | {found.family} | {row['model']} | {row.get('engine_version', '')} | {row['tp']} | {row['pp']} "
            f"| {found.measured:.{digits}f} | {found.estimated:.{digits}f} | {found.error:.1%} | {row['id']} |"
        )
    return "\n".join(lines)


def document() -> str:
    """The kept document: the table, what is not compared and why, and every comparison."""
    return (
        "# Readings of public servers, and the estimates of them\n\n"
        "Made by `python -m tests.measured.inference --write`. GiB; tokens for `end_to_end`. Rows and sources are in "
        f"`inference.jsonl`.\n\n{table()}\n\n"
        f"## Not compared\n\n| reading | rows | why |\n|---|---|---|\n{skipped()}\n\n"
        f"## Every comparison\n\n{listing()}\n"
    )


_ENCODERS: Final = {"vision", "audio"}


def with_encoders() -> list[Comparison]:
    """Comparisons of models that also take images or sound."""

    def has(row: Row) -> bool:
        table = _model(row.get("stands_for") or row["model"]).parameters
        return table is not None and bool({group.component for group in table.groups} & _ENCODERS)

    return [found for found in (*comparisons(), *end_to_end()) if found.row["engine"] == "vllm" and has(found.row)]


def skipped() -> str:
    """Readings that are not compared, by kind and reason."""
    counts: dict[tuple[str, str], int] = {}
    for row in rows():
        if "skipped" in row:
            counts[row["kind"], row["skipped"]] = counts.get((row["kind"], row["skipped"]), 0) + 1
    return "\n".join(f"| `{kind}` | {count} | {reason} |" for (kind, reason), count in sorted(counts.items()))


if __name__ == "__main__":
    if "--write" in sys.argv:
        (FIXTURES / "inference.md").write_text(document(), encoding="utf-8")
    print(table())
    print(f"\n| reading | not compared | why |\n|---|---|---|\n{skipped()}")
    if "--encoders" in sys.argv:
        print(f"\n{listing(with_encoders())}")
    if "--rows" in sys.argv:
        print(f"\n{listing()}")
