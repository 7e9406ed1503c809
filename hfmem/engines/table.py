"""The engines: one row each. Everything else asks the row, or what it names."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from typing import TYPE_CHECKING, Annotated, Final, Literal

from hfmem.engines.llamacpp.options import LlamaCppOptions
from hfmem.engines.transformers.options import TransformersOptions
from hfmem.engines.vllm.options import VllmOptions
from hfmem.options.option import Option
from hfmem.options.panels import MODEL
from hfmem.options.words import Mode

if TYPE_CHECKING:
    from hfmem.engines.protocol import Engine

__all__ = [
    "USUAL",
    "EngineOptions",
    "EngineRow",
    "Runtime",
    "engine",
    "engines",
    "find_engine",
    "register",
    "registered",
]

Runtime = Literal["transformers", "vllm", "llamacpp"]

USUAL: Final[Runtime] = "transformers"
"""The engine of a model that is none of another's files."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class EngineRow:
    """An engine.

    Attributes:
        name: its word for `--runtime`.
        title: its name in sentences and headings.
        options: the dataclass that declares its options.
        home: the module that has its `ENGINE`, imported for its runs only.
        modes: what it does, running or training.
        methods: the methods it can be estimated by.
        formats: forms of files that are its own: it runs them where no other engine is asked for.
        tracer: the module whose `traced` asks the software itself, for `--trace` only; "" where the engine has no such.
    """

    name: str
    title: str
    options: type
    home: str
    modes: tuple[Mode, ...] = ("inference",)
    methods: tuple[str, ...] = ("exact",)
    formats: tuple[str, ...] = ()
    tracer: str = ""


_ROWS: dict[str, EngineRow] = {}


def engines() -> tuple[EngineRow, ...]:
    """The engines, in the order they were registered."""
    return tuple(_ROWS.values())


def find_engine(name: str) -> EngineRow | None:
    """The engine of a name; None where there is none."""
    return _ROWS.get(name)


@cache
def _loaded(home: str) -> "Engine":
    found: Engine = import_module(home).ENGINE
    return found


def engine(name: str) -> "Engine":
    """The engine of a name, loaded when it is asked for.

    Raises:
        KeyError: there is none.
    """
    return _loaded(_ROWS[name].home)


def register(row: EngineRow) -> None:
    """Add an engine: its options are then on the command line and in Python, and its runs go to its home."""
    _ROWS[row.name] = row


@contextmanager
def registered(row: EngineRow) -> Iterator[None]:
    """An engine that is there for a while."""
    register(row)
    try:
        yield
    finally:
        del _ROWS[row.name]


register(
    EngineRow(
        name="transformers",
        title="transformers",
        options=TransformersOptions,
        home="hfmem.engines.transformers.engine",
        modes=("inference", "training"),
        methods=("exact", "textbook"),
        tracer="hfmem.probe.trace",
    )
)
register(EngineRow(name="vllm", title="vLLM", options=VllmOptions, home="hfmem.engines.vllm.engine"))
register(
    EngineRow(
        name="llamacpp",
        title="llama.cpp",
        options=LlamaCppOptions,
        home="hfmem.engines.llamacpp.engine",
        tracer="hfmem.probe.llamacpp.trace",
        formats=("GGUF",),
    )
)


@dataclass(frozen=True, kw_only=True, init=False, repr=False, eq=False)
class EngineOptions(TransformersOptions, VllmOptions, LlamaCppOptions):
    """The options of the engines that come with the package, as type checkers know them, and the choice of one."""

    runtime: Annotated[
        Runtime | None,
        Option(
            help="Software that runs the model",
            panel=MODEL,
            common=True,
            choices=lambda: tuple(_ROWS),
            shown="llamacpp for GGUF files, else transformers",
        ),
    ] = None
