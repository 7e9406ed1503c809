"""Evaluation as a Trainer runs it in between, under `FakeTensorMode`: the peak above the weights.

The loop is the Trainer's own (`evaluation_loop` of transformers), with batches of full length. What it would move to
the host, fake tensors cannot: there it is dropped.

    python -m tests.oracle.evaluation      # writes fixtures/oracle/evaluation.json (needs PyTorch and accelerate)
"""

from __future__ import annotations

import contextlib
import json
import tempfile
import warnings
from importlib.metadata import version
from typing import Any
from unittest.mock import patch

import torch
import transformers
from torch._subclasses.fake_tensor import FakeTensorMode
from transformers import masking_utils, trainer_pt_utils
from transformers.initialization import no_init_weights

from hfmem.probe.activations.flash import fused_attention
from hfmem.probe.activations.tracer import Tracer
from hfmem.probe.tiny import build
from tests.oracle.evaluation_cases import CASES, RECORD, Evaluated, case_config

__all__ = ["measure"]


class _OverError(Exception):
    """The loop is over, and its tensors would be moved to the host."""


class _Answering(Tracer):
    """A tracer that also answers what depends on values: a seed, a number of labels."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is torch.ops.aten._local_scalar_dense.default:
            return True if args[0].dtype == torch.bool else 1.0 if args[0].is_floating_point() else 1
        return super().__torch_dispatch__(func, types, args, kwargs)


def measure(case: Evaluated) -> int:
    """Bytes above the weights."""
    dtype = torch.float32 if case.precision == "autocast-bf16" else torch.bfloat16
    tracer = _Answering(sums_in_place=True)
    with (
        tempfile.TemporaryDirectory() as folder,
        warnings.catch_warnings(),
        fused_attention(),
        patch.object(masking_utils, "find_packed_sequence_indices", lambda _positions: None),
        patch.object(masking_utils, "_ignore_causal_mask_sdpa", lambda *_a, **_k: True),
        patch.object(torch.nn.Module, "_apply", lambda self, *_a, **_k: self),  # fake weights cannot be moved
        patch.object(trainer_pt_utils.EvalLoopContainer, "to_cpu_and_numpy", _moved),
        patch.object(trainer_pt_utils.EvalLoopContainer, "get_arrays", _over),
        no_init_weights(),
        FakeTensorMode(allow_non_fake_inputs=True),
    ):
        warnings.simplefilter("ignore")
        config = build(case_config(case))
        kind = transformers.AutoModelForCausalLM
        model = kind.from_config(config, dtype=dtype, attn_implementation="sdpa")
        args = transformers.TrainingArguments(
            output_dir=folder,
            use_cpu=True,
            bf16=case.precision == "autocast-bf16",
            per_device_eval_batch_size=case.batch,
            eval_accumulation_steps=case.accumulation or None,
            report_to=[],
            disable_tqdm=True,
        )
        row = {"input_ids": [0] * case.seq, "labels": [0] * case.seq}
        metrics = (lambda _found: {}) if case.logits else None
        trainer = transformers.Trainer(model=model, args=args, compute_metrics=metrics)
        trainer.is_in_train = True
        with tracer:
            tracer.give([*model.parameters(), *model.buffers()])
            held = sum(tracer.allocations[number].nbytes for number in tracer.live())
            with contextlib.suppress(_OverError):
                trainer.evaluate(eval_dataset=[row] * (case.batch * case.batches))  # type: ignore[arg-type]
    return _peak(tracer) - held


def _moved(container: Any) -> None:
    container.tensors = None


def _over(_container: Any) -> None:
    raise _OverError


def _peak(tracer: Tracer) -> int:
    """The most bytes alive at once."""
    live = most = 0
    for allocated, number, _segment in tracer.events:
        live += tracer.allocations[number].nbytes if allocated else -tracer.allocations[number].nbytes
        most = max(most, live)
    return most


def main() -> None:
    """Write what is missing of the record."""
    versions = {name: version(name) for name in ("torch", "transformers", "accelerate")}
    found = json.loads(RECORD.read_text(encoding="utf-8"))["bytes"] if RECORD.exists() else {}
    for case in CASES:
        if str(case) not in found:
            found[str(case)] = measure(case)
            print(case, found[str(case)], flush=True)
            RECORD.write_text(json.dumps({"versions": versions, "bytes": found}, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
