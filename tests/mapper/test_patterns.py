"""Which layers keep a window, of depths that are no whole number of periods, as each class of transformers 5.24 lays
them out: F for full attention, S for a window. The letters are written out from the line that is named."""

from __future__ import annotations

from typing import Any

import pytest

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
    ("afmoe", {"num_dense_layers": 2}, "DDEE", "modeling_afmoe.py: experts if layer_idx >= num_dense_layers"),
]


@pytest.mark.parametrize(("model_type", "changes", "expected", "_line"), NETWORKS)
def test_experts_beyond_whole_periods(model_type: str, changes: dict[str, Any], expected: str, _line: str) -> None:
    found = layers(model_type, num_hidden_layers=len(expected), **changes)
    assert "".join("E" if isinstance(layer.ffn, Experts) else "D" for layer in found) == expected
