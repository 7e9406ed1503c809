"""Holds the measured coefficients against whole models, and writes `fixtures/oracle/activations.json`.

    python -m tests.oracle.activations            every model
    python -m tests.oracle.activations gpt2 ...   those whose name contains a word; the others stay as they are

A row is a model of the bundled catalog, sequences and their tokens, the layers that were run (null for all; else the
first and two of each kind), and in bytes what the class at its real size keeps at the end of a forward pass of full
fine-tuning, beyond weights and inputs (`saved`), and the highest moment of a prefill beyond weights (`prefill`), all
with bfloat16 and sdpa attention, without weights.
"""

from __future__ import annotations

import json
import sys
import time
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any, Final

from hfmem import inspect
from hfmem.estimator.activations.measured import Measured, measured
from hfmem.estimator.activations.prefill import activation_terms
from hfmem.estimator.cache.sizes import cache_size
from hfmem.estimator.scenario import Scenario
from hfmem.estimator.values import total_of
from hfmem.mapper.interpret import Model
from hfmem.mapper.values import Experts
from hfmem.scenario.options import Options
from hfmem.scenario.resolve import resolve
from hfmem.unknown import Unknown

TARGET: Final = Path(__file__).parents[2] / "fixtures" / "oracle" / "activations.json"

SHAPES: Final = ((1, 2048), (4, 1024), (1, 6144))

# Classes that step through the tokens one by one where a GPU's kernels are missing, and take minutes for many.
LOOPS: Final = ("ai21labs/AI21-Jamba-1.5-Mini", "tiiuae/falcon-mamba-7b")
FEW: Final = ((1, 64), (3, 48))

# Encoder-decoders, of fewer positions: the encoder hears as many tokens as the decoder speaks.
HEARING: Final = ("facebook/bart-large-cnn", "facebook/mbart-large-50-many-to-many-mmt", "google-t5/t5-base")
SHORT: Final = ((1, 512), (4, 384))

MODELS: Final = (
    *HEARING,
    "google/t5-v1_1-xxl",
    "01-ai/Yi-6B-Chat",
    "CohereForAI/aya-23-8B",
    "EleutherAI/gpt-j-6b",
    "LGAI-EXAONE/EXAONE-4.0-32B",
    "LiquidAI/LFM2-1.2B",
    "Qwen/Qwen1.5-MoE-A2.7B",
    "Qwen/Qwen2.5-VL-7B-Instruct",
    "Qwen/Qwen3-0.6B",
    "Qwen/Qwen3-14B",
    "Qwen/Qwen3-30B-A3B",
    "Qwen/Qwen3-Next-80B-A3B-Instruct",
    "Qwen/Qwen3-VL-4B-Instruct",
    "Qwen/Qwen3.5-27B",
    "Qwen/Qwen3.5-35B-A3B",
    "ai21labs/AI21-Jamba-1.5-Mini",
    "allenai/OLMo-2-1124-7B",
    "bigcode/gpt_bigcode-santacoder",
    "bigcode/starcoder2-7b",
    "bigscience/bloom",
    "deepseek-ai/DeepSeek-V2-Lite",
    "deepseek-ai/DeepSeek-V3",
    "facebook/opt-6.7b",
    "google/gemma-2-9b",
    "google/gemma-2b-it",
    "google/gemma-3-1b-it",
    "google/gemma-3-4b-it",
    "google/gemma-4-E2B-it",
    "ibm-granite/granite-3.1-1b-a400m-instruct",
    "ibm-granite/granite-4.0-h-small",
    "llava-hf/llava-1.5-7b-hf",
    "meta-llama/Llama-2-7b-hf",
    "meta-llama/Llama-3.1-70B-Instruct",
    "meta-llama/Llama-4-Scout-17B-16E-Instruct",
    "microsoft/Phi-3.5-mini-instruct",
    "microsoft/phi-2",
    "mistralai/Mamba-Codestral-7B-v0.1",
    "mistralai/Mistral-7B-Instruct-v0.2",
    "mistralai/Mixtral-8x7B-v0.1",
    "mosaicml/mpt-7b",
    "nvidia/NVIDIA-Nemotron-Nano-9B-v2",
    "openai-community/gpt2",
    "openai/gpt-oss-20b",
    "stabilityai/stablelm-2-zephyr-1_6b",
    "tiiuae/falcon-40b",
    "tiiuae/falcon-mamba-7b",
    "togethercomputer/RedPajama-INCITE-7B-Base",
    "zai-org/GLM-4.5-Air",
)


def main() -> None:
    """Measure, compare, write."""
    import torch
    import transformers

    torch.set_num_threads(1)
    rows: dict[tuple[str, int, int], dict[str, Any]] = {}
    if TARGET.exists():
        for row in json.loads(TARGET.read_text())["rows"]:
            rows[row["model"], row["batch"], row["seq"]] = row
    for name in MODELS:
        if sys.argv[1:] and not any(word in name for word in sys.argv[1:]):
            continue
        for batch, seq in FEW if name in LOOPS else SHORT if name in HEARING else SHAPES:
            started = time.monotonic()
            try:
                row = measure(name, batch, seq)
            except Exception as error:  # whatever a class raises
                print(f"{name}: {type(error).__name__} {str(error)[:200]}", flush=True)
                break
            rows[name, batch, seq] = row
            print(line(row), f"{time.monotonic() - started:.0f} s", flush=True)
        head = {"tool": "python -m tests.oracle.activations", "transformers": transformers.__version__}
        head["torch"] = torch.__version__.partition("+")[0]
        lines = ",\n".join(f"  {json.dumps(rows[key])}" for key in sorted(rows))
        TARGET.write_text(f'{json.dumps(head)[:-1]}, "rows": [\n{lines}\n]}}\n')


def line(row: dict[str, Any]) -> str:
    """A row beside what the coefficients say, for people."""
    model = model_of(row)
    scenario = scenario_of(model, row["batch"], row["seq"])
    saved, prefill = predicted_saved(model, scenario), predicted_prefill(model, scenario)
    words = [f"{row['model']:45} {kind(model):6} {row['batch']} x {row['seq']:5}"]
    for name, told in (("saved", saved), ("prefill", prefill)):
        apart = told if isinstance(told, str) else f"{told / row[name] - 1:+8.3%}" if row.get(name) else "not run"
        words.append(f"{name} {apart}")
    found = measured(model, scenario, "full")
    if isinstance(found, Measured) and found.applied.why:
        words.append(f"({found.applied.why})")
    return "  ".join(words)


@lru_cache(maxsize=64)
def _model(name: str) -> Model:
    return inspect(name, offline=True)


def model_of(row: dict[str, Any]) -> Model:
    """The model of a row, with the layers that were run."""
    model = _model(row["model"])
    if row["layers"] is None:
        return model
    layers = model.architecture.layers or ()
    cut = replace(model.architecture, layers=tuple(layers[index] for index in row["layers"]))
    return replace(model, architecture=cut)


def kind(model: Model) -> str:
    """`dense`, `moe`, or `hybrid` where layers keep something else than keys and values."""
    layers = model.architecture.layers or ()
    words = {layer.kind for layer in layers}
    if not words <= {"full_attention", "sliding_attention", "chunked_attention"}:
        return "hybrid"
    return "moe" if any(isinstance(layer.ffn, Experts) for layer in layers) else "dense"


def scenario_of(model: Model, batch: int, seq: int) -> Scenario:
    """What is assumed of a row."""
    return resolve(Options(batch=batch, seq=seq, dtype="bfloat16"), model)


def predicted_saved(model: Model, scenario: Scenario) -> int | str:
    """What the coefficients say of `saved`, or why they do not."""
    found = measured(model, scenario, "full")
    if isinstance(found, Unknown):
        return found.reason
    return saved_of(found)


def saved_of(found: Measured) -> int:
    """Bytes that a forward pass keeps for the backward pass."""
    applied = found.applied
    return found.before() + sum(
        found.value(applied.reduced[part].kept, part) for part in (*applied.structure.order, found.head)
    )


def predicted_prefill(model: Model, scenario: Scenario) -> int | str:
    """Activations of a prefill with the cache, or why they are not known."""
    terms, unknown = activation_terms(model, scenario)
    if unknown:
        return unknown[0][1]
    cache = cache_size(model.architecture, scenario)
    if isinstance(cache, Unknown):
        return cache.reason
    return total_of(terms) + total_of(cache.terms)


def measure(name: str, batch: int, seq: int) -> dict[str, Any]:
    """A row, measured."""
    from hfmem.probe.activations.step import Mode
    from hfmem.probe.trace import Step, shortened, timeline

    model = inspect(name, offline=True)
    keep = shortened(model)
    whole = len(keep) == len(model.architecture.layers or ())
    row: dict[str, Any] = {"model": name, "batch": batch, "seq": seq, "layers": None if whole else keep}
    source = scenario_of(model, batch, seq).source_seq
    steady = timeline(model, Step(mode=Mode(), batch=batch, seq=seq, source_seq=source), keep)
    row["saved"] = sum(steady.allocations[number].nbytes for number in steady.kept)
    run = timeline(model, Step(mode=Mode(method="prefill"), batch=batch, seq=seq, source_seq=source), keep)
    total = highest = 0
    for allocated, number, _ in run.events:
        if number not in run.given:
            total += run.allocations[number].nbytes * (1 if allocated else -1)
            highest = max(highest, total)
    return {**row, "prefill": highest}


if __name__ == "__main__":
    main()
