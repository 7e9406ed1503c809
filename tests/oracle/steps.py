"""The peak of a training step as PyTorch allocates it, without memory or GPU: a dispatch mode with weak references to
storages (`hfmem.probe.activations.tracer`) under `FakeTensorMode`, and sums of gradients as the engine makes them.

On the CPU, with `foreach=True` as on CUDA. Adapters are in the model's dtype, because PEFT's cast to float32 cannot
swap fake weights. Attention keeps what the kernels of a GPU keep (`hfmem.probe.activations.flash`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
import transformers
from torch._subclasses.fake_tensor import FakeTensorMode
from transformers.initialization import no_init_weights

from hfmem.probe.activations.attempts import inputs_of
from hfmem.probe.activations.flash import fused_attention
from hfmem.probe.activations.tracer import Tracer
from hfmem.probe.tiny import build
from hfmem.probe.trace import unpadded
from hfmem.silence import quiet
from tests.oracle.peak_cases import RANK, TARGETS
from tests.oracle.step_cases import Case, targets

__all__ = ["peaks"]


def peaks(config: Mapping[str, Any], case: Case) -> dict[str, int]:
    """Bytes of the CPU's peak over one step, by the name of the optimizer."""
    built = build(dict(config))
    with fused_attention(), quiet(), unpadded(), FakeTensorMode(allow_non_fake_inputs=True):
        model = _model(built, config, case)
        trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
        inputs = _inputs(config, case)
        with Tracer(sums_in_place=True) as tracer:
            tracer.give([*model.parameters(), *model.buffers(), *inputs.values()])
            with torch.autocast("cpu", torch.bfloat16, enabled=case.precision == "autocast-bf16"):
                loss = model(**inputs, **_no_cache(model)).loss
            loss.backward()
            step = _highest(tracer, 0)
            found = {"sgd": max(step, _stepped(tracer, torch.optim.SGD(trained, lr=1e-3, foreach=True)))}
            adamw = torch.optim.AdamW(trained, foreach=True)
            adamw.step()  # makes its states, which are there from the second step on
            states = sum(
                tensor.untyped_storage().nbytes()
                for state in adamw.state.values()
                for tensor in state.values()
                if tensor.dim()
            )
            found["adamw"] = max(step + states, _stepped(tracer, adamw))
    return found


def _inputs(config: Mapping[str, Any], case: Case) -> dict[str, Any]:
    """Tokens and labels, or those of the decoder beside what its encoder reads."""
    if not case.source:
        ids = torch.zeros(case.batch, case.seq, dtype=torch.long)
        return {"input_ids": ids, "labels": ids}
    found = inputs_of(dict(config), case.batch, case.seq, case.source)
    found["labels"] = found.pop("decoder_input_ids")
    dtype = torch.bfloat16 if case.precision == "bf16" else torch.float32
    return {key: value.to(dtype) if value.is_floating_point() else value for key, value in found.items()}


def _model(built: Any, config: Mapping[str, Any], case: Case) -> Any:
    with no_init_weights():
        kind = getattr(transformers, config["architectures"][0])
        dtype = torch.bfloat16 if case.precision == "bf16" else torch.float32
        model = kind._from_config(built, dtype=dtype, attn_implementation=case.attention)
    model.tie_weights()
    model.train()
    if case.checkpointing:
        model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    if case.method == "full":
        return model
    if case.checkpointing:
        model.enable_input_require_grads()
    return _adapted(model, targets(config, case), dora=case.method == "dora")


def _adapted(model: Any, names: Sequence[str], *, dora: bool) -> Any:
    """The model with adapters of its own dtype. Modules are not moved: fake parameters cannot be swapped."""
    from peft import LoraConfig, get_peft_model

    moved, default = torch.nn.Module._apply, torch.get_default_dtype()
    torch.nn.Module._apply = lambda self, *_, **__: self
    torch.set_default_dtype(torch.bfloat16)
    try:
        chosen: Any = TARGETS if TARGETS in names else list(names)
        config = LoraConfig(r=RANK, target_modules=chosen, lora_dropout=0.0, use_dora=dora)
        return get_peft_model(model, config, autocast_adapter_dtype=False)
    finally:
        torch.nn.Module._apply = moved
        torch.set_default_dtype(default)


def _no_cache(model: Any) -> dict[str, bool]:
    return {"use_cache": False} if hasattr(model.config, "use_cache") else {}


def _stepped(tracer: Tracer, optimizer: Any) -> int:
    """The highest moment of an optimizer's step."""
    start = len(tracer.events)
    optimizer.step()
    return _highest(tracer, start)


def _highest(tracer: Tracer, start: int) -> int:
    """The most bytes alive from an event on."""
    total = highest = 0
    for position, (allocated, number, _) in enumerate(tracer.events):
        total += tracer.allocations[number].nbytes * (1 if allocated else -1)
        highest = max(highest, total) if position >= start else highest
    return highest
