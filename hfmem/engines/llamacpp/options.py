"""What only llama.cpp takes, under the names of llama-server, and what Ollama, which runs it, can be told of it."""

import re
from dataclasses import dataclass
from functools import partial
from typing import Annotated, Literal

from hfmem.engines.tracing import TraceOptions
from hfmem.errors import quoted
from hfmem.options.option import Need, Option
from hfmem.options.reading import gibibytes, not_one_of, tokens

__all__ = ["ALL_LAYERS", "CACHE_WORDS", "LlamaCppOptions", "OllamaOptions"]

ALL_LAYERS = 10**6
"""The number for "all": every layer, and the output."""

CACHE_WORDS = ("f32", "f16", "bf16", "q8_0", "q5_1", "q5_0", "q4_1", "q4_0", "iq4_nl")
"""Types of the KV cache."""

_option = partial(Option, panel="llama.cpp")


def _layers(text: str) -> int | None:
    """A number of layers; None for `auto`.

    Raises:
        ValueError: it is neither that nor a word for all.
    """
    word = text.strip().lower()
    if word == "auto":
        return None
    if word == "all":
        return ALL_LAYERS
    if re.fullmatch(r"\d{1,7}", word):
        return min(int(word), ALL_LAYERS)
    raise ValueError(f"is {quoted(text)}, expected a number of layers, 'all' or 'auto'")


def _quantisation(word: str) -> str | None:
    """What is wrong with the name of a quantisation."""
    return None if re.fullmatch(r"[A-Za-z0-9][\w.\-]{0,199}", word, re.ASCII) else f"is {quoted(word)}, no such name"


def _shares(text: str) -> tuple[float, ...]:
    """Shares of the accelerators, as `3,1`.

    Raises:
        ValueError: it is none.
    """
    try:
        found = tuple(float(word) for word in re.split(r"[,/]", text) if word.strip())
    except ValueError:
        found = ()
    if not found or min(found) < 0 or not 0 < sum(found) < 10**12:
        raise ValueError(f"is {quoted(text)}, expected shares with commas between them, such as 3,1")
    return found


def _override(text: str) -> str | None:
    """What is wrong with a rule for tensors."""
    pattern, sign, place = text.rpartition("=")
    if not sign or not pattern or not place:
        return f"is {quoted(text)}, expected a regular expression and a buffer type, such as 'exps=CPU'"
    if re.search(r"[)*+?}][*+{]", pattern) or len(pattern) > 500:
        return f"is {quoted(text)}, whose repetitions are nested or which is too long"
    try:
        re.compile(pattern)
    except re.error as error:
        return f"is {quoted(text)}, which is no regular expression: {error}"
    return None


def _release(version: str) -> str | None:
    """What is wrong with a release."""
    from hfmem.engines.llamacpp.releases import RELEASES  # for runs that name one only

    names = tuple(release.name for release in RELEASES)
    return None if version in names else not_one_of(version, names)


@dataclass(frozen=True, kw_only=True, init=False, repr=False, eq=False)
class OllamaOptions:
    """What Ollama can be told too, by its own names of it; None is the default."""

    n_gpu_layers: Annotated[
        int | None,
        _option(
            help="Layers on the accelerators, the output counted first: a number, all, or auto: as many as fit",
            names=("--n-gpu-layers", "-ngl", "--gpu-layers"),
            metavar="N|all|auto",
            shown="auto",
            parse=_layers,
            least=0,
            most=ALL_LAYERS,
        ),
    ] = None
    quant: Annotated[
        str | None,
        _option(
            help="Quantisation of a repository or folder of GGUF files, as :NAME behind the id does",
            metavar="NAME",
            shown="Q4_K_M, else Q8_0, else the first; with --gpu the largest that fits",
            check=_quantisation,
        ),
    ] = None
    ctx_size: Annotated[
        int | None,
        _option(
            help="Tokens of the KV cache, of all sequences together",
            names=("--ctx-size", "-c"),
            shown="--seq x --batch",
            parse=tokens,
            least=1,
            most=10**9,
            needs=(
                Need(
                    sentence="contradicts --seq x --batch, which is the same: give one of them",
                    met=lambda asked: (
                        asked.seq is None or asked.seq == asked.ctx_size // (asked.parallel or asked.batch)
                    ),
                ),
            ),
        ),
    ] = None
    parallel: Annotated[
        int | None,
        _option(
            help="Sequences (slots)",
            names=("--parallel", "-np"),
            shown="--batch",
            least=1,
            most=256,
            needs=(
                Need(
                    sentence="contradicts --batch, which is the same: give one of them",
                    met=lambda asked: asked.batch in (1, asked.parallel),
                ),
            ),
        ),
    ] = None
    batch_size: Annotated[
        int | None,
        _option(
            help="Maximum tokens of a logical batch",
            shown="2048, Ollama 512",
            parse=tokens,
            mistaken="--batch",
            least=1,
            most=10**7,
        ),
    ] = None
    cache_type_k: Annotated[
        str | None,
        _option(help="Type of the cached keys", names=("--cache-type-k", "-ctk"), shown="f16", choices=CACHE_WORDS),
    ] = None
    cache_type_v: Annotated[
        str | None,
        _option(help="Type of the cached values", names=("--cache-type-v", "-ctv"), shown="f16", choices=CACHE_WORDS),
    ] = None
    flash_attn: Annotated[
        Literal["on", "off", "auto"],
        _option(
            help="Flash attention; -fa alone is on; auto is on where the device has it",
            names=("--flash-attn", "-fa"),
            alone="on",
        ),
    ] = "auto"
    host_memory: Annotated[
        float | None,
        _option(
            help="Memory of the host for what does not fit on the accelerators: 64 and 64GB mean 64 GiB; or 512MiB",
            metavar="SIZE",
            shown="with --gpu auto this machine's, else no limit",
            parse=gibibytes,
            least=0,
            most=10**6,
            needs=(Need(sentence="needs --gpu NAME, or --gpu auto", met=lambda asked: asked.gpu),),
        ),
    ] = None
    llamacpp_version: Annotated[
        str | None,
        _option(
            help="llama.cpp release to model: of older builds, the month of the first whose rules it has",
            metavar="VERSION",
            shown="the newest known",
            check=_release,
        ),
    ] = None


@dataclass(frozen=True, kw_only=True, init=False, repr=False, eq=False)
class LlamaCppOptions(OllamaOptions, TraceOptions):
    """The options of `llama-server` and `llama-cli`; None is its default."""

    ubatch_size: Annotated[
        int | None,
        _option(
            help="Maximum tokens that are computed at once",
            names=("--ubatch-size", "-ub"),
            shown="512",
            parse=tokens,
            least=1,
            most=10**7,
        ),
    ] = None
    n_cpu_moe: Annotated[
        int | None,
        _option(
            help="Layers, from the first, whose experts stay in the host's memory",
            names=("--n-cpu-moe", "-ncmoe"),
            shown="0",
            least=0,
            most=ALL_LAYERS,
        ),
    ] = None
    override_tensor: Annotated[
        tuple[str, ...],
        _option(
            help="Tensors whose names match a regular expression go to a buffer type: 'exps=CPU' (repeatable)",
            names=("--override-tensor", "-ot"),
            metavar="PATTERN=TYPE",
            check=_override,
            own=True,  # a regular expression may take any time
        ),
    ] = ()
    tensor_split: Annotated[
        tuple[float, ...] | None,
        _option(
            help="Shares of the layers on each accelerator, such as 3,1",
            names=("--tensor-split", "-ts"),
            metavar="N,N",
            shown="by free memory",
            parse=_shares,
        ),
    ] = None
    split_mode: Annotated[
        Literal["layer", "none", "row", "tensor"],
        _option(
            help="How several accelerators share the model: whole layers, or parts of each matrix; none uses one",
            names=("--split-mode", "-sm"),
        ),
    ] = "layer"
    main_gpu: Annotated[
        int,
        _option(help="The accelerator that --split-mode none uses", names=("--main-gpu", "-mg"), metavar="N", least=0),
    ] = 0
    no_kv_offload: Annotated[bool, _option(help="Keep the KV cache in the host's memory")] = False
    kv_unified: Annotated[
        bool | None, _option(help="One KV cache for all sequences, not one each", shown="one each")
    ] = None
    mmproj: Annotated[
        str,
        _option(
            help="Image or audio tower: auto, the one that llama-server -hf takes of the repository; none; or a file",
            names=("--mmproj",),
            metavar="auto|none|FILE",
        ),
    ] = "auto"
    swa_full: Annotated[bool, _option(help="Keep all tokens in layers with a sliding window too")] = False
