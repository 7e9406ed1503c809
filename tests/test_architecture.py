"""The package's own shape: imports run one way, one module prints, one talks to the network."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import hfmem

PACKAGE = Path(hfmem.__file__).parent
LAYERS = (
    "errors",
    "units",
    "dtypes",
    "options",
    "data",
    "hardware",
    "fetcher",
    "mapper",
    "estimator",
    "engines",
    "scenario",
    "advice",
    "report",
    "api",
    "cli",
    "__main__",
)
BASE = {"errors", "units", "dtypes", "options", "data"}


def modules() -> Iterator[tuple[str, Path]]:
    """Dotted name within the package, and file, of every module but the probe's (it may import everything)."""
    for path in sorted(PACKAGE.rglob("*.py")):
        name = ".".join(path.relative_to(PACKAGE).with_suffix("").parts)
        if not name.startswith("probe"):
            yield name, path


def imports(path: Path) -> set[str]:
    """Dotted names that a module imports, those inside functions included, those for type checkers only not."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    skipped = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
        for inner in ast.walk(node)
    }
    found = set()
    for node in ast.walk(tree):
        if id(node) in skipped:
            continue
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found |= {node.module or ""} | {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def layer(name: str) -> str:
    return name.partition(".")[0]


@pytest.mark.parametrize(("name", "path"), list(modules()), ids=lambda value: value if isinstance(value, str) else "")
def test_imports_run_one_way(name: str, path: Path) -> None:
    if name == "__init__":
        return
    mine = layer(name)
    for imported in imports(path):
        if not imported.startswith("hfmem."):
            continue
        theirs = layer(imported.removeprefix("hfmem."))
        assert theirs != "probe" or mine == "api", f"{name} imports the probe"
        if theirs not in LAYERS:  # the probe, or a name of the package's root, such as __version__
            continue
        assert theirs == mine or LAYERS.index(theirs) < LAYERS.index(mine), f"{name} imports {imported}"
        assert mine not in BASE or theirs in BASE, f"{name} imports {imported}"


@pytest.mark.parametrize(
    ("module", "allowed"),
    [
        ("httpx2", {"fetcher.http"}),
        ("torch", set()),
        ("transformers", {"mapper.defaults", "mapper.generic"}),
        ("click", set()),
        ("typer", {"cli"}),
        ("tabulate", {"report.card", "report.fit", "report.tables", "report.training"}),
    ],
)
def test_only_the_named_modules_import(module: str, allowed: set[str]) -> None:
    users = {name for name, path in modules() if any(layer(item) == module for item in imports(path))}
    assert users == allowed


def test_the_probe_is_imported_only_when_it_is_needed() -> None:
    """At the top of no module: PyTorch takes seconds, and most people do not have it."""
    for name, path in modules():
        tree = ast.parse(path.read_text(encoding="utf-8"))
        tops = {node.module or "" for node in tree.body if isinstance(node, ast.ImportFrom)}
        assert not any(module.startswith("hfmem.probe") for module in tops), name


def test_only_the_command_line_prints_or_exits() -> None:
    for name, path in modules():
        calls = {ast.unparse(node.func) for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call)}
        if name not in ("cli", "__main__"):
            assert not calls & {"print", "sys.exit", "exit", "quit"}, name


def test_public_names_are_sorted_and_exist() -> None:
    assert list(hfmem.__all__) == sorted(hfmem.__all__)
    assert all(hasattr(hfmem, name) for name in hfmem.__all__)
    assert set(hfmem.__all__) == set(dir(hfmem))


def test_every_error_is_in_the_tree_of_its_module() -> None:
    from hfmem import errors

    drawn = errors.__doc__ or ""
    for name in errors.__all__:
        assert name in drawn
        assert issubclass(getattr(errors, name), errors.HfmemError)


def test_every_error_has_a_sentence_and_a_next_step() -> None:
    from hfmem import errors
    from hfmem.report.errors import explain

    for name in errors.__all__:
        problem = explain(getattr(errors, name)("org/model", "seen"))
        assert problem.code == getattr(errors, name).code()
        assert problem.message.endswith(".")
        assert problem.hint
