"""Suggestions for models that were not found: similar ids, and other cached revisions or quantisations."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from huggingface_hub import constants

from hfmem.fetcher import cache, catalog, local
from hfmem.fetcher.identity import is_model_id
from hfmem.fetcher.quantisations import wanted
from hfmem.fetcher.values import ModelRef

__all__ = ["near_ids", "other_states", "state"]

_SHOWN = 3


def near_ids(word: str, *, here: bool = True) -> tuple[str, ...]:
    """Similar ids from the catalog and, if `here`, from this machine's caches, the closest first; for a name without
    owner, those of any owner."""
    from difflib import get_close_matches  # only needed for suggestions

    whole = "/" in word
    known_ids = _known() if here else catalog.model_ids()
    namesakes = [each for each in known_ids if each.lower().rpartition("/")[2] == word.lower().rpartition("/")[2]]
    if namesakes and not whole:
        return tuple(namesakes[:_SHOWN])
    known: dict[str, str] = {}
    for each in known_ids:
        known.setdefault(each.lower() if whole else each.lower().rpartition("/")[2], each)
    found = [known[key] for key in get_close_matches(word.lower(), known, n=_SHOWN + 1, cutoff=0.8)]
    found = found or namesakes  # the right name under a wrong owner
    return tuple(each for each in found if each.lower() != word.lower())[:_SHOWN]


def _known() -> tuple[str, ...]:
    """Read anew each time: what another model's run has kept by now is known too."""
    return tuple(dict.fromkeys((*catalog.model_ids(), *_downloaded(), *cache.model_ids())))


def _downloaded() -> Iterator[str]:
    """Models in the Hugging Face cache."""
    try:
        names = sorted(path.name for path in Path(constants.HF_HUB_CACHE).glob("models--*"))
    except OSError:
        return
    found = (name.removeprefix("models--").replace("--", "/", 1) for name in names)
    yield from filter(is_model_id, found)


def state(ref: ModelRef) -> str:
    """A model with its revision and quantisation, as accepted on the command line."""
    quant = wanted(ref)
    return f"{ref.model_id}@{ref.revision}" + (f":{quant}" if quant else "")


def other_states(ref: ModelRef) -> tuple[str, ...]:
    """Other revisions and quantisations of a model on this machine than the requested one."""
    alone = replace(ref, quant="", file="")
    kept = [replace(alone, revision=revision, quant=quant) for revision, quant in cache.states(ref.model_id)]
    found = [state(each) for each in kept if cache.load(each) is not None]
    there = [replace(alone, revision=revision) for revision in local.snapshots(ref.model_id)]
    found += [state(each) for each in there if local.snapshot(each) is not None]
    return tuple(dict.fromkeys(found))
