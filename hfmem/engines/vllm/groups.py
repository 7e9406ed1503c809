"""How vLLM groups layers that share a block table, and sizes the blocks of its pool.

Source: vLLM 0.33.0 `v1/core/kv_cache_planning.py` (up to 0.32 `v1/core/kv_cache_utils.py`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, replace
from math import lcm
from typing import Literal

from hfmem.engines.vllm.settings import Settings
from hfmem.unknown import Unknown

__all__ = ["Group", "Kind", "Layout", "Spec", "grouped"]

Kind = Literal["full", "sliding", "chunked", "state", "cross"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Spec:
    """The KV cache spec of one layer, or of all layers of a group.

    Attributes:
        kind: determines the number of pages for a length.
        block: tokens per page; 0 for recurrent states, except where every block has one.
        page: bytes per page.
        window: tokens of the sliding window or attention chunk; 0 for none.
        ahead: tokens of the steps in flight, whose pages a window needs beside its own.
        resident: pages of a recurrent state beside its blocks.
        latent: whether the page has latents, which are not padded.
        packed: whether pages of several sizes lie side by side in a block (a block-outermost layout).
    """

    kind: Kind
    block: int
    page: int
    window: int = 0
    ahead: int = 0
    resident: int = 0
    latent: bool = False
    packed: bool = False

    def pages(self, length: int, settings: Settings) -> int:
        """Pages that vLLM plans for one request of `length` tokens (`max_memory_usage_bytes`)."""
        if self.kind == "state" and not self.block:
            return self.resident
        if self.kind == "cross":
            return -(-settings.max_num_batched_tokens // self.block)
        if self.kind == "sliding":
            # one page more, as the window need not start at a page boundary
            return -(-min(self.window - 1 + self.ahead, length) // self.block) + 1
        tokens = min(self.window + self.ahead, length) if self.kind == "chunked" else length
        if self.kind == "full":  # each rank of a context-parallel group has its share
            tokens = -(-tokens // settings.extras.context_ranks)
        return -(-tokens // self.block) + self.resident


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
        page: bytes of one layer's page; for layers with pages of different sizes, of all layers together (`width` 1).
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

    @property
    def stateful(self) -> bool:
        """Whether a group has recurrent states."""
        return any(group.spec.kind == "state" for group in self.groups)

    def blocks(self, length: int, settings: Settings) -> int:
        """Blocks that vLLM plans for a request of `length` tokens, over all groups."""
        return sum(group.spec.pages(length, settings) for group in self.groups)

    def per_token(self, length: int, settings: Settings) -> int:
        """Bytes that each further token adds on average to a request of `length` tokens."""
        # over a length that is a whole number of blocks in every group, so that rounding to pages cancels out
        step = lcm(*(group.spec.block for group in self.groups if group.spec.block)) if self.block > 1 else 1
        step *= settings.extras.context_ranks
        grown = self.blocks(length + step, settings) - self.blocks(length, settings)
        return grown * self.block_bytes // step


def grouped(specs: Counter[Spec], settings: Settings) -> Layout | Unknown:
    """The groups of some layers, given how many have each spec; or why they are unknown."""
    if not specs:
        return Layout(groups=(), width=0, page=0)
    if _uniform(specs):
        return _one_group(specs)
    if any(spec.packed for spec in specs):
        return _packed(specs, settings)
    unified = _one_page(specs, settings)
    if isinstance(unified, Unknown):
        return unified
    # vLLM pads smaller types up to the largest if they are nearly as many, else splits larger types
    counts = list(unified.values())
    width = max(counts) if max(counts) < 1.5 * min(counts) else min(counts)
    groups = [Group(spec=spec, layers=width) for spec, count in unified.items() for _ in range(-(-count // width))]
    return Layout(groups=tuple(groups), width=width, page=max(spec.page for spec in unified))


def _uniform(specs: Iterable[Spec]) -> bool:
    """Whether all layers need the same pages for a length (`UniformTypeKVCacheSpecs.is_uniform_type`)."""
    return len({(spec.kind, spec.block, spec.window) for spec in specs}) == 1


def _one_group(specs: Counter[Spec]) -> Layout:
    """One group; for pages of several sizes, with one page for all layers."""
    kind = next(iter(specs))
    if len(specs) == 1:
        return Layout(groups=(Group(spec=kind, layers=specs[kind]),), width=specs[kind], page=kind.page)
    page = _bytes(specs)
    return Layout(groups=(Group(spec=replace(kind, page=page), layers=1),), width=1, page=page)


def _bytes(specs: Counter[Spec]) -> int:
    return sum(spec.page * count for spec, count in specs.items())


def _one_page(specs: Counter[Spec], settings: Settings) -> Counter[Spec] | Unknown:
    """Specs with one page size: smaller pages get larger blocks, or are padded (`unify_kv_cache_spec_page_size`)."""
    largest = max(spec.page for spec in specs)
    unified: Counter[Spec] = Counter()
    for spec, count in specs.items():
        divides = largest % spec.page == 0
        if not divides and (spec.latent or not (settings.source.pads_pages or spec.kind == "state")):
            return Unknown(
                f"vLLM {settings.source.name} has no layout for pages of {spec.page:,} and of {largest:,} bytes"
            )
        ratio = largest // spec.page if spec.block and divides and spec.kind != "state" else 1
        unified[replace(spec, block=spec.block * ratio, page=largest)] += count
    return unified


def _packed(specs: Counter[Spec], settings: Settings) -> Layout | Unknown:
    """Groups with pages of several sizes (`_get_packed_kv_cache_groups`, before `_get_kv_cache_groups_uniform_groups`).
    Layers of one type are a bucket; a bucket with as many layers of each size as of the others is split, so that groups
    repeat about as often."""
    packs = settings.source.packs
    buckets: dict[tuple[Kind, int, int], Counter[Spec]] = {}
    for spec, count in specs.items():
        buckets.setdefault((spec.kind, spec.block, spec.window), Counter())[spec] += count
    whole = next((bucket for (kind, _, _), bucket in buckets.items() if kind == "full"), Counter())
    if not packs or not whole:
        return Unknown(f"vLLM {settings.source.name} has no layout for compressed entries")
    known = sorted({spec.page for spec in whole})
    sizes = [_sizes(bucket, known if packs != "groups" else []) for bucket in buckets.values()]
    most = [max(pages.values()) for pages in sizes]
    balanced = [len(set(pages.values())) == 1 for pages in sizes]
    if packs == "groups":
        least = max((most[i] for i, pages in enumerate(sizes) if balanced[i] and len(pages) > 1), default=0)
        counts = [most[i] for i, even in enumerate(balanced) if even]
    else:
        least, counts = max(_sizes(whole, []).values()), most
    repeats = _nearest_divisor(counts, least) if least else 0
    groups, laid = [], []
    for bucket, pages, even, count in zip(buckets.values(), sizes, balanced, most, strict=True):
        parts = -(-count // repeats) if even and repeats else 1
        of_one = Counter({page: -(-layers // parts) for page, layers in pages.items()})
        laid.append(of_one)
        groups += [Group(spec=replace(next(iter(bucket)), page=_all(of_one)), layers=1)] * parts
    return Layout(groups=tuple(groups), width=1, page=_block(laid, packs, known))


def _block(laid: list[Counter[int]], packs: str, known: list[int]) -> int:
    """Bytes of a block that holds the pages of any group."""
    if packs == "tuples":
        return max(max(pages.values()) for pages in laid) * sum(known)
    if packs == "slots":
        return _all(Counter({page: max(pages[page] for pages in laid) for pages in laid for page in pages}))
    return max(map(_all, laid))


def _all(pages: Counter[int]) -> int:
    return sum(page * layers for page, layers in pages.items())


def _sizes(bucket: Counter[Spec], known: list[int]) -> Counter[int]:
    """How many layers have a page of each size, padded to the next of the known ones."""
    found: Counter[int] = Counter()
    for spec, count in bucket.items():
        found[next((page for page in known if page >= spec.page), spec.page)] += count
    return found


def _nearest_divisor(counts: list[int], least: int) -> int:
    """The number from `least` on to whose multiples the counts are rounded up with the least padding; the largest of
    several (`_approximate_gcd`)."""
    return min(range(least, max(counts) + 1), key=lambda size: (sum(-count % size for count in counts), -size))
