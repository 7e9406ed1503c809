"""The options of `transformers` alone."""

from dataclasses import dataclass
from importlib.util import find_spec
from typing import Annotated, Any

from hfmem.options.option import Need, Option
from hfmem.options.panels import OUTPUT
from hfmem.options.words import Attention

__all__ = ["TransformersOptions"]


def _one_gpu(asked: Any) -> bool:
    return all((size or 1) == 1 for size in (asked.gpus, asked.tp, asked.pp, asked.dp, asked.ep, asked.cp))


@dataclass(frozen=True, kw_only=True, init=False, repr=False, eq=False)
class TransformersOptions:
    """The options of `transformers`."""

    attention: Annotated[
        Attention,
        Option(
            help="Attention implementation, as `attn_implementation`; sdpa falls back to eager if the class lacks it; "
            "flash is refused if the class or the accelerator does not support it",
            panel="transformers",
        ),
    ] = "sdpa"
    trace: Annotated[
        bool,
        Option(
            help="Trace the model class without weights and show its peak next to the estimate (needs PyTorch)",
            panel=OUTPUT,
            methods=("exact",),
            needs=(
                Need(sentence="runs on one GPU: use it without --gpus, --tp, --pp, --dp, --cp and --ep", met=_one_gpu),
                Need(
                    sentence="runs the whole prompt at once: use it without --prompt and --prefill-chunk",
                    met=lambda asked: asked.prompt is None and asked.prefill_chunk is None,
                ),
                Need(
                    sentence="needs PyTorch, whose CPU build is enough: pip install 'hfmem[probe]'",
                    met=lambda asked: find_spec("torch") is not None,  # noqa: ARG005 - asks the machine
                ),
            ),
        ),
    ] = False
