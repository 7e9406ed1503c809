"""The layout of vLLM's KV cache: pages of one block of tokens each, and groups of layers that share a block table.

Source: vLLM 0.33.0 `v1/kv_cache_interface.py` (blocks of a request per layer), `models/deepseek_v4` (compressed entries
and the states of compressors), `platforms/interface.py` (pages of recurrent states); the groups are in `groups.py`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from math import ceil, lcm
from typing import Final

from hfmem.dtypes import find_dtype
from hfmem.engines.vllm.groups import Kind, Layout, Spec, grouped
from hfmem.engines.vllm.kvformats import CacheFormat, format_of
from hfmem.engines.vllm.settings import Settings
from hfmem.engines.vllm.shared import windowless
from hfmem.engines.vllm.states import Kept
from hfmem.mapper.caches import (
    COMPUTE,
    KV,
    Cache,
    Combined,
    Compressed,
    CrossKV,
    Indexed,
    Latent,
    Nothing,
    Shared,
    State,
)
from hfmem.mapper.values import Layer
from hfmem.unknown import Unknown

__all__ = ["Dtypes", "States", "layout"]

SPARSE_LATENT: Final = 656
"""Bytes per token of an FP8 latent under sparse attention: 512 of values, 16 of scales, 128 of 16-bit rope part."""

_INDEX_SCALE: Final = 4  # bytes of a float32 scale of indexer keys
_INDEX_GROUP: Final = 128  # indexer key elements per scale
_ONE_PAGE: Final = (0, 27)  # the first release that pads pages of layers in another dtype
_ALIGNMENT: Final = 16  # tokens: a grown block size is a multiple of this

# DeepSeek-V4 (models/deepseek_v4/{attention,compressor}.py, v1/attention/backends/mla/sparse_swa.py)
_ENTRY: Final = 584  # bytes of an entry: 448 of values, 128 of 16-bit rope part, 8 of scales
_ENTRY_BLOCK: Final = 256  # tokens of a block of compressed entries
_WINDOW_BLOCK: Final = 64  # tokens of a block of the window
_STATE_BLOCKS: Final = {4: 4, 128: 8}  # tokens of a block of a compressor's states, by tokens per entry
_PAGE_STEP: Final = 576  # bytes: pages are multiples of this


@dataclass(frozen=True, slots=True, kw_only=True)
class Dtypes:
    """Dtypes of keys and values, of activations, and of recurrent states (None: the compute dtype, as vLLM does not
    widen states by default, `mamba_utils.py::MambaStateDtypeCalculator`)."""

    kv: str
    compute: str
    state: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class States:
    """What recurrent states need beside their size.

    Attributes:
        kept: how they are kept.
        conv_kernel: the kernel size of their convolutions; None if there is none.
        drafted: tokens drafted per step, each of which has a state.
        beside: layers of a draft, which follow the model's.
    """

    kept: Kept
    conv_kernel: int | None = None
    drafted: int = 0
    beside: int = 0


def layout(
    layers: tuple[Layer, ...], settings: Settings, dtypes: Dtypes, states: States, in_flight: int
) -> Layout | Unknown:
    """The layout for some layers, or why it is unknown.

    Args:
        layers: the layers of one rank.
        settings: the server's settings.
        dtypes: the dtypes of the caches.
        states: how recurrent states are kept.
        in_flight: tokens of all steps in flight.
    """
    widths = _Widths(
        settings=settings,
        block=settings.block_size,
        packed=format_of(dtypes.kv),
        kv=_bytes(dtypes.kv),
        compute=_bytes(dtypes.compute),
        state=_bytes(dtypes.state or dtypes.compute),
        states=states,
        ahead=in_flight,
        compressed=any(_compresses(layer.cache) for layer in set(layers)),
    )
    specs: Counter[Spec] = Counter()
    packed, plain, ends = _at_boundaries(layers, widths)
    for (layer, at_end), count in Counter((layer, index in ends) for index, layer in enumerate(layers)).items():
        found = (plain if at_end else packed).specs(layer.cache, layer.kind)
        if isinstance(found, Unknown):
            return found
        for spec in found:
            specs[spec] += count
    return grouped(_paged_states(specs, settings, states.kept), settings)


def _at_boundaries(layers: tuple[Layer, ...], widths: _Widths) -> tuple[_Widths, _Widths, set[int]]:
    """The sizes of most layers, those of others, and which are these: some packed formats leave the first and the last
    layers of a model in the compute dtype, except in hybrids. Since 0.27, blocks are so large that their pages hold
    those of such layers (`Platform._align_heterogeneous_kv_block_size`)."""
    packed = widths.packed
    caches = [layer.cache for layer in layers if isinstance(layer.cache, KV)]
    depth = len(layers) - widths.states.beside
    left = 0 if packed is None or len(caches) < len(layers) else min(packed.boundary, depth // 2)
    if packed is None or packed.slot is None or not left:
        return widths, widths, set()
    first, plain = caches[0], replace(widths, packed=None, kv=widths.compute)
    if widths.settings.release >= _ONE_PAGE:
        row, wide = packed.slot(*_dims(first)), sum(_dims(first)) * int(widths.compute)
        block = widths.block * -(-wide // row)
        widths = replace(widths, block=block)
        plain = replace(plain, page=block * row * first.heads)
    return widths, plain, {*range(left), *range(depth - left, depth)}


def _dims(cache: KV) -> tuple[int, int]:
    return cache.key_dim, cache.value_dim or cache.key_dim


def _compresses(cache: Cache) -> bool:
    return isinstance(cache, Combined) and any(isinstance(part, Compressed) for part in cache.caches)


def _bytes(dtype: str) -> float:
    found = find_dtype(dtype)
    return float(found.bytes_each) if found else 2


@dataclass(frozen=True, slots=True, kw_only=True)
class _Widths:
    """Page sizes of layers for one server's dtypes, as bytes per element."""

    settings: Settings
    block: int
    packed: CacheFormat | None
    kv: float
    compute: float
    state: float
    states: States
    ahead: int
    compressed: bool
    page: int = 0  # of layers that keep the compute dtype, where those of others are larger

    def specs(self, cache: Cache, kind: str, *, sparse: bool = False) -> list[Spec] | Unknown:
        """The specs of one layer, or why they are unknown."""
        for known, make in self._makers(kind, sparse=sparse).items():
            if isinstance(cache, known):
                return make(cache)
        return Unknown(f"vLLM's cache layout for {kind.replace('_', ' ')} layers is not modelled")

    def _makers(self, kind: str, *, sparse: bool) -> dict[type, Callable[..., list[Spec] | Unknown]]:
        return {
            Nothing: lambda _: [],
            Shared: lambda _: [],  # such layers read the pages of another layer
            KV: lambda cache: _one(self._attention(cache, kind)),
            CrossKV: lambda cache: _one(self._cross(cache)),
            Latent: lambda cache: _one(self._latent(cache, sparse=sparse)),
            State: lambda cache: [self._state(cache)],
            Indexed: lambda cache: self._indexed(cache, kind),
            Combined: lambda cache: self._combined(cache, kind),
        }

    def _attention(self, cache: KV, kind: str) -> Spec | Unknown:
        block = self.block
        page = self.page or self._page(cache.heads, *_dims(cache))
        if not page:
            return self._unsupported(cache)
        chunked, own = kind.startswith("chunked"), self.settings.source
        in_groups = (own.chunked if chunked else own.windowed) and not windowless(self.settings)
        if cache.window is None or not in_groups:
            return Spec(kind="full", block=block, page=page)
        if self.compressed:
            return self._entries(_WINDOW_BLOCK, _WINDOW_BLOCK * _ENTRY, window=cache.window)
        name: Kind = "chunked" if chunked else "sliding"
        return Spec(kind=name, block=block, page=page, window=cache.window, ahead=self.ahead)

    def _page(self, heads: int, key: int, value: int) -> int:
        """Bytes of keys and values for a block; 0 where the format has none."""
        if self.packed is None:
            return int(self.block * heads * (key + value) * self.kv)
        return self.block * heads * self.packed.slot(key, value) if self.packed.slot else 0

    def _unsupported(self, cache: Cache) -> Unknown:
        where = "latents" if isinstance(cache, Latent) else "keys and values of heads"
        return Unknown(f"--kv-cache-dtype {self.packed.name if self.packed else ''} is not for {where}")

    def _entries(self, block: int, nbytes: int, *, window: int = 0) -> Spec:
        """Pages of DeepSeek-V4, of the given bytes before padding."""
        page = -(-nbytes // _PAGE_STEP) * _PAGE_STEP
        if not window:
            return Spec(kind="full", block=block, page=page, latent=True, packed=True)
        return Spec(kind="sliding", block=block, page=page, window=window, ahead=self.ahead, latent=True, packed=True)

    def _cross(self, cache: CrossKV) -> Spec | Unknown:
        page = self._page(cache.heads, cache.key_dim, cache.value_dim)
        return Spec(kind="cross", block=self.block, page=page) if page else self._unsupported(cache)

    def _latent(self, cache: Latent, *, sparse: bool) -> Spec | Unknown:
        """A latent with its rope part, replicated on every tensor-parallel rank."""
        alignment = self.settings.rules.latent_alignment
        row = -(-(cache.rank + cache.rope_dim) // alignment) * alignment
        nbytes = SPARSE_LATENT if sparse and self.kv == 1 else row * self.kv
        if self.packed is not None:
            if self.packed.latent is None:
                return self._unsupported(cache)
            nbytes = self.packed.latent(row)
        block = self.block
        whole = Spec(kind="full", block=block, page=int(block * nbytes), latent=True)
        if cache.window is None:
            return whole
        return replace(whole, kind="sliding", window=cache.window, ahead=self.ahead)

    def _state(self, cache: State) -> Spec:
        """A convolution state without the current token (`kernel` - 1 columns), but with those that are drafted, and a
        recurrent state."""
        kernel = self.states.conv_kernel
        # transformers also keeps the current token's column, which `cache.conv` includes
        columns = kernel - 1 + self.states.drafted * self.states.kept.widens if kernel else 0
        conv = cache.conv * columns // kernel if kernel else cache.conv
        nbytes = conv * self._dtype(cache.conv_dtype) + cache.recurrent * self.state
        return Spec(kind="state", block=0, page=ceil(nbytes), resident=self.states.kept.pages + self.states.drafted)

    def _dtype(self, name: str) -> float:
        return self.compute if name == COMPUTE else _bytes(name)

    def _indexed(self, cache: Indexed, kind: str) -> list[Spec] | Unknown:
        """The attention's spec, and one for the indexer's FP8 keys with a float32 scale per 128 elements."""
        inner = self.specs(cache.attention, kind, sparse=True)
        if isinstance(inner, Unknown):
            return inner
        row = cache.index_dim + -(-cache.index_dim // _INDEX_GROUP) * _INDEX_SCALE
        return [*inner, Spec(kind="full", block=self.block, page=self.block * row, latent=True)]

    def _compressed(self, cache: Compressed, entry: int) -> list[Spec] | Unknown:
        """Compressed entries of so many bytes, and the states of the compressor: the projection and the gate of each
        token in float32, kept as long as entries are computed from them."""
        block = _STATE_BLOCKS.get(cache.rate)
        if block is None:
            return Unknown(f"vLLM's cache layout for one entry per {cache.rate} tokens is not modelled")
        wide = 2 if cache.overlapping else 1
        state = block * 2 * wide * cache.dim * 4
        return [
            self._entries(_ENTRY_BLOCK, _ENTRY_BLOCK // cache.rate * entry),
            self._entries(block, state, window=wide * cache.rate),
        ]

    def _combined(self, cache: Combined, kind: str) -> list[Spec] | Unknown:
        found: list[Spec] = []
        head = next((part.key_dim for part in cache.caches if isinstance(part, KV)), 0)
        for part in cache.caches:
            if isinstance(part, Compressed):
                # those of the indexer are keys in FP8, with scales
                entry = _ENTRY if part.dim == head else part.dim + -(-part.dim // _INDEX_GROUP) * _INDEX_SCALE
                entries = self._compressed(part, entry)
                if isinstance(entries, Unknown):
                    return entries
                found += entries
                continue
            specs = self.specs(part, kind)
            if isinstance(specs, Unknown):
                return specs
            found += specs
        return found


def _one(found: Spec | Unknown) -> list[Spec] | Unknown:
    return found if isinstance(found, Unknown) else [found]


def _paged_states(specs: Counter[Spec], settings: Settings, kept: Kept) -> Counter[Spec]:
    """In hybrids of attention and recurrent layers, the attention block grows in steps until its page holds the largest
    state, and each state takes a page of that size (`Platform._align_hybrid_block_size`)."""
    largest = max((spec.page for spec in specs if spec.kind == "state"), default=0)
    attention = [spec for spec in specs if spec.kind != "state"]
    if not largest or not attention:
        return specs
    token = max(spec.page // spec.block for spec in attention)  # bytes per token
    own = settings.source.latent_step if any(spec.latent for spec in attention) else _ALIGNMENT
    step = lcm(max(own, settings.block_size), kept.step or 1)
    block = max(settings.block_size, step * -(-largest // (step * token)))
    grown: Counter[Spec] = Counter()
    for spec, count in specs.items():
        if spec.kind == "state":
            every = block if kept.mode == "all" else 0
            grown[replace(spec, block=every, page=max(block * token, largest))] += count
        else:
            grown[replace(spec, block=block, page=spec.page // spec.block * block)] += count
    return grown
