"""Headers are read from untrusted bytes: right, or refused with a sentence."""

from __future__ import annotations

import contextlib
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hfmem.errors import InvalidHeaderError
from hfmem.fetcher.formats.safetensors import MAX_HEADER, header_length, parse_header
from hfmem.fetcher.tensors import size_mismatches

ENTRY = {"dtype": "BF16", "shape": [2, 3], "data_offsets": [0, 12]}


def prefix(length: int) -> bytes:
    return length.to_bytes(8, "little")


@pytest.mark.parametrize("length", [2, 100, 99_993, 100_001, MAX_HEADER])
def test_possible_lengths(length: int) -> None:
    assert header_length(prefix(length), "model.safetensors") == length


@pytest.mark.parametrize("length", [0, 1, MAX_HEADER + 1, 2**63, 2**64 - 1])
def test_impossible_lengths_are_refused(length: int) -> None:
    with pytest.raises(InvalidHeaderError, match=r"model\.safetensors (states|is)"):
        header_length(prefix(length), "model.safetensors")


@given(st.binary(max_size=7))
def test_short_prefixes_are_refused(content: bytes) -> None:
    with pytest.raises(InvalidHeaderError, match="too short"):
        header_length(content, "a.safetensors")


def test_the_limit_is_the_clients() -> None:
    from huggingface_hub import constants

    assert constants.SAFETENSORS_MAX_HEADER_LENGTH == MAX_HEADER


def test_tensors_and_metadata() -> None:
    header = {
        "__metadata__": {"format": "pt"},
        "a": ENTRY,
        "b": {"dtype": "F32", "shape": [], "data_offsets": [12, 16]},
    }
    contents = parse_header(json.dumps(header).encode(), "model.safetensors")
    first, second = contents.tensors
    assert contents.metadata == {"format": "pt"}
    assert (first.name, first.dtype, first.shape, first.nbytes, first.elements) == ("a", "BF16", (2, 3), 12, 6)
    assert (second.shape, second.elements, second.nbytes) == ((), 1, 4)
    assert size_mismatches((first, second)) == ()


def test_a_size_that_is_not_shape_times_dtype_is_found() -> None:
    (odd,) = parse_header(json.dumps({"a": ENTRY | {"data_offsets": [0, 13]}}).encode(), "x").tensors
    assert size_mismatches((odd,)) == (odd,)


def test_an_unknown_dtype_keeps_its_bytes() -> None:
    (strange,) = parse_header(json.dumps({"a": ENTRY | {"dtype": "F3_NEW"}}).encode(), "x").tensors
    assert strange.nbytes == 12
    assert size_mismatches((strange,)) == ()


@pytest.mark.parametrize(
    "entry",
    [
        None,
        [],
        "BF16",
        {},
        ENTRY | {"dtype": 3},
        ENTRY | {"shape": "2,3"},
        ENTRY | {"shape": [2, -3]},
        ENTRY | {"shape": [True, 3]},
        ENTRY | {"shape": [2.0, 3]},
        ENTRY | {"data_offsets": [0]},
        ENTRY | {"data_offsets": [12, 0]},
        ENTRY | {"data_offsets": [-1, 12]},
        ENTRY | {"data_offsets": [0, True]},
        ENTRY | {"data_offsets": None},
    ],
)
def test_impossible_entries_are_refused_by_name(entry: object) -> None:
    with pytest.raises(InvalidHeaderError, match=r"'weight"):
        parse_header(json.dumps({"weight": entry}).encode(), "model.safetensors")


@given(st.binary(max_size=200))
def test_any_bytes_are_read_or_refused(content: bytes) -> None:
    with contextlib.suppress(InvalidHeaderError):
        parse_header(content, "model.safetensors")


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda children: st.lists(children, max_size=3) | st.dictionaries(st.text(max_size=5), children, max_size=3),
    max_leaves=8,
)


@given(st.dictionaries(st.text(max_size=5), json_values, max_size=3))
def test_any_json_is_read_or_refused(header: object) -> None:
    with contextlib.suppress(InvalidHeaderError):
        parse_header(json.dumps(header).encode(), "model.safetensors")


def test_deeply_nested_json_is_refused() -> None:
    with pytest.raises(InvalidHeaderError, match="not JSON"):
        parse_header(b"[" * 100_000, "model.safetensors")
