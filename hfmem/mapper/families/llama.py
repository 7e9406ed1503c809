"""Llama and related dense decoders: one reader, with the differences of each type as data (`modeling_<type>.py`)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from math import isqrt
from typing import Final

from hfmem.mapper.blueprint import Blueprint, experts, linear, norm, router, weight
from hfmem.mapper.facts import Facts
from hfmem.mapper.families._decoder import Schedule, Sizes, decoder, every, feed_forward, layers_of, never
from hfmem.mapper.families._dialect import Dialect, attention, flag, norms, output_of, sizes_of
from hfmem.mapper.values import Dense, TensorGroup

__all__ = ["DIALECTS", "TYPES", "read"]


def _last_layers_slide(facts: Facts, layers: int) -> Sequence[bool]:
    """Layers from `max_window_layers` on use a sliding window, if enabled (configuration_qwen2.py)."""
    window = facts.flag("use_sliding_window", default=True) and facts.optional_integer("sliding_window") is not None
    first = facts.integer("max_window_layers", default=0) if window else layers
    return [index >= first for index in range(layers)]


def _unrotated_slide(facts: Facts, layers: int) -> Sequence[bool]:
    """Layers without rotary positions (NoPE) use a sliding window, if enabled (configuration_smollm3.py)."""
    window = facts.flag("use_sliding_window") and facts.optional_integer("sliding_window") is not None
    interval = facts.integer("no_rope_layer_interval")
    rotated = facts.items("no_rope_layers") or [(index + 1) % interval for index in range(layers)]
    return [window and not has_rope for has_rope in rotated]


def _all_but_each_fourth(_: Facts, layers: int) -> Sequence[bool]:
    """Full attention in layers 0, 4, 8, …; a sliding window in the others (configuration_cwm.py)."""
    return [index % 4 != 0 for index in range(layers)]


def _if_windowed(schedule: Schedule) -> Schedule:
    """`schedule` if the config has a sliding window, else full attention (configuration_exaone4.py)."""

    def windowed(facts: Facts, layers: int) -> Sequence[bool]:
        return [False] * layers if facts.optional_integer("sliding_window") is None else schedule(facts, layers)

    return windowed


def _one_norm_if_parallel(facts: Facts) -> int:
    return 1 if facts.flag("use_parallel_residual") else 2


def _xielu(facts: Facts, s: Sizes) -> list[TensorGroup]:
    """The two parameters of the xIELU activation (activations.py, XIELUActivation), the class's default."""
    if facts.text("hidden_act") not in (None, "xielu"):
        return []
    return weight("mlp", "act_fn.alpha", 1, count=2 * s.layers)


def _sub_norms(facts: Facts, s: Sizes) -> list[TensorGroup]:
    """Norms before the output and down projections (modeling_bitnet.py)."""
    inner = facts.integer("intermediate_size")
    return norm(s.hidden, count=s.layers, role="attn_sub_norm") + norm(inner, count=s.layers, role="ffn_sub_norm")


def _lambdas(_: Facts, s: Sizes) -> list[TensorGroup]:
    """Parameters of the lambda that scales the subtracted half of the heads (modeling_diffllama.py)."""
    return weight("attention", "lambda", s.head_dim, count=4 * s.layers)  # for q and k of each half


def _sinks(_: Facts, s: Sizes) -> list[TensorGroup]:
    """Attention sinks: a learned logit per head (modeling_granite_swa.py)."""
    return weight("attention", "sinks", s.heads, count=s.layers)


def _dynamic_mask(facts: Facts, s: Sizes) -> list[TensorGroup]:
    """The dynamic attention mask, computed from the values; residual scales; and, if `is_moe`, experts of one unit in
    addition to the feed-forward network (modeling_doge.py)."""
    bias = facts.flag("attention_bias")
    groups = [
        *weight("attention", "A", s.kv_heads, count=s.layers),
        *linear("attention", "dt_proj", s.kv_heads, s.kv, count=s.layers, bias=bias),
        *weight("other", "residual", s.hidden, count=2 * s.layers),
    ]
    if not facts.flag("is_moe"):
        return groups
    count, used = facts.integer("num_experts"), facts.integer("num_experts_per_tok")
    return [
        *groups,
        # product keys: an expert is a pair of rows of two tables with √count rows each
        *router(2 * isqrt(count), s.hidden, count=s.layers, role="router_gate"),
        *experts("embed", count, used, 2, s.hidden, layers=s.layers),
    ]


_FUSED_MLP = ("gate_up_proj", "down_proj")
_PLAIN = ("up_proj", "down_proj")
_LLAMA = Dialect(qkv_bias="attention_bias", out_bias="attention_bias", mlp_bias="mlp_bias")
_ATTENTION_BIAS = replace(_LLAMA, mlp_bias=False)
_GLM = Dialect(qkv_bias="attention_bias", mlp=_FUSED_MLP)
_GLM_VISION = Dialect(qkv_bias=True, mlp=_FUSED_MLP, norms=4, schedule=never)
_QWEN_VISION = Dialect(qkv_bias=True, head_dim=False, schedule=_last_layers_slide)
_PHI = Dialect(
    qkv_bias=True,
    out_bias=True,
    mlp_bias=True,
    head_bias=True,
    names=("q_proj", "k_proj", "v_proj", "dense"),
    mlp=("fc1", "fc2"),
    qk_norm="head",
    qk_flag="qk_layernorm",
    qk_bias=True,
    norms=1,
    norm_bias=True,
)

DIALECTS: Final[dict[str, Dialect]] = {
    "apertus": replace(_ATTENTION_BIAS, mlp=_PLAIN, qk_norm="head", more=_xielu),
    "arcee": replace(_LLAMA, mlp=_PLAIN),
    "bitnet": replace(_ATTENTION_BIAS, more=_sub_norms),
    "cohere": replace(_ATTENTION_BIAS, norms=1, qk_norm="each head", qk_flag="use_qk_norm"),
    "cohere2": replace(_ATTENTION_BIAS, norms=1, head_dim=False, schedule=every(4, "sliding_window_pattern")),
    "cwm": Dialect(mlp_bias="mlp_bias", schedule=_all_but_each_fourth),
    "diffllama": replace(_ATTENTION_BIAS, more=_lambdas),
    "doge": replace(_LLAMA, qk_norm="head", more=_dynamic_mask),
    "emu3_text_model": replace(_LLAMA, schedule=never),
    "ernie4_5": Dialect(qkv_bias="use_bias", out_bias="use_bias", mlp_bias="use_bias"),
    "exaone": _LLAMA,  # transformers maps it to Llama's class
    "exaone4": Dialect(qk_norm="head", schedule=_if_windowed(every(4, "sliding_window_pattern"))),
    "gemma": _ATTENTION_BIAS,
    "gemma2": replace(_ATTENTION_BIAS, norms=4, schedule=every(2)),
    "glm": _GLM,
    "glm4": replace(_GLM, norms=4),
    "glm4v_text": _GLM_VISION,
    "glm_ocr_text": replace(_GLM_VISION, qkv_bias=False),
    "granite": _LLAMA,
    "granite_docling_text": _LLAMA,
    "granite_swa": replace(_LLAMA, schedule=_all_but_each_fourth, more=_sinks),
    "helium": replace(_LLAMA, out_bias=False, square_out=True),
    "hunyuan_v1_dense": replace(_ATTENTION_BIAS, qk_norm="head"),
    "hyperclovax": replace(_LLAMA, norms=lambda facts: 4 if facts.flag("use_post_norm") else 2),
    "internlm3": _LLAMA,  # transformers maps it to Llama's class
    "iquestcoder": _LLAMA,
    "jais2": replace(_LLAMA, mlp=_PLAIN, norm_bias=True),
    "llama": _LLAMA,
    "ministral": Dialect(),
    "ministral3": Dialect(),
    "mistral": Dialect(),
    "nanochat": replace(_ATTENTION_BIAS, mlp=("fc1", "fc2"), norm_weight=False),
    "nemotron": replace(_LLAMA, mlp=_PLAIN, norm_bias=True),
    "olmo": replace(_ATTENTION_BIAS, norm_weight=False),
    "olmo2": replace(_ATTENTION_BIAS, qk_norm="whole"),
    "olmo3": replace(_ATTENTION_BIAS, qk_norm="whole", schedule=every(4)),
    "paddleocr_vl_text": Dialect(qkv_bias="use_bias", out_bias="use_bias", mlp_bias="use_bias", schedule=never),
    "persimmon": replace(
        _PHI,
        head_bias=False,
        fused=True,
        names=("query_key_value", "dense"),
        mlp=("dense_h_to_4h", "dense_4h_to_h"),
        norms=2,
        head_dim=False,
    ),
    "phi": _PHI,
    "phi3": Dialect(fused=True, names=("qkv_proj", "o_proj"), mlp=_FUSED_MLP),
    "qwen2": Dialect(qkv_bias=True, schedule=_last_layers_slide),
    "qwen2_5_omni_text": _QWEN_VISION,
    "qwen2_5_vl_text": _QWEN_VISION,
    "qwen2_vl_text": _QWEN_VISION,
    "qwen3": replace(_ATTENTION_BIAS, qk_norm="head", schedule=_last_layers_slide),
    "qwen3_vl_text": replace(_ATTENTION_BIAS, qk_norm="head", schedule=never),
    "seed_oss": replace(_LLAMA, out_bias="attention_out_bias"),
    "smollm3": replace(_LLAMA, schedule=_unrotated_slide),
    "stablelm": Dialect(
        qkv_bias="use_qkv_bias",
        qk_norm="each head",
        qk_flag="qk_layernorm",
        norms=_one_norm_if_parallel,
        norm_bias=True,
        head_dim=False,
    ),
    "starcoder2": Dialect(
        qkv_bias="use_bias", out_bias="use_bias", mlp_bias="use_bias", mlp=("c_fc", "c_proj"), norm_bias=True
    ),
    "vaultgemma": replace(_ATTENTION_BIAS, schedule=every(2)),
}

TYPES: Final = frozenset(DIALECTS)


def read(facts: Facts) -> Blueprint:
    """Layers and weights of a dense decoder, or of the multimodal model if the file describes one (Ministral 3)."""
    if facts.part("text_config") is not None and not facts.has("hidden_size"):
        from hfmem.mapper.families.multimodal import read_nested

        return read_nested(facts)
    dialect = DIALECTS[facts.model_type]
    s = sizes_of(facts, dialect)
    intermediate = facts.integer("intermediate_size")
    weights = [
        *attention(facts, s, dialect),
        *feed_forward((s.hidden, intermediate), dialect.mlp, count=s.layers, bias=flag(facts, dialect.mlp_bias)),
        *norms(facts, s, dialect),
    ]
    gated = len(dialect.mlp) == 3 or dialect.mlp[0].startswith("gate_up")
    layers = layers_of(facts, s, Dense(intermediate=intermediate, gated=gated), dialect.schedule)
    return decoder(facts, s, weights, layers, output_of(facts, s, dialect))
