"""The options of mlx-lm."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Final

from hfmem.options.option import Need, Option
from hfmem.options.reading import tokens

__all__ = ["DEFAULT_GROUP", "DEFAULT_QUANTISED_FROM", "DEFAULT_STEP", "MlxOptions"]

DEFAULT_STEP = 2048
"""Tokens of a prompt that mlx-lm runs at once (mlx_lm/generate.py)."""

DEFAULT_QUANTISED_FROM = 5000
"""Tokens from which on mlx_lm.generate quantises a KV cache, if it is asked to (mlx_lm/generate.py)."""

DEFAULT_GROUP = 64
"""Elements of keys and values with one scale (mlx_lm/generate.py)."""

_BITS: Final = Need(sentence="needs --kv-bits", met=lambda asked: asked.kv_bits)


def _bits(bits: int) -> str | None:
    """What is wrong with bits (`affine_quantize` of mlx/ops.cpp)."""
    return None if bits in (2, 3, 4, 5, 6, 8) else f"is {bits}, expected 2, 3, 4, 5, 6 or 8"


def _group(size: int) -> str | None:
    """What is wrong with the size of a group (`affine_quantize` of mlx/ops.cpp)."""
    return None if size in (32, 64, 128) else f"is {size}, expected 32, 64 or 128"


@dataclass(frozen=True, kw_only=True, init=False, repr=False, eq=False)
class MlxOptions:
    """The options of mlx-lm."""

    prefill_step_size: Annotated[
        int | None,
        Option(
            help="Tokens of a prompt that are run at once",
            panel="MLX",
            least=1,
            most=10**6,
            parse=tokens,
            shown=str(DEFAULT_STEP),
        ),
    ] = None
    max_kv_size: Annotated[
        int | None,
        Option(
            help="Tokens that the KV cache keeps, of models that do not choose their caches themselves",
            panel="MLX",
            least=1,
            most=10**9,
            parse=tokens,
            shown="all",
        ),
    ] = None
    kv_bits: Annotated[
        int | None,
        Option(
            help="Bits of a quantised KV cache: 2, 3, 4, 5, 6 or 8",
            panel="MLX",
            least=2,
            most=8,
            check=_bits,
            shown="not quantised",
        ),
    ] = None
    kv_group_size: Annotated[
        int | None,
        Option(
            help="Elements with one scale in a quantised KV cache: 32, 64 or 128",
            panel="MLX",
            least=32,
            most=128,
            check=_group,
            shown=str(DEFAULT_GROUP),
            needs=(_BITS,),
        ),
    ] = None
    quantized_kv_start: Annotated[
        int | None,
        Option(
            help="Tokens from which on the KV cache is quantised",
            panel="MLX",
            least=0,
            most=10**9,
            parse=tokens,
            shown=str(DEFAULT_QUANTISED_FROM),
            needs=(_BITS,),
        ),
    ] = None
