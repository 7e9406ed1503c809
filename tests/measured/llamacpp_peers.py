"""Who is right about a GGUF under llama.cpp: `python -m tests.measured.llamacpp_peers` prints the table; `--write` puts
it into `docs/llamacpp.md`. What others answer is in `fixtures/measured/llamacpp_peers.jsonl`, with its sources.
"""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from functools import cache
from typing import Any, Final

from hfmem.engines.llamacpp.allocator import HOST
from hfmem.engines.llamacpp.memory import memory_of
from hfmem.engines.llamacpp.settings import LlamaSettings
from hfmem.mapper.gguf.layout import layout_of
from tests.measured.llamacpp import FIXTURES, PAGE, model_of, put, scenario

__all__ = ["Answers", "answers", "page", "table"]

_GIB: Final = 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Answers:
    """What each says of a file, in GiB: all of it, and (hf-mem) weights and cache; None for no answer."""

    row: dict[str, Any]
    truth: float
    ours: float
    parser: float | None
    hf_mem: float
    cache_truth: float
    cache_hf_mem: float


@cache
def answers() -> tuple[Answers, ...]:
    """Every file."""
    lines = (FIXTURES / "llamacpp_peers.jsonl").read_text(encoding="utf-8").splitlines()[1:]
    return tuple(_answers(json.loads(line)) for line in lines)


def _answers(row: dict[str, Any]) -> Answers:
    parser = row["gguf_parser_gib"]
    return Answers(
        row=row,
        truth=sum(row["llamacpp_mib"]) / _GIB,
        ours=_ours(row) / _GIB,
        parser=None if parser is None else sum(parser),
        hf_mem=sum(row["hf_mem_mib"]) / _GIB,
        cache_truth=row["llamacpp_mib"][1] / _GIB,
        cache_hf_mem=row["hf_mem_mib"][1] / _GIB,
    )


def _ours(row: dict[str, Any]) -> float:
    """MiB of weights, cache and compute buffer on the processor."""
    found, model = model_of(row["file"])
    blocks = layout_of(found, model.architecture)
    assert blocks is not None
    settings = LlamaSettings(n_ctx=row["n_ctx"], flash=False, n_gpu_layers=0)
    memory = memory_of(blocks, model.architecture, settings, scenario(""), 0)
    assert memory.unknown == ()
    return sum(term.nbytes for term in memory.terms[HOST] if term.name != "output buffer") / 2**20


def _off(found: float | None, truth: float) -> str:
    return "–" if found is None else f"{found:.2f} ({round(found / truth - 1, 4) + 0.0:+.1%})"


def table() -> str:
    """Every file: what llama.cpp says, and how far the others are off."""
    lines = [
        "| file, context | llama.cpp itself | hfmem | gguf-parser-go | hf-mem | its cache |",
        "|---|---|---|---|---|---|",
    ]
    lines += [
        f"| {each.row['model']}, {each.row['n_ctx']:,} | {each.truth:.2f} | {_off(each.ours, each.truth)} "
        f"| {_off(each.parser, each.truth)} | {_off(each.hf_mem, each.truth)} "
        f"| {_off(each.cache_hf_mem, each.cache_truth)} |"
        for each in answers()
    ]
    return "\n".join(lines)


def page() -> str:
    """The page with the table as it is now."""
    return put(PAGE.read_text(encoding="utf-8"), "llamacpp_peers", table())


if __name__ == "__main__":
    if "--write" in sys.argv:
        PAGE.write_text(page(), encoding="utf-8")
    print(table())
