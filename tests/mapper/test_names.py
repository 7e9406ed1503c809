"""What a tensor is, from its name: real names of real files."""

from __future__ import annotations

import pytest

from hfmem.fetcher.patterns import expand_name
from hfmem.mapper.names import divided_at, layer_index, meaning

CASES = [
    ("model.embed_tokens.weight", 2, "embedding"),
    ("wte.weight", 2, "embedding"),
    ("transformer.wpe.weight", 2, "embedding"),
    ("embeddings.position_embeddings.weight", 2, "embedding"),
    ("model.decoder.embed_positions.weight", 2, "embedding"),
    ("model.layers.0.self_attn.q_proj.weight", 2, "attention"),
    ("h.11.attn.c_attn.weight", 2, "attention"),
    ("transformer.h.0.self_attention.query_key_value.weight", 2, "attention"),
    ("encoder.layer.3.attention.output.dense.weight", 2, "attention"),
    ("encoder.layer.3.attention.output.LayerNorm.weight", 1, "norm"),
    ("encoder.layer.3.output.dense.weight", 2, "mlp"),
    ("encoder.layer.3.intermediate.dense.bias", 1, "mlp"),
    ("model.layers.7.mlp.gate_proj.weight", 2, "mlp"),
    ("model.decoder.layers.1.fc1.weight", 2, "mlp"),
    ("transformer.h.2.mlp.dense_h_to_4h.weight", 2, "mlp"),
    ("model.layers.0.input_layernorm.weight", 1, "norm"),
    ("h.0.ln_1.weight", 1, "norm"),
    ("model.layers.3.self_attn.q_norm.weight", 1, "norm"),
    ("model.norm.weight", 1, "norm"),
    ("transformer.ln_f.bias", 1, "norm"),
    ("model.layers.0.block_sparse_moe.gate.weight", 2, "router"),
    ("model.layers.0.mlp.gate.weight", 2, "router"),
    ("model.layers.5.mlp.gate.e_score_correction_bias", 1, "router"),
    ("model.layers.0.block_sparse_moe.experts.7.w1.weight", 2, "experts"),
    ("model.layers.0.mlp.experts.gate_up_proj", 3, "experts"),
    ("model.layers.4.mlp.shared_experts.up_proj.weight", 2, "shared_experts"),
    ("model.layers.4.mlp.shared_expert.up_proj.weight", 2, "shared_experts"),
    ("lm_head.weight", 2, "lm_head"),
    ("embed_out.weight", 2, "lm_head"),
    ("cls.predictions.decoder.weight", 2, "lm_head"),
    ("score.weight", 2, "lm_head"),
    ("model.layers.0.linear_attn.in_proj_qkvz.weight", 2, "state"),
    ("backbone.layers.0.mixer.A_log", 1, "state"),
    ("mtp.layers.0.mlp.up_proj.weight", 2, "mtp"),
    ("vision_tower.vision_model.encoder.layers.0.self_attn.q_proj.weight", 2, "vision"),
    ("visual.blocks.0.attn.qkv.weight", 2, "vision"),
    ("visual.merger.mlp.0.weight", 2, "projector"),
    ("multi_modal_projector.mm_input_projection_weight", 2, "projector"),
    ("audio_tower.layers.0.fc1.weight", 2, "audio"),
    ("bert.embeddings.word_embeddings.weight", 2, "embedding"),
    ("decoder.block.0.layer.2.DenseReluDense.wi_0.weight", 2, "mlp"),
    ("shared.weight", 2, "embedding"),
    ("transformer.blocks.0.norm_1.weight", 1, "norm"),
    ("encoder.layer.0.layernorm_before.weight", 1, "norm"),
    ("model.layers.0.block_sparse_moe.input_linear.weight", 3, "experts"),
    ("language_model.output.weight", 2, "lm_head"),
    ("backbone.layers.1.mixer.experts.0.up_proj.weight", 2, "experts"),
    ("backbone.layers.1.mixer.shared_experts.up_proj.weight", 2, "shared_experts"),
    ("backbone.layers.1.mixer.gate.weight", 2, "router"),
    ("backbone.layers.5.mixer.q_proj.weight", 2, "attention"),
    ("backbone.layers.6.mixer.up_proj.weight", 2, "mlp"),
    ("backbone.layers.0.mixer.in_proj.weight", 2, "state"),
    ("model.encoder.conv1.weight", 3, "audio"),
    ("something.else", 1, "other"),
]


@pytest.mark.parametrize(("name", "dimensions", "component"), CASES)
def test_components(name: str, dimensions: int, component: str) -> None:
    assert meaning(name, dimensions).component == component


@pytest.mark.parametrize(
    ("name", "dimensions"),
    [
        ("model.layers.0.self_attn.rotary_emb.inv_freq", 1),
        ("h.0.attn.bias", 4),
        ("transformer.h.0.attn.masked_bias", 0),
        ("gpt_neox.layers.0.attention.bias", 4),
        ("embeddings.position_ids", 2),
    ],
)
def test_buffers(name: str, dimensions: int) -> None:
    assert meaning(name, dimensions).buffer


@pytest.mark.parametrize(
    ("name", "dimensions"), [("h.0.attn.c_attn.bias", 1), ("model.layers.0.attn.bias", 1), ("a.weight", 2)]
)
def test_real_biases_are_no_buffers(name: str, dimensions: int) -> None:
    assert not meaning(name, dimensions).buffer


def test_matrices_that_quantisers_replace() -> None:
    assert meaning("model.layers.0.self_attn.q_proj.weight", 2).matrix
    assert meaning("model.layers.0.mlp.experts.down_proj", 3).matrix
    for name in ("model.embed_tokens.weight", "lm_head.weight", "model.layers.0.mlp.gate.weight"):
        assert not meaning(name, 2).matrix
    assert not meaning("model.layers.0.self_attn.q_proj.bias", 1).matrix
    assert not meaning("backbone.layers.0.mixer.conv1d.weight", 3).matrix


def test_layers() -> None:
    assert layer_index("model.layers.61.mlp.up_proj.weight") == 61
    assert layer_index("h.3.attn.bias") == 3
    assert layer_index("model.embed_tokens.weight") is None


@pytest.mark.parametrize(
    ("pattern", "within", "beyond"),
    [
        ("layers.{0-7}.experts.{0-3}.up", "layers.{0-4}.experts.{0-3}.up", "layers.{5-7}.experts.{0-3}.up"),
        ("experts.{0-9}.layers.{4-5}.up", "experts.{0-9}.layers.4.up", "experts.{0-9}.layers.5.up"),
        ("h.5.experts.{0-9}", "", "h.5.experts.{0-9}"),
        ("h.4.experts.{0-9}", "h.4.experts.{0-9}", ""),
        ("h.{5,7}", "", "h.{5,7}"),
        ("blocks.{0-4}", "blocks.{0-4}", ""),
        ("mtp.{0-9}.up", "mtp.{0-9}.up", ""),
    ],
)
def test_a_pattern_is_divided_where_the_layers_end(pattern: str, within: str, beyond: str) -> None:
    assert divided_at(5, pattern) == (within, beyond)
    assert divided_at(None, pattern) == (pattern, "")
    for part, there in ((within, False), (beyond, True)):
        for name in expand_name(part) if part else ():
            index = layer_index(name)
            assert (index is not None and index >= 5) == there


def test_roles_are_the_same_in_every_layer() -> None:
    assert {meaning(f"model.layers.{i}.self_attn.q_proj.weight", 2).role for i in range(5)} == {"q_proj"}
    assert meaning("model.layers.0.self_attn.q_proj.bias", 1).role == "q_proj.bias"
    assert meaning("model.layers.0.mlp.experts.gate_up_proj", 3).role == "gate_up_proj"
