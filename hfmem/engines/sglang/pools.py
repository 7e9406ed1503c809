"""SGLang's pools on one rank: bytes of a token, of a token within the sliding window and of a slot of recurrent states,
and how the memory that is left is divided over them.

Source: SGLang 0.5.23 `srt/model_executor/pool_configurator.py` (`DefaultPoolConfigurator`,
`HybridSWAPoolConfigurator`) and `srt/mem_cache/kv_cache_configurator.py` (`_handle_max_mamba_cache`).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Final

from hfmem.dtypes import find_dtype
from hfmem.engines.sglang.drafts import draft_caches
from hfmem.engines.sglang.settings import Settings, settings_of
from hfmem.estimator.cache.sizes import CacheSize
from hfmem.estimator.scenario import Scenario
from hfmem.estimator.values import Term
from hfmem.mapper.caches import (
    COMPUTE,
    KV,
    Cache,
    Combined,
    CrossKV,
    Indexed,
    Latent,
    Nothing,
    Shared,
    State,
)
from hfmem.mapper.interpret import Model
from hfmem.unknown import Unknown

__all__ = ["Pooled", "Pools", "Widths", "cache_of", "capacity", "divided", "needed_pools", "widths_of"]

_SOURCE: Final = "SGLang 0.5.23, srt/model_executor/pool_configurator.py"
_STATES: Final = "SGLang 0.5.23, srt/mem_cache/kv_cache_configurator.py, configs/mamba_utils.py"
_INDEX_GROUP: Final = 128  # indexer key elements per scale
_INDEX_SCALE: Final = 4  # bytes of a scale
_SPARSE: Final = 656  # bytes of an FP8 latent under sparse attention: 512 of values, 16 of scales, 128 of rope part
_WIDE: Final = (0, 5, 14)  # the release that charges as much as it allocates
_PAGE_OF_LATENTS: Final = 64  # of sparse attention
_MOST: Final = 2**56


@dataclass(frozen=True, slots=True, kw_only=True)
class Widths:
    """Bytes of one rank's pools.

    Attributes:
        full: of a token with all layers' share that keep every token, drafts included.
        sliding: of a token in the pool for sliding windows.
        window: tokens of the longest window.
        slot: of a slot of recurrent states.
        drafts: of the states of a request's drafted tokens, as they are allocated.
        beyond: of a token, allocated but not counted when the pool is sized.
        page: tokens of a page.
        settings: the server's.
        replicas: replicas of attention, which share what is given for the server.
    """

    full: int
    sliding: int
    window: int
    slot: int
    drafts: int
    beyond: int
    page: int
    settings: Settings
    replicas: int = 1

    @property
    def ratio(self) -> float:
        """Tokens of the sliding pool, per token of the pool of all tokens."""
        return self.settings.swa_full_tokens_ratio if self.full else 1.0

    @property
    def token(self) -> float:
        """Bytes of a token of the pool with its share of the sliding one."""
        return self.full + self.ratio * self.sliding


@dataclass(frozen=True, slots=True, kw_only=True)
class Pools:
    """The pools of one rank.

    Attributes:
        tokens: of the pool, as the log counts them.
        sliding: tokens of the pool for sliding windows; 0 without.
        slots: for recurrent states; 0 without.
        drafts: requests with states of drafted tokens; 0 without.
        spare: bytes that are not enough for anything; negative where memory is missing.
    """

    tokens: int
    sliding: int = 0
    slots: int = 0
    drafts: int = 0
    spare: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Pooled(CacheSize):
    """The cache of one rank: the pools that hold the batch.

    Attributes:
        widths: bytes of the pools' units.
    """

    widths: Widths


def widths_of(model: Model, scenario: Scenario) -> Widths | Unknown:
    """The sizes of one rank's pools, or why they are unknown; `model` is the part on that rank."""
    architecture, asked = model.architecture, settings_of(scenario)
    if architecture.layers is None:
        return Unknown(architecture.unknown or "the layers of the architecture are not known")
    dtype, compute = find_dtype(scenario.kv_dtype or ""), find_dtype(scenario.compute_dtype or "")
    if dtype is None or compute is None:
        known = scenario.kv_dtype is None or scenario.compute_dtype is None
        return Unknown(
            "the dtype of the cache is not known: use --dtype or --kv-dtype"
            if known
            else f"SGLang's pool with --kv-cache-dtype {scenario.kv_dtype} is not modelled"
        )
    windowed = bool(asked.source.windowed.intersection(architecture.class_names))
    counted = _Counted(
        kv=float(dtype.bytes_each),
        compute=float(compute.bytes_each),
        state=_bytes(asked.mamba_ssm_dtype or architecture.state_dtype or "float32"),
        kernel=(model.parameters.conv_kernel if model.parameters else None) or 0,
        windowed=windowed,
        settings=asked,
    )
    own = replace(counted)
    caches = draft_caches(model, scenario)
    reason = counted.all_of(layer.cache for layer in architecture.layers) or own.all_of(caches)
    if reason:
        return Unknown(reason)
    if caches:
        counted.draft(own, len(caches))
    return Widths(
        full=round(counted.full),
        sliding=round(counted.sliding),
        window=counted.window,
        slot=round(counted.conv + counted.recurrent),
        drafts=round(counted.drafts),
        beyond=round(counted.beyond),
        page=asked.page_size or (_PAGE_OF_LATENTS if counted.sparse else 1),
        settings=asked,
        replicas=scenario.parallel.dp if asked.enable_dp_attention else 1,
    )


def _bytes(dtype: str) -> float:
    found = find_dtype(dtype)
    return float(found.bytes_each) if found else 4.0


@dataclass(slots=True, kw_only=True)
class _Counted:
    """The sum over layers; the first fields are bytes per element, and the last how many layers keep every token, and
    those of a window."""

    kv: float
    compute: float
    state: float
    kernel: int
    windowed: bool
    settings: Settings
    full: float = 0
    sliding: float = 0
    window: int = 0
    conv: float = 0
    recurrent: float = 0
    drafts: float = 0
    beyond: float = 0
    sparse: bool = False
    attending: int = 0
    windows: int = 0

    def all_of(self, caches: Iterable[Cache]) -> str:
        """Add layers; returns why one cannot be, "" if all are."""
        return next(filter(None, map(self.add, caches)), "")

    def draft(self, own: _Counted, layers: int) -> None:
        """Add the pool of a draft, which is charged as so many of the model's layers, and as large as its own are. A
        draft has no pool for windows, and no states."""
        charged = 0.0
        if self.settings.source.drafts_counted:
            whole, each = (self.full, self.attending) if self.attending else (self.sliding, self.windows)
            charged = int(whole * layers / each) if each else 0.0
        self.full += charged
        # what is charged and not allocated is not lent to anything else
        self.beyond += max(0.0, own.full + own.sliding + own.beyond - charged)

    def add(self, cache: Cache) -> str:
        """Add a layer; returns why it cannot be, "" if it is."""
        if isinstance(cache, Nothing | Shared):
            return ""
        if isinstance(cache, Combined):
            return next(filter(None, map(self.add, cache.caches)), "")
        if isinstance(cache, KV):
            self._attention(cache)
        elif isinstance(cache, Latent):
            self.full += (cache.rank + cache.rope_dim) * self.kv
            self.attending += 1
        elif isinstance(cache, State):
            self._recurrent(cache)
        elif isinstance(cache, Indexed) and isinstance(cache.attention, Latent):
            self._sparse(cache, cache.attention)
        elif isinstance(cache, CrossKV):
            return "SGLang's pool for cross-attention is not modelled"
        else:
            return f"SGLang's pool for {type(cache).__name__.lower()} layers is not modelled"
        return ""

    def _attention(self, cache: KV) -> None:
        each = cache.heads * (cache.key_dim + (cache.value_dim or cache.key_dim)) * self.kv
        if cache.window is not None and self.windowed:
            self.sliding += each
            self.window = max(self.window, cache.window)
            self.windows += 1
        else:
            self.full += each
            self.attending += 1

    def _recurrent(self, cache: State) -> None:
        """The state of a convolution and of the recurrence. Drafted tokens have a state each, but of the convolution
        they share the columns that they have in common (`intermediate_conv_window`)."""
        width = self.compute if cache.conv_dtype == COMPUTE else _bytes(cache.conv_dtype)
        # transformers also keeps the current token's column of a convolution
        column = cache.conv / self.kernel * width if self.kernel else 0.0
        columns = self.kernel - 1 if self.kernel else 0
        self.conv += column * columns if self.kernel else cache.conv * width
        self.recurrent += cache.recurrent * self.state
        if self.settings.drafted:
            self.drafts += cache.recurrent * self.state * self.settings.drafted
            self.drafts += column * (columns + self.settings.drafted - 1)

    def _sparse(self, cache: Indexed, latent: Latent) -> None:
        """A latent under sparse attention, and the indexer's keys in FP8 with their scales."""
        self.sparse = True
        self.attending += 1
        plain = (latent.rank + latent.rope_dim) * self.kv
        scaled = _SPARSE if self.kv == 1 else plain
        counted = scaled if self.settings.release >= _WIDE else plain
        self.full += counted
        self.beyond += scaled - counted
        self.full += cache.index_dim + cache.index_dim // _INDEX_GROUP * _INDEX_SCALE


def divided(rest: int, widths: Widths) -> Pools:
    """The pools in so many bytes."""
    asked = widths.settings
    slots = drafts = 0
    if widths.slot:
        slots, drafts = _slots(rest, widths)
        padded = slots + (1 if asked.source.padded_states else 0)
        rest -= (padded + drafts * asked.drafted) * widths.slot
    if rest <= 0 or not widths.token:
        return Pools(tokens=0, slots=max(0, slots), drafts=drafts, spare=rest)
    tokens = int(rest / widths.token)
    if asked.max_total_tokens:
        tokens = min(tokens, asked.max_total_tokens)
    tokens -= tokens % widths.page
    sliding = int(tokens * widths.ratio)
    sliding -= sliding % widths.page
    used = tokens * widths.full + sliding * widths.sliding
    return Pools(tokens=tokens, sliding=sliding if widths.sliding else 0, slots=slots, drafts=drafts, spare=rest - used)


def _slots(rest: int, widths: Widths) -> tuple[int, int]:
    """Slots of recurrent states, and requests with states of drafted tokens."""
    asked, slot = widths.settings, widths.slot
    drafted, kept = asked.drafted, asked.states_kept
    running = max(1, (asked.max_running_requests or 0) // widths.replicas)
    if asked.max_mamba_cache_size is not None:
        slots = asked.max_mamba_cache_size // widths.replicas
    elif asked.disable_radix_cache and asked.max_running_requests is not None:
        slots = running
    else:
        ratio = asked.mamba_full_memory_ratio
        budget = int(rest * ratio / (1 + ratio))
        if drafted:
            slots = int((budget - slot * (1 + drafted)) // (slot * (1 + drafted / kept)))
        else:
            slots = (budget - (slot if asked.source.padded_states else 0)) // slot
    slots = max(0, slots)
    if not drafted:
        return slots, 0
    return slots, min(running, slots // kept) + 1


def capacity(pools: Pools, widths: Widths, seq: int) -> float:
    """Requests of `seq` tokens that the pools hold at once."""
    pages = -(-seq // widths.page) * widths.page
    found = [float(_MOST)]
    if widths.full:
        found.append(pools.tokens / pages)
    if widths.sliding:
        found.append(pools.sliding / min(pages, widths.window + widths.page))
    if widths.slot:
        found.append(float(pools.slots // widths.settings.states_kept))
    return min(found)


def cache_of(found: Widths | Unknown, scenario: Scenario) -> Pooled | Unknown:
    """The smallest pools that hold the batch on one rank: they have a fixed ratio to each other, so that one of them
    may be larger than the batch needs."""
    if isinstance(found, Unknown):
        return found
    pools = needed_pools(found, scenario.batch, scenario.seq)
    terms = tuple(term for term in _terms(pools, found, scenario) if term.nbytes)
    needed = sum(term.nbytes for term in _terms(needed_pools(found, 1, scenario.seq), found, scenario))
    per_token = round(found.token) if found.full else 0
    return Pooled(widths=found, terms=terms, per_token=per_token, fixed=max(0, needed - per_token * scenario.seq))


def needed_pools(widths: Widths, batch: int, seq: int) -> Pools:
    """The smallest pools that hold a batch."""
    return divided(_least(widths, batch, seq), _unlimited(widths, batch))


def _least(widths: Widths, batch: int, seq: int) -> int:
    """The fewest bytes whose pools hold a batch, whatever the limits of the settings are."""
    if not widths.token and not widths.slot:
        return 0
    widths, low, high = _unlimited(widths, batch), 0, 1
    while not _holds(high, widths, batch, seq):
        high *= 2
        if high > _MOST:
            return high
    while low + 1 < high:
        middle = (low + high) // 2
        low, high = (low, middle) if _holds(middle, widths, batch, seq) else (middle, high)
    return high


def _unlimited(widths: Widths, batch: int) -> Widths:
    """The same without limits that the user set below what the batch needs: then requests wait."""
    asked = widths.settings
    slots = batch * asked.states_kept * widths.replicas
    states = asked.max_mamba_cache_size and max(asked.max_mamba_cache_size, slots)
    running = asked.max_running_requests and max(asked.max_running_requests, batch * widths.replicas)
    return replace(
        widths,
        settings=replace(asked, max_total_tokens=None, max_mamba_cache_size=states, max_running_requests=running),
    )


def _holds(rest: int, widths: Widths, batch: int, seq: int) -> bool:
    pools = divided(rest, widths)
    return pools.spare >= 0 and (not widths.token or pools.tokens > 0) and capacity(pools, widths, seq) >= batch


def _terms(pools: Pools, widths: Widths, scenario: Scenario) -> tuple[Term, ...]:
    kept = widths.settings
    slots = pools.slots + (1 if kept.source.padded_states and widths.slot else 0)
    whole = f"batch {scenario.batch} × {scenario.seq:,} tokens need a pool of {pools.tokens:,}"
    return (
        _term(
            "token pool",
            pools.tokens * (widths.full + widths.beyond),
            f"{whole} × {widths.full + widths.beyond:,} B",
            _SOURCE,
        ),
        _term(
            "sliding-window pool",
            pools.sliding * widths.sliding,
            f"{pools.sliding:,} tokens × {widths.sliding:,} B (--swa-full-tokens-ratio {kept.swa_full_tokens_ratio:g})",
            _SOURCE,
        ),
        _term(
            "states",
            slots * widths.slot,
            f"{slots:,} slots × {widths.slot:,} B ({kept.states_kept} a request)",
            _STATES,
        ),
        _term(
            "states of drafts",
            pools.drafts * widths.drafts,
            f"{pools.drafts:,} requests × {kept.drafted} tokens, {widths.drafts:,} B each",
            _STATES,
        ),
    )


def _term(name: str, nbytes: int, how: str, source: str) -> Term:
    return Term(name=name, group="kv_cache", nbytes=nbytes, how=how, source=source, certainty="derived")
