"""The log of Ollama's server. Since 0.12 it tells for each model where it lies and what that takes, on each device; it
tries several divisions, and the last is what it does. Its runner, llama.cpp, prints its buffers behind that.
"""

from __future__ import annotations

import re
from typing import Final

from hfmem.engines.llamacpp.logs import LOGS as RUNNER
from hfmem.engines.logs import NUMBER, Line, Logs, What, line
from hfmem.units import GIB, MIB

__all__ = ["LOGS"]

_NAMED: Final[tuple[tuple[str, What], ...]] = (
    ("model weights", "weights"),
    ("kv cache", "cache"),
    ("compute graph", "activations"),
)
_UNITS: Final = (("GiB", GIB), ("MiB", MIB), ("KiB", 1024.0))


def _lines() -> tuple[Line, ...]:
    """A pattern for each kind and unit."""
    place = r" (?:device|buffer|backend)=(?P<device>[A-Za-z]\w*)[^\"]{0,80} ?size="
    return tuple(
        line(rf"msg=\"{name}\"{place}\"{NUMBER} {unit}\"", what, scale, device=True, last=True)
        for name, what in _NAMED
        for unit, scale in _UNITS
    )


LOGS: Final = Logs(
    lines=_lines(),
    settings=(
        *RUNNER.settings,
        ("ctx_size", re.compile(r"\bKvSize:(\d+)")),
        ("parallel", re.compile(r"Parallel:(\d+)")),
    ),
    derive=RUNNER.derive,
    starts=re.compile(r"msg=\"starting (?:go|ollama) (?:runner|engine)|starting runner"),
    runs="llamacpp",
    fixed=RUNNER.fixed,
    source="Ollama 0.12 to 0.20, ml/device.go::DeviceInfo, llm/server.go (loadRequest)",
)
