"""The log of a SGLang server, from its start."""

from __future__ import annotations

import re
from typing import Final

from hfmem.engines.logs import NUMBER, WORD, Logs, line

__all__ = ["LOGS"]

LOGS: Final = Logs(
    lines=(
        line(rf"Load weight begin\. avail mem={NUMBER} GB", "free"),
        line(rf"Load weight end\..{{0,400}}?mem usage={NUMBER} GB", "weights"),
        line(
            rf"Mamba Cache is allocated\..{{0,300}}?conv_state size: {NUMBER} ?GB"
            rf".{{0,300}}?ssm_state size: {NUMBER} ?GB",
            "states",
        ),
        line(rf"SWAKVPool mem usage: {NUMBER} GB", "pool"),
        line(rf"KV Cache is allocated\..{{0,300}}?K size: {NUMBER} GB, V size: {NUMBER} GB", "pool"),
        line(rf"KV Cache is allocated\..{{0,300}}?KV size: {NUMBER} GB", "pool"),
        line(rf"Capture [\w -]{{0,60}}[gG]raph end\..{{0,400}}?mem usage={NUMBER} GB", "graphs"),
        line(rf"max_total_num_tokens={NUMBER}", "tokens", 1),
        line(rf"KV Cache is allocated\..{{0,300}}?#tokens: {NUMBER},", "tokens", 1),
    ),
    settings=(
        ("model", re.compile(r"model_path=" + WORD)),
        ("seq", re.compile(r"context_len(?:gth)?=(\d+)")),
        ("tp", re.compile(r"tp_size=(\d+)")),
        ("pp", re.compile(r"pp_size=(\d+)")),
        ("dp", re.compile(r"dp_size=(\d+)")),
        ("enable_dp_attention", re.compile(r"enable_dp_attention=(True)")),
        ("mem_fraction_static", re.compile(r"mem_fraction_static=([\d.]+)")),
        ("chunked_prefill_size", re.compile(r"chunked_prefill_size=(-?\d+)")),
        ("max_running_requests", re.compile(r"ServerArgs\(.{0,9000}?max_running_requests=(\d+)")),
        ("max_total_tokens", re.compile(r"max_total_tokens=(\d+)")),
        ("page_size", re.compile(r"\bpage_size=(\d+)")),
        ("swa_full_tokens_ratio", re.compile(r"swa_full_tokens_ratio=([\d.]+)")),
        ("max_mamba_cache_size", re.compile(r"max_mamba_cache_size=(\d+)")),
        ("disable_radix_cache", re.compile(r"disable_radix_cache=(True)")),
        ("disable_cuda_graph", re.compile(r"disable_cuda_graph=(True)")),
        ("dtype", re.compile(r"\bdtype='?(float16|bfloat16|float32)")),
        ("kv_dtype", re.compile(r"kv_cache_dtype='?(fp8\w*)")),
        ("sglang_version", re.compile(r"sglang[=_ -]v?(\d+\.\d+\.\d+)")),
    ),
    starts=re.compile(r"server_args=ServerArgs\("),
    adds_pools=True,
    leaves=True,
    source="SGLang 0.4 to 0.5.23, model_executor/model_runner.py, mem_cache/memory_pool.py; GB is 2^30",
)
