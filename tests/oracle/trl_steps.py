"""Steps of TRL's real trainers under `FakeTensorMode`: the peak of each, without memory or GPU.

The trainer, its `training_step` and its loss are TRL's own; so is the fused head, but for its Triton kernels, which
write into the buffers that they are handed and allocate nothing: in their place nothing runs. What fake tensors cannot
say, because it depends on values (how many labels count, a metric's number), a dispatch mode answers from the batch.

    python -m tests.oracle.trl_steps      # writes fixtures/oracle/trl.json (needs trl, peft and PyTorch)
"""

from __future__ import annotations

import contextlib
import json
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterator, Mapping
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import torch
import transformers
from torch._subclasses.fake_tensor import FakeTensorMode
from transformers import masking_utils

from hfmem.probe.activations.flash import fused_attention
from hfmem.probe.activations.tracer import Tracer
from hfmem.probe.tiny import build
from tests.oracle.trl_cases import CASES, RECORD, Case, case_config, key_of

__all__ = ["make_inputs", "make_trainer", "measure"]

_aten = torch.ops.aten


class _Answering(Tracer):
    """A tracer that also answers what depends on values: the counts of true entries in masks of the batch."""

    def __init__(self, counts: Mapping[tuple[int, ...], int]) -> None:
        super().__init__(sums_in_place=True)
        self._counts = counts

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is _aten._local_scalar_dense.default:
            return True if args[0].dtype == torch.bool else 1.0 if args[0].is_floating_point() else 1
        if func is _aten.nonzero.default:
            count = self._counts[tuple(args[0].shape)]
            return super().__torch_dispatch__(
                _aten.zeros.default, types, ((count, args[0].dim()),), {"dtype": torch.long}
            )
        if func is _aten.index.Tensor and len(args[1]) == 1 and args[1][0].dtype == torch.bool:
            count = self._counts[tuple(args[1][0].shape)]
            index = torch.zeros(count, dtype=torch.long)
            flat = args[0].reshape(-1, *args[0].shape[args[1][0].dim() :])
            return super().__torch_dispatch__(func, types, (flat, [index]), kwargs)
        return super().__torch_dispatch__(func, types, args, kwargs)


class _NoKernel:
    """A Triton kernel that allocates nothing."""

    def __getitem__(self, _grid: Any) -> Any:
        return lambda *_args, **_kwargs: None


@contextlib.contextmanager
def _on_a_gpu() -> Iterator[None]:
    """The paths that TRL takes where there is Triton."""
    from trl.kernels import chunked_logprob
    from trl.trainer import utils

    ceil = SimpleNamespace(cdiv=lambda a, b: -(-a // b))
    with (
        patch.object(chunked_logprob, "_use_triton", lambda _device: True),
        patch.object(utils, "_use_triton", lambda _device: True),
        patch.object(chunked_logprob, "_forward_kernel", _NoKernel()),
        patch.object(chunked_logprob, "_backward_kernel", _NoKernel()),
        patch.object(chunked_logprob, "_addmm_fp32", lambda *_args: None),  # `addmm(..., out=)` on CUDA
        patch.object(chunked_logprob, "triton", ceil, create=True),
        patch.object(torch.nn.Module, "_apply", lambda self, *_args, **_kwargs: self),  # fake weights cannot be moved
    ):
        yield


def _tokenizer() -> Any:
    from tokenizers import Tokenizer, models, pre_tokenizers

    words = Tokenizer(models.WordLevel({"a": 0, "b": 1, "<eos>": 2, "<pad>": 3}, unk_token="a"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    return transformers.PreTrainedTokenizerFast(tokenizer_object=words, eos_token="<eos>", pad_token="<pad>")


def _rows(case: Case) -> Any:
    from datasets import Dataset

    rows = {
        "sft": {"prompt": "a b", "completion": "b a"},
        "dpo": {"prompt": "a b", "chosen": "b a", "rejected": "a a"},
        "kto": {"prompt": "a b", "completion": "b a", "label": True},
        "reward": {"prompt": "a b", "chosen": "b a", "rejected": "a a"},
        "grpo": {"prompt": "a b"},
        "rloo": {"prompt": "a b"},
    }[case.trainer]
    rows = [dict(rows) for _ in range(case.batch * 2)]
    if case.trainer == "kto":
        rows = [{**row, "label": bool(number % 2)} for number, row in enumerate(rows)]
    return Dataset.from_list(rows)


def _model(case: Case, mode: FakeTensorMode, *, reward: bool = False) -> Any:
    config = case_config(case)
    built = build(config)
    built._name_or_path = "model"
    if reward:
        built.num_labels = 1
        built.pad_token_id = 3
    with mode:
        kind = transformers.AutoModelForSequenceClassification if reward else transformers.AutoModelForCausalLM
        return kind.from_config(built, dtype=getattr(torch, case.dtype), attn_implementation="sdpa")


def make_trainer(case: Case, make: Callable[[], Any], folder: str = "out") -> Any:
    """The trainer of a case, for a model that `make` makes: the policy, and the reference if it has a copy."""
    import datasets
    import trl

    datasets.disable_progress_bars()
    kinds = {
        "sft": (trl.SFTTrainer, trl.SFTConfig),
        "dpo": (trl.DPOTrainer, trl.DPOConfig),
        "kto": (trl.KTOTrainer, trl.KTOConfig),
        "reward": (trl.RewardTrainer, trl.RewardConfig),
        "grpo": (trl.GRPOTrainer, trl.GRPOConfig),
        "rloo": (trl.RLOOTrainer, trl.RLOOConfig),
    }
    kind, settings = kinds[case.trainer]
    more: dict[str, Any] = {}
    own: dict[str, Any] = {}
    if case.trainer in ("grpo", "rloo"):
        more["reward_funcs"] = [lambda completions, **_: [0.0] * len(completions)]
        own = {"num_generations": 2}
    elif case.trainer in ("dpo", "kto") and case.method == "full":
        more["ref_model"] = make()
    if case.method == "lora":
        from peft import LoraConfig

        more["peft_config"] = LoraConfig(
            r=16,
            target_modules="all-linear",
            task_type="SEQ_CLS" if case.trainer == "reward" else "CAUSAL_LM",
        )
    args = settings(
        output_dir=folder,
        use_cpu=True,
        bf16=True,
        report_to=[],
        per_device_train_batch_size=case.batch,
        gradient_checkpointing=case.checkpointing,
        disable_tqdm=True,
        save_strategy="no",
        **own,
    )
    return kind(
        model=make(),
        args=args,
        train_dataset=_rows(case),
        processing_class=_tokenizer(),
        **more,
    )


def make_inputs(case: Case) -> tuple[dict[str, Any], dict[tuple[int, ...], int]]:
    """A batch as the trainer's collator makes it, of full length, and the counts of true entries in its masks."""
    rows = case.rows
    shape = (rows, case.seq)
    ids, ones = torch.zeros(shape, dtype=torch.long), torch.ones(shape, dtype=torch.long)
    scored = rows * (case.completion or case.seq - 1)
    counts = {(rows, case.seq - 1): scored, (rows, case.seq): scored}
    batch: dict[str, Any] = {"input_ids": ids, "attention_mask": ones}
    if case.trainer == "sft":
        batch["labels"] = torch.zeros(shape, dtype=torch.long)
    elif case.trainer == "dpo":
        batch["completion_mask"] = torch.ones(shape, dtype=torch.long)
        counts[rows // 2, case.seq - 1] = scored // 2
    elif case.trainer == "kto":
        batch["completion_mask"] = torch.ones(shape, dtype=torch.long)
        batch |= {
            f"KL_{name}": torch.ones(shape, dtype=torch.long)
            for name in ("input_ids", "attention_mask", "completion_mask")
        }
        batch["label"] = torch.zeros(rows, dtype=torch.bool)
        counts |= {(rows,): rows // 2, (rows // 2, case.seq - 1): scored // 2}
    elif case.trainer in ("grpo", "rloo"):
        completion = case.completion or case.seq // 2
        prompt = case.seq - completion
        batch = {
            "prompt_ids": ids[:, :prompt].clone(),
            "prompt_mask": ones[:, :prompt].clone(),
            "completion_ids": ids[:, prompt:].clone(),
            "completion_mask": ones[:, prompt:].clone(),
            "advantages": torch.zeros(rows),
            "num_items_in_batch": torch.ones(()),
        }
        if case.trainer == "rloo":
            batch["old_logps"] = torch.zeros(rows)
        counts[rows, completion] = rows * completion
    return batch, counts


def measure(case: Case) -> dict[str, int]:
    """Bytes at the peak of a step, with weights and optimizer states, and what it consists of."""
    mode = FakeTensorMode(allow_non_fake_inputs=True)
    with (
        tempfile.TemporaryDirectory() as folder,
        warnings.catch_warnings(),
        _on_a_gpu(),
        fused_attention(),
        patch("trl.trainer.rloo_trainer.create_model_from_path", lambda *_a, **_k: _model(case, mode)),  # the reference
        patch.object(masking_utils, "find_packed_sequence_indices", lambda _positions: None),
        patch.object(masking_utils, "_ignore_causal_mask_sdpa", lambda *_a, **_k: not case.padded),
    ):
        warnings.simplefilter("ignore")
        trainer = make_trainer(case, lambda: _model(case, mode, reward=case.trainer == "reward"), folder)
        with mode:
            if case.checkpointing:  # as `Trainer.train` does
                kind = trainer.args.gradient_checkpointing_kwargs
                trainer.model.gradient_checkpointing_enable(gradient_checkpointing_kwargs=kind)
            model = trainer.accelerator.prepare_model(trainer.model)
            trainer.model_wrapped = model
            model.train()
            trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
            optimizer = torch.optim.AdamW(trained, fused=True)
            for parameter in trained:
                parameter.grad = torch.zeros_like(parameter)
            optimizer.step()
            optimizer.zero_grad()
            batch, counts = make_inputs(case)
            if case.trainer in ("grpo", "rloo"):
                trainer._prepare_inputs = lambda inputs: inputs
            reference = getattr(trainer, "ref_model", None)
            given = [*model.parameters(), *model.buffers()]
            given += [*reference.parameters(), *reference.buffers()] if reference is not None else []
            states = [
                value
                for state in optimizer.state.values()
                for value in state.values()
                if isinstance(value, torch.Tensor)
            ]
            tracer, ends = _Answering(counts), []
            backward = trainer.accelerator.backward
            trainer.accelerator.backward = lambda *args, **kw: (ends.append(len(tracer.events)), backward(*args, **kw))
            trainer.current_gradient_accumulation_steps = 1
            with tracer:
                tracer.give([*given, *states])
                held = _live(tracer)
                trainer.training_step(model, batch, torch.ones(()))
                ends.append(len(tracer.events))
                optimizer.step()
                optimizer.zero_grad()
    forward, step = (_peak(tracer, end) for end in ends)
    return {"held": held, "forward": forward, "step": step, "peak": _peak(tracer, len(tracer.events))}


def _live(tracer: Tracer) -> int:
    return sum(tracer.allocations[number].nbytes for number in tracer.live())


def _peak(tracer: Tracer, end: int) -> int:
    """The most bytes alive at once, up to an event."""
    live, most = 0, 0
    for allocated, number, _segment in tracer.events[:end]:
        live += tracer.allocations[number].nbytes if allocated else -tracer.allocations[number].nbytes
        most = max(most, live)
    return most


def main(names: list[str]) -> None:
    record = json.loads(RECORD.read_text(encoding="utf-8")) if RECORD.exists() else {"versions": {}, "steps": {}}
    import peft
    import trl

    record["versions"] = {
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "trl": trl.__version__,
        "peft": peft.__version__,
    }
    for case in CASES:
        key = key_of(case)
        if names and not any(name in key for name in names):
            continue
        record["steps"][key] = measure(case)
        print(key, record["steps"][key], flush=True)
        RECORD.write_text(json.dumps(record, indent=1, sort_keys=True) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
