"""`mem_fraction_static`: the share of the memory that is free before loading, for weights and pools. SGLang derives it
from the card, the tokens of a prefill step and the CUDA graphs (0.5.23, `arg_groups/memory_hook.py`; up to 0.5.19
`server_args.py::_handle_gpu_memory_settings`)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from hfmem.engines.sglang.releases import Release, Tier
from hfmem.engines.sglang.settings import settings_of
from hfmem.estimator.scenario import Scenario
from hfmem.mapper.caches import Combined, Indexed, Latent
from hfmem.mapper.interpret import Model
from hfmem.mapper.values import Architecture
from hfmem.units import GIB, MIB

__all__ = [
    "UNCHUNKED",
    "Sizes",
    "fraction_of",
    "graph_reserve",
    "graph_sizes",
    "has_latents",
    "images_of",
    "prefill_graphs",
    "reserved",
    "sizes_of",
    "slack",
]

_UNKNOWN_CARD: Final = Tier(below=0, chunk=4096, graphs=160, many=160)
_META: Final = 512  # MiB
_TOKEN: Final = 1.5  # MiB per token of a prefill step
_LEAST_TOKENS: Final = 2048
UNCHUNKED: Final = 16384
"""Tokens of a prefill step without chunks (`max_prefill_tokens`); a longer prompt is one step."""
_LARGE: Final = 60 * 1024  # MiB of a card that reserves 10 GiB at least
_LARGE_RESERVE: Final = 10 * 1024
_LATENT_GRAPHS: Final = 1536  # MiB of the prefill graphs of latents
_MANY_LAYERS: Final = 300  # decoding graphs beyond which attention replicas reserve more
_STANDALONE: Final = 6 * 1024  # MiB for a whole model that makes drafts
_LLAMA_2: Final = 4096  # the longest prefill graph of a model with this name in its path


@dataclass(frozen=True, slots=True, kw_only=True)
class Sizes:
    """The sizes from which the fraction follows.

    Attributes:
        chunk: tokens of a prefill step; -1 without chunks.
        graphs: the largest batch of a decoding graph.
        prefill: how many graphs of prefill are captured.
        latents: whether attention keeps latents.
        tp, pp: ranks, all of them with replicas of attention.
        replicas: replicas of attention; 1 without.
        draft: MiB reserved for drafts.
        captured: whether graphs of decoding are captured.
    """

    chunk: int
    graphs: int
    prefill: int = 0
    latents: bool = False
    tp: int = 1
    pp: int = 1
    replicas: int = 1
    draft: int = 0
    captured: bool = True


def graph_sizes(release: Release, largest: int) -> list[int]:
    """Tokens of the graphs of prefill up to the largest (`generate_prefill_cuda_graph_batch_sizes`)."""
    middle = range(576, 1025, 64) if release.fine else range(640, 1025, 64)
    lists = (range(4, 33, 4), range(48, 257, 16), range(288, 513, 32), middle, range(1280, 4097, 256))
    return [size for each in (*lists, range(4608, largest + 1, 512)) for size in each if size <= largest]


def reserved(sizes: Sizes, card: float | None) -> float:
    """MiB that are not for weights and pools, on a card of so many MiB."""
    tokens = sizes.chunk if sizes.chunk > 0 else UNCHUNKED
    found = _META + max(tokens, _LEAST_TOKENS) * _TOKEN + sizes.tp * sizes.pp / 8 * 1024
    found += graph_reserve(sizes)
    if sizes.replicas > 1:
        each = 3 + (1.5 if sizes.graphs > _MANY_LAYERS else 0)
        found += sizes.graphs * sizes.replicas * each
    if card is not None and card > _LARGE:
        found = max(found, _LARGE_RESERVE)
    return found + sizes.draft


def graph_reserve(sizes: Sizes) -> float:
    """MiB of that for CUDA graphs of decoding and of prefill."""
    found = 2.0 * sizes.graphs if sizes.captured else 0.0
    if sizes.prefill:
        found += _LATENT_GRAPHS if sizes.latents else 8 * sizes.prefill
    return found


def _tier(release: Release, card: float | None) -> Tier:
    if card is None:
        return _UNKNOWN_CARD
    return next(tier for tier in release.tiers if not tier.below or card < tier.below * 1024)


def has_latents(architecture: Architecture) -> bool:
    """Whether attention keeps latents, for which SGLang has kernels of their own."""
    return any(_latent(layer.cache) for layer in set(architecture.layers or ()))


def _latent(cache: object) -> bool:
    if isinstance(cache, Combined):
        return any(map(_latent, cache.caches))
    return isinstance(cache, Latent) or (isinstance(cache, Indexed) and _latent(cache.attention))


def card_of(scenario: Scenario) -> float | None:
    """MiB of the card; None where none is given."""
    return None if scenario.gpu is None else scenario.gpu.memory / MIB


def sizes_of(model: Model, scenario: Scenario) -> Sizes:
    """The sizes of a server; `model` may be the part on one rank."""
    asked, plan, card = settings_of(scenario), scenario.parallel, card_of(scenario)
    release, tier = asked.source, _tier(asked.source, card)
    ranks = plan.tp * plan.dp if asked.enable_dp_attention else plan.tp
    chunk = asked.chunked_prefill_size or tier.chunk
    replicas = plan.dp if asked.enable_dp_attention else 1
    graphs = asked.cuda_graph_max_bs_decode or (tier.graphs if ranks < 4 else tier.many)
    if release.limited and not asked.cuda_graph_max_bs_decode and asked.requests_given and asked.max_running_requests:
        graphs = min(graphs, asked.max_running_requests)
    latents = has_latents(model.architecture)
    return Sizes(
        chunk=chunk,
        graphs=graphs,
        prefill=prefill_graphs(model, scenario, chunk),
        latents=latents,
        tp=ranks,
        pp=plan.pp,
        replicas=replicas,
        draft=_for_drafts(release, asked.speculative_algorithm),
        captured=not (asked.disable_cuda_graph and release.current),
    )


def _for_drafts(release: Release, algorithm: str | None) -> int:
    """MiB that releases reserve which do not count a draft before they size the pools."""
    if release.drafts_counted or algorithm in (None, "NGRAM"):
        return 0
    return _STANDALONE if algorithm == "STANDALONE" else release.speculative


def prefill_graphs(model: Model, scenario: Scenario, chunk: int) -> int:
    """How many graphs of prefill are captured (`disable_breakable_cudagraph_if_incompatible`): none for pipelines, for
    multimodal models, and on other cards than NVIDIA's."""
    asked, gpu = settings_of(scenario), scenario.gpu
    if not asked.source.prefill_graphs or asked.disable_cuda_graph or scenario.parallel.pp > 1:
        return 0
    if model.architecture.tower is not None or (gpu is not None and gpu.vendor not in ("nvidia", "")):
        return 0
    largest = chunk if chunk > 0 else UNCHUNKED
    if asked.max_total_tokens:
        largest = min(largest, asked.max_total_tokens)
    if asked.source.prefill_ends == "context":
        largest = min(largest, scenario.seq)
    if "llama-2" in model.checkpoint.ref.model_id.lower():
        largest = min(largest, _LLAMA_2)
    return len(graph_sizes(asked.source, largest))


def fraction_of(model: Model, scenario: Scenario) -> float | None:
    """`mem_fraction_static`; None where no card is given and no value either."""
    asked, card = settings_of(scenario), card_of(scenario)
    if asked.mem_fraction_static is not None or card is None:
        return asked.mem_fraction_static
    found = round((card - reserved(sizes_of(model, scenario), card)) / card, 3)
    tower = model.architecture.tower
    return found if tower is None else found * _for_images(*tower)


_TOWER: Final = (24, 1024)  # layers and hidden size of the tower that the factor starts from


def _for_images(layers: int, hidden: int) -> float:
    """The factor for a vision tower (`adjust_mem_fraction_for_vlm`)."""
    ratio = layers * hidden**2 / (_TOWER[0] * _TOWER[1] ** 2)
    return 0.95 * max(0.8, min(1.05, 1 - 0.1 * (ratio - 1)))


def slack(model: Model, scenario: Scenario, free: int) -> tuple[int, str]:
    """Bytes that SGLang leaves for activations and CUDA graphs, of `free` bytes before loading; and the arithmetic."""
    fraction = fraction_of(model, scenario)
    if fraction is None or not free:
        nbytes = int(reserved(sizes_of(model, scenario), None) * MIB)
        return nbytes, f"{nbytes / GIB:.2f} GiB that SGLang reserves where it does not know the card"
    return int(free * (1 - fraction)), f"{free / GIB:.2f} GiB free before loading × (1 - {fraction:.4g})"


def images_of(model: Model, scenario: Scenario) -> int:
    """Bytes that are kept back for the cache of images."""
    return settings_of(scenario).source.images * MIB if model.architecture.tower is not None else 0
