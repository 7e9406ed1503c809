"""Types without a reader: what the configuration classes of the installed `transformers` say of their layers."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest

from hfmem.errors import InvalidConfigError
from hfmem.mapper.caches import KV, Combined, CrossKV, Nothing
from hfmem.mapper.facts import MissingFactError
from hfmem.mapper.generic import read
from hfmem.mapper.values import Layer

SIZES = {
    "num_hidden_layers": 4,
    "hidden_size": 64,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 24,
    "vocab_size": 96,
    "intermediate_size": 80,
}


def layers(model_type: str, **keys: Any) -> tuple[Layer, ...]:
    found = read({"model_type": model_type, **keys})
    assert found is not None
    assert found.groups is None
    assert found.architecture.layers is not None
    return found.architecture.layers


def test_full_attention() -> None:
    (layer, *_) = layers("llama", **SIZES)
    assert layer == Layer(kind="full_attention", cache=KV(heads=2, key_dim=24, value_dim=24), heads=4, ffn=None)


def test_windows_follow_the_kinds_of_the_layers() -> None:
    kinds = ["sliding_attention", "full_attention", "sliding_attention", "full_attention"]
    found = layers("gemma2", **SIZES, sliding_window=8, layer_types=kinds)
    assert [layer.kind for layer in found] == kinds
    assert [layer.cache.window for layer in found if isinstance(layer.cache, KV)] == [8, None, 8, None]


def test_the_text_model_of_a_whole_is_read_by_its_own_reader() -> None:
    found = layers("llava", text_config={"model_type": "qwen2", **SIZES, "head_dim": 16})
    assert [layer.cache for layer in found] == [KV(heads=2, key_dim=16, value_dim=16)] * 4


def test_a_decoder_with_an_encoder_keeps_the_encoders_keys_too() -> None:
    sizes = {"d_model": 64, "encoder_layers": 3, "decoder_layers": 2, "decoder_attention_heads": 4}
    kept = KV(heads=4, key_dim=16, value_dim=16)
    cross = CrossKV(heads=4, key_dim=16, value_dim=16)
    assert [layer.cache for layer in layers("bart", **sizes)] == [Combined(caches=(kept, cross))] * 2
    assert [layer.cache for layer in layers("bart", **sizes, architectures=["BartForCausalLM"])] == [kept] * 2


def test_encoders_keep_nothing_unless_they_are_made_decoders() -> None:
    assert {type(layer.cache) for layer in layers("ernie")} == {Nothing}
    assert {type(layer.cache) for layer in layers("ernie", is_decoder=True)} == {KV}


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ({"model_type": "qwen3_next"}, "linear_attention"),
        ({"model_type": "deepseek_v3"}, "kv_lora_rank"),
        ({"model_type": "llama", "hidden_size": "wide"}, "hidden_size"),
        ({"model_type": "llama", "num_hidden_layers": 10**9}, "at most"),
        ({"model_type": "llama", **SIZES, "layer_types": ["full_attention"]}, "layer_types"),
    ],
)
def test_what_is_not_understood_is_named(config: dict[str, Any], words: str) -> None:
    with pytest.raises(InvalidConfigError) as raised:
        read(config)
    assert words in raised.value.reason


def test_a_type_that_lacks_what_attention_needs() -> None:
    with pytest.raises(MissingFactError):
        read({"model_type": "mamba"})


def test_a_type_that_nobody_knows() -> None:
    assert read({"model_type": "a_type_nobody_knows"}) is None


def test_code_of_the_repository_and_quantisation_are_left_alone() -> None:
    more = {"auto_map": {"AutoConfig": "x.Y"}, "quantization_config": {"quant_method": "unheard of"}}
    assert layers("llama", **SIZES, **more) == layers("llama", **SIZES)


def test_it_is_silent_and_needs_no_pytorch() -> None:
    hidden = (
        "import sys, importlib.util as u; find = u.find_spec; sys.modules['torch'] = None;"
        "u.find_spec = lambda name, package=None: None if name == 'torch' else find(name, package);"
        "from hfmem.mapper.generic import read; print(len(read({'model_type': 'gemma2'}).architecture.layers))"
    )
    process = subprocess.run([sys.executable, "-c", hidden], capture_output=True, text=True, check=True, timeout=60)
    assert (process.stdout, process.stderr) == ("26\n", "")


def test_infinities_that_save_pretrained_writes_as_objects_are_numbers() -> None:
    """configuration_utils.py of transformers 5, `__float__`: the class takes such a limit; what is asked next fails."""
    with pytest.raises(InvalidConfigError, match="linear_attention"):
        read({"model_type": "mamba2", "time_step_limit": [0.0, {"__float__": "Infinity"}]})
    with pytest.raises(InvalidConfigError, match="time_step_limit"):
        read({"model_type": "mamba2", "time_step_limit": [0.0, {"__float__": "Infinity", "more": 1}]})
