"""What convert_hf_to_gguf does for each class of transformers, one row each.

Source: conversion/*.py of llama.cpp 0.5.0: `set_gguf_parameters` (keys) and `modify_tensors` (tensors).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Final

from hfmem.mapper.facts import Facts
from hfmem.mapper.gguf.conversion.keys import Values, head_size, layer_kinds, rotated

__all__ = ["DIALECTS", "Dialect", "Piece"]

Piece = tuple[str, tuple[int, ...]]
"""A tensor's name in the checkpoint and its shape."""

Change = Callable[[Facts, Piece], Iterable[Piece]]


def _none(_: Facts) -> Values:
    return {}


def _itself(_: Facts) -> Dialect | None:
    return None


def _same(_: Facts, piece: Piece) -> Iterable[Piece]:
    yield piece


@dataclass(frozen=True, slots=True, kw_only=True)
class Dialect:
    """How a class is converted.

    Attributes:
        architecture: llama.cpp's word for it.
        keys: values beside those of every model.
        copies: values that are copied from the config, with its names for them.
        without: values of every model that are left out.
        change: what becomes of a tensor before it gets its new name.
        stacks_fused: whether fused experts have their inner size last, and are transposed.
        keeps_fused: whether gate and up of fused experts stay one tensor.
        headless: whether a separate output matrix is dropped.
        drops_tied: whether it is dropped where the config ties it to the embedding.
        further: the config's name for the number of layers of further predictions; "" where these are dropped.
        frequencies: whether rotary frequencies of the kind `llama3` are stored as a tensor.
        instead: the dialect that some configs of the class have.
    """

    architecture: str
    keys: Callable[[Facts], Values] = _none
    copies: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    without: tuple[str, ...] = ()
    change: Change = _same
    stacks_fused: bool = False
    keeps_fused: bool = False
    headless: bool = False
    drops_tied: bool = False
    further: str = ""
    frequencies: bool = False
    instead: Callable[[Facts], Dialect | None] = _itself


# --- values ----------------------------------------------------------------------------------------------------------


def _rotary(default: float = 1.0) -> Callable[[Facts], Values]:
    def keys(facts: Facts) -> Values:
        return {"rope.dimension_count": int(rotated(facts, default) * head_size(facts))}

    return keys


def _whole_rotary(facts: Facts) -> Values:
    return {"rope.dimension_count": head_size(facts)}


def _granite(facts: Facts) -> Values:
    """Its heads are as wide as the states allow, whatever `head_dim` says."""
    return {"rope.dimension_count": facts.integer("hidden_size") // facts.integer("num_attention_heads")}


def _qwen_next(facts: Facts) -> Values:
    values = facts.integer("linear_num_value_heads")
    found: Values = {
        "ssm.conv_kernel": facts.integer("linear_conv_kernel_dim"),
        "ssm.state_size": facts.integer("linear_key_head_dim"),
        "ssm.group_count": facts.integer("linear_num_key_heads"),
        "ssm.time_step_rank": values,
        "ssm.inner_size": facts.integer("linear_value_head_dim") * values,
        "full_attention_interval": facts.integer("full_attention_interval", default=4),
        "rope.dimension_count": int(rotated(facts, 0.25) * head_size(facts)),
    }
    if kinds := layer_kinds(facts):
        found["attention.recurrent_layers"] = [kind == "linear_attention" for kind in kinds]
    return found


def _gemma(facts: Facts) -> Values:
    heads = facts.integer("num_attention_heads")
    return {"attention.head_count_kv": facts.optional_integer("num_key_value_heads") or heads}


def _gemma3(facts: Facts) -> Values:
    window = (
        {}
        if facts.optional_integer("sliding_window_pattern") == 1
        else {"attention.sliding_window": facts.integer("sliding_window")}
    )
    return {**_gemma(facts), **window}


def _gemma4(facts: Facts) -> Values:
    kinds, width = layer_kinds(facts), facts.integer("intermediate_size")
    shared, layers = facts.integer("num_kv_shared_layers", default=0), len(kinds)
    sliding = [kind == "sliding_attention" for kind in kinds]
    full, own = facts.integer("global_head_dim"), facts.integer("head_dim")
    found: Values = {
        "attention.sliding_window": facts.integer("sliding_window"),
        "attention.sliding_window_pattern": sliding,
        "attention.shared_kv_layers": shared,
        "embedding_length_per_layer_input": facts.optional_integer("hidden_size_per_layer_input") or 0,
        **{f"attention.{side}_length": full for side in ("key", "value")},
        **{f"attention.{side}_length_swa": own for side in ("key", "value")},
        **{"rope.dimension_count": full, "rope.dimension_count_swa": own},
    }
    if facts.flag("use_double_wide_mlp"):
        found["feed_forward_length"] = [width if number < layers - shared else 2 * width for number in range(layers)]
    few = facts.optional_integer("num_global_key_value_heads")
    if few is not None:
        many = facts.integer("num_key_value_heads")
        found["attention.head_count_kv"] = [many if windowed else few for windowed in sliding]
    if (experts := facts.optional_integer("expert_intermediate_size", "moe_intermediate_size")) is not None:
        found["expert_feed_forward_length"] = experts
    return found


def _phi2(facts: Facts) -> Values:
    hidden, heads = facts.integer("hidden_size", "n_embd"), facts.integer("num_attention_heads", "n_head")
    return {
        "feed_forward_length": 4 * hidden,
        "attention.head_count_kv": heads,
        "rope.dimension_count": int(rotated(facts, 0.5) * hidden) // heads,
    }


def _phi3(facts: Facts) -> Values:
    hidden, heads = facts.integer("hidden_size"), facts.integer("num_attention_heads")
    return {
        "rope.dimension_count": int(rotated(facts) * hidden) // heads,
        "attention.sliding_window": facts.optional_integer("sliding_window") or 0,
    }


def _lfm2(facts: Facts) -> Values:
    width, kv_heads = facts.integer("block_ff_dim", "intermediate_size"), facts.integer("num_key_value_heads")
    if facts.flag("block_auto_adjust_ff_dim", default=True):
        width = int(facts.number("block_ffn_dim_multiplier", default=1.0) * int(2 * width / 3))
        step = facts.integer("block_multiple_of", default=256)
        width = step * -(-width // step)
    return {
        "attention.head_count_kv": [0 if kind == "conv" else kv_heads for kind in layer_kinds(facts)],
        "shortconv.l_cache": facts.integer("conv_L_cache"),
        "feed_forward_length": width,
    }


def _latent(facts: Facts) -> Values:
    """Latent attention runs as attention of one head for keys and values."""
    rank, turned = facts.integer("kv_lora_rank", default=512), facts.integer("qk_rope_head_dim")
    experts = facts.optional_integer("n_routed_experts")
    dense = facts.integer("first_k_dense_replace", default=0 if experts else facts.integer("num_hidden_layers"))
    found: Values = {
        "attention.head_count_kv": 1,
        "leading_dense_block_count": dense,
        "attention.kv_lora_rank": rank,
        "attention.key_length": rank + turned,
        "attention.value_length": rank,
        "attention.key_length_mla": facts.integer("qk_nope_head_dim") + turned,
        "attention.value_length_mla": facts.integer("v_head_dim"),
        "expert_feed_forward_length": facts.integer("moe_intermediate_size", "intermediate_size"),
        "expert_shared_count": facts.integer("n_shared_experts", default=0),
        "rope.dimension_count": turned,
    }
    if (queries := facts.optional_integer("q_lora_rank")) is not None:
        found["attention.q_lora_rank"] = queries
    return found


def _glm_dsa(facts: Facts) -> Values:
    found = _latent(facts)
    if facts.optional_integer("index_topk") is not None:
        found |= {
            "attention.indexer.head_count": facts.integer("index_n_heads"),
            "attention.indexer.key_length": facts.integer("index_head_dim"),
            "attention.indexer.top_k": facts.integer("index_topk"),
        }
        if kinds := facts.words("indexer_types"):
            found["attention.indexer.types"] = [kind == "full" for kind in kinds]
    return found


def _mixture(facts: Facts) -> Values:
    found: Values = {}
    names = {
        "expert_feed_forward_length": ("moe_intermediate_size",),
        "expert_shared_feed_forward_length": ("shared_expert_intermediate_size",),
    }
    for key, keys in names.items():
        if (value := facts.optional_integer(*keys)) is not None:
            found[key] = value
    return found


def _glm4_moe(facts: Facts) -> Values:
    found = {**_mixture(facts), **_rotary(0.5)(facts)}
    for key, name in (
        ("expert_shared_count", "n_shared_experts"),
        ("leading_dense_block_count", "first_k_dense_replace"),
    ):
        if (value := facts.optional_integer(name)) is not None:
            found[key] = value
    return found


def _sliding(facts: Facts) -> Values:
    """Windows, and which layers have one."""
    window = facts.optional_integer("sliding_window")
    if window is None:
        return {}
    kinds = layer_kinds(facts)
    pattern = {"attention.sliding_window_pattern": [kind == "sliding_attention" for kind in kinds]} if kinds else {}
    return {"attention.sliding_window": window, **pattern}


def _cohere2(facts: Facts) -> Values:
    head = facts.integer("hidden_size") // facts.integer("num_attention_heads")
    turned = int(facts.number("rotary_pct", "partial_rotary_factor", default=1.0) * head)
    return {"attention.sliding_window": facts.integer("sliding_window"), "rope.dimension_count": turned}


def _gpt2(facts: Facts) -> Values:
    return {"feed_forward_length": 4 * facts.integer("n_embd", "hidden_size")}


def _bloom(facts: Facts) -> Values:
    hidden, heads = facts.integer("hidden_size", "n_embed"), facts.integer("n_head", "num_attention_heads")
    return {
        "context_length": facts.integer("seq_length", default=hidden),
        "embedding_length": hidden,
        "feed_forward_length": 4 * hidden,
        "attention.head_count": heads,
        "attention.head_count_kv": heads,
    }


def _falcon(facts: Facts) -> Values:
    return {
        "context_length": 2048,
        "feed_forward_length": 4 * facts.integer("hidden_size"),
        "attention.head_count_kv": facts.integer("num_kv_heads", "n_head_kv", default=1),
    }


def _starcoder(facts: Facts) -> Values:
    return {"feed_forward_length": 4 * facts.integer("n_embd"), "attention.head_count_kv": 1}


def _llama4(facts: Facts) -> Values:
    return {
        **_whole_rotary(facts),
        "expert_feed_forward_length": facts.integer("intermediate_size"),
        "interleave_moe_layer_step": facts.integer("interleave_moe_layer_step", default=1),
        "feed_forward_length": facts.integer("intermediate_size_mlp"),
    }


def _minimax(facts: Facts) -> Values:
    return {
        "expert_feed_forward_length": facts.integer("intermediate_size"),
        "rope.dimension_count": facts.integer("rotary_dim"),
    }


def _deepstack(facts: Facts) -> Values:
    vision = facts.part("vision_config")
    levels = vision.items("deepstack_visual_indexes") if vision is not None else None
    return {"n_deepstack_layers": len(levels or ())}


def _deepstack_mixture(facts: Facts) -> Values:
    return {**_mixture(facts), **_deepstack(facts)}


_ATTENDS: Final = ("attention", "full_attention")


def _hybrid_granite(facts: Facts) -> Values:
    kinds, kv_heads = layer_kinds(facts), facts.integer("num_key_value_heads")
    hidden, expand = facts.integer("hidden_size"), facts.integer("mamba_expand", default=2)
    found: Values = {
        "context_length": 2**20,
        "attention.head_count_kv": [kv_heads if kind in _ATTENDS else 0 for kind in kinds],
        "ssm.conv_kernel": facts.integer("mamba_d_conv", default=4),
        "ssm.state_size": facts.integer("mamba_d_state", default=256),
        "ssm.group_count": facts.integer("mamba_n_groups", default=1),
        "ssm.inner_size": expand * hidden,
        "ssm.time_step_rank": facts.integer("mamba_n_heads", default=expand * hidden // 64),
        **_granite(facts),
    }
    if shared := facts.optional_integer("shared_intermediate_size"):
        found["expert_shared_feed_forward_length"] = shared
    return found


def _shared(facts: Facts) -> Values:
    shared = facts.optional_integer("shared_intermediate_size")
    return {**_granite(facts), **({"expert_shared_feed_forward_length": shared} if shared else {})}


# --- tensors ---------------------------------------------------------------------------------------------------------


def _mixtral(_: Facts, piece: Piece) -> Iterable[Piece]:
    """Its experts go by the names of the original."""
    name, shape = piece
    if ".block_sparse_moe.experts." in name:
        name = name.removeprefix("model.").replace("block_sparse_moe.experts", "feed_forward.experts")
    yield name, shape


def _transposed(_: Facts, piece: Piece) -> Iterable[Piece]:
    """GPT-2 stores its matrices the other way round."""
    name, shape = piece
    turned = name.endswith((".c_attn.weight", ".c_proj.weight", ".c_fc.weight"))
    yield name, shape[::-1] if turned else shape


def _unprefixed(_: Facts, piece: Piece) -> Iterable[Piece]:
    yield piece[0].removeprefix("transformer."), piece[1]


def _squeezed(_: Facts, piece: Piece) -> Iterable[Piece]:
    """A convolution is a matrix."""
    name, shape = piece
    yield name, _flat(shape) if "conv.conv" in name or "conv1d" in name else shape


def _flat(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Without sizes of 1."""
    return tuple(size for size in shape if size != 1)


def _latents(facts: Facts, piece: Piece) -> Iterable[Piece]:
    """What expands the latent is split into keys, transposed, and values."""
    name, shape = piece
    if facts.flag("tie_word_embeddings") and name in ("lm_head.weight", "model.lm_head.weight"):
        return
    if not name.endswith("kv_b_proj.weight"):
        yield piece
        return
    heads, values, keys = (facts.integer(key) for key in ("num_attention_heads", "v_head_dim", "qk_nope_head_dim"))
    yield name.replace("kv_b_proj", "k_b_proj"), (heads, shape[-1], keys)
    yield name.replace("kv_b_proj", "v_b_proj"), (heads, values, shape[-1])


def _linear_attention(facts: Facts, piece: Piece) -> Iterable[Piece]:
    """The gated delta nets of Qwen: names of the time step, convolutions as matrices, fused projections split."""
    name, shape = piece
    if name.endswith(".dt_bias"):
        yield name.removesuffix(".dt_bias") + ".dt_proj.bias", shape
    elif "conv1d" in name:
        yield name, _flat(shape)
    elif "in_proj_qkvz.weight" in name:
        gate = facts.integer("linear_num_value_heads") * facts.integer("linear_value_head_dim")
        start = name.partition("in_proj_qkvz")[0]
        yield f"{start}in_proj_qkv.weight", (shape[0] - gate, shape[1])
        yield f"{start}in_proj_z.weight", (gate, shape[1])
    else:
        yield piece


def _oss(_: Facts, piece: Piece) -> Iterable[Piece]:
    """Fused experts of gate and up in turn; biases without a point before their name."""
    name, shape = piece
    name = f"{name}.weight" if "sinks" in name else name
    if "down_proj_bias" in name:
        yield name.replace("down_proj_bias", "down_proj.bias"), shape
    elif "gate_up_proj_bias" in name:
        for part in ("gate", "up"):
            yield name.replace("gate_up_proj_bias", f"{part}_proj.bias"), (*shape[:-1], shape[-1] // 2)
    else:
        yield name, shape


def _intern(facts: Facts, piece: Piece) -> Iterable[Piece]:
    """Queries, keys and values are split."""
    name, shape = piece
    if ".attention.wqkv" not in name:
        yield piece
        return
    heads, few = facts.integer("num_attention_heads"), facts.integer("num_key_value_heads")
    head = facts.integer("hidden_size") // heads
    for word, count in (("wq", heads), ("wk", few), ("wv", few)):
        yield name.replace("wqkv", word), (count * head, *shape[1:])


def _granite_mixture(facts: Facts, piece: Piece) -> Iterable[Piece]:
    """Fused gate and up are split; without experts, the shared network is the only one."""
    name, shape = piece
    has_experts = bool(facts.optional_integer("num_local_experts"))
    parts = {
        "block_sparse_moe.input_linear.weight": "mlp.experts",
        "shared_mlp.input_linear.weight": "mlp.shared_expert" if has_experts else "mlp",
    }
    for ending, stem in parts.items():
        if name.endswith(ending):
            start, half = name.removesuffix(ending), (*shape[:-2], shape[-2] // 2, shape[-1])
            yield f"{start}{stem}.gate_proj.weight", half
            yield f"{start}{stem}.up_proj.weight", half
            return
    if not has_experts and name.endswith("shared_mlp.output_linear.weight"):
        name = name.replace("shared_mlp.output_linear", "mlp.down_proj")
    yield name, shape


def _granite_states(facts: Facts, piece: Piece) -> Iterable[Piece]:
    """States of Mamba-2: one column for what each head has, and a row of the norm for each group."""
    name, shape = piece
    if name.endswith(".dt_bias"):
        yield name.removesuffix(".dt_bias") + ".dt_proj.bias", shape
    elif "conv1d" in name:
        yield name, _flat(shape)
    elif name.endswith((".A_log", ".D")):
        yield name, (*shape, 1)
    elif name.endswith("mamba.norm.weight"):
        groups = facts.integer("mamba_n_groups", default=1)
        yield name, (groups, shape[-1] // groups)
    else:
        yield from _granite_mixture(facts, piece)


def _without_states(facts: Facts) -> Dialect | None:
    """A hybrid whose layers all attend is none."""
    if not all(kind in _ATTENDS for kind in layer_kinds(facts)):
        return None
    return DIALECTS["GraniteMoeForCausalLM"] if facts.optional_integer("num_experts_per_tok") else _DENSE_GRANITE


def _gemma4_names(_: Facts, piece: Piece) -> Iterable[Piece]:
    """Scales, which have no names of weights."""
    name, shape = piece
    match = re.match(r".*layers\.(\d+)\.router\.(scale|per_expert_scale)$", name)
    if match is not None:
        yield f"blk.{match[1]}.{'ffn_gate_inp' if match[2] == 'scale' else 'ffn_down_exps'}.scale", shape
    elif name.endswith(("per_dim_scale", "layer_scalar")):
        yield f"{name}.weight", shape
    else:
        yield piece


def _ernie(_: Facts, piece: Piece) -> Iterable[Piece]:
    yield piece[0].replace("ernie.", "model."), piece[1]


# --- rows ------------------------------------------------------------------------------------------------------------

_VOCAB: Final = {"vocab_size": ("vocab_size",)}
_LLAMA: Final = Dialect(architecture="llama", keys=_whole_rotary, change=_mixtral, frequencies=True)
_QWEN2: Final = Dialect(architecture="qwen2")
_QWEN2_MOE: Final = Dialect(architecture="qwen2moe", keys=_mixture)
_QWEN_NEXT: Final = Dialect(
    architecture="qwen3next",
    keys=lambda facts: {**_mixture(facts), **_qwen_next(facts)},
    change=_linear_attention,
    further="mtp_num_hidden_layers",
)
_GEMMA: Final = Dialect(architecture="gemma", keys=_gemma, headless=True)
_GRANITE: Final = Dialect(
    architecture="granite",
    keys=_granite,
    without=("attention.key_length", "attention.value_length"),
    frequencies=True,
)
_DENSE_GRANITE: Final = replace(_GRANITE, keys=_shared, change=_granite_mixture)
_LATENT: Final = Dialect(architecture="deepseek2", keys=_latent, change=_latents)
_INDEXED: Final = replace(_LATENT, architecture="glm-dsa", keys=_glm_dsa, further="num_nextn_predict_layers")

DIALECTS: Final[Mapping[str, Dialect]] = {
    **dict.fromkeys(("LlamaForCausalLM", "LLaMAForCausalLM", "MistralForCausalLM", "MixtralForCausalLM"), _LLAMA),
    **dict.fromkeys(("LlavaForConditionalGeneration", "VoxtralForConditionalGeneration"), _LLAMA),
    **dict.fromkeys(
        ("Mistral3ForConditionalGeneration", "Ministral3ForCausalLM"), replace(_LLAMA, architecture="mistral3")
    ),
    **dict.fromkeys(("Qwen2ForCausalLM", "Qwen2AudioForConditionalGeneration"), _QWEN2),
    "Qwen2MoeForCausalLM": _QWEN2_MOE,
    **dict.fromkeys(
        ("Qwen2VLForConditionalGeneration", "Qwen2_5_VLForConditionalGeneration"),
        replace(_QWEN2, architecture="qwen2vl"),
    ),
    "Qwen3ForCausalLM": replace(_QWEN2, architecture="qwen3"),
    "Qwen3MoeForCausalLM": replace(_QWEN2_MOE, architecture="qwen3moe"),
    "Qwen3VLForConditionalGeneration": Dialect(architecture="qwen3vl", keys=_deepstack),
    "Qwen3VLMoeForConditionalGeneration": Dialect(
        architecture="qwen3vlmoe", keys=_deepstack_mixture, stacks_fused=True
    ),
    "Qwen3NextForCausalLM": _QWEN_NEXT,
    **dict.fromkeys(
        ("Qwen3_5ForConditionalGeneration", "Qwen3_5ForCausalLM"), replace(_QWEN_NEXT, architecture="qwen35")
    ),
    **dict.fromkeys(
        ("Qwen3_5MoeForConditionalGeneration", "Qwen3_5MoeForCausalLM"), replace(_QWEN_NEXT, architecture="qwen35moe")
    ),
    "GemmaForCausalLM": _GEMMA,
    "Gemma2ForCausalLM": replace(
        _GEMMA,
        architecture="gemma2",
        keys=lambda facts: {**_gemma(facts), "attention.sliding_window": facts.integer("sliding_window")},
    ),
    **dict.fromkeys(
        ("Gemma3ForCausalLM", "Gemma3ForConditionalGeneration"), Dialect(architecture="gemma3", keys=_gemma3)
    ),
    **dict.fromkeys(
        ("Gemma4ForCausalLM", "Gemma4ForConditionalGeneration"),
        Dialect(architecture="gemma4", keys=_gemma4, change=_gemma4_names, keeps_fused=True),
    ),
    "PhiForCausalLM": Dialect(architecture="phi2", keys=_phi2),
    "Phi3ForCausalLM": Dialect(architecture="phi3", keys=_phi3),
    "GptOssForCausalLM": Dialect(
        architecture="gpt-oss",
        copies={
            "attention.sliding_window": ("sliding_window",),
            "expert_feed_forward_length": ("intermediate_size",),
        },
        change=_oss,
        stacks_fused=True,
    ),
    "Lfm2ForCausalLM": Dialect(architecture="lfm2", keys=_lfm2, change=_squeezed),
    **dict.fromkeys(("DeepseekV2ForCausalLM", "DeepseekV3ForCausalLM"), _LATENT),
    "GlmMoeDsaForCausalLM": _INDEXED,
    "DeepseekV32ForCausalLM": replace(_INDEXED, architecture="deepseek32"),
    "Glm4ForCausalLM": Dialect(architecture="glm4", keys=_rotary(0.5)),
    "Glm4MoeForCausalLM": Dialect(architecture="glm4moe", keys=_glm4_moe, further="num_nextn_predict_layers"),
    "GraniteForCausalLM": _GRANITE,
    **dict.fromkeys(
        ("GraniteMoeForCausalLM", "GraniteMoeSharedForCausalLM"),
        replace(_GRANITE, architecture="granitemoe", keys=_shared, change=_granite_mixture),
    ),
    "GraniteMoeHybridForCausalLM": replace(
        _GRANITE,
        architecture="granitehybrid",
        keys=_hybrid_granite,
        change=_granite_states,
        instead=_without_states,
    ),
    "CohereForCausalLM": Dialect(architecture="command-r"),
    "Cohere2ForCausalLM": Dialect(architecture="cohere2", keys=_cohere2),
    "OlmoForCausalLM": Dialect(architecture="olmo"),
    **dict.fromkeys(("Olmo2ForCausalLM", "Olmo3ForCausalLM"), Dialect(architecture="olmo2", keys=_sliding)),
    "OlmoeForCausalLM": Dialect(architecture="olmoe"),
    "SmolLM3ForCausalLM": Dialect(architecture="smollm3", keys=_whole_rotary, frequencies=True),
    "SeedOssForCausalLM": Dialect(architecture="seed_oss"),
    "StableLmForCausalLM": Dialect(architecture="stablelm", keys=_rotary(0.25)),
    "Starcoder2ForCausalLM": Dialect(architecture="starcoder2"),
    "GPTBigCodeForCausalLM": Dialect(architecture="starcoder", keys=_starcoder),
    "GPT2LMHeadModel": Dialect(architecture="gpt2", keys=_gpt2, change=_transposed),
    "BloomForCausalLM": Dialect(architecture="bloom", keys=_bloom, change=_unprefixed),
    "FalconForCausalLM": Dialect(architecture="falcon", keys=_falcon),
    "ExaoneForCausalLM": Dialect(architecture="exaone", keys=_rotary(), frequencies=True),
    "Exaone4ForCausalLM": Dialect(architecture="exaone4", keys=_sliding, frequencies=True),
    "InternLM2ForCausalLM": Dialect(architecture="internlm2", change=_intern),
    "MiniMaxM2ForCausalLM": Dialect(architecture="minimax-m2", keys=_minimax),
    "Llama4ForConditionalGeneration": Dialect(architecture="llama4", keys=_llama4, stacks_fused=True, frequencies=True),
    "Ernie4_5ForCausalLM": Dialect(architecture="ernie4_5", change=_ernie),
}
"""Classes by their names in config.json, those that are converted here."""
