"""The layout of vLLM's KV cache: pages of one block of tokens each, and groups of layers that share a block table.

Source: vLLM 0.19.0 `v1/kv_cache_interface.py` (blocks of a request per layer), `v1/core/kv_cache_utils.py` (groups,
padding, uniform page size), `model_executor/models/config.py` (pages of recurrent states).
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
"""Bytes per token of an FP8 latent under sparse attention: 512 of values, 16 of scales, 128 of 16-bit rope part."""

_INDEX_SCALE: Final = 4  # bytes of a float32 scale of indexer keys
_INDEX_GROUP: Final = 128  # indexer key elements per scale
_ALIGNMENT: Final = 16  # tokens: a grown block size is a multiple of this


@dataclass(frozen=True, slots=True, kw_only=True)
class Spec:
    """The KV cache spec of one layer.

    Attributes:
        kind: determines the number of pages for a length.
        block: tokens per page; 0 for recurrent states.
        page: bytes per page.
        window: tokens of the sliding window or attention chunk; 0 for none.
    """

    kind: Kind
    block: int
    page: int
    window: int = 0

    def pages(self, length: int, settings: Settings) -> int:
        """Pages that vLLM plans for one request of `length` tokens (`max_memory_usage_bytes`)."""
        batched = settings.max_num_batched_tokens
        if self.kind == "state":
            return settings.rules.state_blocks
        if self.kind == "cross":
            return -(-batched // self.block)
        if self.kind == "sliding":
            # one page more, as the window need not start at a page boundary
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
    """The KV cache groups of a rank.

    Attributes:
        groups: each with one page per layer and block, padding included.
        width: layers of the largest group; a block of the pool has a page for each.
        page: bytes of one layer's page; for layers of one type with different sizes, of all layers together
            (`width` 1).
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
        """Tokens per block, as counted in the engine's log."""
        return min((group.spec.block for group in self.groups if group.spec.block), default=1)

    def blocks(self, length: int, settings: Settings) -> int:
        """Blocks that vLLM plans for a request of `length` tokens, over all groups."""
        return sum(group.spec.pages(length, settings) for group in self.groups)

    def per_token(self, length: int, settings: Settings) -> int:
        """Bytes that each further token adds on average to a request of `length` tokens."""
        # over a length that is a whole number of blocks in every group, so that rounding to pages cancels out
        step = lcm(*(group.spec.block for group in self.groups if group.spec.block)) if self.block > 1 else 1
        grown = self.blocks(length + step, settings) - self.blocks(length, settings)
        return grown * self.block_bytes // step


@dataclass(frozen=True, slots=True, kw_only=True)
class Dtypes:
    """Dtypes of keys and values, of activations, and of recurrent states (None: the compute dtype, as vLLM does not
    widen states by default, `mamba_utils.py::MambaStateDtypeCalculator`)."""

    kv: str
    compute: str
    state: str | None = None


def layout(layers: tuple[Layer, ...], settings: Settings, dtypes: Dtypes, conv_kernel: int | None) -> Layout | Unknown:
    """The layout for some layers, or why it is unknown."""
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
    """Page sizes of layers for one server's dtypes, as bytes per element."""

    settings: Settings
    kv: float
    compute: float
    state: float
    kernel: int | None

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
        if cache.window is None or not self.settings.rules.hybrid:
            return Spec(kind="full", block=block, page=page)
        name: Kind = "chunked" if kind.startswith("chunked") else "sliding"
        return Spec(kind=name, block=block, page=page, window=cache.window)

    def _cross(self, cache: CrossKV) -> Spec:
        block = self.settings.block_size
        page = int(block * cache.heads * (cache.key_dim + cache.value_dim) * self.kv)
        return Spec(kind="cross", block=block, page=page)

    def _latent(self, cache: Latent, *, sparse: bool) -> Spec:
        """A latent with its rope part, replicated on every tensor-parallel rank."""
        alignment = self.settings.rules.latent_alignment
        row = -(-(cache.rank + cache.rope_dim) // alignment) * alignment
        nbytes = SPARSE_LATENT if sparse and self.kv == 1 else row * self.kv
        return Spec(kind="full", block=self.settings.block_size, page=int(self.settings.block_size * nbytes))

    def _state(self, cache: State) -> Spec:
        """A convolution state without the current token (`kernel` - 1 columns), and a recurrent state."""
        kernel = self.kernel
        # transformers also keeps the current token's column, which `cache.conv` includes
        conv = cache.conv * (kernel - 1) // kernel if kernel else cache.conv
        nbytes = conv * self._dtype(cache.conv_dtype) + cache.recurrent * self.state
        return Spec(kind="state", block=0, page=ceil(nbytes))

    def _dtype(self, name: str) -> float:
        return self.compute if name == COMPUTE else _bytes(name)

    def _indexed(self, cache: Indexed, kind: str) -> list[Spec] | Unknown:
        """The attention's spec, and one for the indexer's FP8 keys with a float32 scale per 128 elements."""
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
    """In hybrids of attention and recurrent layers, the attention block grows in steps of 16 tokens until its page
    holds the largest state, and each state takes a page of that size."""
    largest = max((spec.page for spec in specs if spec.kind == "state"), default=0)
    attention = [spec for spec in specs if spec.kind != "state"]
    if not largest or not attention:
        return specs
    token = max(spec.page // spec.block for spec in attention)  # bytes per token
    block = max(settings.block_size, _ALIGNMENT * -(-largest // (_ALIGNMENT * token)))
    grown: Counter[Spec] = Counter()
    for spec, count in specs.items():
        paged = spec if spec.kind == "state" else replace(spec, block=block, page=spec.page // spec.block * block)
        grown[replace(paged, page=max(block * token, largest)) if paged.kind == "state" else paged] += count
    return grown


def _grouped(specs: Counter[Spec]) -> Layout:
    """One group if all layers have the same type, else groups with the same number of layers and page size."""
    same_blocks = len({spec.block for spec in specs}) == 1
    if same_blocks and len({(spec.kind, spec.window) for spec in specs}) == 1:
        page = sum(spec.page * count for spec, count in specs.items())
        kind = next(iter(specs))
        if len(specs) == 1:
            return Layout(groups=(Group(spec=kind, layers=specs[kind]),), width=specs[kind], page=kind.page)
        return Layout(groups=(Group(spec=replace(kind, page=page), layers=1),), width=1, page=page)
    unified = _one_page(specs)
    # vLLM pads smaller types up to the largest if they are nearly as many, else splits larger types
    counts = list(unified.values())
    width = max(counts) if max(counts) < 1.5 * min(counts) else min(counts)
    groups = [Group(spec=spec, layers=width) for spec, count in unified.items() for _ in range(-(-count // width))]
    return Layout(groups=tuple(groups), width=width, page=max(spec.page for spec in unified))


def _one_page(specs: Counter[Spec]) -> Counter[Spec]:
    """Specs with one page size: smaller pages get larger blocks, and are padded where they do not divide evenly."""
    largest = max(spec.page for spec in specs)
    unified: Counter[Spec] = Counter()
    for spec, count in specs.items():
        ratio = largest // spec.page if spec.block else 1
        unified[replace(spec, block=spec.block * ratio, page=largest)] += count
    return unified
