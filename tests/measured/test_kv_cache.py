"""Bytes of cache a token, against what servers on real GPUs printed (`kv_cache.jsonl`, each row with its source).

Rows are of models whose layers all keep the full context. Left out: ranks of a pipeline, whose token count is that of
another rank, and encoder-decoders, which servers charge in two groups.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from hfmem import estimate
from hfmem.mapper.caches import KV

ROWS = [json.loads(line) for line in (Path(__file__).parent / "kv_cache.jsonl").read_text().splitlines()]


def per_token(row: dict[str, Any]) -> float:
    """Ours, on one of the row's tensor-parallel ranks: heads are split as far as there are any, a latent is not."""
    chosen = row["dtype"] if row["kv_cache_dtype"] == "auto" else row["kv_cache_dtype"]
    report = estimate(row["model"], seq=1000, offline=True, kv_dtype=None if chosen == "auto" else chosen)
    cache = report.architecture.layers[0].cache if report.architecture.layers else None
    ranks = min(row["tp"], cache.heads) if isinstance(cache, KV) else 1
    return (report.estimate.kv_cache_per_token or 0) / ranks


def test_there_are_rows() -> None:
    assert len(ROWS) >= 30
    assert all(row["source"] for row in ROWS)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row['model']}-{row['engine']}-tp{row['tp']}")
def test_a_token_takes_what_the_server_says(row: dict[str, Any]) -> None:
    assert per_token(row) == pytest.approx(row["gib"] * 2**30 / row["tokens"], rel=0.01)
