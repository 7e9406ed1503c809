"""Of models that cannot be trained as was asked."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from hfmem.refusals.training import (
    AdapterBaseError,
    DtypeConflictError,
    FrozenError,
    GenerationsError,
    NoTargetsError,
    QuantisedError,
    TrainerError,
    UntrainableDtypeError,
)

__all__ = ["WORDS"]


def _option(error: QuantisedError | AdapterBaseError) -> str:
    """The option that says what is trained."""
    return "--train-method" if error.trainer else "--train"


def _quantised(error: QuantisedError) -> str:
    option = _option(error)
    if not error.stored:
        return f"the weights are packed by a quantiser and cannot be trained: use {option} lora"
    return f"the weights are quantised already ({' and '.join(error.stored)}): use {option} lora to adapt them"


def _frozen(error: FrozenError) -> str:
    return f"--freeze {','.join(error.parts)} leaves nothing to train"


def _no_targets(error: NoTargetsError) -> str:
    if error.unlisted is not None:
        return f"PEFT has no default targets for '{error.unlisted}': use --lora-targets, names or all-linear"
    if not error.targets:
        return "the model has no linear modules to adapt"
    return f"no module is named {' or '.join(error.targets)}: see `--lora-targets all-linear`"


def _dtype_conflict(error: DtypeConflictError) -> str:
    return f"--dtype {error.dtype} contradicts --precision {error.precision} ({error.weights})"


def _untrainable_dtype(error: UntrainableDtypeError) -> str:
    if not error.usable:
        return f"--dtype {error.dtype} cannot be trained in full; --train qlora adds adapters"
    return f"--dtype {error.dtype} cannot be trained in; use {', '.join(error.usable)}"


def _adapter_base(error: AdapterBaseError) -> str:
    option = _option(error)
    return f"{option} qlora is NF4; for adapters on {error.quantiser} use {option} lora"


def _trainer(error: TrainerError) -> str:
    if error.setting == "completion":
        return f"--max-completion-length {error.value:,} exceeds --seq {error.most:,}, which covers the prompt too"
    if error.setting == "encoder":
        return (
            f"{error.title} is for causal language models, and a {error.value} has an encoder: "
            "use --train full, lora or qlora, as Seq2SeqTrainer trains it"
        )
    return f"--stack {error.value} does not go with {error.title}: TRL 1.16 runs on transformers 5"


def _generations(error: GenerationsError) -> str:
    return (
        f"--batch {error.batch} does not hold whole groups of --num-generations {error.generations}: "
        "TRL needs batch x GPUs x --gradient-accumulation to be a multiple of it"
    )


WORDS: Final[dict[type, Callable[[Any], str]]] = {
    AdapterBaseError: _adapter_base,
    DtypeConflictError: _dtype_conflict,
    FrozenError: _frozen,
    GenerationsError: _generations,
    NoTargetsError: _no_targets,
    QuantisedError: _quantised,
    TrainerError: _trainer,
    UntrainableDtypeError: _untrainable_dtype,
}
"""The words of each kind."""
