"""The log of a llama.cpp server, from its start."""

from __future__ import annotations

import re
from typing import Final

from hfmem.engines.logs import NUMBER, Logs, line
from hfmem.units import MIB

__all__ = ["LOGS"]

LOGS: Final = Logs(
    lines=(
        line(rf"\b(?P<device>[A-Za-z]\w*) model buffer size = +{NUMBER} MiB", "weights", MIB, device=True),
        line(rf"\b(?P<device>[A-Za-z]\w*) KV buffer size = +{NUMBER} MiB", "cache", MIB, device=True),
        line(rf"\b(?P<device>[A-Za-z]\w*) RS buffer size = +{NUMBER} MiB", "cache", MIB, device=True),
        line(rf"\b(?P<device>[A-Za-z]\w*) compute buffer size = +{NUMBER} MiB", "activations", MIB, device=True),
        line(rf"\b(?P<device>[A-Za-z]\w*) +output buffer size = +{NUMBER} MiB", "activations", MIB, device=True),
    ),
    settings=(
        ("ctx_size", re.compile(r"\bn_ctx +[=:] +(\d+)")),
        ("parallel", re.compile(r"\bn_seq_max +[=:] +(\d+)")),
        ("batch_size", re.compile(r"\bn_batch +[=:] +(\d+)")),
        ("ubatch_size", re.compile(r"\bn_ubatch +[=:] +(\d+)")),
        ("model", re.compile(r"general\.name +str +[=:] +(.+?)\s*$")),
    ),
    starts=re.compile(r"llama_model_loader: loaded meta data|main: build = |build: \d+ \("),
    fixed=("ctx_size", "parallel"),
    source="llama.cpp, llama-model.cpp, llama-kv-cache.cpp, llama-context.cpp",
)
