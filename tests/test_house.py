"""The house: no circles of imports, functions of a screen, one place that names an engine, and light runs."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path

import pytest

import hfmem
from hfmem.engines.table import engines

PACKAGE = Path(hfmem.__file__).parent
LONGEST = 40


def modules() -> Iterator[tuple[str, Path]]:
    """The dotted name and the file of every module."""
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = ("hfmem", *path.relative_to(PACKAGE).with_suffix("").parts)
        yield ".".join(parts[:-1] if parts[-1] == "__init__" else parts), path


PATHS = dict(modules())


@cache
def tree(name: str) -> ast.Module:
    """The syntax tree of a module."""
    return ast.parse(PATHS[name].read_text(encoding="utf-8"))


def imported(name: str) -> set[str]:
    """Modules of the package that a module imports, anywhere: inside functions and for type checkers too."""
    found = set()
    for node in ast.walk(tree(name)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names if alias.name in PATHS}
        elif isinstance(node, ast.ImportFrom) and node.module:
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                found |= {inner} if inner in PATHS else {node.module} & PATHS.keys()
    # the root has the version, and the public names when somebody asks for them
    return found - {name, "hfmem"}


def circles(graph: Mapping[str, set[str]]) -> Iterator[list[str]]:
    """Modules from which imports lead back to them: modules without imports are taken away until none is left."""
    left = {name: set(names) for name, names in graph.items()}
    while True:
        ends = {name for name, names in left.items() if not names & left.keys()}
        if not ends:
            break
        left = {name: names for name, names in left.items() if name not in ends}
    while True:  # what leads into a circle is none
        starts = left.keys() - {name for names in left.values() for name in names}
        if not starts:
            break
        left = {name: names for name, names in left.items() if name not in starts}
    if left:
        yield sorted(left)


def test_imports_make_no_circle() -> None:
    graph = {name: imported(name) for name in PATHS if name != "hfmem"}
    assert list(circles(graph)) == []


def test_a_circle_is_found() -> None:
    assert list(circles({"a": {"b"}, "b": {"c"}, "c": {"b"}, "d": set()})) == [["b", "c"]]


def test_functions_are_of_a_screen() -> None:
    long = [
        f"{name}.{node.name}: {node.end_lineno - node.lineno + 1} lines"
        for name in PATHS
        for node in ast.walk(tree(name))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and node.end_lineno is not None
        and node.end_lineno - node.lineno + 1 > LONGEST
    ]
    assert long == []


@pytest.mark.parametrize("name", [name for name in PATHS if not name.startswith(("hfmem.engines", "hfmem.probe"))])
def test_no_other_module_names_an_engine(name: str) -> None:
    """Not even in a comparison; sentences about transformers, the library, are none."""
    words = {word for row in engines() for word in (row.name, row.title)}
    found = {
        node.value
        for node in ast.walk(tree(name))
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value in words
    }
    # the library whose release tables are made with, and whose version they say
    versions = {"hfmem.mapper.defaults", "hfmem.estimator.activations.coefficients"}
    # what loads files of a kind, as a person is told
    loaders = {"hfmem.fetcher.foreign"}
    # libraries that classes are of, as model_index.json says, and the table of what they keep in float32
    libraries = {
        "hfmem.mapper.pipelines.reader",
        "hfmem.mapper.pipelines.single",
        "hfmem.mapper.pipelines.parts",
        "hfmem.mapper.pipelines.kept",
    }
    let_through = {"transformers"} if name in versions else {"llama.cpp"} if name in loaders else set()
    let_through |= {"transformers", "diffusers"} if name in libraries else set()
    # the quantiser of that name, as checkpoints declare it
    quantisers = {"hfmem.mapper.packing", "hfmem.mapper.packed_modules", "hfmem.mapper.schemes"}
    let_through |= {"mlx"} if name in quantisers else set()
    assert found - let_through == set()


def test_a_run_of_inference_loads_nothing_of_training() -> None:
    """And no YAML, no class of transformers, no PyTorch."""
    code = (
        "import sys, hfmem\n"
        "hfmem.estimate('meta-llama/Llama-2-7b-hf', offline=True, gpu=('H100',))\n"
        "print('\\n'.join(sys.modules))"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    rooms = ("estimator.training", "estimator.recipe", "scenario.training", "scenario.files", "advice.training")
    heavy = tuple(f"hfmem.{room}" for room in rooms)
    loaded = run.stdout.split()
    assert "hfmem.estimator.values" in loaded
    assert [
        name for name in loaded if name.startswith((*heavy, "hfmem.advice.training", "hfmem.report.training"))
    ] == []
    assert {"yaml", "transformers", "torch"} & set(loaded) == set()
