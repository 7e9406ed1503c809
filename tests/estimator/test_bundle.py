"""Several models that run as one: what stays adds up, what passes is the largest, what the process has counts once."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

import hfmem
from hfmem.errors import InvalidScenarioError
from hfmem.estimator.bundle import combined
from hfmem.estimator.values import GROUPS, Estimate, Rank, Term
from hfmem.mapper.bundle import Bundle
from hfmem.report.formats import FORMATS, Style, render
from hfmem.report.result import to_result

TARGET, DRAFT = "Qwen/Qwen3-8B", "Qwen/Qwen3-0.6B"
ASKED = {"batch": 2, "seq": 3000}


@pytest.fixture(scope="module")
def pair() -> Bundle:
    models = tuple(hfmem.inspect(name, offline=True) for name in (TARGET, DRAFT))
    return Bundle(kind="speculative", models=models, roles=("target", "draft"))


def test_a_draft_beside_its_target(pair: Bundle) -> None:
    both = hfmem.estimate(pair, **ASKED)
    target, draft = (hfmem.estimate(model, **ASKED).estimate for model in pair.models)
    found = both.estimate
    for group in ("weights", "kv_cache"):
        assert found.group(group) == (target.group(group) or 0) + (draft.group(group) or 0)
    assert found.group("activations") == max(target.group("activations") or 0, draft.group("activations") or 0)
    assert found.group("overhead") == target.group("overhead") == draft.group("overhead")
    assert found.total == sum(found.group(group) or 0 for group in GROUPS)
    assert found.kv_cache_per_token == (target.kv_cache_per_token or 0) + (draft.kv_cache_per_token or 0)
    names = [term.name for term in found.terms]
    assert {"target: attention", "draft: attention", "CUDA context"} <= set(names)
    assert len(set(names)) == len(names)


def test_the_report_of_a_bundle(pair: Bundle) -> None:
    report = hfmem.estimate(pair, **ASKED)
    assert report.models == pair.models
    totals = [model.parameters.total for model in pair.models if model.parameters]
    result = to_result(report)
    assert result["model"] == TARGET
    assert result["parameters"]["total"] == sum(totals) == sum(result["parameters"]["by_component"].values())
    assert result["memory"]["total"] == sum(term["bytes"] for term in result["terms"])
    assert result["download"]["bytes"] == sum(
        to_result(hfmem.estimate(model))["download"]["bytes"] for model in pair.models
    )
    style = Style(explain=True, width=80)
    assert all(render(name, [report], [], style) for name in FORMATS)


def test_all_models_run_at_the_length_of_the_first(pair: Bundle) -> None:
    short = hfmem.inspect("openai-community/gpt2", offline=True)
    found = hfmem.estimate(Bundle(kind="speculative", models=(short, pair.models[1]), roles=("target", "draft")))
    alone = hfmem.estimate(pair.models[1], seq=1024)
    assert found.scenario.seq == 1024
    caches = [
        term.nbytes for term in found.estimate.terms if term.name.startswith("draft: ") and term.group == "kv_cache"
    ]
    assert sum(caches) == alone.estimate.group("kv_cache")


def test_one_model_is_a_bundle_of_one(pair: Bundle) -> None:
    alone = Bundle.of(pair.first)
    assert (alone.kind, alone.roles) == ("model", ("model",))
    assert to_result(hfmem.estimate(alone, **ASKED)) == to_result(hfmem.estimate(pair.first, **ASKED))


@pytest.mark.parametrize("runtime", ["transformers", "vllm"])
def test_on_several_gpus_each_holds_its_part_of_each_model(pair: Bundle, runtime: str) -> None:
    asked = {**ASKED, "runtime": runtime, "tp": 2}
    found = hfmem.estimate(pair, **asked).estimate
    alone = [hfmem.estimate(model, **asked).estimate for model in pair.models]
    assert sorted(number for rank in found.ranks for number in rank.ranks) == [0, 1]
    assert found.total == max(rank.total for rank in found.ranks)
    assert found.group("weights") == sum(estimate.group("weights") or 0 for estimate in alone)
    once = {term.name for term in found.terms if term.group == "overhead"}
    assert once == {term.name for estimate in alone for term in estimate.terms if term.group == "overhead"}


@pytest.mark.parametrize("asked", [{"train": "full"}, {"gpu": ("H100",)}])
def test_what_is_not_known_of_several_models_is_refused(pair: Bundle, asked: dict[str, object]) -> None:
    with pytest.raises(InvalidScenarioError, match="several that run as one"):
        hfmem.estimate(pair, **asked)


def test_bundles_that_are_none(pair: Bundle) -> None:
    for roles in (("target",), ("same", "same")):
        with pytest.raises(ValueError, match="role"):
            Bundle(kind="speculative", models=pair.models, roles=roles)
    with pytest.raises(ValueError, match="one role per model"):
        Bundle(kind="pipeline", models=(), roles=())


# The sums themselves, on estimates of any content

terms = st.builds(
    Term,
    name=st.sampled_from(["attention", "peak", "CUDA context", "NCCL"]),
    group=st.sampled_from(GROUPS),
    nbytes=st.integers(0, 10**12),
    how=st.just(""),
    source=st.just(""),
    certainty=st.just("exact"),
)
alone = st.builds(
    Estimate, terms=st.lists(terms, max_size=6).map(tuple), kv_cache_per_token=st.none() | st.integers(0, 9)
)


@given(st.dictionaries(st.sampled_from(["a", "b", "c"]), alone, min_size=2))
def test_together_they_need_no_less_than_each_and_no_more_than_all(estimates: dict[str, Estimate]) -> None:
    found = combined(estimates)
    assert sum(found.group(group) or 0 for group in GROUPS) == found.total
    assert found.total <= sum(estimate.total for estimate in estimates.values())
    for estimate in estimates.values():
        for group in ("weights", "kv_cache", "activations", "temporary"):
            assert (found.group(group) or 0) >= (estimate.group(group) or 0)
    known = [estimate.kv_cache_per_token for estimate in estimates.values()]
    assert found.kv_cache_per_token == (None if None in known else sum(number or 0 for number in known))


def test_only_what_is_loaded_counts_and_reasons_have_their_role(pair: Bundle) -> None:
    target, draft = (hfmem.estimate(model, **ASKED).estimate for model in pair.models)
    vague = replace(draft, unknown=(("activations", "nobody measured it"),))
    found = combined({"target": target, "draft": vague})
    assert found.unknown == (("activations", "draft: nobody measured it"),)
    assert found.is_lower_bound
    only = combined({"target": target, "draft": vague}, loaded={"draft"})
    assert only.group("weights") == draft.group("weights")
    with pytest.raises(ValueError, match="no model is loaded"):
        combined({"target": target}, loaded=())


def test_a_model_on_one_gpu_beside_one_that_is_split() -> None:
    def term(nbytes: int) -> Term:
        return Term(name="attention", group="weights", nbytes=nbytes, how="", source="", certainty="exact")

    split = Estimate(terms=(term(10),), ranks=(Rank(ranks=(0, 1), terms=(term(10),)),))
    found = combined({"target": split, "draft": Estimate(terms=(term(3),))})
    assert [(rank.ranks, rank.total) for rank in found.ranks] == [((0,), 13), ((1,), 10)]
    assert found.total == 13
