"""CUDA graphs of a vLLM server, from what they are made of.

* **Which sizes** are captured depends on the release and `max_num_seqs`; **which kinds** on the release: one graph of
  the whole model (`full`), or one for each piece between two attentions (`piecewise`), or both.
* **The driver** keeps memory for every executable graph, and for every kernel in it. The two figures are those that the
  readings of 17 models on an H100 under vLLM 0.19 leave (least squares; `python -m tests.measured.inference` compares
  the rest, of other cards and releases).
* **Adapters** add kernels; since 0.12, everything is captured with and without them (`cudagraph_specialize_lora`).
* **The private pool** has the activations of the largest size once for all graphs; a run to warm up leaves the same in
  the common pool. In full graphs of FlashAttention 3 it has the partial results of up to 32 splits of the context.

From 0.20 on, the profile run captures two graphs of each kind and multiplies; what the pool has in common with another
kind, and the warm-up, are not in that estimate (`GPUModelRunner.profile_cudagraph_memory`).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from hfmem.dtypes import find_dtype
from hfmem.engines.forward import layer_inner
from hfmem.engines.vllm.classes import class_rule
from hfmem.engines.vllm.drafts import draft_layers, drafted
from hfmem.engines.vllm.lora import adapters
from hfmem.engines.vllm.peak import layer_scratch, packed_experts
from hfmem.engines.vllm.settings import Settings
from hfmem.engines.vllm.states import recurrent
from hfmem.estimator.scenario import Scenario
from hfmem.estimator.values import Term, TermKind
from hfmem.estimator.weights.quantisers import find_quantiser
from hfmem.hardware.links import link_of
from hfmem.mapper.caches import KV, Cache, Combined, Indexed, Latent, State
from hfmem.mapper.interpret import Model
from hfmem.mapper.values import Experts, Layer
from hfmem.units import KIB

__all__ = ["Captured", "captured", "graph_terms"]

_EXECUTABLE: Final = 64 * KIB
"""Bytes of the driver for an executable graph."""
_KERNEL: Final = 14 * KIB
"""Bytes of the driver for a kernel of a graph."""
_COLLECTIVE: Final = 55 * KIB
"""Further bytes of an all-reduce that is not fused with the next kernel: two a layer explain 0.9.2 on four cards."""

_ADAPTERS: Final = (0, 12)
_ADAPTER_KERNELS: Final = 4 * 3  # the intermediate zeroed, shrink and expand for each linear of a dense layer

_SPLITS: Final = 32  # VLLM_FLASH_ATTN_MAX_NUM_SPLITS_FOR_CUDA_GRAPH, flash_attn_max_num_splits_for_cuda_graph
_FLASH_3: Final = "9.0"  # FlashAttention 3 runs on Hopper only (vllm_flash_attn/fa_utils.py::get_flash_attn_version)
_SOURCE: Final = (
    "vLLM 0.19.0, config/{compilation,vllm}.py, v1/worker/gpu_model_runner.py::{capture_model,profile_cudagraph_memory}"
    ", v1/attention/backends/flash_attn.py; the driver's share from start-up logs"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Capture:
    """What a release captures.

    Attributes:
        since: the first release.
        step: tokens between two sizes beyond 256.
        doubled: whether the largest size is twice `max_num_seqs`, at most 512.
        piecewise: whether pieces are captured; else whole models are, up to `max_num_seqs`.
        full: whether whole models are captured as well, for decoding.
        profiled: whether they are captured in the profile run.
    """

    since: tuple[int, int]
    step: int
    doubled: bool
    piecewise: bool
    full: bool


_V0: Final = _Capture(since=(0, 6), step=8, doubled=False, piecewise=False, full=True)
"""vllm/config.py::_set_cudagraph_sizes of 0.7.2 to 0.10.1, of the first engine: up to the first size that holds
`max_num_seqs`."""
_CAPTURES: Final = (
    _V0,
    _Capture(since=(0, 8), step=8, doubled=False, piecewise=True, full=False),  # config.py of 0.8.5: up to 512
    _Capture(since=(0, 10), step=8, doubled=True, piecewise=True, full=False),  # config/scheduler.py of 0.10.2
    _Capture(since=(0, 11), step=8, doubled=True, piecewise=True, full=True),  # config/__init__.py of 0.11.0
    _Capture(since=(0, 12), step=16, doubled=True, piecewise=True, full=True),  # config/vllm.py of 0.13.0
)
_HYBRIDS: Final = (0, 10, 2)
"""models/config.py::MambaModelConfig, which sets FULL_AND_PIECEWISE."""
_HYBRIDS_NOT: Final = frozenset({"Lfm2ForCausalLM", "MiniMaxText01ForCausalLM"})
_LARGEST: Final = 512


@dataclass(frozen=True, slots=True, kw_only=True)
class Captured:
    """The captured sizes in tokens: of pieces, and of whole models."""

    pieces: tuple[int, ...] = ()
    wholes: tuple[int, ...] = ()

    @property
    def largest(self) -> int:
        return max((*self.pieces, *self.wholes), default=0)


def captured(model: Model, settings: Settings) -> Captured:
    """The sizes that a server captures; none with `--enforce-eager`."""
    if settings.enforce_eager:
        return Captured()
    row = _row(settings)
    sizes = _sizes(row, model, settings)
    query = 1 + drafted(model, settings)
    wholes = tuple(size for size in sizes if query <= size <= settings.max_num_seqs * query)
    if not row.piecewise:
        return Captured(wholes=sizes)
    full = row.full or _captures_wholes(model, settings)
    whole = full and model.architecture.head == "lm_head" and model.architecture.source is None
    return Captured(pieces=sizes, wholes=wholes if whole else ())


def _captures_wholes(model: Model, settings: Settings) -> bool:
    """Whether whole models are captured for their recurrent layers, before they are for all."""
    unlike = _HYBRIDS_NOT.intersection(model.architecture.class_names)
    return settings.version >= _HYBRIDS and recurrent(model.architecture) and not unlike


def _row(settings: Settings) -> _Capture:
    if settings.first_engine:
        return _V0
    return next(row for row in reversed(_CAPTURES) if settings.release >= row.since or row is _V0)


def _sizes(row: _Capture, model: Model, settings: Settings) -> tuple[int, ...]:
    seqs = settings.max_num_seqs
    largest = _LARGEST
    if not row.piecewise:
        largest = next(size for size in (1, 2, 4, *range(8, 8 * 1025, 8)) if size >= seqs or size == 8 * 1024)
    elif row.doubled:
        largest = min(2 * seqs * (1 + drafted(model, settings)), _LARGEST)
    special = class_rule(model, settings.release).captured if row.doubled else 0
    largest = special or largest
    if row.piecewise:
        largest = min(largest, settings.max_num_batched_tokens)
    step = 16 if special else row.step
    return tuple(size for size in (1, 2, 4, *range(8, 256, 8), *range(256, largest + 1, step)) if size <= largest)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Graphs:
    """One rank's graphs.

    Attributes:
        piece, whole: bytes of the driver for all pieces of one size, and for one whole model.
        activations: bytes of the largest size's activations.
        splits: bytes of partial results of attention.
    """

    taken: Captured
    piece: int
    whole: int
    activations: int
    splits: int

    @property
    def total(self) -> int:
        """What capturing takes from the card's free memory."""
        driver = len(self.taken.pieces) * self.piece + len(self.taken.wholes) * self.whole
        return driver + self.splits + 2 * self.activations

    @property
    def profiled(self) -> int:
        """What the profile run expects: the larger of the first captures, and the second one for each further size."""
        first = max(self.piece + 2 * self.activations, self.whole + self.splits if self.taken.wholes else 0)
        further = max(0, len(self.taken.pieces) - 1) * self.piece + max(0, len(self.taken.wholes) - 1) * self.whole
        return first + further


def graph_terms(model: Model, scenario: Scenario, settings: Settings) -> list[Term]:
    """The terms of one rank: what the profile run expects, and what graphs take beyond that."""
    taken = captured(model, settings)
    if not taken.largest or model.architecture.layers is None:
        return []
    graphs = _graphs(model, scenario, settings, taken)
    parts = [
        f"{len(taken.pieces)} sizes in pieces × {graphs.piece:,} B" if taken.pieces else "",
        f"{len(taken.wholes)} whole × {graphs.whole:,} B" if taken.wholes else "",
        f"{graphs.splits:,} B of split attention" if graphs.splits else "",
    ]
    how = " + ".join(filter(None, parts))
    beyond = graphs.total - graphs.profiled
    within = min(graphs.total, graphs.profiled)
    terms = [_term("CUDA graphs", within, f"{how}, as the profile run adds them up", outside=False)]
    if beyond > 0:
        how = f"activations of {taken.largest} tokens, in the graphs' pool and left by the warm-up"
        terms.append(_term("CUDA graphs, beyond the profile", beyond, how, outside=True))
    return terms


def _term(name: str, nbytes: int, how: str, *, outside: bool) -> Term:
    kind: TermKind = "graph activations" if outside else "graphs"
    return Term(
        name=name,
        kind=kind,
        group="overhead",
        nbytes=nbytes,
        how=how,
        source=_SOURCE,
        certainty="typical",
    )


def _graphs(model: Model, scenario: Scenario, settings: Settings, taken: Captured) -> _Graphs:
    layers = model.architecture.layers or ()
    kernels = [_kernels(layer) for layer in layers]
    reduced = 0
    if scenario.parallel.tp > 1:
        reduced = 2 * len(layers) * (_KERNEL if _fuses(scenario, settings) else _KERNEL + _COLLECTIVE)
    piece = (len(layers) + 1) * _EXECUTABLE + sum(outside for outside, _ in kernels) * _KERNEL + reduced
    whole = _EXECUTABLE + sum(outside + inside for outside, inside in kernels) * _KERNEL + reduced
    if draft := draft_layers(model, scenario):  # in pieces of its own
        piece += (len(draft) + 1) * _EXECUTABLE + sum(_kernels(layer)[0] for layer in draft) * _KERNEL
    if adapters(model, settings)[0]:
        more, times = len(layers) * _ADAPTER_KERNELS * _KERNEL, 2 if settings.release >= _ADAPTERS else 1
        piece, whole = times * piece + more, times * whole + more
    return _Graphs(
        taken=taken,
        piece=piece,
        whole=whole,
        activations=_activations(model, scenario, settings, taken.largest),
        splits=_splits(layers, model, scenario, settings, taken),
    )


def _fuses(scenario: Scenario, settings: Settings) -> bool:
    """Whether the all-reduce runs with the normalisation after it (FlashInfer, on Hopper and Blackwell modules)."""
    return settings.release >= (0, 17) and link_of(scenario.gpu) == "nvswitch"


def _kernels(layer: Layer) -> tuple[int, int]:
    """Kernels of a layer after compilation: outside of the attention, and of the attention itself.

    Two normalisations with the residual sums; projections into and out of the attention with the rotation between them;
    gate and up, the product, down. Experts: router, top-k, three to sort tokens, two products with a kernel between
    them, and the sum; a shared expert as a dense one.
    """
    outside, inside = 2, 3  # inside: cache write, attention, combination of its parts
    kinds = {type(cache) for cache in _caches(layer.cache)}
    if Latent in kinds:
        outside += 7  # down projections, two normalisations, up projections and the rotation
    elif State in kinds:
        outside += 4  # into and out of the mixer, its gate and normalisation
    else:
        outside += 3
    if isinstance(layer.ffn, Experts):
        return outside + 9 + (3 if layer.ffn.shared else 0), inside
    return outside + 3, inside


def _caches(cache: Cache) -> Iterable[Cache]:
    if isinstance(cache, Indexed):
        return _caches(cache.attention)
    return [part for each in cache.caches for part in _caches(each)] if isinstance(cache, Combined) else [cache]


def _activations(model: Model, scenario: Scenario, settings: Settings, tokens: int) -> int:
    """The largest activations of a layer: as in the profile run (`peak.py`), for so many tokens."""
    dtype = find_dtype(scenario.compute_dtype) if scenario.compute_dtype else None
    width = dtype.nbytes(1) if dtype else 2
    layers = dict.fromkeys(model.architecture.layers or ())
    inner = max((layer_inner(layer, scenario.parallel.tp) for layer in layers), default=0)
    forward = tokens * (inner + 4 * (model.architecture.hidden_size or 0)) * width
    # since 0.13, experts run in a workspace that the profile run has allocated, except for kernels with their own
    scratch = 0
    if not settings.rules.keeps_workspaces or packed_experts(model):
        scratch = max((layer_scratch(layer, model, scenario.parallel, tokens, width) for layer in layers), default=0)
    return forward + scratch + _dequantised(model, scenario, width)


def _dequantised(model: Model, scenario: Scenario, width: int) -> int:
    """bitsandbytes multiplies more than one token by a matrix that it dequantises before, one matrix at a time."""
    quantiser = find_quantiser(scenario.dtype or "")
    if quantiser is None or quantiser.name != "nf4":
        return 0
    groups = model.parameters.groups if model.parameters else ()
    return max((g.parameters // max(1, g.count) * width for g in groups if g.linear), default=0)


def _splits(layers: Iterable[Layer], model: Model, scenario: Scenario, settings: Settings, taken: Captured) -> int:
    """Partial results of FlashAttention 3 in float32, with a logarithm for each, for the largest whole graph."""
    gpu = scenario.gpu
    hopper = gpu is None or gpu.compute_capability == _FLASH_3
    halves = scenario.compute_dtype in ("float16", "bfloat16")
    if (
        not (hopper and halves)
        or class_rule(model, settings.release).prefixed
        or not taken.wholes
        or settings.release < (0, 11)
    ):
        return 0
    # float32 outputs of the query heads of one rank
    outputs = [layer.heads // scenario.parallel.tp * _head(cache) for layer in layers for cache in _caches(layer.cache)]
    return _SPLITS * max(taken.wholes) * max(outputs, default=0) * 4


def _head(cache: Cache) -> int:
    """Elements of one query head's output; 0 for layers without attention over the cache."""
    if isinstance(cache, KV):
        return (cache.value_dim or cache.key_dim) + 1
    return cache.rank + 1 if isinstance(cache, Latent) else 0
