"""The release of diffusers whose classes were measured, and what is said of others."""

from __future__ import annotations

import re
from typing import Final

from hfmem.refusals.options import ReleaseError

__all__ = ["MEASURED", "number_of", "of_another"]

MEASURED: Final = "0.42.1"
"""As the rows of `hfmem/data/diffusers_calls.jsonl` say."""

_OLDEST: Final = "0.36"
"""The first with all that the lines of Python use: `DiffusionPipeline.enable_group_offload` and
`PipelineQuantizationConfig` by component."""


def number_of(version: str) -> tuple[int, int]:
    """A release as numbers, without its patch.

    Raises:
        ReleaseError: it is no release, or one before the oldest that is known.
    """
    found = re.fullmatch(r"v?(\d{1,4})\.(\d{1,4})(?:\.\d{1,4})?(?:[.+-]\S*)?", version.strip())
    if found is None:
        raise ReleaseError("--diffusers-version", version, example=MEASURED)
    number = int(found[1]), int(found[2])
    if number < tuple(map(int, _OLDEST.split("."))):
        raise ReleaseError("--diffusers-version", version, oldest=_OLDEST)
    return number


def of_another(version: str | None) -> bool:
    """Whether a release is another one than what was measured; patches of it are not."""
    return version is not None and number_of(version) != number_of(MEASURED)
