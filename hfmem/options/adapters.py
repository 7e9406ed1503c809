"""Options on adapters, as in PEFT's `LoraConfig`."""

from dataclasses import dataclass
from functools import partial
from typing import Annotated, Final

from hfmem.options.option import Option
from hfmem.options.panels import ADAPTERS
from hfmem.refusals.options import UnknownWordError

__all__ = ["ADAPTER_DTYPES", "AdapterOptions"]

ADAPTER_DTYPES: Final = {"auto": "float32", "float32": "float32", "fp32": "float32", "bfloat16": "bfloat16"}
"""Dtypes of adapters by option value; `auto` is float32, as PEFT casts 16-bit adapters to float32 by default."""

_adapter = partial(Option, panel=ADAPTERS, modes=("training",), methods=("exact",), train=("lora", "qlora"))


def _adapter_dtype(name: str) -> UnknownWordError | None:
    return None if name.lower() in ADAPTER_DTYPES else UnknownWordError("--lora-dtype", name, ADAPTER_DTYPES)


@dataclass(frozen=True, kw_only=True, init=False, repr=False, eq=False)
class AdapterOptions:
    """Low-rank adapters; None and () leave the choice to PEFT."""

    lora_rank: Annotated[int | None, _adapter(help="LoRA rank", shown="8", least=1, most=10**6)] = None
    lora_targets: Annotated[
        tuple[str, ...],
        _adapter(
            help="Modules to adapt: q_proj,v_proj or all-linear",
            metavar="NAMES",
            shown="PEFT's default for the model type",
            words=True,
            keys=("lora_target_modules",),
        ),
    ] = ()
    lora_dropout: Annotated[
        float | None, _adapter(help="LoRA dropout", shown="0", least=0, below=1, keys=("lora_dropout",))
    ] = None
    lora_dtype: Annotated[
        str | None,
        _adapter(help="Adapter dtype: float32 (PEFT's default) or bfloat16", shown="float32", check=_adapter_dtype),
    ] = None
    dora: Annotated[bool, _adapter(help="Use DoRA (weight-decomposed LoRA)", keys=("use_dora", "peft_use_dora"))] = (
        False
    )
    modules_to_save: Annotated[
        tuple[str, ...],
        _adapter(
            help="Modules to train in full alongside the adapters",
            metavar="NAMES",
            words=True,
            keys=("lora_modules_to_save", "additional_target"),
        ),
    ] = ()
    double_quant: Annotated[
        bool,
        Option(
            help="Also quantise the scales of the 4-bit base",
            panel=ADAPTERS,
            modes=("training",),
            methods=("exact",),
            train=("qlora",),
            keys=("use_bnb_nested_quant", "bnb_4bit_use_double_quant", "double_quantization"),
        ),
    ] = False
