"""Component and role of a GGUF tensor, from its name (`LLM_TENSOR_NAMES` in llama.cpp's llama-arch.cpp)."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from hfmem.mapper.values import Component

__all__ = ["Meaning", "block_of", "meaning", "split"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Meaning:
    """What a tensor name stands for.

    Attributes:
        component: the part of the model.
        role: the module's name in transformers, where it has an equivalent.
        table: a computed table rather than learned parameters: rotary factors, token lists.
        matrix: whether this is the weight of a linear layer inside a block.
    """

    component: Component
    role: str
    table: bool = False
    matrix: bool = False


_LAYER: Final = re.compile(r"(enc\.|dec\.|[va]\.)?blk\.(\d{1,6}|#)\.")
_EXPERT: Final = re.compile(r"\.(\d{1,6})(?=\.)")

_TABLES: Final = re.compile(r"^(rope_freqs|rope_factors_|d2t|masked_embd_ordering)|attn_rot_embd|ffn_gate_tid2eid")

# The first pattern that matches wins. `clip` files hold vision and audio towers (`v.`, `a.`) and the projector that
# leads from them to the decoder (`mm.`).
_COMPONENTS: Final[tuple[tuple[str, Component], ...]] = (
    (r"^(mm|resampler|v\.deepstack)\.|^model\.(mm|image_newline)", "projector"),
    (r"^v\.", "vision"),
    (r"^a\.", "audio"),
    (r"(^|\.)nextn\.|^(fc|markov_w\d|conf_proj|selector_\w+)\.", "mtp"),
    (r"norm(_\w+)?(\.\d+)?(\.(weight|bias))?$|time_mix_ln|(^|\.)ln_", "norm"),
    (r"ffn_gate_inp|exp_probs_b|ffn_gate_tid2eid", "router"),
    (r"_shexp\b|_shexp\.", "shared_experts"),
    (r"_(ch)?exps\b|ffn_(gate|up|down)\.\d+\.|ffn_latent_|ffn_routed_", "experts"),
    (r"(^|\.)(ssm_|shortconv\.|time_mix_)", "state"),
    (r"attn|indexer", "attention"),
    (r"ffn_|ffn\.|channel_mix_|vis_(gate|up|down)|laurel_|hc_ffn", "mlp"),
    (r"^(token_embd|position_embd|token_types|per_layer_token_embd|masked_embd)|^pos_embd", "embedding"),
    (r"^output(\.|$)|^cls(\.|$)|^cls\.output", "lm_head"),
)
_SEARCHES: Final = tuple((re.compile(pattern), component) for pattern, component in _COMPONENTS)

_ROLES: Final = {
    "token_embd": "embed_tokens",
    "output": "lm_head",
    "attn_q": "q_proj",
    "attn_k": "k_proj",
    "attn_v": "v_proj",
    "attn_qkv": "qkv_proj",
    "attn_output": "o_proj",
    "attn_o": "o_proj",
    "attn_q_a": "q_a_proj",
    "attn_q_b": "q_b_proj",
    "attn_kv_a_mqa": "kv_a_proj_with_mqa",
    "attn_kv_b": "kv_b_proj",
    "ffn_gate": "gate_proj",
    "ffn_up": "up_proj",
    "ffn_down": "down_proj",
    "ffn_gate_up": "gate_up_proj",
    "ffn_gate_inp": "gate",
    "ssm_in": "in_proj",
    "ssm_out": "out_proj",
    "ssm_conv1d": "conv1d",
}
_SUFFIXES: Final = ("_exps", "_chexps", "_shexp")
_MATRICES: Final = frozenset({"attention", "mlp", "experts", "shared_experts", "state"})


def split(name: str) -> tuple[int | None, str]:
    """The decoder layer that a tensor belongs to (None outside the decoder's layers), and its name with the layer and
    expert numbers replaced by #, so that it is the same for every layer and expert."""
    match = _LAYER.match(name)
    if not match:
        return None, name
    part, number = match.groups()
    index = int(number) if part in (None, "dec.") and number.isdecimal() else None
    return index, _alike(part or "", name[match.end() :])


@lru_cache(maxsize=8192)
def _alike(part: str, block: str) -> str:
    return f"{part}blk.#.{_EXPERT.sub('.#', '.' + block)[1:]}"


def block_of(name: str) -> str:
    """The name without its layer prefix; unchanged for tensors outside of layers."""
    match = _LAYER.match(name)
    return name[match.end() :] if match else name


@lru_cache(maxsize=4096)
def meaning(name: str, recurrent: bool = False) -> Meaning:
    """Component and role of a tensor. In a `recurrent` layer, projections named like attention's are the state's."""
    block = block_of(name)
    searched = (name if name.startswith(("v.", "a.")) else block).replace("#", "0")
    component: Component = next((part for search, part in _SEARCHES if search.search(searched)), "other")
    if _TABLES.search(block):
        return Meaning(component=component if component == "router" else "other", role=_role(block), table=True)
    if recurrent and component == "attention":
        component = "state"
    role = _role(block)
    matrix = block.endswith(".weight") and component in _MATRICES and "conv" not in block
    return Meaning(component=component, role=role, matrix=matrix)


def _role(block: str) -> str:
    """The module's name; for a tensor other than its weight, followed by the kind (`.bias`, `.scale`)."""
    stem, _, kind = block.rpartition(".")
    if not stem or kind not in ("weight", "bias", "scale", "input_scale"):
        stem, kind = block, "weight"
    stem = re.sub(r"\.(#|\d+)$", "", stem)
    for suffix in _SUFFIXES:
        stem = stem.removesuffix(suffix)
    role = _ROLES.get(stem, stem.rpartition(".")[2])
    return role if kind == "weight" else f"{role}.{kind}"
