"""What the command line alone has: lists of models, files, and how answers are printed."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from hfmem.options.option import Need, Option
from hfmem.options.panels import ACCELERATORS, HELP, LISTS, OUTPUT, TRAINING
from hfmem.options.words import Format
from hfmem.units import UNITS

__all__ = ["HelpOptions", "ListOptions", "OutputOptions"]


@dataclass(frozen=True, kw_only=True, init=False, repr=False, eq=False)
class ListOptions:
    """Models and options that stand in files, and the order of many answers."""

    from_args: Annotated[
        tuple[Path, ...],
        Option(
            help="Take options from TrainingArguments, accelerate, DeepSpeed or axolotl files (YAML, JSON; repeatable, "
            "later ones win)",
            panel=TRAINING,
            metavar="FILE",
        ),
    ] = ()
    from_file: Annotated[
        str | None,
        Option(
            help="Read models from a file, one per line; '-' is stdin",
            panel=LISTS,
            common=True,
            names=("--from",),
            metavar="FILE",
        ),
    ] = None
    sort: Annotated[
        str | None,
        Option(
            help="Order by a column",
            panel=LISTS,
            metavar="KEY",
            needs=(Need(sentence="has no effect on one model", met=lambda asked: asked.several, harmless=True),),
        ),
    ] = None


@dataclass(frozen=True, kw_only=True, init=False, repr=False, eq=False)
class OutputOptions:
    """How answers are printed, and what the exit code tells."""

    output: Annotated[Format, Option(help="How to print", panel=OUTPUT, common=True, names=("--format",))] = "table"
    unit: Annotated[
        str,
        Option(
            help="Unit of tables: GiB = 2^30 bytes, GB = 10^9",
            panel=OUTPUT,
            choices=tuple(UNITS),
            needs=(
                Need(
                    sentence="is for tables: other formats have bytes",
                    met=lambda asked: asked.output in ("table", "markdown"),
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
                    met=lambda asked: asked.output == "table",
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


@dataclass(frozen=True, kw_only=True, init=False, repr=False, eq=False)
class HelpOptions:
    """What is answered at once, whatever else is asked."""

    help_all: Annotated[bool, Option(help="Show every option, in panels", panel=HELP, common=True)] = False
    help_for: Annotated[
        str | None,
        Option(help="Show the options of an engine, of training or of lists", panel=HELP, common=True, metavar="NAME"),
    ] = None
    version: Annotated[bool, Option(help="Print the version", panel=HELP, common=True)] = False
