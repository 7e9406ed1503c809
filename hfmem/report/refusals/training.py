"""Of models that cannot be trained as was asked."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from hfmem.refusals.training import (
    AdapterBaseError,
    DtypeConflictError,
    FrozenError,
    NoTargetsError,
    QuantisedError,
    UntrainableDtypeError,
)

__all__ = ["WORDS"]


def _quantised(error: QuantisedError) -> str:
    if not error.stored:
        return "the weights are packed by a quantiser and cannot be trained: use --train lora"
    return f"the weights are quantised already ({' and '.join(error.stored)}): use --train lora to adapt them"


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
    return f"--train qlora is NF4; for adapters on {error.quantiser} use --train lora"


WORDS: Final[dict[type, Callable[[Any], str]]] = {
    AdapterBaseError: _adapter_base,
    DtypeConflictError: _dtype_conflict,
    FrozenError: _frozen,
    NoTargetsError: _no_targets,
    QuantisedError: _quantised,
    UntrainableDtypeError: _untrainable_dtype,
}
"""The words of each kind."""
