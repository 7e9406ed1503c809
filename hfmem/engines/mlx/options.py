"""The options of mlx-lm."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from hfmem.options.option import Option
from hfmem.options.reading import tokens

__all__ = ["DEFAULT_STEP", "MlxOptions"]

DEFAULT_STEP = 2048
"""Tokens of a prompt that mlx-lm runs at once (mlx_lm/generate.py)."""


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
