"""How far training goes, by inverting the estimate: what is said fits, and the next does not."""

from __future__ import annotations

import random
import time
from dataclasses import replace
from functools import cache
from typing import Any, Final

import pytest

from hfmem import Model, inspect
from hfmem.advice.bisection import largest, last_within
from hfmem.advice.fit import Case, fewest, held
from hfmem.advice.solve import highest_rank, plans
from hfmem.api import report_on
from hfmem.engines.inference import estimate
from hfmem.errors import InvalidScenarioError
from hfmem.estimator.recipe.values import TrainingScenario
from hfmem.hardware.table import find
from hfmem.scenario.options import Options
from hfmem.scenario.trainers import batch_steps

MODELS: Final = (
    "meta-llama/Meta-Llama-3-8B",
    "meta-llama/Llama-3.1-70B-Instruct",
    "Qwen/Qwen3-8B",
    "mistralai/Mistral-7B-v0.1",
    "microsoft/phi-2",
    "google/gemma-3-1b-it",
    "openai-community/gpt2",
    "Qwen/Qwen3-30B-A3B",
    "allenai/OLMo-2-0325-32B",
)
CARDS: Final = ("RTX 4090", "H100", "L40S", "A100 40GB", "T4")
QUESTIONS: Final = ("batch", "seq", "rank", "gpus")
CASES: Final = 200
SECONDS: Final = 0.1
"""The issue's limit, for a case on an idle machine; a single one gets ten times that on a loaded one."""

model = cache(lambda name: inspect(name, offline=True))


def _asked(chance: random.Random, question: str) -> dict[str, Any]:
    """Options of a training run."""
    kind = chance.choice(("plain", "plain", "sft", "dpo", "kto", "grpo", "reward"))
    method = chance.choice(("lora", "qlora") if question == "rank" else ("full", "lora", "qlora"))
    asked: dict[str, Any] = {"train": method} if kind == "plain" else {"train": kind, "train_method": method}
    if method != "full":
        asked["lora_targets"] = ("all-linear",)
    asked["gradient_checkpointing"] = chance.choice((True, False))
    if kind != "grpo":
        asked["batch"] = chance.choice((2, 3, 4, 8))
    asked["seq"] = chance.choice((128, 777, 1024, 2048, 4096))
    if kind == "plain":
        asked["padding"] = chance.choice((True, False))
        asked["attention"] = chance.choice((None, "eager", "flash"))
        asked["optimizer"] = chance.choice((None, "adafactor", "adamw-8bit"))
    if question == "gpus":
        asked |= {"fsdp": True} if chance.random() < 0.5 else {"zero": chance.choice((2, 3))}
    return asked


def _holds(case: Case, **changed: Any) -> bool:
    """By a fresh estimate of fresh options."""
    other = Case.of(case.model, replace(case.options, **changed), case.machine)
    return held(estimate(case.model, other.scenario), other.scenario)


def _found(case: Case, question: str) -> int | None:
    if question == "batch":
        return case.max_batch()
    if question == "seq":
        return case.max_seq()
    return highest_rank(case) if question == "rank" else fewest(case.model, case.options, case.machine)


def _verify(case: Case, question: str, found: int | None) -> bool:
    """Whether the answer is one that says something."""
    if question == "gpus":
        if found is None:
            assert not _holds(case, gpus=None, dp=128)
            return False
        assert _holds(case, gpus=None, dp=found)
        assert found == 1 or not _holds(case, gpus=None, dp=found - 1)
        return True
    if found is None:
        return False
    least, step = batch_steps(case.options) if question == "batch" else (1, 1)
    option = {"batch": "batch", "seq": "seq", "rank": "lora_rank"}[question]
    architecture = case.model.architecture
    most = {"seq": architecture.max_positions, "rank": architecture.hidden_size}.get(question)
    assert found == 0 or _holds(case, **{option: found})
    assert found == most or not _holds(case, **{option: found + step if found else max(least, step)})
    return found > 0


def test_the_answer_fits_and_the_next_does_not() -> None:
    chance, asked, said, taken = random.Random(17), 0, 0, 0.0
    while asked < CASES:
        question = chance.choice(QUESTIONS)
        name, card = chance.choice(MODELS), chance.choice(CARDS)
        options = Options(**_asked(chance, question))
        try:
            case = Case.of(model(name), options, find(card))
        except InvalidScenarioError:
            continue
        if case.estimate(case.scenario).is_lower_bound:
            continue
        asked += 1
        started = time.process_time()
        found = _found(case, question)
        spent = time.process_time() - started
        assert spent < 10 * SECONDS
        taken += spent
        said += _verify(case, question, found)
    assert taken / asked < SECONDS
    assert said > CASES // 3  # not all of them are too large for these cards


def test_lines_find_what_halves_find() -> None:
    chance, tries = random.Random(3), 0
    for _ in range(2000):
        slope, square = chance.randint(1, 10**6), chance.choice((0, 0, chance.randint(1, 50)))
        start, room = chance.choice((0, 10**6)), chance.randint(-(10**6), 10**11)
        most = chance.choice((1, 10, 4096, 10**9))

        def excess(number: int, slope: int = slope, square: int = square, start: int = start, room: int = room) -> int:
            nonlocal tries
            tries += 1
            return max(slope * number + square * number**2 + start, 3 * start + slope * number // 2) - room

        found = last_within(excess, most)
        tried = tries
        assert found == largest(lambda number: excess(number) <= 0, most)  # called at once
        tries = tried
    assert tries < 8 * 2000


def test_a_step_function() -> None:
    assert last_within(lambda number: 1 if number > 617 else -1, 10**6) == 617
    assert last_within(lambda _: 1, 10**6) == 0
    assert last_within(lambda _: -1, 10**6) == 10**6


@pytest.mark.parametrize(
    ("options", "best"),
    [
        ({"train": "full", "seq": 2048}, "lora"),
        ({"train": "dpo", "train_method": "qlora", "seq": 2048}, "qlora"),
        ({"train": "sft"}, "qlora"),
    ],
)
def test_the_best_plan_fits_as_its_option_says(options: dict[str, Any], best: str) -> None:
    llama: Model = model("meta-llama/Meta-Llama-3-8B")
    found = {plan.best: plan for plan in plans(llama, Options(**options), find("RTX 4090"))}
    plan = found[True]
    assert plan.method == best
    assert plan.total <= plan.usable
    words = plan.option.split()
    changed = dict(options)
    for word, value in zip(words, [*words[1:], ""], strict=False):
        if word in ("--train", "--train-method"):
            changed[word[2:].replace("-", "_")] = value
        elif word.endswith("gradient-checkpointing"):
            changed["gradient_checkpointing"] = not word.startswith("--no")
    report = report_on(llama, Options(**changed, batch=plan.batch, gpu=("RTX 4090",)))
    assert isinstance(report.scenario, TrainingScenario)
    assert report.estimate.total == plan.total
    assert report.fits[0].fits


def test_batches_of_whole_groups() -> None:
    llama = model("meta-llama/Meta-Llama-3-8B")
    options = Options(train="grpo", train_method="qlora", seq=1024, gpus=2)
    assert batch_steps(options) == (4, 4)
    found = Case.of(llama, options, find("H100")).max_batch()
    assert found is not None
    assert found > 0
    assert found % 4 == 0
