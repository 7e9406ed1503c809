"""The options of `transformers` alone."""

from dataclasses import dataclass
from typing import Annotated

from hfmem.engines.tracing import TraceOptions
from hfmem.options.option import Option
from hfmem.options.words import Attention

__all__ = ["TransformersOptions"]


@dataclass(frozen=True, kw_only=True, init=False, repr=False, eq=False)
class TransformersOptions(TraceOptions):
    """The options of `transformers`."""

    attention: Annotated[
        Attention,
        Option(
            help="Attention implementation, as `attn_implementation`; sdpa falls back to eager if the class lacks it; "
            "flash is refused if the class or the accelerator does not support it",
            panel="transformers",
        ),
    ] = "sdpa"
