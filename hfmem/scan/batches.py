"""A table of Arrow in, a table of Arrow out: what Ray Data, Spark, DuckDB and Polars call for each part of a table."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from hfmem.answers import accompanied, report_all
from hfmem.api import called_with, options_of
from hfmem.errors import HfmemError, ModelNotFoundError
from hfmem.fetcher.concurrent import Fetched, fetch_all
from hfmem.fetcher.configs import parse_object
from hfmem.fetcher.identity import reference, with_file, with_quantisation
from hfmem.fetcher.values import Checkpoint, ModelRef
from hfmem.options.access import Access, Concurrency, Revision
from hfmem.report.flat import Kind
from hfmem.scan.rows import Layout, placed
from hfmem.scenario.asked import Asked, extended
from hfmem.scenario.check import check

__all__ = ["estimate_batch", "schema_of"]

_TYPES: Final = {"text": "string", "integer": "int64", "truth": "bool_"}
_ID, _CONFIG = "id", "config"


@dataclass(frozen=True, kw_only=True, repr=False, eq=False)
class _Batch(Asked, Concurrency, Revision, Access):
    """The options of `estimate_batch`."""


def estimate_batch(table: Any, **options: Any) -> Any:
    """A row for each model of a table, in its order.

    Args:
        table: a `pyarrow.Table` (or `RecordBatch`) with a column `id` of Hub ids or paths. With a column `config`, the
            text of a config.json, a model that has one is estimated from it alone, and nothing is fetched.
        options: those of `hfmem.compare` (`gpu`, `seq`, `offline`, `jobs`, …).

    Returns:
        A `pyarrow.Table`. Its columns are the same for the same options, whatever the models: `line` (the row of the
        table, from 1), `asked`, `model`, the scenario, sizes in bytes, `fits: NAME` and others for each accelerator,
        `error` and `message` of a model that failed, and `commit`.

    Raises:
        InvalidScenarioError: the options contradict each other.
        ImportError: PyArrow is not installed (the extra `[scale]`).
        KeyError: the table has no column `id`.
    """
    import pyarrow  # of the extra [scale]

    asked = called_with("estimate_batch", extended(_Batch), (), options)
    chosen = options_of(asked)
    check(chosen)
    chosen = accompanied(chosen, asked)
    layout = Layout.of(chosen)
    names = table.column(_ID).to_pylist()
    configs = table.column(_CONFIG).to_pylist() if _CONFIG in table.schema.names else [None] * len(names)
    found = _fetched([*zip(names, configs, strict=True)], asked)
    rows = [
        row
        for place, answer in enumerate(report_all(found, chosen))
        for row in placed(layout.row(answer), [(place + 1, str(names[place]))])
    ]
    return pyarrow.Table.from_pylist(rows, schema=schema_of(layout.kinds))


def schema_of(kinds: Mapping[str, Kind]) -> Any:
    """The `pyarrow.Schema` of columns."""
    import pyarrow  # of the extra [scale]

    return pyarrow.schema([(name, getattr(pyarrow, _TYPES[kind])()) for name, kind in kinds.items()])


def _fetched(models: list[tuple[object, object]], asked: Any) -> Iterator[Fetched]:
    """The checkpoint of each model, or why there is none, in order."""
    refs = [_reference(name, asked) for name, _ in models]
    given = [config if isinstance(config, str) else None for _, config in models]
    needed = [
        ref for ref, config in zip(refs, given, strict=True) if isinstance(ref, ModelRef) and config is None
    ]  # fmt: skip
    fetched = fetch_all(needed, asked, asked.jobs)
    for ref, config in zip(refs, given, strict=True):
        if isinstance(ref, HfmemError):
            yield ModelRef(model_id=ref.model), ref
        elif config is None:
            yield next(fetched)
        else:
            yield ref, _of_config(ref, config)


def _reference(name: object, asked: Any) -> ModelRef | HfmemError:
    if not isinstance(name, str):
        return ModelNotFoundError(str(name), "no id")
    try:
        with HfmemError.concerning(name):
            return with_file(with_quantisation(reference(name, asked.revision), asked.quant), asked.file)
    except HfmemError as error:
        return error


def _of_config(ref: ModelRef, text: str) -> Checkpoint | HfmemError:
    """The checkpoint that only a config.json tells of."""
    try:
        with HfmemError.concerning(ref.model_id):
            config = parse_object(text.encode(), "config.json")
    except HfmemError as error:
        return error
    return Checkpoint(ref=ref, commit=None, source="local", provenance="the column config", config=config)
