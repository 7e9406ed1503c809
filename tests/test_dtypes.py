"""Number formats take the bytes that their own software says."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hfmem.dtypes import BLOCK_DTYPES, DTYPES, KV_DTYPES, RUN_DTYPES, Dtype, canonical, find_dtype, stored_dtype

ROWS = (*DTYPES, *BLOCK_DTYPES)
any_row = st.sampled_from(ROWS)

# name, elements of a block, its bytes: the sizes that ggml asserts of its structs, and that a GGUF file of the real
# llama-quantize has (ggml 0.5.0, `ggml_blck_size` and `ggml_type_size`)
GGML = [
    ("Q1_0", 128, 18),
    ("Q2_0", 64, 18),
    ("Q4_0", 32, 18),
    ("Q4_1", 32, 20),
    ("Q5_0", 32, 22),
    ("Q5_1", 32, 24),
    ("Q8_0", 32, 34),
    ("Q8_1", 32, 36),
    ("Q2_K", 256, 84),
    ("Q3_K", 256, 110),
    ("Q4_K", 256, 144),
    ("Q5_K", 256, 176),
    ("Q6_K", 256, 210),
    ("Q8_K", 256, 292),
    ("IQ1_S", 256, 50),
    ("IQ1_M", 256, 56),
    ("IQ2_XXS", 256, 66),
    ("IQ2_XS", 256, 74),
    ("IQ2_S", 256, 82),
    ("IQ3_XXS", 256, 98),
    ("IQ3_S", 256, 110),
    ("IQ4_NL", 32, 18),
    ("IQ4_XS", 256, 136),
    ("TQ1_0", 256, 54),
    ("TQ2_0", 256, 66),
    ("MXFP4", 32, 17),
    ("NVFP4", 64, 36),
]

# name in a safetensors header, bits: the table of the library (0.8)
SAFETENSORS = [
    *(("F64", 64), ("F32", 32), ("F16", 16), ("BF16", 16), ("C64", 64)),
    *(("F8_E4M3", 8), ("F8_E5M2", 8), ("F8_E8M0", 8), ("F8_E4M3FNUZ", 8), ("F8_E5M2FNUZ", 8)),
    *(("F6_E2M3", 6), ("F6_E3M2", 6), ("F4", 4)),
    *(("I64", 64), ("I32", 32), ("I16", 16), ("I8", 8), ("U64", 64), ("U32", 32), ("U16", 16), ("U8", 8), ("BOOL", 8)),
    ("I4", 4),
]


@pytest.mark.parametrize(("name", "block", "nbytes"), GGML)
def test_blocks_are_those_of_ggml(name: str, block: int, nbytes: int) -> None:
    row = stored_dtype(name.lower())
    assert row is not None
    assert (row.name, row.block, row.nbytes(block), row.kind) == (name, block, nbytes, "block")
    assert row.bytes_each == Fraction(nbytes, block)


@pytest.mark.parametrize(("name", "bits"), SAFETENSORS)
def test_plain_formats_are_those_of_safetensors(name: str, bits: int) -> None:
    row = stored_dtype(name)
    assert row is not None
    assert row is find_dtype(name)
    assert (row.block, row.nbytes(8), row.bytes_each) == (1, bits, Fraction(bits, 8))


def test_every_row_has_an_expectation() -> None:
    assert {row.name for row in BLOCK_DTYPES} == {name for name, _, _ in GGML}
    assert {row.safetensors for row in DTYPES if row.safetensors is not None} == {name for name, _ in SAFETENSORS}
    assert len({row.name.lower() for row in ROWS}) == len(ROWS)


@given(row=any_row, blocks=st.integers(0, 10**12))
def test_whole_blocks_take_exactly_their_bytes(row: Dtype, blocks: int) -> None:
    elements = 8 * row.block * blocks
    assert row.nbytes(elements) == elements * row.bytes_each


@given(row=any_row, elements=st.integers(0, 10**15), more=st.integers(0, 10**4))
def test_more_elements_never_take_less_and_none_is_lost(row: Dtype, elements: int, more: int) -> None:
    nbytes = row.nbytes(elements)
    assert nbytes <= row.nbytes(elements + more)
    assert elements * row.bytes_each <= nbytes < elements * row.bytes_each + row.nbytes(row.block) + 1
    assert row.nbytes(0) == 0


def test_a_q4_k_matrix() -> None:
    """blk.0.ffn_down.weight of Llama-3.1-8B: 14,336 × 4,096 in blocks of 256 along a row."""
    row = stored_dtype("Q4_K")
    assert row is not None
    assert row.nbytes(14336 * 4096) == 14336 // 256 * 144 * 4096 == 33_030_144


def test_wide_floats() -> None:
    assert {row.name for row in ROWS if row.is_wide_float} == {"float64", "float32", "bfloat16", "float16"}


@pytest.mark.parametrize("row", BLOCK_DTYPES, ids=lambda row: row.name)
def test_a_block_format_is_no_dtype_to_run_in(row: Dtype) -> None:
    assert find_dtype(row.name) is None
    assert canonical(row.name) not in (*RUN_DTYPES, *KV_DTYPES)
