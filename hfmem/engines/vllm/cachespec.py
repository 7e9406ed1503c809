"""The KV cache as vLLM lays it out: pages of a block of tokens, and groups of layers that share a block table.

Source: vLLM 0.19.0 `v1/kv_cache_interface.py` (what a layer is charged for a request), `v1/core/kv_cache_utils.py`
(groups, padding, one page size for all), `model_executor/models/config.py` (pages of states).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from math import ceil, lcm
from typing import Final, Literal

from hfmem.dtypes import find_dtype
from hfmem.engines.vllm.settings import Settings
from hfmem.mapper.caches import COMPUTE, KV, Cache, Combined, CrossKV, Indexed, Latent, Nothing, Shared, State
from hfmem.mapper.values import Layer
from hfmem.unknown import Unknown

__all__ = ["Dtypes", "Group", "Layout", "Spec", "layout"]

Kind = Literal["full", "sliding", "chunked", "state", "cross"]

SPARSE_LATENT: Final = 656
"""Bytes per token of an FP8 latent under sparse attention: 512 of values, 16 of scales, 128 of 16-bit rotary part."""

_INDEX_SCALE: Final = 4
_INDEX_GROUP: Final = 128
_ALIGNMENT: Final = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Spec:
    """What one layer is charged with.

    Attributes:
        kind: how the number of pages follows from the length.
        block: tokens of a page; 0 for states.
        page: bytes of a page.
        window: tokens of a window or chunk; 0 for none.
    """

    kind: Kind
    block: int
    page: int
    window: int = 0

    def pages(self, length: int, settings: Settings) -> int:
        """Pages that one request of `length` tokens is charged with."""
        batched = settings.max_num_batched_tokens
        if self.kind == "state":
            return settings.rules.state_blocks
        if self.kind == "cross":
            return -(-batched // self.block)
        if self.kind == "sliding":
            return -(-min(self.window - 1 + batched, length) // self.block) + 1
        tokens = min(self.window + batched, length) if self.kind == "chunked" else length
        return -(-tokens // self.block)


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """Layers that share a block table."""

    spec: Spec
    layers: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """The groups of a rank.

    Attributes:
        groups: each takes one page a layer for a block, padding included.
        width: layers of the widest group: what a block is charged with.
        page: bytes of one layer's page; for layers of one type and several sizes, of all layers together (`width` 1).
    """

    groups: tuple[Group, ...]
    width: int
    page: int

    @property
    def block_bytes(self) -> int:
        """Bytes of one block of the pool."""
        return self.width * self.page

    @property
    def block(self) -> int:
        """Tokens that the engine's log counts a block as."""
        return min((group.spec.block for group in self.groups if group.spec.block), default=1)

    def blocks(self, length: int, settings: Settings) -> int:
        """Blocks that a request of `length` tokens is charged with."""
        return sum(group.spec.pages(length, settings) for group in self.groups)

    def per_token(self, length: int, settings: Settings) -> int:
        """Bytes that a further token costs on average, once a request has `length` tokens."""
        step = lcm(*(group.spec.block for group in self.groups if group.spec.block)) if self.block > 1 else 1
        grown = self.blocks(length + step, settings) - self.blocks(length, settings)
        return grown * self.block_bytes // step


@dataclass(frozen=True, slots=True, kw_only=True)
class Dtypes:
    """Of keys and values, of what is computed, and of recurrent states (None for the compute dtype: the engine does not
    keep them wider by itself, `mamba_utils.py::MambaStateDtypeCalculator`)."""

    kv: str
    compute: str
    state: str | None = None


def layout(layers: tuple[Layer, ...], settings: Settings, dtypes: Dtypes, conv_kernel: int | None) -> Layout | Unknown:
    """The groups of some layers; or why they are not known."""
    widths = _Widths(
        settings=settings,
        kv=_bytes(dtypes.kv),
        compute=_bytes(dtypes.compute),
        state=_bytes(dtypes.state or dtypes.compute),
        kernel=conv_kernel,
    )
    specs: Counter[Spec] = Counter()
    for layer, count in Counter(layers).items():
        found = widths.specs(layer.cache, layer.kind)
        if isinstance(found, Unknown):
            return found
        for spec in found:
            specs[spec] += count
    return _grouped(_paged_states(specs, settings)) if specs else Layout(groups=(), width=0, page=0)


def _bytes(dtype: str) -> float:
    found = find_dtype(dtype)
    return float(found.bytes_each) if found else 2


@dataclass(frozen=True, slots=True, kw_only=True)
class _Widths:
    """Bytes of what a layer keeps, under one server's dtypes."""

    settings: Settings
    kv: float
    compute: float
    state: float
    kernel: int | None

    def specs(self, cache: Cache, kind: str, *, sparse: bool = False) -> list[Spec] | Unknown:
        """The specs of one layer, or why they are not known."""
        for known, make in self._makers(kind, sparse=sparse).items():
            if isinstance(cache, known):
                return make(cache)
        return Unknown(f"vLLM's layout of what {kind.replace('_', ' ')} layers keep is not modelled")

    def _makers(self, kind: str, *, sparse: bool) -> dict[type, Callable[..., list[Spec] | Unknown]]:
        return {
            Nothing: lambda _: [],
            Shared: lambda _: [],
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
        if cache.window is None or not self.settings.rules.hybrid:
            return Spec(kind="full", block=block, page=page)
        name: Kind = "chunked" if kind.startswith("chunked") else "sliding"
        return Spec(kind=name, block=block, page=page, window=cache.window)

    def _cross(self, cache: CrossKV) -> Spec:
        block = self.settings.block_size
        page = int(block * cache.heads * (cache.key_dim + cache.value_dim) * self.kv)
        return Spec(kind="cross", block=block, page=page)

    def _latent(self, cache: Latent, *, sparse: bool) -> Spec:
        """A latent with its rotary part, on every tensor-parallel rank."""
        alignment = self.settings.rules.latent_alignment
        row = -(-(cache.rank + cache.rope_dim) // alignment) * alignment
        nbytes = SPARSE_LATENT if sparse and self.kv == 1 else row * self.kv
        return Spec(kind="full", block=self.settings.block_size, page=int(self.settings.block_size * nbytes))

    def _state(self, cache: State) -> Spec:
        """A convolution's window without the token that is being made, and a recurrent state."""
        kernel = self.kernel
        conv = cache.conv * (kernel - 1) // kernel if kernel else cache.conv
        nbytes = conv * self._dtype(cache.conv_dtype) + cache.recurrent * self.state
        return Spec(kind="state", block=0, page=ceil(nbytes))

    def _dtype(self, name: str) -> float:
        return self.compute if name == COMPUTE else _bytes(name)

    def _indexed(self, cache: Indexed, kind: str) -> list[Spec] | Unknown:
        """Attention, and its indexer's keys in FP8 with a float32 scale for 128 of them."""
        inner = self.specs(cache.attention, kind, sparse=True)
        if isinstance(inner, Unknown):
            return inner
        row = cache.index_dim + -(-cache.index_dim // _INDEX_GROUP) * _INDEX_SCALE
        return [*inner, Spec(kind="full", block=self.settings.block_size, page=self.settings.block_size * row)]

    def _combined(self, cache: Combined, kind: str) -> list[Spec] | Unknown:
        found: list[Spec] = []
        for part in cache.caches:
            specs = self.specs(part, kind)
            if isinstance(specs, Unknown):
                return specs
            found += specs
        return found


def _paged_states(specs: Counter[Spec], settings: Settings) -> Counter[Spec]:
    """With states beside attention, the attention's block grows (in steps of 16 tokens) until its page holds the
    largest state, and each state takes a page of that size."""
    largest = max((spec.page for spec in specs if spec.kind == "state"), default=0)
    attention = [spec for spec in specs if spec.kind != "state"]
    if not largest or not attention:
        return specs
    token = max(spec.page // spec.block for spec in attention)
    block = max(settings.block_size, _ALIGNMENT * -(-largest // (_ALIGNMENT * token)))
    grown: Counter[Spec] = Counter()
    for spec, count in specs.items():
        paged = spec if spec.kind == "state" else replace(spec, block=block, page=spec.page // spec.block * block)
        grown[replace(paged, page=max(block * token, largest)) if paged.kind == "state" else paged] += count
    return grown


def _grouped(specs: Counter[Spec]) -> Layout:
    """One group for one type of layer, else groups of equal width and page."""
    same_blocks = len({spec.block for spec in specs}) == 1
    if same_blocks and len({(spec.kind, spec.window) for spec in specs}) == 1:
        page = sum(spec.page * count for spec, count in specs.items())
        kind = next(iter(specs))
        if len(specs) == 1:
            return Layout(groups=(Group(spec=kind, layers=specs[kind]),), width=specs[kind], page=kind.page)
        return Layout(groups=(Group(spec=replace(kind, page=page), layers=1),), width=1, page=page)
    unified = _one_page(specs)
    counts = list(unified.values())
    width = max(counts) if max(counts) < 1.5 * min(counts) else min(counts)
    groups = [Group(spec=spec, layers=width) for spec, count in unified.items() for _ in range(-(-count // width))]
    return Layout(groups=tuple(groups), width=width, page=max(spec.page for spec in unified))


def _one_page(specs: Counter[Spec]) -> Counter[Spec]:
    """Smaller pages hold more tokens, so that all are of one size; what does not divide is padded."""
    largest = max(spec.page for spec in specs)
    unified: Counter[Spec] = Counter()
    for spec, count in specs.items():
        ratio = largest // spec.page if spec.block else 1
        unified[replace(spec, block=spec.block * ratio, page=largest)] += count
    return unified
