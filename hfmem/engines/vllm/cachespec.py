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
from hfmem.engines.vllm.settings import Settings
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
    """

    kept: Kept
    conv_kernel: int | None = None


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
        kv=_bytes(dtypes.kv),
        compute=_bytes(dtypes.compute),
        state=_bytes(dtypes.state or dtypes.compute),
        states=states,
        ahead=in_flight,
        compressed=any(_compresses(layer.cache) for layer in set(layers)),
    )
    specs: Counter[Spec] = Counter()
    for layer, count in Counter(layers).items():
        found = widths.specs(layer.cache, layer.kind)
        if isinstance(found, Unknown):
            return found
        for spec in found:
            specs[spec] += count
    return grouped(_paged_states(specs, settings, states.kept), settings)


def _compresses(cache: Cache) -> bool:
    return isinstance(cache, Combined) and any(isinstance(part, Compressed) for part in cache.caches)


def _bytes(dtype: str) -> float:
    found = find_dtype(dtype)
    return float(found.bytes_each) if found else 2


@dataclass(frozen=True, slots=True, kw_only=True)
class _Widths:
    """Page sizes of layers for one server's dtypes, as bytes per element."""

    settings: Settings
    kv: float
    compute: float
    state: float
    states: States
    ahead: int
    compressed: bool

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
            KV: lambda cache: [self._attention(cache, kind)],
            CrossKV: lambda cache: [self._cross(cache)],
            Latent: lambda cache: [self._latent(cache, sparse=sparse)],
            State: lambda cache: [self._state(cache)],
            Indexed: lambda cache: self._indexed(cache, kind),
            Combined: lambda cache: self._combined(cache, kind),
        }

    def _attention(self, cache: KV, kind: str) -> Spec:
        block = self.settings.block_size
        page = int(block * cache.heads * (cache.key_dim + (cache.value_dim or cache.key_dim)) * self.kv)
        chunked, own = kind.startswith("chunked"), self.settings.source
        if cache.window is None or not (own.chunked if chunked else own.windowed):
            return Spec(kind="full", block=block, page=page)
        if self.compressed:
            return self._entries(_WINDOW_BLOCK, _WINDOW_BLOCK * _ENTRY, window=cache.window)
        name: Kind = "chunked" if chunked else "sliding"
        return Spec(kind=name, block=block, page=page, window=cache.window, ahead=self.ahead)

    def _entries(self, block: int, nbytes: int, *, window: int = 0) -> Spec:
        """Pages of DeepSeek-V4, of the given bytes before padding."""
        page = -(-nbytes // _PAGE_STEP) * _PAGE_STEP
        if not window:
            return Spec(kind="full", block=block, page=page, latent=True, packed=True)
        return Spec(kind="sliding", block=block, page=page, window=window, ahead=self.ahead, latent=True, packed=True)

    def _cross(self, cache: CrossKV) -> Spec:
        block = self.settings.block_size
        page = int(block * cache.heads * (cache.key_dim + cache.value_dim) * self.kv)
        return Spec(kind="cross", block=block, page=page)

    def _latent(self, cache: Latent, *, sparse: bool) -> Spec:
        """A latent with its rope part, replicated on every tensor-parallel rank."""
        alignment = self.settings.rules.latent_alignment
        row = -(-(cache.rank + cache.rope_dim) // alignment) * alignment
        nbytes = SPARSE_LATENT if sparse and self.kv == 1 else row * self.kv
        block = self.settings.block_size
        whole = Spec(kind="full", block=block, page=int(block * nbytes), latent=True)
        if cache.window is None:
            return whole
        return replace(whole, kind="sliding", window=cache.window, ahead=self.ahead)

    def _state(self, cache: State) -> Spec:
        """A convolution state without the current token (`kernel` - 1 columns), and a recurrent state."""
        kernel = self.states.conv_kernel
        # transformers also keeps the current token's column, which `cache.conv` includes
        conv = cache.conv * (kernel - 1) // kernel if kernel else cache.conv
        nbytes = conv * self._dtype(cache.conv_dtype) + cache.recurrent * self.state
        return Spec(kind="state", block=0, page=ceil(nbytes), resident=self.states.kept.pages)

    def _dtype(self, name: str) -> float:
        return self.compute if name == COMPUTE else _bytes(name)

    def _indexed(self, cache: Indexed, kind: str) -> list[Spec] | Unknown:
        """The attention's spec, and one for the indexer's FP8 keys with a float32 scale per 128 elements."""
        inner = self.specs(cache.attention, kind, sparse=True)
        if isinstance(inner, Unknown):
            return inner
        row = cache.index_dim + -(-cache.index_dim // _INDEX_GROUP) * _INDEX_SCALE
        page = self.settings.block_size * row
        return [*inner, Spec(kind="full", block=self.settings.block_size, page=page, latent=True)]

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
