"""What one rank of a vLLM server holds: weights, the cache that the asked batch needs, the profile run's peak, and the
rest; and what the engine makes of the card's memory: pool, tokens, concurrency, launch line."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

from hfmem.engines.vllm.cachespec import Dtypes, Layout, layout
from hfmem.engines.vllm.peak import peak_terms
from hfmem.engines.vllm.settings import Settings, settings_of
from hfmem.estimator.overheads import context_terms
from hfmem.estimator.split import Stage
from hfmem.estimator.values import Scenario, Serving, Term, total_of
from hfmem.estimator.weights.quantisers import find_quantiser
from hfmem.mapper.interpret import Model
from hfmem.units import MIB

__all__ = ["RankCache", "budgeted", "cache_of", "fixed_terms", "layout_of", "serving"]

_CACHE_SOURCE = "vLLM 0.19.0, v1/kv_cache_interface.py and v1/core/kv_cache_utils.py"
_GRAPH_NAME = "CUDA graphs"
_FORWARD_NAME = "libraries, during the profile run"


@dataclass(frozen=True, slots=True, kw_only=True)
class RankCache:
    """The cache of one rank.

    Attributes:
        layout: groups and pages.
        terms: what the batch needs.
        per_token: bytes a further token of a sequence costs on average.
        fixed: bytes of one sequence that do not grow.
    """

    layout: Layout
    terms: tuple[Term, ...]
    per_token: int
    fixed: int


def layout_of(model: Model, scenario: Scenario) -> Layout | str:
    """How one rank's cache is laid out, which neither batch nor length changes; or why it is not known."""
    architecture, settings = model.architecture, settings_of(scenario)
    if architecture.layers is None:
        return architecture.unknown or "the layers of the architecture are not known"
    if scenario.kv_dtype is None or scenario.compute_dtype is None:
        return "the dtype of the cache is not known: give --dtype or --kv-dtype"
    dtypes = Dtypes(kv=scenario.kv_dtype, compute=scenario.compute_dtype, state=architecture.state_dtype)
    kernel = model.parameters.conv_kernel if model.parameters else None
    return layout(architecture.layers, settings, dtypes, kernel)


def cache_of(found: Layout | str, scenario: Scenario) -> RankCache | str:
    """The cache that the asked batch needs on one rank; or why it is not known."""
    if isinstance(found, str):
        return found
    settings = settings_of(scenario)
    terms = tuple(
        Term(
            name=_group_name(found, index),
            group="kv_cache",
            nbytes=scenario.batch * pages * found.block_bytes,
            how=f"batch {scenario.batch} × {pages} pages × {found.width} layers × {found.page:,} B",
            source=_CACHE_SOURCE,
            certainty="derived",
        )
        for index, group in enumerate(found.groups)
        if (pages := group.spec.pages(scenario.seq, settings))
    )
    per_token = found.per_token(scenario.seq, settings) if found.groups else 0
    needed = found.blocks(scenario.seq, settings) * found.block_bytes
    return RankCache(layout=found, terms=terms, per_token=per_token, fixed=max(0, needed - per_token * scenario.seq))


_GROUP_NAMES = {
    "full": "full attention",
    "sliding": "sliding attention",
    "chunked": "chunked attention",
    "state": "states",
    "cross": "cross attention",
}


def _group_name(found: Layout, index: int) -> str:
    """The kind of layers of a group, numbered where a kind has several."""
    kinds = [group.spec.kind for group in found.groups]
    kind = kinds[index]
    number = f" (group {kinds[: index + 1].count(kind)} of {kinds.count(kind)})" if kinds.count(kind) > 1 else ""
    return _GROUP_NAMES[kind] + number


def fixed_terms(model: Model, scenario: Scenario, stage: Stage) -> tuple[list[Term], str]:
    """The peak and the overheads of one rank; and why the peak is not known, "" where it is."""
    settings = settings_of(scenario)
    found = peak_terms(model, settings, scenario, stage)
    peak, reason = ([], found) if isinstance(found, str) else (found, "")
    experts = bool(model.architecture.experts)
    terms = [*peak, *context_terms(scenario.gpu, scenario.parallel, experts=experts)]
    terms.append(_forward_term(scenario, settings))
    return terms + _graph_terms(settings), reason


def _forward_term(scenario: Scenario, settings: Settings) -> Term:
    alone, shared = settings.rules.forward
    mebibytes = shared if scenario.parallel.tp > 1 else alone
    if scenario.parallel.pp > 1 and scenario.parallel.tp == 1:
        mebibytes = 72
    return Term(
        name=_FORWARD_NAME,
        group="overhead",
        nbytes=mebibytes * MIB,
        how="non-torch forward increase: 0.07 to 0.46 GiB alone or in a pipeline; with tensor parallelism 0.5 GiB "
        "up to 0.16, 2.1 GiB since 0.17",
        source="start-up logs: github.com/jgchn/llm-d-planner/tree/d3121e059da88662db39a926a3ead964be97359b",
        certainty="typical",
    )


def _graph_terms(settings: Settings) -> list[Term]:
    """CUDA graphs: one set a captured batch size, 1, 2, 4, then every 8 up to 256 and every 16 up to 512."""
    if settings.enforce_eager:
        return []
    largest = min(2 * settings.max_num_seqs, 512)
    sizes = [size for size in (1, 2, 4, *range(8, 257, 8), *range(272, 513, 16)) if size <= largest]
    each = settings.rules.graphs
    return [
        Term(
            name=_GRAPH_NAME,
            group="overhead",
            nbytes=len(sizes) * each * MIB,
            how=f"{len(sizes)} captured sizes × {each} MiB; 0.1 to 2.9 GiB seen",
            source="vLLM 0.19.0, config/compilation.py (sizes); start-up logs (about 12 MiB a piecewise and 6 MiB a "
            "full graph)",
            certainty="typical",
        )
    ]


def budgeted(terms: Sequence[Term], settings: Settings) -> int:
    """Bytes of a rank's terms that the engine takes from `gpu_memory_utilization`'s budget before it sizes its pool."""
    inside = [term for term in terms if term.group in ("weights", "activations")]
    names = {_FORWARD_NAME} | ({_GRAPH_NAME} if settings.rules.graphs_budgeted else set())
    return total_of(inside) + total_of(term for term in terms if term.name in names)


def serving(ranks: Sequence[tuple[RankCache, Sequence[Term]]], scenario: Scenario, model: Model) -> Serving | None:
    """What a server on this card has: the smallest pool of its ranks; None where no card is given."""
    settings = settings_of(scenario)
    if scenario.gpu is None or not ranks:
        return None
    budget = int(Fraction(settings.gpu_memory_utilization).limit_denominator(10**6) * scenario.gpu.memory)
    pools = [budget - budgeted(terms, settings) for _, terms in ranks]
    blocks = [
        max(0, pool) // cache.layout.block_bytes if cache.layout.block_bytes else 0
        for pool, (cache, _) in zip(pools, ranks, strict=True)
    ]
    tightest = min(range(len(ranks)), key=lambda index: blocks[index])
    found, count = ranks[tightest][0].layout, blocks[tightest]
    needed = found.blocks(scenario.seq, settings)
    concurrency = count / needed if needed else None
    if concurrency is not None and settings.rules.tokens_from_concurrency:
        tokens = int(concurrency * scenario.seq)
    else:
        tokens = count // max(1, len(found.groups)) * found.block
    return Serving(
        kv_pool=pools[tightest],
        kv_tokens=tokens if needed else None,
        max_concurrency=concurrency,
        command=_command(model, scenario, settings),
    )


def _command(model: Model, scenario: Scenario, settings: Settings) -> str:
    """The launch line, with what differs from the engine's defaults."""
    parallel = scenario.parallel
    sizes = {
        "--tensor-parallel-size": parallel.tp,
        "--pipeline-parallel-size": parallel.pp,
        "--data-parallel-size": parallel.dp,
    }
    parts = ["vllm serve", shlex.quote(model.checkpoint.ref.model_id), f"--max-model-len {scenario.seq}"]
    parts += [f"{name} {size}" for name, size in sizes.items() if size > 1]
    parts += ["--enable-expert-parallel"] if parallel.ep > 1 else []
    parts += settings.given
    return " ".join([*parts, *_dtype_options(scenario, model)])


def _dtype_options(scenario: Scenario, model: Model) -> list[str]:
    own = model.architecture.dtype or model.stored_dtype
    quantiser = find_quantiser(scenario.dtype or "")
    options = []
    if quantiser is not None:
        online = {"fp8": "fp8", "nf4": "bitsandbytes"}.get(quantiser.name)
        options += [f"--quantization {online}"] if online else []
    elif scenario.dtype is not None and scenario.dtype != own:
        options.append(f"--dtype {scenario.dtype}")
    cache = {"float8_e4m3fn": "fp8", "float8_e5m2": "fp8_e5m2"}.get(scenario.kv_dtype or "")
    return [*options, *([f"--kv-cache-dtype {cache}"] if cache else [])]
