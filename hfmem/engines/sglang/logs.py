"""The log of a SGLang server, from its start."""

from __future__ import annotations

import re
from typing import Final

from hfmem.engines.logs import NUMBER, WORD, Logs, line

__all__ = ["LOGS"]

_IS: Final = r"['\"]?[=:] ?"
"""Between the name of an argument and its value: `ServerArgs(...)` up to 0.5.11 or so, a dictionary since."""

_ARGUMENTS: Final = r"server_args=(?:ServerArgs\(|\{)"

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
        line(rf"sizing: KV cache allocated\..{{0,300}}?KV size: {NUMBER} GB", "pool"),
        line(rf"KV Cache is allocated\..{{0,300}}?K size: {NUMBER} GB, V size: {NUMBER} GB", "pool"),
        line(rf"KV Cache is allocated\..{{0,300}}?KV size: {NUMBER} GB", "pool"),
        line(rf"Capture [\w -]{{0,60}}[gG]raph end\..{{0,400}}?mem usage={NUMBER} GB", "graphs"),
        line(rf"max_total_num_tokens={NUMBER}", "tokens", 1),
        line(rf"sizing: KV cache allocated\..{{0,300}}?#tokens: {NUMBER},", "tokens", 1),
        line(rf"KV Cache is allocated\..{{0,300}}?#tokens: {NUMBER},", "tokens", 1),
    ),
    settings=(
        ("model", re.compile(rf"model_path{_IS}" + WORD)),
        ("seq", re.compile(rf"\bcontext_len(?:gth)?{_IS}(\d+)")),
        ("tp", re.compile(rf"\btp_size{_IS}(\d+)")),
        ("pp", re.compile(rf"\bpp_size{_IS}(\d+)")),
        ("dp", re.compile(rf"\bdp_size{_IS}(\d+)")),
        ("ep", re.compile(rf"\bep_size{_IS}(\d+)")),
        ("enable_dp_attention", re.compile(rf"enable_dp_attention{_IS}(True)")),
        ("mem_fraction_static", re.compile(rf"\bmem_fraction_static{_IS}([\d.]+)")),
        ("chunked_prefill_size", re.compile(rf"\bchunked_prefill_size{_IS}(-?\d+)")),
        (
            "max_running_requests",
            re.compile(rf"(?:ServerArgs\(|server_args=\{{).{{0,9000}}?\bmax_running_requests{_IS}(\d+)"),
        ),
        ("max_total_tokens", re.compile(rf"\bmax_total_tokens{_IS}(\d+)")),
        ("page_size", re.compile(rf"\bpage_size{_IS}(\d+)")),
        ("swa_full_tokens_ratio", re.compile(rf"swa_full_tokens_ratio{_IS}([\d.]+)")),
        ("mamba_full_memory_ratio", re.compile(rf"mamba_full_memory_ratio{_IS}([\d.]+)")),
        ("max_mamba_cache_size", re.compile(rf"max_mamba_cache_size{_IS}(\d+)")),
        ("disable_radix_cache", re.compile(rf"disable_radix_cache{_IS}(True)")),
        ("disable_cuda_graph", re.compile(rf"\bdisable_cuda_graph{_IS}(True)")),
        ("dtype", re.compile(rf"\bdtype{_IS}'?(float16|bfloat16|float32)")),
        ("kv_dtype", re.compile(rf"kv_cache_dtype{_IS}'?(fp8\w*)")),
        ("sglang_version", re.compile(r"sglang[=_ -]v?(\d+\.\d+\.\d+)")),
    ),
    starts=re.compile(_ARGUMENTS),
    adds_pools=True,
    leaves=True,
    source="SGLang 0.4 to 0.5.23, model_executor/model_runner.py, mem_cache/memory_pool.py; GB is 2^30",
)
