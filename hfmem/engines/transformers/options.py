"""The options of `transformers` alone."""

import re
from dataclasses import dataclass
from typing import Annotated, Final, Literal

from hfmem.engines.tracing import TraceOptions
from hfmem.errors import quoted
from hfmem.options.option import Need, Option
from hfmem.options.words import Attention

__all__ = ["CACHE_BACKENDS", "CACHE_SETTINGS", "TransformersOptions", "limit_of"]

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


_LIMIT: Final = re.compile(
    r"\s*(\d{1,5}|cpu|mps)\s*[=:]\s*(\d{1,15}(?:\.\d{1,9})?)\s*((?:[kmg]i?)?b)?\s*", re.IGNORECASE | re.ASCII
)
_UNITS: Final = {
    f"{letter}{infix}b": base**power
    for power, letter in enumerate("kmg", 1)
    for infix, base in (("i", 2**10), ("", 10**3))
}


def limit_of(word: str) -> tuple[int | str, int] | None:
    """A device with its bytes, of `0=20GiB`, `cpu=64GB` or `1=8000000000`, in units as Accelerate reads them (GB =
    10^9, GiB = 2^30, gb = 10^9 bits, otherwise bytes); None for anything else."""
    found = _LIMIT.fullmatch(word)
    if found is None:
        return None
    device, number, unit = found[1].lower(), found[2], (found[3] or "b").lower()
    scale = _UNITS.get(unit, 1 if unit == "b" else 0)
    if not scale or ("." in number and scale == 1):
        return None
    bits = 8 if scale > 1 and "i" not in unit and word.rstrip().endswith("b") else 1
    size = int(number) if scale == 1 else int(float(number) * scale)
    return (int(device) if device.isdecimal() else device), size // bits


def _limit(word: str) -> str | None:
    """What is wrong with a device's memory."""
    if limit_of(word) is not None:
        return None
    return f"{quoted(word)} is no memory of a device: expected 0=20GiB, 1=20GiB or cpu=64GiB"


def _once(asked: object) -> bool:
    """Whether each device is named once, and an accelerator among them."""
    devices = [found[0] for word in getattr(asked, "max_memory", ()) if (found := limit_of(word)) is not None]
    return len(devices) == len(set(devices)) and any(device != "cpu" for device in devices)


def _there(asked: object) -> bool:
    """Whether the accelerators that are named are among those that are asked for."""
    found = (limit_of(word) for word in getattr(asked, "max_memory", ()))
    last = max((one[0] + 1 for one in found if one is not None and isinstance(one[0], int)), default=0)
    return last <= (getattr(asked, "gpus", None) or last)


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
    device_map: Annotated[
        Literal["auto", "balanced", "balanced_low_0", "sequential"] | None,
        Option(
            help="Put whole modules on accelerators, the host and disk, as `device_map` of `from_pretrained`; tells "
            "what lies where, by Accelerate itself if installed",
            panel="transformers",
            modes=("inference",),
            methods=("exact",),
            needs=(
                _GENERATES,
                Need(
                    sentence="needs the accelerators that are filled: --gpu NAME, or --max-memory 0=20GiB,…",
                    met=lambda asked: asked.gpu or asked.max_memory,
                ),
                Need(
                    sentence="puts whole modules on accelerators: use --gpus N in place of --tp, --pp, --dp and --ep",
                    met=lambda asked: not (asked.tp or asked.pp or asked.dp or asked.ep),
                ),
                Need(
                    sentence="does not tell where an assistant lies: use it without --assistant-model",
                    met=lambda asked: asked.assistant_model is None,
                ),
                Need(
                    sentence="is for accelerators: use it without --gpu cpu",
                    met=lambda asked: "cpu" not in {name.strip().lower() for name in asked.gpu},
                ),
            ),
        ),
    ] = None
    max_memory: Annotated[
        tuple[str, ...],
        Option(
            help="The most that `device_map` puts on each device, as `max_memory` of `from_pretrained`; devices not "
            "named get nothing",
            panel="transformers",
            metavar="DEVICE=SIZE",
            shown="what is free",
            words=True,
            check=_limit,
            modes=("inference",),
            methods=("exact",),
            needs=(
                Need(sentence="needs --device-map", met=lambda asked: asked.device_map is not None),
                Need(sentence="names each device once, and at least one accelerator: 0=20GiB,cpu=64GiB", met=_once),
                Need(sentence="names an accelerator that --gpus does not count: the first one is 0", met=_there),
            ),
        ),
    ] = ()
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
