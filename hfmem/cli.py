"""The command line: parse, call, print, exit. No other module prints or exits.

The command is built from the declared options when it runs, so it includes options registered before. Everything except
`typer` and the declarations is imported on demand, as `--help` and `--version` must be instant.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from inspect import Parameter, Signature
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, Final, NoReturn, TypeVar

import typer
from typer.core import TyperCommand

from hfmem import __version__
from hfmem.engines.table import engines
from hfmem.errors import InvalidScenarioError
from hfmem.options import rules
from hfmem.options.access import Access, Revision
from hfmem.options.help import Row, common, definitions, panels
from hfmem.options.option import Declared, declared, value_of
from hfmem.options.output import DefaultsOptions, FormsOptions, HelpOptions, ListOptions
from hfmem.options.panels import ACCELERATORS, HELP, TOPICS
from hfmem.options.run import is_profile
from hfmem.options.written import NUMBERS, written
from hfmem.refusals.options import IncompatibleOptionsError, UnknownWordError
from hfmem.report.formats import FORMATS, Style, render
from hfmem.report.options import SHORT, OutputOptions
from hfmem.scenario.asked import Asked, extended, owners

if TYPE_CHECKING:
    from pathlib import Path

    from hfmem.against.values import Log
    from hfmem.errors import HfmemError
    from hfmem.fetcher.values import Checkpoint, ModelRef
    from hfmem.report.errors import Problem
    from hfmem.report.formats import OutputFormat
    from hfmem.report.paint import Depth
    from hfmem.report.values import Report
    from hfmem.scenario.options import Options

__all__ = ["app", "table"]

FAILED, USAGE, UNFIT, INTERRUPTED = 1, 2, 3, 130

_Values = dict[str, Any]
_Made = TypeVar("_Made")


@dataclass(frozen=True, kw_only=True, repr=False, eq=False)
class _Around(Revision, Access, FormsOptions, ListOptions, OutputOptions, DefaultsOptions):
    """The options other than the scenario's: which models, and how to print them."""


def app(prog_name: str = "hfmem") -> None:
    """Run the command line and exit."""
    command = typer.Typer(rich_markup_mode=None, pretty_exceptions_enable=False)
    settings = {"help_option_names": ["-h", "--help"]}
    command.command("hfmem", cls=_Command, context_settings=settings)(_entry(_written(sys.argv[1:])))
    command(_words(sys.argv[1:]), prog_name=prog_name)


def _words(given: Sequence[str]) -> list[str]:
    """The words of the line, with the value that an option has which may stand alone: `-fa` is `-fa on`."""
    alone = {flag: option for option in table() if option.option.alone for flag in option.flags}
    found: list[str] = []
    for number, word in enumerate(given):
        found.append(word)
        option = alone.get(word)
        if option is not None and (number + 1 == len(given) or given[number + 1] not in option.choices):
            found.append(option.option.alone)
    return found


def table() -> tuple[Declared, ...]:
    """All options of the command line."""
    return declared(extended(Asked)) + declared(_Around) + declared(HelpOptions)


def _written(given: Sequence[str]) -> Sequence[Declared]:
    """The options on the line: to declare one of 180 to `typer` takes a tenth of a millisecond. All of them if a word
    begins as an option and is none, as `typer` then tells the nearest, and where a shell asks what completes a line."""
    words = {word.partition("=")[0] for word in given if word.startswith("-")}
    options = {flag: option for option in table() for flag in (*option.flags, option.opposite)}
    if _completing() or not words <= options.keys() | _OF_TYPER:
        return table()
    return list(dict.fromkeys(options[word] for word in words if word in options))


_OF_TYPER: Final = {"-h", "--help", "--install-completion", "--show-completion"}


def _entry(options: Iterable[Declared]) -> Callable[..., None]:
    """The function that `typer` calls, with a parameter for each of these options."""

    def hfmem(models: list[str] | None, **given: Any) -> None:
        """Estimate how much memory Hugging Face models need, before anything is downloaded.

        Example: hfmem meta-llama/Llama-2-7b-hf --batch 4 --seq 4096
        """
        _run(models or [], {name: value for name, value in given.items() if value not in (None, [])})

    argument = typer.Argument(None, metavar="MODEL...", autocompletion=_models_begun if _completing() else None)
    models = Parameter("models", Parameter.KEYWORD_ONLY, default=argument, annotation=list[str] | None)
    hfmem.__dict__["__signature__"] = Signature([models, *map(_parameter, options)])  # which typer reads
    hfmem.__annotations__.clear()
    return hfmem


def _completing() -> bool:
    """Whether a shell asks what completes a line: only then is it declared, as that takes time for each option."""
    return "_HFMEM_COMPLETE" in os.environ


def _models_begun(incomplete: str) -> list[str]:
    from hfmem.completion import models  # when a shell asks

    return models(incomplete)


def _values_begun(option: Declared) -> Callable[[str], list[str]]:
    """What a shell asks for the values of an option."""

    def begun(incomplete: str) -> list[str]:
        from hfmem.completion import completions

        return completions(option, incomplete)

    return begun


def _parameter(option: Declared) -> Parameter:
    """An option as a parameter for `typer`, with values as strings, which are parsed later by the declaration."""
    kind: Any = option.kind
    names = list(option.flags)
    if option.opposite:
        names[0] += f"/{option.opposite}"
    elif (option.option.parse is not None and not option.several) or option.option.words:
        kind = str
    elif option.several or kind in NUMBERS:
        one: Any = str if kind in NUMBERS else kind
        kind = list[one] if option.several else one
    eager = _AT_ONCE.get(option.name)
    begun = _values_begun(option) if kind is not bool and _completing() else None
    asked = typer.Option(None, *names, callback=eager, is_eager=eager is not None, autocompletion=begun)
    return Parameter(option.name, Parameter.KEYWORD_ONLY, default=asked, annotation=kind | None)


class _Command(TyperCommand):
    """The command, with its help in panels."""

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Write the requested sections of the help, by default the common options."""
        shown = ctx.meta.get(_SHOWN)
        sections = common(table()) if shown is None else panels(shown)
        with formatter.section("Arguments"):
            _write(formatter, [("MODEL...", "Hub ids, local folders, or .safetensors or .gguf files.")])
        for title, rows in sections:
            with formatter.section(title):
                _write(formatter, [_PLAIN, *rows, *_SHELLS] if title == HELP else rows)
        if shown is None:
            formatter.write_paragraph()
            formatter.write_text(
                f"`hfmem --help-all` shows every option, `hfmem --help-for NAME` those for {_topics()}."
            )


def _write(formatter: Any, rows: Iterable[Row]) -> None:
    """Write rows of the help; those of `typer` break words where lines are narrow."""
    for line in definitions(rows, formatter.width):
        formatter.write(f"{line}\n")


_SHOWN: Final = "hfmem.shown"
_PLAIN: Final = ("-h, --help", "Show the common options.")
_SHELLS: Final = (  # which typer adds
    ("--install-completion", "Complete options and ids in this shell from now on (bash, zsh, fish, PowerShell)."),
    ("--show-completion", "Print what that installs."),
)


def _topics() -> str:
    *names, last = (*(row.name for row in engines()), *TOPICS)
    return f"{', '.join(names)} or {last}"


def _help(ctx: typer.Context, shown: Iterable[Declared]) -> NoReturn:
    ctx.meta[_SHOWN] = tuple(shown)
    print(ctx.get_help())
    raise typer.Exit


def _help_all(ctx: typer.Context, asked: bool) -> None:
    if asked and not ctx.resilient_parsing:  # as for completion
        _help(ctx, table())


def _help_for(ctx: typer.Context, name: str | None) -> None:
    """Print the options of an engine or topic."""
    if name is None or ctx.resilient_parsing:
        return
    if name in TOPICS:
        _help(ctx, (option for option in table() if option.option.panel in TOPICS[name]))
    engine = next((row for row in engines() if row.name == name), None)
    if engine is None:
        _wrong(UnknownWordError("--help-for", name, (*(row.name for row in engines()), *TOPICS)))
    _help(ctx, declared(engine.options))


def _version(ctx: typer.Context, asked: bool) -> None:
    if asked and not ctx.resilient_parsing:
        print(f"hfmem {__version__}")
        raise typer.Exit


_AT_ONCE: Final[dict[str, Callable[..., None]]] = {"help_all": _help_all, "help_for": _help_for, "version": _version}
"""Options that print and exit during parsing."""


def _run(given: Sequence[str], line: _Values) -> None:
    """Run a parsed command line."""
    from hfmem.scenario.options import options_type

    values = _with_format(_understood(line))
    around = _made(_Around, values)
    options = _made(options_type(), values)
    _refuse(rules.wrong(option, getattr(around, option.name)) for option in declared(_Around))
    if around.list_gpus:
        _, around, defaults = _with_defaults(options, around, values, of=("unit",))
        _list_gpus(given, options, around)
        for sentence in defaults:
            _tell(sentence)
        return
    _check_environment()
    options, refs = _models(given, options, around, values)
    named = bool(options.gpu)
    options, around, defaults = _with_defaults(options, around, values)
    options = _with_profile(options, around, named=named)
    options, log, taken = _with_log(options, around.against if len(refs) == 1 else None, values)
    _check(options, around, refs)
    if around.out is not None:
        _scan(around.out, refs, options, around)
        return
    results, interrupted = _collect(refs, options, around)
    reports, problems = _split(results)
    reports, left = _listed(_against(reports, log, taken), options, around)
    reports, unlisted = _with_variants(reports, options, around) if around.variants else (reports, [])
    problems += unlisted
    failed = _print(reports, problems, around, options, several=len(refs) > 1 or around.fits, left=left)
    failed |= around.plot is not None and not _plotted(around.plot, reports, options, around)
    for sentence in defaults if problems and not reports else ():  # otherwise they are among the notes
        _tell(sentence)
    if interrupted or failed:
        raise typer.Exit(INTERRUPTED if interrupted else _failure(results))
    if around.require_fit and not _fit(reports, around):
        raise typer.Exit(UNFIT)


def _listed(reports: list[Report], options: Options, around: _Around) -> tuple[list[Report], list[Report]]:
    """The reports in the order that is asked for, with what holds each if that is asked; and those that are left out,
    as they fit nowhere."""
    left: list[Report] = []
    if around.fits:
        from hfmem.report.fitting import fitting

        found = fitting(reports)
        reports, left = found.shown, found.left
    if around.which_gpu:
        from hfmem.answers import with_holders

        reports = [with_holders(report, options) for report in reports]
    if around.sort:
        from hfmem.report.columns import sorted_reports

        reports = sorted_reports(reports, around.sort)
    return reports, left


def _with_variants(reports: Sequence[Report], options: Options, around: _Around) -> tuple[list[Report], list[Problem]]:
    """The reports with the forms of their models, and why the Hub lists none of some."""
    from hfmem.errors import HfmemError
    from hfmem.forms import forms_of
    from hfmem.streams import Progress

    shown: list[Progress] = []

    def begun(names: Sequence[str]) -> Callable[[], object]:
        if not sys.stderr.isatty():
            return lambda: None
        shown.append(Progress(names, unit="form"))
        return shown[-1].step

    results: list[Report | HfmemError] = []
    for report in reports:
        try:
            forms = forms_of(report, options, around, around, begun)
            results.append(replace(report, variants=forms))
        except HfmemError as error:
            results += [report, error]
        finally:
            for progress in shown:
                progress.close()
            shown.clear()
    return _split(results)


def _fit(reports: Sequence[Report], around: _Around) -> bool:
    """Whether everything fits; of what fits of a list, or of the forms of each model, whether anything does."""
    if around.fits:
        return any(fit.fits for report in reports for fit in report.fits)
    if around.variants:
        return all(any(fit.fits for row in each.variants.rows for fit in row.fits) for each in reports if each.variants)
    return all(report.fits and all(fit.fits for fit in report.fits) for report in reports)


def _with_log(
    options: Options, path: Path | None, written: Collection[str]
) -> tuple[Options, Log | None, tuple[str, ...]]:
    """The options with the settings that the log states and nobody gave; the log, and what was taken from it."""
    if path is None:
        return options, None, ()
    from hfmem.against.read import read_log
    from hfmem.against.take import with_settings

    try:
        log = read_log(path)
    except InvalidScenarioError as error:
        _wrong(error)
    found, taken, broken = with_settings(options, log, written)
    return found, replace(log, broken=(*log.broken, *broken)), taken


def _against(reports: list[Report], log: Log | None, taken: tuple[str, ...]) -> list[Report]:
    """The reports with the log that they are held against."""
    if log is None:
        return reports
    from hfmem.against.compare import compared

    return [
        replace(each, against=compared(each.estimate, each.scenario, log, each.model.checkpoint.ref.model_id, taken))
        for each in reports
    ]


def _scan(path: Path, refs: Sequence[ModelRef], options: Options, around: _Around) -> None:
    """Write the rows of a list to a file, and tell how it went."""
    from hfmem.report.escapes import line
    from hfmem.scan.progress import ListProgress, summary
    from hfmem.scan.run import scan

    progress = ListProgress(sys.stderr, _tell)
    try:
        counts = scan(refs, options, around, around, progress.show)
    except InvalidScenarioError as error:
        _wrong(error)
    except OSError as error:
        _tell(line(f"{path} cannot be written: {error.strerror or type(error).__name__}."))
        raise typer.Exit(FAILED) from None
    finally:
        progress.close()
    _tell(line(summary(path, counts)))
    if counts.interrupted or counts.failed:
        raise typer.Exit(INTERRUPTED if counts.interrupted else FAILED)
    if around.require_fit and counts.unfit:
        raise typer.Exit(UNFIT)


def _failure(results: Sequence[Report | HfmemError]) -> int:
    """The exit code where a model failed: that of wrong usage if nothing else went wrong."""
    wrong = bool(results) and all(isinstance(one, InvalidScenarioError) and one.usage for one in results)
    return USAGE if wrong else FAILED


def _check_environment() -> None:
    """Reject environment variables that the Hub's client cannot parse, as its import would fail."""
    from hfmem.fetcher.environment import check

    try:
        check()
    except InvalidScenarioError as error:
        _wrong(error)


def _understood(line: _Values) -> _Values:
    """The parsed values of the command line; a flag means the opposite of its default."""
    known = {option.name: option for option in table()}
    try:
        return {
            name: value_of(known[name], not value if known[name].default is True else written(known[name], value))
            for name, value in line.items()
        }
    except InvalidScenarioError as error:
        _wrong(error)


def _with_format(values: _Values) -> _Values:
    """The values with the format that a switch is short for."""
    short = [name for name in SHORT if values.get(name)]
    formats = {SHORT[name] for name in short} | ({values["output"]} if "output" in values else set())
    if len(formats) > 1:
        flags = {option.name: option.flags[0] for option in declared(_Around)}
        other = (flags[short[1]],) if len(short) > 1 else (flags["output"], str(values["output"]))
        _wrong(IncompatibleOptionsError((flags[short[0]],), other))
    return {**values, "output": SHORT[short[0]]} if short else values


def _made(kind: type[_Made], values: Mapping[str, Any]) -> _Made:
    """An options dataclass from the values of its fields."""
    return kind(**{option.name: values[option.name] for option in declared(kind) if option.name in values})


def _refuse(errors: Iterable[InvalidScenarioError | None]) -> None:
    """Exit with the first error, if there is one."""
    for error in filter(None, errors):
        _wrong(error)


def _check(options: Options, around: _Around, refs: Sequence[ModelRef]) -> None:
    """Reject wrong usage before anything is fetched, and report options without effect."""
    from hfmem.scenario.check import check

    asked = SimpleNamespace(**vars(options), **vars(around), several=len(refs) > 1)
    # First, as what cannot go together stays wrong once what is missing here is installed
    _refuse(rules.refusals(declared(_Around), asked, owners()))
    try:
        check(options)
    except InvalidScenarioError as error:
        _wrong(error)
    if around.sort is not None:
        from hfmem.report.columns import SORT_KEYS

        if around.sort not in SORT_KEYS:
            _wrong(UnknownWordError("--sort", around.sort, SORT_KEYS))
    for sentence in rules.idle(declared(_Around), asked):
        _tell(f"{sentence}.")


def _print(
    reports: list[Report],
    problems: list[Problem],
    around: _Around,
    options: Options,
    *,
    several: bool,
    left: Sequence[Report] = (),
) -> bool:
    """Print reports on stdout, remarks and failures on stderr. Returns whether a model failed or its weights are
    unknown."""
    from hfmem.report.errors import sizeless
    from hfmem.report.escapes import line
    from hfmem.report.names import told_apart
    from hfmem.report.remarks import free_room, remarks
    from hfmem.streams import colours, columns, only_ascii

    output, width = FORMATS[around.output], columns(sys.stdout)
    free = free_room() if several and width is not None else None  # only in a terminal, as it is about this machine
    style = Style(
        unit=around.unit, explain=around.explain, width=width, several=several, ascii=only_ascii(sys.stdout), free=free,
        fitting=around.fits, left_out=left,
    )  # fmt: skip
    reports, problems = told_apart(reports, problems)
    failures = [*problems, *sizeless(reports)]
    shown = [each for each in reports if each.estimate.known_total is not None] if output.known_only else reports
    if (shown or several or output.whole) and (text := render(output.name, shown, problems, style)):
        print(_painted(text, output, colours(sys.stdout)))
    for sentence in _counted(reports, left):
        _tell(sentence)
    for sentence in _unlisted(reports):
        _tell(line(sentence))
    for sentence in remarks(shown, style, output=output, named=options.gpu, tight=around.require_fit):
        _tell(line(sentence))
    for problem in failures:
        whose = f"{problem.model}: " if several and problem.model not in problem.message else ""
        _tell(line(f"{whose}{problem.message} {problem.hint}"))
    return bool(failures)


def _counted(reports: Sequence[Report], left: Sequence[Report]) -> Iterable[str]:
    """How many models of a list fit nowhere."""
    if not left:
        return ()
    from hfmem.report.fitting import left_out_words

    return filter(None, [left_out_words(left, len(reports) + len(left))])


def _unlisted(reports: Sequence[Report]) -> Iterable[str]:
    """What a list of the forms of a model lacks."""
    listed = [report for report in reports if report.variants is not None]
    if not listed:
        return ()
    from hfmem.report.variants import unlisted

    return (sentence for report in listed for sentence in unlisted(report))


def _plotted(path: Path, reports: Sequence[Report], options: Options, around: _Around) -> bool:
    """Write the picture. Returns whether there is one."""
    from hfmem.report.plots.file import picture, titled
    from hfmem.report.plots.panels import MOST_CURVES, panels

    found = panels(reports, options, around.plot_of)
    if not found:
        if reports:
            _tell("There is nothing to draw: sizes are unknown, or the engine refuses the split.")
        return False
    kind = path.suffix.lower().removeprefix(".")
    try:
        path.write_bytes(picture(found, titled(reports), kind, around.unit))
    except OSError as error:
        _tell(f"{path} cannot be written: {error.strerror or type(error).__name__}.")
        return False
    drawn = {panel.name for panel in found}
    left = "".join(f"; nothing to draw of {name}" for name in around.plot_of if name not in drawn)
    left += f"; curves only of up to {MOST_CURVES} models" if len(reports) > MOST_CURVES else ""
    _tell(f"{path}: {', '.join(panel.name for panel in found)}{left}.")
    return True


def _painted(text: str, output: OutputFormat, depth: Depth) -> str:
    """The text with the meters of the card in colour."""
    if not depth or not output.meters:
        return text
    from hfmem.report.paint import painted

    return painted(text, depth)


def _list_gpus(models: Sequence[str], options: Options, around: _Around) -> None:
    """Print the table of accelerators on stdout."""
    beside = [option.flags[0] for option in declared(type(options)) if option.asked(options)]
    if models or beside:
        _usage(f"--list-gpus lists all accelerators: it cannot be used with {'a model' if models else beside[0]}.")
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
    from hfmem.streams import columns

    print(list_gpus(accelerators(), instances(), around.unit, columns(sys.stdout)))


def _models(
    given: Sequence[str], options: Options, around: _Around, written: Collection[str]
) -> tuple[Options, list[ModelRef]]:
    """The requested models, and the options supplemented by training files; `written` are those set on the command
    line."""
    from hfmem.fetcher.identity import with_file, with_quantisation
    from hfmem.scenario.models import listed, with_training_files

    try:
        refs = listed(given, around.from_file, around.revision)
        if around.fits and not (given or around.from_file or around.from_args):
            from hfmem.fetcher.catalog import originals

            refs = listed(originals(), (), around.revision)
        if around.from_args:
            options, refs = with_training_files(
                options, refs, around.from_args, revision=around.revision, written=written
            )
        refs = [with_file(with_quantisation(ref, options.quant), around.file) for ref in refs]
    except InvalidScenarioError as error:
        _wrong(error)
    if not refs:
        _usage("No model given: use hfmem MODEL, or --from FILE with one per line.")
    return options, refs


def _with_defaults(
    options: Options, around: _Around, written: Collection[str], of: Collection[str] = ()
) -> tuple[Options, _Around, list[str]]:
    """The options with the defaults of the person or the project, and the sentences on those that count; `of` names
    the only options whose defaults do."""
    if not around.defaults:
        return options, around, []
    from hfmem.options.otherwise import Otherwise
    from hfmem.scenario.preferences import as_words, preferences, with_preferences

    try:
        preferred = [each for each in preferences(table()) if each.option.name not in written]
        preferred = [each for each in preferred if not (around.which_gpu and each.option.option.panel == ACCELERATORS)]
        preferred = [each for each in preferred if not of or each.option.name in of]
    except InvalidScenarioError as error:
        _wrong(error)
    options, used = with_preferences(options, preferred)
    unit = next((each for each in preferred if each.option.name == "unit"), None)
    if unit is not None and FORMATS[around.output].units:
        around = replace(around, unit=unit.value)
        used = [*used, unit]
    sentences = list(as_words(used))
    return replace(options, remarks=(*options.remarks, *map(Otherwise, sentences))), around, sentences


def _with_profile(options: Options, around: _Around, *, named: bool) -> Options:
    """The options with the accelerators of the user's Hub profile in place of `me`. Where that cannot be read, it is
    refused if it was `named`, and a default is left out with a remark."""
    if not any(map(is_profile, options.gpu)):
        return options
    from hfmem.report.errors import explain
    from hfmem.scenario.profile import with_profile, without_profile

    try:
        return with_profile(options, around)
    except InvalidScenarioError as error:
        if named:
            _wrong(error)
        return without_profile(options, explain(error).message)


def _usage(sentence: str) -> NoReturn:
    from hfmem.report.escapes import line

    _tell(f"{line(sentence)}\n`hfmem --help-all` lists the options.")
    raise typer.Exit(USAGE)


def _wrong(error: InvalidScenarioError) -> NoReturn:
    """Leave with what is wrong of what was asked."""
    from hfmem.report.errors import explain

    _usage(explain(error).message)


def _collect(refs: Sequence[ModelRef], options: Options, around: _Around) -> tuple[list[Report | HfmemError], bool]:
    """The report or error of each model, and whether the user interrupted; reports completed by then are kept."""
    from hfmem.fetcher.concurrent import fetch_all
    from hfmem.fetcher.reach import Reach
    from hfmem.streams import Progress

    progress = Progress([ref.model_id for ref in refs]) if sys.stderr.isatty() else None
    apart = around.headers or around.which_gpu or around.variants
    reach = Reach(agrees=None if apart else _agreement(options))
    found = fetch_all(refs, around, around.jobs, done=progress.step if progress else lambda: None, reach=reach)
    # The following is imported while the first requests are in progress.
    from hfmem.answers import accompanied, report_all
    from hfmem.errors import HfmemError

    results: list[Report | HfmemError] = []
    try:
        options = accompanied(options, around)
        for result in report_all(found, options, brief=around.fits):
            results.append(result)
    except HfmemError as error:
        return [error], False
    except KeyboardInterrupt:
        return results, True
    finally:
        if progress:
            progress.close()
    return results, False


def _agreement(options: Options) -> Callable[[Checkpoint], bool] | None:
    """Whether a checkpoint is known as well without the headers of its files; None where options go through them."""
    from hfmem.scenario.sums import parts_suffice, sums_suffice

    if sums_suffice(options):
        return _agrees
    return _agrees_in_parts if parts_suffice(options) else None


def _agrees(checkpoint: Checkpoint) -> bool:
    from hfmem.mapper.agreed import agrees  # while requests are on their way

    return agrees(checkpoint)


def _agrees_in_parts(checkpoint: Checkpoint) -> bool:
    from hfmem.mapper.agreed import agrees_in_parts

    return agrees_in_parts(checkpoint)


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


def _tell(text: str) -> None:
    """Print text on stderr, folded between words if it is a terminal."""
    from hfmem.report.escapes import visible
    from hfmem.streams import columns

    width = columns(sys.stderr)
    if width is not None:
        from hfmem.report.width import fold

        text = "\n".join(fold(line, width) for line in text.splitlines())
    print(visible(text), file=sys.stderr)
