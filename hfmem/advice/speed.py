"""How fast tokens can be generated at most, by memory alone: every weight that a token uses and the cache are read once
for each step, and an accelerator reads no faster than its memory.

What is left out makes the bound higher, never too low: activations, kernels, communication, and whatever is read twice.
Two things can go beyond it: speculative decoding, which makes several tokens a step, and weights of small models that
stay in caches on the chip.
"""

from __future__ import annotations

from math import ceil
from typing import TYPE_CHECKING, Final

from hfmem.advice.values import Speed
from hfmem.engines.table import engine
from hfmem.estimator.scenario import Scenario
from hfmem.estimator.values import Estimate, total_of
from hfmem.estimator.weights.loaded import group_bytes
from hfmem.mapper.caches import Indexed

if TYPE_CHECKING:
    from hfmem.estimator.weights.kept import Kept
    from hfmem.mapper.interpret import Model
    from hfmem.mapper.values import ParameterTable, TensorGroup

__all__ = ["speed"]

_ONCE: Final = ("vision", "audio", "projector", "mtp")
"""Components that run for a prompt, or not at all, but not for each token."""


def speed(model: Model, scenario: Scenario, estimate: Estimate) -> Speed | None:
    """The bound for the scenario's accelerator at its batch and length; None where nothing is generated token by token,
    the bandwidth is unknown, or a part of what is read is."""
    if scenario.mode != "inference" or scenario.method != "exact" or model.pipeline is not None:
        return None
    architecture, gpu = model.architecture, scenario.gpu
    unread = architecture.source is not None or not architecture.layers or architecture.vocab_size is None
    if unread or gpu is None or not gpu.bandwidth or estimate.refused or not _generates(model):
        return None
    if any(group in ("weights", "kv_cache") for group, _ in estimate.unknown):
        return None
    weights, cache = _weights(model, scenario, estimate), _cache(model, scenario, estimate)
    if weights + cache <= 0:
        return None
    parallel = scenario.parallel
    at_once = parallel.gpus // parallel.pp if parallel.ep > 1 else parallel.gpus // (parallel.pp * parallel.dp)
    if _rows(scenario):
        at_once = parallel.gpus
    most = max(1, at_once) * gpu.bandwidth / (weights + cache)
    return Speed(
        weights=weights,
        cache=cache,
        most=ceil(100 * most) / 100,
        batch=scenario.batch,
        bandwidth=gpu.bandwidth,
        at_once=max(1, at_once),
        hosted=_held(model, scenario, estimate) > 0 or any(term.group == "kv_cache" for term in estimate.host),
        source=gpu.spec_source,
    )


def _held(model: Model, scenario: Scenario, estimate: Estimate) -> int:
    """Bytes of weights in the host's memory beyond embeddings, of which only a row is read."""
    groups = model.parameters.groups if model.parameters is not None else ()
    kept = engine(scenario.runtime).kept(model, scenario)[0]
    rows = sum(group_bytes(group, scenario, kept) or 0 for group in groups if group.component == "embedding")
    held = total_of(term for term in estimate.host if term.group == "weights")
    return max(0, held - rows)


def _generates(model: Model) -> bool:
    """Whether it has a cache, as models have that make one token after another."""
    return any(layer.elements(1) for layer in model.architecture.layers or ())


def _rows(scenario: Scenario) -> bool:
    """Whether an engine that puts whole layers on each accelerator splits their rows instead, and runs them at once."""
    fields = scenario.serving.fields() if scenario.serving is not None else {}
    return fields.get("split_mode") not in (None, "layer", "none")


def _weights(model: Model, scenario: Scenario, estimate: Estimate) -> int:
    """Bytes of weights that accelerators read for one token of one sequence, over a whole replica. What the host holds
    beyond embeddings is taken off, as if all of it were read there."""
    table = model.parameters
    if table is None:
        return 0
    kept = engine(scenario.runtime).kept(model, scenario)
    read = min(_read(table, model, scenario, one) for one in kept)
    return max(0, read - _held(model, scenario, estimate))


def _read(table: ParameterTable, model: Model, scenario: Scenario, kept: Kept) -> int:
    """Bytes of the weights that one token uses."""
    tied = not any(group.component == "lm_head" for group in table.groups)
    head = (model.architecture.vocab_size or 0, model.architecture.hidden_size or 0)
    found = 0
    for group in table.groups:
        if group.component in _ONCE or not group.loaded:
            continue
        size = group_bytes(group, scenario, kept) or 0
        if group.component == "embedding":  # a row, unless the head uses the same table
            found += size if tied and set(group.shape) == set(head) else 0
        else:
            found += _used(group, size)
    return found


def _used(group: TensorGroup, size: int) -> int:
    """Bytes of a group that one token uses: of experts those that it is sent to. Scales have no parameters."""
    if not group.parameters:
        return 0 if group.component == "experts" else size
    return size * group.active // group.parameters


def _cache(model: Model, scenario: Scenario, estimate: Estimate) -> int:
    """Bytes of the cache that accelerators of a replica read in a step at the full length; of sparse attention the keys
    of its indexer only, as it reads few of the others."""
    ranks = [(len(rank.ranks), rank.terms) for rank in estimate.ranks] or [(1, estimate.terms)]
    kinds = {layer.kind for layer in model.architecture.layers or () if isinstance(layer.cache, Indexed)}
    sparse = {kind.replace("_", " ") for kind in kinds}
    read = (
        count * term.nbytes
        for count, terms in ranks
        for term in terms
        if term.group == "kv_cache" and term.name not in sparse
    )
    return sum(read) // max(1, scenario.parallel.dp)
