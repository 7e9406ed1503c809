"""How answers are printed and drawn, and what the exit code tells: options of the command line alone."""

from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

from hfmem.options.option import Need, Option
from hfmem.options.panels import ACCELERATORS, OUTPUT
from hfmem.options.words import PANELS, PICTURES
from hfmem.report.formats import FORMATS
from hfmem.units import UNITS

__all__ = ["SHORT", "OutputOptions"]

SHORT = {"as_json": "json", "quiet": "quiet"}
"""Formats by the switch that is short for them, as the `hf` command line has them."""


def _plot_fault(path: Path) -> str | None:
    """What is wrong with the name of a picture, worded to follow the option; None if nothing is."""
    if path.suffix.lower().removeprefix(".") not in PICTURES:
        return f"{path} has to end with {', '.join(f'.{kind}' for kind in PICTURES[:-1])} or .{PICTURES[-1]}"
    if not path.parent.is_dir():
        return f"{path} is in a folder that does not exist"
    return None


@dataclass(frozen=True, kw_only=True, init=False, repr=False, eq=False)
class OutputOptions:
    """How answers are printed, and what the exit code tells."""

    output: Annotated[
        str,
        Option(
            help="Output format",
            panel=OUTPUT,
            common=True,
            names=("--format",),
            choices=lambda: tuple(FORMATS),
            parse=lambda word: "table" if word == "human" else word,  # the word of `hf`
        ),
    ] = "table"
    as_json: Annotated[bool, Option(help="The same as --format json", panel=OUTPUT, names=("--json",))] = False
    quiet: Annotated[bool, Option(help="The same as --format quiet", panel=OUTPUT, names=("-q", "--quiet"))] = False
    unit: Annotated[
        str,
        Option(
            help="Unit of tables: GiB = 2^30 bytes, GB = 10^9",
            panel=OUTPUT,
            choices=tuple(UNITS),
            needs=(
                Need(
                    sentence="applies to tables only: other formats use bytes",
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
                    sentence="applies to --format table only: JSON always has every term, other formats have none",
                    met=lambda asked: FORMATS[asked.output].explains,
                    harmless=True,
                ),
            ),
        ),
    ] = False
    plot: Annotated[
        Path | None,
        Option(
            help=f"Draw memory over context and batch, and the phases of training, to a file "
            f"({', '.join(PICTURES[:-1])} or {PICTURES[-1]})",
            panel=OUTPUT,
            metavar="FILE",
            check=_plot_fault,
            needs=(
                Need(
                    sentence="draws with matplotlib, which is not installed: pip install 'hfmem[plot]'",
                    met=lambda asked: find_spec("matplotlib") is not None,  # noqa: ARG005 - one signature
                ),
            ),
        ),
    ] = None
    plot_of: Annotated[
        tuple[str, ...],
        Option(
            help="What to draw: parts of each model, context, batch, phases of training",
            panel=OUTPUT,
            metavar="WORDS",
            words=True,
            choices=PANELS,
            shown="all that there is",
            needs=(
                Need(sentence="needs --plot FILE", met=lambda asked: asked.plot is not None),
                Need(
                    sentence="phases needs --train",
                    met=lambda asked: "phases" not in asked.plot_of or asked.train is not None,
                ),
            ),
        ),
    ] = ()
    list_gpus: Annotated[bool, Option(help="List the known accelerators and instances", panel=ACCELERATORS)] = False
    require_fit: Annotated[
        bool,
        Option(
            help="Exit with code 3 if the model does not fit",
            panel=ACCELERATORS,
            common=True,
            needs=(Need(sentence="needs --gpu NAME, or --gpu auto", met=lambda asked: asked.gpu),),
        ),
    ] = False
