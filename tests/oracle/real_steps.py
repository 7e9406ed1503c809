"""Runs one step on the CPU and prints its resident memory above the weights: `python -m tests.oracle.real_steps N`,
with the number of a case. No dispatch mode, no profiler and no hook, which would change what autograd does in place.

Each case has a process of its own. The second of two steps counts. Blocks from 64 KiB on are mapped, so that what is
freed leaves the resident memory at once. `--record` runs those that are missing in `fixtures/oracle/real.json`; steps
of TRL's trainers need `trl`, whose fused head has no Triton on a CPU, and copies tiles: their rows are few, so that
another moment is the peak.
"""

from __future__ import annotations

import ctypes
import gc
import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from tests.oracle.peak_cases import RANK, TARGETS
from tests.oracle.real_cases import CASES, Real, config_of

__all__ = ["RECORDING", "run"]

RECORDING = Path(__file__).parents[2] / "fixtures" / "oracle" / "real.json"
_MAPPED = 64 * 1024
_THRESHOLD = -3  # M_MMAP_THRESHOLD of mallopt(3)


def run(number: int) -> int:
    """Bytes of a case, measured in a process of its own."""
    command = [sys.executable, "-m", "tests.oracle.real_steps", str(number)]
    return int(subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()[-1])


def _resident(line: str) -> int:
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return next(int(row.split()[1]) for row in status.splitlines() if row.startswith(line)) * 1024


def _model(case: Real) -> Any:
    import torch
    import transformers
    from transformers.initialization import no_init_weights

    from hfmem.probe.tiny import build

    config = config_of(case.model)
    dtype = torch.float32 if case.precision == "fp32" else torch.bfloat16
    with no_init_weights():
        kind = getattr(transformers, config["architectures"][0])
        model = kind._from_config(build(config), dtype=dtype, attn_implementation="sdpa")
    model.tie_weights()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.fill_(0.01)
    model.train()
    if case.checkpointing:
        model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    if case.method == "lora":
        from peft import LoraConfig, get_peft_model

        asked = LoraConfig(r=RANK, target_modules=TARGETS, lora_dropout=0.0)
        model = get_peft_model(model, asked, autocast_adapter_dtype=False)
    return model


def _plain(case: Real) -> tuple[Callable[[], Any], Any]:
    """The passes of a step, and its optimizer."""
    import torch

    model = _model(case)
    trained = [each for each in model.parameters() if each.requires_grad]
    ids = torch.randint(3, 90, (case.batch, case.seq))

    def step() -> None:
        model(input_ids=ids, labels=ids, use_cache=False).loss.backward()

    return step, torch.optim.SGD(trained, lr=1e-3, foreach=True)


def _of_trainer(case: Real) -> tuple[Callable[[], Any], Any]:
    """The passes of a step of TRL's trainer, and the optimizer that it makes."""
    import torch

    from tests.oracle.trl_cases import Case
    from tests.oracle.trl_steps import make_inputs, make_trainer

    asked = Case(model=case.model, trainer=case.trainer, batch=case.batch, seq=case.seq)
    trainer = make_trainer(asked, lambda: _model(replace(case, checkpointing=False)))
    trainer.model.gradient_checkpointing_enable(
        gradient_checkpointing_kwargs=trainer.args.gradient_checkpointing_kwargs
    )
    model = trainer.accelerator.prepare_model(trainer.model)
    trainer.model_wrapped = model
    trainer.current_gradient_accumulation_steps = 1
    optimizer = trainer.create_optimizer()
    batch, _ = make_inputs(asked)
    return lambda: trainer.training_step(model, dict(batch), torch.ones(())), optimizer


def _measure(case: Real) -> int:
    import torch

    torch.set_num_threads(1)
    ctypes.CDLL("libc.so.6").mallopt(_THRESHOLD, _MAPPED)
    step, optimizer = _of_trainer(case) if case.trainer else _plain(case)
    for _ in range(2):
        optimizer.zero_grad(set_to_none=True)
        gc.collect()
        before = _resident("VmRSS")
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # the high-water mark begins anew
        step()
        optimizer.step()
    return _resident("VmHWM") - before


def _record() -> None:
    found: dict[str, Any] = {
        "versions": {name: version(name) for name in ("torch", "transformers", "peft")},
        "bytes": {},
    }
    if RECORDING.exists():
        found = json.loads(RECORDING.read_text(encoding="utf-8"))
    if find_spec("trl"):
        found["versions"]["trl"] = version("trl")
    for number, case in enumerate(CASES):
        if str(case) not in found["bytes"] and (not case.trainer or find_spec("trl")):
            found["bytes"][str(case)] = run(number)
            print(case, found["bytes"][str(case)], flush=True)
            RECORDING.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    if sys.argv[1] == "--record":
        _record()
    else:
        print(_measure(CASES[int(sys.argv[1])]))
