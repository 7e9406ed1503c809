"""The line that starts llama-server with the settings of an estimate."""

from __future__ import annotations

from pathlib import PurePath
from shlex import quote

from hfmem.engines.llamacpp.options import ALL_LAYERS
from hfmem.engines.llamacpp.settings import UBATCH, LlamaSettings
from hfmem.mapper.interpret import Model

__all__ = ["launch_line"]


def launch_line(model: Model, settings: LlamaSettings) -> str:
    """The line, with the settings that are not llama-server's defaults."""
    words = ["llama-server", *_model(model), "-c", str(settings.n_ctx), "-np", str(settings.n_seq_max)]
    layers = settings.n_gpu_layers
    words += ["-ngl", "all" if layers >= ALL_LAYERS else str(layers)]
    words += ["--flash-attn", "on" if settings.flash else "off"]
    if settings.n_ubatch != UBATCH:
        words += ["-ub", str(settings.n_ubatch)]
    for flag, kind in (("-ctk", settings.type_k), ("-ctv", settings.type_v)):
        words += [flag, kind] if kind != "f16" else []
    words += ["--n-cpu-moe", str(settings.n_cpu_moe)] if settings.n_cpu_moe else []
    for pattern, place in settings.overrides:
        words += ["-ot", f"{pattern}={place}"]
    if settings.tensor_split:
        words += ["-ts", ",".join(f"{share:g}" for share in settings.tensor_split)]
    words += ["--split-mode", settings.split_mode] if settings.split_mode != "layer" else []
    words += ["--no-kv-offload"] if not settings.offload_kqv else []
    words += ["--kv-unified"] if settings.unified else []
    words += ["--swa-full"] if settings.swa_full else []
    return " ".join(quote(word) for word in words)


def _model(model: Model) -> tuple[str, str]:
    """The file, or the repository and its quantisation."""
    checkpoint = model.checkpoint
    ref = checkpoint.ref
    if checkpoint.source == "local":
        first = checkpoint.weight_files[0].name if checkpoint.weight_files else ""
        alone = not first or PurePath(ref.model_id).name == PurePath(first).name
        return "-m", ref.model_id if alone else str(PurePath(ref.model_id, first))
    return "-hf", f"{ref.model_id}:{ref.quant}" if ref.quant else ref.model_id
