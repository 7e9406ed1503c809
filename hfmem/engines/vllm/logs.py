"""The log of a vLLM server, from its start."""

from __future__ import annotations

import re
from typing import Final

from hfmem.engines.logs import NUMBER, WORD, Logs, line

__all__ = ["LOGS"]

LOGS: Final = Logs(
    lines=(
        line(rf"Model loading took {NUMBER} ?Gi?B", "weights"),
        line(rf"Loading model weights took {NUMBER} ?GB", "weights"),
        line(rf"torch peak memory increase: {NUMBER} ?GiB", "activations"),
        line(rf"PyTorch activation peak memory takes {NUMBER} ?GiB", "activations"),
        line(rf"Graph capturing finished in .{{0,300}}?took {NUMBER} ?GiB", "graphs"),
        line(rf"Available KV cache memory: {NUMBER} ?GiB", "pool"),
        line(rf"memory reserved for KV Cache is {NUMBER} ?GiB", "pool"),
        line(rf"GPU KV cache size: {NUMBER} tokens", "tokens", 1),
        line(rf"Maximum concurrency for [\d,]+ tokens per request: {NUMBER}x", "concurrency", 1),
        line(rf"free_memory={NUMBER}GiB", "free"),
    ),
    settings=(
        ("vllm_version", re.compile(r"(?:LLM engine \(v|API server version )(\d+\.\d+\.\d+)")),
        ("model", re.compile(r"(?:with config: model=|['\"]model(?:_tag)?['\"]: )" + WORD)),
        ("seq", re.compile(r"max_(?:seq|model)_len['\"]?[=:] ?(\d+)")),
        ("tp", re.compile(r"tensor_parallel_size['\"]?[=:] ?(\d+)")),
        ("pp", re.compile(r"pipeline_parallel_size['\"]?[=:] ?(\d+)")),
        ("dp", re.compile(r"data_parallel_size['\"]?[=:] ?(\d+)")),
        ("gpu_memory_utilization", re.compile(r"gpu_memory_utilization['\"]?[=:] ?([\d.]+)")),
        ("max_num_seqs", re.compile(r"max_num_seqs['\"]?[=:] ?(\d+)")),
        ("max_num_batched_tokens", re.compile(r"max_num_batched_tokens['\"]?[=:] ?(\d+)")),
        ("enforce_eager", re.compile(r"enforce_eager['\"]?[=:] ?(True)")),
        ("dtype", re.compile(r"dtype['\"]?[=:] ?(?:torch\.)?['\"]?(float16|bfloat16|float32)")),
        ("kv_dtype", re.compile(r"kv_cache_dtype['\"]?[=:] ?['\"]?(fp8\w*)")),
    ),
    starts=re.compile(r"Initializing an? (?:V\d )?LLM engine|vLLM API server version"),
    source="vLLM 0.6 to 0.33, worker/worker.py, v1/worker/gpu_worker.py, v1/core/kv_cache_utils.py; GB is 2^30",
)
