"""A report as the JSON contract's RESULT (schema 1). Keys may be added, never renamed."""

from __future__ import annotations

from typing import Any, Final

from hfmem.estimator.values import GROUPS, Estimate, Scenario, Term
from hfmem.mapper.values import Architecture
from hfmem.report import training
from hfmem.report.values import Report

__all__ = ["SCHEMA", "to_result"]

SCHEMA: Final = 1


def to_result(report: Report) -> dict[str, Any]:
    """One RESULT, ready for `json.dumps`; bytes are integers, null is unknown, 0 is none."""
    checkpoint, estimate = report.checkpoint, report.estimate
    return {
        "model": checkpoint.ref.model_id,
        "revision": checkpoint.ref.revision,
        "commit": checkpoint.commit,
        "source": checkpoint.source,
        "provenance": checkpoint.provenance,
        "architecture": _architecture(report.architecture),
        "parameters": _parameters(report),
        "scenario": _scenario(report.scenario),
        "memory": _memory(estimate),
        "total_is_lower_bound": estimate.is_lower_bound,
        "phases": training.phase_rows(estimate),
        "peak_phase": estimate.peak_phase,
        "per_gpu": training.gpu_rows(estimate),
        "memory_all_gpus": training.all_gpus(estimate),
        "kv_cache_per_token": estimate.kv_cache_per_token,
        "kv_cache_fixed": estimate.kv_cache_fixed,
        "download": {"bytes": report.download.nbytes, "files": report.download.files},
        "serving": None,
        "training": training.training_fields(estimate),
        "help": training.help_rows(estimate),
        "terms": [_term(term) for term in estimate.terms],
        "fit": None,
        "notes": list(report.notes),
    }


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


def _parameters(report: Report) -> dict[str, Any]:
    table = report.parameters
    return {
        "total": table.total if table else None,
        "active": table.active if table else None,
        "stored": table.stored if table else {},
        "by_component": dict(table.by_component) if table else {},
        "certainty": report.model.certainty,
        "source": report.model.source,
    }


def _scenario(scenario: Scenario) -> dict[str, Any]:
    return {
        "mode": scenario.mode,
        "batch": scenario.batch,
        "seq": scenario.seq,
        "source_seq": scenario.source_seq,
        "dtype": scenario.dtype,
        "compute_dtype": scenario.compute_dtype,
        "kv_dtype": scenario.kv_dtype,
        "runtime": scenario.runtime,
        "attention": scenario.attention,
        "method": scenario.method,
        "train": scenario.train,
        "optimizer": scenario.optimizer,
        **training.scenario_fields(scenario),
    }


def _memory(estimate: Estimate) -> dict[str, int | None]:
    return {**{group: estimate.group(group) for group in GROUPS}, "total": estimate.total}


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
