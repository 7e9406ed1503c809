"""hfmem: how much memory a Hugging Face model needs to run or to train, before anything is downloaded.

    >>> import hfmem
    >>> report = hfmem.estimate("meta-llama/Llama-2-7b-hf", batch=4, seq=4096)  # doctest: +SKIP
    >>> report.estimate.group("kv_cache")  # doctest: +SKIP
    8589934592

Names are imported when they are first used, so that `import hfmem` costs nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

from hfmem.errors import InvalidScenarioError

if TYPE_CHECKING:
    from hfmem.advice.values import Variants
    from hfmem.against.values import Against
    from hfmem.api import check, compare, estimate, inspect, variants
    from hfmem.errors import HfmemError
    from hfmem.estimator.scenario import Scenario
    from hfmem.estimator.values import Estimate, Term
    from hfmem.fetcher.values import Checkpoint, FileInfo, ModelRef, TensorInfo
    from hfmem.mapper.bundle import Bundle
    from hfmem.mapper.interpret import Model
    from hfmem.mapper.values import Architecture, Layer, ParameterTable, TensorGroup
    from hfmem.report.comparisons import Comparison
    from hfmem.report.values import Report
    from hfmem.scenario.options import Options

__version__: Final = "0.1.0"

_HOMES: Final[dict[str, str]] = {
    "Against": "hfmem.against.values",
    "Architecture": "hfmem.mapper.values",
    "Bundle": "hfmem.mapper.bundle",
    "Checkpoint": "hfmem.fetcher.values",
    "Comparison": "hfmem.report.comparisons",
    "Estimate": "hfmem.estimator.values",
    "FileInfo": "hfmem.fetcher.values",
    "HfmemError": "hfmem.errors",
    "Layer": "hfmem.mapper.values",
    "Model": "hfmem.mapper.interpret",
    "ModelRef": "hfmem.fetcher.values",
    "Options": "hfmem.scenario.options",
    "ParameterTable": "hfmem.mapper.values",
    "Report": "hfmem.report.values",
    "Scenario": "hfmem.estimator.scenario",
    "TensorGroup": "hfmem.mapper.values",
    "TensorInfo": "hfmem.fetcher.values",
    "Term": "hfmem.estimator.values",
    "Variants": "hfmem.advice.values",
    "check": "hfmem.api",
    "compare": "hfmem.api",
    "estimate": "hfmem.api",
    "inspect": "hfmem.api",
    "variants": "hfmem.api",
}

__all__ = [
    "Against",
    "Architecture",
    "Bundle",
    "Checkpoint",
    "Comparison",
    "Estimate",
    "FileInfo",
    "HfmemError",
    "Layer",
    "Model",
    "ModelRef",
    "Options",
    "ParameterTable",
    "Report",
    "Scenario",
    "TensorGroup",
    "TensorInfo",
    "Term",
    "Variants",
    "__version__",
    "check",
    "compare",
    "estimate",
    "inspect",
    "variants",
]


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module 'hfmem' has no attribute {name!r}")
    return getattr(import_module(home), name)


def __dir__() -> list[str]:
    return sorted(__all__)


def _words(error: InvalidScenarioError) -> str:
    from hfmem.report.refusals.words import words  # for what goes wrong only

    return words(error)


InvalidScenarioError.teller = _words
