"""What follows from a tensor's role."""

from __future__ import annotations

import pytest

from hfmem.mapper.values import ParameterTable, TensorGroup


def group(role: str, *shape: int, component: str = "attention", dtype: str = "BF16") -> TensorGroup:
    return TensorGroup(
        component=component,
        role=role,
        shape=shape or (8, 8),
        count=1,
        dtype=dtype,
        stored_bytes=None,
        parameters=64,
        active=64,
    )


@pytest.mark.parametrize(
    ("role", "module", "bias", "reads_stream", "packed_as"),
    [
        ("q_proj", "q_proj", False, True, "qkv"),
        ("v_proj", "v_proj", False, True, "qkv"),
        ("q_proj.bias", "q_proj", True, True, None),  # it is added to what the packed matrix gives
        ("q_a_proj", "q_a_proj", False, True, "qkv_a"),
        ("kv_a_proj_with_mqa", "kv_a_proj_with_mqa", False, True, "qkv_a"),
        ("up_proj", "up_proj", False, True, "gate_up"),
        ("query_key_value", "query_key_value", False, True, None),
        ("o_proj", "o_proj", False, False, None),
        ("down_proj", "down_proj", False, False, None),
        ("dense.bias", "dense", True, False, None),
    ],
)
def test_a_matrix_of_the_layers(role: str, module: str, bias: bool, reads_stream: bool, packed_as: str | None) -> None:
    found = group(role)
    assert (found.module, found.bias, found.reads_stream, found.packed_as) == (module, bias, reads_stream, packed_as)


@pytest.mark.parametrize(
    ("role", "inward"), [("gate_up_proj", True), ("w1", True), ("w2", False), ("down_proj", False)]
)
def test_experts_lead_in_and_out(role: str, inward: bool) -> None:
    assert group(role, 4, 8, 8, component="experts").inward is inward


@pytest.mark.parametrize(
    ("role", "dtype", "layout"),
    [
        ("gate_up_proj_blocks", "U8", "mxfp4"),
        ("down_proj_scales", "U8", "mxfp4"),
        ("gate_up_proj_blocks", "BF16", None),
        ("gate_up_proj", "U8", None),
    ],
)
def test_a_packed_format_is_told_by_names_and_dtype(role: str, dtype: str, layout: str | None) -> None:
    assert group(role, component="experts", dtype=dtype).layout == layout


@pytest.mark.parametrize(
    ("role", "shape", "component", "width"),
    [
        ("conv1d", (64, 1, 4), "state", 4),
        ("conv1d.bias", (64,), "state", None),
        ("in_proj", (64, 8, 4), "state", None),
        ("conv1", (64, 80, 3), "audio", None),
    ],
)
def test_the_width_of_a_states_convolution(
    role: str, shape: tuple[int, ...], component: str, width: int | None
) -> None:
    assert ParameterTable(groups=(group(role, *shape, component=component),)).conv_kernel == width
