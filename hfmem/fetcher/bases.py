"""The base model that an adapter's configuration names: which one it is, and whether it may be read."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from huggingface_hub import constants

from hfmem.errors import HfmemError
from hfmem.fetcher import local
from hfmem.fetcher.identity import is_model_id
from hfmem.fetcher.selection import select_for
from hfmem.fetcher.values import Checkpoint, ModelRef

__all__ = ["base_name", "with_base"]

_LONGEST_NAME = 300  # characters of a name that comes from a file


def base_name(checkpoint: Checkpoint) -> str:
    """The base model that adapter_config.json names, else the model card, on one line; "" for none."""
    return _text(checkpoint, "base_model_name_or_path") or checkpoint.card_base


def _text(checkpoint: Checkpoint, key: str) -> str:
    text: Any = (checkpoint.adapter or {}).get(key)
    return " ".join(text.split())[:_LONGEST_NAME] if isinstance(text, str) else ""


def with_base(found: Checkpoint, read: Callable[[ModelRef], Checkpoint]) -> Checkpoint:
    """An adapter's checkpoint with that of its base model; with a note where there is none to be had.

    A name from a repository of the Hub is only followed on the Hub: on this machine, a stranger's file does not decide
    what is read.

    Args:
        found: any checkpoint; one that is no adapter is returned as it is.
        read: reads the checkpoint of another model.
    """
    name = base_name(found)
    if not name or not found.tensors or select_for(found.files, found.ref).layout != "adapter":
        return found
    here = found.source == "local" and local.is_local(name)
    if not here and not is_model_id(name):
        return replace(found, notes=(*found.notes, f"Its base model is named {name}, which is no model of the Hub."))
    revision = _text(found, "revision") or constants.DEFAULT_REVISION
    try:
        base = read(ModelRef(model_id=name, revision=revision, hub=not here))
    except HfmemError as error:
        why = error.reason or error.code()
        return replace(found, notes=(*found.notes, f"Its base model {name} could not be read ({why})."))
    if base.adapter is not None and select_for(base.files, base.ref).layout == "adapter":
        return replace(found, notes=(*found.notes, f"Its base model {name} is an adapter itself."))
    return replace(found, base=base)
