"""How answers are printed, and what the exit code tells: options of the command line alone."""

from dataclasses import dataclass
from typing import Annotated

from hfmem.options.option import Need, Option
from hfmem.options.panels import ACCELERATORS, OUTPUT
from hfmem.report.formats import FORMATS
from hfmem.units import UNITS

__all__ = ["OutputOptions"]


@dataclass(frozen=True, kw_only=True, init=False, repr=False, eq=False)
class OutputOptions:
    """How answers are printed, and what the exit code tells."""

    output: Annotated[
        str,
        Option(help="How to print", panel=OUTPUT, common=True, names=("--format",), choices=lambda: tuple(FORMATS)),
    ] = "table"
    unit: Annotated[
        str,
        Option(
            help="Unit of tables: GiB = 2^30 bytes, GB = 10^9",
            panel=OUTPUT,
            choices=tuple(UNITS),
            needs=(
                Need(
                    sentence="is for tables: other formats have bytes",
                    met=lambda asked: FORMATS[asked.output].units,
                    harmless=True,
                ),
            ),
        ),
    ] = "GiB"
    explain: Annotated[
        bool,
        Option(
            help="Show the arithmetic and the source of every term",
            panel=OUTPUT,
            common=True,
            needs=(
                Need(
                    sentence="is for --format table: JSON has every term anyway, other formats have none",
                    met=lambda asked: FORMATS[asked.output].explains,
                    harmless=True,
                ),
            ),
        ),
    ] = False
    list_gpus: Annotated[bool, Option(help="List the accelerators and instances known", panel=ACCELERATORS)] = False
    require_fit: Annotated[
        bool,
        Option(
            help="Exit with 3 if it does not fit",
            panel=ACCELERATORS,
            common=True,
            needs=(Need(sentence="needs --gpu NAME, or --gpu auto", met=lambda asked: asked.gpu),),
        ),
    ] = False
