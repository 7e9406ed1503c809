"""Small models that mlx-lm runs for real, on MLX's CPU backend: weights, caches and peak.

`python -m tests.oracle.mlx_runs` writes `fixtures/mlx/runs.jsonl` (needs the packages `mlx[cpu]` and `mlx-lm`).
"""

from __future__ import annotations

import json
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

__all__ = ["RUNS", "WHERE", "measured"]

WHERE: Final = Path(__file__).parents[2] / "fixtures" / "mlx" / "runs.jsonl"

_BASE: Final[dict[str, Any]] = {
    "torch_dtype": "float32",
    "hidden_size": 512,
    "intermediate_size": 1536,
    "num_hidden_layers": 8,
    "num_attention_heads": 8,
    "num_key_value_heads": 4,
    "head_dim": 64,
    "vocab_size": 8192,
    "max_position_embeddings": 32768,
    "rms_norm_eps": 1e-5,
    "rope_theta": 10000.0,
    "tie_word_embeddings": False,
    "hidden_act": "silu",
}


def _config(name: str, **own: Any) -> dict[str, Any]:
    return {**_BASE, "architectures": [name], **own}


_LLAMA: Final = _config("LlamaForCausalLM", model_type="llama")
_MOE: Final = {"num_experts": 16, "num_experts_per_tok": 4, "moe_intermediate_size": 512, "norm_topk_prob": True}

_SPARSE: Final[dict[str, Any]] = {"decoder_sparse_step": 1, "mlp_only_layers": []}
_DELTA: Final[dict[str, Any]] = {
    "head_dim": 128,
    "full_attention_interval": 4,
    "linear_num_value_heads": 8,
    "linear_num_key_heads": 4,
    "linear_key_head_dim": 64,
    "linear_value_head_dim": 64,
    "linear_conv_kernel_dim": 4,
    "partial_rotary_factor": 0.25,
    "shared_expert_intermediate_size": 512,
    "attention_bias": False,
}
_GRANITE: Final = _config(
    "GraniteMoeHybridForCausalLM",
    model_type="granitemoehybrid",
    layer_types=["mamba", "mamba", "mamba", "attention"] * 2,
    intermediate_size=512,
    num_local_experts=8,
    num_experts_per_tok=2,
    shared_intermediate_size=1024,
    mamba_n_heads=16,
    mamba_d_head=64,
    mamba_d_state=64,
    mamba_d_conv=4,
    mamba_n_groups=1,
    mamba_expand=2,
    mamba_proj_bias=False,
    mamba_conv_bias=True,
    attention_bias=False,
    embedding_multiplier=12.0,
    attention_multiplier=0.1,
    logits_scaling=6.0,
    residual_multiplier=0.22,
    position_embedding_type="rope",
)

RUNS: Final[dict[str, tuple[dict[str, Any], dict[str, Any]]]] = {
    "llama": (_LLAMA, {"prompt": 700}),
    "llama, small steps": (_LLAMA, {"prompt": 1300, "step": 256}),
    "llama, 4 bits": (_LLAMA, {"prompt": 400, "bits": 4}),
    "llama, bfloat16": ({**_LLAMA, "torch_dtype": "bfloat16"}, {"prompt": 300}),
    "llama, an answer": (_LLAMA, {"prompt": 20, "generated": 300}),
    "mistral": (_config("MistralForCausalLM", model_type="mistral"), {"prompt": 900}),
    "qwen2": (_config("Qwen2ForCausalLM", model_type="qwen2", tie_word_embeddings=True), {"prompt": 600}),
    "qwen3": (_config("Qwen3ForCausalLM", model_type="qwen3", head_dim=128, attention_bias=False), {"prompt": 500}),
    "qwen3_moe": (
        _config("Qwen3MoeForCausalLM", model_type="qwen3_moe", decoder_sparse_step=1, mlp_only_layers=[], **_MOE),
        {"prompt": 400},
    ),
    "mixtral": (
        _config("MixtralForCausalLM", model_type="mixtral", num_local_experts=8, num_experts_per_tok=2),
        {"prompt": 400},
    ),
    "phi3": (_config("Phi3ForCausalLM", model_type="phi3"), {"prompt": 600}),
    "olmo2": (_config("Olmo2ForCausalLM", model_type="olmo2"), {"prompt": 600}),
    "smollm3": (
        _config("SmolLM3ForCausalLM", model_type="smollm3", no_rope_layer_interval=4, tie_word_embeddings=True),
        {"prompt": 600},
    ),
    "gemma3, a rotating cache": (
        _config(
            "Gemma3ForCausalLM",
            model_type="gemma3_text",
            num_hidden_layers=12,
            sliding_window=256,
            sliding_window_pattern=6,
            query_pre_attn_scalar=64,
            rope_local_base_freq=10000.0,
            tie_word_embeddings=True,
            hidden_activation="gelu_pytorch_tanh",
        ),
        {"prompt": 1300, "step": 512},
    ),
    "qwen3_next": (
        _config("Qwen3NextForCausalLM", model_type="qwen3_next", **_SPARSE, **_DELTA, **_MOE),
        {"prompt": 70},
    ),
    "qwen3_5": (
        {
            "architectures": ["Qwen3_5ForConditionalGeneration"],
            "model_type": "qwen3_5",
            "torch_dtype": "float32",
            "tie_word_embeddings": False,
            "text_config": _config("Qwen3_5ForCausalLM", model_type="qwen3_5_text", **_DELTA),
        },
        {"prompt": 70},
    ),
    "qwen3_5_moe": (
        {
            "architectures": ["Qwen3_5MoeForConditionalGeneration"],
            "model_type": "qwen3_5_moe",
            "torch_dtype": "float32",
            "tie_word_embeddings": False,
            "text_config": _config("Qwen3_5MoeForCausalLM", model_type="qwen3_5_moe_text", **_DELTA, **_MOE),
        },
        {"prompt": 70},
    ),
    "granite, a state space": (_GRANITE, {"prompt": 700, "step": 512}),
    "granite, an answer": (_GRANITE, {"prompt": 300, "generated": 20}),
    "granite, 4 bits": (_GRANITE, {"prompt": 300, "bits": 4}),
}
"""Per run: the config, and how it is run: tokens of the prompt, tokens of a step, generated tokens, bits."""


def measured(config: dict[str, Any], how: dict[str, Any]) -> dict[str, int]:
    """Bytes of the weights, of the caches at the end, and of the peak."""
    import mlx.core as mx
    from mlx import nn
    from mlx.utils import tree_flatten, tree_map
    from mlx_lm.generate import generate_step
    from mlx_lm.models.cache import make_prompt_cache
    from mlx_lm.utils import _get_classes

    kind, arguments = _get_classes(config)
    model = kind(arguments.from_dict(config))
    model.update(tree_map(partial(_zeros, dtype=getattr(mx, config["torch_dtype"])), model.parameters()))
    if getattr(model, "tie_word_embeddings", None) is False and config["tie_word_embeddings"]:
        model.tie_word_embeddings = True  # as `sanitize` does without a head in the files
        model.pop("lm_head")
    if how.get("bits"):
        nn.quantize(model, group_size=64, bits=how["bits"])
    mx.eval(model.parameters())
    mx.clear_cache()
    mx.reset_peak_memory()
    weights = sum(array.nbytes for _, array in tree_flatten(model.parameters()))
    cache = make_prompt_cache(model)
    tokens = mx.zeros((how["prompt"],), mx.int32)
    settings = {"max_tokens": how.get("generated", 1), "prefill_step_size": how.get("step", 2048)}
    for _ in generate_step(tokens, model, prompt_cache=cache, **settings):
        pass
    return {
        "weights": weights,
        "cache": sum(layer.nbytes for layer in cache),
        "peak": mx.get_peak_memory(),
    }


def _zeros(array: Any, dtype: Any) -> Any:
    import mlx.core as mx

    return mx.zeros(array.shape, dtype) if mx.issubdtype(array.dtype, mx.floating) else array


if __name__ == "__main__":
    versions = {name: version(name) for name in ("mlx", "mlx-lm")}
    with WHERE.open("w", encoding="utf-8") as file:
        for name, (config, how) in RUNS.items():
            row = {"run": name, "config": config, "how": how, **measured(config, how), "versions": versions}
            print(json.dumps(row), file=file, flush=True)
