"""Which files are made of each architecture: values of keys that it takes, and the structures that it comes in."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from hfmem.mapper.gguf.rows import ROWS, Row, Windows

__all__ = ["BEGUN", "FUSED", "NEEDED", "OPTIONAL", "PROFILES", "USUAL", "Plan", "plans", "values"]

_BASE: Final[Mapping[str, Any]] = {
    "context_length": 131072,
    "vocab_size": 16384,
    "embedding_length": 1280,
    "feed_forward_length": 1536,
    "attention.head_count": 8,
    "attention.head_count_kv": 2,
    "attention.key_length": 128,
    "attention.value_length": 128,
    "rope.dimension_count": 128,
    "attention.layer_norm_rms_epsilon": 1e-5,
    "attention.layer_norm_epsilon": 1e-5,
}
_MLA: Final = {
    "attention.key_length": 320,
    "attention.value_length": 256,
    "rope.dimension_count": 64,
    "attention.kv_lora_rank": 256,
    "attention.key_length_mla": 192,
    "attention.value_length_mla": 128,
    "attention.head_count_kv": 1,
}

PROFILES: Final[Mapping[str, Mapping[str, Any]]] = {
    "free": {},
    "heads": {"embedding_length": 1024},
    "partly": {"rope.dimension_count": 64},
    "full": {"embedding_length": 1024, "attention.head_count_kv": 8},
    "each": {"attention.head_count_kv": 8},
    "expanded": {
        "attention.key_length": 192,
        "attention.value_length": 128,
        "rope.dimension_count": 64,
        "attention.kv_lora_rank": 256,
        "attention.head_count_kv": 8,
    },
    "latent": _MLA,
}
"""Values that go together, the freest first: sizes of heads of their own; heads that make the hidden size; a part of
a head that is rotated; a key and a value for each head; latent attention, as its keys and values or as itself."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """One structure of an architecture.

    Attributes:
        variant: its name; "" for the usual one.
        keys: values of keys beside those of a profile.
        holds: those of its keys without which a file has the same tensors and another graph.
    """

    architecture: str
    variant: str
    keys: Mapping[str, Any]
    holds: Mapping[str, int] = field(default_factory=dict)


_EXPERTS: Final = {
    "expert_count": 16,
    "expert_used_count": 4,
    "expert_feed_forward_length": 512,
    "expert_shared_feed_forward_length": 640,
}
_SHARED: Final = {"expert_shared_count": 1}
_STATES: Final = {
    "ssm.conv_kernel": 4,
    "ssm.inner_size": 2560,
    "ssm.state_size": 64,
    "ssm.time_step_rank": 32,
    "ssm.group_count": 4,
}


def plans(architecture: str) -> Iterator[Plan]:
    """The structures of an architecture that files have."""
    row = ROWS[architecture]
    for ending, layers in (("", _layers(row)), (", other ending", _other_ending(row))):
        if not layers:
            continue
        keys = {**layers, **(_STATES if row.states != "none" else {}), **_OWN.get(architecture, {})}
        later = {"leading_dense_block_count": 1, "block_count": keys["block_count"] + 1}
        if any(isinstance(value, list) for value in keys.values()):
            later = {"leading_dense_block_count": 1}
        variants: dict[str, Mapping[str, Any]] = {
            "dense": {},
            "experts": _EXPERTS,
            "shared experts": {**_EXPERTS, **_SHARED},
            "dense, then experts": {**_EXPERTS, **_SHARED, **later},
            "latent": _MLA,
            "latent, experts": {**_EXPERTS, **_SHARED, **later, **_MLA},
            **(_MORE.get(architecture, {}) if not ending else {}),
        }
        for variant, more in variants.items():
            yield Plan(architecture=architecture, variant=variant + ending, keys={**keys, **more})
        switched = _SWITCHED.get(architecture, {})
        for variant, more in variants.items() if switched else ():
            yield Plan(
                architecture=architecture,
                variant=f"{variant}, {_SWITCHED_NAME}{ending}",
                keys={**keys, **more, **switched},
                holds={key: int(value) for key, value in switched.items()},
            )


def _layers(row: Row) -> Mapping[str, Any]:
    """So many layers that each kind comes between those that it has in files: of layers with states, the one before
    runs what loads the next one's."""
    if row.states == "interval":
        return {"block_count": 2 * row.interval + 1, "full_attention_interval": row.interval}
    if row.states == "without_kv":
        return {"block_count": 8, "attention.head_count_kv": [0, 0, 0, 2, 0, 2, 0, 0]}
    if row.states == "without_kv_or_ffn":
        return _mixed("M-M-M*-MM-M")
    return _windows(row.windows)


def _windows(windows: Windows | None) -> Mapping[str, Any]:
    """As many layers as one with all tokens comes among those with a window, and one more."""
    if windows is None or windows.layers:
        return {"block_count": 3}  # windows that only models of one depth have are left out
    window = {"attention.sliding_window": 512}
    if not windows.pattern:
        return {"block_count": 4, **window, "attention.sliding_window_pattern": [True, True, False, True]}
    return {"block_count": windows.pattern + 1, **window}


def _other_ending(row: Row) -> Mapping[str, Any]:
    """Layers of which the last is of another kind; nothing where there is one kind only."""
    if row.states == "interval":
        return {"block_count": 2 * row.interval, "full_attention_interval": row.interval}
    if row.states == "without_kv":
        return {"block_count": 7, "attention.head_count_kv": [0, 0, 0, 2, 0, 0, 2]}
    if row.states == "without_kv_or_ffn":
        return _mixed("M-M-M*-MM-")
    if row.windows is None or row.windows.layers:
        return {}
    window = {"attention.sliding_window": 512}
    if not row.windows.pattern:
        return {"block_count": 4, **window, "attention.sliding_window_pattern": [True, False, True, False]}
    return {"block_count": 2 * row.windows.pattern, **window}


def _mixed(pattern: str) -> Mapping[str, Any]:
    """Layers as Nemotron-H's `hybrid_override_pattern` writes them: M with a state, * attention, - a network."""
    return {
        "block_count": len(pattern),
        "attention.head_count_kv": [2 if kind == "*" else 0 for kind in pattern],
        "feed_forward_length": [1536 if kind == "-" else 0 for kind in pattern],
    }


_OFTEN: Final = (
    "ffn_gate.weight",
    "ffn_gate_exps.weight",
    "exp_probs_b.bias",
    "ffn_gate_shexp.weight",
    "ffn_up_shexp.weight",
    "ffn_down_shexp.weight",
)
"""Optional tensors that files mostly have where llama.cpp takes them."""

BEGUN: Final[Mapping[str, Mapping[str, tuple[int, ...]]]] = {
    "rwkv6": {"time_mix_lerp_fused.weight": (1,)},
    "jina-bert-v2": {"ffn_up.weight": (1024, 1536)},
}
"""Tensors that each layer has from the beginning: llama.cpp asserts what it finds instead of asking for it."""

NEEDED: Final = (
    "attn_qkv.weight",
    "attn_gate.weight",
    "attn_q.weight",
    "attn_k.weight",
    "attn_v.weight",
    "attn_output.weight",
    "ffn_norm.weight",
    "ffn_gate.weight",
    "ffn_up.weight",
    "ffn_down.weight",
    "ffn_gate_inp.weight",
    "ffn_gate_exps.weight",
    "ffn_up_exps.weight",
    "ffn_down_exps.weight",
    "ffn_gate_shexp.weight",
    "ffn_up_shexp.weight",
    "ffn_down_shexp.weight",
    "ssm_in.weight",
    "ssm_conv1d.bias",
    "time_mix_lerp_fused.weight",
    "attn_rel_b.weight",
    "indexer.k_norm.weight",
    "indexer.k_norm.bias",
    "indexer.proj.weight",
    "indexer.attn_k.weight",
    "indexer.attn_q_b.weight",
)
"""Tensors that the loader takes as optional and the graph needs all the same: a layer has some in place of others."""

FUSED: Final = frozenset(
    (
        "chatglm",
        "glm4",
        "phi2",
        "phi3",
        "phimoe",
        "gptneox",
        "falcon",
        "bloom",
        "mpt",
        "gpt2",
        "starcoder",
        "codeshell",
        "qwen",
        "jais",
        "refact",
        "dbrx",
        "plamo",
        "plamo2",
        "plamo3",
        "bert",
        "nomic-bert",
        "nomic-bert-moe",
        "modern-bert",
        "neo-bert",
        "jina-bert-v3",
        "bailingmoe2",
        "openelm",
        "internlm2",
        "eurobert",
    )
)
"""Architectures whose checkpoints have queries, keys and values in one matrix."""

OPTIONAL: Final[tuple[tuple[tuple[str, ...], tuple[str, ...]], ...]] = (
    (("attn_q_norm.weight", "attn_k_norm.weight"), ()),
    (("attn_norm_2.weight",), ()),
    (("attn_gate.weight",), ()),
    (("attn_sinks.weight",), ()),
    (("attn_post_norm.weight",), ()),
    (("attn_qkv.weight",), ("attn_q.weight", "attn_k.weight", "attn_v.weight")),
    (("ffn_gate_up_exps.weight",), ("ffn_gate_exps.weight", "ffn_up_exps.weight")),
)
"""Optional tensors that some files have, and those that they stand in place of."""

USUAL: Final = _OFTEN

_MORE: Final[Mapping[str, Mapping[str, Mapping[str, Any]]]] = {
    # the smallest of the family is told by its number of layers
    "llama4": {"one expert": {**_EXPERTS, "expert_used_count": 1, "interleave_moe_layer_step": 2}},
    "deepseek2": {
        "lite": {
            **_EXPERTS,
            **_SHARED,
            "leading_dense_block_count": 1,
            "block_count": 27,
            "rope.dimension_count": 64,
            "attention.kv_lora_rank": 256,
            "attention.key_length": 192,
            "attention.head_count_kv": 8,
        },
        "lite, latent": {**_EXPERTS, **_SHARED, **_MLA, "leading_dense_block_count": 1, "block_count": 27},
    },
}
_RANKS: Final = {
    "attention.decay_lora_rank": 64,
    "attention.iclr_lora_rank": 64,
    "attention.value_residual_mix_lora_rank": 32,
    "attention.gate_lora_rank": 128,
}
_INDEXER: Final = {
    "attention.indexer.key_length": 128,
    "attention.indexer.head_count": 4,
    "attention.indexer.top_k": 256,
    "expert_gating_func": 2,
}
_DELTA: Final = {"ssm.inner_size": 2048}  # as many heads as time steps, each as large as the state
_OWN: Final[Mapping[str, Mapping[str, Any]]] = {
    "deepseek32": _INDEXER,
    "glm-dsa": _INDEXER,
    "minimax-m3": {**_INDEXER, "attention.indexer.head_count": 2, "expert_gating_func": 2},
    "smallthinker": {"expert_gating_func": 2},
    "qwen35": _DELTA,
    "qwen35moe": _DELTA,
    "qwen3next": _DELTA,
    "qwen4exp": {**_DELTA, "hyper_connection.count": 4},
    "llama4": {"interleave_moe_layer_step": 2, "expert_used_count": 1},
    "apertus": {".xielu.alpha_n": 0.8, ".xielu.alpha_p": 0.8, ".xielu.beta": 0.5, ".xielu.eps": 1e-6},
    "bailingmoe3": {"kda.gate_lower_bound": -5.0, "kda.head_dim": 128},
    "bert": {"tokenizer.ggml.token_type_count": 2},
    "nomic-bert": {"tokenizer.ggml.token_type_count": 2},
    "nomic-bert-moe": {"tokenizer.ggml.token_type_count": 2, "moe_every_n_layers": 2},
    "jina-bert-v3": {"tokenizer.ggml.token_type_count": 1},
    "lfm2": {"shortconv.l_cache": 3},
    "lfm2moe": {"shortconv.l_cache": 3},
    "rwkv6": {"wkv.head_size": 64, "attention.head_count": 0, "attention.head_count_kv": 0},
    "rwkv7": {"wkv.head_size": 64, "attention.head_count": 0, "attention.head_count_kv": 0, **_RANKS},
    "rwkv6qwen2": {"wkv.head_size": 64, "token_shift_count": 1},
    "arwkv7": {"wkv.head_size": 64, "token_shift_count": 1, **_RANKS},
    "jamba": {"ssm.inner_size": 2048, "embedding_length": 1024},
    "plamo2": {"ssm.group_count": 0},
    "hrm_text": {"hrm.layers_per_stack": 1, "hrm.h_cycles": 1, "hrm.l_cycles": 2},
    "minimax-m2": {"expert_gating_func": 2},
    "dots1": {"expert_gating_func": 2},
}

_NO_ROPE: Final[Mapping[str, bool]] = {"rope.scaling.finetuned": False}
_SWITCHED: Final = dict.fromkeys(("granite", "granitehybrid", "granitemoe", "graniteswitch"), _NO_ROPE)
"""Keys that change the graph and no tensor: Granite's hybrids have no positions (`has_rope` of llama-hparams.cpp)."""
_SWITCHED_NAME: Final = "no rope"


def values(plan: Plan, profile: str) -> dict[str, Any]:
    """The keys of a file to begin with."""
    return {**_BASE, **PROFILES[profile], **plan.keys}
