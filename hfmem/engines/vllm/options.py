"""The options of vLLM alone, under vLLM's own names."""

from dataclasses import dataclass
from functools import partial
from typing import Annotated

from hfmem.engines.vllm.serving_options import ServingOptions
from hfmem.errors import InvalidScenarioError
from hfmem.options.option import Option
from hfmem.options.reading import tokens

__all__ = ["VllmOptions"]

_option = partial(Option, panel="vLLM")


def _release(version: str) -> InvalidScenarioError | None:
    """Why a release is not accepted; None if it is."""
    from hfmem.engines.vllm.releases import read_of  # only runs with --vllm-version need it here

    try:
        read_of(version)
    except InvalidScenarioError as error:
        return error
    return None


@dataclass(frozen=True, kw_only=True, init=False, repr=False, eq=False)
class VllmOptions(ServingOptions):
    """The options of `vllm serve`; None stands for vLLM's default for the release and the GPU."""

    max_num_seqs: Annotated[
        int | None,
        _option(help="Maximum sequences per step", shown="256, or 1024 from 70 GiB up", least=1, most=10**9),
    ] = None
    max_num_batched_tokens: Annotated[
        int | None,
        _option(
            help="Maximum tokens per step",
            shown="2048, 8192 from 70 GiB up, 16384 from 160",
            parse=tokens,
            least=1,
            most=10**9,
        ),
    ] = None
    gpu_memory_utilization: Annotated[
        float | None, _option(help="Fraction of GPU memory to use", shown="0.92, or 0.9 up to 0.19", above=0, most=1)
    ] = None
    block_size: Annotated[
        int | None, _option(help="Tokens per KV-cache block", shown="16", parse=tokens, least=1, most=10**9)
    ] = None
    enforce_eager: Annotated[bool, _option(help="Disable CUDA graphs")] = False
    enable_prefix_caching: Annotated[
        bool | None,
        _option(
            help="Keep the cache of prompts for later requests", shown="on; hybrids of recurrent layers: since 0.28"
        ),
    ] = None
    mamba_cache_mode: Annotated[
        str | None,
        _option(
            help="How prefix caching keeps recurrent states",
            shown="the release's for the model's class",
            choices=("none", "align", "all"),
        ),
    ] = None
    vllm_version: Annotated[
        str | None, _option(help="vLLM release to model", metavar="VERSION", shown="the latest known", check=_release)
    ] = None
