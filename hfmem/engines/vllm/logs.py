"""The log of a vLLM server, from its start.

At INFO, releases since 0.10.2 sum up what they measured in one line at the end: up to 0.26 weights, peak activation and
what is not PyTorch's; since then what was consumed (weights with the latter), and a peak that has the graphs which the
profile run expects. Each figure is found by its own words, as terminals and people wrap the line.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Final

from hfmem.engines.logs import NUMBER, WORD, Logs, line
from hfmem.units import MIB

__all__ = ["LOGS"]


def _argument(name: str) -> str:
    """What stands before the value of an argument: in a configuration, in JSON or on a command line."""
    return rf"(?:\b{name}['\"]?[=:] ?|--{name.replace('_', '-')}[= ])"


_WHOLE: Final = r"(\d+)(?![\dkKmMgG]|\.\d)"
"""A number without a word for thousands behind it."""

_SPECULATIVE: Final = r"(?:SpeculativeConfig\(|speculative_config['\"]?[=:] ?\{).{0,300}?"


def _experts(settings: Mapping[str, object]) -> Mapping[str, object]:
    """Experts are divided among all ranks, or as matrices among those of tensor parallelism."""
    ranks = [settings.get(name, 1) for name in ("tp", "dp")]
    if not settings.get("expert_parallel") or not all(isinstance(rank, int) for rank in ranks):
        return {}
    return {"ep": math.prod(int(str(rank)) for rank in ranks)}


LOGS: Final = Logs(
    lines=(
        line(rf"Model loading took {NUMBER} ?Gi?B", "weights"),
        line(rf"Loading model weights took {NUMBER} ?GB", "weights"),
        line(rf"Loading model weights took {NUMBER} ?MB", "weights", MIB),
        line(rf"model weights take {NUMBER} ?GiB", "weights"),
        line(rf"{NUMBER} GiB for weights?\b", "weights"),
        line(rf"{NUMBER} GiB for consumed memory", "consumed"),
        line(rf"torch peak memory increase: {NUMBER} ?GiB", "activations"),
        line(rf"PyTorch activation peak memory takes {NUMBER} ?GiB", "activations"),
        line(rf"{NUMBER} GiB for peak activation, -?[\d.]+ GiB for non-torch", "activations"),
        line(rf"{NUMBER} GiB for peak activation, and", "peak"),
        line(rf"peak_torch_memory={NUMBER}GiB", "torch_peak"),
        line(rf"non_torch_memory takes {NUMBER} ?GiB", "libraries"),
        line(rf"non-torch forward increase memory: {NUMBER} ?GiB", "libraries"),
        line(rf"{NUMBER} GiB for non-torch memory", "libraries"),
        line(rf"Graph capturing finished in .{{0,300}}?took {NUMBER} ?GiB", "graphs"),
        line(rf"CUDA graph pool memory: {NUMBER} GiB \(actual\)", "graphs"),
        line(rf"{NUMBER} GiB for CUDAGraph memory", "graphs"),
        line(rf"Available KV cache memory: {NUMBER} ?GiB", "pool"),
        line(rf"memory reserved for KV Cache is {NUMBER} ?GiB", "pool"),
        line(rf"reserved {NUMBER} ?GiB memory for KV Cache", "pool"),
        line(rf"kv_cache_size={NUMBER}GiB", "pool"),
        line(rf"available KV cache memory \({NUMBER} GiB\)", "pool"),
        line(rf"kv cache memory in use is {NUMBER} GiB", "pool"),
        line(rf"kv cache memory in use is {NUMBER} bytes", "pool", 1),
        line(rf"\({NUMBER} GiB KV cache is needed", "request"),
        line(rf"KV cache size: {NUMBER} tokens", "tokens", 1),
        line(rf"tokens that can be stored in KV cache \({NUMBER}\)", "tokens", 1),
        line(rf"# (?:GPU|cuda) blocks: {NUMBER},", "blocks", 1),
        line(rf"Maximum concurrency for [\d,]+ tokens per request: {NUMBER}x", "concurrency", 1),
        line(rf"free_memory={NUMBER}GiB", "free"),
        line(rf"Free memory on device .{{0,40}}?\({NUMBER}/[\d.]+ GiB\) on startup", "free"),
    ),
    settings=(
        ("vllm_version", re.compile(r"(?:LLM engine \(v|(?:API )?server version |█ +version +)(\d+\.\d+\.\d+)")),
        ("model", re.compile(r"(?:with config: model=|['\"]model(?:_tag)?['\"]: |█ +model +)" + WORD)),
        ("model", re.compile(r"Starting to load model (\S+?)\.\.\.")),
        ("seq", re.compile(rf"(?:\bmax_seq_len=|{_argument('max_model_len')}){_WHOLE}")),
        ("seq", re.compile(r"(?:max seq len \(|Using max model len )(\d+)")),
        ("tp", re.compile(rf"{_argument('tensor_parallel_size')}{_WHOLE}")),
        ("pp", re.compile(rf"{_argument('pipeline_parallel_size')}{_WHOLE}")),
        ("dp", re.compile(rf"{_argument('data_parallel_size')}{_WHOLE}")),
        ("expert_parallel", re.compile(r"(?:enable_expert_parallel['\"]?[=:] ?|--enable-expert-paralle)(True|l)\b")),
        ("decode_context_parallel_size", re.compile(rf"{_argument('decode_context_parallel_size')}{_WHOLE}")),
        ("gpu_memory_utilization", re.compile(rf"{_argument('gpu_memory_utilization')}([\d.]+)")),
        ("gpu_memory_utilization", re.compile(r"(?:gpu_memory|GPU memory )[_ ]?utilization (?:is )?\(([\d.]+)")),
        ("max_num_seqs", re.compile(rf"{_argument('max_num_seqs')}{_WHOLE}")),
        ("max_num_batched_tokens", re.compile(rf"{_argument('max_num_batched_tokens')}{_WHOLE}")),
        ("block_size", re.compile(rf"(?:['\"]block_size['\"]: |--block-size[= ]){_WHOLE}")),
        ("enforce_eager", re.compile(r"enforce_eager['\"]?[=:] ?(True)")),
        ("enable_prefix_caching", re.compile(r"enable_prefix_caching['\"]?[=:] ?(True|False)")),
        ("mamba_cache_mode", re.compile(r"mamba_cache_mode['\"]?[=:] ?['\"](none|align|all)\b")),
        ("language_model_only", re.compile(r"['\"]language_model_only['\"]: (True)")),
        ("skip_mm_profiling", re.compile(r"['\"]skip_mm_profiling['\"]: (True)")),
        ("mm_encoder_tp_mode", re.compile(r"['\"]mm_encoder_tp_mode['\"]: ['\"](weights|data)\b")),
        ("limit_mm_per_prompt", re.compile(r"['\"]limit_mm_per_prompt['\"]: (\{[^{}]*\})")),
        ("cpu_offload_gb", re.compile(r"['\"]cpu_offload_gb['\"]: ([\d.]+)")),
        ("kv_offloading_size", re.compile(r"['\"]kv_offloading_size['\"]: ([\d.]+)")),
        ("enable_lora", re.compile(r"['\"]enable_lora['\"]: (True)")),
        ("max_loras", re.compile(rf"['\"]max_loras['\"]: {_WHOLE}")),
        ("max_lora_rank", re.compile(rf"['\"]max_lora_rank['\"]: {_WHOLE}")),
        ("spec_method", re.compile(_SPECULATIVE + r"method['\"]?[=:] ?['\"](?:\w+_)?(mtp|ngram)['\"]")),
        ("spec_tokens", re.compile(_SPECULATIVE + rf"num_spec(?:ulative)?_tokens['\"]?[=:] ?{_WHOLE}")),
        ("dtype", re.compile(r"\bdtype['\"]?[=:] ?(?:torch\.)?['\"]?(float16|bfloat16|float32)")),
        ("kv_dtype", re.compile(rf"{_argument('kv_cache_dtype')}['\"]?(?!auto|None|model)([a-z]\w+)")),
    ),
    derive=_experts,
    starts=re.compile(r"Initializing an? (?:V\d )?LLM engine|vLLM (?:API )?server version|█ +version "),
    source="vLLM 0.6 to 0.33, worker/worker.py, v1/worker/gpu_worker.py, v1/core/kv_cache_utils.py; GB is 2^30",
)
