"""Write `fixtures/<org>--<name>/{config.json, tensors.json}`: what a real repository holds, without its weights.

    python -m tests.hub.make_fixtures --configs DIR [--out fixtures]

DIR has a `<org>--<name>/config.json` for each model whose configuration is not written out here. The tensor tables are
laid out below from the configuration, and each must add up to the elements by dtype that the Hub publishes.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from hfmem.fetcher.patterns import Row, expand
from tests.hub.files import element_count

__all__ = ["MODELS", "Model", "main"]

Facts = Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """A model to write down.

    Attributes:
        id: on the Hub.
        rows: its tensors, from its configuration.
        shards: files the weights are in.
        published: elements by dtype, as the Hub's model info has them.
        gated: as the model info has it.
        config: its configuration, where it is written out here.
    """

    id: str
    rows: Callable[[Facts], list[Row]]
    shards: int
    published: Mapping[str, int]
    gated: str | bool = False
    config: Facts | None = None


def _linear(name: str, dtype: str, outputs: int, inputs: int, *, bias: bool = False) -> list[Row]:
    """A `nn.Linear`."""
    weight: list[Row] = [(f"{name}.weight", dtype, (outputs, inputs))]
    return [*weight, (f"{name}.bias", dtype, (outputs,))] if bias else weight


def _norm(name: str, dtype: str, size: int) -> list[Row]:
    """A norm without a bias."""
    return [(f"{name}.weight", dtype, (size,))]


def _ends(facts: Facts, dtype: str) -> list[Row]:
    """Embedding, last norm and, where it is not the embedding again, the head."""
    hidden, vocab = facts["hidden_size"], facts["vocab_size"]
    rows = [*_linear("model.embed_tokens", dtype, vocab, hidden), *_norm("model.norm", dtype, hidden)]
    return rows if facts["tie_word_embeddings"] else [*rows, *_linear("lm_head", dtype, vocab, hidden)]


def _attention(facts: Facts, dtype: str, layer: str) -> list[Row]:
    """Attention with keys and values for groups of heads, and the layer's two norms."""
    hidden, heads, groups = facts["hidden_size"], facts["num_attention_heads"], facts["num_key_value_heads"]
    head = facts.get("head_dim") or hidden // heads
    return [
        *_linear(f"{layer}.self_attn.q_proj", dtype, heads * head, hidden),
        *_linear(f"{layer}.self_attn.k_proj", dtype, groups * head, hidden),
        *_linear(f"{layer}.self_attn.v_proj", dtype, groups * head, hidden),
        *_linear(f"{layer}.self_attn.o_proj", dtype, hidden, heads * head),
        *_norm(f"{layer}.input_layernorm", dtype, hidden),
        *_norm(f"{layer}.post_attention_layernorm", dtype, hidden),
    ]


def _gated_mlp(name: str, dtype: str, hidden: int, intermediate: int) -> list[Row]:
    return [
        *_linear(f"{name}.gate_proj", dtype, intermediate, hidden),
        *_linear(f"{name}.up_proj", dtype, intermediate, hidden),
        *_linear(f"{name}.down_proj", dtype, hidden, intermediate),
    ]


def _range(count: int) -> str:
    return f"{{0-{count - 1}}}"


def _llama(facts: Facts, dtype: str) -> list[Row]:
    layer = f"model.layers.{_range(facts['num_hidden_layers'])}"
    mlp = _gated_mlp(f"{layer}.mlp", dtype, facts["hidden_size"], facts["intermediate_size"])
    return [*_ends(facts, dtype), *_attention(facts, dtype, layer), *mlp]


def _llama_2(facts: Facts) -> list[Row]:
    """With the rotary frequencies, a buffer that older transformers stored with each layer."""
    buffer = f"model.layers.{_range(facts['num_hidden_layers'])}.self_attn.rotary_emb.inv_freq"
    frequencies = facts["hidden_size"] // facts["num_attention_heads"] // 2
    return [*_llama(facts, "F16"), (buffer, "F32", (frequencies,))]


def _smollm(facts: Facts) -> list[Row]:
    return _llama(facts, "BF16")


def _mixtral(facts: Facts) -> list[Row]:
    hidden, intermediate, experts = facts["hidden_size"], facts["intermediate_size"], facts["num_local_experts"]
    layer = f"model.layers.{_range(facts['num_hidden_layers'])}"
    expert = f"{layer}.block_sparse_moe.experts.{_range(experts)}"
    return [
        *_ends(facts, "BF16"),
        *_attention(facts, "BF16", layer),
        *_linear(f"{layer}.block_sparse_moe.gate", "BF16", experts, hidden),
        *_linear(f"{expert}.w1", "BF16", intermediate, hidden),
        *_linear(f"{expert}.w2", "BF16", hidden, intermediate),
        *_linear(f"{expert}.w3", "BF16", intermediate, hidden),
    ]


def _qwen3_moe(facts: Facts) -> list[Row]:
    hidden, experts = facts["hidden_size"], facts["num_experts"]
    layer = f"model.layers.{_range(facts['num_hidden_layers'])}"
    return [
        *_ends(facts, "BF16"),
        *_attention(facts, "BF16", layer),
        *_norm(f"{layer}.self_attn.q_norm", "BF16", facts["head_dim"]),
        *_norm(f"{layer}.self_attn.k_norm", "BF16", facts["head_dim"]),
        *_linear(f"{layer}.mlp.gate", "BF16", experts, hidden),
        *_gated_mlp(f"{layer}.mlp.experts.{_range(experts)}", "BF16", hidden, facts["moe_intermediate_size"]),
    ]


def _gpt2(facts: Facts) -> list[Row]:
    """Names without `transformer.`, Conv1D weights (inputs first), and the causal mask of each layer as a buffer."""
    width, positions = facts["n_embd"], facts["n_positions"]
    layer = f"h.{_range(facts['n_layer'])}"
    shapes: list[tuple[str, tuple[int, ...]]] = [
        ("wte.weight", (facts["vocab_size"], width)),
        ("wpe.weight", (positions, width)),
        (f"{layer}.ln_1.weight", (width,)),
        (f"{layer}.ln_1.bias", (width,)),
        (f"{layer}.attn.bias", (1, 1, positions, positions)),
        (f"{layer}.attn.c_attn.weight", (width, 3 * width)),
        (f"{layer}.attn.c_attn.bias", (3 * width,)),
        (f"{layer}.attn.c_proj.weight", (width, width)),
        (f"{layer}.attn.c_proj.bias", (width,)),
        (f"{layer}.ln_2.weight", (width,)),
        (f"{layer}.ln_2.bias", (width,)),
        (f"{layer}.mlp.c_fc.weight", (width, 4 * width)),
        (f"{layer}.mlp.c_fc.bias", (4 * width,)),
        (f"{layer}.mlp.c_proj.weight", (4 * width, width)),
        (f"{layer}.mlp.c_proj.bias", (width,)),
        ("ln_f.weight", (width,)),
        ("ln_f.bias", (width,)),
    ]
    return [(name, "F32", shape) for name, shape in shapes]


def _bert_base(facts: Facts) -> list[Row]:
    """With the pre-training heads, and norms under their old names gamma and beta."""
    hidden, vocab = facts["hidden_size"], facts["vocab_size"]
    transform = "cls.predictions.transform"
    return [
        *_bert("bert.", facts, ("gamma", "beta")),
        ("cls.predictions.bias", "F32", (vocab,)),
        *_linear(f"{transform}.dense", "F32", hidden, hidden, bias=True),
        (f"{transform}.LayerNorm.gamma", "F32", (hidden,)),
        (f"{transform}.LayerNorm.beta", "F32", (hidden,)),
        *_linear("cls.seq_relationship", "F32", 2, hidden, bias=True),
    ]


def _mini_lm(facts: Facts) -> list[Row]:
    """With the positions 0, 1, 2, …, an integer buffer."""
    positions = facts["max_position_embeddings"]
    return [("embeddings.position_ids", "I64", (1, positions)), *_bert("", facts, ("weight", "bias"))]


def _bert(prefix: str, facts: Facts, norm: tuple[str, str]) -> list[Row]:
    hidden, intermediate = facts["hidden_size"], facts["intermediate_size"]
    layer = f"{prefix}encoder.layer.{_range(facts['num_hidden_layers'])}"
    norms = [f"{prefix}embeddings", f"{layer}.attention.output", f"{layer}.output"]
    return [
        *_linear(f"{prefix}embeddings.word_embeddings", "F32", facts["vocab_size"], hidden),
        *_linear(f"{prefix}embeddings.position_embeddings", "F32", facts["max_position_embeddings"], hidden),
        *_linear(f"{prefix}embeddings.token_type_embeddings", "F32", facts["type_vocab_size"], hidden),
        *_linear(f"{layer}.attention.self.query", "F32", hidden, hidden, bias=True),
        *_linear(f"{layer}.attention.self.key", "F32", hidden, hidden, bias=True),
        *_linear(f"{layer}.attention.self.value", "F32", hidden, hidden, bias=True),
        *_linear(f"{layer}.attention.output.dense", "F32", hidden, hidden, bias=True),
        *_linear(f"{layer}.intermediate.dense", "F32", intermediate, hidden, bias=True),
        *_linear(f"{layer}.output.dense", "F32", hidden, intermediate, bias=True),
        *_linear(f"{prefix}pooler.dense", "F32", hidden, hidden, bias=True),
        *[(f"{name}.LayerNorm.{part}", "F32", (hidden,)) for name in norms for part in norm],
    ]


def _deepseek_v3(facts: Facts) -> list[Row]:
    """FP8 weights with a scale a block; the multi-token-prediction layer behind the last has embedding and head of its
    own."""
    hidden, vocab = facts["hidden_size"], facts["vocab_size"]
    count, dense, experts = facts["num_hidden_layers"], facts["first_k_dense_replace"], facts["n_routed_experts"]
    layers, sparse = f"model.layers.{{0-{count}}}", f"model.layers.{{{dense}-{count}}}"
    extra = f"model.layers.{count}"
    return [
        *_ends(facts, "BF16"),
        *_latent_attention(facts, layers),
        *_norm(f"{layers}.input_layernorm", "BF16", hidden),
        *_norm(f"{layers}.post_attention_layernorm", "BF16", hidden),
        *_fp8_mlp(f"model.layers.{_range(dense)}.mlp", facts, facts["intermediate_size"]),
        *_linear(f"{sparse}.mlp.gate", "BF16", experts, hidden),
        (f"{sparse}.mlp.gate.e_score_correction_bias", "F32", (experts,)),
        *_fp8_mlp(f"{sparse}.mlp.shared_experts", facts, facts["moe_intermediate_size"]),
        *_fp8_mlp(f"{sparse}.mlp.experts.{_range(experts)}", facts, facts["moe_intermediate_size"]),
        *_linear(f"{extra}.embed_tokens", "BF16", vocab, hidden),
        *_norm(f"{extra}.enorm", "BF16", hidden),
        *_norm(f"{extra}.hnorm", "BF16", hidden),
        *_linear(f"{extra}.eh_proj", "BF16", hidden, 2 * hidden),
        *_norm(f"{extra}.shared_head.norm", "BF16", hidden),
        *_linear(f"{extra}.shared_head.head", "BF16", vocab, hidden),
    ]


def _latent_attention(facts: Facts, layer: str) -> list[Row]:
    hidden, heads = facts["hidden_size"], facts["num_attention_heads"]
    query, latent, rope = facts["q_lora_rank"], facts["kv_lora_rank"], facts["qk_rope_head_dim"]
    plain, value = facts["qk_nope_head_dim"], facts["v_head_dim"]
    return [
        *_fp8(f"{layer}.self_attn.q_a_proj", facts, query, hidden),
        *_norm(f"{layer}.self_attn.q_a_layernorm", "BF16", query),
        *_fp8(f"{layer}.self_attn.q_b_proj", facts, heads * (plain + rope), query),
        *_fp8(f"{layer}.self_attn.kv_a_proj_with_mqa", facts, latent + rope, hidden),
        *_norm(f"{layer}.self_attn.kv_a_layernorm", "BF16", latent),
        *_fp8(f"{layer}.self_attn.kv_b_proj", facts, heads * (plain + value), latent),
        *_fp8(f"{layer}.self_attn.o_proj", facts, hidden, heads * value),
    ]


def _fp8_mlp(name: str, facts: Facts, intermediate: int) -> list[Row]:
    hidden = facts["hidden_size"]
    return [
        *_fp8(f"{name}.gate_proj", facts, intermediate, hidden),
        *_fp8(f"{name}.up_proj", facts, intermediate, hidden),
        *_fp8(f"{name}.down_proj", facts, hidden, intermediate),
    ]


def _fp8(name: str, facts: Facts, outputs: int, inputs: int) -> list[Row]:
    rows, columns = facts["quantization_config"]["weight_block_size"]
    scales = (-(-outputs // rows), -(-inputs // columns))
    return [(f"{name}.weight", "F8_E4M3", (outputs, inputs)), (f"{name}.weight_scale_inv", "F32", scales)]


_BERT_FACTS: Final[Facts] = {
    "attention_probs_dropout_prob": 0.1,
    "gradient_checkpointing": False,
    "hidden_act": "gelu",
    "hidden_dropout_prob": 0.1,
    "initializer_range": 0.02,
    "layer_norm_eps": 1e-12,
    "max_position_embeddings": 512,
    "model_type": "bert",
    "num_attention_heads": 12,
    "pad_token_id": 0,
    "position_embedding_type": "absolute",
    "type_vocab_size": 2,
    "use_cache": True,
    "vocab_size": 30522,
}
_BERT_BASE: Final[Facts] = {
    **_BERT_FACTS,
    "architectures": ["BertForMaskedLM"],
    "hidden_size": 768,
    "intermediate_size": 3072,
    "num_hidden_layers": 12,
}
_MINI_LM: Final[Facts] = {
    **_BERT_FACTS,
    "architectures": ["BertModel"],
    "hidden_size": 384,
    "intermediate_size": 1536,
    "num_hidden_layers": 6,
}

MODELS: Final[tuple[Model, ...]] = (
    Model(
        id="meta-llama/Llama-2-7b-hf",
        rows=_llama_2,
        shards=2,
        gated="manual",
        published={"F16": 6738415616, "F32": 2048},
    ),
    Model(id="openai-community/gpt2", rows=_gpt2, shards=1, published={"F32": 137022720}),
    Model(
        id="google-bert/bert-base-uncased", rows=_bert_base, shards=1, published={"F32": 110106428}, config=_BERT_BASE
    ),
    Model(
        id="sentence-transformers/all-MiniLM-L6-v2",
        rows=_mini_lm,
        shards=1,
        published={"I64": 512, "F32": 22713216},
        config=_MINI_LM,
    ),
    Model(id="HuggingFaceTB/SmolLM2-135M-Instruct", rows=_smollm, shards=1, published={"BF16": 134515008}),
    Model(id="mistralai/Mixtral-8x7B-Instruct-v0.1", rows=_mixtral, shards=19, published={"BF16": 46702792704}),
    Model(id="Qwen/Qwen3-30B-A3B", rows=_qwen3_moe, shards=16, published={"BF16": 30532122624}),
    Model(
        id="deepseek-ai/DeepSeek-V3",
        rows=_deepseek_v3,
        shards=163,
        published={"BF16": 3918786560, "F8_E4M3": 680571043840, "F32": 41555600},
    ),
)


def main() -> None:
    """Write every model of the table."""
    parser = argparse.ArgumentParser(prog="python -m tests.hub.make_fixtures", description="Write fixtures/.")
    parser.add_argument("--configs", type=Path, required=True, help="folder with <org>--<name>/config.json")
    parser.add_argument("--out", type=Path, default=Path("fixtures"))
    args = parser.parse_args()
    for model in MODELS:
        folder = args.out / model.id.replace("/", "--")
        facts = model.config or json.loads((args.configs / folder.name / "config.json").read_text(encoding="utf-8"))
        folder.mkdir(parents=True, exist_ok=True)
        write(folder, model, facts)
        print(folder)


def write(folder: Path, model: Model, facts: Facts) -> None:
    """Both files of one model.

    Raises:
        ValueError: the table does not add up to what the Hub publishes.
    """
    rows = model.rows(facts)
    counted = elements(rows)
    if counted != model.published:
        raise ValueError(f"{model.id} has {counted}, the Hub publishes {model.published}")
    (folder / "config.json").write_text(json.dumps(dict(facts), indent=2, sort_keys=True) + "\n", encoding="utf-8")
    lines = ",\n    ".join(json.dumps(row) for row in rows)
    head = f'"shards": {model.shards},\n  "gated": {json.dumps(model.gated)}'
    published = json.dumps(dict(model.published))
    text = f'{{\n  {head},\n  "published": {published},\n  "tensors": [\n    {lines}\n  ]\n}}\n'
    (folder / "tensors.json").write_text(text, encoding="utf-8")


def elements(rows: list[Row]) -> dict[str, int]:
    """Elements by dtype."""
    counted: dict[str, int] = {}
    for _, dtype, shape in expand(rows):
        counted[dtype] = counted.get(dtype, 0) + element_count(shape)
    return counted


if __name__ == "__main__":
    main()
