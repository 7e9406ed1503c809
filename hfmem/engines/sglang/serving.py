"""What a server has left for its pools, why it would not start, and its launch line."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from typing import Final

from hfmem.engines.protocol import RankMemory
from hfmem.engines.sglang.drafts import DRAFT_NAMES, lent
from hfmem.engines.sglang.fraction import fraction_of, images_of, slack
from hfmem.engines.sglang.pools import Pooled, Pools, Widths, capacity, divided
from hfmem.engines.sglang.settings import settings_of
from hfmem.engines.sglang.step import request_table, step_of
from hfmem.estimator.scenario import Scenario
from hfmem.estimator.serving import Serving
from hfmem.estimator.values import Margin, Term, total_of
from hfmem.estimator.weights.quantisers import find_quantiser
from hfmem.mapper.interpret import Model
from hfmem.units import MIB, format_bytes

__all__ = ["MARGIN", "free_before", "serving"]

MARGIN: Final = Margin(
    nbytes=80 * MIB,
    why="up to 0.08 GiB are lost between loading and the sizing of the pool",
    source="start-up logs of SGLang: what pools have less than the formula gives",
)
_REQUESTS: Final = (2048, 4096)  # least and most requests at once by default, where the pool has room

CACHE_DTYPES: Final = {
    "float8_e4m3fn": "fp8_e4m3",
    "float8_e5m2": "fp8_e5m2",
    "bfloat16": "bf16",
}
"""Dtypes of the KV cache, with their values of `--kv-cache-dtype`."""


def free_before(terms: Sequence[Term], scenario: Scenario) -> int:
    """Bytes that are free before the weights are loaded: without the context and the buffers of communication."""
    outside = total_of(term for term in terms if term.kind in ("context", "communication"))
    return max(0, scenario.available - outside)


def _budget(terms: Sequence[Term], scenario: Scenario, model: Model) -> int:
    """Bytes that are left for the pools of a rank; negative where weights do not fit."""
    free = free_before(terms, scenario)
    left, _ = slack(model, scenario, free)
    weights = total_of(term for term in terms if term.group == "weights") - _uncounted(terms, scenario)
    return free - left - images_of(model, scenario) - weights - lent(model, scenario)


def _uncounted(terms: Sequence[Term], scenario: Scenario) -> int:
    """Bytes of a draft that is loaded after the pools are sized."""
    if settings_of(scenario).source.drafts_counted:
        return 0
    return total_of(term for term in terms if term.name in DRAFT_NAMES)


def serving(ranks: Sequence[RankMemory], scenario: Scenario, model: Model, to_be_made: str = "") -> Serving | None:
    """What a server on this card has left: the smallest pool over its ranks; None where no card is given, or a rank's
    cache is unknown.

    Args:
        ranks: the ranks, for the scenario's batch and length.
        scenario: the scenario.
        model: the whole model.
        to_be_made: why a new checkpoint has to be written before serving; "" where none is needed.
    """
    caches = [rank.cache for rank in ranks if isinstance(rank.cache, Pooled)]
    if scenario.gpu is None or not ranks or len(caches) < len(ranks):
        return None
    left = [_budget(rank.terms, scenario, model) for rank in ranks]
    found = [(divided(rest, cache.widths), cache.widths) for rest, cache in zip(left, caches, strict=True)]
    pools, widths = min(found, key=lambda each: each[0].tokens)
    rest = left[found.index((pools, widths))]
    most = capacity(pools, widths, scenario.seq)
    running = _running(pools, widths, scenario)
    refused = _refused(pools, widths, rest, scenario, model) or max(
        (_no_room(rank.terms, scenario, model, pools.tokens * widths.beyond, running) for rank in ranks), key=len
    )
    lineless = to_be_made if most >= scenario.batch else f"{scenario.batch:,} such requests do not fit at once"
    pages = -(-scenario.seq // widths.page)
    keeps = bool(widths.token)
    return Serving(
        kv_pool=rest,
        kv_tokens=pools.tokens if keeps else None,
        max_concurrency=min(most, running) if keeps or widths.slot else None,
        kv_blocks=pools.tokens // widths.page if keeps else None,
        blocks_per_request=pages if keeps else None,
        command=None if lineless or refused else _command(model, scenario, running),
        refused=refused,
        lineless=lineless,
    )


def _running(pools: Pools, widths: Widths, scenario: Scenario) -> float:
    """Requests at once at most (`resolve_max_num_reqs`)."""
    asked = widths.settings.max_running_requests
    least, most = _REQUESTS
    usual = max(least, min(most, int(pools.tokens / scenario.seq * 512)))
    limit = max(1, asked // widths.replicas) if asked else usual
    return float(min(limit, pools.tokens // 2)) if widths.token else float(limit)


def _refused(pools: Pools, widths: Widths, rest: int, scenario: Scenario, model: Model) -> str:
    """Why the server does not start; "" where it does."""
    asked = settings_of(scenario)
    if rest <= 0:
        fraction = fraction_of(model, scenario)
        return (
            f"the weights leave no memory for the KV cache under --mem-fraction-static {fraction or 0:.3g}: "
            f"{format_bytes(-rest)} are missing"
        )
    if widths.slot and pools.slots < max(1, asked.states_kept):
        return (
            f"the memory for recurrent states has {pools.slots} slots, and a request takes {asked.states_kept}: raise "
            "--mamba-full-memory-ratio or --mem-fraction-static"
        )
    if widths.token and pools.tokens <= 0:
        return "no memory is left for the token pool: raise --mem-fraction-static"
    if widths.sliding and widths.full and pools.sliding <= widths.window + widths.page:
        return (
            f"the pool for sliding windows has {pools.sliding:,} tokens, and the window {widths.window:,}: raise "
            "--swa-full-tokens-ratio or --mem-fraction-static"
        )
    return ""


def _no_room(terms: Sequence[Term], scenario: Scenario, model: Model, beyond: int, running: float) -> str:
    """Why what the fraction leaves on a rank does not hold a step, the table of requests and what is allocated beyond
    the pools' sizes; "" where it does."""
    free = free_before(terms, scenario)
    left, _ = slack(model, scenario, free)
    step, table = step_of(model, scenario), request_table(scenario, running)
    draft = beyond + _uncounted(terms, scenario)
    needed = step.nbytes + table + draft
    if needed <= left:
        return ""
    # rounded down to two decimals: the value is a suggestion that must work
    possible = max(0, free - needed) * 100 // free if free else 0
    what = f"{step.describe()}{', the draft' if draft else ''} and the table of requests"
    return (
        f"--mem-fraction-static {fraction_of(model, scenario) or 0:.3g} leaves {format_bytes(left)}, and "
        f"{what} take about {format_bytes(needed)}"
        + (f": --mem-fraction-static {possible / 100:g} is the most" if possible else "")
    )


def _command(model: Model, scenario: Scenario, running: float) -> str:
    """The launch line, with all options that differ from SGLang's defaults; with more requests at once, where its
    default would let some of the batch wait."""
    parallel, asked = scenario.parallel, settings_of(scenario)
    together = asked.enable_dp_attention
    sizes = {
        "--tp": parallel.tp * parallel.dp if together else parallel.tp,
        "--pp": parallel.pp,
        "--dp": parallel.dp,
        "--ep": asked.ep,
        "--max-running-requests": 1 if asked.requests_given else _more(scenario, running),
    }
    parts = ["python -m sglang.launch_server", "--model-path", shlex.quote(model.checkpoint.ref.model_id)]
    parts += [f"--context-length {scenario.seq}"]
    parts += [f"{name} {size}" for name, size in sizes.items() if size > 1]
    parts += ["--enable-dp-attention"] if together else []
    return " ".join([*parts, *asked.given, *_dtype_options(scenario, model)])


def _more(scenario: Scenario, running: float) -> int:
    """`--max-running-requests` for the batch, of all replicas of attention; 0 where the default is enough."""
    replicas = scenario.parallel.dp if settings_of(scenario).enable_dp_attention else 1
    return scenario.batch * replicas if scenario.batch > running else 0


def _dtype_options(scenario: Scenario, model: Model) -> list[str]:
    own = model.architecture.dtype or model.stored_dtype
    quantiser = find_quantiser(scenario.dtype or "")
    options = []
    if quantiser is not None:
        options += ["--quantization fp8"] if quantiser.name == "fp8" and model.quantisation is None else []
    elif scenario.dtype is not None and scenario.dtype != own:
        options.append(f"--dtype {scenario.dtype}")
    brought = scenario.kv_dtype in (scenario.compute_dtype, None)
    cache = "" if brought else CACHE_DTYPES.get(scenario.kv_dtype or "")
    return [*options, *([f"--kv-cache-dtype {cache}"] if cache else [])]
