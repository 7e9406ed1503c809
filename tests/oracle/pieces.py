"""Holds prompts in pieces and the answer after them against whole models, and writes `fixtures/oracle/pieces.json`.

    python -m tests.oracle.pieces            every model
    python -m tests.oracle.pieces gpt2 ...   those whose name contains a word; the others stay as they are

A row is a model of the bundled catalog, sequences, tokens of the prompt, of a piece and of the answer, the layers that
were run (null for all), and in bytes the highest moment of the class at its real size beyond weights (`highest`): the
pieces one after another on one cache, then the answer token by token, with bfloat16 and the attention that the class
runs, without weights.
"""

from __future__ import annotations

import inspect as signatures
import json
import sys
import time
from pathlib import Path
from typing import Any, Final

from hfmem import inspect
from hfmem.mapper.interpret import Model
from hfmem.scenario.options import Options
from hfmem.scenario.resolve import resolve
from tests.oracle import activations
from tests.oracle.activations import model_of, predicted_prefill

TARGET: Final = Path(__file__).parents[2] / "fixtures" / "oracle" / "pieces.json"

SHAPES: Final = ((1, 6144, 1024, 2), (2, 3000, 1024, 0), (4, 512, 512, 3), (2, 1920, 128, 1), (1, 7680, 512, 0))
"""Sequences, tokens of the prompt, of a piece, of the answer."""

LEFT_OUT: Final = frozenset(
    {
        "facebook/bart-large-cnn",
        "facebook/mbart-large-50-many-to-many-mmt",
        "google-t5/t5-base",
        "google/t5-v1_1-xxl",
        "Qwen/Qwen2.5-VL-7B-Instruct",
        "Qwen/Qwen3-14B",
        "Qwen/Qwen3.5-27B",
        "Qwen/Qwen3.5-35B-A3B",
        "ai21labs/AI21-Jamba-1.5-Mini",
        "google/gemma-4-E2B-it",
        "ibm-granite/granite-4.0-h-small",
        "llava-hf/llava-1.5-7b-hf",
        "meta-llama/Llama-4-Scout-17B-16E-Instruct",
        "mistralai/Mamba-Codestral-7B-v0.1",
        "nvidia/NVIDIA-Nemotron-Nano-9B-v2",
        "tiiuae/falcon-mamba-7b",
    }
)
"""Recurrent states and encoders, which read a prompt at once, and relatives of a model that is measured."""

MODELS: Final = tuple(name for name in activations.MODELS if name not in LEFT_OUT)


def main() -> None:
    """Measure, compare, write."""
    import torch
    import transformers

    torch.set_num_threads(1)
    rows: dict[tuple[Any, ...], dict[str, Any]] = {}
    if TARGET.exists():
        rows = {key(row): row for row in json.loads(TARGET.read_text())["rows"]}
    for name in MODELS:
        if sys.argv[1:] and not any(word in name for word in sys.argv[1:]):
            continue
        for shape in SHAPES:
            started = time.monotonic()
            if sum(shape[1:4:2]) > (inspect(name, offline=True).architecture.max_positions or 10**9):
                continue
            row = measure(name, *shape)
            rows[key(row)] = row
            told = predicted(row)
            apart = told if isinstance(told, str) else f"{told / row['highest'] - 1:+8.3%}"
            print(f"{name:45} {shape} {apart} {time.monotonic() - started:.0f} s", flush=True)
        head = {"tool": "python -m tests.oracle.pieces", "transformers": transformers.__version__}
        head["torch"] = torch.__version__.partition("+")[0]
        lines = ",\n".join(f"  {json.dumps(rows[at])}" for at in sorted(rows))
        TARGET.write_text(f'{json.dumps(head)[:-1]}, "rows": [\n{lines}\n]}}\n')


def key(row: dict[str, Any]) -> tuple[Any, ...]:
    """What tells rows apart."""
    return row["model"], row["batch"], row["prompt"], row["piece"], row["answer"]


def predicted(row: dict[str, Any]) -> int | str:
    """Activations and cache as they are told, or why they are not."""
    model = model_of(row)
    options = Options(
        batch=row["batch"],
        seq=row["prompt"] + row["answer"],
        prompt=row["prompt"],
        prefill_chunk=row["piece"] if row["piece"] < row["prompt"] else None,
        dtype="bfloat16",
    )
    return predicted_prefill(model, resolve(options, model))


def measure(name: str, batch: int, prompt: int, piece: int, answer: int) -> dict[str, Any]:
    """A row, measured."""
    from hfmem.probe.trace import shortened

    model = inspect(name, offline=True)
    keep = shortened(model)
    whole = len(keep) == len(model.architecture.layers or ())
    lengths = [min(piece, prompt - start) for start in range(0, prompt, piece)] + [1] * answer
    row: dict[str, Any] = {"model": name, "batch": batch, "prompt": prompt, "piece": piece, "answer": answer}
    return {**row, "layers": None if whole else keep, "highest": highest(model, keep, batch, lengths)}


def highest(model: Model, keep: tuple[int, ...], batch: int, lengths: list[int]) -> int:
    """The most that is allocated beyond weights and inputs while tokens of these lengths are run one after another."""
    import torch
    import transformers
    from torch._subclasses import FakeTensorMode
    from transformers.initialization import no_init_weights

    from hfmem.probe import tiny, trace
    from hfmem.probe.activations.flash import fused_attention
    from hfmem.probe.activations.tracer import Tracer

    plain, depth = trace._plain(model), len(model.architecture.layers or ())
    config = plain if len(keep) == depth else trace._cut(plain, keep, depth)
    assert config is not None
    built = tiny.build(config)
    with trace.unpadded(), FakeTensorMode(allow_non_fake_inputs=True), torch.no_grad(), fused_attention():
        with no_init_weights():
            real = getattr(transformers, config["architectures"][0])._from_config(built, dtype=torch.bfloat16)
        real.tie_weights()
        real.eval()
        more = {"logits_to_keep": 1} if "logits_to_keep" in signatures.signature(real.forward).parameters else {}
        pieces = [torch.ones((batch, tokens), dtype=torch.long) for tokens in lengths]
        tracer = Tracer()
        with tracer:
            given = tracer.give([*real.parameters(), *real.buffers(), *pieces])
            held: dict[str, Any] = {}
            for tokens in pieces:
                output = real(input_ids=tokens, use_cache=True, **held, **more)
                held = {"cache": output.get("past_key_values", None) or output["cache_params"]}
                del output
    return _most(tracer, given)


def _most(tracer: Any, given: frozenset[int]) -> int:
    total = most = 0
    for allocated, number, _ in tracer.events:
        if number not in given:
            total += tracer.allocations[number].nbytes * (1 if allocated else -1)
            most = max(most, total)
    return most


if __name__ == "__main__":
    main()
