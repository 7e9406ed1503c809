"""An engine of this module alone: one class, its options and a row; everything that hfmem answers has it then."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Final

import pytest

import hfmem
from hfmem.cli import app
from hfmem.engines.protocol import Engine, Found, RankMemory, Suggestions
from hfmem.engines.table import EngineRow, registered
from hfmem.engines.transformers.split import RULES
from hfmem.estimator.cache.sizes import CacheSize
from hfmem.estimator.parallel import Parallel
from hfmem.estimator.scenario import Scenario
from hfmem.estimator.serving import Serving
from hfmem.estimator.split.check import check_split
from hfmem.estimator.split.stages import Stage
from hfmem.estimator.values import Estimate, Loading, Margin, Term, total_of
from hfmem.estimator.weights.kept import Kept, kept_plainly
from hfmem.estimator.weights.loaded import weight_terms
from hfmem.hardware.table import find
from hfmem.hardware.values import Accelerator
from hfmem.mapper.interpret import Model
from hfmem.mapper.values import Architecture
from hfmem.options.option import Option

LLAMA: Final = "meta-llama/Llama-2-7b-hf"
GIB: Final = 2**30
COUNT: Final = 6_738_415_616


@dataclass(frozen=True, kw_only=True, init=False, repr=False, eq=False)
class AbacusOptions:
    """What only the abacus takes."""

    beads: Annotated[int, Option(help="Bytes per token", panel="Abacus", least=1, most=10**6)] = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """The abacus's choices."""

    beads: int
    chosen: tuple[str, ...] = ()

    def describe(self) -> str:
        return f"an abacus of {self.beads} beads"

    def fields(self) -> dict[str, Any]:
        return {"beads": self.beads}


class Abacus:
    """It plans with half of a card, takes a GiB for its frame, and keeps `beads` bytes per token."""

    title = "Abacus"
    split = RULES
    profiled = False
    suggestions = Suggestions(dtypes=("int8",))

    def check_split(self, architecture: Architecture, parallel: Parallel) -> None:
        check_split(architecture, parallel, self.split)

    def run_dtype(
        self, dtype: str | None, architecture: Architecture, gpu: Accelerator | None
    ) -> tuple[str | None, str]:
        return "float32", "an abacus has no halves"

    def settings(self, options: object, gpu: Accelerator | None, length: int) -> Settings:
        assert isinstance(options, AbacusOptions)
        return Settings(beads=options.beads)

    def kept(self, model: Model, scenario: Scenario) -> tuple[Kept, ...]:
        return kept_plainly(model, scenario)

    def weights(self, model: Model, scenario: Scenario) -> Found:
        terms, unknown = weight_terms(model, scenario, self.kept(model, scenario)[0])
        return Found(terms=tuple(terms), unknown=tuple(unknown))

    def layout(self, model: Model, scenario: Scenario) -> object:
        return len(model.architecture.layers or ())

    def cache(self, model: Model, layout: object, scenario: Scenario) -> CacheSize:
        assert isinstance(scenario.serving, Settings)
        assert layout == 32
        each = scenario.serving.beads
        return CacheSize(
            terms=(term("beads", "kv_cache", scenario.batch * scenario.seq * each),), per_token=each, fixed=0
        )

    def activations(self, model: Model, scenario: Scenario, stage: Stage) -> Found:
        return Found(terms=(term("fingers", "activations", 0),))

    def overhead(self, model: Model, scenario: Scenario) -> Found:
        return Found(terms=(term("frame", "overhead", GIB),))

    def refused(self, model: Model, scenario: Scenario) -> str:
        return "its wires are short" if scenario.seq > 2048 else ""

    def loading(self, model: Model, scenario: Scenario, weights: int) -> Loading | None:
        return None

    def margin(self, estimate: Estimate, scenario: Scenario) -> Margin:
        return Margin(nbytes=GIB, why="beads roll away", source="this test")

    def usable(self, terms: Sequence[Term], scenario: Scenario) -> int:
        return scenario.available // 2

    def serving(self, ranks: Sequence[RankMemory], scenario: Scenario, model: Model) -> Serving | None:
        if scenario.gpu is None:
            return None
        pool = self.usable((), scenario) - total_of(term for term in ranks[0].terms if term.group != "kv_cache")
        return Serving(kv_pool=pool, kv_tokens=pool // 1000, max_concurrency=1.0, command="abacus serve")

    def notes(self, model: Model, scenario: Scenario) -> tuple[str, ...]:
        return ("Counted by hand.",)


def term(name: str, group: Any, nbytes: int) -> Term:
    return Term(name=name, group=group, nbytes=nbytes, how="by hand", source="this test", certainty="derived")


ENGINE: Engine = Abacus()


@pytest.fixture(autouse=True)
def abacus() -> Iterator[None]:
    row = EngineRow(name="abacus", title="Abacus", options=AbacusOptions, home=__name__)
    with registered(row):
        yield


def test_python_asks_it() -> None:
    report = hfmem.estimate(LLAMA, runtime="abacus", beads=500, batch=2, seq=100, offline=True)
    assert report.estimate.group("weights") == 4 * COUNT
    assert report.estimate.group("kv_cache") == 2 * 100 * 500
    assert report.estimate.group("overhead") == GIB
    assert report.estimate.kv_cache_per_token == 500
    assert "Counted by hand." in report.notes
    assert "--dtype float32: an abacus has no halves." in report.notes


def test_fit_inverts_its_estimate() -> None:
    report = hfmem.estimate(LLAMA, runtime="abacus", gpu="H100", offline=True, seq=1024)
    (fit,) = report.fits
    assert fit.usable == find("H100").accelerator.memory // 2
    assert fit.fits
    free = fit.usable - 4 * COUNT - GIB
    assert fit.max_batch == free // (1024 * 1000)
    assert fit.max_seq == 2048  # the engine's own limit
    assert not fit.tight


def test_it_refuses_for_its_own_reason() -> None:
    report = hfmem.estimate(LLAMA, runtime="abacus", gpu="H100", offline=True, seq=2049)
    (fit,) = report.fits
    assert (fit.fits, fit.refused, fit.max_batch) == (False, "its wires are short", 0)
    assert report.estimate.serving is not None
    assert (report.estimate.serving.refused, report.estimate.serving.command) == ("its wires are short", None)
    assert [row.option for row in report.advice if row.fits] == ["--seq 2048"]


def test_its_margin_makes_a_fit_tight() -> None:
    asked = {"runtime": "abacus", "gpu": "H100", "offline": True, "seq": 1024}
    plain = hfmem.estimate(LLAMA, **asked)
    (fit,) = plain.fits
    close = hfmem.estimate(LLAMA, **asked, batch=fit.max_batch)
    (tight,) = close.fits
    assert (tight.fits, tight.tight) == (True, True)
    assert tight.headroom is not None
    assert tight.headroom < GIB


def test_advice_is_its_own() -> None:
    report = hfmem.estimate(LLAMA, runtime="abacus", gpu="RTX 4090", offline=True, seq=2048)
    (fit,) = report.fits
    assert fit.fits is False
    assert fit.gpus_needed is not None
    advice = {row.option: row for row in report.advice}
    assert advice["--dtype int8"].fits
    assert not any("nf4" in option or "--kv-dtype" in option for option in advice)


@pytest.fixture
def answered(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Any:
    def run(*line: str) -> tuple[int, str]:
        monkeypatch.setattr(sys, "argv", ["hfmem", *line])
        with pytest.raises(SystemExit) as left:
            app()
        return int(left.value.code or 0), capsys.readouterr().out

    return run


def test_the_command_line_asks_it(answered: Any) -> None:
    line = (LLAMA, "--offline", "--runtime", "abacus", "--beads", "10", "--seq", "1000", "--gpu", "H100")
    code, out = answered(*line, "--format", "json")
    (result,) = json.loads(out)["results"]
    assert code == 0
    assert result["memory"]["kv_cache"] == 10_000
    assert result["scenario"]["beads"] == 10
    assert result["serving"]["command"] == "abacus serve"
    assert result["fit"][0]["fits"] is True
    code, card = answered(*line)
    assert "an abacus of 10 beads, 1 × H100 80GB" in card
    assert "abacus serve" in card


def test_require_fit_and_its_options_alone(answered: Any) -> None:
    line = (LLAMA, "--offline", "--gpu", "RTX 4090", "--seq", "2048", "--require-fit")
    assert answered(*line, "--runtime", "abacus")[0] == 3
    assert answered(*line)[0] == 0
    assert answered(*line, "--beads", "10")[0] == 2  # an option of another engine
    assert "--beads" in answered("--help-for", "abacus")[1]
