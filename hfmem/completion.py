"""Words that a shell completes: ids of models, accelerators, and what options take. Nothing is asked of the network."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Final

from hfmem.options.option import Declared

__all__ = ["completions", "models"]

_COUNT: Final = re.compile(r"[1-9]\d{0,3}x", re.IGNORECASE)


def models(begun: str) -> list[str]:
    """Ids that begin like this, in the catalog, among earlier answers, and among downloaded models. Empty for paths,
    which shells complete themselves."""
    if begun.startswith((".", "/", "~")):
        return []
    known = {each.lower(): each for each in _ids()}
    return list(_among((known[key] for key in sorted(known)), begun))


def _ids() -> Iterator[str]:
    """Ids of the same model come in several spellings; the last one is the right one."""
    from huggingface_hub import constants

    from hfmem.fetcher import cache, catalog

    yield from cache.model_ids()
    try:
        folders = [path.name for path in Path(constants.HF_HUB_CACHE).iterdir()]
    except OSError:
        folders = []
    yield from (name.removeprefix("models--").replace("--", "/", 1) for name in folders if name.startswith("models--"))
    yield from catalog.model_ids()


def completions(option: Declared, begun: str) -> list[str]:
    """Values of an option that begin like this; empty for one that takes any text, a number or a file."""
    if option.name == "gpu":
        return _accelerators(begun)
    words = _WORDS[option.name]() if option.name in _WORDS else option.choices
    return list(_among(words, begun, several=option.option.words))


def _among(words: Iterable[str], begun: str, *, several: bool = False) -> Iterator[str]:
    """Words that begin like this, or like its last part if several are separated by commas. What is there is kept as it
    is, as shells want to go on from it: case does not matter to ids and names."""
    last = begun.rpartition(",")[2] if several else begun
    return (begun + word[len(last) :] for word in words if word.lower().startswith(last.lower()))


def _accelerators(begun: str) -> list[str]:
    """Accelerators, with the count that was begun with, and dashes for spaces, which shells would take apart."""
    from hfmem.hardware.table import accelerators, instances

    found = _COUNT.match(begun)
    count = found[0] if found else ""
    names = [row.name.replace(" ", "-") for row in accelerators()]
    names += ["auto", "cpu", "me", *(row.name for row in instances())] if not count else []
    return [count + name for name in _among(names, begun[len(count) :])]


def _optimizers() -> Iterable[str]:
    from hfmem.estimator.recipe.optimizers import OPTIMIZERS

    return (row.name for row in OPTIMIZERS)


def _precisions() -> Iterable[str]:
    from hfmem.estimator.recipe.precisions import PRECISIONS

    return (row.name for row in PRECISIONS)


def _stacks() -> Iterable[str]:
    from hfmem.estimator.recipe.stacks import stack_names

    return stack_names()


def _dtypes() -> Iterable[str]:
    from hfmem.dtypes import RUN_DTYPES
    from hfmem.estimator.weights.quantisers import QUANTISERS

    return (*RUN_DTYPES, *(row.name for row in QUANTISERS))


def _kv_dtypes() -> Iterable[str]:
    from hfmem.dtypes import KV_DTYPES

    return KV_DTYPES


def _components() -> Iterable[str]:
    from hfmem.mapper.values import COMPONENTS

    return COMPONENTS


def _sort_keys() -> Iterable[str]:
    from hfmem.report.columns import SORT_KEYS

    return SORT_KEYS


def _topics() -> Iterable[str]:
    from hfmem.engines.table import engines
    from hfmem.options.panels import TOPICS

    return (*(row.name for row in engines()), *TOPICS)


_WORDS: Final[dict[str, Callable[[], Iterable[str]]]] = {
    "optimizer": _optimizers,
    "precision": _precisions,
    "stack": _stacks,
    "dtype": _dtypes,
    "kv_dtype": _kv_dtypes,
    "freeze": _components,
    "sort": _sort_keys,
    "help_for": _topics,
}
"""Words by the option's name, where they are in tables that its declaration does not see."""
