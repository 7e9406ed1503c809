"""The log of a llama.cpp server, from its start."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

from hfmem.engines.llamacpp.options import ALL_LAYERS
from hfmem.engines.logs import NUMBER, Logs, line
from hfmem.units import MIB

__all__ = ["LAYERS", "LOGS"]

_DEVICE: Final = r"\b(?P<device>[A-Za-z]\w*)"

LAYERS: Final = ("offloaded", re.compile(r"offloaded (\d+/\d+) layers to GPU"))
"""How many layers, the output among them, lie on accelerators."""


def _layers(settings: Mapping[str, object]) -> Mapping[str, object]:
    """The option that offloads so many layers, and flash attention by its word."""
    found: dict[str, object] = {}
    offloaded = settings.get("offloaded")
    if isinstance(offloaded, str):
        some, every = offloaded.split("/")
        found["n_gpu_layers"] = ALL_LAYERS if some == every else int(some[:9])
    flash = settings.get("flash")
    if flash is not None:
        found["flash_attn"] = "on" if flash in (1, "enabled") else "off"
    return found


LOGS: Final = Logs(
    lines=(
        line(rf"{_DEVICE} model buffer size = +{NUMBER} MiB", "weights", MIB, device=True),
        line(rf"load_tensors: +(?P<device>[A-Za-z]\w*) buffer size = +{NUMBER} MiB", "weights", MIB, device=True),
        line(rf"{_DEVICE} KV buffer size = +{NUMBER} MiB", "cache", MIB, device=True),
        line(rf"{_DEVICE} RS buffer size = +{NUMBER} MiB", "cache", MIB, device=True),
        line(rf"{_DEVICE} compute buffer size = +{NUMBER} MiB", "activations", MIB, device=True),
        line(rf"{_DEVICE} +output buffer size = +{NUMBER} MiB", "activations", MIB, device=True),
    ),
    settings=(
        ("ctx_size", re.compile(r"\bn_ctx +[=:] +(\d+)")),
        ("parallel", re.compile(r"\bn_seq_max +[=:] +(\d+)")),
        ("batch_size", re.compile(r"\bn_batch +[=:] +(\d+)")),
        ("ubatch_size", re.compile(r"\bn_ubatch +[=:] +(\d+)")),
        ("flash", re.compile(r"\bflash_attn +[=:] +([01]|enabled|disabled)\b")),
        ("kv_unified", re.compile(r"\bkv_unified +[=:] +(true|false)")),
        ("cache_type_k", re.compile(r"\bK \((\w+)\): +[\d.]+ MiB")),
        ("cache_type_v", re.compile(r"\bV \((\w+)\): +[\d.]+ MiB")),
        LAYERS,
        ("model", re.compile(r"general\.name +str +[=:] +(.+?)\s*$")),
    ),
    derive=_layers,
    starts=re.compile(r"llama_model_loader: loaded meta data|main: build = |build: \d+ \("),
    fixed=("ctx_size", "parallel"),
    source="llama.cpp, llama-model.cpp, llama-kv-cache.cpp, llama-context.cpp; up to 2024 weights are plain buffers",
)
