"""Differences between vLLM releases that logs show, in one table: the newest row that is not newer than the release
applies. What the source of every release says is in `releases.py`.

The rules follow the source of 0.19.0. A row is added where start-up logs of public servers show a change
(github.com/jgchn/llm-d-planner, accuracy/results: 0.15 to 0.19; github.com/unslothai/notebooks: 0.6 to 0.11).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final, Literal

from hfmem.engines.vllm.releases import number_of
from hfmem.refusals.options import ReleaseError

__all__ = ["RULES", "Rules", "release_of", "rules_of"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """The rules of a release, where releases differ.

    Attributes:
        since: the first release they apply to.
        sampler: how top-k and top-p are applied in the profile run: a `sort` of all logits, or a `triton` kernel with
            one row of scratch per multiprocessor.
        keeps_workspaces: whether the experts' scratch stays allocated after the forward pass.
        latent_alignment: a latent's row is padded to a multiple of this many elements.
    """

    since: tuple[int, int]
    sampler: Literal["sort", "triton"]
    keeps_workspaces: bool
    latent_alignment: int

    @property
    def name(self) -> str:
        """The first release, e.g. `0.17`."""
        return ".".join(map(str, self.since))


_V06: Final = Rules(
    since=(0, 6),
    sampler="sort",
    keeps_workspaces=False,
    latent_alignment=128,
)
_V09: Final = replace(_V06, since=(0, 9), latent_alignment=1)
_V13: Final = replace(_V09, since=(0, 13), keeps_workspaces=True)
_V17: Final = replace(_V13, since=(0, 17), sampler="triton")

RULES: Final = (_V06, _V09, _V13, _V17)
"""Oldest first."""


def rules_of(version: str | None) -> Rules:
    """The rules of a release (`0.19`, `v0.19.0`, `0.11.1rc3`); those of the default release for None.

    Raises:
        ReleaseError: not a release, or older than the oldest rules.
    """
    asked = release_of(version)
    found = [rules for rules in RULES if rules.since <= asked]
    if not found:
        raise ReleaseError("--vllm-version", version, oldest=RULES[0].name)
    return found[-1]


def release_of(version: str | None) -> tuple[int, int]:
    """(major, minor) of a release; of the default release for None.

    Raises:
        ReleaseError: not a release.
    """
    return number_of(version)[:2]
