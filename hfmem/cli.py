"""The command line: parse, call, print, exit. The only print and the only exit of the package.

Everything but `typer` is imported when a run needs it: `--help` and `--version` are asked often and must be instant.
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterable, Sequence
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

from hfmem import __version__

if TYPE_CHECKING:
    from hfmem.errors import HfmemError
    from hfmem.fetcher.values import Access
    from hfmem.report.errors import Problem
    from hfmem.report.formats import Style
    from hfmem.report.values import Report
    from hfmem.scenario.options import Options

__all__ = ["app"]

FAILED, USAGE, UNFIT, INTERRUPTED = 1, 2, 3, 130

app = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)


class Format(StrEnum):
    """The words of `--format`; `hfmem.report.formats.FORMATS` has a function for each."""

    TABLE = "table"
    JSON = "json"
    JSONL = "jsonl"
    CSV = "csv"
    MARKDOWN = "markdown"
    QUIET = "quiet"


class Unit(StrEnum):
    """The words of `--unit`."""

    GIB = "GiB"
    GB = "GB"


class Attention(StrEnum):
    """The words of `--attention`."""

    SDPA = "sdpa"
    FLASH = "flash"
    EAGER = "eager"


class Method(StrEnum):
    """The words of `--method`."""

    EXACT = "exact"
    TEXTBOOK = "textbook"


class Runtime(StrEnum):
    """The words of `--runtime`."""

    TRANSFORMERS = "transformers"
    VLLM = "vllm"


class Train(StrEnum):
    """The words of `--train`."""

    FULL = "full"
    LORA = "lora"
    QLORA = "qlora"


class Offload(StrEnum):
    """The words of `--offload`."""

    NONE = "none"
    OPTIMIZER = "optimizer"
    PARAMETERS = "parameters"


def _version(asked: bool) -> None:
    if asked:
        print(f"hfmem {__version__}")
        raise typer.Exit


@app.command(context_settings={"help_option_names": ["-h", "--help"]})
def hfmem(
    models: Annotated[
        list[str] | None,
        typer.Argument(metavar="MODEL...", help="Hub ids, local folders, or .safetensors files.", show_default=False),
    ] = None,
    batch: Annotated[int, typer.Option(min=1, help="Sequences at once.")] = 1,
    seq: Annotated[
        int | None,
        typer.Option(
            "--seq",
            "--max-model-len",
            min=1,
            help="Tokens a sequence. [default: 4096, or the model's maximum]",
            show_default=False,
        ),
    ] = None,
    source_seq: Annotated[
        int | None,
        typer.Option(min=1, help="Tokens of an encoder. [default: as --seq, or its maximum]", show_default=False),
    ] = None,
    dtype: Annotated[
        str | None,
        typer.Option(
            help="Run dtype (float32, bfloat16, float16), or a quantisation to try (int8, fp8, int4, nf4, mxfp4, "
            "nvfp4). [default: the model's own]",
            show_default=False,
        ),
    ] = None,
    kv_dtype: Annotated[
        str | None,
        typer.Option(
            "--kv-dtype",
            "--kv-cache-dtype",
            help="Dtype of the KV cache. [default: the run dtype]",
            show_default=False,
        ),
    ] = None,
    runtime: Annotated[Runtime, typer.Option(help="The software that runs the model.")] = Runtime.TRANSFORMERS,
    attention: Annotated[Attention, typer.Option(help="Attention implementation.")] = Attention.SDPA,
    method: Annotated[
        Method, typer.Option(help="exact: as the implementation behaves. textbook: the founding article's formulas.")
    ] = Method.EXACT,
    train: Annotated[
        Train | None,
        typer.Option(help="Train instead of run: all weights, adapters, adapters on a 4-bit base.", show_default=False),
    ] = None,
    optimizer: Annotated[
        str | None,
        typer.Option(
            help="adamw, adamw-fused, adamw-8bit, adafactor, lion, muon, … [default: adamw]", show_default=False
        ),
    ] = None,
    gpu: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME",
            help="Accelerator to hold it against (repeatable): 'H100', 'RTX 4090', '4x L40S', a cloud's instance, "
            "'cpu', or 'auto' for this machine's.",
            show_default=False,
        ),
    ] = None,
    list_gpus: Annotated[bool, typer.Option("--list-gpus", help="List the accelerators and instances known.")] = False,
    require_fit: Annotated[bool, typer.Option("--require-fit", help="Exit with 3 if it does not fit.")] = False,
    gpus: Annotated[
        int | None,
        typer.Option(help="Accelerators to share it: --tp of them, unless more is said.", show_default=False),
    ] = None,
    tp: Annotated[int | None, typer.Option(help="Tensor-parallel ranks.", show_default=False)] = None,
    pp: Annotated[int | None, typer.Option(help="Pipeline stages.", show_default=False)] = None,
    dp: Annotated[
        int | None, typer.Option(help="Data-parallel replicas, each with --batch.", show_default=False)
    ] = None,
    ep: Annotated[int | None, typer.Option(help="Ranks that share the experts (tp × dp).", show_default=False)] = None,
    max_num_seqs: Annotated[
        int | None, typer.Option(help="vLLM: sequences of one step at most.", show_default=False)
    ] = None,
    max_num_batched_tokens: Annotated[
        int | None, typer.Option(help="vLLM: tokens of one step at most.", show_default=False)
    ] = None,
    gpu_memory_utilization: Annotated[
        float | None, typer.Option(help="vLLM: share of the memory to plan with. [default: 0.9]", show_default=False)
    ] = None,
    block_size: Annotated[
        int | None, typer.Option(help="vLLM: tokens of a page of the cache. [default: 16]", show_default=False)
    ] = None,
    enforce_eager: Annotated[bool, typer.Option("--enforce-eager", help="vLLM: no CUDA graphs.")] = False,
    vllm_version: Annotated[
        str | None, typer.Option(help="vLLM: the release whose rules hold.", show_default=False)
    ] = None,
    precision: Annotated[
        str | None,
        typer.Option(
            help="bf16, fp32, autocast-bf16, bf16-master, megatron-bf16, … [default: the weights' own]",
            show_default=False,
        ),
    ] = None,
    stack: Annotated[
        str | None,
        typer.Option(help="The training software. [default: transformers-5]", show_default=False),
    ] = None,
    gradient_checkpointing: Annotated[
        bool, typer.Option("--gradient-checkpointing", help="Compute layers anew in backward.")
    ] = False,
    selective_checkpointing: Annotated[
        bool, typer.Option("--selective-checkpointing", help="Compute attention scores anew in backward.")
    ] = False,
    gradient_accumulation: Annotated[
        int | None, typer.Option(min=1, help="Micro-batches to one optimizer step. [default: 1]", show_default=False)
    ] = None,
    fused_loss: Annotated[
        bool, typer.Option("--fused-loss", help="Head and loss piece by piece (Liger, linear cross-entropy).")
    ] = False,
    freeze: Annotated[
        str | None,
        typer.Option(metavar="PARTS", help="Components not trained: embedding,vision,…", show_default=False),
    ] = None,
    optimizer_rank: Annotated[
        int | None, typer.Option(min=1, help="Rank of GaLore or APOLLO. [default: 128]", show_default=False)
    ] = None,
    lora_rank: Annotated[
        int | None, typer.Option(min=1, help="Rank of adapters. [default: 8]", show_default=False)
    ] = None,
    lora_targets: Annotated[
        str | None,
        typer.Option(
            metavar="NAMES",
            help="Modules with adapters: q_proj,v_proj or all-linear. [default: PEFT's]",
            show_default=False,
        ),
    ] = None,
    lora_dropout: Annotated[
        float | None, typer.Option(min=0, help="Dropout of adapters. [default: 0]", show_default=False)
    ] = None,
    lora_dtype: Annotated[
        str | None,
        typer.Option(help="float32 (as PEFT casts them) or bfloat16. [default: float32]", show_default=False),
    ] = None,
    dora: Annotated[bool, typer.Option("--dora", help="Adapters with magnitudes (DoRA).")] = False,
    modules_to_save: Annotated[
        str | None,
        typer.Option(metavar="NAMES", help="Modules trained in full beside adapters.", show_default=False),
    ] = None,
    double_quant: Annotated[
        bool, typer.Option("--double-quant", help="Quantise the scales of the 4-bit base too.")
    ] = False,
    from_args: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Take options from TrainingArguments, accelerate, DeepSpeed or axolotl files (YAML, JSON).",
            show_default=False,
        ),
    ] = None,
    cp: Annotated[int | None, typer.Option(min=1, help="Context-parallel ranks.", show_default=False)] = None,
    sequence_parallel: Annotated[
        bool, typer.Option("--sequence-parallel", help="Tensor-parallel ranks share the sequence between matrices.")
    ] = False,
    virtual_stages: Annotated[
        int | None, typer.Option(min=1, help="Pieces of the model a pipeline rank.", show_default=False)
    ] = None,
    zero: Annotated[
        int | None,
        typer.Option(min=0, max=3, help="ZeRO stage; 1 is Megatron's distributed optimizer.", show_default=False),
    ] = None,
    fsdp: Annotated[bool, typer.Option("--fsdp", help="Shard with FSDP.")] = False,
    shard: Annotated[
        int | None,
        typer.Option(min=1, help="Ranks to one sharded copy. [default: all data-parallel ranks]", show_default=False),
    ] = None,
    offload: Annotated[Offload, typer.Option(help="What lives in the host's memory (ZeRO, FSDP).")] = Offload.NONE,
    from_file: Annotated[
        str | None,
        typer.Option(
            "--from", metavar="FILE", help="Read models from a file, one a line; '-' is stdin.", show_default=False
        ),
    ] = None,
    jobs: Annotated[int, typer.Option(min=1, max=64, help="Models fetched at once.")] = 8,
    sort: Annotated[str | None, typer.Option(metavar="KEY", help="Order by a column.", show_default=False)] = None,
    output: Annotated[Format, typer.Option("--format", help="How to print.")] = Format.TABLE,
    unit: Annotated[Unit, typer.Option(help="Unit of tables: GiB = 2^30 bytes, GB = 10^9.")] = Unit.GIB,
    explain: Annotated[bool, typer.Option("--explain", help="Show where every byte comes from.")] = False,
    trace: Annotated[
        bool,
        typer.Option("--trace", help="Run the real class without weights, and show its peak beside (needs PyTorch)."),
    ] = False,
    revision: Annotated[str, typer.Option(help="Branch, tag, commit or refs/pr/N.")] = "main",
    token: Annotated[
        str | None, typer.Option(help="Hub token. [default: HF_TOKEN or the stored login]", show_default=False)
    ] = None,
    offline: Annotated[bool, typer.Option("--offline", help="Ask nothing of the network.")] = False,
    no_cache: Annotated[bool, typer.Option("--no-cache", help="Neither read nor write the cache.")] = False,
    version: Annotated[  # noqa: ARG001 - handled by its callback
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Tell how much memory Hugging Face models need, before anything is downloaded.

    Example: hfmem meta-llama/Llama-2-7b-hf --batch 4 --seq 4096
    """
    from hfmem.fetcher.values import Access
    from hfmem.scenario.options import Options

    if list_gpus:
        _list_gpus(output, unit)
        return
    names = _names(models or [], from_file)
    options = Options(
        batch=batch,
        seq=seq,
        source_seq=source_seq,
        dtype=None if dtype == "auto" else dtype,
        kv_dtype=None if kv_dtype == "auto" else kv_dtype,
        runtime=runtime.value,
        attention=attention.value,
        method=method.value,
        train=train.value if train else None,
        optimizer=optimizer,
        gpu=tuple(gpu or ()),
        precision=precision,
        stack=stack,
        gradient_checkpointing=gradient_checkpointing,
        selective_checkpointing=selective_checkpointing,
        gradient_accumulation=gradient_accumulation,
        fused_loss=fused_loss,
        freeze=_words(freeze),
        optimizer_rank=optimizer_rank,
        lora_rank=lora_rank,
        lora_targets=_words(lora_targets),
        lora_dropout=lora_dropout,
        lora_dtype=lora_dtype,
        dora=dora,
        modules_to_save=_words(modules_to_save),
        double_quant=double_quant,
        gpus=gpus,
        tp=tp,
        pp=pp,
        dp=dp,
        ep=ep,
        max_num_seqs=max_num_seqs,
        max_num_batched_tokens=max_num_batched_tokens,
        gpu_memory_utilization=gpu_memory_utilization,
        block_size=block_size,
        enforce_eager=enforce_eager,
        vllm_version=vllm_version,
        cp=cp,
        sequence_parallel=sequence_parallel,
        virtual_stages=virtual_stages,
        zero=zero,
        fsdp=fsdp,
        shard=shard,
        offload=offload.value,
        trace=trace,
    )
    if from_args is not None:
        options = _from_args(options, from_args)
    _check(options, sort)
    if require_fit and not options.gpu:
        _usage("--require-fit needs --gpu NAME, or --gpu auto.")
    results, interrupted = _collect(
        names, revision, options, Access(token=token, offline=offline, use_cache=not no_cache), jobs
    )
    reports, problems = _split(results)
    if sort:
        from hfmem.report.columns import sorted_reports

        reports = sorted_reports(reports, sort)
    from hfmem.report.formats import Style

    style = Style(unit=unit.value, explain=explain, width=_width(), several=len(names) > 1)
    weightless = [report for report in reports if report.estimate.group("weights") is None]
    _show(
        output.value,
        [r for r in reports if r not in weightless] if output == Format.QUIET else reports,
        problems,
        style,
    )
    for report in weightless:
        _tell(_no_weights(report))
    if interrupted:
        raise typer.Exit(INTERRUPTED)
    if problems or weightless:
        raise typer.Exit(FAILED)
    if require_fit and not all(report.fits and all(fit.fits for fit in report.fits) for report in reports):
        raise typer.Exit(UNFIT)


def _list_gpus(output: Format, unit: Unit) -> None:
    """The table of accelerators on stdout."""
    from hfmem.hardware.table import accelerators, instances

    if output in (Format.JSON, Format.JSONL):
        import json
        from dataclasses import asdict

        print(
            json.dumps(
                {"gpus": [asdict(row) for row in accelerators()], "instances": [asdict(row) for row in instances()]}
            )
        )
        return
    from hfmem.report.fit import list_gpus

    print(list_gpus(accelerators(), instances(), unit.value))


def _names(given: Sequence[str], from_file: str | None) -> list[str]:
    """The models asked for, each once, in order."""
    names = [*given, *(_lines(from_file) if from_file else ())]
    if not names:
        _usage("No model is given: hfmem MODEL, or --from FILE with one a line.")
    return list(dict.fromkeys(names))


def _lines(source: str) -> Iterable[str]:
    """One model a line; blank lines and what follows a # are skipped."""
    try:
        text = sys.stdin.read() if source == "-" else Path(source).read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        _usage(f"--from {source} cannot be read: {getattr(error, 'strerror', None) or 'it is not text'}.")
    return [name for line in text.splitlines() if (name := line.partition("#")[0].strip())]


def _words(given: str | None) -> tuple[str, ...]:
    """The words of a list with commas."""
    return tuple(word.strip() for word in (given or "").split(",") if word.strip())


def _from_args(options: Options, path: Path) -> Options:
    """The options, with what a training file says where the command line says nothing."""
    from hfmem.errors import InvalidScenarioError
    from hfmem.scenario.files import with_file

    try:
        return with_file(options, path)
    except InvalidScenarioError as error:
        _usage(f"{error.reason}.")


def _check(options: Options, sort: str | None) -> None:
    """Refuse wrong usage before anything is fetched."""
    from hfmem.errors import InvalidScenarioError
    from hfmem.scenario.options import check

    try:
        check(options)
    except InvalidScenarioError as error:
        _usage(f"{error.reason}.")
    if sort is not None:
        from hfmem.report.columns import SORT_KEYS

        if sort not in SORT_KEYS:
            _usage(f"--sort '{sort}' is not one of {', '.join(SORT_KEYS)}.")


def _usage(sentence: str) -> NoReturn:
    _tell(f"{sentence}\n`hfmem --help` lists the options.")
    raise typer.Exit(USAGE)


def _collect(
    names: Sequence[str], revision: str, options: Options, access: Access, jobs: int
) -> tuple[list[Report | HfmemError], bool]:
    """Every model's report or error, and whether a person interrupted: what is there by then is kept."""
    from hfmem.fetcher.concurrent import fetch_all
    from hfmem.fetcher.values import ModelRef

    progress = _progress(len(names))
    refs = [ModelRef(model_id=name, revision=revision) for name in names]
    found = fetch_all(refs, access, jobs, done=progress.update if progress else lambda: None)
    # What follows is imported while the first requests are under way.
    from hfmem.api import report_all

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


def _progress(total: int) -> Any:  # tqdm has no types
    """A bar on stderr for several models, after a second, where a person is watching."""
    if total < 2 or not sys.stderr.isatty():
        return None
    from tqdm import tqdm

    return tqdm(total=total, unit="model", delay=1.0, leave=False, file=sys.stderr)


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
    from hfmem.report.formats import render

    if (reports or style.several or output in ("json", "jsonl", "csv")) and (
        text := render(output, reports, problems, style)
    ):
        print(_plain(text))
    for report in reports:
        _warn_about_disk(report, style.unit)
    for problem in problems:
        _tell(f"{problem.message} {problem.hint}")


def _tell(sentence: str) -> None:
    print(_plain(sentence), file=sys.stderr)


def _plain(text: str) -> str:
    """The text without control characters, which names from files may bring: a terminal would obey them."""
    return "".join(c if c.isprintable() or c in "\n\t" else f"\\x{ord(c):02x}" for c in text)


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


def _width() -> int | None:
    """Columns of the terminal; None where stdout is none, so that files and pipes get whole lines."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else None
