"""What SGLang's source says, release by release: the defaults from which `mem_fraction_static` follows, and which
models have a pool of their own for sliding windows. The newest row that is not newer than the release applies.

Every row is read from the release's wheel: `tests/oracle/sglang_releases.py` runs each release's own function on a
grid of cards and options and holds it against `fraction.py`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import Final

from hfmem.refusals.options import ReleaseError

__all__ = ["DEFAULT", "RELEASES", "Release", "Tier", "number_of", "read_of"]

DEFAULT: Final = "0.5.23"
"""The release that `pip install sglang` installs."""

_LAST: Final = 10**4  # the patch of "0.5": its latest


@dataclass(frozen=True, slots=True, kw_only=True)
class Tier:
    """Default sizes of a server on cards of less than `below` GiB.

    Attributes:
        below: GiB of the card; 0 for any.
        chunk: `chunked_prefill_size`.
        graphs: largest batch of a decoding graph with up to 3 tensor-parallel ranks.
        many: the same with 4 ranks or more.
    """

    below: int
    chunk: int
    graphs: int
    many: int


_TIERS: Final = (
    Tier(below=20, chunk=2048, graphs=8, many=8),
    Tier(below=35, chunk=2048, graphs=16, many=80),
    Tier(below=60, chunk=4096, graphs=32, many=160),
    Tier(below=160, chunk=8192, graphs=256, many=512),
    Tier(below=0, chunk=16384, graphs=512, many=512),
)

_WINDOWED_0_5_3: Final = frozenset({"Llama4ForConditionalGeneration"})
# until then, `disable_hybrid_swa_memory = True` for GPT-OSS (server_args.py of 0.5.3 to 0.5.7)
_WINDOWED_0_5_8: Final = _WINDOWED_0_5_3 | {"GptOssForCausalLM", "MiMoV2FlashForCausalLM", "MiMoV2MTP"}
_WINDOWED_0_5_11: Final = _WINDOWED_0_5_8 | {
    "Step3p5ForCausalLM",
    "Step3p5MTP",
    "Gemma4ForCausalLM",
    "Gemma4ForConditionalGeneration",
    "LagunaForCausalLM",
    "MiMoV2ForCausalLM",
}
_WINDOWED_0_5_18: Final = _WINDOWED_0_5_11 | {
    "Step3p7ForConditionalGeneration",
    "Gemma4UnifiedForConditionalGeneration",
    "MellumForCausalLM",
    "MuseGlimmerForCausalLM",
    "MuseGlimmerForConditionalGeneration",
    "InklingForConditionalGeneration",
    "InklingForConditionalGenerationMTP",
    "UnlimitedOCRForCausalLM",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Release:
    """The defaults and rules of a release.

    Attributes:
        since: the first release they apply to.
        tiers: default sizes by card.
        speculative: MiB reserved for speculative decoding with a draft.
        prefill_graphs: whether graphs of prefill are captured by default, and their number counts.
        prefill_ends: the largest such graph of models without latents: `chunk`, or not more than the `context`, too.
        fine: whether the list of these graphs has sizes from 576 on, else from 640 on.
        limited: whether `max_running_requests` limits the graphs of decoding.
        windowed: classes with a pool of their own for sliding windows.
        drafts_counted: whether a draft's pool and weights count before the pool is sized.
        whole_towers: classes whose vision tower every rank holds whole, as its layers are `nn.Linear`
            (models/kimi_vl_moonvit.py up to 0.5.15, models/kimi_k3.py).
        images: MiB kept back for the cache of images, for multimodal models.
        padded_states: whether a slot more than those in use is counted for recurrent states.
        current: whether options have their present names (`--cuda-graph-max-bs-decode`).
    """

    since: tuple[int, int, int]
    tiers: tuple[Tier, ...] = _TIERS
    speculative: int = 2048
    prefill_graphs: bool = False
    prefill_ends: str = "chunk"
    fine: bool = False
    limited: bool = False
    windowed: frozenset[str] = _WINDOWED_0_5_3
    drafts_counted: bool = False
    whole_towers: frozenset[str] = frozenset({"KimiVLForConditionalGeneration", "KimiK25ForConditionalGeneration"})
    images: int = 0
    padded_states: bool = False
    current: bool = False

    @property
    def name(self) -> str:
        """The first release, e.g. `0.5.3`."""
        return ".".join(map(str, self.since))


def _middle(tiers: tuple[Tier, ...], tier: Tier) -> tuple[Tier, ...]:
    return tuple(tier if each.below == tier.below else each for each in tiers)


_V3: Final = Release(since=(0, 5, 3))
_V4: Final = replace(_V3, since=(0, 5, 4), tiers=_middle(_TIERS, Tier(below=35, chunk=2048, graphs=24, many=80)))
_V8: Final = replace(_V4, since=(0, 5, 8), windowed=_WINDOWED_0_5_8)
_V10: Final = replace(_V8, since=(0, 5, 10), prefill_graphs=True, fine=True, speculative=4096)
_V11: Final = replace(_V10, since=(0, 5, 11), windowed=_WINDOWED_0_5_11, padded_states=True)
_V13: Final = replace(_V11, since=(0, 5, 13), prefill_ends="context")
_V14: Final = replace(
    _V13,
    since=(0, 5, 14),
    speculative=0,
    drafts_counted=True,
    current=True,
)
_V16: Final = replace(_V14, since=(0, 5, 16), whole_towers=frozenset({"KimiK3ForConditionalGeneration"}))
_V17: Final = replace(_V16, since=(0, 5, 17), prefill_ends="chunk", windowed=_WINDOWED_0_5_18)
_V18: Final = replace(_V17, since=(0, 5, 18), images=100)
_V20: Final = replace(_V18, since=(0, 5, 20), tiers=_middle(_TIERS, Tier(below=35, chunk=4096, graphs=48, many=160)))
_V22: Final = replace(_V20, since=(0, 5, 22), limited=True)

RELEASES: Final = (_V3, _V4, _V8, _V10, _V11, _V13, _V14, _V16, _V17, _V18, _V20, _V22)


def number_of(version: str | None) -> tuple[int, int, int]:
    """A release as numbers; a high patch where the user names none.

    Raises:
        ReleaseError: it is no release, or one before the oldest that is known.
    """
    word = version or DEFAULT
    found = re.fullmatch(r"v?(\d{1,4})\.(\d{1,4})(?:\.(\d{1,4}))?(?:[.+-]\S*)?", word.strip())
    if found is None:
        raise ReleaseError("--sglang-version", version, example=DEFAULT)
    number = int(found[1]), int(found[2]), int(found[3]) if found[3] else _LAST
    if number < RELEASES[0].since:
        raise ReleaseError("--sglang-version", version, oldest=RELEASES[0].name)
    return number


def read_of(version: str | None) -> Release:
    """The rules of a release.

    Raises:
        ReleaseError: as `number_of`.
    """
    number = number_of(version)
    return next(row for row in reversed(RELEASES) if row.since <= number)
