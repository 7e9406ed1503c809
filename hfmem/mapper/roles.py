"""Properties that follow from a tensor's role: its module's input, and how engines fuse or treat it."""

from __future__ import annotations

from typing import Final, Literal

__all__ = [
    "Layout",
    "Packed",
    "Recurrent",
    "component_of",
    "is_bias",
    "is_convolution",
    "is_positions",
    "layout_of",
    "leads_inward",
    "module_of",
    "packed_as",
    "projects",
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
    """The module to which a tensor belongs; for a bias, that of its weight."""
    return role.partition(".")[0]


_InLayer = Literal["norm", "embedding", "lm_head", "router", "mlp", "attention", "other"]
_IN_LAYER: Final[dict[str, _InLayer]] = {
    **dict.fromkeys(("eh_proj", "enorm", "hnorm"), "other"),  # nn.Linear and norms, on every rank
    **dict.fromkeys(("gate", "router", "shared_expert_gate", "e_score_correction_bias"), "router"),
    **dict.fromkeys((*_INWARD, "down_proj", "w2", "output_linear", "fc"), "mlp"),
    **dict.fromkeys(("embed_tokens", "embedding"), "embedding"),
    **dict.fromkeys(("head", "lm_head"), "lm_head"),
}


def component_of(role: str) -> _InLayer:
    """The component of a tensor in a decoder's layer, or in one that predicts, from its role alone; those of experts
    have the roles of an MLP's."""
    module = module_of(role).removesuffix("_blocks").removesuffix("_scales")
    if module not in _IN_LAYER and "norm" in module:
        return "norm"
    return _IN_LAYER.get(module, "attention")


def leads_inward(role: str) -> bool:
    """Whether an expert matrix is a gate or up projection."""
    return role in _INWARD


def reads_stream(role: str) -> bool:
    """Whether a module reads the residual stream: query, key, value, gate and up projections."""
    return role.startswith(_READERS)


def packed_as(role: str) -> Packed | None:
    """The fused matrix that serving engines build of this one and others with the same input; None if it is not fused
    (`packed_modules_mapping` of vLLM's models)."""
    return _PACKED.get(role)


def is_bias(role: str) -> bool:
    """Whether it is a bias."""
    return role.endswith("bias")


def is_convolution(role: str) -> bool:
    """Whether it belongs to a convolution."""
    return "conv" in role


def is_sink(role: str) -> bool:
    """Whether it is an attention sink: a learned logit per head."""
    return role.rpartition(".")[2] in ("sinks", "attn_sink", "attention_sink_bias")


def projects(role: str) -> Literal["keys", "values", ""]:
    """What the separate projection of an attention layer makes; "" for others."""
    named: dict[str, Literal["keys", "values"]] = {"k_proj": "keys", "v_proj": "values"}
    return named.get(module_of(role), "")


def is_positions(role: str) -> bool:
    """Whether it is a table of position embeddings."""
    return role in _POSITIONS


def layout_of(role: str, dtype: str | None) -> Layout | None:
    """A packed format that is recognisable by tensor names: MXFP4 stores blocks and scales as uint8."""
    return "mxfp4" if dtype == "U8" and role.endswith(("_blocks", "_scales")) else None


_RECURRENT_GATES: Final = ("in_proj_a", "in_proj_b", "in_proj_ba")
_RECURRENT_INPUTS: Final = ("in_proj_qkv", "in_proj_z", "in_proj_qkvz")


def recurrent_part(role: str) -> Recurrent:
    """The part of a recurrent layer to which a matrix belongs, as quantisers distinguish them: gates and decays, with
    one output per head; inputs, i.e. query, key, value and output-gate projections; and others."""
    module = module_of(role)
    if module in _RECURRENT_GATES:
        return "recurrent_gates"
    return "recurrent_inputs" if module in _RECURRENT_INPUTS else "recurrent"
