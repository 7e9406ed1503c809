"""Defaults and rules of vLLM's releases against the source of each, as recorded in `fixtures/oracle/vllm_releases.json`
and, where marked, as published on PyPI."""

from __future__ import annotations

import json
import re
from itertools import pairwise
from typing import Any

import pytest

from hfmem.engines.vllm.releases import DEFAULT, RELEASES, read_of, sizes_of
from hfmem.engines.vllm.rules import rules_of
from hfmem.engines.vllm.serving import MARGIN
from hfmem.engines.vllm.states import CLASSES
from hfmem.hardware.table import accelerators
from hfmem.units import MIB
from tests.oracle.vllm_releases import FACTS, TABLE, applies, number, published, read, wheel_of

RECORDED: dict[str, dict[str, Any]] = json.loads(TABLE.read_text(encoding="utf-8"))

SAME = frozenset(RELEASES[0].__dataclass_fields__) & frozenset(FACTS) - {"tiers"}
"""Facts that are fields of a row."""

READ_AGAIN = (
    *("0.6.0", "0.6.5", "0.8.2", "0.8.4", "0.8.5", "0.9.2", "0.10.1", "0.11.1", "0.15.0"),
    *("0.19.1", "0.20.0", "0.24.0", "0.27.1", "0.28.0", "0.30.0", "0.33.0"),
)
"""Releases whose source is read again from PyPI: the first of most rows, and some that are used much."""


def test_every_field_of_a_row_is_read() -> None:
    assert SAME | {"since", "tiers"} == frozenset(RELEASES[0].__dataclass_fields__)


def test_every_row_and_every_minor_release_was_read() -> None:
    assert {f"{row.since[0]}.{row.since[1]}" for row in RELEASES} <= {
        version.rpartition(".")[0] for version in RECORDED
    } | {"0.6", "0.8"}
    minors = {number(version)[1] for version in RECORDED}
    assert minors == set(range(6, int(DEFAULT.partition(".")[2]) + 1)) - {5}


@pytest.mark.parametrize("version", RECORDED)
def test_rules_are_those_of_the_source(version: str) -> None:
    found, row = RECORDED[version], read_of(version)
    ours = {name: getattr(row, name) for name in SAME}
    assert {name: list(value) if isinstance(value, tuple) else value for name, value in ours.items()} == {
        name: found[name] for name in SAME
    }
    rules = rules_of(version)
    assert (rules.sampler, rules.keeps_workspaces) == (found["sampler"], found["keeps_workspaces"])
    assert not found["margin"] or found["margin"] * MIB == MARGIN.nbytes


@pytest.mark.parametrize("version", RECORDED)
def test_default_sizes_are_those_of_the_source(version: str) -> None:
    """On every accelerator; on cards that run the first engine under a release that has both, its sizes are another
    release's (`test_cards_of_the_first_engine`)."""
    row, branches = read_of(version), RECORDED[version]["tiers"]
    cards = [gpu for gpu in accelerators() if gpu.kind != "cpu" and gpu.vendor in ("nvidia", "amd")]
    assert len(cards) > 50
    for gpu in cards:
        if row.first_below and gpu.vendor == "nvidia" and float(gpu.compute_capability) < row.first_below:
            continue
        seqs, tokens = next((seqs, tokens) for condition, seqs, tokens in branches if applies(condition, gpu))
        assert sizes_of(row, gpu, 1024) == (seqs, tokens), gpu.name


@pytest.mark.parametrize("version", RECORDED)
def test_classes_are_those_of_the_source(version: str) -> None:
    found = RECORDED[version]
    known = set(found["known_classes"])
    if "all" in found["modes"]:
        assert {name for name in known if CLASSES[name].every_mode} == set(found["every_mode"])
    row = read_of(version)
    reads = {"configured": row.qwen, "defaulted": bool(row.nemotron), "nested": row.nemotron_nested}
    ours = {name for name in known if reads.get(CLASSES[name].own_dtype)}
    assert ours == known & set(found["own_dtypes"])


def test_rows_begin_where_the_source_changes() -> None:
    """Between two releases that were read, a row begins only where a fact differs, and where none differs there is no
    row."""
    versions = sorted(RECORDED, key=number)
    for older, newer in pairwise(versions):
        differs = any(RECORDED[older][name] != RECORDED[newer][name] for name in (*SAME, "tiers"))
        assert differs == (read_of(older) is not read_of(newer)), (older, newer)


@pytest.mark.pypi
@pytest.mark.parametrize("version", READ_AGAIN)
def test_the_record_is_what_is_published(version: str) -> None:
    assert json.loads(json.dumps(read(published(version)))) == RECORDED[version]


@pytest.mark.pypi
def test_the_default_is_what_pip_installs() -> None:
    newest = re.search(r"/vllm-([\d.]+)", wheel_of(""))
    assert newest is not None
    assert newest[1].startswith(f"{DEFAULT}.")
