"""The table of engines, one row each."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from typing import TYPE_CHECKING, Annotated, Final, Literal

from hfmem.engines.diffusers.options import SIZES as DIFFUSERS_SIZES
from hfmem.engines.diffusers.options import DiffusersOptions
from hfmem.engines.llamacpp.options import LlamaCppOptions, OllamaOptions
from hfmem.engines.mlx.options import MlxOptions
from hfmem.engines.sglang.options import SglangOptions
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

Runtime = Literal["transformers", "vllm", "sglang", "llamacpp", "ollama", "mlx", "diffusers"]

USUAL: Final[Runtime] = "transformers"
"""The engine of a model that is none of another's files."""


@dataclass(frozen=True, slots=True, kw_only=True, repr=False, eq=False)
class EngineRow:
    """An engine.

    Attributes:
        name: its value of `--runtime`.
        title: its name in sentences and headings.
        options: the dataclass that declares its options.
        home: the module with its `ENGINE`, imported only when the engine is used.
        modes: inference, training, or both.
        methods: the values of `--method` that it supports.
        formats: formats of files or repositories that are its own: it runs them if the user does not choose an engine.
        quantisers: quantisers whose checkpoints are its own, likewise.
        only: the format besides which it runs none; "" where it runs several.
        tracer: the module whose `traced` asks the engine's own software, for `--trace`; "" if there is none.
        trainer: the program with which its project trains, which is not modelled; "" if there is none.
        offloads: values of `--offload` that it knows in inference.
        keeps: its options for what is made, whose defaults are no advice.
        regroups: whether its options may let replicas share their ranks (`Regroups`).
        launch: the module whose `LAUNCH` tells how its program's launch line is read; "" if there is none.
        logs: the module whose `LOGS` tells how its server's log is read; "" if there is none.
        sums: whether its weights follow from sizes alone, and not from the order of tensors in files.
    """

    name: str
    title: str
    options: type
    home: str
    modes: tuple[Mode, ...] = ("inference",)
    methods: tuple[str, ...] = ("exact",)
    formats: tuple[str, ...] = ()
    quantisers: tuple[str, ...] = ()
    only: str = ""
    tracer: str = ""
    trainer: str = ""
    offloads: tuple[str, ...] = ()
    keeps: tuple[str, ...] = ()
    regroups: bool = False
    launch: str = ""
    logs: str = ""
    sums: bool = False


_ROWS: dict[str, EngineRow] = {}


def engines() -> tuple[EngineRow, ...]:
    """The engines, in the order they were registered."""
    return tuple(_ROWS.values())


def find_engine(name: str) -> EngineRow | None:
    """The row of an engine; None for an unknown name."""
    return _ROWS.get(name)


@cache  # by module and not by name, which `registered` may give to another engine
def _loaded(home: str) -> "Engine":
    found: Engine = import_module(home).ENGINE
    return found


def engine(name: str) -> "Engine":
    """The engine with a name, imported on first use.

    Raises:
        KeyError: there is no such engine.
    """
    return _loaded(_ROWS[name].home)


def register(row: EngineRow) -> None:
    """Add an engine: its options become available on the command line and in Python, and its runs use its `home`."""
    _ROWS[row.name] = row


@contextmanager
def registered(row: EngineRow) -> Iterator[None]:
    """Register an engine for the duration of a `with` block."""
    register(row)
    try:
        yield
    finally:
        del _ROWS[row.name]


register(
    EngineRow(
        name="transformers",
        sums=True,
        title="transformers",
        options=TransformersOptions,
        home="hfmem.engines.transformers.engine",
        modes=("inference", "training"),
        methods=("exact", "textbook"),
        tracer="hfmem.probe.trace",
    )
)
register(
    EngineRow(
        name="vllm",
        title="vLLM",
        options=VllmOptions,
        home="hfmem.engines.vllm.engine",
        launch="hfmem.engines.vllm.launch",
        logs="hfmem.engines.vllm.logs",
    )
)
register(
    EngineRow(
        name="sglang",
        title="SGLang",
        options=SglangOptions,
        home="hfmem.engines.sglang.engine",
        regroups=True,
        launch="hfmem.engines.sglang.launch",
        logs="hfmem.engines.sglang.logs",
    )
)
register(
    EngineRow(
        name="llamacpp",
        title="llama.cpp",
        options=LlamaCppOptions,
        home="hfmem.engines.llamacpp.engine",
        tracer="hfmem.probe.llamacpp.trace",
        launch="hfmem.engines.llamacpp.launch",
        logs="hfmem.engines.llamacpp.logs",
        formats=("GGUF",),
        only="GGUF",
    )
)
register(
    EngineRow(
        name="ollama",
        title="Ollama",
        options=OllamaOptions,
        home="hfmem.engines.llamacpp.ollama",
        logs="hfmem.engines.llamacpp.ollama_logs",
        only="GGUF",
    )
)
register(
    EngineRow(
        name="mlx",
        title="MLX",
        options=MlxOptions,
        home="hfmem.engines.mlx.engine",
        quantisers=("mlx",),
        trainer="mlx_lm.lora",
    )
)
register(
    EngineRow(
        name="diffusers",
        title="diffusers",
        options=DiffusersOptions,
        home="hfmem.engines.diffusers.engine",
        tracer="hfmem.probe.diffusers.trace",
        offloads=("model", "group", "sequential"),
        keeps=DIFFUSERS_SIZES,
        formats=("diffusion pipeline",),
        only="diffusion pipeline",
    )
)


@dataclass(frozen=True, kw_only=True, init=False, repr=False, eq=False)
class EngineOptions(TransformersOptions, VllmOptions, SglangOptions, LlamaCppOptions, MlxOptions, DiffusersOptions):
    """The options of the built-in engines, statically typed, and `runtime`, which chooses one."""

    runtime: Annotated[
        Runtime | None,
        Option(
            help="Software that runs the model",
            panel=MODEL,
            common=True,
            choices=lambda: tuple(_ROWS),
            shown="llamacpp for GGUF files, mlx for what MLX quantised, diffusers for pipelines, else transformers",
        ),
    ] = None
