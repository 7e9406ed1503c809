"""What tests do not notice: mutants of the packages with the numbers, a sample of them, by cosmic-ray.

    pip install cosmic-ray
    python -m tests.benchmarks.mutation --seed 1 --each 90 --hits hits.json --out found.json
    python -m tests.benchmarks.mutation --again found.json --hits hits.json --budget 90 --out after.json

A mutant is drawn by its place, then by its change, so that an operator with eleven replacements weighs no more than a
number. One run of all tests, in a copy of the tree with a mark before each mutant's statement, finds its tests and
their time (`--hits`, read where it is there). Then each mutant stands before its tests, those with arithmetic by hand
first, the others by their time, until `--budget` seconds are full: of a function, the code object is replaced in a fork
of a process that has collected all tests; what runs on import is written to a copy, for a process of its own. With
`--again`, survivors of an earlier run stand before the tests that are new since, and those that its budget left out.

Kept output is no judge: tests of reports, options, documents and the house are left out (`JUDGES`). So are changes that
no number follows from: annotations, decorators, text that is told, `strict=` of zip.
"""

from __future__ import annotations

import argparse
import ast
import builtins
import functools
import gc
import json
import os
import random
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import warnings
from bisect import bisect
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib import import_module
from itertools import accumulate
from pathlib import Path
from types import CodeType, FunctionType
from typing import Any, Final

import pytest

ROOT: Final = Path(__file__).parents[2]
PACKAGES: Final = ("estimator", "engines", "mapper")
JUDGES: Final = tuple(f"tests/{name}" for name in ("estimator", "mapper", "measured", "test_api.py", "test_engine.py"))
PYTEST: Final = ("-p", "no:cacheprovider", "-o", "addopts=-m 'not oracle and not pypi and not slow'", "-p", "no:xdist")
FIRST: Final = ("test_by_hand.py", "test_weights_by_hand.py", "vllm/test_peak.py", "mapper/test_patterns.py")
NUMBERLESS: Final = ("RemoveDecorator", "VariableReplacer", "VariableInserter")
SAME: Final = ("_Eq_Is", "_NotEq_IsNot")
"""Changes that are none: small numbers and words of the code are one object each."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Mutant:
    """A change of one line, with the source that has it."""

    path: str
    line: int
    operator: str
    source: str = field(repr=False)
    before: str
    after: str

    @property
    def key(self) -> tuple[str, str, str, str]:
        """What it is known by in another state of the code."""
        return self.path, self.operator, self.before, self.after


# As a plugin of the run that finds out which tests run the line of a mutant: MUTATION_HITS names the file to write.

_hits: dict[str, set[int]] = defaultdict(set)
_seconds: dict[str, float] = defaultdict(float)
_now = [""]


def hit(*numbers: int) -> None:
    """What stands before the statement of a mutant."""
    _hits[_now[0]].update(numbers)


def pytest_configure() -> None:
    builtins._hit_ = hit  # type: ignore[attr-defined]


def pytest_runtest_setup(item: pytest.Item) -> None:
    _now[0] = item.nodeid
    forget()


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    _seconds[report.nodeid] += report.duration


def pytest_sessionfinish() -> None:
    if path := os.environ.get("MUTATION_HITS"):
        found = {"hits": {name: sorted(each) for name, each in _hits.items()}, "seconds": _seconds}
        Path(path).write_text(json.dumps(found), encoding="utf-8")


def forget() -> None:
    """Empty the caches of functions that are mutated, and of tests: each test runs its lines itself."""
    for name, module in list(sys.modules.items()):
        if name.startswith((*(f"hfmem.{package}" for package in PACKAGES), "tests.")):
            for value in list(vars(module).values()):
                if isinstance(value, functools._lru_cache_wrapper) and value.__module__ == name:
                    value.cache_clear()


# The mutants


def places() -> dict[tuple[str, tuple[int, int], str], list[tuple[str, int]]]:
    """All changes by file, place and family of operators."""
    from cosmic_ray.commands.init import init
    from cosmic_ray.work_db import WorkDB, use_db

    paths = [
        path.relative_to(ROOT) for package in PACKAGES for path in sorted((ROOT / "hfmem" / package).rglob("*.py"))
    ]
    found: dict[tuple[str, tuple[int, int], str], list[tuple[str, int]]] = defaultdict(list)
    with tempfile.TemporaryDirectory() as folder, use_db(str(Path(folder) / "db"), WorkDB.Mode.create) as db:
        init(paths, db, {})
        for item in db.work_items:
            (change,) = item.mutations
            if change.operator_name.endswith(SAME):
                continue
            family = change.operator_name.removeprefix("core/").split("_")[0]
            key = (str(change.module_path), tuple(change.start_pos), family)
            found[key].append((change.operator_name, change.occurrence))
    return dict(sorted(found.items()))


@functools.cache
def spans(path: str) -> list[tuple[tuple[int, int], tuple[int, int]]]:
    """Where nothing that is changed changes a number."""
    tree = ast.parse((ROOT / path).read_text(encoding="utf-8"))
    nodes: list[ast.AST | None] = []
    for node in ast.walk(tree):
        if isinstance(node, ast.arg | ast.AnnAssign):
            nodes.append(node.annotation)
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            nodes += node.decorator_list
            nodes.append(getattr(node, "returns", None))
        if isinstance(node, ast.keyword) and node.arg == "strict":
            nodes.append(node.value)
        if isinstance(node, ast.JoinedStr) and "mapper" not in path:
            nodes.append(node)
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.BinOp) and isinstance(node.value.op, ast.BitOr):
            nodes += [node.value] * (node in tree.body)
    return [((n.lineno, n.col_offset), (n.end_lineno, n.end_col_offset)) for n in nodes if n is not None]  # type: ignore[attr-defined]


def numbers(key: tuple[str, tuple[int, int], str]) -> bool:
    """Whether a number may follow from a change at such a place."""
    path, place, family = key
    return family not in NUMBERLESS and not any(start <= place <= end for start, end in spans(path))


def mutant(path: str, operator: str, occurrence: int) -> Mutant | None:
    """The change itself; None where it is no Python."""
    from cosmic_ray.mutating import mutate_code
    from cosmic_ray.plugins import get_operator

    source = (ROOT / path).read_text(encoding="utf-8")
    changed = mutate_code(source, get_operator(operator)(), occurrence)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # `is` with a literal
            compile(changed or "(", path, "exec")
    except (SyntaxError, SyntaxWarning):
        return None
    pairs = zip(source.splitlines(), changed.splitlines(), strict=False)
    line, before, after = next((n, old, new) for n, (old, new) in enumerate(pairs, 1) if old != new)
    return Mutant(
        path=path,
        line=line,
        operator=operator.removeprefix("core/"),
        source=changed,
        before=before.strip(),
        after=after.strip(),
    )


def drawn(seed: int, each: int) -> tuple[list[Mutant], dict[str, Any]]:
    """So many of each package, and how many there are."""
    everything, chance = places(), random.Random(seed)
    counts: dict[str, Any] = {"mutants": sum(map(len, everything.values())), "places": {}}
    chosen: list[Mutant] = []
    for package in PACKAGES:
        keys = [key for key in everything if Path(key[0]).parts[1] == package and numbers(key)]
        counts["places"][package] = len(keys)
        chance.shuffle(keys)
        found = (mutant(key[0], *chance.choice(everything[key])) for key in keys)
        chosen += [one for _, one in zip(range(each), filter(None, found), strict=False)]
    chance.shuffle(chosen)
    return chosen, counts


def again(rows: list[dict[str, Any]]) -> list[Mutant]:
    """The mutants of such rows that still are some, by the text of their lines."""
    wanted = {(row["path"], row["operator"], row["before"], row["after"]) for row in rows}
    near = {(path, f"core/{operator}", before) for path, operator, before, _ in wanted}
    found: dict[tuple[str, str, str, str], Mutant] = {}
    for (path, (line, _), _), changes in places().items():
        text = (ROOT / path).read_text(encoding="utf-8").splitlines()[line - 1].strip()
        for operator, occurrence in changes:
            one = mutant(path, operator, occurrence) if (path, operator, text) in near else None
            if one and one.key in wanted:
                found.setdefault(one.key, one)
    return list(found.values())


# The tests of a line


class _Marked(ast.NodeTransformer):
    """Calls of `hit`: before the smallest statement around a line; of what runs on import, in every function."""

    def __init__(self, tree: ast.Module, wanted: Mapping[int, list[int]]) -> None:
        self._before: dict[ast.stmt, list[int]] = defaultdict(list)
        functions = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)]
        self.on_import: set[int] = set()
        for line, numbers in wanted.items():
            if inner := [node for function in functions for node in _around(function, line)]:
                self._before[min(inner, key=lambda node: (node.end_lineno or 0) - node.lineno)] += numbers
                continue
            self.on_import.update(numbers)
            for function in functions:
                self._before[function.body[-1]] += numbers

    def generic_visit(self, node: ast.AST) -> ast.AST:
        super().generic_visit(node)
        for name in ("body", "orelse", "finalbody"):
            body = getattr(node, name, None)
            if isinstance(body, list):
                setattr(node, name, [each for one in body for each in (*self._call(one), one)])
        return node

    def _call(self, node: ast.stmt) -> list[ast.stmt]:
        numbers = self._before.get(node, [])
        return ast.parse(f"_hit_({', '.join(map(str, numbers))})").body if numbers else []


def _around(function: ast.FunctionDef, line: int) -> list[ast.stmt]:
    """The statements of a function's body around a line, but where it is a decorator's or a default's."""
    inside = [node for each in function.body for node in ast.walk(each) if isinstance(node, ast.stmt)]
    return [node for node in inside if node.lineno <= line <= (node.end_lineno or 0)]


class Lines:
    """Which tests run a mutant's statement, and how long each takes."""

    def __init__(self, chosen: list[Mutant], kept: Path) -> None:
        trees: dict[str, dict[int, list[int]]] = defaultdict(lambda: defaultdict(list))
        for number, one in enumerate(chosen):
            trees[one.path][one.line].append(number)
        texts, on_import = {}, set()
        for path, wanted in trees.items():
            tree = ast.parse((ROOT / path).read_text(encoding="utf-8"))
            marked = _Marked(tree, wanted)
            texts[path] = ast.unparse(ast.fix_missing_locations(marked.visit(tree)))
            on_import |= marked.on_import
        if not kept.exists():
            with copy(texts) as tree:
                env = {**os.environ, "PYTHONPATH": str(tree), "MUTATION_HITS": str(kept.absolute())}
                command = [sys.executable, "-m", "pytest", *PYTEST, "-q", "-p", "tests.benchmarks.mutation", *JUDGES]
                subprocess.run(command, cwd=tree, env=env, check=False)
            found = json.loads(kept.read_text(encoding="utf-8"))
            kept.write_text(json.dumps({**found, "mutants": [one.key for one in chosen]}), encoding="utf-8")
        found = json.loads(kept.read_text(encoding="utf-8"))
        self.seconds: dict[str, float] = found["seconds"]
        self._hits: dict[str, set[int]] = {name: set(each) for name, each in found["hits"].items()}
        self._numbers = {tuple(key): number for number, key in enumerate(found["mutants"])}
        self._on_import = {chosen[number].key for number in on_import}

    def of(self, one: Mutant) -> tuple[set[str], bool]:
        """Tests by name, and whether the line runs on import; of tables without functions, all tests but few."""
        number = self._numbers.get(one.key)
        found = {name for name, hits in self._hits.items() if number in hits}
        on_import = one.key in self._on_import or "" in found
        found -= {""}
        return found or (set(self.seconds) if on_import else set()), on_import


@contextmanager
def copy(texts: Mapping[str, str]) -> Iterator[Path]:
    """A copy of the tree in which some files are others."""
    with tempfile.TemporaryDirectory() as folder:
        tree = Path(folder) / "tree"
        shutil.copytree(ROOT, tree, symlinks=True, ignore=shutil.ignore_patterns(".git"))
        for path, text in texts.items():
            (tree / path).write_text(text, encoding="utf-8")
        yield tree


# The run


def changes(old: CodeType, new: CodeType, *, inside: bool = False) -> Iterator[tuple[CodeType, CodeType]]:
    """Functions whose code differs.

    Raises:
        LookupError: What differs runs on import.
    """
    olds, news = ([each for each in code.co_consts if isinstance(each, CodeType)] for code in (old, new))
    if len(olds) != len(news):
        raise LookupError
    plain = [[repr(each) for each in code.co_consts if not isinstance(each, CodeType)] for code in (old, new)]
    if old.co_code != new.co_code or plain[0] != plain[1] or old.co_names != new.co_names:
        if not inside:
            raise LookupError
        yield old, new
    for one, other in zip(olds, news, strict=True):
        function = bool(one.co_flags & 1) and (inside or not one.co_name.startswith("<") or one.co_name == "<lambda>")
        for pair in changes(one, other, inside=inside or function):
            yield pair
            if inside:
                yield old, new


def replace(path: str, source: str) -> None:
    """Put the changed functions of a file in the place of the others, in this process.

    Raises:
        LookupError: That is not all there is to change.
    """
    name = str(ROOT / path)
    old, new = (compile(text, name, "exec", dont_inherit=True) for text in (Path(name).read_text("utf-8"), source))
    wanted = {(one.co_qualname, tuple(one.co_positions())): other for one, other in changes(old, new)}
    done = set()
    for function in [each for each in gc.get_objects() if isinstance(each, FunctionType)]:
        code = function.__code__
        if code.co_filename == name:
            key = (code.co_qualname, tuple(code.co_positions()))
            if key in wanted:
                function.__code__ = wanted[key]
                done.add(key)
    if not done:
        raise LookupError


class Judge:
    """Runs mutants where pytest would run its tests."""

    def __init__(
        self,
        chosen: list[Mutant],
        lines: Lines,
        seconds: tuple[float, float],
        note: Callable[[Mutant, dict[str, Any]], None],
    ) -> None:
        self.chosen, self.lines, self.note = chosen, lines, note
        self._done, self._budget = seconds
        self._told = -1

    def pytest_collection_finish(self) -> None:
        for path in sorted((ROOT / "hfmem").rglob("*.py")):
            parts = path.relative_to(ROOT).with_suffix("").parts
            if parts[1] in PACKAGES:
                import_module(".".join(parts).removesuffix(".__init__"))

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        items = {item.nodeid: item for item in session.items}
        gc.freeze()
        added = sorted(items.keys() - self.lines.seconds.keys())
        for one in self.chosen:
            names, on_import = self.lines.of(one)
            known, left = self._within(names & items.keys())
            tests = [*added, *known]
            began = time.monotonic()
            if not tests:
                outcome = "untested"
            else:
                outcome = self._fork(session, [items[test] for test in tests], one) if not on_import else "fresh"
                outcome = _fresh(one, tests, self._limit(tests)) if outcome == "fresh" else outcome
            took = round(time.monotonic() - began, 1)
            self.note(one, {"outcome": outcome, "tests": len(tests), "left_out": left, "seconds": took})
        return True

    @pytest.hookimpl
    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.failed and self._told >= 0:
            os.write(self._told, report.nodeid.encode())

    def _within(self, names: set[str]) -> tuple[list[str], int]:
        """Those of the tests that are run, and how many are left for a larger budget; an earlier run's are done."""

        def order(name: str) -> tuple[bool, float]:
            return not name.partition("::")[0].endswith(FIRST), self.lines.seconds[name]

        ordered = sorted(names, key=order)
        totals = list(accumulate(self.lines.seconds[name] for name in ordered))
        return ordered[bisect(totals, self._done) : bisect(totals, self._budget)], sum(
            total > self._budget for total in totals
        )

    def _limit(self, tests: list[str]) -> float:
        return 30 + 4 * sum(self.lines.seconds.get(test, 0.1) for test in tests)

    def _fork(self, session: pytest.Session, tests: list[pytest.Item], one: Mutant) -> str:
        """The test that failed, "survived", "timeout", or "fresh" where the change is no function's."""
        reading, self._told = os.pipe()
        child = os.fork()
        if not child:
            os.setsid()
            silence = os.open(os.devnull, os.O_WRONLY)
            for number in (1, 2):
                os.dup2(silence, number)
            self._child(session, tests, one)
        os.close(self._told)
        self._told = -1
        ready, _, _ = select.select([reading], [], [], self._limit([test.nodeid for test in tests]))
        told = os.read(reading, 10_000).decode() if ready else "timeout"
        os.close(reading)
        os.killpg(child, signal.SIGKILL) if told != "" else None
        os.waitpid(child, 0)
        return told or "survived"

    def _child(self, session: pytest.Session, tests: list[pytest.Item], one: Mutant) -> None:
        try:
            replace(one.path, one.source)
        except LookupError:
            os.write(self._told, b"fresh")
            time.sleep(60)
        try:
            forget()
            session.items[:] = tests
            from _pytest.main import pytest_runtestloop

            pytest_runtestloop(session)
        except BaseException as error:  # -x ends the loop by an exception
            os.write(self._told, f" {type(error).__name__}".encode() if not session.testsfailed else b"")
        os._exit(0)


def _fresh(one: Mutant, tests: list[str], limit: float) -> str:
    """The same, from a process that starts with the change in its files."""
    with copy({one.path: one.source}) as tree:
        (tree / "tests.txt").write_text("\n".join(tests), encoding="utf-8")
        command = [sys.executable, "-m", "pytest", *PYTEST, "-x", "-q", "--no-header", "--tb=no", "-rfE", "@tests.txt"]
        env = {**os.environ, "PYTHONPATH": str(tree)}
        with subprocess.Popen(
            command,
            cwd=tree,
            env=env,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        ) as process:
            try:
                told, _ = process.communicate(timeout=limit)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                return "timeout"
        if process.returncode == 0:
            return "survived"
        failed = [line.split()[1] for line in told.splitlines() if line.startswith(("FAILED", "ERROR "))]
        return failed[0] if failed else f"exit {process.returncode}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--hits", type=Path, required=True)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--each", type=int, default=90)
    parser.add_argument("--budget", type=float, default=30)
    parser.add_argument("--again", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    asked = parser.parse_args()
    if asked.again:
        earlier = json.loads(asked.again.read_text(encoding="utf-8"))
        chosen = again([row for row in earlier["rows"] if row["outcome"] in ("survived", "untested")])
        counts, done = {}, earlier["budget"]
    else:
        (chosen, counts), done = drawn(asked.seed, asked.each), 0
    rows: list[dict[str, Any]] = []

    def note(one: Mutant, found: dict[str, Any]) -> None:
        rows.append(
            {
                "path": one.path,
                "line": one.line,
                "operator": one.operator,
                "before": one.before,
                "after": one.after,
                **found,
            }
        )
        outcomes = {package: Counter() for package in PACKAGES}
        for row in rows:
            outcome = row["outcome"] if row["outcome"] in ("survived", "untested", "timeout") else "killed"
            outcomes[Path(row["path"]).parts[1]][outcome] += 1
        kept = {"seed": asked.seed, "budget": asked.budget, **counts, "outcomes": outcomes, "rows": rows}
        asked.out.write_text(json.dumps(kept, indent=1) + "\n", encoding="utf-8")
        print(len(rows), f"{one.path}:{one.line}", one.operator, found, flush=True)

    os.chdir(ROOT)
    print(len(chosen), "mutants", counts, flush=True)
    judge = Judge(chosen, Lines(chosen, asked.hits), (done, asked.budget), note)
    sys.exit(pytest.main([*PYTEST, "-x", "-p", "no:terminal", *JUDGES], plugins=[judge]))


if __name__ == "__main__":
    main()
