"""The hardware that a user has saved on the Hub (https://huggingface.co/settings/hardware).

Format: https://huggingface.co/docs/hub/hardware, "Read hardware from the API". The name is that of the token's owner;
the token goes to the Hub's own address only.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

from huggingface_hub import constants

from hfmem.errors import HfmemError, UnexpectedAnswerError
from hfmem.fetcher.environment import endpoint_fault
from hfmem.fetcher.values import Access
from hfmem.refusals.options import ProfileGpuError

__all__ = ["Owned", "saved_hardware"]

_LONGEST: Final = 2**20  # bytes of an answer
_MOST: Final = 64  # items
_NAME: Final = re.compile(r"[A-Za-z0-9][\w.-]{0,95}", re.ASCII)
_KINDS: Final[dict[str, Literal["gpu", "cpu", "apple"]]] = {"GPU": "gpu", "CPU": "cpu", "Apple Silicon": "apple"}
_LARGEST: Final = 10**6  # GB, or units


@dataclass(frozen=True, slots=True, kw_only=True)
class Owned:
    """Hardware of one kind.

    Attributes:
        kind: gpu, cpu or apple (unified memory).
        name: the model, as the Hub calls it.
        memory: GB of one; for CPUs and Apple silicon, of the whole machine.
        count: how many.
    """

    kind: Literal["gpu", "cpu", "apple"]
    name: str
    memory: int
    count: int


def saved_hardware(asked: str, access: Access) -> tuple[str, tuple[Owned, ...]]:
    """The user's name, and the hardware that they saved, the primary one first.

    Args:
        asked: the value of `--gpu`, for errors.
        access: the token, and whether there is a network.

    Raises:
        ProfileGpuError: nothing is saved or shown, nobody is logged in, or the Hub does not answer.
    """
    if access.offline or constants.is_offline_mode():
        raise ProfileGpuError(asked, "offline")
    try:
        name, overview = _overview(asked, access)
    except HfmemError as error:
        if isinstance(error, ProfileGpuError):
            raise
        raise ProfileGpuError(asked, "answer", cause=error) from error
    items = overview.get("hardwareItems")
    found = [_owned(item) for item in items[:_MOST]] if isinstance(items, list) else []
    known = [item for item in found if item is not None]
    if not known:
        raise ProfileGpuError(asked, "nothing", user=name)
    return name, tuple(item for _, item in sorted(known, key=lambda row: not row[0]))


def _overview(asked: str, access: Access) -> tuple[str, Mapping[str, Any]]:
    """The user's name, and the public part of their profile."""
    if fault := endpoint_fault():
        raise UnexpectedAnswerError("", fault)
    from hfmem.fetcher.http import FileMissingError, client_for  # a tenth of a second, for runs with `--gpu me` only

    client = client_for("", access.token, patient=lambda: True)
    if "authorization" not in client.headers:
        raise ProfileGpuError(asked, "login")

    def read(path: str) -> Mapping[str, Any]:
        try:
            parsed = json.loads(client.get(f"{constants.ENDPOINT}/api/{path}", limit=_LONGEST).content)
        except (FileMissingError, ValueError, RecursionError) as error:
            raise UnexpectedAnswerError("", f"the answer about the user: {type(error).__name__}") from error
        if not isinstance(parsed, dict):
            raise UnexpectedAnswerError("", "the answer about the user is no JSON object")
        return parsed

    name = read("whoami-v2").get("name")
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise UnexpectedAnswerError("", "the answer about the token has no user's name")
    return name, read(f"users/{name}/overview")


def _owned(item: Any) -> tuple[bool, Owned] | None:
    """Whether an item is the primary one, and the item; None for one that is not as documented."""
    if not isinstance(item, dict):
        return None
    sku, memory, count = item.get("sku"), item.get("mem"), item.get("num", 1)
    if not (isinstance(sku, list) and len(sku) == 3 and all(isinstance(word, str) for word in sku)):
        return None
    kind = _KINDS.get(sku[0])
    size, units = _size(memory), _size(count)
    if kind is None or not size or not units:
        return None
    return item.get("isPrimary") is True, Owned(kind=kind, name=sku[2][:100], memory=size, count=units)


def _size(value: Any) -> int:
    """A number of GB or of units; 0 for anything else."""
    known = isinstance(value, (int, float)) and not isinstance(value, bool) and 1 <= value <= _LARGEST
    return int(value) if known else 0
