"""The command line: parse, call, print, exit. The only print and the only exit of the package.

The command is built from the declared options when it runs, so that those which were registered before are there.
Everything but `typer` and the declarations is imported when a run needs it: `--help` and `--version` are asked often
and must be instant.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from inspect import Parameter, Signature
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, Final, NoReturn, TextIO, TypeVar

import typer
from typer.core import TyperCommand

from hfmem import __version__
from hfmem.engines.table import engines
from hfmem.errors import InvalidScenarioError
from hfmem.options import rules
from hfmem.options.access import Access, Concurrency, Revision
from hfmem.options.help import common, panels
from hfmem.options.option import Declared, declared, value_of
from hfmem.options.output import HelpOptions, ListOptions
from hfmem.options.panels import HELP, TOPICS
from hfmem.options.reading import not_one_of
from hfmem.report.formats import FORMATS, Style, render
from hfmem.report.options import OutputOptions
from hfmem.scenario.asked import Asked, extended, owners

if TYPE_CHECKING:
    from hfmem.errors import HfmemError
    from hfmem.fetcher.values import ModelRef
    from hfmem.report.errors import Problem
    from hfmem.report.values import Report
    from hfmem.scenario.options import Options

__all__ = ["app", "table"]

FAILED, USAGE, UNFIT, INTERRUPTED = 1, 2, 3, 130

_Values = dict[str, Any]
_Made = TypeVar("_Made")


@dataclass(frozen=True, kw_only=True, repr=False, eq=False)
class _Around(Revision, Access, ListOptions, Concurrency, OutputOptions):
    """What is asked beside the scenario: which models, and how they are printed."""


def app(prog_name: str = "hfmem") -> None:
    """Run the command line and end the process."""
    command = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)
    settings = {"help_option_names": ["-h", "--help"]}
    command.command("hfmem", cls=_Command, context_settings=settings)(_entry())
    command(prog_name=prog_name)


def table() -> tuple[Declared, ...]:
    """Every option of the command line."""
    return declared(extended(Asked)) + declared(_Around) + declared(HelpOptions)


def _entry() -> Callable[..., None]:
    """The function that `typer` calls, with a parameter for each option."""

    def hfmem(models: list[str] | None, **given: Any) -> None:
        """Tell how much memory Hugging Face models need, before anything is downloaded.

        Example: hfmem meta-llama/Llama-2-7b-hf --batch 4 --seq 4096
        """
        _run(models or [], {name: value for name, value in given.items() if value not in (None, [])})

    argument = typer.Argument(None, metavar="MODEL...")
    models = Parameter("models", Parameter.KEYWORD_ONLY, default=argument, annotation=list[str] | None)
    hfmem.__signature__ = Signature([models, *map(_parameter, table())])  # type: ignore[attr-defined] # typer reads it
    hfmem.__annotations__.clear()
    return hfmem


def _parameter(option: Declared) -> Parameter:
    """An option as `typer` parses it: words are strings, and what they mean is for the table to say."""
    kind: Any = option.kind
    names = list(option.flags)
    if option.opposite:
        names[0] += f"/{option.opposite}"
    elif option.option.parse is not None or option.option.words:
        kind = str
    elif option.several or kind in _NUMBERS:
        one: Any = str if kind in _NUMBERS else kind
        kind = list[one] if option.several else one
    eager = _AT_ONCE.get(option.name)
    asked = typer.Option(None, *names, callback=eager, is_eager=eager is not None)
    return Parameter(option.name, Parameter.KEYWORD_ONLY, default=asked, annotation=kind | None)


_NUMBERS: Final = (int, float)


def _written(option: Declared, value: Any) -> Any:
    """A number from what was written, if it is one: what is wrong with anything else is told as Python is told."""
    if option.option.parse is not None or option.option.words or option.kind not in _NUMBERS:
        return value
    if option.several:
        return [_number(option.kind, each) for each in value]
    return _number(option.kind, value)


def _number(kind: type, value: str) -> Any:
    try:
        return kind(value)
    except ValueError:
        return value


class _Command(TyperCommand):
    """The command, whose help has the options in panels."""

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Write the sections of help: those asked for, else the options that most people use."""
        shown = ctx.meta.get(_SHOWN)
        sections = common(table()) if shown is None else panels(shown)
        with formatter.section("Arguments"):
            formatter.write_dl([("MODEL...", "Hub ids, local folders, or .safetensors or .gguf files.")])
        for title, rows in sections:
            with formatter.section(title):
                formatter.write_dl([*([_PLAIN] if title == HELP else []), *rows])
        if shown is None:
            formatter.write_paragraph()
            formatter.write_text(f"`hfmem --help-all` has every option, `hfmem --help-for NAME` those of {_topics()}.")


_SHOWN: Final = "hfmem.shown"
_PLAIN: Final = ("-h, --help", "Show the options that most people use.")


def _topics() -> str:
    *names, last = (*(row.name for row in engines()), *TOPICS)
    return f"{', '.join(names)} or {last}"


def _help(ctx: typer.Context, shown: Iterable[Declared]) -> NoReturn:
    ctx.meta[_SHOWN] = tuple(shown)
    print(ctx.get_help())
    raise typer.Exit


def _help_all(ctx: typer.Context, asked: bool) -> None:
    if asked:
        _help(ctx, table())


def _help_for(ctx: typer.Context, name: str | None) -> None:
    """The options of an engine, or of one of the topics."""
    if name is None:
        return
    if name in TOPICS:
        _help(ctx, (option for option in table() if option.option.panel in TOPICS[name]))
    engine = next((row for row in engines() if row.name == name), None)
    if engine is None:
        _usage(f"--help-for {not_one_of(name, (*(row.name for row in engines()), *TOPICS))}.")
    _help(ctx, declared(engine.options))


def _version(asked: bool) -> None:
    if asked:
        print(f"hfmem {__version__}")
        raise typer.Exit


_AT_ONCE: Final[dict[str, Callable[..., None]]] = {"help_all": _help_all, "help_for": _help_for, "version": _version}
"""What is answered while the line is still being read."""


def _run(given: Sequence[str], line: _Values) -> None:
    """Answer a line that was parsed."""
    from hfmem.scenario.options import options_type

    values = _understood(line)
    around = _made(_Around, values)
    options = _made(options_type(), values)
    _refuse(rules.wrong(option, getattr(around, option.name)) for option in declared(_Around))
    if around.list_gpus:
        _list_gpus(given, options, around)
        return
    _check_environment()
    options, refs = _asked(given, options, around)
    _check(options, around, refs)
    results, interrupted = _collect(refs, options, around)
    reports, problems = _split(results)
    if around.sort:
        from hfmem.report.columns import sorted_reports

        reports = sorted_reports(reports, around.sort)
    weightless = _print(reports, problems, around, several=len(refs) > 1)
    if interrupted:
        raise typer.Exit(INTERRUPTED)
    if problems or weightless:
        raise typer.Exit(FAILED)
    if around.require_fit:
        _tell_tight(reports, around.unit)
    if around.require_fit and not all(report.fits and all(fit.fits for fit in report.fits) for report in reports):
        raise typer.Exit(UNFIT)


def _check_environment() -> None:
    """Refuse what the Hub's client cannot read of the environment: it would fail as it is imported."""
    try:
        from huggingface_hub import constants  # noqa: F401 - every run needs them
    except ValueError as error:
        _usage(
            f"The environment has a value that huggingface_hub cannot read ({error}): check HF_ENDPOINT and the other "
            "variables that begin with HF_."
        )


def _tell_tight(reports: Sequence[Report], unit: str) -> None:
    """Name what fits with little room: it is taken as a fit."""
    from hfmem.report.escapes import line
    from hfmem.report.fit import tight_words

    for report in reports:
        for fit in report.fits or ():
            if fit.tight:
                _tell(line(f"{report.checkpoint.ref.model_id} fits on {fit.gpu.name}, but {tight_words(fit, unit)}."))


def _understood(line: _Values) -> _Values:
    """The values that are meant by what was written; a flag says the opposite of its default."""
    known = {option.name: option for option in table()}
    try:
        return {
            name: value_of(known[name], not value if known[name].default is True else _written(known[name], value))
            for name, value in line.items()
        }
    except InvalidScenarioError as error:
        _usage(f"{error.reason}.")


def _made(kind: type[_Made], values: Mapping[str, Any]) -> _Made:
    """A set of options from what of the values is its own."""
    return kind(**{option.name: values[option.name] for option in declared(kind) if option.name in values})


def _refuse(sentences: Iterable[str | None]) -> None:
    """Leave with the first sentence, if there is one."""
    for sentence in filter(None, sentences):
        _usage(f"{sentence}.")


def _check(options: Options, around: _Around, refs: Sequence[ModelRef]) -> None:
    """Refuse wrong usage before anything is fetched, and name what has no effect."""
    from hfmem.scenario.check import check

    try:
        check(options)
    except InvalidScenarioError as error:
        _usage(f"{error.reason}.")
    if around.sort is not None:
        from hfmem.report.columns import SORT_KEYS

        if around.sort not in SORT_KEYS:
            _usage(f"--sort {not_one_of(around.sort, SORT_KEYS)}.")
    local = all(_is_local(ref.model_id) for ref in refs)
    asked = SimpleNamespace(**vars(options), **vars(around), several=len(refs) > 1, local=local)
    _refuse(rules.refusals(declared(_Around), asked, owners()))
    for sentence in rules.idle(declared(_Around), asked):
        _tell(f"{sentence}.")


def _is_local(name: str) -> bool:
    """Whether a name is that of a file or folder."""
    try:
        return Path(name).exists()
    except OSError:  # too long for a path
        return False


def _print(reports: list[Report], problems: list[Problem], around: _Around, *, several: bool) -> bool:
    """Show what was found; whether a model's weights are told by nothing."""
    width = _width(sys.stdout)
    free = _free() if several and width is not None else None  # of this machine: for the person in front of it
    style = Style(
        unit=around.unit, explain=around.explain, width=width, several=several, ascii=_only_ascii(), free=free
    )
    weightless = [report for report in reports if report.estimate.group("weights") is None]
    shown = [report for report in reports if report not in weightless] if FORMATS[around.output].known_only else reports
    _show(around.output, shown, problems, style)
    for report in weightless:
        _tell(_no_weights(report))
    return bool(weightless)


def _list_gpus(models: Sequence[str], options: Options, around: _Around) -> None:
    """The table of accelerators on stdout."""
    beside = [option.flags[0] for option in declared(type(options)) if option.asked(options)]
    if models or beside:
        _usage(f"--list-gpus lists all accelerators: it goes with no {'model' if models else beside[0]}.")
    from hfmem.hardware.table import accelerators, instances

    if FORMATS[around.output].json:
        import json
        from dataclasses import asdict

        print(
            json.dumps(
                {"gpus": [asdict(row) for row in accelerators()], "instances": [asdict(row) for row in instances()]}
            )
        )
        return
    from hfmem.report.fit import list_gpus

    print(list_gpus(accelerators(), instances(), around.unit, _width(sys.stdout)))


def _asked(given: Sequence[str], options: Options, around: _Around) -> tuple[Options, list[ModelRef]]:
    """The options with what training files say where the command line says nothing, and the models asked for, in order;
    a model that is there twice is asked for twice."""
    from hfmem.fetcher.identity import reference

    names = [*given, *(_lines(around.from_file) if around.from_file else ())]
    refs = [reference(name, around.revision) for name in names]
    if around.from_args:
        options, refs = _from_args(options, around, refs)
    if not refs:
        _usage("No model is given: hfmem MODEL, or --from FILE with one a line.")
    return options, refs


_LONGEST_LIST: Final = 64 * 2**20
"""Bytes of a list of models: every id of the Hub takes some fifty megabytes."""


def _stdin() -> str:
    """The text on standard input; one byte more than is taken shows that there is too much."""
    from hfmem.fetcher.files import as_text

    if sys.stdin is None:
        raise OSError(0, "standard input is closed")
    return as_text(sys.stdin.buffer.read(_LONGEST_LIST + 1))


def _lines(source: str) -> Iterable[str]:
    """One model a line; blank lines and what follows a # are skipped."""
    from hfmem.fetcher.files import read_text, too_long

    try:
        text = _stdin() if source == "-" else read_text(Path(source), _LONGEST_LIST)
    except (OSError, UnicodeDecodeError) as error:
        _usage(f"--from {source} cannot be read: {getattr(error, 'strerror', None) or 'it is not text'}.")
    if len(text) > _LONGEST_LIST:
        _usage(f"--from {source} cannot be read: {too_long(_LONGEST_LIST)}.")
    return [name for line in re.split(r"[\r\n]+", text) if (name := line.partition("#")[0].strip())]


def _from_args(options: Options, around: _Around, refs: list[ModelRef]) -> tuple[Options, list[ModelRef]]:
    """The options with what training files say where the command line says nothing, and the models: the one that they
    name, where none is given; at the state that they name, where it is the one that is given."""
    from dataclasses import replace

    from hfmem.fetcher.identity import reference
    from hfmem.scenario.files import with_files

    try:
        found = with_files(options, around.from_args)
    except InvalidScenarioError as error:
        _usage(f"{error.reason}.")
    if not found.model:
        return found.options, refs
    named = reference(found.model, found.revision or around.revision)
    if all(ref.model_id.lower() == named.model_id.lower() for ref in refs):
        return found.options, [ref.at(named.revision) for ref in refs] or [named]
    remark = f"{found.named} is {found.model}, which is not the model that was asked for."
    return replace(found.options, remarks=(*found.options.remarks, remark)), refs


def _usage(sentence: str) -> NoReturn:
    from hfmem.report.escapes import line

    _tell(f"{line(sentence)}\n`hfmem --help-all` lists the options.")
    raise typer.Exit(USAGE)


def _collect(refs: Sequence[ModelRef], options: Options, around: _Around) -> tuple[list[Report | HfmemError], bool]:
    """Every model's report or error, and whether a person interrupted: what is there by then is kept."""
    from hfmem.fetcher.concurrent import fetch_all
    from hfmem.streams import Progress

    progress = Progress([ref.model_id for ref in refs]) if sys.stderr.isatty() else None
    found = fetch_all(refs, around, around.jobs, done=progress.step if progress else lambda: None)
    # What follows is imported while the first requests are under way.
    from hfmem.answers import report_all

    results: list[Report | HfmemError] = []
    try:
        for result in report_all(found, options):
            results.append(result)
    except KeyboardInterrupt:
        return results, True
    finally:
        if progress:
            progress.close()
    return results, False


def _split(results: Iterable[Report | HfmemError]) -> tuple[list[Report], list[Problem]]:
    from hfmem.errors import HfmemError
    from hfmem.report.errors import explain

    reports, problems = [], []
    for result in results:
        if isinstance(result, HfmemError):
            problems.append(explain(result))
        else:
            reports.append(result)
    return reports, problems


def _show(output: str, reports: list[Report], problems: list[Problem], style: Style) -> None:
    """The reports on stdout; warnings and failures on stderr."""
    from hfmem.report.escapes import line

    if (reports or style.several or FORMATS[output].whole) and (text := render(output, reports, problems, style)):
        print(text)
    if not style.several:  # tables have a column
        for report in reports:
            _warn_about_disk(report, style.unit)
    for problem in problems:
        whose = f"{problem.model}: " if style.several and problem.model not in problem.message else ""
        _tell(line(f"{whose}{problem.message} {problem.hint}"))


def _tell(text: str) -> None:
    """Lines for a person on stderr, folded between words where that is a terminal."""
    from hfmem.report.escapes import visible

    width = _width(sys.stderr)
    if width is not None:
        from hfmem.report.width import fold

        text = "\n".join(fold(line, width) for line in text.splitlines())
    print(visible(text), file=sys.stderr)


def _only_ascii() -> bool:
    """Whether stdout cannot take the characters that reports have."""
    try:
        "×≥é".encode(sys.stdout.encoding or "ascii")
    except (LookupError, UnicodeEncodeError):
        return True
    return False


def _no_weights(report: Report) -> str:
    from hfmem.errors import NoWeightsError
    from hfmem.report.errors import explain

    reason = next((reason for group, reason in report.estimate.unknown if group == "weights"), "")
    problem = explain(NoWeightsError(report.checkpoint.ref.model_id, reason))
    local = report.checkpoint.source == "local"
    hint = "Put its weights beside config.json, or name its --dtype." if local else problem.hint
    return f"{problem.message} {hint}"


def _warn_about_disk(report: Report, unit: str) -> None:
    nbytes = report.download.nbytes
    if not nbytes or report.checkpoint.source == "local":
        return
    from hfmem.fetcher.disk import cache_room
    from hfmem.units import format_bytes

    room = cache_room()
    if room is not None and room[1] < nbytes:
        need, free = format_bytes(nbytes, unit), format_bytes(room[1], unit)
        name = report.checkpoint.ref.model_id
        _tell(f"Warning: downloading {name} takes {need}, and the disk of {room[0]} has {free} free.")


def _free() -> int | None:
    """Bytes that are free where downloads go."""
    from hfmem.fetcher.disk import cache_room

    room = cache_room()
    return room[1] if room is not None else None


def _width(stream: TextIO) -> int | None:
    """Columns of the terminal; None where the stream is none, so that files and pipes get whole lines."""
    if not stream.isatty():
        return None
    if os.environ.get("COLUMNS", "").isdecimal() and (asked := int(os.environ["COLUMNS"])):
        return asked
    try:
        return os.get_terminal_size(stream.fileno()).columns or _USUAL_WIDTH
    except OSError:
        return _USUAL_WIDTH


_USUAL_WIDTH: Final = 80
