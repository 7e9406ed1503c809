"""`python -m sglang.launch_server`, as it is written in scripts."""

from __future__ import annotations

from typing import Final

from hfmem.engines.launch import Launch

__all__ = ["LAUNCH"]

# Weights that are quantised already: the option says again what their config says.
_OF_THE_CHECKPOINT: Final = (
    "auto-round",
    "awq",
    "awq_marlin",
    "compressed-tensors",
    "gptq",
    "gptq_marlin",
    "modelopt",
    "modelopt_fp4",
    "modelopt_fp8",
    "moe_wna16",
    "mxfp4",
    "w8a8_fp8",
    "w8a8_int8",
)

LAUNCH: Final = Launch(
    begins=(("sglang.launch_server",), ("sglang", "serve")),
    model=("--model-path", "--model"),
    length="--seq",
    renamed={
        "--context-length": "--seq",
        "--tp-size": "--tp",
        "--tensor-parallel-size": "--tp",
        "--pp-size": "--pp",
        "--pipeline-parallel-size": "--pp",
        "--dp-size": "--dp",
        "--data-parallel-size": "--dp",
        "--ep-size": "--ep",
        "--expert-parallel-size": "--ep",
        "--kv-cache-dtype": "--kv-dtype",
        "--quantization": "--quantization",
    },
    values={
        "--dtype": {"auto": None, "half": "float16", "float": "float32"},
        "--kv-dtype": {"auto": None, "bf16": "bfloat16", "fp8_e4m3": "fp8"},
        "--quantization": {"fp8": ("--dtype", "fp8"), **dict.fromkeys(_OF_THE_CHECKPOINT)},
    },
    missing={"--tp": "1", "--pp": "1", "--dp": "1"},
    idle=frozenset(
        {
            "--allow-auto-truncate",
            "--disable-overlap-schedule",
            "--enable-cache-report",
            "--enable-custom-logit-processor",
            "--enable-metrics",
            "--enable-mixed-chunk",
            "--log-requests",
            "--show-time-cost",
            "--skip-server-warmup",
            "--skip-tokenizer-init",
            "--trust-remote-code",
        }
    ),
    idle_with_value=frozenset(
        {
            "--api-key",
            "--attention-backend",
            "--chat-template",
            "--constrained-json-whitespace-pattern",
            "--crash-dump-folder",
            "--decode-attention-backend",
            "--dist-init-addr",
            "--download-dir",
            "--grammar-backend",
            "--host",
            "--load-balance-method",
            "--load-format",
            "--log-level",
            "--log-level-http",
            "--log-requests-level",
            "--moe-runner-backend",
            "--node-rank",
            "--nnodes",
            "--port",
            "--prefill-attention-backend",
            "--random-seed",
            "--reasoning-parser",
            "--sampling-backend",
            "--schedule-conservativeness",
            "--schedule-policy",
            "--served-model-name",
            "--stream-interval",
            "--tokenizer-mode",
            "--tokenizer-path",
            "--tool-call-parser",
            "--watchdog-timeout",
        }
    ),
    source="SGLang 0.5.23, srt/server_args.py",
)
