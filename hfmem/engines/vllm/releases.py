"""What vLLM's source says, release by release: defaults by card, and rules of the KV cache. The newest row that is not
newer than the release applies.

Every value is read from the release's own source, and `fixtures/oracle/vllm_releases.json` has what was read
(`python -m tests.oracle.vllm_releases`). What only logs show is in `rules.py`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final, Literal

from hfmem.refusals.options import ReleaseError
from hfmem.units import GIB

if TYPE_CHECKING:
    from hfmem.hardware.values import Accelerator

__all__ = [
    "DEFAULT",
    "RELEASES",
    "CacheMode",
    "Packing",
    "Release",
    "Tier",
    "number_of",
    "read_of",
    "runs_first_engine",
    "sizes_of",
]

CacheMode = Literal["none", "align", "all"]
Packing = Literal["", "tuples", "slots", "dense", "groups"]

DEFAULT: Final = "0.33"
"""The release that `pip install vllm` installs."""

_LAST: Final = 10**4  # the patch of "0.27": its latest
_WITH_MEDIA: Final = 5120  # tokens of a step of the first engine, at least, where there may be images or sound
_CHUNKED_BEYOND: Final = 32_768  # tokens: the first engine chunked the prompts of longer contexts only
_SPARK: Final = "12.1"  # compute capability of the GB10


@dataclass(frozen=True, slots=True, kw_only=True)
class Tier:
    """The default sizes of a server on some cards (`engine/arg_utils.py`, the values of the API server).

    Attributes:
        seqs: `max_num_seqs`.
        tokens: `max_num_batched_tokens`.
        memory: the least memory of such a card in GiB.
        named: parts of names, one of which the card has; empty for all.
        but: parts of names that such a card does not have.
        capability: the compute capability that such a card does not have; "" for any.
    """

    seqs: int
    tokens: int
    memory: int = 0
    named: tuple[str, ...] = ()
    but: tuple[str, ...] = ()
    capability: str = ""

    def fits(self, gpu: Accelerator | None) -> bool:
        """Whether a card belongs to it."""
        if gpu is None or gpu.kind == "cpu" or gpu.vendor == "apple":  # on a Mac it runs on the CPU
            return not (self.memory or self.named)
        name = gpu.name.lower()
        return (
            gpu.memory >= self.memory * GIB
            and (not self.named or any(part in name for part in self.named))
            and not any(part in name for part in self.but)
            and (not self.capability or gpu.compute_capability != self.capability)
        )


_SMALL: Final = Tier(seqs=256, tokens=2048)
_LARGE: Final = Tier(seqs=1024, tokens=8192, memory=70)


@dataclass(frozen=True, slots=True, kw_only=True)
class Release:
    """The defaults and rules of a release.

    Attributes:
        since: the first release they apply to.
        utilization: `gpu_memory_utilization` (`config/cache.py`).
        tiers: default sizes; the first that fits the card.
        long_step: in releases that chunk the prompts of contexts beyond 32,768 tokens only, the tokens of such a step;
            shorter contexts have steps of the longest prompt. 0 where prompts are always chunked.
        first_below: compute capability of NVIDIA's cards below which the first engine (V0) runs, with its own sizes; 0
            for none (`_is_v1_supported_oracle`).
        windowed: whether layers with a sliding window, and with recurrent states, have KV cache groups of their own.
        chunked: whether layers with attention chunks have such groups, too
            (`VLLM_ALLOW_CHUNKED_LOCAL_ATTN_WITH_HYBRID_KV_CACHE`).
        checks_free: whether free memory at start-up must cover the whole budget (`request_memory`).
        counts_graphs: whether CUDA graphs count against the budget (`VLLM_MEMORY_PROFILER_ESTIMATE_CUDAGRAPHS`).
        counts_requests: whether the token count in the log is concurrency × length.
        yarn_stretches: whether the maximum context under YaRN is its original length × factor; else the config's length
            is taken as extended already.
        modes: how prefix caching may keep recurrent states (`MambaCacheMode`); empty where it keeps none.
        cached: whether prefix caching is on by default for models with attention and recurrent states.
        preferred: how it keeps the states of classes that support every mode; those of others are aligned, or not
            kept where `align` is no mode.
        refuses_states: whether the engine refuses more sequences than the pool has blocks, for models with recurrent
            states and full CUDA graphs (`config/compilation.py`).
        in_flight: whether windows are charged with the tokens of every step in flight, which asynchronous scheduling
            doubles (`VllmConfig.max_in_flight_tokens`).
        overlaps_stages: whether asynchronous scheduling is on with pipeline stages, too (model runner V2).
        pads_pages: whether a page that does not divide the largest is padded; else the engine does not start
            (`unify_kv_cache_spec_page_size`).
        packs: how layers with pages of several sizes share blocks: `tuples` of one page of each size, as many as the
            largest group has; `slots`, for each size as many; `dense`, the pages of each group from the beginning;
            `groups`, with groups that are formed so; "" where there is no way.
        latent_step: tokens of which a grown block of latents is a multiple, next to recurrent states.
        checkpoints: mixers that write a state inside of a prefill, and have a page more for it where states are
            aligned (`num_prefill_checkpoint_blocks`).
        nemotron: the dtype of Nemotron-H's recurrent states where its config has none; "" for the compute dtype, as
            is then used whatever the config has.
        qwen: whether Qwen3.5's states have the dtype of its config.
    """

    since: tuple[int, int, int]
    utilization: float = 0.9
    tiers: tuple[Tier, ...] = (_SMALL,)
    long_step: int = 0
    first_below: float = 0
    windowed: bool = False
    chunked: bool = False
    checks_free: bool = False
    counts_graphs: bool = False
    counts_requests: bool = False
    yarn_stretches: bool = True
    modes: tuple[CacheMode, ...] = ()
    cached: bool = False
    preferred: CacheMode = "all"
    refuses_states: bool = False
    in_flight: bool = False
    overlaps_stages: bool = False
    pads_pages: bool = False
    packs: Packing = ""
    latent_step: int = 16
    checkpoints: tuple[str, ...] = ()
    nemotron: str = ""
    nemotron_nested: bool = False
    qwen: bool = False

    @property
    def name(self) -> str:
        """The first release, e.g. `0.20`."""
        return ".".join(map(str, self.since if self.since[2] else self.since[:2]))


_V060: Final = Release(since=(0, 6, 0), long_step=512)
_V065: Final = replace(_V060, since=(0, 6, 5), long_step=2048)
_V080: Final = replace(
    _V065,
    since=(0, 8, 0),
    long_step=0,
    first_below=8.0,
    tiers=(replace(_SMALL, seqs=1024, tokens=8192, named=("h100", "h200")), replace(_SMALL, seqs=1024)),
)
_V084: Final = replace(
    _V080, since=(0, 8, 4), tiers=(replace(_SMALL, seqs=1024, tokens=8192, named=("h100", "h200")), _SMALL)
)
_V085: Final = replace(_V084, since=(0, 8, 5), tiers=(_LARGE, _SMALL))
_V090: Final = replace(_V085, since=(0, 9, 0), tiers=(replace(_LARGE, but=("a100",)), _SMALL))
_V091: Final = replace(_V090, since=(0, 9, 1), windowed=True, checks_free=True)
_V010: Final = replace(_V091, since=(0, 10, 0), chunked=True)
_V0101: Final = replace(_V010, since=(0, 10, 1), chunked=False)
_V0102: Final = replace(_V0101, since=(0, 10, 2), first_below=0)
_V0111: Final = replace(_V0102, since=(0, 11, 1), modes=("all",), latent_step=64)
_V013: Final = replace(_V0111, since=(0, 13, 0), nemotron="float16")
_V014: Final = replace(_V013, since=(0, 14, 0), chunked=True)
_V015: Final = replace(_V014, since=(0, 15, 0), modes=("all", "align", "none"))
_V017: Final = replace(_V015, since=(0, 17, 0), qwen=True)
_V020: Final = replace(
    _V017,
    since=(0, 20, 0),
    utilization=0.92,
    refuses_states=True,
    nemotron="float32",
    nemotron_nested=True,
    packs="tuples",
    counts_graphs=True,
)
_V0201: Final = replace(_V020, since=(0, 20, 1), counts_requests=True)
_V024: Final = replace(_V0201, since=(0, 24, 0), pads_pages=True, packs="slots")
_V026: Final = replace(_V024, since=(0, 26, 0), in_flight=True)
_V027: Final = replace(_V026, since=(0, 27, 0), latent_step=128, packs="dense")
_V028: Final = replace(
    _V027,
    since=(0, 28, 0),
    cached=True,
    preferred="align",
    tiers=(
        Tier(seqs=1024, tokens=16384, memory=160),
        replace(_LARGE, but=("a100",)),
        _SMALL,
    ),
)
_V029: Final = replace(_V028, since=(0, 29, 0), overlaps_stages=True, packs="groups", checkpoints=("kimi_kda",))
_V030: Final = replace(_V029, since=(0, 30, 0), yarn_stretches=False)
_V032: Final = replace(_V030, since=(0, 32, 0), modes=("align", "none"), checkpoints=("kimi_kda", "glm_kda", "ssd"))
_V033: Final = replace(
    _V032,
    since=(0, 33, 0),
    checkpoints=("kimi_kda", "glm_kda", "ssd", "gated_delta"),
    tiers=(_V028.tiers[0], replace(_V028.tiers[1], capability=_SPARK), _SMALL),
)

RELEASES: Final = (
    _V060,
    _V065,
    _V080,
    _V084,
    _V085,
    _V090,
    _V091,
    _V010,
    _V0101,
    _V0102,
    _V0111,
    _V013,
    _V014,
    _V015,
    _V017,
    _V020,
    _V0201,
    _V024,
    _V026,
    _V027,
    _V028,
    _V029,
    _V030,
    _V032,
    _V033,
)
"""Oldest first."""


def read_of(version: str | None) -> Release:
    """What the source of a release says (`0.19`, `v0.19.0`, `0.11.1rc3`); that of `DEFAULT` for None.

    Raises:
        ReleaseError: not a release, or older than the oldest row.
    """
    asked = number_of(version)
    found = [row for row in RELEASES if row.since <= asked]
    if not found:
        raise ReleaseError("--vllm-version", version, oldest=RELEASES[0].name)
    return found[-1]


def number_of(version: str | None) -> tuple[int, int, int]:
    """(major, minor, patch) of a release; the patch is the latest where none is given.

    Raises:
        ReleaseError: not a release.
    """
    match = re.match(r"^v?(\d{1,4})\.(\d{1,4})(?:\.(\d{1,4}))?", (DEFAULT if version is None else version).strip())
    if match is None:
        raise ReleaseError("--vllm-version", version, example=DEFAULT)
    return int(match[1]), int(match[2]), _LAST if match[3] is None else int(match[3])


def sizes_of(release: Release, gpu: Accelerator | None, length: int, *, whole: bool = False) -> tuple[int, int]:
    """Default sequences and tokens per step, for requests of up to `length` tokens; `whole` where the model has images
    or sound, whose prompts the first engine does not chunk (0.6.3 to 0.9.2, `engine/arg_utils.py`, `config.py`)."""
    if runs_first_engine(release, gpu) and not release.long_step:
        release = _V065
    tier = next(tier for tier in release.tiers if tier.fits(gpu))
    if not release.long_step:
        return tier.seqs, tier.tokens
    if whole:
        return tier.seqs, max(tier.tokens, length, _WITH_MEDIA)
    return tier.seqs, max(tier.tokens, length) if length <= _CHUNKED_BEYOND else release.long_step


def runs_first_engine(release: Release, gpu: Accelerator | None) -> bool:
    """Whether a release runs the first engine (V0) on a card."""
    if release.long_step:
        return True
    if gpu is None or gpu.vendor != "nvidia" or not release.first_below:
        return False
    try:
        return float(gpu.compute_capability) < release.first_below
    except ValueError:
        return False
