"""Shared by servers: rows of number formats that NVIDIA's cards compute from some capability on."""

from __future__ import annotations

from typing import Final

from hfmem.estimator.weights.formats import FormatRow, Hardware

__all__ = ["ELSEWHERE", "WORDS", "capable"]

ELSEWHERE: Final[tuple[Hardware, ...]] = ("rocm", "xpu", "cpu")
"""Hardware that such rows do not restrict."""

WORDS: Final = ("fp8", "mxfp4", "nf4", "int4", "int8", "nvfp4")
"""Values of `--dtype` that stand for a quantisation."""


def capable(  # noqa: PLR0913 - the columns of a row
    methods: tuple[str, ...], schemes: tuple[str, ...], least: int, source: str, *, word: str, elsewhere: str
) -> tuple[FormatRow, ...]:
    """The rows of a format: kept as it is stored from a compute capability on (`80` for 8.0), refused below, and kept
    on other vendors' hardware.

    Args:
        methods, schemes: the format.
        least: the smallest capability.
        source: where that stands.
        word: what the reason of the refusal calls it.
        elsewhere: where it stands that other vendors' hardware takes it.
    """
    needs = f"{word} needs compute capability {least // 10}.{least % 10}"
    return (
        FormatRow(methods=methods, schemes=schemes, hardware=("cuda",), least=least, outcome="kept", source=source),
        FormatRow(methods=methods, schemes=schemes, hardware=("cuda",), outcome="refused", reason=needs, source=source),
        FormatRow(methods=methods, schemes=schemes, hardware=ELSEWHERE, outcome="kept", source=elsewhere),
    )
