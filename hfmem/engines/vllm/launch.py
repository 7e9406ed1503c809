"""`vllm serve`, as it is written in scripts."""

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
    "fbgemm_fp8",
    "gptq",
    "gptq_marlin",
    "modelopt",
    "modelopt_fp4",
    "mxfp4",
)

LAUNCH: Final = Launch(
    begins=(
        ("vllm", "serve"),
        ("vllm.entrypoints.openai.api_server",),
        ("vllm.entrypoints.api_server",),
        ("vllm-openai",),  # the image, which begins with `vllm serve`
    ),
    model=("--model",),
    positional=True,
    length="--max-model-len",
    renamed={
        "--tensor-parallel-size": "--tp",
        "-tp": "--tp",
        "--pipeline-parallel-size": "--pp",
        "-pp": "--pp",
        "--data-parallel-size": "--dp",
        "-dp": "--dp",
        "--quantization": "--quantization",
        "-q": "--quantization",
    },
    values={
        "--dtype": {"auto": None, "half": "float16", "float": "float32"},
        "--kv-cache-dtype": {"auto": None},
        "--max-model-len": {"auto": None, "-1": None},
        "--quantization": {"fp8": ("--dtype", "fp8"), **dict.fromkeys(_OF_THE_CHECKPOINT)},
    },
    products={"--enable-expert-parallel": ("--ep", ("--tp", "--dp"))},
    missing={"--tp": "1", "--pp": "1", "--dp": "1"},
    idle=frozenset(
        {
            "--allow-credentials",
            "--disable-access-log-for-endpoints",
            "--disable-fastapi-docs",
            "--disable-frontend-multiprocessing",
            "--disable-log-requests",
            "--disable-log-stats",
            "--disable-uvicorn-access-log",
            "--enable-auto-tool-choice",
            "--enable-chunked-prefill",
            "--enable-force-include-usage",
            "--enable-log-deltas",
            "--enable-log-outputs",
            "--enable-log-requests",
            "--enable-prompt-tokens-details",
            "--enable-request-id-headers",
            "--enable-server-load-tracking",
            "--enable-ssl-refresh",
            "--enable-tokenizer-info-endpoint",
            "--exclude-tools-when-tool-choice-none",
            "--headless",
            "--log-error-stack",
            "--no-enable-log-requests",
            "--return-tokens-as-token-ids",
            "--trust-remote-code",
            "--trust-request-chat-template",
        }
    ),
    idle_with_value=frozenset(
        {
            "--allowed-headers",
            "--allowed-local-media-path",
            "--allowed-media-domains",
            "--allowed-methods",
            "--allowed-origins",
            "--api-key",
            "--api-server-count",
            "--chat-template",
            "--chat-template-content-format",
            "--code-revision",
            "--config-format",
            "--data-parallel-address",
            "--data-parallel-rpc-port",
            "--default-chat-template-kwargs",
            "--distributed-executor-backend",
            "--download-dir",
            "--generation-config",
            "--hf-token",
            "--host",
            "--load-format",
            "--log-config-file",
            "--master-addr",
            "--master-port",
            "--max-log-len",
            "--max-logprobs",
            "--middleware",
            "--override-generation-config",
            "--port",
            "--prefix-caching-hash-algo",
            "--reasoning-parser",
            "--response-role",
            "--root-path",
            "--scheduling-policy",
            "--seed",
            "--served-model-name",
            "--ssl-ca-certs",
            "--ssl-certfile",
            "--ssl-keyfile",
            "--structured-outputs-config",
            "--tokenizer",
            "--tokenizer-mode",
            "--tokenizer-revision",
            "--tool-call-parser",
            "--tool-parser-plugin",
            "--tool-server",
            "--uds",
            "--uvicorn-log-level",
        }
    ),
    source="vLLM 0.19.0, vllm/entrypoints/openai/cli_args.py and vllm/engine/arg_utils.py",
)
