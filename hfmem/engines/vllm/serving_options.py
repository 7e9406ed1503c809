"""The options of `vllm serve` for what it does besides: adapters, drafts, offloading, and how requests are made up."""

import json
from dataclasses import dataclass
from functools import partial
from typing import Annotated, Final, Literal

from hfmem.engines.companions import DraftOptions, LoraOptions
from hfmem.options.option import Need, Option
from hfmem.options.processing import processing
from hfmem.options.reading import tokens

__all__ = ["EncoderSplit", "ServingOptions", "SpecMethod"]

SpecMethod = Literal["mtp", "eagle", "eagle3", "draft_model", "ngram"]
EncoderSplit = Literal["weights", "data"]

_option = partial(Option, panel="vLLM", modes=("inference",))
_MOST = 10**9
_TIB = 1024


def _share(word: str) -> str:
    """A kind of request, in one spelling.

    Raises:
        ValueError: it is none.
    """
    lengths, _, share = word.partition("@")
    prompt, plus, answer = lengths.partition("+")
    try:
        sizes = tokens(prompt), tokens(answer)
        weight = float(share) if share else 1.0
    except ValueError:
        plus = ""
    if not plus or min(sizes) < 0 or sum(sizes) == 0 or not 0 < weight < _MOST:
        raise ValueError(f"'{word:.40}' is not PROMPT+ANSWER@SHARE, such as 1000+200 or 8k+1k@0.25")
    return f"{sizes[0]}+{sizes[1]}@{weight:g}"


def _pairs(word: str) -> dict[str, int] | None:
    """Items of each kind as releases up to 0.8.4 had them, `image=2,video=1`; None for another word."""
    pairs = [pair.partition("=") for pair in word.split(",")]
    return {kind: int(count) for kind, _, count in pairs} if all(count.isdecimal() for _, _, count in pairs) else None


_COUNTED: Final = {
    "image": {"count", "width", "height"},
    "video": {"count", "width", "height", "num_frames"},
    "audio": {"count", "length"},
}
"""What may be said of each kind (vLLM 0.11.2, config/multimodal.py)."""


def _counts(kind: str, value: object) -> bool:
    """Whether it says how many of a kind there may be, or that and of which size, all in whole numbers."""
    if not isinstance(value, dict):
        return type(value) is int and 0 <= value < _MOST
    numbers = all(type(one) is int and (name == "count" or one > 0) and 0 <= one < _MOST for name, one in value.items())
    return numbers and bool(value) and set(value) <= _COUNTED[kind]


def _limits(word: str) -> str:
    """Items of each kind in a prompt, in one spelling.

    Raises:
        ValueError: it is no JSON object of such numbers.
    """
    try:
        read = json.loads(word)
    except (ValueError, RecursionError):
        read = _pairs(word)
    kinds = isinstance(read, dict) and read and set(read) <= set(_COUNTED)
    if not kinds or not all(_counts(kind, value) for kind, value in read.items()):
        raise ValueError(
            f"'{word:.40}' is not a JSON object of image, video and audio, such as '{{\"image\": 2}}' or "
            '\'{"image": {"count": 2, "width": 512, "height": 512}}\''
        )
    return json.dumps(read)


@dataclass(frozen=True, kw_only=True, init=False, repr=False, eq=False)
class ServingOptions(DraftOptions, LoraOptions):
    """Adapters, drafts, offloading, context parallelism, disaggregation, and a mix of requests; off by default."""

    max_loras: Annotated[
        int | None,
        _option(
            help="Adapters in a step",
            shown="1",
            least=1,
            most=1000,
            needs=(Need(sentence="needs --enable-lora", met=lambda asked: asked.enable_lora),),
        ),
    ] = None
    spec_method: Annotated[
        SpecMethod | None,
        _option(
            help="Speculative decoding: with the model's own prediction layers (mtp), a head trained for it (eagle, "
            "eagle3), a smaller model, or n-grams of the prompt",
        ),
    ] = None
    spec_tokens: Annotated[
        int | None,
        _option(
            help="Drafted tokens per step",
            shown="the model's prediction layers; else required",
            least=1,
            most=1000,
            needs=(Need(sentence="needs --spec-method", met=lambda asked: asked.spec_method),),
        ),
    ] = None
    cpu_offload_gb: Annotated[
        float | None,
        _option(help="GiB of each GPU's weights to keep in host memory", shown="0", least=0, most=100 * _TIB),
    ] = None
    kv_offloading_size: Annotated[
        float | None,
        _option(help="GiB of host memory for KV cache, for all GPUs together", shown="0", above=0, most=100 * _TIB),
    ] = None
    decode_context_parallel_size: Annotated[
        int | None,
        _option(help="Tensor-parallel ranks that share each request's KV cache", shown="1", least=1, most=1024),
    ] = None
    kv_role: Annotated[
        str | None,
        _option(
            help="Side of a disaggregated server: producer prefills, consumer decodes",
            choices=("producer", "consumer", "both"),
        ),
    ] = None
    request_mix: Annotated[
        tuple[str, ...],
        _option(
            help="A kind of request: tokens of prompt and answer, and its share (repeatable): 1000+200@3",
            metavar="PROMPT+ANSWER@SHARE",
            parse=_share,
            needs=(Need(sentence="needs --gpu NAME", met=lambda asked: asked.gpu),),
        ),
    ] = ()
    limit_mm_per_prompt: Annotated[
        str | None,
        _option(
            help="Most images, videos and sounds in a prompt, as JSON; with 0 of each, the profile run has no encoder; "
            "objects have the sizes of those that are profiled, too",
            metavar="JSON",
            shown="999 of each, or 1 up to 0.9.1",
            parse=_limits,
        ),
    ] = None
    mm_processor_kwargs: Annotated[
        str | None,
        _option(
            help="Settings of the processor in place of those of its files, as JSON: max_pixels, min_pixels, size",
            metavar="JSON",
            parse=processing,
        ),
    ] = None
    language_model_only: Annotated[bool, _option(help="Take no images, videos and sounds in prompts")] = False
    mm_encoder_tp_mode: Annotated[
        EncoderSplit | None,
        _option(
            help="What tensor-parallel ranks share of an encoder: its weights, or the images of a batch (data), with "
            "all of its weights on each",
            shown="weights",
        ),
    ] = None
    skip_mm_profiling: Annotated[bool, _option(help="Leave the encoder out of the profile run")] = False
    mm_processor_cache_gb: Annotated[
        float | None,
        _option(
            help="GiB of host memory for prepared images, videos and sounds, in each API server and each engine",
            shown="4",
            least=0,
            most=100 * _TIB,
        ),
    ] = None
