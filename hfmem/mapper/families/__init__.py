"""One module a family of architectures; each has `MODEL_TYPES` and `read(facts) -> Blueprint`.

To add an architecture: write its module (or add its type to a relative's), and name it in `_MODULES`. The oracle tests
then hold it against the real class. Modules are imported one at a time, when a model of their family is asked for.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import Final, cast

from hfmem.mapper.blueprint import Blueprint
from hfmem.mapper.facts import Facts

__all__ = ["KNOWN_TYPES", "reader"]

Reader = Callable[[Facts], Blueprint]

# model type -> module in this package
_MODULES: Final[dict[str, str]] = {
    "llama": "llama",
}

KNOWN_TYPES: Final = frozenset(_MODULES)


def reader(model_type: str) -> Reader | None:
    """The reader of a model type; None where no family knows it."""
    module = _MODULES.get(model_type)
    return None if module is None else cast(Reader, import_module(f"{__name__}.{module}").read)
