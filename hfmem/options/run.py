"""Options on the run: its size, hardware and number formats."""

from dataclasses import dataclass
from typing import Annotated

from hfmem.options.option import Need, Option
from hfmem.options.panels import ACCELERATORS, MODEL, NUMBERS, SIZE
from hfmem.options.reading import gibibytes, tokens
from hfmem.options.words import Method
from hfmem.refusals.options import UnknownWordError

__all__ = ["DEFAULT_SEQ", "LONGEST", "RunOptions", "is_profile"]

DEFAULT_SEQ = 4096
"""Default tokens per sequence, for models that support that many."""

LONGEST = -1
"""`--seq auto`: the longest that fits, as in vLLM."""

_MOST = 10**9  # tokens, or sequences: a bound beyond any meaningful value


def is_profile(gpu: str) -> bool:
    """Whether a value of `--gpu` stands for the hardware saved on the user's Hub profile."""
    return gpu.strip().lower() == "me"


def _automatic(word: str) -> str | None:
    """A dtype; None for `auto`, the engines' word for the default."""
    return None if word == "auto" else word


def _length(word: str) -> int:
    """A number of tokens; `LONGEST` for `auto`, as vLLM spells it.

    Raises:
        ValueError: it is neither.
    """
    return LONGEST if word.strip().lower() == "auto" else tokens(word)


def _cache_dtype(name: str) -> UnknownWordError | None:
    """What is wrong with a KV cache dtype; None if it is valid."""
    from hfmem.dtypes import KV_DTYPES, PACKED_KV, canonical  # its table is not needed for help

    every = (*KV_DTYPES, *PACKED_KV)
    return None if canonical(name) in every else UnknownWordError("--kv-dtype", name, every)


@dataclass(frozen=True, kw_only=True, init=False, repr=False, eq=False)
class RunOptions:
    """The size of a run and the number formats in it; None leaves the choice to the model."""

    method: Annotated[
        Method,
        Option(
            help="exact: as the implementation behaves; textbook: the formulas of the original article",
            panel=MODEL,
        ),
    ] = "exact"
    batch: Annotated[
        int,
        Option(
            help="Batch size in sequences (training: micro-batch size per replica; DPO and reward: in pairs)",
            panel=SIZE,
            common=True,
            least=1,
            most=_MOST,
            keys=("per_device_train_batch_size", "micro_batch_size", "train_micro_batch_size_per_gpu"),
        ),
    ] = 1
    seq: Annotated[
        int | None,
        Option(
            help="Tokens per sequence, prompt plus output; 32k is 32 x 1024",
            panel=SIZE,
            common=True,
            names=("--seq", "--max-model-len"),
            shown=f"{DEFAULT_SEQ}, or the model's maximum; 'auto', for inference: the longest that fits",
            parse=_length,
            also=LONGEST,
            least=1,
            most=_MOST,
            needs=(
                Need(sentence="auto needs --gpu NAME", met=lambda asked: asked.seq != LONGEST or asked.gpu),
                Need(sentence="auto is for inference", met=lambda asked: asked.seq != LONGEST or asked.train is None),
                Need(
                    sentence="auto cannot be used with --method textbook",
                    met=lambda asked: asked.seq != LONGEST or asked.method != "textbook",
                ),
            ),
            keys=("max_length", "max_seq_length", "sequence_len", "model_max_length", "cutoff_len"),
        ),
    ] = None
    prompt: Annotated[
        int | None,
        Option(
            help="Prompt tokens; the rest of --seq is generated, one token at a time",
            panel=SIZE,
            shown="all of --seq",
            parse=tokens,
            least=1,
            most=_MOST,
            methods=("exact",),
            modes=("inference",),
            needs=(
                Need(
                    sentence="exceeds --seq, which covers prompt and output",
                    met=lambda asked: asked.seq in (None, LONGEST) or asked.prompt <= asked.seq,
                ),
                Need(
                    sentence=f"exceeds --seq, which covers prompt and output and defaults to {DEFAULT_SEQ:,}",
                    met=lambda asked: asked.seq is not None or asked.prompt <= DEFAULT_SEQ,
                ),
            ),
        ),
    ] = None
    prefill_chunk: Annotated[
        int | None,
        Option(
            help="Prompt tokens per prefill chunk",
            panel=SIZE,
            shown="the whole prompt",
            parse=tokens,
            least=1,
            most=_MOST,
            methods=("exact",),
            modes=("inference",),
        ),
    ] = None
    source_seq: Annotated[
        int | None,
        Option(
            help="Encoder input tokens, or image tokens that a decoder attends to",
            panel=SIZE,
            shown="--seq, up to the encoder's maximum; no images",
            parse=tokens,
            least=1,
            most=_MOST,
            methods=("exact",),
        ),
    ] = None
    dtype: Annotated[
        str | None,
        Option(
            help="Run dtype (float32, bfloat16, float16), or a quantisation to try (int8, fp8, int4, nf4, mxfp4, "
            "nvfp4, awq, gptq)",
            panel=NUMBERS,
            common=True,
            shown="the model's own",
            parse=_automatic,
        ),
    ] = None
    kv_dtype: Annotated[
        str | None,
        Option(
            help="Dtype of the KV cache",
            panel=NUMBERS,
            common=True,
            names=("--kv-dtype", "--kv-cache-dtype"),
            shown="the run dtype",
            parse=_automatic,
            check=_cache_dtype,
            needs=(
                Need(
                    sentence="cannot be used with --method textbook, which takes it from --dtype",
                    met=lambda asked: asked.method != "textbook",
                ),
                Need(sentence="is for inference: training keeps no cache", met=lambda asked: asked.train is None),
            ),
        ),
    ] = None
    gpu: Annotated[
        tuple[str, ...],
        Option(
            help="Accelerator to check the fit on (repeatable): 'H100', 'RTX 4090', '4x L40S', a cloud instance, "
            "'cpu', a memory size (24GB means 24 GiB, regardless of --unit), 'auto' for this machine, or 'me' for the "
            "hardware saved on your Hub profile",
            panel=ACCELERATORS,
            common=True,
            metavar="NAME",
        ),
    ] = ()
    reserve: Annotated[
        float | None,
        Option(
            help="Memory per accelerator used by the display or other programs: 2 and 2GB mean 2 GiB, regardless of "
            "--unit; or 512MiB",
            panel=ACCELERATORS,
            metavar="SIZE",
            shown="0",
            parse=gibibytes,
            least=0,
            most=10**6,
            needs=(Need(sentence="needs --gpu NAME, or --gpu auto", met=lambda asked: asked.gpu),),
        ),
    ] = None
