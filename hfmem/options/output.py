"""Options of the command line only: lists of models, defaults of one's own, and help. Those on output are in
`hfmem.report.options`."""

from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Literal

from hfmem.options.access import Concurrency
from hfmem.options.option import Need, Option
from hfmem.options.panels import HELP, LISTS, OUTPUT, TRAINING

__all__ = ["DefaultsOptions", "FormsOptions", "HelpOptions", "ListOptions"]


TABLES = (".parquet", ".csv", ".jsonl")
"""Endings of the files that rows are written to."""


def _table_fault(path: Path) -> str | None:
    """What is wrong with the name of a table, worded to follow the option; None if nothing is."""
    if path.suffix.lower() not in TABLES:
        return f"{path} has to end with {', '.join(TABLES[:-1])} or {TABLES[-1]}"
    if not path.parent.is_dir():
        return f"{path} is in a folder that does not exist"
    return None


@dataclass(frozen=True, kw_only=True, init=False, repr=False, eq=False)
class FormsOptions(Concurrency):
    """How many forms of a model are read, and how many at once."""

    most_variants: Annotated[
        int,
        Option(
            help="Repositories that --variants lists at most: quantised ones first, then adapters, finetunes, merges, "
            "of each the most downloaded",
            panel=LISTS,
            least=1,
            most=10_000,
            needs=(Need(sentence="has no effect without --variants", met=lambda asked: asked.variants, harmless=True),),
        ),
    ] = 100


@dataclass(frozen=True, kw_only=True, init=False, repr=False, eq=False)
class ListOptions:
    """Models and options from files, and the order of several reports."""

    from_args: Annotated[
        tuple[Path, ...],
        Option(
            help="Take options from TrainingArguments, accelerate, DeepSpeed, axolotl or LLaMA-Factory files (YAML, "
            "JSON; repeatable, later ones win)",
            panel=TRAINING,
            metavar="FILE",
        ),
    ] = ()
    against: Annotated[
        Path | None,
        Option(
            help="Hold the answer against a log of vLLM, SGLang or llama.cpp, statistics or a snapshot of PyTorch's "
            "allocator, metrics of the Trainer, or nvidia-smi",
            panel=OUTPUT,
            metavar="FILE",
            own=True,
            needs=(
                Need(sentence="is for a single model", met=lambda asked: not asked.several),
                Need(
                    sentence="cannot be used with --out, whose rows have no column for it",
                    met=lambda asked: asked.out is None,
                ),
            ),
        ),
    ] = None
    from_file: Annotated[
        tuple[str, ...],
        Option(
            help="Read models from a file, one per line (repeatable); '-' is stdin",
            panel=LISTS,
            common=True,
            names=("--from",),
            metavar="FILE",
        ),
    ] = ()
    fits: Annotated[
        bool,
        Option(
            help="Show what of a list (without models: of the bundled catalog) fits on --gpu, the largest first",
            panel=LISTS,
            common=True,
            needs=(
                Need(sentence="needs --gpu NAME, or --gpu auto", met=lambda asked: asked.gpu),
                Need(sentence="cannot be used with --out", met=lambda asked: asked.out is None),
                Need(sentence="cannot be used with --explain", met=lambda asked: not asked.explain),
                Need(sentence="cannot be used with --trace", met=lambda asked: not asked.trace),
            ),
        ),
    ] = False
    which_gpu: Annotated[
        bool,
        Option(
            help="List the accelerators and cloud instances that hold the model, the fewest and smallest first",
            panel=LISTS,
            common=True,
            needs=(
                Need(sentence="tells which ones: it cannot be used with --gpu", met=lambda asked: not asked.gpu),
                Need(sentence="cannot be used with --fits", met=lambda asked: not asked.fits),
                Need(sentence="cannot be used with --out", met=lambda asked: asked.out is None),
                Need(sentence="cannot be used with --explain", met=lambda asked: not asked.explain),
                Need(sentence="cannot be used with --trace", met=lambda asked: not asked.trace),
                Need(
                    sentence="is for --format table, markdown, csv, json and jsonl",
                    met=lambda asked: asked.output in ("table", "markdown", "csv", "json", "jsonl"),
                ),
            ),
        ),
    ] = False
    variants: Annotated[
        bool,
        Option(
            help="List the forms of the model that the Hub (offline: the catalog) knows: GGUF files, AWQ, GPTQ, FP8, "
            "NVFP4, MLX, adapters, finetunes, merges",
            panel=LISTS,
            common=True,
            needs=(
                Need(sentence="cannot be used with --fits", met=lambda asked: not asked.fits),
                Need(sentence="cannot be used with --which-gpu", met=lambda asked: not asked.which_gpu),
                Need(sentence="cannot be used with --out", met=lambda asked: asked.out is None),
                Need(sentence="cannot be used with --explain", met=lambda asked: not asked.explain),
                Need(sentence="cannot be used with --trace", met=lambda asked: not asked.trace),
                Need(sentence="cannot be used with --train", met=lambda asked: not asked.train),
                Need(
                    sentence="is for --format table, markdown, csv, json and jsonl",
                    met=lambda asked: asked.output in ("table", "markdown", "csv", "json", "jsonl"),
                ),
            ),
        ),
    ] = False
    sort: Annotated[
        str | None,
        Option(
            help="Column to sort by",
            panel=LISTS,
            metavar="KEY",
            needs=(
                Need(sentence="has no effect on a single model", met=lambda asked: asked.several, harmless=True),
                Need(
                    sentence="has no effect with --out, which keeps the order of the list",
                    met=lambda asked: asked.out is None,
                    harmless=True,
                ),
            ),
        ),
    ] = None
    out: Annotated[
        Path | None,
        Option(
            help="Write a row for each model to a file (.parquet, .csv or .jsonl) as it comes, within the Hub's quotas",
            panel=LISTS,
            metavar="FILE",
            check=_table_fault,
            needs=(
                Need(sentence="cannot be used with --plot", met=lambda asked: asked.plot is None),
                Need(
                    sentence="cannot be used with --trace, which takes long and has no column",
                    met=lambda asked: not asked.trace,
                ),
                Need(
                    sentence="writes the columns of its file, in bytes: --format, --unit and --explain have no effect",
                    met=lambda asked: asked.output == "table" and asked.unit == "GiB" and not asked.explain,
                    harmless=True,
                ),
                Need(
                    sentence="FILE.parquet is written with PyArrow, which is not installed: pip install 'hfmem[scale]'",
                    met=lambda asked: asked.out.suffix.lower() != ".parquet" or find_spec("pyarrow") is not None,
                ),
            ),
        ),
    ] = None
    resume: Annotated[
        bool,
        Option(
            help="Go on with the file of --out: read what is missing, or if nothing is, what has changed",
            panel=LISTS,
            needs=(Need(sentence="needs --out FILE", met=lambda asked: asked.out is not None),),
        ),
    ] = False
    executor: Annotated[
        Literal["local", "ray"],
        Option(
            help="Who reads the list of --out: this process, or the workers of a Ray cluster",
            panel=LISTS,
            own=True,
            needs=(
                Need(
                    sentence="ray needs --out FILE.parquet, a folder of parts",
                    met=lambda asked: asked.out is not None and asked.out.suffix.lower() == ".parquet",
                ),
                Need(
                    sentence="ray needs Ray, which is not installed: pip install 'hfmem[scale]'",
                    met=lambda asked: asked.executor != "ray" or find_spec("ray") is not None,
                ),
            ),
        ),
    ] = "local"


@dataclass(frozen=True, kw_only=True, init=False, repr=False, eq=False)
class DefaultsOptions:
    """Whether the defaults of one's own count (`hfmem.scenario.preferences`)."""

    defaults: Annotated[
        bool,
        Option(
            help="Ignore your defaults for --gpu, --runtime and --unit, in ~/.config/hfmem/config.toml or in "
            "[tool.hfmem] of pyproject.toml",
            panel=OUTPUT,
            names=("--no-defaults",),
        ),
    ] = True


@dataclass(frozen=True, kw_only=True, init=False, repr=False, eq=False)
class HelpOptions:
    """Options that print something and exit, regardless of other options."""

    help_all: Annotated[bool, Option(help="Show every option, by group", panel=HELP, common=True)] = False
    help_for: Annotated[
        str | None,
        Option(
            help="Show the options for an engine, for training or for lists", panel=HELP, common=True, metavar="NAME"
        ),
    ] = None
    version: Annotated[bool, Option(help="Print the version", panel=HELP, common=True)] = False
