"""Whether two states of the code answer alike: every model of the catalog under many sets of options.

    python -m tests.benchmarks.same_numbers REVISION [--only WORD] [--every N]

The worker below runs in a checkout of REVISION and in the working tree, with `estimate` of each, and what JSON shows
is compared: every number, key, name of a term, word and verdict. Notes, `how`, `source` and sentences on what an engine
refuses may be worded otherwise; they are counted apart. Exit code 1 where anything else differs.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import zip_longest
from pathlib import Path
from typing import Any, Final

ROOT: Final = Path(__file__).parents[2]

LORA: Final = {"train": "lora", "lora_targets": ("all-linear",)}
SETS: Final[dict[str, dict[str, Any]]] = {
    "plain": {},
    "batch": {"batch": 4, "seq": 2048},
    "long": {"seq": 100_000, "kv_dtype": "fp8"},
    "eager": {"attention": "eager", "seq": 1024},
    "flash": {"attention": "flash", "batch": 2},
    "source": {"source_seq": 700, "seq": 300, "batch": 3},
    "float32": {"dtype": "float32"},
    "int8": {"dtype": "int8"},
    "nf4": {"dtype": "nf4"},
    "fp8": {"dtype": "fp8", "tp": 2},
    "textbook": {"method": "textbook", "attention": "eager"},
    "textbook training": {"method": "textbook", "train": "full", "optimizer": "sgd", "dtype": "float16"},
    "tp": {"tp": 4, "batch": 2},
    "pp": {"pp": 4, "tp": 2},
    "dp ep": {"tp": 2, "dp": 2, "ep": 4},
    "fit": {"gpu": ("RTX 4090", "H100"), "seq": 8192},
    "fit of instances": {"gpu": ("8x H100", "a2-ultragpu-4g", "MI300X", "cpu")},
    "fit nf4": {"gpu": ("A10",), "dtype": "nf4", "kv_dtype": "fp8"},
    "fit textbook": {"gpu": ("L4",), "method": "textbook"},
    "vllm": {"runtime": "vllm"},
    "vllm H100": {"runtime": "vllm", "gpu": ("H100",), "seq": 8192, "batch": 4},
    "vllm A100 tp": {"runtime": "vllm", "gpu": ("A100 80GB",), "tp": 4, "kv_dtype": "fp8", "seq": 8192},
    "vllm 8x": {"runtime": "vllm", "gpu": ("8x H200",), "seq": 16384},
    "vllm pp": {"runtime": "vllm", "gpu": ("L40S",), "tp": 2, "pp": 2, "vllm_version": "0.10.2", "enforce_eager": True},
    "vllm dp ep": {"runtime": "vllm", "gpu": ("B200",), "dp": 4, "tp": 2, "ep": 8, "max_num_seqs": 64},
    "vllm old": {"runtime": "vllm", "gpu": ("T4",), "vllm_version": "0.6.3", "gpu_memory_utilization": 0.8},
    "vllm fp8": {"runtime": "vllm", "gpu": ("RTX 4090",), "dtype": "fp8", "block_size": 32, "seq": 4096},
    "vllm nf4": {"runtime": "vllm", "dtype": "nf4", "max_num_batched_tokens": 4096, "vllm_version": "0.19"},
    "full": {"train": "full", "seq": 1024},
    "full, checkpointing": {"train": "full", "gradient_checkpointing": True, "batch": 4, "optimizer": "adamw-8bit"},
    "full, autocast": {"train": "full", "precision": "autocast-bf16", "seq": 512, "gradient_accumulation": 4},
    "full, eager": {"train": "full", "attention": "eager", "selective_checkpointing": True, "seq": 512},
    "full, fused": {"train": "full", "fused_loss": True, "optimizer": "adafactor", "freeze": ("embedding",)},
    "full, GPU": {"train": "full", "gpu": ("H100", "A100 80GB"), "seq": 512},
    "zero 2": {"train": "full", "zero": 2, "gpus": 8, "seq": 1024},
    "zero 3": {"train": "full", "zero": 3, "gpus": 16, "shard": 8, "offload": "optimizer", "seq": 1024},
    "fsdp": {"train": "full", "fsdp": True, "gpus": 8, "seq": 1024, "precision": "autocast-bf16"},
    "megatron": {"train": "full", "stack": "megatron", "tp": 2, "pp": 2, "dp": 2, "zero": 1, "sequence_parallel": True},
    "megatron ep": {"train": "full", "stack": "megatron", "tp": 2, "dp": 4, "ep": 4, "cp": 2, "precision": "fp8"},
    "virtual": {"train": "full", "stack": "megatron-no-dropout", "pp": 4, "virtual_stages": 2, "zero": 1, "dp": 2},
    "lora": {"train": "lora", "seq": 1024},
    "lora, all": {**LORA, "seq": 512, "lora_dropout": 0.05, "dora": True, "lora_rank": 16},
    "lora, fsdp": {**LORA, "seq": 512, "fsdp": True, "gpus": 4, "gradient_checkpointing": True},
    "lora, int8": {**LORA, "seq": 512, "dtype": "int8", "modules_to_save": ("lm_head",)},
    "lora, 4.48": {**LORA, "seq": 512, "stack": "transformers-4.48", "gpu": ("L4",)},
    "qlora": {**LORA, "train": "qlora", "seq": 512, "double_quant": True, "optimizer": "paged-adamw-8bit"},
    "qlora, kbit": {**LORA, "train": "qlora", "seq": 512, "stack": "transformers-4.45-kbit"},
    "litgpt": {**LORA, "train": "qlora", "seq": 512, "stack": "litgpt", "lora_dropout": 0.05},
    "litgpt fsdp": {**LORA, "seq": 512, "stack": "litgpt-longest-first", "fsdp": True, "gpus": 4},
    "galore": {"train": "full", "optimizer": "galore", "optimizer_rank": 64, "seq": 256},
    "muon": {"train": "full", "optimizer": "muon", "seq": 256, "tp": 2},
}
"""Keywords of `hfmem.estimate`."""

_WORDS: Final = ("notes", "how", "source", "refused", "what")

_WORKER: Final = """
import contextlib, json, os, sys
import hfmem
from hfmem.errors import HfmemError
from hfmem.fetcher.catalog import model_ids
from hfmem.report.result import to_result
sets, every, part, parts = json.load(sys.stdin)
for name in model_ids()[part::every * parts]:
    try:
        model = hfmem.inspect(name, offline=True, use_cache=False)
    except HfmemError as error:
        print(json.dumps([name, "inspect", {"error": error.code()}]))
        continue
    for title, options in sets.items():
        options = {key: tuple(value) if isinstance(value, list) else value for key, value in options.items()}
        try:
            found = to_result(hfmem.estimate(model, **options))
        except HfmemError as error:
            found = {"error": error.code(), "refused": str(error)}
        print(json.dumps([name, title, found]))
"""


def answers(folder: Path, sets: dict[str, dict[str, Any]], every: int, part: int, parts: int) -> Path:
    """What one state of the code says, a line a model and set, in a file."""
    handle, name = tempfile.mkstemp(suffix=".jsonl")
    with os.fdopen(handle, "w", encoding="utf-8") as output:
        subprocess.run(
            [sys.executable, "-c", _WORKER],
            input=json.dumps([sets, every, part, parts]),
            stdout=output,
            text=True,
            check=True,
            cwd=folder,
            env={**os.environ, "PYTHONPATH": str(folder)},
        )
    return Path(name)


def differences(before: Any, after: Any, path: str = "") -> Iterator[str]:
    """Where two answers differ, by key."""
    if isinstance(before, dict) and isinstance(after, dict):
        for key in {**before, **after}:
            inner = f"{path}.{key}" if path else key
            if (key in before) != (key in after):
                yield f"{inner} (there in one only)"
            else:
                yield from differences(before[key], after[key], inner)
    elif isinstance(before, list) and isinstance(after, list) and path not in _WORDS:
        if len(before) != len(after):
            yield f"{path} (length)"
        for one, other in zip(before, after, strict=False):
            yield from differences(one, other, path)
    elif before != after or type(before) is not type(after):
        yield path


def main() -> int:
    """Compare, print what differs, and say whether anything that matters does."""
    parser = argparse.ArgumentParser(description="Compare the numbers of two states of the code.")
    parser.add_argument("revision", help="a revision, or a folder with a checkout of it")
    parser.add_argument("--only", default="", help="sets of options whose name holds this word")
    parser.add_argument("--every", type=int, default=1, help="one of so many models only")
    asked = parser.parse_args()
    sets = {name: options for name, options in SETS.items() if asked.only in name}
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(asked.revision)
        if not folder.is_dir():
            folder = Path(temporary) / "before"
            subprocess.run(["git", "worktree", "add", "--detach", folder, asked.revision], cwd=ROOT, check=True)
        try:
            return _compare(folder, sets, asked.every)
        finally:
            if folder.is_relative_to(temporary):
                subprocess.run(["git", "worktree", "remove", "--force", folder], cwd=ROOT, check=True)


def _compare(folder: Path, sets: dict[str, dict[str, Any]], every: int) -> int:
    """Print what differs; 1 where it is more than words."""
    parts = os.cpu_count() or 1
    cases, worded = 0, 0
    found: Counter[str] = Counter()
    examples: dict[str, str] = {}
    with ThreadPoolExecutor(parts) as pool:
        before = list(pool.map(lambda part: answers(folder, sets, every, part, parts), range(parts)))
        after = list(pool.map(lambda part: answers(ROOT, sets, every, part, parts), range(parts)))
    for one, other in zip(before, after, strict=True):
        with one.open(encoding="utf-8") as old, other.open(encoding="utf-8") as new:
            for first, second in zip_longest(old, new):
                name, title, answer = json.loads(first)
                cases += 1
                changed = set(differences(answer, json.loads(second)[2]))
                words = {path for path in changed if path.rpartition(".")[2] in _WORDS}
                worded += bool(words)
                for path in changed - words:
                    found[path] += 1
                    examples.setdefault(path, f"{name}, {title}")
        one.unlink()
        other.unlink()
    for path, count in found.most_common():
        print(f"{count:6}  {path}  ({examples[path]})")
    print(
        f"{cases:,} cases ({len(sets)} sets of options): {sum(found.values())} differences, {worded} worded otherwise"
    )
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
