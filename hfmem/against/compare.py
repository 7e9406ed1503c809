"""An estimate held against a log, term by term."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any, Final

from hfmem.against.lines import logs
from hfmem.against.values import Against, Difference, Log, Reading, Row
from hfmem.engines.logs import What
from hfmem.estimator.scenario import Scenario
from hfmem.estimator.values import Estimate, total_of
from hfmem.options.option import flag
from hfmem.units import GIB, MIB

__all__ = ["compared"]

_NEAR: Final[dict[What, tuple[float, float]]] = {
    "weights": (0.02, 64 * MIB),
    "activations": (0.15, 256 * MIB),
    "graphs": (0.5, 512 * MIB),
    "libraries": (0.5, 512 * MIB),
    "per_token": (0.01, 16),
    "cache": (0.02, 16 * MIB),
    "request": (0.02, 16 * MIB),
    "states": (0.02, 64 * MIB),
    "free": (0.01, 256 * MIB),
    "consumed": (0.03, 512 * MIB),
    "peak": (0.2, 512 * MIB),
    "torch_peak": (0.03, 256 * MIB),
    "pool": (0.05, 256 * MIB),
    "tokens": (0.05, 64),
    "blocks": (0.05, 4),
    "concurrency": (0.05, 0.05),
    "allocated": (0.05, 128 * MIB),
    "reserved": (0.3, 512 * MIB),
    "used": (0.1, 512 * MIB),
}
"""How far figures of a kind may be apart, as a share and as an amount, and still agree: the larger of both."""


def compared(estimate: Estimate, scenario: Scenario, log: Log, model: str, taken: tuple[str, ...] = ()) -> Against:
    """The estimate against the log.

    Args:
        estimate: the estimate.
        scenario: its scenario.
        log: what the log says.
        model: the model's id.
        taken: settings that the scenario has from the log.
    """
    rows = tuple(_row(reading, estimate, scenario, log) for reading in log.readings)
    differences = tuple(_differences(log, scenario))
    return Against(
        log=log,
        rows=rows,
        differences=differences,
        taken=taken,
        contribution=_contribution(log, scenario, model),
    )


def _row(reading: Reading, estimate: Estimate, scenario: Scenario, log: Log) -> Row:
    estimated = _ESTIMATED[reading.what](estimate, scenario, log)
    if estimated is None:
        return Row(reading=reading, estimated=None, off=False)
    share, amount = _NEAR[reading.what]
    apart = abs(estimated - reading.value)
    if reading.least:
        apart = max(0.0, reading.value - estimated)
    return Row(reading=reading, estimated=estimated, off=apart > max(share * reading.value, amount))


_Of = Callable[[Estimate, Scenario, Log], float | None]


def _group(name: Any) -> _Of:
    return lambda estimate, _scenario, _log: estimate.group(name)


def _graphs(estimate: Estimate, _scenario: Scenario, _log: Log) -> float | None:
    found = [term for term in estimate.terms if term.kind in ("graphs", "graph activations")]
    return float(total_of(found)) if found else None


def _kinds(*kinds: str) -> _Of:
    """What terms of some kinds take together."""
    return lambda estimate, _scenario, _log: float(total_of(term for term in estimate.terms if term.kind in kinds))


def _sum(*groups: Any, kinds: tuple[str, ...] = ()) -> _Of:
    """What groups, and terms of some kinds beside them, take together."""

    def found(estimate: Estimate, scenario: Scenario, log: Log) -> float | None:
        parts = [estimate.group(group) for group in groups]
        known = [part for part in parts if part is not None]
        return sum(known) + (_kinds(*kinds)(estimate, scenario, log) or 0) if len(known) == len(parts) else None

    return found


def _request(estimate: Estimate, scenario: Scenario, _log: Log) -> float | None:
    """The cache of one request of the longest length."""
    cache = estimate.group("kv_cache")
    return None if cache is None else cache / max(1, scenario.batch)


def _activations(estimate: Estimate, _scenario: Scenario, log: Log) -> float | None:
    """Nothing where the server leaves room instead of a peak."""
    own = logs().get(log.software)
    return None if own is not None and own.leaves else estimate.group("activations")


def _per_token(estimate: Estimate, _scenario: Scenario, _log: Log) -> float | None:
    """Nothing for hybrids, whose tokens are counted by groups."""
    return None if estimate.kv_cache_fixed else estimate.kv_cache_per_token


def _states(_estimate: Estimate, _scenario: Scenario, _log: Log) -> float | None:
    """Not comparable: a log counts all slots, the estimate those of the batch."""
    return None


def _free(estimate: Estimate, scenario: Scenario, _log: Log) -> float | None:
    if scenario.gpu is None:
        return None
    outside = total_of(term for term in estimate.terms if term.kind in ("context", "communication"))
    return float(scenario.available - outside)


def _serving(name: str) -> _Of:
    def found(estimate: Estimate, _scenario: Scenario, _log: Log) -> float | None:
        value = getattr(estimate.serving, name) if estimate.serving is not None else None
        return None if value is None else float(value)

    return found


def _allocated(estimate: Estimate, _scenario: Scenario, _log: Log) -> float | None:
    if estimate.training is not None:
        return float(estimate.training.allocated)
    return float(total_of(term for term in estimate.terms if term.allocated))


def _reserved(estimate: Estimate, _scenario: Scenario, _log: Log) -> float | None:
    """Of training the middle of the range, less what is outside of the allocator."""
    if estimate.training is None:
        return float(total_of(term for term in estimate.terms if term.allocated))
    low, high = estimate.training.reserved
    return (low + high) / 2 - (estimate.total - estimate.training.allocated)


def _used(estimate: Estimate, _scenario: Scenario, _log: Log) -> float | None:
    """A server has its whole pool in use."""
    pool = estimate.serving.kv_pool if estimate.serving is not None else None
    beside = max(0, pool - (estimate.group("kv_cache") or 0)) if pool is not None else 0
    return float(estimate.total + beside)


_ESTIMATED: Final[dict[What, _Of]] = {
    "weights": _group("weights"),
    "activations": _activations,
    "graphs": _graphs,
    "libraries": _kinds("libraries"),
    "per_token": _per_token,
    "cache": _group("kv_cache"),
    "request": _request,
    "states": _states,
    "free": _free,
    "consumed": _sum("weights", kinds=("libraries",)),
    "peak": _sum("activations", kinds=("graphs",)),
    "torch_peak": _sum("weights", "activations"),
    "pool": _serving("kv_pool"),
    "tokens": _serving("kv_tokens"),
    "blocks": _serving("kv_blocks"),
    "concurrency": _serving("max_concurrency"),
    "allocated": _allocated,
    "reserved": _reserved,
    "used": _used,
}


def _differences(log: Log, scenario: Scenario) -> list[Difference]:
    """Settings of the log that the scenario has otherwise."""
    found = []
    for name, stated in log.settings.items():
        asked = _asked(name, scenario)
        if asked is not None and not _same(stated, asked):
            found.append(Difference(option=flag(name), stated=stated, asked=asked))
    if log.software in logs() and scenario.runtime != log.software:
        found.append(Difference(option="--runtime", stated=log.software, asked=scenario.runtime))
    return found


def _asked(name: str, scenario: Scenario) -> object:
    """The scenario's value of an option; None where it has none."""
    if name in ("tp", "pp", "dp"):
        return getattr(scenario.parallel, name)
    if name == "dtype":
        return scenario.compute_dtype
    if name == "kv_dtype":
        return scenario.kv_dtype
    if name == "seq":
        return scenario.seq
    return scenario.serving.fields().get(name) if scenario.serving is not None else None


def _same(stated: object, asked: object) -> bool:
    if isinstance(stated, str) and isinstance(asked, str):
        return stated == asked or (stated.startswith("fp8") and asked.startswith("float8"))
    if isinstance(stated, int | float) and isinstance(asked, int | float):
        return abs(float(stated) - float(asked)) < 1e-6
    return stated == asked or type(stated) is not type(asked)


_PATH: Final = re.compile(r"^(?:~|/|\.{1,2}/|[A-Za-z]:\\|\\\\)")


def _contribution(log: Log, scenario: Scenario, model: str) -> Mapping[str, object]:
    """The log as a row of measurements. A model in a folder of somebody's is named by its last part."""
    named = re.split(r"[\\/]", model.rstrip("\\/"))[-1] if _PATH.match(model) else model
    settings = {name: value for name, value in log.settings.items() if not isinstance(value, str) or "/" not in value}
    return {
        "model": named,
        "engine": log.software,
        "engine_version": log.version or None,
        "gpu": scenario.gpu.name if scenario.gpu is not None else None,
        "settings": settings,
        "readings": [
            {"kind": reading.what, "value": round(reading.value) if reading.value >= GIB / 1024 else reading.value}
            for reading in log.readings
        ],
    }
