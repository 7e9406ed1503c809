"""`llama-server`, as it is written in scripts."""

from __future__ import annotations

from typing import Final

from hfmem.engines.launch import Launch

__all__ = ["LAUNCH"]

LAUNCH: Final = Launch(
    begins=(("llama-server",), ("llama-cli",)),
    model=("-m", "--model", "-hf", "-hfr", "--hf-repo"),
    renamed={"-b": "--batch-size", "-kvu": "--kv-unified", "-nkvo": "--no-kv-offload", "-ncmoe": "--n-cpu-moe"},
    idle=frozenset(
        {
            "--context-shift",
            "--embedding",
            "--embeddings",
            "--jinja",
            "--log-disable",
            "--metrics",
            "--mlock",
            "--no-context-shift",
            "--no-mmap",
            "--no-warmup",
            "--no-webui",
            "--props",
            "--slots",
            "--no-slots",
            "--verbose",
            "-cnv",
            "-v",
        }
    ),
    idle_with_value=frozenset(
        {
            "--alias",
            "--api-key",
            "--api-key-file",
            "--chat-template",
            "--chat-template-file",
            "--host",
            "--log-file",
            "--min-p",
            "--path",
            "--port",
            "--predict",
            "--prio",
            "--prompt",
            "--reasoning-budget",
            "--reasoning-format",
            "--repeat-penalty",
            "--seed",
            "--temp",
            "--threads",
            "--threads-batch",
            "--threads-http",
            "--timeout",
            "--top-k",
            "--top-p",
            "-a",
            "-n",
            "-p",
            "-s",
            "-t",
            "-tb",
            "-to",
        }
    ),
    source="llama.cpp 0.5.0, common/arg.cpp",
)
