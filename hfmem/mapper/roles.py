"""What a tensor's role tells of it: what its matrix reads, and what engines do with such a tensor."""

from __future__ import annotations

from typing import Final, Literal

__all__ = [
    "Layout",
    "Packed",
    "Recurrent",
    "is_bias",
    "is_convolution",
    "is_positions",
    "layout_of",
    "leads_inward",
    "module_of",
    "packed_as",
    "reads_stream",
    "recurrent_part",
]

Packed = Literal["qkv", "gate_up", "qkv_a"]
Layout = Literal["mxfp4"]
Recurrent = Literal["recurrent_inputs", "recurrent_gates", "recurrent"]

_READERS: Final = ("q", "k", "v", "query", "key", "value", "up", "gate")
_INWARD: Final = ("gate_up_proj", "w1", "w3", "gate_proj", "up_proj", "input_linear")
_PACKED: Final[dict[str, Packed]] = {
    "q_proj": "qkv",
    "k_proj": "qkv",
    "v_proj": "qkv",
    "gate_proj": "gate_up",
    "up_proj": "gate_up",
    "q_a_proj": "qkv_a",
    "kv_a_proj_with_mqa": "qkv_a",
}


_POSITIONS: Final = ("wpe", "position_embeddings", "embed_positions", "positions_embed", "wpe.weight")


def module_of(role: str) -> str:
    """The module that a tensor belongs to: of a bias, that of its matrix."""
    return role.partition(".")[0]


def leads_inward(role: str) -> bool:
    """Whether a matrix of experts leads from the hidden size to their units."""
    return role in _INWARD


def reads_stream(role: str) -> bool:
    """Whether a module reads the residual stream: queries, keys, values, gates and their likes do."""
    return role.startswith(_READERS)


def packed_as(role: str) -> Packed | None:
    """Which matrix a serving engine makes of this one and the others that read the same input; None where it stays
    alone (`packed_modules_mapping` of vLLM's models)."""
    return _PACKED.get(role)


def is_bias(role: str) -> bool:
    """Whether it is what a layer adds, and not its matrix."""
    return role.endswith("bias")


def is_convolution(role: str) -> bool:
    """Whether it belongs to a convolution."""
    return "conv" in role


def is_sink(role: str) -> bool:
    """Whether it is a value a head that attention may attend to in place of a token."""
    return role.rpartition(".")[2] in ("sinks", "attn_sink", "attention_sink_bias")


def is_positions(role: str) -> bool:
    """Whether it is a table of one row a position."""
    return role in _POSITIONS


def layout_of(role: str, dtype: str | None) -> Layout | None:
    """A packed format that is told by how its tensors are called: MXFP4 keeps blocks and their scales as bytes."""
    return "mxfp4" if dtype == "U8" and role.endswith(("_blocks", "_scales")) else None


_RECURRENT_GATES: Final = ("in_proj_a", "in_proj_b", "in_proj_ba")
_RECURRENT_INPUTS: Final = ("in_proj_qkv", "in_proj_z", "in_proj_qkvz")


def recurrent_part(role: str) -> Recurrent:
    """What a matrix of a layer with a state does, as far as quantisers treat it apart: gates and decays have one output
    a head; inputs are queries, keys, values and the output's gate."""
    module = module_of(role)
    if module in _RECURRENT_GATES:
        return "recurrent_gates"
    return "recurrent_inputs" if module in _RECURRENT_INPUTS else "recurrent"
