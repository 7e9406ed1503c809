"""Validation of the Hub's environment variables: `HF_ENDPOINT` and others."""

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
    """Refuse variables that `huggingface_hub` cannot parse, as every run needs its constants. An invalid `HF_ENDPOINT`
    is left to `endpoint_fault`, as it matters only for models from the Hub.

    Raises:
        UnreadableVariableError: with the name of the variable.
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
    """Why huggingface_hub's constants cannot be imported; None if they can."""
    try:
        import_module("huggingface_hub.constants")  # parses the environment on import
    except ValueError as error:
        return str(error)
    return None


def _is_to_blame(name: str, reason: str) -> bool:
    """Whether removing a variable changes the failure: the import succeeds, or fails for another variable."""
    value = os.environ.pop(name)
    try:
        return _unread() != reason
    finally:
        os.environ[name] = value


def endpoint_fault() -> str:
    """What is wrong with `HF_ENDPOINT`; "" if requests can be sent to it."""
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
    return "" if _has_port(parts) else f"HF_ENDPOINT is {shown}, whose port is not a number from 1 to 65535"


def _has_port(parts: SplitResult) -> bool:
    """Whether the address has no port or a valid one."""
    try:
        return parts.port != 0
    except ValueError:
        return False
