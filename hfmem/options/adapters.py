"""Options on adapters, as in PEFT's `LoraConfig`."""

from dataclasses import dataclass
from functools import partial
from typing import Annotated, Final

from hfmem.options.option import Need, Option
from hfmem.options.panels import ADAPTERS
from hfmem.options.words import RANKED, TARGETED, Peft
from hfmem.refusals.options import UnknownWordError

__all__ = ["ADAPTER_DTYPES", "AdapterOptions"]

ADAPTER_DTYPES: Final = {"auto": "float32", "float32": "float32", "fp32": "float32", "bfloat16": "bfloat16"}
"""Dtypes of adapters by option value; `auto` is float32, as PEFT casts 16-bit adapters to float32 by default."""

_adapter = partial(Option, panel=ADAPTERS, modes=("training",), methods=("exact",), train=("lora", "qlora"))


def _adapter_dtype(name: str) -> UnknownWordError | None:
    return None if name.lower() in ADAPTER_DTYPES else UnknownWordError("--lora-dtype", name, ADAPTER_DTYPES)


def _of(name: str, methods: tuple[str, ...]) -> Need:
    """An option that belongs to some methods of PEFT."""
    return Need(
        sentence=f"is for --peft {', '.join(methods[:-1])} and {methods[-1]}" if methods[1:] else "is for --peft lora",
        met=lambda asked: not getattr(asked, name) or (asked.peft or "lora") in methods,
    )


@dataclass(frozen=True, kw_only=True, init=False, repr=False, eq=False)
class AdapterOptions:
    """Low-rank adapters; None and () leave the choice to PEFT."""

    peft: Annotated[
        Peft | None,
        _adapter(
            help="Method of PEFT that the adapters are of",
            shown="lora",
        ),
    ] = None
    virtual_tokens: Annotated[
        int | None,
        _adapter(
            help="Virtual tokens of prompt, prefix and p-tuning, or trained rows of the embedding (trainable-tokens)",
            shown="20",
            least=1,
            most=10**6,
            needs=(_of("virtual_tokens", ("p-tuning", "prefix-tuning", "prompt-tuning", "trainable-tokens")),),
            keys=("num_virtual_tokens",),
        ),
    ] = None
    lora_rank: Annotated[
        int | None,
        _adapter(
            help="Rank of LoRA, or of another method of --peft",
            shown="PEFT's: 8, AdaLoRA 12, VeRA 256",
            least=1,
            most=10**6,
            needs=(_of("lora_rank", RANKED),),
        ),
    ] = None
    lora_targets: Annotated[
        tuple[str, ...],
        _adapter(
            help="Modules to adapt: q_proj,v_proj or all-linear",
            metavar="NAMES",
            shown="PEFT's default for the model type",
            words=True,
            needs=(_of("lora_targets", TARGETED),),
            keys=("lora_target_modules",),
        ),
    ] = ()
    lora_dropout: Annotated[
        float | None,
        _adapter(
            help="LoRA dropout",
            shown="0",
            least=0,
            below=1,
            needs=(_of("lora_dropout", ("lora",)),),
            keys=("lora_dropout",),
        ),
    ] = None
    lora_dtype: Annotated[
        str | None,
        _adapter(help="Adapter dtype: float32 (PEFT's default) or bfloat16", shown="float32", check=_adapter_dtype),
    ] = None
    dora: Annotated[
        bool,
        _adapter(
            help="Use DoRA (weight-decomposed LoRA)",
            needs=(_of("dora", ("lora",)),),
            keys=("use_dora", "peft_use_dora"),
        ),
    ] = False
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
