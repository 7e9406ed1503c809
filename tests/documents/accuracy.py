"""The tables and figures of docs/accuracy.md, and the lines of the README about them, by the commands that compare."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable, Mapping
from functools import cache
from typing import Final

from hfmem.probe.catalog import entries
from tests.measured import inference, llamacpp, training
from tests.measured.training import Comparison

__all__ = ["PIECES"]

_METHODS: Final = {
    "full": "full",
    "full (pretraining)": "full, Megatron Core",
    "lora": "LoRA",
    "qlora": "QLoRA",
    "gptq-lora": "LoRA on GPTQ",
}


@cache
def _training() -> tuple[Comparison, ...]:
    return tuple(training.compare())


def _done(tier: str) -> list[Comparison]:
    return [item for item in _training() if not item.reason and item.row["tier"] == tier]


def _within(errors: Iterable[float]) -> int:
    return sum(error <= 0.05 for error in errors)


def by_method() -> str:
    """Training peaks, a row for each method."""
    lines = ["| method | runs | median error | within 5 % |", "|---|---|---|---|"]
    for method, title in _METHODS.items():
        errors = [abs(item.error) for item in _done("A") if item.row["method"] == method]
        lines.append(
            f"| {title} | {len(errors)} | {statistics.median(errors):.2%} | {_within(errors)} |".replace("%", " %")
        )
    return "\n".join(lines)


def training_lines() -> str:
    """Training, in sentences."""
    peaks, second = ([abs(item.error) for item in _done(tier)] for tier in "AB")
    between = training.between_steps(_training())
    reasons = sum(bool(item.reason) for item in _training())
    told = (
        f"* Peaks: {len(peaks)} runs with all settings stated (tier A), median error {statistics.median(peaks):.1%}, "
        f"{_within(peaks)} of them within 5 %.\n"
        f"* What stays between steps: {len(between)} of those runs print it, median error "
        f"{statistics.median(between):.2%}.\n"
        f"* Runs where a setting is implied (tier B): {len(second)}, median error {statistics.median(second):.1%}, "
        f"{_within(second)} within 5 %.\n"
        f"* Left out: {reasons} rows, each with its reason, which the command prints."
    )
    return told.replace("%", " %").replace("  %", " %")


def readme_lines() -> str:
    """Five lines for the README: what was compared, with what, and how close it is."""
    peaks = [abs(item.error) for item in _done("A")]
    served = list(inference.end_to_end())
    cached = [each for each in inference.comparisons() if each.kind == "kv_per_tokens"]
    close, every = llamacpp.shares()["compute"]
    lines = (
        f"* **Training peaks**: {len(peaks)} runs on real GPUs, median error {statistics.median(peaks):.1%}, "
        f"{_within(peaks)} within 5 %.",
        f"* **vLLM servers**: tokens that fit, from the command line alone: {len(served)} start-up logs, median error "
        f"{statistics.median(each.error for each in served):.1%}, {_share(served, 0.01)} within 1 %.",
        f"* **Bytes per token** of servers: {len(cached)} logs, {_share(cached, 0.01)} within 1 %.",
        f"* **llama.cpp and Ollama**: {len(llamacpp.readings())} buffers of public logs; weights within 0.1 %, caches "
        f"equal, {close} of {every} compute buffers within 10 %.",
        f"* **Parameters**: equal to the published totals of {_published()} models, or the difference is named.",
    )
    return "\n".join(lines).replace("%", " %").replace("  %", " %")


def _published() -> int:
    """Models of the catalog with a total that somebody published (tests/test_catalog.py compares them)."""
    return sum(bool(entry.published) for entry in entries.read().values())


def _share(found: Iterable[inference.Comparison], within: float) -> int:
    return sum(each.error <= within for each in found)


PIECES: Final[Mapping[str, Callable[[], str]]] = {
    "tests.measured.inference": inference.table,
    "tests.documents accuracy": readme_lines,
    "tests.documents training": training_lines,
    "tests.documents methods": by_method,
}
"""What stands between the marks of each command."""
