"""What implementations with a state really keep, and small configurations of their types.

    python -m tests.oracle.states

measures the models of `fixtures/oracle/states.json` again, and writes what the installed libraries say. A row is a
model, the keys of its config.json that memory depends on, the parameters of its class (on the meta device, tied weights
once), and the bytes that runs of equal layers keep of one sequence of TOKENS tokens, by dtype, in a bfloat16 model.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from itertools import groupby
from pathlib import Path
from typing import Any

import torch
import transformers
from torch._subclasses.fake_tensor import FakeTensorMode
from transformers import DynamicCache, PreTrainedModel

from tests.oracle.reference import as_loaded, configuration, parameters

TARGET = Path(__file__).parents[2] / "fixtures" / "oracle" / "states.json"
TOKENS = 20
ABSENT = "absent"

_LINEAR, _FULL = "linear_attention", "full_attention"
_TEXT: dict[str, Any] = {
    "hidden_size": 64,
    "num_hidden_layers": 6,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": 96,
    "intermediate_size": 80,
    "pad_token_id": 0,
    "bos_token_id": 0,
    "eos_token_id": 0,
}
_PLAIN = {key: _TEXT[key] for key in _TEXT if "heads" not in key and key != "intermediate_size"}
_DELTA = {
    "linear_num_key_heads": 2,
    "linear_num_value_heads": 4,
    "linear_key_head_dim": 8,
    "linear_value_head_dim": 12,
    "linear_conv_kernel_dim": 5,
}
_EXPERTS = {"num_experts": 6, "num_experts_per_tok": 2, "moe_intermediate_size": 24}
_SECOND = {"mamba_n_heads": 8, "mamba_d_state": 10, "mamba_d_conv": 5, "mamba_n_groups": 2}
_LATENT = {"kv_lora_rank": 20, "qk_rope_head_dim": 8, "qk_nope_head_dim": 12, "v_head_dim": 14}

# Sizes that no two of are equal where a reader could confuse them.
CONFIGS: dict[str, dict[str, Any]] = {
    "mamba": _PLAIN | {"state_size": 10, "conv_kernel": 5},
    "falcon_mamba": _PLAIN | {"state_size": 10, "conv_kernel": 5},
    "mamba2": _PLAIN | {"num_heads": 8, "head_dim": 16, "n_groups": 2, "state_size": 10, "conv_kernel": 5},
    "jamba": _TEXT
    | {"num_experts": 6, "attn_layer_period": 3, "attn_layer_offset": 1, "mamba_d_state": 10, "mamba_d_conv": 5},
    "zamba": _TEXT
    | {"num_key_value_heads": 4, "attn_layer_period": 2, "attn_layer_offset": 1}
    | {"mamba_d_state": 10, "mamba_d_conv": 5, "mamba_dt_rank": 7},
    "zamba2": _TEXT
    | {"num_key_value_heads": 4, "layers_block_type": [_LINEAR, "hybrid", "mamba", "hybrid", "hybrid", _LINEAR]}
    | {"mamba_d_state": 10, "mamba_d_conv": 5, "mamba_ngroups": 2, "n_mamba_heads": 8, "num_mem_blocks": 2}
    | {"adapter_rank": 6},
    "bamba": _TEXT | _SECOND | {"attn_layer_indices": [1, 4]},
    "falcon_h1": _TEXT | _SECOND | {"mamba_d_ssm": 96},
    "granitemoehybrid": _TEXT
    | _SECOND
    | {"layer_types": ["mamba", "attention"] * 3, "shared_intermediate_size": 40, "num_local_experts": 6},
    "nemotron_h": _TEXT
    | {"hybrid_override_pattern": "MEM*-E", "head_dim": 12, "ssm_state_size": 10, "mamba_num_heads": 8}
    | {"mamba_head_dim": 12, "n_groups": 2, "conv_kernel": 5, "n_routed_experts": 6, "moe_intermediate_size": 24}
    | {"moe_shared_expert_intermediate_size": 40, "moe_latent_size": 32},
    "qwen3_next": _TEXT | _DELTA | _EXPERTS | {"head_dim": 24, "shared_expert_intermediate_size": 56},
    "qwen3_5_text": _TEXT | _DELTA | {"head_dim": 24},
    "qwen3_5_moe_text": _TEXT | _DELTA | _EXPERTS | {"head_dim": 24, "shared_expert_intermediate_size": 56},
    "qwen4_exp_text": _TEXT
    | _DELTA
    | _EXPERTS
    | {"head_dim": 16, "shared_expert_intermediate_size": 56, "hc_count": 2, "hc_lowrank": 10, "ple_layer_ids": [2, 4]}
    | {"layer_types": [_LINEAR, _LINEAR, _FULL, _LINEAR, _LINEAR, "indexed_attention"], "ple_embed_dim": 48}
    | {"indexer_n_heads": 3, "indexer_kv_heads": 1, "indexer_head_dim": 18, "indexer_budget": 8}
    | {"indexer_compress_ratio": 4, "ngram_vocab_size_base": 50, "make_ngram_vocab_size_divisible_by": 8}
    | {"heads_per_ngram": 4, "split_ngram_parts": 2},
    "olmo_hybrid": _TEXT | {"linear_conv_kernel_dim": 5},
    "kimi_linear": _TEXT
    | _EXPERTS
    | _LATENT
    | {"num_key_value_heads": 4, "linear_head_dim": 12, "linear_num_heads": 6, "linear_conv_kernel_dim": 5},
    "bailing_hybrid": _TEXT
    | _EXPERTS
    | _LATENT
    | {"num_key_value_heads": 4, "n_group": 1, "topk_group": 1, "layer_group_size": 3, "head_dim": 12},
    "lfm2": _TEXT | {"full_attn_idxs": [1, 3]},
    "lfm2_moe": _TEXT | _EXPERTS | {"layer_types": ["conv", _FULL, "conv"] * 2},
    "lfm3": _TEXT | {"head_dim": 24, "sliding_window": 8},
    "minimax": _TEXT | {"num_local_experts": 6, "head_dim": 24},
    "recurrent_gemma": _TEXT | {"lru_width": 96, "conv1d_width": 5, "attention_window_size": 8},
    "rwkv": _PLAIN,
    "xlstm": _PLAIN | {"hidden_size": 128, "num_heads": 4},
    "inkling_text": _TEXT
    | {"head_dim": 24, "swa_num_attention_heads": 2, "swa_num_key_value_heads": 1, "swa_head_dim": 20}
    | {"sliding_window_size": 8, "d_rel": 6, "rel_extent": 12, "conv_kernel_size": 5, "dense_mlp_idx": 2}
    | {"n_routed_experts": 6, "num_experts_per_tok": 2, "moe_intermediate_size": 24},
    "inkling2_text": _TEXT
    | {"head_dim": 24, "swa_num_attention_heads": 2, "swa_num_key_value_heads": 1, "swa_head_dim": 20}
    | {"sliding_window_size": 8, "d_rel": 6, "rel_extent": 12, "conv_kernel_size": 5, "moe_intermediate_size": 24}
    | {"n_routed_experts": 6, "num_experts_per_tok": 2},
    "zaya": _TEXT
    | _EXPERTS
    | {"num_experts_per_tok": 1, "head_dim": 24, "router_hidden_size": 20, "cca_time0": 4, "sliding_window": 8}
    | {"layer_types": ["hybrid", "hybrid_sliding", "hybrid"] * 2},
}

# Changes beyond flags.
VARIANTS: dict[str, list[dict[str, Any]]] = {
    "mamba": [{"expand": 3}, {"time_step_rank": 9}, {"intermediate_size": 96}],
    "falcon_mamba": [{"expand": 3, "num_hidden_layers": 3}, {"expand": 16, "intermediate_size": 96}],
    "mamba2": [{"expand": 3, "num_heads": 12}, {"intermediate_size": 96}, {"n_groups": 4, "state_size": 12}],
    "jamba": [
        {"num_experts": 1},
        {"mamba_dt_rank": 7, "mamba_expand": 3, "expert_layer_period": 3, "expert_layer_offset": 2},
        {"num_key_value_heads": 1, "num_hidden_layers": 4},
    ],
    "zamba": [
        {"attention_head_dim": 24},
        {"n_mamba_heads": 4, "mamba_dt_rank": "auto"},
        {"layers_block_type": ["mamba"] * 4 + ["hybrid"] * 2},
        {"num_key_value_heads": 2, "n_mamba_heads": 1},
    ],
    "zamba2": [
        {"num_mem_blocks": 1, "use_shared_attention_adapter": True},
        {"num_mem_blocks": 3, "intermediate_size": None},
        {"num_mem_blocks": 5, "mamba_expand": 3, "n_mamba_heads": 6},
        {"layers_block_type": ABSENT, "num_hidden_layers": 54, "tie_word_embeddings": False},
    ],
    "bamba": [{"mamba_n_heads": 4, "mamba_expand": 3, "num_key_value_heads": None}],
    "falcon_h1": [{"mamba_d_ssm": None}, {"head_dim": 24, "mamba_n_groups": 1}],
    "granitemoehybrid": [
        {"num_local_experts": 0},
        {"layer_types": ABSENT, "layers_block_type": ["attention"] * 2 + ["mamba"] * 4, "mamba_expand": 3},
    ],
    "nemotron_h": [
        {"moe_latent_size": None},
        {"hybrid_override_pattern": ABSENT},
        {"hybrid_override_pattern": ABSENT, "layers_block_type": ["mamba", "attention", "mlp"]},
        {"hybrid_override_pattern": "MM*", "num_key_value_heads": 1, "head_dim": 24},
    ],
    "qwen3_next": [
        {"decoder_sparse_step": 2, "mlp_only_layers": [3]},
        {"full_attention_interval": 3, "linear_num_value_heads": 8},
        {"num_experts": 0},
        {"layer_types": [_FULL] * 2 + [_LINEAR] * 4},
    ],
    "qwen3_5_text": [{"full_attention_interval": 2}, {"linear_num_key_heads": 1, "num_key_value_heads": 1}],
    "qwen3_5_moe_text": [{"full_attention_interval": 2}, {"linear_value_head_dim": 20}],
    "qwen4_exp_text": [
        {"ple_layer_ids": [5, 1, 2], "ngram_size": 4, "heads_per_ngram": 2, "ple_conv_kernel_size": 3},
        {"ple_layer_ids": ABSENT, "hc_count": 3},
        {"layer_types": ABSENT, "full_attention_interval": 3, "ple_embed_dim": ABSENT},
    ],
    "olmo_hybrid": [{"num_hidden_layers": 3}, _DELTA, {"num_key_value_heads": 4, "layer_types": [_FULL, _LINEAR] * 3}],
    "kimi_linear": [
        {"q_lora_rank": 28},
        {
            "linear_attn_config": {"full_attn_layers": [2, 6], "kda_layers": [1, 3, 4, 5], "head_dim": 20}
            | {"num_heads": 3, "short_conv_kernel_size": 3}
        },
        {"first_k_dense_replace": 3, "n_shared_experts": 2},
        {"mlp_layer_types": ["sparse"] * 5 + ["dense"]},
    ],
    "bailing_hybrid": [{"first_k_dense_replace": 1, "n_shared_experts": 2}, {"layer_types": [_FULL] + [_LINEAR] * 5}],
    "lfm2": [
        {"full_attn_idxs": ABSENT},
        {"layer_types": [_FULL, "conv", "conv"] * 2, "conv_L_cache": 5},
        {"block_ffn_dim_multiplier": 1.3, "block_multiple_of": 12, "block_ff_dim": 100, "tie_embedding": False},
    ],
    "lfm2_moe": [{"num_dense_layers": 4}, {"num_dense_layers": 6}, {"conv_L_cache": 5, "num_key_value_heads": 1}],
    "lfm3": [{"layer_types": ["sliding_attention", _FULL, "conv"] * 2}, {"conv_L_cache": 4}],
    "minimax": [{"layer_types": [_LINEAR] * 5 + [_FULL]}, {"head_dim": None, "num_key_value_heads": 1}],
    "recurrent_gemma": [
        {"lru_width": None, "num_key_value_heads": None},
        {"block_types": ["attention", "recurrent"], "conv1d_width": 3, "attention_window_size": 30},
    ],
    "rwkv": [{"intermediate_size": 72}, {"num_hidden_layers": 3}],
    "xlstm": [{"num_heads": 2, "v_dim_factor": 0.5}, {"inference_state_dtype": "bfloat16"}],
    "inkling_text": [
        {"dense_mlp_idx": ABSENT, "local_layer_ids": [0, 3]},
        {"dense_intermediate_size": 56, "n_shared_experts": 1},
        {"mlp_layer_types": ["dense", "sparse"] * 3, "layer_types": ["hybrid"] * 2 + ["hybrid_sliding"] * 4},
    ],
    "inkling2_text": [{"layer_types": ["hybrid"] * 2 + ["hybrid_sliding"] * 4}, {"num_hidden_layers": 7}],
    "zaya": [{"layer_types": ABSENT, "cca_time1": 5}, {"num_key_value_heads": 4, "num_hidden_layers": 6}],
}

# Changes of configurations whose class can be built, but does not run: without attention the cache tells no length, and
# the fused projections of xLSTM are cut along the wrong dimension.
BUILT_ONLY: dict[str, list[dict[str, Any]]] = {
    "bamba": [{"attn_layer_indices": ABSENT}],
    "granitemoehybrid": [{"layer_types": ABSENT}],
    "xlstm": [{"weight_mode": "fused"}, {"weight_mode": "fused", "use_bias": True}],
    "zamba": [{"attention_hidden_size": 96}],
    "rwkv": [{"attention_hidden_size": 72}],
}


# Types whose class does not run without the weights in float32 that it loads as such.
KEPT_APART = {"inkling2_text"}


def small(model_type: str, **changes: Any) -> dict[str, Any]:
    """A small config.json of a type; a change to ABSENT takes the key away."""
    config = {"model_type": model_type, **CONFIGS[model_type], **changes}
    return {key: value for key, value in config.items() if value != ABSENT}


def kept(config: Mapping[str, Any], tokens: int = TOKENS, *, fake: bool = False) -> list[dict[str, int]]:
    """Bytes that each layer of a bfloat16 model keeps of one sequence, by dtype; `fake` needs no memory."""
    torch.manual_seed(0)
    if fake:
        with FakeTensorMode(allow_non_fake_inputs=True):
            return _kept(config, tokens)
    return _kept(config, tokens)


def _kept(config: Mapping[str, Any], tokens: int) -> list[dict[str, int]]:
    built = configuration(config)
    model = getattr(transformers, config["architectures"][0])._from_config(built, dtype=torch.bfloat16).eval()
    if built.model_type in KEPT_APART:
        model = as_loaded(model, torch.bfloat16)
    own = {"past_key_values": DynamicCache(config=built)} if built.model_type == "recurrent_gemma" else {}
    with torch.no_grad():
        output = model(torch.ones(1, tokens, dtype=torch.long), use_cache=True, **own)
    depth = built.get_text_config().num_hidden_layers
    return [_sizes(_of_layer(model, {**output, **own}, index)) for index in range(depth)]


def _of_layer(model: PreTrainedModel, output: Mapping[str, Any], index: int) -> Any:
    """What the layer keeps, wherever the class puts it."""
    if "state" in output:  # RWKV: the layers are the last dimension
        return [tensor[..., index].clone() for tensor in output["state"]]
    cache = next(output[key] for key in ("cache", "cache_params", "past_key_values") if key in output)
    if hasattr(cache, "rnn_state"):
        return cache.rnn_state[index]
    found = cache.layers[index : index + 1] + getattr(cache, "linear_cache", [])[index : index + 1]  # MiniMax has both
    if model.config.model_type == "recurrent_gemma":  # it keeps its states in its modules
        block = model.model.layers[index].temporal_block
        found += [block.conv1d_state, block.rg_lru.recurrent_states] if hasattr(block, "rg_lru") else []
    return found


def _sizes(value: Any) -> dict[str, int]:
    sums: dict[str, int] = {}
    for tensor in _tensors(value):
        name = str(tensor.dtype).removeprefix("torch.")
        sums[name] = sums.get(name, 0) + tensor.numel() * tensor.element_size()
    return dict(sorted(sums.items()))


def _tensors(value: Any) -> Iterator[torch.Tensor]:
    """Every tensor of a value, but scalars (a counter, the window's size)."""
    if isinstance(value, torch.Tensor):
        if value.dim():
            yield value
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from _tensors(item)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _tensors(item)
    elif hasattr(value, "__dict__") and not isinstance(value, torch.dtype | torch.device):
        yield from _tensors(vars(value))


def runs(sizes: list[dict[str, int]]) -> list[list[Any]]:
    """Equal neighbours once, with their number."""
    return [[len(list(layers)), size] for size, layers in groupby(sizes)]


def main() -> None:
    """Measure and write."""
    recorded = json.loads(TARGET.read_text())["models"]
    rows = [measured(row["model"], row["config"]) for row in recorded]
    head = {"tool": "python -m tests.oracle.states", "transformers": transformers.__version__}
    head |= {"torch": torch.__version__.partition("+")[0], "tokens": TOKENS}
    lines = ",\n".join(f"  {json.dumps(row)}" for row in rows)
    TARGET.write_text(f'{json.dumps(head)[:-1]}, "models": [\n{lines}\n]}}\n')
    print(f"{len(rows)} models")


def measured(model: str, config: dict[str, Any]) -> dict[str, Any]:
    """The row of one model; small ones are run for real, the others with fake tensors."""
    found = kept(config, fake=not model.startswith("sizes/"))
    return {"model": model, "config": config, "parameters": parameters(config), "kept": runs(found)}


if __name__ == "__main__":
    main()
