"""The options of `transformers` alone."""

from dataclasses import dataclass
from typing import Annotated, Final, Literal

from hfmem.engines.tracing import TraceOptions
from hfmem.options.option import Need, Option
from hfmem.options.words import Attention

__all__ = ["CACHE_BACKENDS", "CACHE_SETTINGS", "TransformersOptions"]

_MOST: Final = 10**6

CACHE_BACKENDS: Final = {"quanto": (2, 4), "hqq": (1, 2, 3, 4, 8), "fp8": (8,)}
"""Libraries that quantise a cache, with their bits (QuantizedCache of transformers 5.24's cache_utils.py)."""

CACHE_SETTINGS: Final = ("backend", "nbits", "q_group_size", "residual_length")
"""Keys of `--cache-config`."""

_GENERATES: Final = Need(
    sentence="is not traced, which runs one pass: use it without --trace", met=lambda asked: not asked.trace
)


def _setting(word: str) -> str | None:
    """What is wrong with one setting of a quantised cache."""
    key, _, value = word.partition("=")
    if key not in CACHE_SETTINGS:
        return f"{word!r} is no setting: expected {', '.join(f'{name}=…' for name in CACHE_SETTINGS)}"
    if key == "backend":
        return None if value.lower() in CACHE_BACKENDS else f"backend={value} is not one of {', '.join(CACHE_BACKENDS)}"
    if not value.isdecimal() or not 1 <= int(value) <= _MOST:
        return f"{key}={value}: expected a number from 1 to {_MOST:,}"
    return None


def _bits(asked: object) -> bool:
    """Whether the backend has such bits; fp8 takes no other setting."""
    given = dict(word.partition("=")[::2] for word in getattr(asked, "cache_config", ()))
    backend = given.get("backend", "quanto").lower()
    if backend == "fp8":
        return len(given) == 1
    return int(given.get("nbits", 4)) in CACHE_BACKENDS[backend]


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
    num_beams: Annotated[
        int,
        Option(
            help="Beams of a beam search: sequences for each prompt, each with its cache",
            panel="transformers",
            least=1,
            most=_MOST,
            modes=("inference",),
            methods=("exact",),
            needs=(_GENERATES,),
        ),
    ] = 1
    num_return_sequences: Annotated[
        int,
        Option(
            help="Answers for each prompt, each with its cache; with beams, at most as many as those",
            panel="transformers",
            least=1,
            most=_MOST,
            modes=("inference",),
            methods=("exact",),
            needs=(
                _GENERATES,
                Need(
                    sentence="exceeds --num-beams, which transformers refuses",
                    met=lambda asked: asked.num_beams == 1 or asked.num_return_sequences <= asked.num_beams,
                ),
            ),
        ),
    ] = 1
    cache_implementation: Annotated[
        Literal["dynamic", "static", "offloaded", "offloaded_static", "quantized"],
        Option(
            help="The cache of `generate`: grows by each token, is allocated as a whole, is in host memory but for two "
            "layers (either way), or is quantised",
            panel="transformers",
            modes=("inference",),
            methods=("exact",),
            needs=(_GENERATES,),
        ),
    ] = "dynamic"
    assistant_model: Annotated[
        str | None,
        Option(
            help="A smaller model that drafts tokens (assisted generation), loaded beside: a Hub id or path",
            panel="transformers",
            metavar="MODEL",
            modes=("inference",),
            methods=("exact",),
            needs=(
                _GENERATES,
                Need(
                    sentence="drafts for one sequence: use it without --batch, --num-beams and --num-return-sequences",
                    met=lambda asked: asked.batch == asked.num_beams == asked.num_return_sequences == 1,
                ),
                Need(
                    sentence="needs a cache whose last tokens can be taken back: use it without --cache-implementation",
                    met=lambda asked: asked.cache_implementation == "dynamic",
                ),
            ),
        ),
    ] = None
    cache_config: Annotated[
        tuple[str, ...],
        Option(
            help="Settings of a quantised cache, separated by commas: backend=quanto|hqq|fp8, nbits=4, "
            "q_group_size=64, residual_length=128",
            panel="transformers",
            metavar="KEY=VALUE",
            words=True,
            check=_setting,
            modes=("inference",),
            methods=("exact",),
            needs=(
                Need(
                    sentence="needs --cache-implementation quantized",
                    met=lambda asked: asked.cache_implementation == "quantized",
                ),
                Need(
                    sentence="asks for bits or settings that the backend does not have: quanto has 2 and 4 bits, "
                    "hqq 1, 2, 3, 4 and 8, and fp8 takes no other setting",
                    met=_bits,
                ),
            ),
        ),
    ] = ()
