"""Which config keys are sizes, and what of."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, Final

from hfmem.mapper.sizes import OWN_WIDTH
from hfmem.probe import tiny
from hfmem.probe.activations.attempts import Config

__all__ = [
    "CHUNK",
    "CHUNKS",
    "DENSE_FIRST",
    "EXPERTS",
    "HEADS",
    "HEAD_DIM",
    "HIDDEN",
    "KV",
    "POSITIONS",
    "RANDOM_BLOCKS",
    "STATE_HEADS",
    "STATE_WIDTH",
    "WINDOWS",
    "drawn_sizes",
    "integers",
    "rotary_sections",
    "tied",
]

POSITIONS: Final = re.compile(r"(max_position|^n_positions$|^n_ctx$|max_seq_len|max_sequence_length|seq_length)")

# Numbers that are not sizes of a tensor, or that determine the kinds of layers rather than their sizes.
_FIXED: Final = re.compile(
    r"(_id$|_ids$|token|_index$|layer|depth|interval|pattern|period|every|step|_group$|^topk_group$|seed|pretraining_tp|"
    r"first_k|version|^rope|rotary|_size_per|num_labels|hidden_act|num_nextn|mtp|experts_implementation|position|"
    r"offset|expand_ratio|altup_num_inputs|temporal|label|scale|^dt_|time_step|^n_hashes|buckets|^axial|block_length|num_hash)"
)

_ALWAYS: Final = (
    "num_experts_per_tok",
    "vocab_size_per_layer_input",
    "hidden_size_per_layer_input",
    "moe_topk",
    "time_step_rank",
    "num_global_tokens",
)

WINDOWS: Final = re.compile(r"(window|attention_chunk_size$|chunk_length|index_topk|indexer_budget|^local_attention)")

# Keys of the number of dense layers before the MoE layers.
DENSE_FIRST: Final = re.compile(r"^(first_k_dense_replace|num_dense_layers|n_dense_layers|moe_layer_start_index)$")

EXPERTS: Final = re.compile(r"(num|routed|local)_experts$|^n_routed_experts$|_num_experts$")

# Keys of the chunk of tokens that a scan processes at a time.
CHUNK: Final = re.compile(r"^(mamba_|ssm_|linear_)?chunk_size$|^block_size$")

CHUNKS: Final = re.compile(r"(chunk_size|linear_|lightning|block_size|delta)")

RANDOM_BLOCKS: Final = "num_random_blocks"  # which an encoder attends to in blocks, if it has more tokens than these

HEADS: Final = ("num_attention_heads", "n_head", "n_heads", "num_heads", "decoder_attention_heads")

ENCODER_HEADS: Final = "encoder_attention_heads"  # beside a decoder's, with the same hidden size

KV: Final = ("num_key_value_heads", "num_kv_heads", "multi_query_group_num", "kv_n_heads")

HIDDEN: Final = ("hidden_size", "d_model", "n_embd")

HEAD_DIM: Final = ("head_dim", "d_kv", "kv_channels", "dim_head")

# Keys of (heads of a recurrent state, head size, groups that share a projection, factor from the hidden size)
STATE_HEADS: Final = (
    ("mamba_n_heads", "mamba_d_head", "mamba_n_groups", "mamba_expand"),
    ("mamba_num_heads", "mamba_head_dim", "n_groups", "expand"),
    ("num_heads", "head_dim", "n_groups", "expand"),
    ("n_mamba_heads", "mamba_headdim", "mamba_ngroups", "mamba_expand"),
)

STATE_WIDTH: Final = "mamba_d_ssm"  # heads × head size, if the class does not derive it from the hidden size


def tied(key: str) -> bool:
    """Whether other sizes depend on this one, so that they must change together."""
    states = [name for names in STATE_HEADS for name in names]
    return key in (
        *HEADS,
        *KV,
        *HIDDEN,
        *HEAD_DIM,
        *OWN_WIDTH,
        ENCODER_HEADS,
        *states,
        "linear_num_key_heads",
        "linear_num_value_heads",
    )


def drawn_sizes(config: Config, path: tuple[str, ...]) -> dict[str, int]:
    """The sizes of the text model that the variants change, with their values."""
    text = tiny.at(tiny.build(config), path)
    return {
        key: value
        for key, value in integers(text)
        if (value > 1 or "shared_experts" in key or "n_groups" in key)
        and not POSITIONS.search(key)
        and (not _FIXED.search(key) or key in _ALWAYS)
    }


def integers(text: Any) -> Iterator[tuple[str, int]]:
    """The integers of a config; of a list with one entry per layer, the entry if all are equal."""
    fields = tiny.fields_of(text)
    own = [
        key for key in HEAD_DIM if key not in fields and key in vars(text)
    ]  # set although the class does not declare it
    if tiny.value(text, "kv_lora_rank"):  # MLA: derived from the parts of a head
        own = []
    for key in (*fields, *own):
        value = tiny.value(text, key)
        if (
            isinstance(value, list)
            and len(value) == tiny.value(text, "num_hidden_layers")
            and len(set(map(str, value))) == 1
        ):
            value = value[0]
        if isinstance(value, int) and not isinstance(value, bool):
            yield key, value


def rotary_sections(text: Any) -> list[int] | None:
    """The `mrope_section` of a multimodal rotary embedding; None without one."""
    rope = getattr(text, "rope_parameters", None)
    found = rope.get("mrope_section") if isinstance(rope, dict) else None
    return list(found) if found else None
