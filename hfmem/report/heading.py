"""What a report is about, in a few words: the model, its shape, what is asked, and where the facts are from."""

from __future__ import annotations

from typing import Final

from hfmem.engines.table import find_engine
from hfmem.estimator.scenario import Scenario
from hfmem.fetcher.formats import gguf
from hfmem.fetcher.values import Checkpoint
from hfmem.mapper.values import Architecture
from hfmem.report.escapes import line
from hfmem.report.values import Report
from hfmem.units import format_count

__all__ = ["about", "asked", "chain", "origin", "shape"]

_PLACES: Final = {"hub": "the Hub", "cache": "the cache", "local": "this machine", "catalog": "the bundled catalog"}


def about(report: Report) -> list[str]:
    """The model's type, parameters and format of its weights."""
    count = report.parameters.total if report.parameters else None
    active = report.parameters.active if report.parameters else None
    words = [_kind(report)]
    if count is not None and active is not None:
        mixture = report.architecture.experts and active < count
        words.append(f"{format_count(count)} parameters" + (f", {format_count(active)} active" if mixture else ""))
    engine = find_engine(report.scenario.runtime)
    as_stored = engine is not None and engine.only == gguf.FORMAT.name  # whatever dtype was asked for
    found = _mixed(report) or _packed(report) or (not as_stored and report.scenario.dtype) or _stored(report)
    return [*words, found]


def _packed(report: Report) -> str:
    """The bits of weights that an engine of its own runs as they are packed, whatever dtype was asked for; "" else."""
    packed = report.model.quantisation
    runs = find_engine(report.scenario.runtime)
    if packed is None or runs is None or packed.method != runs.name:
        return ""
    return f"{packed.bits} bits in {runs.title}"


def _mixed(report: Report) -> str:
    """The dtypes of a pipeline whose components run in several; "" for one."""
    if report.model.pipeline is None:
        return ""
    from hfmem.report.components import component_rows  # for pipelines only

    found = dict.fromkeys(row.dtype for row in component_rows(report) if row.loaded and row.dtype)
    return ", ".join(found) if len(found) > 1 else ""


def _kind(report: Report) -> str:
    pipeline = report.model.pipeline
    if pipeline is not None:
        return line(pipeline.class_name or ", ".join(one.class_name or one.name for one in pipeline.components))
    if report.model.network is not None:
        return line(f"timm's {report.model.network.name}")
    return report.architecture.model_type or "unknown architecture"


def _stored(report: Report) -> str:
    """The quantisation that was chosen of several, else the format that most elements are stored in."""
    chosen = next((row.quant for row in report.choices if row.chosen), "")
    if chosen:
        return chosen
    stored = report.parameters.stored if report.parameters is not None else {}
    return f"mostly {max(stored, key=lambda name: stored[name])}" if stored else "unknown dtype"


def shape(report: Report) -> str:
    """Layers and sizes; "" where none is known, and for pipelines and networks for images."""
    return "" if report.model.lengthless else _sizes(report.architecture)


def _sizes(architecture: Architecture) -> str:
    kinds = ", ".join(f"{count} {kind.replace('_', ' ')}" for kind, count in architecture.layer_kinds.items())
    parts = [
        f"{architecture.depth} layers" + (f" ({kinds})" if kinds not in ("", f"{architecture.depth} none") else ""),
        f"hidden {architecture.hidden_size}",
    ]
    if architecture.attention_heads and architecture.kv_heads and architecture.head_dim:
        parts.append(f"{architecture.attention_heads} heads, {architecture.kv_heads} KV × {architecture.head_dim}")
    if architecture.experts:
        parts.append(f"{architecture.experts_per_token} of {architecture.experts} experts")
    return ", ".join(part for part in parts if "None" not in part)


def origin(checkpoint: Checkpoint) -> str:
    """Where the facts are from, as a phrase: `the Hub`, `the bundled catalog, offline`."""
    if checkpoint.source == "local":
        return chain(checkpoint)
    commit = f" at {checkpoint.commit[:12]}" if checkpoint.commit and checkpoint.source != "catalog" else ""
    return _PLACES[checkpoint.source] + commit + (f", {checkpoint.without_hub}" if checkpoint.without_hub else "")


def chain(checkpoint: Checkpoint) -> str:
    """Where each of the facts is from, in full."""
    commit = f" at {checkpoint.commit[:12]}" if checkpoint.commit else ""
    provenance = checkpoint.provenance.rstrip(".") or checkpoint.provenance
    return f"{_PLACES[checkpoint.source]}{commit} ({provenance})"


def asked(report: Report) -> str:
    """The scenario: what is done, how much of it, and by which software."""
    scenario = report.scenario
    action, software = _action(scenario)
    exact = software if report.model.lengthless else f"{software} with {scenario.attention} attention"
    if scenario.serving is not None:
        exact = scenario.serving.describe()
    exact += _generation(scenario)
    if scenario.gpu is not None or scenario.parallel.gpus > 1:
        name = scenario.gpu.name if scenario.gpu else "GPUs"
        exact += f", {scenario.parallel.gpus} × {name}" + _split(scenario)
    method = "the textbook formulas" if scenario.method == "textbook" else exact
    if report.model.pipeline is not None:
        return f"{action}: {method}" if scenario.serving is not None else f"{action}: batch {scenario.batch}, {method}"
    if report.model.network is not None:
        size = f"{scenario.image_width} × {scenario.image_height}"
        return f"{action}: {scenario.batch:,} image{'s' * (scenario.batch > 1)} of {size} pixels, {method}"
    return f"{action}: batch {scenario.batch} × {scenario.seq:,} tokens{_prompt(scenario)}, {method}"


def _split(scenario: Scenario) -> str:
    """How the model is spread over accelerators."""
    if scenario.placing is not None:
        return f" (device map {scenario.placing.way})"
    return f" ({scenario.parallel.describe()})" if scenario.parallel.gpus > 1 else ""


def _generation(scenario: Scenario) -> str:
    """Beams, answers and the cache, where they were chosen."""
    chosen = scenario.generation
    if chosen is None:
        return ""
    words = [f"{chosen.beams:,} beams"] if chosen.beams > 1 else []
    words += [f"{chosen.sequences:,} answers per prompt"] if chosen.sequences > 1 else []
    words += [f"{chosen.cache.replace('_', ' ')} cache"] if chosen.cache != "dynamic" else []
    if chosen.packed is not None:
        words[-1] += f" ({chosen.packed.backend}, {chosen.packed.bits} bits)"
    words += [f"assisted by {chosen.assisted_by}"] if chosen.assisted_by else []
    return "".join(f", {word}" for word in words)


def _prompt(scenario: Scenario) -> str:
    """The prompt's share of the tokens, and its chunks."""
    prompt = f" (prompt of {scenario.prompt:,})" if scenario.prompt is not None else ""
    return prompt + (f" in chunks of {scenario.prefill_chunk:,}" if scenario.prefill_chunk is not None else "")


def _action(scenario: Scenario) -> tuple[str, str]:
    """The action (inference or training), and the software."""
    if not scenario.train:
        return "inference", scenario.runtime
    from hfmem.report.training import describe, software  # for runs that train only

    return describe(scenario), software(scenario)
