"""Several answers as one value: a tuple that shows itself in notebooks and turns into data frames."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

from hfmem.errors import HfmemError
from hfmem.report.values import Report

if TYPE_CHECKING:
    from hfmem.report.flat import Flat

__all__ = ["Comparison"]

_PANDAS: Final = {"text": "string", "integer": "Int64", "truth": "boolean"}
_POLARS: Final = {"text": "String", "integer": "Int64", "truth": "Boolean"}
_ARROW: Final = {"text": "string", "integer": "int64", "truth": "bool_"}
"""The types of columns by their kind, each of which has room for what is unknown."""


class Comparison(tuple["Report | HfmemError", ...]):
    """The answers of `hfmem.compare`: for each model its report, or the error that it failed with.

    It is a tuple. The methods give one flat row a model with sizes in bytes; `error` and `message` say why one failed
    (its other columns are empty), and each accelerator has the columns `fits: NAME`, `verdict: NAME`,
    `headroom: NAME`, `max_batch: NAME` and `max_seq: NAME`.
    """

    __slots__ = ()

    def __repr__(self) -> str:
        failed = len(self.failures)
        names = ", ".join(repr(each.name if isinstance(each, Report) else each.model) for each in self[:3])
        more = f" and {len(self) - 3} more" if len(self) > 3 else ""
        return f"<Comparison of {names}{more}{f': {failed} failed' if failed else ''}>"

    @property
    def reports(self) -> tuple[Report, ...]:
        """The reports, without the failures."""
        return tuple(each for each in self if isinstance(each, Report))

    @property
    def failures(self) -> tuple[HfmemError, ...]:
        """The errors of the models that failed."""
        return tuple(each for each in self if isinstance(each, HfmemError))

    def to_dicts(self) -> list[dict[str, Any]]:
        """One flat row a model."""
        return self._flat().rows

    def to_pandas(self) -> Any:
        """A `pandas.DataFrame`, with nullable columns.

        Raises:
            ImportError: pandas is not installed.
        """
        pandas, flat = _package("pandas"), self._flat()
        return pandas.DataFrame(
            {name: pandas.array(flat.column(name), dtype=_PANDAS[kind]) for name, kind in flat.kinds.items()}
        )

    def to_polars(self) -> Any:
        """A `polars.DataFrame`.

        Raises:
            ImportError: Polars is not installed.
        """
        polars, flat = _package("polars"), self._flat()
        schema = {name: getattr(polars, _POLARS[kind]) for name, kind in flat.kinds.items()}
        return polars.DataFrame({name: flat.column(name) for name in flat.kinds}, schema=schema)

    def to_arrow(self) -> Any:
        """A `pyarrow.Table`.

        Raises:
            ImportError: PyArrow is not installed.
        """
        arrow, flat = _package("pyarrow"), self._flat()
        schema = arrow.schema([(name, getattr(arrow, _ARROW[kind])()) for name, kind in flat.kinds.items()])
        return arrow.table({name: flat.column(name) for name in flat.kinds}, schema=schema)

    def _flat(self) -> Flat:
        from hfmem.report.flat import flat  # when rows are asked for

        return flat(self)

    def _repr_html_(self) -> str:
        from hfmem.report.errors import explain
        from hfmem.report.html.lists import comparison  # for notebooks

        return comparison(self.reports, [explain(error) for error in self.failures])


def _package(name: str) -> Any:
    """A package that is not among the dependencies.

    Raises:
        ImportError: it is not installed, or cannot be imported.
    """
    try:
        return import_module(name)
    except ImportError as error:
        raise ImportError(f"This needs {name}, which cannot be imported ({error}): pip install {name}") from None
