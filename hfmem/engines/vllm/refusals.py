"""Configurations that vLLM refuses to start with, whatever the memory."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from hfmem.engines.vllm.classes import classless
from hfmem.engines.vllm.kvformats import CacheFormat, format_of
from hfmem.engines.vllm.releases import Release
from hfmem.engines.vllm.settings import Settings, settings_of
from hfmem.estimator.scenario import Scenario
from hfmem.hardware.values import Accelerator
from hfmem.mapper.caches import KV
from hfmem.mapper.interpret import Model
from hfmem.mapper.values import Architecture

__all__ = ["CACHE_DTYPES", "longest", "refused"]

_STRETCHED: Final = ("su", "longrope", "llama3")  # max_position_embeddings is the extended length already
_NATIVE_FP8: Final = 8.9
_WITHOUT_VOLTA: Final = (0, 33)

CACHE_DTYPES: Final[dict[str, str]] = {
    "float8_e4m3fn": "fp8",
    "float8_e5m2": "fp8_e5m2",
    "bfloat16": "bfloat16",
    "float16": "float16",
}
"""Dtypes of the KV cache, with their values of `--kv-cache-dtype`."""

_YARN: Final = ("yarn", "deepseek_yarn", "deepseek_llama_scaling")


def refused(model: Model, scenario: Scenario) -> str:
    """The first reason to refuse; "" where vLLM starts."""
    return next(filter(None, _reasons(model, scenario)), "")


def _reasons(model: Model, scenario: Scenario) -> Iterator[str]:
    settings, architecture = settings_of(scenario), model.architecture
    if scenario.gpu is not None:
        yield _platform(scenario.gpu, settings)
    yield classless(model, settings.release)
    if architecture.overflows and scenario.compute_dtype == "float16":
        yield "models of this type are numerically unstable in float16: use bfloat16 or float32"
    yield _cache(model, scenario)
    if scenario.parallel.ep > 1 and architecture.layers and not architecture.experts:
        yield "the number of experts in the model must be greater than 0 when expert parallelism is enabled"
    if settings.max_num_batched_tokens < settings.max_num_seqs:
        yield (
            f"--max-num-batched-tokens {settings.max_num_batched_tokens:,} is less than --max-num-seqs "
            f"{settings.max_num_seqs:,}"
        )
    yield _length(architecture, scenario, settings.source)
    yield _mode(settings)


def _mode(settings: Settings) -> str:
    """A value of `--mamba-cache-mode` that the release does not have; the option is there since 0.15."""
    mode, modes = settings.mamba_cache_mode, settings.source.modes
    if mode is None or (mode in modes and "none" in modes):
        return ""
    known = f"choose {' or '.join(modes)}" if "none" in modes else "it has no such option"
    return f"--mamba-cache-mode {mode} does not exist in {settings.describe()}: {known}"


def _platform(gpu: Accelerator, settings: Settings) -> str:
    """Unsupported devices (vLLM 0.27.0, `platforms/__init__.py`). The wheels of 0.33.0 have kernels for compute
    capability 7.5 and higher; the documentation of earlier releases requires 7.0."""
    if gpu.vendor == "apple" and gpu.kind != "cpu":
        return "vLLM has no platform for Apple GPUs; on a Mac it runs on the CPU"
    least = 7.5 if settings.release >= _WITHOUT_VOLTA else 7.0
    capability = _capability(gpu)
    if capability and capability < least:
        return f"{settings.describe()} needs compute capability {least} or higher, and {gpu.name} has {capability}"
    return ""


def _capability(gpu: Accelerator) -> float:
    """NVIDIA's compute capability; 0 for other vendors."""
    try:
        return float(gpu.compute_capability) if gpu.vendor == "nvidia" else 0.0
    except ValueError:
        return 0.0


def _cache(model: Model, scenario: Scenario) -> str:
    """Unsupported KV cache dtypes (0.27.0, config/cache.py::CacheDType). FP8 is refused where only the Triton attention
    backend is left: below compute capability 8.0, and for attention with sinks before Hopper
    (v1/attention/backends/{flashinfer,fa_utils,triton_attn}.py)."""
    if (packed := format_of(scenario.kv_dtype)) is not None:
        return _packed(packed, model, scenario)
    if scenario.kv_dtype not in (scenario.compute_dtype, None, *CACHE_DTYPES):
        return f"--kv-cache-dtype {scenario.kv_dtype} does not exist: choose auto, float16, bfloat16, fp8 or fp8_e5m2"
    capability = _capability(scenario.gpu) if scenario.gpu is not None else 0.0
    if not capability or not (scenario.kv_dtype or "").startswith("float8"):
        return ""
    sinks = model.parameters is not None and model.parameters.sinks
    if capability < 8.0 or (sinks and capability < _NATIVE_FP8):
        why = "attention sinks" if capability >= 8.0 else "the Triton attention backend"
        return f"an FP8 KV cache with {why} needs compute capability {_NATIVE_FP8}, and the GPU has {capability}"
    return ""


def _packed(packed: CacheFormat, model: Model, scenario: Scenario) -> str:
    """Why a packed format of the KV cache is refused; "" where it is not."""
    settings, gpu = settings_of(scenario), scenario.gpu
    if settings.release < packed.since:
        since = ".".join(map(str, packed.since))
        return f"--kv-cache-dtype {packed.name} exists in vLLM {since} and later, not in {settings.describe()}"
    if gpu is not None and packed.vendor and gpu.vendor != packed.vendor:
        return f"--kv-cache-dtype {packed.name} has kernels for {packed.vendor.upper()} GPUs only"
    dims = {layer.cache.key_dim for layer in model.architecture.layers or () if isinstance(layer.cache, KV)}
    if packed.head_dims and (others := sorted(dims - {*packed.head_dims})):
        allowed = " or ".join(map(str, packed.head_dims))
        return f"--kv-cache-dtype {packed.name} needs a head dimension of {allowed}, and this model has {others[0]}"
    return ""


def _length(architecture: Architecture, scenario: Scenario, release: Release) -> str:
    limit = longest(architecture, release)
    if limit is None or scenario.seq <= limit[1]:
        return ""
    context = architecture.context
    if context is not None and context.allowed is not None and scenario.seq <= context.allowed:
        return ""
    return (
        f"--max-model-len {scenario.seq:,} is more than the model's {limit[1]:,} ({limit[0]}); "
        "VLLM_ALLOW_LONG_MAX_MODEL_LEN=1 in the environment allows it, at the risk of wrong outputs"
    )


def longest(architecture: Architecture, release: Release) -> tuple[str, int] | None:
    """The maximum context that vLLM derives from the config, with the key that sets it; None where no key does.

    vLLM 0.30.0 and 0.29.0, `config/model.py::_get_and_verify_max_len`: the config's length, times the factor of
    `rope_scaling` unless the length is the extended one already.
    """
    context = architecture.context
    if context is None:
        return None
    key, length, factor = context.key, context.length, 1.0
    for stretch in context.stretches:
        if stretch.kind in _STRETCHED or (stretch.kind in _YARN and not release.yarn_stretches):
            continue
        factor = stretch.factor
        if stretch.kind == "yarn" and stretch.original is not None:
            key, length = "YaRN's original_max_position_embeddings × factor", stretch.original
    return key, int(length * factor)
