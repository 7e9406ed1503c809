"""What starts a model with the settings of an estimate: the line of llama-server, or the file for Ollama."""

from __future__ import annotations

from pathlib import PurePath
from shlex import quote

from hfmem.engines.llamacpp.options import ALL_LAYERS
from hfmem.engines.llamacpp.settings import UBATCH, LlamaSettings
from hfmem.fetcher.quantisations import tower_for
from hfmem.mapper.interpret import Model

__all__ = ["launch_line", "modelfile"]


def launch_line(model: Model, settings: LlamaSettings, *, flash: bool) -> str:
    """The line, with the settings that are not llama-server's defaults.

    Args:
        flash: whether flash attention runs; where llama.cpp itself switches it off, that is left to it.
    """
    words = ["llama-server", *_model(model), "-c", str(settings.n_ctx), "-np", str(settings.n_seq_max)]
    layers = settings.n_gpu_layers
    words += ["-ngl", "all" if layers >= ALL_LAYERS else str(layers)]
    left = settings.auto_flash and not flash
    words += ["--flash-attn", "auto" if left else "on" if settings.flash else "off"]
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
    words += ["--main-gpu", str(settings.main_gpu)] if settings.main_gpu else []
    words += ["--no-kv-offload"] if not settings.offload_kqv else []
    words += ["--kv-unified"] if settings.unified else []
    words += ["--swa-full"] if settings.swa_full else []
    words += _tower(model, settings)
    return " ".join(quote(word) for word in words)


def _tower(model: Model, settings: LlamaSettings) -> list[str]:
    """The tower where it is not the one that llama-server itself takes, and that none is taken where it would."""
    checkpoint = model.checkpoint
    own = tower_for(checkpoint.weight_files[0].name, checkpoint.files) if checkpoint.weight_files else None
    taken = own is not None and checkpoint.source != "local"
    if not settings.mmproj:
        return ["--no-mmproj"] if taken else []
    name = settings.mmproj[0][0]
    return [] if taken and own is not None and own.name == name else ["--mmproj", name]


def _model(model: Model) -> tuple[str, str]:
    """The file, or the repository and its quantisation."""
    ref = model.checkpoint.ref
    if model.made:
        return "-m", model.checkpoint.weight_files[0].name
    if model.checkpoint.source == "local":
        return "-m", _path(model)
    return "-hf", f"{ref.model_id}:{ref.quant}" if ref.quant else ref.model_id


def _path(model: Model) -> str:
    """The first file of a local model, which may have been given as a folder."""
    given, files = model.checkpoint.ref.model_id, model.checkpoint.weight_files
    first = files[0].name if files else ""
    alone = not first or PurePath(given).name == PurePath(first).name
    return given if alone else str(PurePath(given, first))


def modelfile(model: Model, settings: LlamaSettings, layers: int) -> str:
    """The lines of a Modelfile; what Ollama's server takes from its environment stands in a comment.

    Args:
        layers: of the model, its output among them.
    """
    ref = model.checkpoint.ref
    name = f"hf.co/{ref.model_id}:{ref.quant}" if ref.quant else f"hf.co/{ref.model_id}"
    environment = [f"OLLAMA_NUM_PARALLEL={settings.n_seq_max}"] if settings.n_seq_max > 1 else []
    environment += [f"OLLAMA_KV_CACHE_TYPE={settings.type_k}"] if settings.type_k != "f16" else []
    environment += [] if settings.flash else ["OLLAMA_FLASH_ATTENTION=0"]
    lines = [f"# {' '.join(environment)} ollama serve"] if environment else []
    file = f"./{model.checkpoint.weight_files[0].name}" if model.made else ""
    lines.append(f"FROM {file or (_path(model) if model.checkpoint.source == 'local' else name)}")
    lines.append(f"PARAMETER num_ctx {settings.n_ctx // settings.n_seq_max}")
    lines.append(f"PARAMETER num_gpu {min(settings.n_gpu_layers, layers)}")
    lines.append(f"PARAMETER num_batch {settings.n_batch}")
    return "\n".join(lines)
