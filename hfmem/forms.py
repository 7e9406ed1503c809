"""The forms of a base model in one table: what each takes, and whether it fits."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

from hfmem.advice.values import Candidate, Variants
from hfmem.answers import completed, report_on
from hfmem.errors import HfmemError
from hfmem.fetcher.concurrent import unforeseen
from hfmem.fetcher.related import Form, Related, read_forms, related
from hfmem.fetcher.tensors import stored_bytes
from hfmem.fetcher.values import Access, Checkpoint, FileInfo
from hfmem.mapper.adapted import understood
from hfmem.mapper.holdings import format_name
from hfmem.mapper.interpret import Model
from hfmem.options.output import FormsOptions
from hfmem.report.errors import explain
from hfmem.report.values import Report
from hfmem.scenario.options import Options

__all__ = ["forms_of"]

_BASE = "base"
_SHORT = 5  # letters of an abbreviation, which is written in capitals: AWQ, GPTQ


def _unwatched(_: Sequence[str]) -> Callable[[], object]:
    return lambda: None


def forms_of(
    report: Report,
    options: Options,
    access: Access,
    listing: FormsOptions,
    begun: Callable[[Sequence[str]], Callable[[], object]] = _unwatched,
) -> Variants:
    """The forms of the model of a report.

    Args:
        report: on the model.
        options, access: those of each form.
        listing: how many repositories are read at most, and how many at once.
        begun: told the names of the forms that are read; what it returns is called from another thread as each was.

    Raises:
        HfmemError: the Hub refuses to list them.
    """
    checkpoint = report.checkpoint
    base = checkpoint.ref.model_id
    if checkpoint.source == "local":
        found = Related(forms=(), source="catalog", reason="it is a model on this machine")
    else:
        with HfmemError.concerning(base):
            found = related(base, access, listing.most_variants)
    media = any((options.images, options.video_frames, options.audio_seconds))
    rows = list(_rows(base, _BASE, checkpoint, options))
    done = begun([form.ref.model_id for form in found.forms]) if found.forms else lambda: None
    for form, read in read_forms(found.forms, access, listing.jobs, checkpoint, media=media, done=done):
        rows += _rows(form.ref.model_id, form.relation, read, options, form)
    return Variants(
        rows=tuple(rows), more=found.more, source=found.source, reason=found.reason, most=listing.most_variants
    )


def _rows(
    name: str, relation: str, read: Checkpoint | HfmemError, options: Options, form: Form | None = None
) -> Iterator[Candidate]:
    """The rows of a repository: one, one for each of its GGUF files, or one with the reason why there is no answer."""
    file = form.ref.file if form is not None else ""
    if isinstance(read, HfmemError):
        yield _failed(name, relation, file, read)
        return
    try:
        with HfmemError.concerning(name):
            model = completed(understood(read))
            report = report_on(model, options, brief=True, apart=True)
    except HfmemError as error:
        yield _failed(name, relation, file, error)
    except Exception as error:
        yield _failed(name, relation, file, unforeseen(read.ref, error))
    else:
        yield from _of_report(name, relation, report, read)


def _failed(name: str, relation: str, file: str, error: HfmemError) -> Candidate:
    error.model = error.model or name
    why = explain(error).message
    return Candidate(
        word="", file=file, quant="", nbytes=None, bits_per_weight=None, unknown=why, model=name, relation=relation
    )


def _of_report(name: str, relation: str, report: Report, read: Checkpoint) -> Iterator[Candidate]:
    runtime = report.scenario.runtime
    if report.choices:
        for row in sorted(report.choices, key=lambda row: row.nbytes or 0):
            form = f"GGUF {row.quant}".rstrip()
            yield replace(row, model=name, relation=relation, form=form, runtime=runtime, chosen=False)
        return
    model, estimate = report.model, report.estimate
    nbytes = _nbytes(read)
    parameters = report.parameters.total if report.parameters is not None else 0
    yield Candidate(
        word="",
        file=next((each.name for each in read.weight_files), ""),
        quant="",
        nbytes=nbytes,
        bits_per_weight=8 * nbytes / parameters if nbytes and parameters and model.adapted is None else None,
        estimate=estimate,
        derived=model.certainty != "exact",
        unknown="; ".join(f"{group.replace('_', ' ')}: {reason}" for group, reason in estimate.unknown),
        fits=tuple(report.fits),
        model=name,
        relation=relation,
        form=_form(model),
        runtime=runtime,
    )


def _nbytes(checkpoint: Checkpoint) -> int | None:
    """Bytes of the weight files as the listing has them, else of all tensors in them; None where neither is known."""
    return _sizes(checkpoint.weight_files) or (stored_bytes(checkpoint.tensors) if checkpoint.tensors else None)


def _sizes(files: Sequence[FileInfo]) -> int | None:
    sizes = [file.size for file in files if file.size is not None]
    return sum(sizes) if files and len(sizes) == len(files) else None


def _stem(checkpoint: Checkpoint) -> str:
    """What the name of a file of other software tells of its number format: `model_q4`."""
    name = next((file.name for file in checkpoint.weight_files), checkpoint.ref.file)
    return name.rpartition("/")[2].rpartition(".")[0]


def _form(model: Model) -> str:
    """The number format of the weights, in words: `GPTQ int4`, `NVFP4`, `bfloat16`; of an adapter its kind and rank."""
    if model.adapted is not None:
        rank = f", rank {model.adapted.rank}" if model.adapted.rank is not None else ""
        return f"{model.adapted.kind or 'adapter'}{rank}"
    kind = format_name(model.checkpoint, model.offered)
    packed = model.quantisation
    if kind == "GGUF" or packed is None:
        stored = model.stored_dtype or ""
        return stored if kind in ("", "safetensors", "PyTorch") else f"{kind} {_stem(model.checkpoint)}"
    method = packed.method.upper() if len(packed.method) <= _SHORT else packed.method
    scheme = packed.scheme.upper() if "fp" in packed.scheme else packed.scheme or f"{packed.bits} bits"
    return " ".join(dict.fromkeys(filter(None, (method, scheme))))
