"""What a GGUF takes under llama.cpp: terms for each accelerator, and for the host."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Final

from hfmem.engines.llamacpp.allocator import HOST, Device
from hfmem.engines.llamacpp.caches import Kept, kept, sides
from hfmem.engines.llamacpp.compute import computed
from hfmem.engines.llamacpp.placement import Placement
from hfmem.engines.llamacpp.releases import NEWEST
from hfmem.engines.llamacpp.settings import LlamaSettings
from hfmem.engines.llamacpp.weights import Placed, parted, placed
from hfmem.estimator.overheads import context_terms
from hfmem.estimator.parallel import SINGLE
from hfmem.estimator.scenario import Scenario
from hfmem.estimator.values import Group, Term
from hfmem.mapper.gguf.layout import Blocks
from hfmem.mapper.gguf.parts import Parts
from hfmem.mapper.values import Architecture
from hfmem.unknown import Unknown

__all__ = ["Memory", "cache_of", "least_of", "memory_of"]

_SOURCE: Final = "llama.cpp 0.5.0"
_OWN: Final = "the file's header"


@dataclass(frozen=True, slots=True, kw_only=True)
class Memory:
    """Terms by place: each accelerator, and `HOST`.

    Attributes:
        placement: where the layers are.
        terms: of each place.
        unknown: what is not known.
        flash: whether flash attention runs: llama.cpp may have switched it off.
    """

    placement: Placement
    terms: dict[int, tuple[Term, ...]] = field(hash=False)
    unknown: tuple[tuple[Group, str], ...] = ()
    flash: bool = True

    def total(self, place: int) -> int:
        """Bytes of a place."""
        return sum(term.nbytes for term in self.terms.get(place, ()))


def memory_of(
    blocks: Blocks, architecture: Architecture, settings: LlamaSettings, scenario: Scenario, devices: int
) -> Memory:
    """The memory of a file on so many accelerators; 0: on the host alone."""
    least = least_of(blocks, architecture, settings, scenario, devices)
    placement, seen = least.placement, least.placement.devices
    layers = (architecture.layers or ())[: blocks.loaded]
    compute = computed(placement, [_device(scenario)] * seen, [sides(layer, settings) for layer in layers])
    if isinstance(compute, Unknown):
        return replace(least, unknown=(("activations", compute.reason),))
    each = compute.devices * devices if seen < devices else compute.devices
    terms = dict(least.terms)
    for place, size in [*enumerate(each), (HOST, compute.host)]:
        if size:
            terms[place] = _inserted(terms.get(place, ()), _compute(size, settings))
    return replace(least, terms=terms, flash=settings.flash and compute.flash)


def _inserted(terms: tuple[Term, ...], more: Term) -> tuple[Term, ...]:
    """The terms with one more, behind weights and caches."""
    at = next((number for number, term in enumerate(terms) if term.group not in ("weights", "kv_cache")), len(terms))
    return (*terms[:at], more, *terms[at:])


def least_of(
    blocks: Blocks, architecture: Architecture, settings: LlamaSettings, scenario: Scenario, devices: int
) -> Memory:
    """The same without compute buffers, which are the costly part: what does not fit so does not fit with them."""
    device = _device(scenario)
    cut = settings.split_mode == "tensor" and devices > 1
    seen = 1 if cut else devices  # those that share each matrix are one device to the rest of llama.cpp
    placement = Placement(blocks=blocks, settings=settings, free=(1,) * seen)
    terms: dict[int, list[Term]] = defaultdict(list)
    weights = parted(placement, device, devices) if cut else placed(placement, device)
    for place, found in weights.items():
        terms[place].append(_weights(found, place, blocks.resized))
    for place, term in _cut(placement, architecture, devices) if cut else _caches(placement, architecture):
        terms[place].append(term)
    terms[HOST].append(_output(blocks, settings))
    terms[0 if devices else HOST] += _tower(settings)
    for place in range(devices):
        terms[place] += context_terms(scenario.gpu, SINGLE)  # devices pass activations on, without NCCL
    return Memory(
        placement=placement,
        terms={place: tuple(term for term in found if term.nbytes) for place, found in terms.items()},
        flash=settings.flash,
    )


_TOWER_FLASH, _TOWER_EAGER = 739_025_728, 5_108_210_240
"""Compute buffers of Qwen2.5-VL's tower, the largest of four families (`mtmd_get_memory_usage`, 0.5.0); those of
gemma-3 are 127,139,840 and 1,186,988,032 B, of Qwen3-VL 338,153,728 and 4,957,737,216 B, of gemma-4 213,472,512 and
397,497,600 B."""


_WITH: Final = {True: "with flash attention", False: "without flash attention"}


def _tower(settings: LlamaSettings) -> list[Term]:
    """What an image or audio tower takes, on the first accelerator."""
    found: list[Term] = []
    for name, nbytes in settings.mmproj:
        size = _TOWER_FLASH if settings.flash else _TOWER_EAGER
        found += [
            Term(
                name="mmproj",
                group="weights",
                nbytes=nbytes,
                how=f"the size of {name}, whose header is some kB of it",
                source=f"the listing of files; {_SOURCE}, tools/mtmd",
                certainty="derived",
            ),
            Term(
                name="mmproj compute buffer",
                group="activations",
                nbytes=size,
                how=f"that of Qwen2.5-VL's tower, the largest of four that were measured {_WITH[settings.flash]}",
                source=f"{_SOURCE}, mtmd_get_memory_usage",
                certainty="typical",
            ),
        ]
    return found


def _device(scenario: Scenario) -> Device:
    """How the accelerator takes part; one that nobody named is taken as llama.cpp's plainest."""
    gpu = scenario.gpu
    if gpu is None or gpu.vendor not in ("nvidia", "amd") or gpu.kind == "cpu":
        return Device()
    return Device(alignment=128, offloads=True, row_padding=512)  # ggml-cuda.cu, for HIP too


def cache_of(blocks: Blocks, architecture: Architecture, settings: LlamaSettings) -> int:
    """Bytes of the caches and states of all layers."""
    layers = (architecture.layers or ())[: blocks.loaded]
    return sum(part.nbytes for parts in kept(layers, blocks.kernel, settings) for part in parts)


def _weights(found: Placed, place: int, resized: str) -> Term:
    where = "the host's memory" if place == HOST else f"device {place}"
    return Term(
        name="model buffer",
        group="weights",
        nbytes=found.nbytes,
        how=f"{found.count} tensors of the file in {where}, each rounded up to 32 B",
        source=f"{resized or _OWN}; {_SOURCE}, llama-model.cpp::load_tensors",
        certainty="derived" if resized else "exact",
    )


def _caches(placement: Placement, architecture: Architecture) -> Iterator[tuple[int, Term]]:
    """The caches of each place, layers that keep the same together."""
    blocks, settings = placement.blocks, placement.settings
    found: dict[tuple[int, Kept], int] = {}
    layers = (architecture.layers or ())[: blocks.loaded]
    for number, parts in enumerate(kept(layers, blocks.kernel, settings)):
        place = placement.layers[number] if settings.offload_kqv else HOST
        for part in parts:
            found[place, part] = found.get((place, part), 0) + 1
    for (place, part), count in found.items():
        yield (
            place,
            Term(
                name=part.name,
                group="kv_cache",
                nbytes=part.nbytes * count,
                how=f"{count} layers × {part.how}",
                source=f"{_SOURCE}, llama-kv-cache.cpp, llama-memory-recurrent.cpp",
                certainty="derived",
            ),
        )


def _cut(placement: Placement, architecture: Architecture, devices: int) -> Iterator[tuple[int, Term]]:
    """The caches where all accelerators share each of them by heads."""
    blocks, settings = placement.blocks, placement.settings
    parts = Parts(blocks=blocks, shares=settings.tensor_split, devices=devices)
    layers = (architecture.layers or ())[: blocks.loaded]
    found: dict[tuple[int, Kept], list[int]] = {}
    for number, (layer, own) in enumerate(zip(layers, kept(layers, blocks.kernel, settings), strict=True)):
        place = placement.layers[number] if settings.offload_kqv else HOST
        for part in own:
            each = [part.nbytes] * devices
            if part.name == "KV cache":
                side = sides(layer, settings)
                each = parts.cached(number, side.keys, side.values)
            for device, nbytes in [(HOST, part.nbytes)] if place == HOST else enumerate(each):
                found.setdefault((device, part), []).append(nbytes)
    for (device, part), sizes in found.items():
        yield (
            device,
            Term(
                name=part.name,
                group="kv_cache",
                nbytes=sum(sizes),
                how=f"its heads, {sum(sizes) / (part.nbytes * len(sizes)):.0%} of {len(sizes)} layers × {part.how}",
                source=f"{_SOURCE}, llama-model.cpp::llama_meta_device_get_split_state",
                certainty="derived",
            ),
        )


def _compute(nbytes: int, settings: LlamaSettings) -> Term:
    older = "" if settings.release == NEWEST else f", changed to the rules of {settings.release.name}"
    return Term(
        name="compute buffer",
        group="activations",
        nbytes=nbytes,
        how=f"the largest batch of {settings.tokens} tokens through the recorded graph, by ggml's allocator",
        source=f"{_SOURCE}{older}; graphs recorded by python -m hfmem.probe.llamacpp; ggml-alloc.c, ggml-backend.cpp",
        certainty="derived",
    )


def _output(blocks: Blocks, settings: LlamaSettings) -> Term:
    row = blocks.vocabulary + (blocks.number("embedding_length") if settings.embeddings else 0)
    return Term(
        name="output buffer",
        group="activations",
        nbytes=row * settings.n_seq_max * 4,
        how=f"{row} {'logits and states' if settings.embeddings else 'logits'} × {settings.n_seq_max} sequences × 4 B",
        source=f"{_SOURCE}, llama-context.cpp::output_reserve",
        certainty="derived",
    )
