"""What the environment says of the Hub, and whether it can be meant: `HF_ENDPOINT` and the variables beside it."""

from __future__ import annotations

import os
import re
from importlib import import_module
from typing import Final
from urllib.parse import SplitResult, urlsplit

from hfmem.refusals.files import UnreadableVariableError

__all__ = ["check", "endpoint_fault"]

_LOGIN: Final = re.compile(r"//[^/@]*@")


def check() -> None:
    """Refuse what `huggingface_hub` cannot read of the environment: every run needs its constants. An address of the
    Hub that it cannot read is left to `endpoint_fault`, as any other that is none: only the Hub's models need it.

    Raises:
        UnreadableVariableError: it names the variable.
    """
    reason = _unread()
    if reason is None:
        return
    names = sorted(name for name in os.environ if name.startswith(("HF_", "HUGGING")))
    named = next((name for name in names if _is_to_blame(name, reason)), "")
    if named == "HF_ENDPOINT" and _unread() is None:
        from huggingface_hub import constants

        constants.ENDPOINT = os.environ[named]
        return
    raise UnreadableVariableError(named, reason)


def _unread() -> str | None:
    """Why the constants cannot be made; None where they can."""
    try:
        import_module("huggingface_hub.constants")  # which reads the environment as it is imported
    except ValueError as error:
        return str(error)
    return None


def _is_to_blame(name: str, reason: str) -> bool:
    """Whether the constants can be made without a variable (and they are then), or another is in the way."""
    value = os.environ.pop(name)
    try:
        return _unread() != reason
    finally:
        os.environ[name] = value


def endpoint_fault() -> str:
    """What is wrong with the Hub's address; "" where a request can be sent to it."""
    from huggingface_hub import constants

    endpoint = constants.ENDPOINT
    shown = f"'{_LOGIN.sub('//', endpoint)[:100]}'" if endpoint.strip() else "empty"
    try:
        parts = urlsplit(endpoint)
        known = parts.scheme in ("http", "https") and parts.hostname
    except ValueError:
        known = None
    if not known:
        return f"HF_ENDPOINT is {shown}, expected an address such as https://huggingface.co"
    return "" if _has_port(parts) else f"HF_ENDPOINT is {shown}, whose port is no number from 1 to 65535"


def _has_port(parts: SplitResult) -> bool:
    """Whether the address has the port of its scheme, or one that there can be."""
    try:
        return parts.port != 0
    except ValueError:
        return False
