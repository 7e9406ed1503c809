"""What is known on this machine and may be meant by what is not: ids that are spelt alike, other states of a model."""

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


def near_ids(word: str) -> tuple[str, ...]:
    """Ids of the catalog and of the caches, the nearest first; of a name without its owner, those of any owner."""
    from difflib import get_close_matches  # for what is not found only

    whole = "/" in word
    known_ids = _known()
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
    """What the Hugging Face cache holds."""
    try:
        names = sorted(path.name for path in Path(constants.HF_HUB_CACHE).glob("models--*"))
    except OSError:
        return
    found = (name.removeprefix("models--").replace("--", "/", 1) for name in names)
    yield from filter(is_model_id, found)


def state(ref: ModelRef) -> str:
    """A model at a revision, and the quantisation that is meant of it, as the command line takes it."""
    quant = wanted(ref)
    return f"{ref.model_id}@{ref.revision}" + (f":{quant}" if quant else "")


def other_states(ref: ModelRef) -> tuple[str, ...]:
    """What this machine has of a model at other revisions, or of other quantisations, than it was asked for at."""
    alone = replace(ref, quant="", file="")
    kept = [replace(alone, revision=revision, quant=quant) for revision, quant in cache.states(ref.model_id)]
    found = [state(each) for each in kept if cache.load(each) is not None]
    there = [replace(alone, revision=revision) for revision in local.snapshots(ref.model_id)]
    found += [state(each) for each in there if local.snapshot(each) is not None]
    return tuple(dict.fromkeys(found))
