"""How vLLM divides a GPU's memory: the budget, the KV cache pool, the tokens in it; and the launch line."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Final

from hfmem.engines.protocol import RankMemory
from hfmem.engines.vllm.cache import PagedCache
from hfmem.engines.vllm.groups import Layout
from hfmem.engines.vllm.kvformats import format_of
from hfmem.engines.vllm.lora import lora_options
from hfmem.engines.vllm.mix import mix_of
from hfmem.engines.vllm.refusals import CACHE_DTYPES
from hfmem.engines.vllm.settings import Settings, settings_of
from hfmem.estimator.scenario import Scenario
from hfmem.estimator.serving import Serving
from hfmem.estimator.values import Margin, Term, total_of
from hfmem.estimator.weights.quantisers import find_quantiser
from hfmem.hardware.values import Accelerator
from hfmem.mapper.interpret import Model
from hfmem.units import MIB, format_bytes

__all__ = ["MARGIN", "budgeted", "serving", "usable"]

MARGIN: Final = Margin(
    nbytes=150 * MIB,
    why="vLLM's memory profiling may underestimate slightly",
    source="vLLM 0.33.0, v1/worker/gpu_worker.py: the 150 MiB that it subtracts from its suggested KV cache size",
)


_WHOLE: Final = 100  # hundredths


def budgeted(terms: Sequence[Term], settings: Settings) -> int:
    """Bytes of a rank's terms that count against the budget of `gpu_memory_utilization` before the pool is sized."""
    inside = [term for term in terms if term.group in ("weights", "activations")]
    kinds = {"libraries", "graphs"} if settings.source.counts_graphs else {"libraries"}
    return total_of(inside) + total_of(term for term in terms if term.kind in kinds)


def usable(terms: Sequence[Term], scenario: Scenario) -> int:
    """Bytes of the scenario's accelerator that an estimate may use: vLLM's budget plus the terms outside of it (the
    context and, up to 0.19, CUDA graphs), but not more than is available."""
    gpu = scenario.gpu
    if gpu is None:
        return 0
    settings = settings_of(scenario)
    return min(scenario.available, _budget(settings, gpu) + _outside(terms, settings))


def _outside(terms: Sequence[Term], settings: Settings) -> int:
    """Bytes of a rank's terms outside of the budget."""
    cache = total_of(term for term in terms if term.group == "kv_cache")
    return total_of(terms) - budgeted(terms, settings) - cache


def _budget(settings: Settings, gpu: Accelerator) -> int:
    """The budget: `gpu_memory_utilization` × the GPU's memory."""
    # as an exact fraction: 0.9 as a float would be off by a byte or more
    return int(Fraction(settings.gpu_memory_utilization).limit_denominator(10**6) * gpu.memory)


def serving(ranks: Sequence[RankMemory], scenario: Scenario, model: Model, to_be_made: str = "") -> Serving | None:
    """What a server on this GPU has left: the smallest pool over its ranks; None where no GPU is given, or a rank's
    cache is unknown.

    Args:
        ranks: the ranks, for the scenario's batch and length.
        scenario: the scenario.
        model: the whole model.
        to_be_made: why a new checkpoint has to be written before serving; "" where none is needed.
    """
    settings, gpu = settings_of(scenario), scenario.gpu
    layouts = [rank.cache.layout for rank in ranks if isinstance(rank.cache, PagedCache)]
    if gpu is None or not ranks or len(layouts) < len(ranks):
        return None
    found = _tightest([_budget(settings, gpu) - budgeted(rank.terms, settings) for rank in ranks], layouts)
    needed = found.layout.blocks(scenario.seq, settings)
    concurrency = found.blocks / needed if needed else None
    refused = (
        _no_free_memory(ranks, scenario)
        or _no_room_beside(ranks, scenario)
        or _no_pool(found, needed, scenario)
        or _no_states(found, settings)
    )
    holds = all(total_of(rank.terms) <= usable(rank.terms, scenario) for rank in ranks)
    lineless = to_be_made if holds else f"{scenario.batch:,} such requests do not fit at once"
    return Serving(
        kv_pool=found.nbytes,
        kv_tokens=_tokens(found, concurrency, scenario),
        max_concurrency=concurrency,
        kv_blocks=found.blocks if needed else None,
        blocks_per_request=needed or None,
        command=None if lineless or refused else _command(model, scenario, settings, _fewer(found, settings)),
        refused=refused,
        lineless=lineless,
        remark="" if refused else _remark(found, settings) or _crowded_words(ranks, scenario),
        mix=mix_of(found.layout, found.blocks, settings),
        least_utilization=_least(ranks, scenario, settings),
    )


def _least(ranks: Sequence[RankMemory], scenario: Scenario, settings: Settings) -> float | None:
    """The smallest `--gpu-memory-utilization` with which the server starts and holds the batch."""
    gpu = scenario.gpu
    if gpu is None:
        return None
    inside = max(
        budgeted(rank.terms, settings) + total_of(term for term in rank.terms if term.group == "kv_cache")
        for rank in ranks
    )
    hundredths = -(-(inside + MARGIN.nbytes) * 100 // gpu.memory)
    return hundredths / 100 if hundredths <= _WHOLE else None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Pool:
    """The pool of a rank: its bytes (negative where the rest does not fit), blocks, and their layout."""

    nbytes: int
    blocks: int
    layout: Layout


def _tightest(pools: Sequence[int], layouts: Sequence[Layout]) -> _Pool:
    """The pool with the fewest blocks, as all workers take as many (`get_kv_cache_configs`)."""
    found = [
        _Pool(
            nbytes=pool,
            blocks=max(0, pool) // layout.block_bytes if layout.block_bytes else 0,
            layout=layout,
        )
        for pool, layout in zip(pools, layouts, strict=True)
    ]
    return min(found, key=lambda pool: pool.blocks)


def _tokens(pool: _Pool, concurrency: float | None, scenario: Scenario) -> int | None:
    """The tokens in the pool, as the engine's log counts them."""
    if concurrency is None:
        return None
    if settings_of(scenario).source.counts_requests:
        return int(concurrency * scenario.seq)
    alone = pool.blocks // max(1, len(pool.layout.groups)) * pool.layout.block
    return alone * settings_of(scenario).extras.context_ranks


def _no_free_memory(ranks: Sequence[RankMemory], scenario: Scenario) -> str:
    """Why free memory at start-up does not cover the budget (v1/worker/utils.py::request_memory); "" where it does."""
    settings, gpu = settings_of(scenario), scenario.gpu
    if gpu is None or not settings.source.checks_free:
        return ""
    context = max(total_of(term for term in rank.terms if term.kind == "context") for rank in ranks)
    free, share = scenario.available - context, settings.gpu_memory_utilization
    if free >= _budget(settings, gpu):
        return ""
    # rounded down to two decimals: the value is a suggestion that must work
    possible = max(0, free) * 100 // gpu.memory
    return (
        f"{format_bytes(max(0, free))} are free at start-up, but --gpu-memory-utilization {share:g} requires "
        f"{format_bytes(_budget(settings, gpu))}"
        + (f"; --gpu-memory-utilization {possible / 100:g} is the most that fits" if possible else "")
    )


def _no_room_beside(ranks: Sequence[RankMemory], scenario: Scenario) -> str:
    """Why the GPU has no room for the pool and what is allocated outside of the budget before the first request: the
    context and, up to 0.19, CUDA graphs; "" where it has."""
    # a request's activations are not there yet, and CUDA graphs may take their room
    return _crowded(ranks, scenario, lambda terms: -total_of(term for term in terms if term.group == "activations"))


def _crowded(
    ranks: Sequence[RankMemory], scenario: Scenario, more: Callable[[Sequence[Term]], int] = lambda _: 0
) -> str:
    """Why the GPU has no room for the budget, which the pool fills, and what is outside of it, plus `more` bytes."""
    settings, gpu = settings_of(scenario), scenario.gpu
    if gpu is None:
        return ""
    outside = max((_outside(rank.terms, settings), more(rank.terms)) for rank in ranks)
    room = scenario.available - sum(outside)
    if room >= _budget(settings, gpu):
        return ""
    possible = max(0, scenario.available - outside[0]) * 100 // gpu.memory
    return (
        f"--gpu-memory-utilization {settings.gpu_memory_utilization:g} fills {format_bytes(_budget(settings, gpu))} "
        f"with the KV cache pool, and {format_bytes(outside[0])} of context and CUDA graphs come on top of it"
        + (f"; --gpu-memory-utilization {possible / 100:g} is the most that fits" if possible else "")
    )


def _no_pool(pool: _Pool, needed: int, scenario: Scenario) -> str:
    """Why the KV cache pool is too small to start (`_check_enough_kv_cache_memory`); "" where it is large enough."""
    if not pool.layout.block_bytes:
        return ""
    if pool.nbytes <= 0:
        return f"{format_bytes(-pool.nbytes)} are missing before any KV cache can be allocated"
    request = needed * pool.layout.block_bytes
    if request <= pool.nbytes:
        return ""
    return (
        f"a request of {scenario.seq:,} tokens needs {format_bytes(request)} of KV cache, and "
        f"{format_bytes(pool.nbytes)} are left for it"
    )


def _short_of_states(pool: _Pool, settings: Settings) -> bool:
    """Whether vLLM refuses to start with as many sequences as there may be at once: with full CUDA graphs, each needs a
    block for its recurrent states (`config/compilation.py`)."""
    checked = settings.source.refuses_states and pool.layout.stateful and not settings.enforce_eager
    return checked and settings.max_num_seqs > pool.blocks


def _no_states(pool: _Pool, settings: Settings) -> str:
    """Why it does not start with the user's number of sequences; "" where it does, or where the launch line may have
    another number."""
    if not settings.seqs_given or not _short_of_states(pool, settings):
        return ""
    return (
        f"--max-num-seqs {settings.max_num_seqs:,} exceeds the {pool.blocks:,} blocks of the KV cache pool, and with "
        "CUDA graphs each sequence needs a block for its recurrent states; "
        f"--max-num-seqs {pool.blocks} is the most that starts"
    )


def _fewer(pool: _Pool, settings: Settings) -> int:
    """The sequences that the launch line must limit the server to, with a margin for the pool; 0 for no limit."""
    if settings.seqs_given or not _short_of_states(pool, settings):
        return 0
    return max(1, (pool.nbytes - MARGIN.nbytes) // pool.layout.block_bytes)


def _remark(pool: _Pool, settings: Settings) -> str:
    """Why the launch line limits the number of sequences; "" where it does not."""
    fewer = _fewer(pool, settings)
    if not fewer:
        return ""
    return (
        f"The launch line has --max-num-seqs {fewer}: with the default of {settings.max_num_seqs:,}, "
        f"{settings.describe()} would refuse to start, as the KV cache pool has only {pool.blocks:,} blocks, and with "
        "CUDA graphs each sequence needs a block for its recurrent states."
    )


def _crowded_words(ranks: Sequence[RankMemory], scenario: Scenario) -> str:
    """That full steps may not fit, though the server starts; "" where they do."""
    crowded = _crowded(ranks, scenario)
    return f"Full steps may run out of memory: {crowded}." if crowded else ""


def _command(model: Model, scenario: Scenario, settings: Settings, fewer: int) -> str:
    """The launch line, with all options that differ from vLLM's defaults, and a limit of sequences where it needs
    one to start."""
    parallel = scenario.parallel
    sizes = {
        "--tensor-parallel-size": parallel.tp,
        "--pipeline-parallel-size": parallel.pp,
        "--data-parallel-size": parallel.dp,
    }
    served = model if model.adapted is None else model.adapted.base
    parts = ["vllm serve", shlex.quote(served.checkpoint.ref.model_id), f"--max-model-len {scenario.seq}"]
    parts += [f"{name} {size}" for name, size in sizes.items() if size > 1]
    parts += ["--enable-expert-parallel"] if parallel.ep > 1 else []
    parts += [f"--max-num-seqs {fewer}"] if fewer else []
    parts += [*settings.given, *lora_options(model, settings)]
    return " ".join([*parts, *_dtype_options(scenario, model)])


def _dtype_options(scenario: Scenario, model: Model) -> list[str]:
    own = model.architecture.dtype or model.stored_dtype
    quantiser = find_quantiser(scenario.dtype or "")
    options = []
    if quantiser is not None:
        online = {"fp8": "fp8", "mxfp4": "mxfp4", "nf4": "bitsandbytes"}.get(quantiser.name)
        options += [f"--quantization {online}"] if online else []
    elif scenario.dtype is not None and scenario.dtype != own:
        options.append(f"--dtype {scenario.dtype}")
    brought = scenario.kv_dtype in (scenario.compute_dtype, None)
    packed = format_of(scenario.kv_dtype)
    cache = packed.name if packed else "" if brought else CACHE_DTYPES.get(scenario.kv_dtype or "")
    return [*options, *([f"--kv-cache-dtype {cache}"] if cache else [])]
