"""The package's own shape: imports run one way, one module prints, one talks to the network."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

import hfmem

PACKAGE = Path(hfmem.__file__).parent
LAYERS = (
    "errors",
    "refusals",
    "units",
    "silence",
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
    "against",
    "report",
    "answers",
    "forms",
    "api",
    "scan",
    "web",
    "streams",
    "completion",
    "cli",
    "preflight",
    "__main__",
)
BASE = {"errors", "refusals", "units", "silence", "dtypes", "options", "data"}


def modules() -> Iterator[tuple[str, Path]]:
    """Dotted name within the package, and file, of every module but the probe's (it may import everything)."""
    for path in sorted(PACKAGE.rglob("*.py")):
        name = ".".join(path.relative_to(PACKAGE).with_suffix("").parts)
        if not name.startswith("probe"):
            yield name, path


@cache
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
        assert theirs != "probe" or mine == "answers", f"{name} imports the probe"
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
        ("matplotlib", {"report.plots.draw"}),
        (
            "tabulate",
            {
                "report.against",
                "report.choices",
                "report.components",
                "report.grid",
                "report.fitting",
                "report.holders",
                "report.tables",
                "report.training",
            },
        ),
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
        if name not in ("cli", "__main__", "preflight.__main__"):
            assert not calls & {"print", "sys.exit", "exit", "quit"}, name


def test_public_names_are_sorted_and_exist() -> None:
    assert list(hfmem.__all__) == sorted(hfmem.__all__)
    assert all(hasattr(hfmem, name) for name in hfmem.__all__)
    assert set(hfmem.__all__) == set(dir(hfmem))


def test_the_tree_of_errors_is_drawn_as_it_is() -> None:
    from hfmem import errors

    drawn: dict[str, str] = {}
    above: list[str] = []
    for line in (errors.__doc__ or "").splitlines():
        if found := re.match(r"([│├└─ ]*)(\w+Error)\b", line):
            above[len(found[1]) // 4 :] = [found[2]]
            drawn[found[2]] = above[-2] if len(above) > 1 else "Exception"
    assert drawn == {name: getattr(errors, name).__bases__[0].__name__ for name in errors.__all__}


def test_every_error_has_a_sentence_and_a_next_step() -> None:
    from hfmem import errors
    from hfmem.report.errors import explain

    for name in errors.__all__:
        problem = explain(getattr(errors, name)("org/model", "seen"))
        assert problem.code == getattr(errors, name).code()
        assert problem.message.endswith(".")
        assert problem.hint


# What stands for a value in the estimator and happens to be a key of some configuration, or a module's name, as well.
WORDS = {
    "layers": "a place in the model (`Place`), and a key of the coefficients' table",
    "encoder": "what a decoder attends to (`Architecture.source`)",
    "norm": "a component",
    "loss": "a moment of a step",
    "block_size": "an option of vLLM",
    "align": "a mode of vLLM's prefix cache",
    "bitnet": "a method of quantisation",
    "cache_size": "a function's name",
    "ngram": "a method of speculative decoding",
    "num_frames": "a parameter of pipelines' calls",
    "num_images": "a key of the JSON contract",
}
LOOKED_UP = (
    "inputs",
    "interpret",
    "values",
    "caches",
    "structure",
    "lora",
    "mlx_modules",
    "modules",
    "mixers",
    "gguf.layout",
    "gguf.parts",
    "pipelines.values",
    "pipelines.sizes",
)
"""Modules of the mapper that hand over sizes, signatures, roles, and what a table has of a type; the others read names
and keys."""

UNREAD = {"config", "role", "model_type", "architectures"}


@cache
def names_of_models() -> frozenset[str]:
    """Keys of configurations, types of models, and names of modules."""
    data = PACKAGE / "data"
    rows = [json.loads(line) for line in (data / "config_defaults.jsonl").read_text().splitlines()]
    parts = ("defaults", "assumed", "parts", "choices", "aliases")
    found = {key for row in rows for part in parts for key in row.get(part, {})}
    found |= {row["type"] for row in rows if "type" in row}
    modules = json.loads((data / "lora_targets.json").read_text())
    for targets in modules["targets"].values():
        found |= {name.rpartition(".")[2] for name in targets}
    for moved in modules["experts"].values():
        found |= {*moved, *(name.removesuffix(".weight") for name in moved.values())}
    return frozenset(found) - {*WORDS}


def peeks(source: str) -> set[str]:
    """What in a module looks into configurations or names of tensors."""
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            found |= {node.value} & names_of_models()
            found |= set(re.findall(r"^_?\w*(?:_proj|_blocks|_scales|conv\d?|\.bias|\.weight)$", node.value))
        elif isinstance(node, ast.Attribute) and node.attr in UNREAD:
            found.add(f".{node.attr}")
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("hfmem.mapper"):
            part = (node.module or "").removeprefix("hfmem.mapper").removeprefix(".")
            names = [part] if part else [alias.name for alias in node.names]
            found |= {f"mapper.{name}" for name in names if name not in LOOKED_UP}
    return found


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("lacks('q_lora_rank')", "q_lora_rank"),
        ("relatives = ('deepseek_v3', 'llama')", "llama"),
        ("group.role in ('q_proj', 'k_proj')", "k_proj"),
        ("name == 'gate_up_proj'", "gate_up_proj"),
        ("role.endswith('_blocks')", "_blocks"),
        ("'conv' in of", "conv"),
        ("model.checkpoint.config", ".config"),
        ("model.architecture.model_type", ".model_type"),
        ("from hfmem.mapper.facts import Facts", "mapper.facts"),
        ("from hfmem.mapper import names", "mapper.names"),
    ],
)
def test_looking_into_names_is_seen(source: str, found: str) -> None:
    assert found in peeks(source)


def test_estimator_and_engines_see_no_config_key_type_or_tensor_name() -> None:
    """A new architecture is the mapper's alone: it hands over sizes, signatures and what follows from roles."""
    rooms = {name: path for name, path in modules() if layer(name) in ("estimator", "engines")}
    assert len(rooms) > 40
    found = {name: peeks(path.read_text(encoding="utf-8")) for name, path in rooms.items()}
    assert not {name: seen for name, seen in found.items() if seen}


def test_every_word_that_is_let_through_is_used() -> None:
    rooms = [path for name, path in modules() if layer(name) in ("estimator", "engines")]
    trees = [ast.parse(path.read_text(encoding="utf-8")) for path in rooms]
    said = {node.value for tree in trees for node in ast.walk(tree) if isinstance(node, ast.Constant)}
    assert set(WORDS) <= said


def test_software_is_told_apart_by_its_source_of_activations() -> None:
    """Nothing compares `stack.layers`: it names a row of a table, and there it is looked up."""
    from hfmem.estimator.activations.sources import SOURCES
    from hfmem.estimator.recipe.stacks import STACKS

    readers = {
        name
        for name, path in modules()
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Attribute) and ast.unparse(node).endswith("stack.layers")
    }
    assert readers == {"estimator.activations.sources"}
    assert {row.layers for row in STACKS} == set(SOURCES)
