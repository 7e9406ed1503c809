"""Evidence is part of the contract: what hfmem knows about has a recorded measurement, or an exemption with a reason.

What there is comes from the code's own tables, so that a row added to one of them fails here until something real has
been measured (`docs/adding.md`, "Evidence"). A measurement is a row of a file under `fixtures/`; what cannot be
measured is a line of `fixtures/exemptions.json`.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any, Final

import pytest

from hfmem import inspect
from hfmem.engines import table as engines
from hfmem.engines.mlx.classes import DIALECTS
from hfmem.engines.vllm import formats as vllm
from hfmem.engines.vllm import rules
from hfmem.estimator.recipe import optimizers, precisions, stacks
from hfmem.estimator.weights import quantisers, recipes
from hfmem.mapper import families
from hfmem.mapper.gguf.rows import ROWS
from tests.measured import training

ROOT: Final = Path(__file__).parents[1]
FIXTURES: Final = ROOT / "fixtures"
EXEMPTIONS: Final = FIXTURES / "exemptions.json"
ACTIVATIONS: Final = ROOT / "hfmem" / "data" / "activations.jsonl"
GRAPHS: Final = ROOT / "hfmem" / "data" / "llamacpp_graphs.jsonl"
BUFFERS: Final = FIXTURES / "gguf" / "buffers.jsonl"
MLX: Final = FIXTURES / "mlx" / "runs.jsonl"
LOGS: Final = FIXTURES / "measured" / "llamacpp.jsonl"

SHORTEST: Final = 30
"""Characters of a reason."""
MOST: Final = 8
"""Exemptions that may have the same reason."""

Names = frozenset[str]


def oracle(name: str) -> Any:
    """A recording of `tests.oracle`."""
    return json.loads((FIXTURES / "oracle" / f"{name}.json").read_text(encoding="utf-8"))


def lines(path: Path) -> list[Any]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


# --- what there is ---------------------------------------------------------------------------------------------------


def activation_types() -> Names:
    """Those of the table of coefficients, with what is switched."""
    return frozenset(row["type"] for row in lines(ACTIVATIONS) if "type" in row)


def recipes_of_engines() -> Names:
    """Of the tools, and of each engine that has a module `formats` beside its own."""
    found = {recipe_name(recipe) for recipe in recipes.RECIPES}
    tools = {(recipe.name, recipe.dtype) for recipe in recipes.RECIPES}
    for row in engines.engines():
        try:
            home = import_module(f"{row.home.rpartition('.')[0]}.formats")
        except ImportError:
            continue
        found |= {recipe_name(item, row.name) for item in home.RECIPES if (item.name, item.dtype) not in tools}
    return frozenset(found)


def recipe_name(recipe: recipes.Recipe, engine: str = "") -> str:
    return f"{engine}: {recipe.name}, {recipe.dtype}" if engine else f"{recipe.name}, {recipe.dtype}"


THINGS: Final[dict[str, Callable[[], Names]]] = {
    "reader": families.known_types,
    "activations": activation_types,
    "optimizer": lambda: frozenset(row.name for row in optimizers.OPTIMIZERS),
    "precision": lambda: frozenset(row.name for row in precisions.PRECISIONS),
    "stack": lambda: frozenset(row.name for row in stacks.STACKS),
    "layout": lambda: frozenset((*(row.name for row in quantisers.QUANTISERS), *quantisers._LAYOUTS)),
    "recipe": recipes_of_engines,
    "vllm release": lambda: frozenset(row.name for row in rules.RULES),
    "engine": lambda: frozenset(row.name for row in engines.engines()),
    "class of mlx-lm": lambda: frozenset(DIALECTS),
    "llama.cpp graph": lambda: frozenset(ROWS),
}
"""Everything that needs evidence, by its kind, as the code's tables have it now."""


# --- what was measured -----------------------------------------------------------------------------------------------


def measured_readers() -> Names:
    """Types whose parameters were counted on a real class, alone or as a part of a whole, or were published."""
    found = {row["type"].partition(":")[0] for row in oracle("types")["types"] if row["runs"]}
    for name, key in (("perturbed", "types"), ("parameters", "models"), ("states", "models"), ("multimodal", "models")):
        for row in oracle(name)[key]:
            assert row["parameters"] > 0
            found |= set(model_types(row["config"]))
    for row in (*oracle("multimodal")["small"], *lines(FIXTURES / "measured" / "published.jsonl")):
        found |= set(model_types(row["config"]))
    return frozenset(found)


def model_types(value: Any) -> Iterator[str]:
    """Every `model_type` of a configuration and its parts."""
    if isinstance(value, dict):
        if isinstance(value.get("model_type"), str):
            yield value["model_type"]
        for part in value.values():
            yield from model_types(part)


def measured_activations() -> Names:
    """Types of which a whole class was run, small or at its real size."""
    found = {row["type"] for row in oracle("small")["rows"] if "saved" in row}
    models = {row["model"] for row in oracle("activations")["rows"]}
    return frozenset(found | {str(inspect(name, offline=True).architecture.model_type) for name in models})


def measured_training() -> list[training.Rule]:
    """The rule of each training run that is compared."""
    found = [next((rule for rule in training.RULES if rule.fits(row)), None) for row in _trained()]
    return [rule for rule in found if rule is not None]


def _trained() -> list[training.Row]:
    return [row for row in training.rows() if training._unfit(row) is None]


def measured_precisions() -> Names:
    """Those of a recorded step, and of training runs that are compared."""
    found = set(oracle("precisions")["bytes"])
    for row in _trained():
        rule = next((rule for rule in training.RULES if rule.fits(row)), None)
        stack = stacks.find_stack(rule.stack) if rule else None
        if stack is not None:
            found.add(stack.precision or training._precision(row))
    return frozenset(found)


def measured_recipes() -> Names:
    """Recipes of which a library's own walk over a model was recorded, or a server loaded what they pack: the only one
    of its dtype in the engine, or the one whose tool the model is named after."""
    tools = {(recipe.name, recipe.dtype) for recipe in recipes.RECIPES}
    pairs = {(row["recipe"], row["dtype"]) for row in oracle("quantisers")["recipes"]}
    found = {
        f"{name}, {dtype}" if (name, dtype) in tools else f"transformers: {name}, {dtype}" for name, dtype in pairs
    }
    weights = [row for row in served() if (row["engine"], row["kind"]) == ("vllm", "weights")]
    for row in weights:
        packers = [recipe for recipe in vllm.RECIPES if recipe.dtype == row.get("assumed_dtype")]
        named = [recipe for recipe in packers if any(word in row["model"].lower() for word in recipe.words)]
        if len(only := named or packers) == 1:
            own = (only[0].name, only[0].dtype) not in tools
            found.add(recipe_name(only[0], "vllm" if own else ""))
    return frozenset(found)


def served() -> list[Any]:
    """Readings of servers that are compared."""
    return [row for row in lines(FIXTURES / "measured" / "inference.jsonl") if not row.get("skipped")]


def measured_releases() -> Names:
    """Rows of vLLM's releases that a server printed something under."""
    versions = [
        re.match(r"(\d+)\.(\d+)", row.get("engine_version") or "") for row in served() if row["engine"] == "vllm"
    ]
    pairs = {(int(match[1]), int(match[2])) for match in versions if match}
    held = {
        max((row for row in rules.RULES if row.since <= pair), key=lambda row: row.since, default=None)
        for pair in pairs
    }
    return frozenset(row.name for row in held if row is not None)


def measured_engines() -> Names:
    """Those of which a server's readings are compared, llama.cpp, whose library told its buffers, and MLX that ran."""
    told, *rows = lines(BUFFERS)
    own = {"llamacpp"} if "llama.cpp" in told["source"] and rows else set()
    printed = {"ollama"} if any(row["software"].startswith("Ollama") for row in lines(LOGS)) else set()
    run = {"mlx"} if run_classes() else set()
    return frozenset({row["engine"] for row in served()} | own | printed | run)


def run_classes() -> Names:
    """Classes of which mlx-lm ran a small model for real."""
    return frozenset(row["config"]["architectures"][0] for row in lines(MLX) if row["peak"] > row["weights"])


def recorded_graphs() -> Names:
    """Architectures of GGUF files whose graphs the probe recorded of the library."""
    text = GRAPHS.read_text(encoding="utf-8")
    return frozenset(re.findall(r'^\{"architecture":"([^"]+)"', text, re.MULTILINE))


MEASURED: Final[dict[str, Callable[[], Names]]] = {
    "reader": measured_readers,
    "activations": measured_activations,
    "optimizer": lambda: frozenset(oracle("optimizers")["bytes"]),
    "precision": measured_precisions,
    "stack": lambda: frozenset(rule.stack for rule in measured_training()),
    "layout": lambda: frozenset(row["layout"] for row in oracle("quantisers")["layouts"]),
    "recipe": measured_recipes,
    "vllm release": measured_releases,
    "engine": measured_engines,
    "class of mlx-lm": run_classes,
    "llama.cpp graph": recorded_graphs,
}
"""What has a recorded measurement, by its kind."""


@cache
def measured(kind: str) -> Names:
    return MEASURED[kind]()


def exemptions() -> list[dict[str, str]]:
    found: list[dict[str, str]] = json.loads(EXEMPTIONS.read_text(encoding="utf-8"))
    return found


def exempt(kind: str) -> Names:
    return frozenset(row["name"] for row in exemptions() if row["kind"] == kind)


def missing(kind: str) -> Names:
    """What has neither."""
    return THINGS[kind]() - measured(kind) - exempt(kind)


# --- the contract ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", THINGS)
def test_everything_is_measured_or_says_why_not(kind: str) -> None:
    assert sorted(missing(kind)) == [], f"record a measurement, or say why there is none in {EXEMPTIONS.name}"


@pytest.mark.parametrize("kind", THINGS)
def test_exemptions_are_of_things_that_are_there_and_not_measured(kind: str) -> None:
    assert sorted(exempt(kind) - THINGS[kind]()) == [], "unknown names"
    assert sorted(exempt(kind) & measured(kind)) == [], "measured by now: take the exemption away"


def test_exemptions_are_rows_of_a_kind_a_name_and_a_reason() -> None:
    rows = exemptions()
    assert all(row.keys() == {"kind", "name", "reason"} for row in rows)
    assert {row["kind"] for row in rows} <= THINGS.keys()
    assert [(row["kind"], row["name"]) for row in rows] == sorted({(row["kind"], row["name"]) for row in rows})


def test_reasons_say_something_and_are_not_copied_for_all() -> None:
    reasons = Counter(row["reason"].strip() for row in exemptions())
    assert [reason for reason in reasons if len(reason) < SHORTEST] == []
    assert [reason for reason, count in reasons.items() if count > MOST] == []


def test_most_things_are_measured() -> None:
    counts = {kind: (len(things() & measured(kind)), len(things())) for kind, things in THINGS.items()}
    assert all(done >= 0.5 * of for done, of in counts.values()), counts
    assert sum(done for done, _ in counts.values()) >= 0.9 * sum(of for _, of in counts.values()), counts


# --- what is added without evidence fails ----------------------------------------------------------------------------


def test_a_reader_without_evidence_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(families._MODULES, "unmeasured", "gpt2")
    assert missing("reader") == {"unmeasured"}


def test_coefficients_without_evidence_fail(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    copy = tmp_path / "activations.jsonl"
    copy.write_text(ACTIVATIONS.read_text(encoding="utf-8") + '{"type": "unmeasured", "same_as": "llama"}\n')
    monkeypatch.setattr("tests.test_evidence.ACTIVATIONS", copy)
    assert missing("activations") == {"unmeasured"}


@pytest.mark.parametrize(
    ("kind", "module", "table"),
    [
        ("optimizer", optimizers, "OPTIMIZERS"),
        ("precision", precisions, "PRECISIONS"),
        ("stack", stacks, "STACKS"),
        ("layout", quantisers, "QUANTISERS"),
        ("recipe", recipes, "RECIPES"),
    ],
)
def test_a_row_without_evidence_fails(monkeypatch: pytest.MonkeyPatch, kind: str, module: Any, table: str) -> None:
    rows = getattr(module, table)
    monkeypatch.setattr(module, table, (*rows, replace(rows[0], name="unmeasured")))
    assert {name.partition(",")[0] for name in missing(kind)} == {"unmeasured"}


def test_a_release_without_evidence_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rules, "RULES", (*rules.RULES, replace(rules.RULES[-1], since=(9, 9))))
    assert missing("vllm release") == {"9.9"}


def test_an_architecture_without_a_graph_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(ROWS, "unmeasured", ROWS["llama"])
    assert "unmeasured" in missing("llama.cpp graph")


def test_an_engine_without_evidence_fails() -> None:
    with engines.registered(replace(engines.engines()[0], name="unmeasured", home="hfmem.engines.unmeasured.engine")):
        assert missing("engine") == {"unmeasured"}


@pytest.mark.parametrize("name", ["adamw", "no such one"])
def test_an_exemption_of_what_is_measured_or_unknown_fails(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    rows = [*exemptions(), {"kind": "optimizer", "name": name, "reason": "no GPU is here to run it on, they say"}]
    monkeypatch.setattr("tests.test_evidence.exemptions", lambda: rows)
    with pytest.raises(AssertionError):
        test_exemptions_are_of_things_that_are_there_and_not_measured("optimizer")


@pytest.mark.parametrize("reasons", [["  "], ["no time"], ["there is no machine here to run it on"] * (MOST + 1)])
def test_a_reason_that_says_nothing_or_is_copied_fails(monkeypatch: pytest.MonkeyPatch, reasons: list[str]) -> None:
    rows = [{"kind": "optimizer", "name": f"{number}", "reason": reason} for number, reason in enumerate(reasons)]
    monkeypatch.setattr("tests.test_evidence.exemptions", lambda: rows)
    with pytest.raises(AssertionError):
        test_reasons_say_something_and_are_not_copied_for_all()
