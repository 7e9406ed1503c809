"""A report as the JSON contract's RESULT (schema 1). Keys may be added, never renamed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from hfmem.estimator.scenario import Placing, Scenario
from hfmem.estimator.values import GROUPS, Estimate, Phase, Rank, Term
from hfmem.mapper.values import Architecture
from hfmem.report.against import against_dict
from hfmem.report.choices import choice_dicts
from hfmem.report.components import component_dicts
from hfmem.report.fit import fit_dict
from hfmem.report.holders import holder_dicts
from hfmem.report.placement import placement_dict
from hfmem.report.values import Report
from hfmem.report.variants import variants_dict

if TYPE_CHECKING:
    from hfmem.estimator.beside import InPieces
    from hfmem.estimator.serving import Serving
    from hfmem.estimator.traced import Trace

__all__ = ["SCHEMA", "to_result"]

SCHEMA: Final = 1


def to_result(report: Report) -> dict[str, Any]:
    """One RESULT, ready for `json.dumps`; bytes are integers, null is unknown, 0 is none."""
    checkpoint, estimate = report.checkpoint, report.estimate
    return {
        "model": checkpoint.ref.model_id,
        "asked": checkpoint.ref.asked or checkpoint.ref.named,
        "revision": checkpoint.ref.revision,
        "commit": checkpoint.commit,
        "source": checkpoint.source,
        "provenance": checkpoint.provenance,
        "architecture": _architecture(report.architecture),
        "parameters": _parameters(report),
        "scenario": _scenario(report.scenario) | ({"seq": None} if report.model.lengthless else {}),
        "memory": _memory(estimate),
        "total_is_lower_bound": estimate.is_lower_bound,
        "range": {"low": estimate.low, "high": estimate.total} if estimate.spared else None,
        "phases": [_phase(phase) for phase in estimate.phases] or None,
        "peak_phase": estimate.peak_phase,
        "per_gpu": [_rank(estimate, rank) for rank in estimate.ranks] or None,
        "memory_all_gpus": _all_gpus(estimate),
        "kv_cache_per_token": estimate.kv_cache_per_token,
        "kv_cache_fixed": estimate.kv_cache_fixed,
        "download": {"bytes": report.download.nbytes, "files": report.download.files},
        "serving": _serving(estimate.serving),
        "training": _training(report),
        "host": _host(report),
        "load_peak": _load_peak(estimate),
        "terms": [_term(term) for term in estimate.terms],
        "fit": [fit_dict(fit) for fit in report.fits] or None,
        "choices": choice_dicts(report.variants.rows if report.variants else report.choices, checkpoint.ref.model_id),
        "help": _help(report),
        "plans": _plans(report),
        "components": _components(report),
        "notes": list(report.notes),
        **({} if estimate.in_pieces is None else {"prefill_in_pieces": _pieces(estimate.in_pieces)}),
        **_where(report),
        **({} if report.variants is None else {"variants": variants_dict(report.variants)}),
        **({} if report.holders is None else {"holders": holder_dicts(report.holders)}),
        **({} if report.trace is None else {"trace": _trace(report, report.trace)}),
    }


def _where(report: Report) -> dict[str, Any]:
    """Where modules lie, and a log that the estimate is held against, where they were asked for."""
    placement = report.estimate.placement
    return {
        **({} if placement is None else {"device_map": placement_dict(placement)}),
        **({} if report.against is None else {"against": against_dict(report.against)}),
    }


def _trace(report: Report, trace: Trace) -> dict[str, Any]:
    """The traced peak; the estimate next to it excludes the overhead, which a trace does not see."""
    return {
        "peak": trace.peak,
        **{group: trace.groups[group] for group in GROUPS if group in trace.groups},
        "phase": trace.phase,
        "phases": dict(trace.phases),
        "estimate": report.beside_peak,
        "difference": report.beside_peak - trace.peak,
        "layers": trace.layers,
        "source": trace.source,
        "seconds": trace.seconds,
    }


def _pieces(pieces: InPieces) -> dict[str, int]:
    """The total with a long prompt run in chunks."""
    return {"prefill_chunk": pieces.tokens, "total": pieces.total}


def _help(report: Report) -> list[dict[str, Any]] | None:
    """Advice: to fit, otherwise to need less memory in training."""
    rows = [
        {"option": row.option, "total": row.total, "fits": row.fits, "tight": row.tight, "host": row.host}
        for row in report.advice
    ]
    if rows or not report.savings:
        return rows or None
    from hfmem.report.training import help_rows  # for runs that train only

    return help_rows(report.savings)


def _plans(report: Report) -> list[dict[str, Any]] | None:
    """How far training goes; null for inference, or without an accelerator."""
    if not report.plans:
        return None
    from hfmem.report.training import plan_rows  # for runs that train only

    return plan_rows(report.plans)


def _phase(phase: Phase) -> dict[str, Any]:
    groups: dict[str, int] = {group: phase.group(group) for group in GROUPS}
    return {"name": phase.name, **groups, "total": phase.total}


def _training(report: Report) -> dict[str, Any] | None:
    """Facts on training that have no other place in the schema; None for inference."""
    if report.estimate.training is None:
        return None
    from hfmem.report.training import training_fields

    return training_fields(report.estimate)


def _architecture(architecture: Architecture) -> dict[str, Any]:
    return {
        "model_type": architecture.model_type,
        "architectures": list(architecture.architectures),
        "hidden_size": architecture.hidden_size,
        "layers": architecture.depth,
        "attention_heads": architecture.attention_heads,
        "kv_heads": architecture.kv_heads,
        "head_dim": architecture.head_dim,
        "intermediate_size": architecture.intermediate_size,
        "vocab_size": architecture.vocab_size,
        "max_positions": architecture.max_positions,
        "tied_embeddings": architecture.tied_embeddings,
        "experts": architecture.experts,
        "experts_per_token": architecture.experts_per_token,
        "layer_kinds": architecture.layer_kinds,
    }


def _components(report: Report) -> list[dict[str, Any]] | None:
    """The components of a pipeline, or the base model and the adapter of a model that has one."""
    if report.model.pipeline is not None:
        return component_dicts(report)
    adapted = report.model.adapted
    if adapted is None:
        return None
    weights = [term for term in report.estimate.terms if term.group == "weights"]
    own = sum(term.nbytes for term in weights if term.name.startswith("adapter"))
    base = adapted.base
    total = base.parameters.total if base.parameters else None
    rest = sum(term.nbytes for term in weights) - own
    return [
        {
            "name": base.checkpoint.ref.model_id,
            "class": next(iter(base.architecture.architectures), None),
            "parameters": total,
            "dtype": report.scenario.compute_dtype,
            "bytes": rest,
            "loaded": True,
        },
        {
            "name": report.checkpoint.ref.model_id,
            "class": adapted.kind or None,
            "parameters": adapted.trained,
            "dtype": "float32" if report.scenario.serving is None else report.scenario.compute_dtype,
            "bytes": own,
            "loaded": True,
        },
    ]


def _parameters(report: Report) -> dict[str, Any]:
    table = report.parameters
    return {
        "total": table.total if table else None,
        "active": table.active if table else None,
        "stored": table.stored if table else {},
        "by_component": dict(table.by_component) if table else {},
        "certainty": report.certainty,
        "source": report.source,
    }


def _scenario(scenario: Scenario) -> dict[str, Any]:
    return {
        "mode": scenario.mode,
        "batch": scenario.batch,
        "seq": scenario.seq,
        "source_seq": scenario.source_seq,
        "prompt": scenario.prompt,
        "prefill_chunk": scenario.prefill_chunk,
        **_generation(scenario),
        "images": scenario.images,
        **({"height": scenario.image_height, "width": scenario.image_width} if scenario.image_height else {}),
        "image_tokens": scenario.image_tokens,
        "video_tokens": scenario.video_tokens,
        "audio_tokens": scenario.audio_tokens,
        "dtype": scenario.dtype,
        "compute_dtype": scenario.compute_dtype,
        "kv_dtype": scenario.kv_dtype,
        "runtime": scenario.runtime,
        "attention": scenario.attention,
        "method": scenario.method,
        "train": scenario.train,
        "optimizer": scenario.optimizer,
        **_machine(scenario),
        **dict.fromkeys(_TRAINING),
        **(scenario.serving.fields() if scenario.serving is not None else {}),  # an engine may have one of these too
        **_training_scenario(scenario),
        "cp": scenario.parallel.cp,
    }


def _generation(scenario: Scenario) -> dict[str, Any]:
    """How `generate` of transformers makes sequences and caches them; null where that was not chosen."""
    chosen = scenario.generation
    packed = chosen.packed if chosen is not None else None
    settings = packed and {
        "backend": packed.backend,
        "nbits": packed.bits,
        "q_group_size": packed.group or None,
        "residual_length": packed.residual or None,
    }
    return {
        "num_beams": chosen.beams if chosen is not None else None,
        "num_return_sequences": chosen.sequences if chosen is not None else None,
        "cache_implementation": chosen.cache if chosen is not None else None,
        "cache_config": settings,
        "assistant_model": (chosen.assisted_by or None) if chosen is not None else None,
        **({} if scenario.placing is None else _placing(scenario.placing)),
    }


def _placing(placing: Placing) -> dict[str, Any]:
    """How whole modules are put on devices, with the limits that the user set."""
    limits = {str(device): size for device, size in placing.limits}
    return {"device_map": placing.way, "max_memory": limits or None}


_TRAINING: Final = (
    "precision",
    "stack",
    "gradient_checkpointing",
    "checkpointing",
    "gradient_accumulation",
    "fused_loss",
    "head",
    "lora_rank",
    "lora_targets",
    "lora_dropout",
    "lora_dtype",
    "double_quant",
    "zero",
    "fsdp",
    "offload",
)
"""Keys of `scenario` for training only; null in inference."""


def _training_scenario(scenario: Scenario) -> dict[str, Any]:
    if not scenario.train:
        return {}
    from hfmem.report.training import scenario_fields

    return scenario_fields(scenario)


def _machine(scenario: Scenario) -> dict[str, Any]:
    """The accelerator, and the settings of a serving engine."""
    parallel, server = scenario.parallel, scenario.serving
    facts: dict[str, Any] = {
        "gpu": scenario.gpu.name if scenario.gpu else None,
        "reserve": scenario.reserve,
        "gpus": parallel.gpus,
        "tp": parallel.tp,
        "pp": parallel.pp,
        "dp": parallel.dp,
        "ep": parallel.ep,
    }
    if server is not None:
        facts |= server.fields()
    return facts


def _host(report: Report) -> dict[str, Any] | None:
    """Host memory: everything on a CPU, otherwise only what is offloaded; and its peak while loading."""
    scenario, estimate = report.scenario, report.estimate
    if scenario.method == "textbook":
        return None
    on_cpu = scenario.gpu is not None and scenario.gpu.kind == "cpu"
    terms = estimate.terms if on_cpu else estimate.host
    groups = {group: sum(term.nbytes for term in terms if term.group == group) for group in GROUPS}
    unknown = {group for group, _ in estimate.unknown} if on_cpu else set()
    shown: dict[str, int | None] = {
        group: None if group in unknown and not size else size for group, size in groups.items()
    }
    return {
        **shown,
        "total": sum(groups.values()),
        "load_peak": estimate.loading.host if estimate.loading else None,
    }


def _load_peak(estimate: Estimate) -> dict[str, Any] | None:
    """The peak while loading, on the most loaded accelerator and in host memory."""
    loading = estimate.loading
    if loading is None:
        return None
    return {
        "gpu": loading.gpu,
        "host": loading.host,
        "how": loading.how,
        "source": loading.source,
        "certainty": "typical",
    }


def _rank(estimate: Estimate, rank: Rank) -> dict[str, Any]:
    groups: dict[str, int | None] = {group: estimate.group(group, rank) for group in GROUPS}
    return {"ranks": list(rank.ranks), "count": len(rank.ranks), **groups, "total": rank.total}


def _all_gpus(estimate: Estimate) -> dict[str, int | None] | None:
    """The sum over all ranks."""
    if not estimate.ranks:
        return None
    sums: dict[str, int | None] = {}
    for group in GROUPS:
        parts = [(estimate.group(group, rank), len(rank.ranks)) for rank in estimate.ranks]
        sums[group] = (
            None if any(size is None for size, _ in parts) else sum((size or 0) * count for size, count in parts)
        )
    return {**sums, "total": sum(rank.total * len(rank.ranks) for rank in estimate.ranks)}


def _serving(serving: Serving | None) -> dict[str, Any] | None:
    if serving is None:
        return None
    return {
        "kv_pool": serving.kv_pool,
        "kv_tokens": serving.kv_tokens,
        "max_concurrency": serving.max_concurrency,
        "kv_blocks": serving.kv_blocks,
        "blocks_per_request": serving.blocks_per_request,
        "least_utilization": serving.least_utilization,
        "mix": None
        if serving.mix is None
        else {
            "on_average": serving.mix.on_average,
            "at_full_length": serving.mix.at_full_length,
            "limited": serving.mix.limited,
            "tokens": serving.mix.tokens,
        },
        "command": serving.command,
        "refused": serving.refused or None,
    }


def _memory(estimate: Estimate) -> dict[str, int | None]:
    return {**{group: estimate.group(group) for group in GROUPS}, "total": estimate.known_total}


def _term(term: Term) -> dict[str, Any]:
    return {
        "name": term.name,
        "group": term.group,
        "phase": term.phase,
        "bytes": term.nbytes,
        "how": term.how,
        "source": term.source,
        "certainty": term.certainty,
    }
