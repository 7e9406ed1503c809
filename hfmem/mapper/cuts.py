"""How tensor parallelism can split a tensor, from its component and role."""

from __future__ import annotations

from typing import Final, Literal

__all__ = ["Cut", "cut_of", "is_output"]

Cut = Literal["", "latent", "keys_values", "fused_qkv", "output_bias"]

_LATENT: Final = (
    "kv_a_proj",
    "q_a_proj",
    "kv_a_proj_with_mqa",
    "fused_qkv_a_proj",
    "wk",
    "wq_b",
    "weights_proj",
    "wq_a",
    "wkv",
)
_KEYS_VALUES: Final = ("k_proj", "v_proj", "kv_proj", "wk_proj")
_FUSED_QKV: Final = ("qkv_proj", "query_key_value", "c_attn", "wqkv", "qkv", "w_pack")
_OUTPUTS: Final = ("o_proj", "out_proj", "dense", "c_proj", "down_proj", "wo", "w2", "fc2", "dense_4h_to_h")
_ATTENTION: Final[dict[str, Cut]] = {
    **dict.fromkeys(_LATENT, "latent"),
    **dict.fromkeys(_KEYS_VALUES, "keys_values"),
    **dict.fromkeys(_FUSED_QKV, "fused_qkv"),
}


def cut_of(component: str, role: str) -> Cut:
    """What limits the split of a tensor.

    `latent`: it produces or consumes tensors that all heads share (MLA's latents, indexer keys), and is replicated.
    `keys_values`: its outputs are KV heads. `fused_qkv`: queries, keys and values in one matrix. `output_bias`: a bias
    of a row-parallel layer, added once after the all-reduce, and replicated. "": split by heads or units.
    """
    base = _base(role)
    if base in _OUTPUTS and role.endswith("bias"):
        return "output_bias"
    return _ATTENTION.get(base, "") if component == "attention" else ""


def is_output(role: str) -> bool:
    """Whether a tensor belongs to an output projection, which writes to the residual stream."""
    return _base(role) in _OUTPUTS


def _base(role: str) -> str:
    """The role of the matrix to which a bias or scale belongs."""
    return role.partition(".")[0].removesuffix("_blocks").removesuffix("_scales").removesuffix("_bias").lower()
