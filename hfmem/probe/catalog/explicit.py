"""Tensor tables of models with custom code, one function per model type.

Names and shapes follow the modules of that code, which is not run. Each function states how its total was checked.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from hfmem.probe.catalog.tables import Table, stored_dtype

__all__ = ["EXPLICIT"]

Config = dict[str, Any]


def _llama_mlp(prefix: str, hidden: int, width: int, dtype: str) -> Table:
    """Gate, up and down projections with Llama's names."""
    return {
        f"{prefix}gate_proj.weight": (dtype, (width, hidden)),
        f"{prefix}up_proj.weight": (dtype, (width, hidden)),
        f"{prefix}down_proj.weight": (dtype, (hidden, width)),
    }


def _attention(prefix: str, hidden: int, query: int, key: int, dtype: str) -> Table:
    """Attention projections with Llama's names; `query` and `key` are widths (heads × head_dim)."""
    return {
        f"{prefix}q_proj.weight": (dtype, (query, hidden)),
        f"{prefix}k_proj.weight": (dtype, (key, hidden)),
        f"{prefix}v_proj.weight": (dtype, (key, hidden)),
        f"{prefix}o_proj.weight": (dtype, (hidden, query)),
    }


def _norms(prefix: str, names: tuple[str, ...], hidden: int, dtype: str) -> Table:
    return {f"{prefix}{name}.weight": (dtype, (hidden,)) for name in names}


def _chatglm(config: Config) -> Table:
    """ChatGLM2, ChatGLM3, GLM-4-9B: 6,243,584,032 and 9,399,951,392 elements with `inv_freq`, as printed by users."""
    dtype, hidden, width = stored_dtype(config), config["hidden_size"], config["ffn_hidden_size"]
    query = config["kv_channels"] * config["num_attention_heads"]
    fused = query + 2 * config["kv_channels"] * config["multi_query_group_num"]
    vocabulary = (dtype, (config["padded_vocab_size"], hidden))
    table: Table = {
        "transformer.embedding.word_embeddings.weight": vocabulary,
        "transformer.rotary_pos_emb.inv_freq": (dtype, (config["kv_channels"] // 4,)),
    }
    for layer in range(config["num_layers"]):
        prefix = f"transformer.encoder.layers.{layer}."
        table |= _norms(prefix, ("input_layernorm", "post_attention_layernorm"), hidden, dtype)
        table |= {
            f"{prefix}self_attention.query_key_value.weight": (dtype, (fused, hidden)),
            f"{prefix}self_attention.query_key_value.bias": (dtype, (fused,)),
            f"{prefix}self_attention.dense.weight": (dtype, (hidden, query)),
            f"{prefix}mlp.dense_h_to_4h.weight": (dtype, (2 * width, hidden)),
            f"{prefix}mlp.dense_4h_to_h.weight": (dtype, (hidden, width)),
        }
    table |= _norms("transformer.encoder.", ("final_layernorm",), hidden, dtype)
    return table | {"transformer.output_layer.weight": vocabulary}


def _baichuan(config: Config) -> Table:
    """Baichuan2: Llama with query, key and value in one matrix; 7,505,973,248 elements, the sum of the modules."""
    dtype, hidden = stored_dtype(config), config["hidden_size"]
    vocabulary = (dtype, (config["vocab_size"], hidden))
    table: Table = {"model.embed_tokens.weight": vocabulary}
    for layer in range(config["num_hidden_layers"]):
        prefix = f"model.layers.{layer}."
        table |= {
            f"{prefix}self_attn.W_pack.weight": (dtype, (3 * hidden, hidden)),
            f"{prefix}self_attn.o_proj.weight": (dtype, (hidden, hidden)),
        }
        table |= _llama_mlp(f"{prefix}mlp.", hidden, config["intermediate_size"], dtype)
        table |= _norms(prefix, ("input_layernorm", "post_attention_layernorm"), hidden, dtype)
    return table | _norms("model.", ("norm",), hidden, dtype) | {"lm_head.weight": vocabulary}


def _internlm2(config: Config) -> Table:
    """InternLM2: 7,737,708,544 elements in 227 tensors for the 7B, the published total."""
    dtype, hidden, heads = stored_dtype(config), config["hidden_size"], config["num_attention_heads"]
    fused = (heads + 2 * config["num_key_value_heads"]) * (hidden // heads)
    vocabulary = (dtype, (config["vocab_size"], hidden))
    width = config["intermediate_size"]
    table: Table = {"model.tok_embeddings.weight": vocabulary}
    for layer in range(config["num_hidden_layers"]):
        prefix = f"model.layers.{layer}."
        table |= {
            f"{prefix}attention.wqkv.weight": (dtype, (fused, hidden)),
            f"{prefix}attention.wo.weight": (dtype, (hidden, hidden)),
            f"{prefix}feed_forward.w1.weight": (dtype, (width, hidden)),
            f"{prefix}feed_forward.w3.weight": (dtype, (width, hidden)),
            f"{prefix}feed_forward.w2.weight": (dtype, (hidden, width)),
        }
        table |= _norms(prefix, ("attention_norm", "ffn_norm"), hidden, dtype)
    table |= _norms("model.", ("norm",), hidden, dtype)
    if config["architectures"][0] == "InternLM2ForRewardModel":
        return table | {"v_head.weight": (dtype, (1, hidden))}
    return table | {"output.weight": vocabulary}


def _qwen(config: Config) -> Table:
    """Qwen of 2023: 7,721,324,544 parameters for the 7B, as users have printed. `intermediate_size` is the sum of gate
    and up projection."""
    dtype, hidden, width = stored_dtype(config), config["hidden_size"], config["intermediate_size"] // 2
    vocabulary = (dtype, (config["vocab_size"], hidden))
    table: Table = {"transformer.wte.weight": vocabulary}
    for layer in range(config["num_hidden_layers"]):
        prefix = f"transformer.h.{layer}."
        table |= _norms(prefix, ("ln_1", "ln_2"), hidden, dtype)
        table |= {
            f"{prefix}attn.c_attn.weight": (dtype, (3 * hidden, hidden)),
            f"{prefix}attn.c_attn.bias": (dtype, (3 * hidden,)),
            f"{prefix}attn.c_proj.weight": (dtype, (hidden, hidden)),
            f"{prefix}mlp.w1.weight": (dtype, (width, hidden)),
            f"{prefix}mlp.w2.weight": (dtype, (width, hidden)),
            f"{prefix}mlp.c_proj.weight": (dtype, (hidden, width)),
        }
    return table | _norms("transformer.", ("ln_f",), hidden, dtype) | {"lm_head.weight": vocabulary}


def _exaone(config: Config) -> Table:
    """EXAONE 3.5: 7,818,448,896 elements for the 7.8B, the sum of the modules."""
    dtype, hidden, width = stored_dtype(config), config["hidden_size"], config["intermediate_size"]
    head = config["head_dim"]
    query, key = head * config["num_attention_heads"], head * config["num_key_value_heads"]
    vocabulary = (dtype, (config["vocab_size"], hidden))
    table: Table = {"transformer.wte.weight": vocabulary}
    for layer in range(config["num_layers"]):
        prefix = f"transformer.h.{layer}."
        table |= _norms(prefix, ("ln_1", "ln_2"), hidden, dtype)
        table |= {
            f"{prefix}attn.attention.q_proj.weight": (dtype, (query, hidden)),
            f"{prefix}attn.attention.k_proj.weight": (dtype, (key, hidden)),
            f"{prefix}attn.attention.v_proj.weight": (dtype, (key, hidden)),
            f"{prefix}attn.attention.out_proj.weight": (dtype, (hidden, query)),
            f"{prefix}mlp.c_fc_0.weight": (dtype, (width, hidden)),
            f"{prefix}mlp.c_fc_1.weight": (dtype, (width, hidden)),
            f"{prefix}mlp.c_proj.weight": (dtype, (hidden, width)),
        }
    return table | _norms("transformer.", ("ln_f",), hidden, dtype) | {"lm_head.weight": vocabulary}


def _deepseek(config: Config) -> Table:
    """DeepSeekMoE-16B: 16,375,728,128 elements, the published total of the base model."""
    dtype, hidden, width = stored_dtype(config), config["hidden_size"], config["moe_intermediate_size"]
    head = hidden // config["num_attention_heads"]
    vocabulary = (dtype, (config["vocab_size"], hidden))
    table: Table = {"model.embed_tokens.weight": vocabulary, "lm_head.weight": vocabulary}
    for layer in range(config["num_hidden_layers"]):
        prefix = f"model.layers.{layer}."
        table |= _attention(f"{prefix}self_attn.", hidden, hidden, head * config["num_key_value_heads"], dtype)
        table |= _norms(prefix, ("input_layernorm", "post_attention_layernorm"), hidden, dtype)
        if layer < config["first_k_dense_replace"] or layer % config["moe_layer_freq"]:
            table |= _llama_mlp(f"{prefix}mlp.", hidden, config["intermediate_size"], dtype)
            continue
        table[f"{prefix}mlp.gate.weight"] = (dtype, (config["n_routed_experts"], hidden))
        for expert in range(config["n_routed_experts"]):
            table |= _llama_mlp(f"{prefix}mlp.experts.{expert}.", hidden, width, dtype)
        table |= _llama_mlp(f"{prefix}mlp.shared_experts.", hidden, width * config["n_shared_experts"], dtype)
    return table | _norms("model.", ("norm",), hidden, dtype)


def _phi3_v(config: Config) -> Table:
    """Phi-3-vision and Phi-3.5-vision: 4,146,621,440 elements, the published total.

    The vision tower is OpenAI's CLIP ViT-L/14 at 336 pixels, of which the config only contains the name
    (`img_processor.model_name`).
    """
    dtype, hidden, width = stored_dtype(config), config["hidden_size"], config["intermediate_size"]
    head = hidden // config["num_attention_heads"]
    fused = head * (config["num_attention_heads"] + 2 * config["num_key_value_heads"])
    vocabulary = (dtype, (config["vocab_size"], hidden))
    table: Table = {"model.embed_tokens.weight": vocabulary}
    for layer in range(config["num_hidden_layers"]):
        prefix = f"model.layers.{layer}."
        table |= _norms(prefix, ("input_layernorm", "post_attention_layernorm"), hidden, dtype)
        table |= {
            f"{prefix}self_attn.qkv_proj.weight": (dtype, (fused, hidden)),
            f"{prefix}self_attn.o_proj.weight": (dtype, (hidden, hidden)),
            f"{prefix}mlp.gate_up_proj.weight": (dtype, (2 * width, hidden)),
            f"{prefix}mlp.down_proj.weight": (dtype, (hidden, width)),
        }
    table |= _norms("model.", ("norm",), hidden, dtype)
    vision, image = "model.vision_embed_tokens.", config["img_processor"]["image_dim_out"]
    table |= _clip_vision(f"{vision}img_processor.vision_model.", dtype)
    table |= {
        f"{vision}glb_GN": (dtype, (1, 1, 4 * image)),
        f"{vision}sub_GN": (dtype, (1, 1, 1, 4 * image)),
        f"{vision}img_projection.0.weight": (dtype, (hidden, 4 * image)),
        f"{vision}img_projection.0.bias": (dtype, (hidden,)),
        f"{vision}img_projection.2.weight": (dtype, (hidden, hidden)),
        f"{vision}img_projection.2.bias": (dtype, (hidden,)),
    }
    return table | {"lm_head.weight": vocabulary}


def _clip_vision(prefix: str, dtype: str) -> Table:
    """OpenAI's CLIP ViT-L/14 at 336 pixels (config.json of openai/clip-vit-large-patch14-336)."""
    size, layers, patch, pixels = 1024, 24, 14, 336
    table: Table = {
        f"{prefix}embeddings.class_embedding": (dtype, (size,)),
        f"{prefix}embeddings.patch_embedding.weight": (dtype, (size, 3, patch, patch)),
        f"{prefix}embeddings.position_embedding.weight": (dtype, ((pixels // patch) ** 2 + 1, size)),
    }
    for name in ("pre_layrnorm", "post_layernorm"):  # CLIP misspells the first
        table |= _affine(f"{prefix}{name}", (size,), dtype)
    for layer in range(layers):
        block = f"{prefix}encoder.layers.{layer}."
        for name in ("k_proj", "v_proj", "q_proj", "out_proj"):
            table |= _affine(f"{block}self_attn.{name}", (size, size), dtype)
        for name in ("layer_norm1", "layer_norm2"):
            table |= _affine(f"{block}{name}", (size,), dtype)
        table |= _affine(f"{block}mlp.fc1", (4 * size, size), dtype) | _affine(
            f"{block}mlp.fc2", (size, 4 * size), dtype
        )
    return table


def _affine(name: str, shape: tuple[int, ...], dtype: str) -> Table:
    """A weight and the bias over its outputs."""
    return {f"{name}.weight": (dtype, shape), f"{name}.bias": (dtype, shape[:1])}


def _internvl(config: Config) -> Table:
    """InternVL2-2B: 2,205,754,368 elements, the published total of InternVL2.5-2B, which has the same sizes.

    Raises:
        ValueError: a language model other than InternLM2, or a vision tower with unsupported options.
    """
    vision, dtype = config["vision_config"], stored_dtype(config)
    if config["llm_config"]["model_type"] != "internlm2" or vision["qk_normalization"] or not vision["qkv_bias"]:
        raise ValueError("internvl_chat: only InternLM2 with the 300M vision tower is supported")
    size, width, hidden = vision["hidden_size"], vision["intermediate_size"], config["llm_config"]["hidden_size"]
    patches = (vision["image_size"] // vision["patch_size"]) ** 2
    table: Table = {
        "vision_model.embeddings.class_embedding": (dtype, (1, 1, size)),
        "vision_model.embeddings.position_embedding": (dtype, (1, patches + 1, size)),
        "vision_model.embeddings.patch_embedding.weight": (
            dtype,
            (size, 3, vision["patch_size"], vision["patch_size"]),
        ),
        "vision_model.embeddings.patch_embedding.bias": (dtype, (size,)),
    }
    for layer in range(vision["num_hidden_layers"]):
        block = f"vision_model.encoder.layers.{layer}."
        table |= {f"{block}{name}": (dtype, (size,)) for name in ("ls1", "ls2")}
        table |= _affine(f"{block}attn.qkv", (3 * size, size), dtype) | _affine(
            f"{block}attn.proj", (size, size), dtype
        )
        table |= _affine(f"{block}norm1", (size,), dtype) | _affine(f"{block}norm2", (size,), dtype)
        table |= _affine(f"{block}mlp.fc1", (width, size), dtype) | _affine(f"{block}mlp.fc2", (size, width), dtype)
    merged = int(size / config["downsample_ratio"] ** 2)
    table |= _affine("mlp1.0", (merged,), dtype)
    table |= _affine("mlp1.1", (hidden, merged), dtype) | _affine("mlp1.3", (hidden, hidden), dtype)
    return table | {f"language_model.{name}": value for name, value in _internlm2(config["llm_config"]).items()}


EXPLICIT: Final[dict[str, Callable[[Config], Table]]] = {
    "baichuan": _baichuan,
    "chatglm": _chatglm,
    "deepseek": _deepseek,
    "exaone": _exaone,
    "internlm2": _internlm2,
    "internvl_chat": _internvl,
    "phi3_v": _phi3_v,
    "qwen": _qwen,
}
