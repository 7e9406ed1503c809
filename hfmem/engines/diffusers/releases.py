"""The releases of diffusers: which one's classes were measured, what is said of others, and what they do not have."""

from __future__ import annotations

import re
from typing import Final

from hfmem.refusals.options import ReleaseError

__all__ = ["MAPPED", "MEASURED", "check_release", "number_of", "of_another"]

MEASURED: Final = "0.42.1"
"""As the rows of `hfmem/data/diffusers_calls.jsonl` say."""

_OLDEST: Final = "0.30"
_OPTION: Final = "--diffusers-version"

GROUPED: Final = "0.36"
"""The first with `DiffusionPipeline.enable_group_offload`, and `PipelineQuantizationConfig` by component."""

MAPPED: Final = (0, 33)
"""The first whose `from_pretrained` takes a dict of dtypes."""


def _parsed(version: str) -> tuple[int, int]:
    found = re.fullmatch(r"v?(\d{1,4})\.(\d{1,4})(?:\.\d{1,4})?(?:[.+-]\S*)?", version.strip())
    if found is None:
        raise ReleaseError(_OPTION, version, example=MEASURED)
    return int(found[1]), int(found[2])


def number_of(version: str | None) -> tuple[int, int] | None:
    """A release as numbers, without its patch; None where none is given.

    Raises:
        ReleaseError: it is no release, or one before the oldest that is known.
    """
    if version is None:
        return None
    number = _parsed(version)
    if number < _parsed(_OLDEST):
        raise ReleaseError(_OPTION, version, oldest=_OLDEST)
    return number


def check_release(version: str | None, *, grouped: bool, quantised: bool) -> None:
    """Refuse what a release does not have.

    Raises:
        ReleaseError: with the first release that has it.
    """
    number = number_of(version)
    if number is None or number >= _parsed(GROUPED):
        return
    if grouped or quantised:
        raise ReleaseError(_OPTION, version, oldest=GROUPED, lacks="group" if grouped else "quantised")


def of_another(version: str | None) -> bool:
    """Whether a release is another one than what was measured; patches of it are not."""
    return version is not None and number_of(version) != number_of(MEASURED)
