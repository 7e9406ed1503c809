"""The options of SGLang alone, under SGLang's own names."""

from dataclasses import dataclass
from functools import partial
from typing import Annotated, Literal

from hfmem.engines.companions import DraftOptions, LoraOptions
from hfmem.errors import InvalidScenarioError
from hfmem.options.option import Need, Option
from hfmem.options.reading import tokens

__all__ = ["SglangOptions", "SpeculativeAlgorithm"]

SpeculativeAlgorithm = Literal["NEXTN", "EAGLE", "EAGLE3", "STANDALONE", "NGRAM"]

_option = partial(Option, panel="SGLang", modes=("inference",))
_MOST = 10**9


def _release(version: str) -> InvalidScenarioError | None:
    """Why a release is not accepted; None if it is."""
    from hfmem.engines.sglang.releases import read_of  # only runs with --sglang-version need it here

    try:
        read_of(version)
    except InvalidScenarioError as error:
        return error
    return None


@dataclass(frozen=True, kw_only=True, init=False, repr=False, eq=False)
class SglangOptions(DraftOptions, LoraOptions):
    """The options of `sglang.launch_server`; None stands for SGLang's default for the release and the card."""

    mem_fraction_static: Annotated[
        float | None,
        _option(
            help="Fraction of the memory that is free before loading, for weights and pools",
            shown="by card, prefill chunk and graphs",
            above=0,
            below=1,
        ),
    ] = None
    chunked_prefill_size: Annotated[
        int | None,
        _option(
            help="Tokens of a prefill step; -1 switches chunks off",
            shown="2048 to 16384, by card",
            parse=tokens,
            least=1,
            also=-1,
            most=_MOST,
        ),
    ] = None
    max_running_requests: Annotated[
        int | None, _option(help="Maximum requests at once", shown="by the pool", least=1, most=_MOST)
    ] = None
    cuda_graph_max_bs_decode: Annotated[
        int | None,
        _option(
            help="Largest batch of a CUDA graph of decoding",
            names=("--cuda-graph-max-bs-decode", "--cuda-graph-max-bs"),
            shown="8 to 512, by card",
            least=1,
            most=_MOST,
        ),
    ] = None
    max_total_tokens: Annotated[
        int | None,
        _option(help="Tokens of the pool at most", shown="none", parse=tokens, least=1, most=10**12),
    ] = None
    page_size: Annotated[
        int | None,
        _option(help="Page of the pool, in tokens", shown="1, or the attention kernel's", least=1, most=4096),
    ] = None
    swa_full_tokens_ratio: Annotated[
        float | None,
        _option(help="Tokens of the sliding-window pool, per token of the full one", shown="0.8", above=0, most=1),
    ] = None
    mamba_full_memory_ratio: Annotated[
        float | None,
        _option(help="Memory of recurrent states, per byte of the token pool", shown="0.9", above=0, most=1000),
    ] = None
    max_mamba_cache_size: Annotated[
        int | None, _option(help="Slots for recurrent states", shown="by the ratio", least=1, most=_MOST)
    ] = None
    mamba_ssm_dtype: Annotated[
        str | None,
        _option(
            help="Dtype of recurrent states",
            shown="the config's, else float32",
            choices=("float32", "bfloat16", "float16"),
        ),
    ] = None
    mamba_scheduler_strategy: Annotated[
        str | None,
        _option(
            help="Slots of recurrent states that a request takes for prefix caching",
            shown="no_buffer",
            choices=("no_buffer", "extra_buffer", "extra_buffer_lazy"),
        ),
    ] = None
    disable_radix_cache: Annotated[bool, _option(help="Switch prefix caching off")] = False
    disable_cuda_graph: Annotated[bool, _option(help="Disable CUDA graphs")] = False
    enable_dp_attention: Annotated[
        bool,
        _option(
            help="Let --dp replicas of attention share the --tp ranks",
            needs=(
                Need(
                    sentence="needs a --tp that is a multiple of --dp, which are replicas among those ranks",
                    met=lambda asked: (asked.tp or 1) % (asked.dp or 1) == 0,
                ),
                Need(
                    sentence="has no effect without --tp and --dp above 1",
                    met=lambda asked: (asked.tp or 1) > 1 and (asked.dp or 1) > 1,
                    harmless=True,
                ),
            ),
        ),
    ] = False
    speculative_algorithm: Annotated[
        SpeculativeAlgorithm | None,
        _option(
            help="Speculative decoding: NEXTN with the model's own prediction layers, EAGLE and EAGLE3 with a head "
            "trained for it, STANDALONE with a smaller model, NGRAM without a draft"
        ),
    ] = None
    speculative_num_draft_tokens: Annotated[
        int | None,
        _option(
            help="Length of a draft, in tokens",
            shown="4; of NGRAM 12",
            least=1,
            most=1000,
            needs=(Need(sentence="needs --speculative-algorithm", met=lambda asked: asked.speculative_algorithm),),
        ),
    ] = None
    max_loras_per_batch: Annotated[
        int | None,
        _option(
            help="Adapters in a batch, for all of whose modules there are slots",
            shown="8",
            least=1,
            most=1000,
            needs=(Need(sentence="needs --enable-lora", met=lambda asked: asked.enable_lora),),
        ),
    ] = None
    sglang_version: Annotated[
        str | None, _option(help="SGLang release to model", metavar="VERSION", shown="the latest known", check=_release)
    ] = None
