"""Which layers keep a window, of depths that are no whole number of periods, as each class of transformers 5.24 lays
them out: F for full attention, S for a window. The letters are written out from the line that is named."""

from __future__ import annotations

from typing import Any

import pytest

from hfmem.mapper.caches import Indexed
from hfmem.mapper.facts import Facts
from hfmem.mapper.families import reader
from hfmem.mapper.values import Experts, Layer


def layers(model_type: str, **config: Any) -> tuple[Layer, ...]:
    """Of a configuration without `layer_types`, all else as the class has it by default."""
    found = reader(model_type)
    assert found is not None
    return found(Facts({"model_type": model_type, **config})).architecture.layers or ()


# (type, changes, layers, the line)
PATTERNS = [
    ("granitemoe_swa", {}, "FSSSFSSSFS", "configuration_granitemoe_swa.py:111: full if i % 4 == 0"),
    ("granitemoe_swa", {}, "FSS", "fewer than one period"),
    ("flint", {}, "FFSSSFSSSFSF", "configuration_flint.py:106: full if i < 2 or i % 4 == 1 or the last"),
    ("flint", {}, "FFSSSFF", "the last one beside the fourth"),
    ("flint", {}, "FFF", "fewer than one period"),
    ("cohere2_moe", {}, "SSSFSSSFSS", "configuration_cohere2_moe.py:149: full if (i + 1) % 4 == 0"),
    (
        "cohere2_moe",
        {"first_k_dense_replace": 3},
        "FFFSSSFSS",
        "configuration_cohere2_moe.py:144-152: dense ones have a pattern of 1, the others start anew",
    ),
    (
        "cohere2_moe",
        {"first_k_dense_replace": 3, "prefix_dense_sliding_window_pattern": 2, "sliding_window_pattern": 3},
        "SFSSSFSSFS",
        "the same with other periods",
    ),
    ("kolibri1", {}, "SSSSFSSSSFSS", "configuration_kolibri1.py:101: full if (i + 1) % 5 == 0"),
    ("afmoe", {}, "SSSFSSSFSS", "configuration_afmoe.py:108: a window if (i + 1) % 4"),
    ("afmoe", {"global_attn_every_n_layers": 3}, "SSFSSFS", "the same with another period"),
    ("exaone_moe", {}, "SSSFSSSFSS", "configuration_exaone_moe.py:133-138"),
    ("exaone_moe", {"sliding_window": None}, "FFFFFF", "configuration_exaone_moe.py:130: no window, no pattern"),
    ("gpt_oss", {}, "SFSFS", "configuration_gpt_oss.py:86: a window if (i + 1) % 2"),
    (
        "dots1",
        {"n_routed_experts": 4, "num_experts_per_tok": 2, "sliding_window": 8, "max_window_layers": 3},
        "FFFSS",
        "configuration_dots1.py:121: a window if i >= max_window_layers",
    ),
    (
        "qwen2_moe",
        {"use_sliding_window": True, "sliding_window": 8, "max_window_layers": 5},
        "SFSFSFF",
        "configuration_qwen2_moe.py:116: a window if (i + 1) % 2 and i < max_window_layers",
    ),
]


@pytest.mark.parametrize(("model_type", "changes", "expected", "_line"), PATTERNS)
def test_windows_beyond_whole_periods(model_type: str, changes: dict[str, Any], expected: str, _line: str) -> None:
    found = layers(model_type, num_hidden_layers=len(expected), **changes)
    assert "".join("F" if layer.kind == "full_attention" else "S" for layer in found) == expected


# (type, changes, layers: E for experts and D for a dense network, the line)
NETWORKS = [
    ("flint", {}, "DDEEEE", "configuration_flint.py:110: mlp_only_layers are 0 and 1"),
    ("qwen3_moe", {"decoder_sparse_step": 3}, "DDEDDEDD", "modeling_qwen3_moe.py: (layer_idx + 1) % step == 0"),
    ("qwen3_moe", {"decoder_sparse_step": 2, "mlp_only_layers": [3]}, "DEDDDED", "and none of mlp_only_layers"),
    (
        "ernie4_5_moe",
        {"moe_layer_start_index": 2, "moe_layer_end_index": 5, "moe_layer_interval": 1},
        "DDEEEED",
        "modeling_ernie4_5_moe.py: both ends of the range are in it",
    ),
    (
        "ernie4_5_moe",
        {"moe_layer_start_index": 1, "moe_layer_end_index": -1, "moe_layer_interval": 2},
        "DEDED",
        "configuration_ernie4_5_moe.py: -1 is the last layer",
    ),
    ("ernie4_5_moe", {"moe_layer_start_index": 1, "moe_layer_end_index": -1, "moe_layer_interval": 2}, "DEDE", "same"),
    ("jamba", {}, "DEDED", "configuration_jamba.py:122: i % 2 == 1"),
    ("jamba", {"expert_layer_period": 3, "expert_layer_offset": 1}, "DEDDEDD", "the same with another period"),
    ("llama4_text", {"interleave_moe_layer_step": 3}, "DDEDDED", "configuration_llama4.py: each third"),
    ("axk1", {"first_k_dense_replace": 1, "moe_layer_freq": 2}, "DDEDE", "configuration_axk1.py:128: i % freq == 0"),
    ("axk1", {"first_k_dense_replace": 3, "moe_layer_freq": 2}, "DDDDED", "from first_k_dense_replace on"),
    ("afmoe", {"num_dense_layers": 2}, "DDEE", "modeling_afmoe.py: experts if layer_idx >= num_dense_layers"),
]


@pytest.mark.parametrize(("model_type", "changes", "expected", "_line"), NETWORKS)
def test_experts_beyond_whole_periods(model_type: str, changes: dict[str, Any], expected: str, _line: str) -> None:
    found = layers(model_type, num_hidden_layers=len(expected), **changes)
    assert "".join("E" if isinstance(layer.ffn, Experts) else "D" for layer in found) == expected


_LETTERS = {
    "full_attention": "F",
    "sliding_attention": "S",
    "chunked_attention": "C",
    "linear_attention": "L",
    "indexed_attention": "I",
    "conv": "K",
    "hybrid": "H",
    "hybrid_sliding": "S",
    "heavily_compressed_attention": "H",
    "compressed_sparse_attention": "C",
}

# (type, changes, layers, the line)
KINDS = [
    ("recurrent_gemma", {}, "LLSLLSLL", "configuration_recurrent_gemma.py:101: the blocks, repeated and cut"),
    ("recurrent_gemma", {"block_types": ["attention", "recurrent"]}, "SLSLS", "the same with other blocks"),
    ("zamba", {}, "LLHLLLLHLLLLLHL", "configuration_zamba.py:103-110: two, one that uses it, then i % 6 == 4"),
    ("jamba", {}, "LLLLFLLLLLLLFL", "configuration_jamba.py:110: i % 8 == 4"),
    ("jamba", {"attn_layer_period": 3, "attn_layer_offset": 1}, "LFLLFLL", "the same with another period"),
    ("minimax", {}, "FLFLF", "configuration_minimax.py:124: full if (i + 1) % 2"),
    ("olmo_hybrid", {}, "LLLFLLLFLL", "configuration_olmo_hybrid.py:124-126: full if i % 4 == 3"),
    ("olmo_hybrid", {}, "LLF", "configuration_olmo_hybrid.py:128-129: else the last one"),
    ("qwen3_next", {}, "LLLFLL", "configuration_qwen3_next.py:132: linear if (i + 1) % 4"),
    ("qwen3_next", {"full_attention_interval": 3}, "LLFLL", "the same with another period"),
    ("mimo_v2_flash", {}, "FSSSSFSS", "configuration_mimo_v2_flash.py:115: full if i == 0 or (i + 1) % 6 == 0"),
    ("inkling2_text", {}, "SSSSSHSS", "configuration_inkling2.py:131: hybrid if (i + 1) % 6 == 0"),
    ("lfm3", {}, "KKFKSKFKS", "configuration_lfm3.py: full if i % 4 == 2, a window if i % 4 == 0 and i"),
    ("kimi_linear", {}, "LLLLFLLLFL", "configuration_kimi_linear.py:138: full if i and i % 4 == 0"),
    (
        "bailing_hybrid",
        {"layer_group_size": 3},
        "LLFLLFL",
        "configuration_bailing_hybrid.py:146",
    ),
    ("glm5_next_text", {}, "LLLILLLIL", "configuration_glm5_next.py:164: linear if i % 4 != 3"),
    ("dots3_note_text", {}, "IISSSISSSIS", "configuration_dots3_note.py: a window if i > 1 and i % 4 != 1"),
    ("deepseek_v4", {}, "HHHCHCH", "configuration_deepseek_v4.py:269-273: two, then the even ones of the rest"),
    ("gemma3n_text", {"num_kv_shared_layers": 0}, "SSSSFSS", "configuration_gemma3n.py:142: full if (i + 1) % 5 == 0"),
    ("gemma4_text", {}, "SSSSSFSSF", "configuration_gemma4.py: full if (i + 1) % 6 == 0, and the last one"),
    ("llama4_text", {}, "CCCFCC", "configuration_llama4.py:170: rotary, and so chunked, if (i + 1) % 4"),
]


@pytest.mark.parametrize(("model_type", "changes", "expected", "_line"), KINDS)
def test_kinds_beyond_whole_periods(model_type: str, changes: dict[str, Any], expected: str, _line: str) -> None:
    found = layers(model_type, num_hidden_layers=len(expected), **changes)
    assert "".join(_LETTERS[layer.kind] for layer in found) == expected


# (type, changes, layers: I for those with an indexer of their own, the line)
INDEXERS = [
    ("hy_v4", {}, "IISSSISSSI", "configuration_hy_v4.py:153: the first, and (i - 1) % 4 == 0"),
    (
        "glm_moe_dsa",
        {"index_topk_freq": 3, "index_skip_topk_offset": 3},
        "IIISSISSIS",
        "configuration_glm_moe_dsa.py:146: max(i - offset + 1, 0) % freq == 0",
    ),
]


@pytest.mark.parametrize(("model_type", "changes", "expected", "_line"), INDEXERS)
def test_indexers_beyond_whole_periods(model_type: str, changes: dict[str, Any], expected: str, _line: str) -> None:
    found = layers(model_type, num_hidden_layers=len(expected), **changes)
    assert "".join("I" if isinstance(layer.cache, Indexed) else "S" for layer in found) == expected
